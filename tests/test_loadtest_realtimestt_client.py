"""RealtimeSTT's messages as observations, and the other way."""

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.loadtest.wire.client import Seen
from rtvc.loadtest.wire.observations import (
    ErrorReported,
    FinalFailed,
    FinalText,
    Garbage,
    ItemCommitted,
    PartialText,
    SessionUsable,
    SpeechStarted,
    TurnedAway,
)
from rtvc.loadtest.wire.realtimestt import RealtimeSTTClient


class Talk:
    """A client and its server's messages."""

    def __init__(self, *, ready: bool = True) -> None:
        self.client = RealtimeSTTClient()
        if ready:
            self.says("hello", sessionId="s")
            self.says("ready", sessionId="s", ok=True)

    def says(self, kind: str, **fields: Any) -> Seen:
        return self.client.receive(json.dumps({"type": kind, **fields}), 1.0)

    def timeline(self, event: str, **fields: Any) -> Seen:
        return self.says("timeline", sessionId="s", event=event, **fields)


def test_a_session_is_usable_when_the_models_are_and_then_started() -> None:
    talk = Talk(ready=False)
    before = talk.client.understood
    assert talk.says("hello", sessionId="s") is None
    assert (before, talk.client.understood) == (False, True)
    assert talk.says("ready", ok=True) == SessionUsable(1.0, "s"), "told to everybody, without id"
    assert [json.loads(message) for message in talk.client.opening()] == [{"type": "start"}]
    assert talk.client.greeting() == talk.client.goodbye() == []


def test_a_packet_describes_itself() -> None:
    packet = RealtimeSTTClient.append(b"\x01\x02" * 320)
    (length,) = struct.unpack_from("<I", packet)
    assert json.loads(packet[4 : 4 + length]) == {
        "sampleRate": 16_000,
        "channels": 1,
        "format": "pcm_s16le",
        "frames": 320,
    }
    assert packet[4 + length :] == b"\x01\x02" * 320


def test_a_full_server_refuses_and_a_broken_one_fails() -> None:
    full = Talk(ready=False).says("error", where="admission", message="at the session limit")
    assert full == TurnedAway(1.0, "refused", "refused_by_message", "at the session limit")
    broken = Talk(ready=False).says("ready", ok=False)
    assert isinstance(broken, TurnedAway)
    assert (broken.outcome, broken.failure) == ("failed", "ended_by_message")


def test_a_recording_is_an_item_from_its_start_to_its_final() -> None:
    talk = Talk()
    assert talk.timeline("recording_started", segmentId=1) == SpeechStarted(
        1.0, "recording-0", None
    )
    assert talk.says("realtime", sessionId="s", segmentId=1, text=" play ") == PartialText(
        1.0, "recording-0", "play"
    )
    assert talk.says("realtime", sessionId="s", segmentId=1, text="play") is None, "nothing new"
    assert talk.timeline("recording_ended", segmentId=1) == ItemCommitted(1.0, "recording-0")
    assert talk.says("final", sessionId="s", segmentId=1, text="play jazz") == FinalText(
        1.0, "recording-0", "play jazz"
    )
    assert talk.timeline("final_transcript", segmentId=1) is None


def test_finals_that_come_late_belong_to_the_recordings_in_their_order() -> None:
    talk = Talk()
    for _ in range(2):
        talk.timeline("recording_started", segmentId=1)
        talk.timeline("recording_ended", segmentId=1)
    finals = [
        talk.says("final", sessionId="s", segmentId=n, text=text)
        for n, text in ((1, "a"), (2, "b"))
    ]
    assert finals == [FinalText(1.0, "recording-0", "a"), FinalText(1.0, "recording-1", "b")]


def test_a_recording_without_words_and_one_that_failed() -> None:
    talk = Talk()
    talk.timeline("recording_started")
    talk.timeline("recording_started")
    empty = talk.says("error", sessionId="s", where="final", code="empty_final", message="no text")
    assert empty == FinalText(1.0, "recording-0", "")
    failed = talk.says("error", sessionId="s", where="final", message="out of memory")
    assert failed == FinalFailed(1.0, "recording-1", "out of memory")


def test_a_recording_that_is_ignored_has_no_final() -> None:
    talk = Talk()
    limit = "Server active speaker limit reached; recording will be ignored."
    assert talk.says("warning", sessionId="s", message=limit) == ErrorReported(1.0, limit)
    lost = talk.says("error", sessionId="s", where="final", code="empty_final", message="no text")
    assert lost == FinalFailed(1.0, "recording-0", "no text")


def test_text_without_a_recording_still_has_an_item() -> None:
    talk = Talk()
    assert talk.says("realtime", sessionId="s", text="a") == PartialText(1.0, "recording-0", "a")
    assert talk.says("final", sessionId="s", text="b") == FinalText(1.0, "recording-0", "b")
    assert talk.says("final", sessionId="s", text="c") == FinalText(1.0, "recording-1", "c")


def test_complaints_and_small_talk() -> None:
    talk = Talk()
    late = talk.says("error", sessionId="s", where="audio", message="too large")
    assert late == ErrorReported(1.0, "too large")
    for kind in ("status", "pong", "metrics", "clear", "something new"):
        assert talk.says(kind, sessionId="s") is None


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (b"\xff\xfe", "garbage_not_json"),
        ("7", "garbage_not_object"),
        ("{}", "garbage_no_type"),
        ('{"type":"realtime","sessionId":"s"}', "garbage_fields"),
        ('{"type":"timeline","sessionId":"s","event":7}', "garbage_fields"),
        ('{"type":"final","sessionId":"s","text":[]}', "garbage_fields"),
        ('{"type":"final","sessionId":"t","text":"yours"}', "garbage_foreign_session"),
        ('{"type":"final","sessionId":7,"text":"whose"}', "garbage_fields"),
    ],
    ids=str,
)
def test_garbage_has_a_name(message: str | bytes, name: str) -> None:
    assert Talk().client.receive(message, 1.0) == Garbage(1.0, name)


def test_another_protocol_is_named_before_the_session_is_usable() -> None:
    seen = Talk(ready=False).says("session.created", session={"id": "x"})
    assert isinstance(seen, TurnedAway)
    assert seen.failure == "wrong_protocol"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
KINDS = ["hello", "ready", "timeline", "realtime", "final", "error", "warning", "status"]
FIELDS = st.dictionaries(
    st.sampled_from(["sessionId", "event", "text", "where", "message", "code", "ok"]), JSON_VALUES
)


@settings(deadline=None, max_examples=200)
@given(
    messages=st.lists(st.tuples(st.sampled_from(KINDS), FIELDS), max_size=6), ready=st.booleans()
)
def test_nothing_a_server_sends_raises(
    messages: list[tuple[str, dict[str, Any]]], ready: bool
) -> None:
    talk = Talk(ready=ready)
    for kind, fields in messages:
        talk.says(kind, **fields)


@settings(deadline=None, max_examples=100)
@given(message=st.binary(max_size=40) | st.text(max_size=40))
def test_no_bytes_raise(message: str | bytes) -> None:
    Talk().client.receive(message, 1.0)
