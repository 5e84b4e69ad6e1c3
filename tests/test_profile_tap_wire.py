"""What passes a tap is read however it is cut, compressed or broken; garbage is only counted."""

import base64
import json
import random
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import ProtocolError
from rtvc.profile.tap.watch import Watch
from rtvc.profile.tap.wire import FrameReader, Wire
from tests.recorded_wire import Recorded, chunks

TRANSCRIPTION = "conversation.item.input_audio_transcription"

messages = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.binary(max_size=3000), st.integers(0, 3)),
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(messages, st.booleans(), st.integers(0, 2**32))
def test_messages_are_read_however_the_bytes_are_cut(
    said: list[tuple[bool, bool, bytes, int]], deflate: bool, seed: int
) -> None:
    rng = random.Random(seed)
    wire_record = Recorded(deflate=deflate)
    expected = []
    for from_client, text, data, cuts in said:
        payload = base64.b64encode(data) if text else data
        places = sorted(rng.randrange(len(payload) + 1) for _ in range(cuts))
        wire_record.say(payload, places, from_client=from_client, text=text)
        expected.append((from_client, "text" if text else "binary", payload))
    wire, read = Wire(), []
    for from_client, sent in wire_record.sent:
        for piece in chunks(sent, rng):
            found = (wire.from_client if from_client else wire.from_server)(piece)
            read += [(from_client, message.kind, message.data) for message in found]
    assert (wire.state, wire.path, wire.status) == ("open", "/ws", 101)
    assert read == expected


@pytest.mark.parametrize(
    "frame",
    [
        b"\x83\x80abcd",  # opcode 3
        b"\x81\x02hi",  # a client without a mask
        b"\xc1\x80abcd",  # compressed, and nobody agreed on it
        b"\xa1\x80abcd",  # RSV2
        b"\x80\x80abcd",  # goes on with nothing
        b"\x89\xfe\x00\x80abcd",  # a ping of 128 bytes
        b"\x82\xff" + struct.pack(">Q", 2**40) + b"abcd",  # a terabyte
    ],
)
def test_what_is_no_websocket_is_noticed(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        FrameReader(masked=True, deflated=False).feed(frame)


def test_a_small_message_that_inflates_without_end_is_not_inflated() -> None:
    bomb = Recorded(deflate=True)
    bomb.say(bytes(30_000_000), [], from_client=False, text=False)
    wire = Wire()
    *handshake, (_, small) = bomb.sent
    for from_client, sent in handshake:
        (wire.from_client if from_client else wire.from_server)(sent)
    assert len(small) < 100_000
    with pytest.raises(ProtocolError, match="inflated"):
        wire.from_server(small)


garbage = st.lists(st.tuples(st.booleans(), st.binary(max_size=200)), max_size=10)


def a_watch(protocol: str | None = None) -> Watch:
    return Watch(0, 0.0, protocol=protocol, keep_text=False)


@settings(deadline=None, max_examples=100)
@given(garbage, st.booleans())
def test_garbage_is_never_raised_only_counted(
    passed: list[tuple[bool, bytes]], after_a_handshake: bool
) -> None:
    watch = a_watch()
    start = Recorded(deflate=False).sent if after_a_handshake else []
    for from_client, data in [*start, *passed]:
        assert (watch.from_client if from_client else watch.from_server)(1.0, data) == []
    watch.rest()
    assert watch.seen().outcome in {"ok", "http", "failed", "refused", "not observed"}


NAMES = [
    *("session.created", "input_audio_buffer.append", "input_audio_buffer.committed"),
    *("input_audio_buffer.speech_started", f"{TRANSCRIPTION}.completed", "response.created"),
    *("response.output_audio.delta", "response.done", "final_user_request", "tts_chunk"),
]
FIELDS = ["audio", "delta", "content", "item_id", "session", "response", "segments", "transcript"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner),
    max_leaves=5,
)
odd_events = st.builds(
    lambda kind, more: {"type": kind, **more},
    st.sampled_from(NAMES),
    st.dictionaries(st.sampled_from([*FIELDS, "audio_start_ms", "status"]), values, max_size=4),
)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(["openai-realtime", "realtimevoicechat", "whisperlive"]),
    st.lists(st.tuples(st.booleans(), odd_events | values), max_size=12),
)
def test_odd_messages_of_any_shape_leave_the_watch_looking(
    protocol: str, said: list[tuple[bool, Any]]
) -> None:
    record = Recorded(deflate=False)
    for from_client, event in said:
        text = json.dumps(event).encode()
        record.say(text, [], from_client=from_client, text=True)
    watch = a_watch(protocol)
    for from_client, data in record.sent:
        (watch.from_client if from_client else watch.from_server)(1.0, data)
    watch.rest()
    assert watch.seen().outcome != "not observed", watch.seen().reason
