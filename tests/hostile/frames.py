"""WebSocket frames from the bytes up, right ones and wrong ones.

`CASES` names each way of being wrong: a function of a generator of chances that gives what to write
after the handshake, and how many frames are in it. The same seed gives the same bytes.
"""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
PLAIN = b'{"type":"input_audio_buffer.clear"}'
NO_MASK = bytes(4)
"""A mask that changes nothing, so that the payload need not be touched."""


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bytes | None = NO_MASK,
    told_length: int | None = None,
    form: int | None = None,
) -> bytes:
    """One frame; `told_length` lies about the payload, `form` (0, 126, 127) about how it is told.

    >>> frame(PING).hex()
    '898000000000'
    """
    length = len(payload) if told_length is None else told_length
    form = form if form is not None else (0 if length < 126 else 126 if length < 65536 else 127)
    first = (0x80 if fin else 0) | (reserved & 7) << 4 | opcode & 15
    masked = 0x80 if mask is not None else 0
    head = {
        0: struct.pack("!BB", first, masked | length & 127),
        126: struct.pack("!BBH", first, masked | 126, length & 0xFFFF),
        127: struct.pack("!BBQ", first, masked | 127, length),
    }[form]
    if mask is None:
        return head + payload
    if mask != NO_MASK:
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return head + mask + payload


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code & 0xFFFF) + reason)


@dataclass(frozen=True, slots=True)
class Flood:
    """What is written to one connection."""

    name: str
    """Of the case."""
    chunks: tuple[bytes, ...]
    """Written one after the other."""
    frames: int
    """In all of them."""


Case = Callable[[random.Random], tuple[list[bytes], int]]


def _any_bytes(rng: random.Random) -> tuple[list[bytes], int]:
    return [rng.randbytes(rng.randrange(1, 400))], 1


def _any_frame(rng: random.Random) -> tuple[list[bytes], int]:
    made = [
        frame(
            rng.randrange(16),
            rng.randbytes(rng.choice((0, 1, 2, 5, 125, 126, 300))),
            fin=rng.random() < 0.7,
            reserved=rng.choice((0, 0, 0, rng.randrange(8))),
            mask=rng.randbytes(4),
        )
        for _ in range(rng.randrange(1, 12))
    ]
    return made, len(made)


def _reserved_bits(rng: random.Random) -> tuple[list[bytes], int]:
    return [frame(TEXT, PLAIN, reserved=rng.randrange(1, 8))], 1


def _reserved_opcode(rng: random.Random) -> tuple[list[bytes], int]:
    return [frame(rng.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15)), PLAIN)], 1


def _unmasked(rng: random.Random) -> tuple[list[bytes], int]:
    return [frame(rng.choice((TEXT, BINARY, PING, CLOSE)), PLAIN, mask=None)], 1


def _oversized(rng: random.Random) -> tuple[list[bytes], int]:
    told = rng.choice((22 * 2**20, 2**31, 2**40, 2**63 - 1, 2**63, 2**64 - 1))
    return [frame(rng.choice((TEXT, BINARY)), b"{", told_length=told, form=127)], 1


def _length_in_other_form(rng: random.Random) -> tuple[list[bytes], int]:
    return [frame(TEXT, PLAIN, form=rng.choice((126, 127)))], 1


def _half_a_frame(rng: random.Random) -> tuple[list[bytes], int]:
    whole = frame(TEXT, PLAIN)
    return [whole[: rng.randrange(1, len(whole))]], 1


def _fragments(rng: random.Random) -> tuple[list[bytes], int]:
    pieces = rng.randrange(2, 40)
    made = [frame(TEXT, b"{", fin=False)]
    made += [frame(CONT, b" " * rng.randrange(3), fin=False) for _ in range(pieces)]
    if rng.random() < 0.5:
        made.insert(rng.randrange(1, len(made)), frame(PING, b"in between"))
    made.append(frame(rng.choice((CONT, CONT, TEXT)), b"}"))
    return made, len(made)


def _endless_fragments(rng: random.Random) -> tuple[list[bytes], int]:
    count = 9000
    body = frame(CONT, rng.choice((b"", b"x")), fin=False) * (count // 10)
    return [frame(TEXT, b"", fin=False), *[body] * 10], count + 1


def _stray_continuation(rng: random.Random) -> tuple[list[bytes], int]:
    return [frame(CONT, PLAIN, fin=rng.random() < 0.5)], 1


def _pings(rng: random.Random) -> tuple[list[bytes], int]:
    count = rng.choice((20, 2000))
    return [frame(PING, rng.randbytes(rng.randrange(126))) * count], count


def _pongs(rng: random.Random) -> tuple[list[bytes], int]:
    count = rng.choice((20, 2000))
    return [frame(PONG, rng.randbytes(rng.randrange(126))) * count], count


def _long_control(rng: random.Random) -> tuple[list[bytes], int]:
    return [frame(rng.choice((PING, PONG, CLOSE)), bytes(126))], 1


def _control_in_fragments(rng: random.Random) -> tuple[list[bytes], int]:
    return [frame(rng.choice((PING, PONG, CLOSE)), b"half", fin=False)], 1


def _not_utf8(rng: random.Random) -> tuple[list[bytes], int]:
    bad = rng.choice((b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"))
    return [frame(TEXT, b'{"type":"' + bad + b'"}')], 1


def _not_utf8_in_fragments(rng: random.Random) -> tuple[list[bytes], int]:
    del rng
    return [frame(TEXT, b'{"\xe2', fin=False) + frame(CONT, b"\x82")], 2


def _bad_close(rng: random.Random) -> tuple[list[bytes], int]:
    return [
        rng.choice(
            (
                frame(CLOSE, b"\x03"),
                close(rng.choice((0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535))),
                close(1000, b"\xff\xfe"),
                close(None),
                close(1000) + frame(TEXT, PLAIN) * 3,
                frame(TEXT, b"{", fin=False) + close(1000),
            )
        )
    ], 1


def _many_small(rng: random.Random) -> tuple[list[bytes], int]:
    count = rng.choice((500, 3000))
    return [frame(rng.choice((TEXT, BINARY))) * count], count


CASES: dict[str, Case] = {
    "any bytes": _any_bytes,
    "any frame": _any_frame,
    "reserved bits": _reserved_bits,
    "reserved opcode": _reserved_opcode,
    "unmasked": _unmasked,
    "oversized": _oversized,
    "length in another form": _length_in_other_form,
    "half a frame": _half_a_frame,
    "fragments": _fragments,
    "endless fragments": _endless_fragments,
    "stray continuation": _stray_continuation,
    "pings": _pings,
    "pongs": _pongs,
    "long control frame": _long_control,
    "control frame in fragments": _control_in_fragments,
    "not UTF-8": _not_utf8,
    "not UTF-8 in fragments": _not_utf8_in_fragments,
    "bad close frame": _bad_close,
    "many small messages": _many_small,
}


def flood(rng: random.Random, name: str | None = None) -> Flood:
    """One connection's worth; of a case by chance if none is named."""
    chosen = name or rng.choice(list(CASES))
    made, frames = CASES[chosen](rng)
    if rng.random() < 0.2 and len(made) < 20:
        # In pieces that end anywhere.
        whole = b"".join(made)
        at = rng.randrange(len(whole) + 1)
        made = [whole[:at], whole[at:]]
    return Flood(chosen, tuple(made), frames)


_GOOD = (
    "Host: localhost",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


def handshake(path: str, headers: tuple[str, ...] = ()) -> bytes:
    """A request to speak WebSocket, as it should be."""
    return "\r\n".join((f"GET {path} HTTP/1.1", *_GOOD, *headers, "", "")).encode("latin-1")


def bad_handshake(rng: random.Random, path: str) -> bytes:
    """A request that is wrong somewhere."""
    lines = [f"GET {path} HTTP/1.1", *_GOOD]
    at = rng.randrange(len(lines))
    wrong: list[Callable[[], bytes]] = [
        lambda: "\r\n".join([*lines[:at], *lines[at + 1 :], "", ""]).encode(),
        lambda: handshake(path, tuple(f"X-{n}: {n}" for n in range(rng.choice((130, 400))))),
        lambda: handshake(path, ("X-Long: " + "x" * rng.choice((9000, 70000)),)),
        lambda: handshake(path + "?" + "q" * rng.choice((9000, 70000))),
        lambda: handshake(path + "?x=\xff\xe9"),
        lambda: handshake(path, ("Sec-WebSocket-Key: twice", "Upgrade: h2c")),
        lambda: handshake(path, ("Sec-WebSocket-Protocol: " + "a," * 500,)),
        lambda: handshake(path, ("Sec-WebSocket-Extensions: permessage-deflate; x=\x01",)),
        lambda: handshake(path, ("Content-Length: 5",)) + b"hello",
        lambda: handshake(path, ("Transfer-Encoding: chunked",)) + b"zz\r\n",
        lambda: handshake(path).replace(b"13", b"8"),
        lambda: handshake(path).replace(b"GET", b"POST"),
        lambda: handshake(path).replace(b"HTTP/1.1", rng.choice((b"HTTP/1.0", b"HTTP/9.9", b""))),
        lambda: handshake(path)[: rng.randrange(1, 150)],
        lambda: handshake(rng.choice(("/", "/none", "/../x", "/%00", "//", "*", "/ws/%ff"))),
        lambda: handshake(path) + frame(PING, b"too soon") + frame(CLOSE) + b"\xff\xff",
        lambda: rng.randbytes(200),
    ]
    return rng.choice(wrong)()
