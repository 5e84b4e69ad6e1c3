"""Messages in their WebSocket frames, binary and text, masked and as good as unmasked."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.loadtest.wire.transport import Frame, Frames, UnmaskedFrame

TEXT, BINARY = 1, 2


def read(data: bytes) -> tuple[int, bytes]:
    """(opcode, payload) of one masked, final frame, by RFC 6455; nothing may be left over."""
    assert data[0] & 0xF0 == 0x80, "one frame, no extensions"
    assert data[1] & 0x80, "a client masks"
    length, at = data[1] & 0x7F, 2
    if length >= 126:
        size = 2 if length == 126 else 8
        length, at = int.from_bytes(data[2 : 2 + size], "big"), 2 + size
    mask, payload = data[at : at + 4], data[at + 4 :]
    assert len(payload) == length
    return data[0] & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


@pytest.mark.parametrize("kind", [Frame, UnmaskedFrame])
@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 4104, 65_535, 65_536])
def test_bytes_leave_as_a_binary_frame(kind: type[Frame], length: int) -> None:
    message = bytes(i % 251 for i in range(length))
    assert read(kind(message).format()) == (BINARY, message)


@settings(deadline=None, max_examples=100)
@given(message=st.binary(max_size=300) | st.text(max_size=80))
def test_what_is_framed_is_what_arrives(message: str | bytes) -> None:
    expected = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
    for kind in (Frame, UnmaskedFrame):
        assert read(kind(message).format()) == expected


def test_the_same_audio_is_framed_once() -> None:
    made: list[bytes] = []

    def message(pcm16: bytes) -> bytes:
        made.append(pcm16)
        return b"\x00" + pcm16

    frames = Frames(message)
    assert frames.ready(b"ab") is frames.ready(b"ab")
    assert read(frames.ready(b"cd").format()) == (BINARY, b"\x00cd")
    assert made == [b"ab", b"cd"]
