"""The caller's side of the Realtime protocol: messages in, observations out."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.loadtest.wire.observations import (
    ErrorReported,
    FinalFailed,
    FinalText,
    Garbage,
    ItemCommitted,
    PartialText,
    ReplyAudio,
    ReplyCreated,
    ReplyDone,
    Segment,
    SessionUsable,
    SpeechStarted,
    TurnTimed,
)
from rtvc.loadtest.wire.realtime import ASKED_MODEL, RealtimeClient

TRANSCRIPTION = "conversation.item.input_audio_transcription"

SEEN: list[tuple[dict[str, Any], object]] = [
    ({"type": "session.created", "session": {"id": "s"}}, SessionUsable(1.0, "s")),
    ({"type": "session.created", "session": {}}, SessionUsable(1.0, None)),
    (
        {"type": "input_audio_buffer.speech_started", "item_id": "i", "audio_start_ms": 1200},
        SpeechStarted(1.0, "i", 1.2),
    ),
    ({"type": "input_audio_buffer.speech_started", "item_id": "i"}, SpeechStarted(1.0, "i", None)),
    ({"type": "input_audio_buffer.committed", "item_id": "i"}, ItemCommitted(1.0, "i")),
    (
        {"type": f"{TRANSCRIPTION}.delta", "item_id": "i", "delta": "hel"},
        PartialText(1.0, "i", "hel"),
    ),
    (
        {"type": f"{TRANSCRIPTION}.completed", "item_id": "i", "transcript": "hello"},
        FinalText(1.0, "i", "hello"),
    ),
    (
        {"type": f"{TRANSCRIPTION}.failed", "item_id": "i", "error": {"message": "no"}},
        FinalFailed(1.0, "i", "no"),
    ),
    ({"type": "rtvc.hypothesis", "item_id": "i", "text": "hello"}, PartialText(1.0, "i", "hello")),
    ({"type": "response.created", "response": {"id": "r"}}, ReplyCreated(1.0, "r")),
    (
        {
            "type": "response.output_audio.delta",
            "response_id": "r",
            "item_id": "a",
            "delta": base64.b64encode(bytes(24_000)).decode(),
        },
        ReplyAudio(1.0, "r", "a", 0.5),
    ),
    (
        {"type": "response.done", "response": {"id": "r", "status": "cancelled"}},
        ReplyDone(1.0, "r", "cancelled"),
    ),
    (
        {
            "type": "response.done",
            "response": {
                "id": "r",
                "status": "failed",
                "status_details": {"type": "failed", "error": {"message": "quota exceeded"}},
            },
        },
        ReplyDone(1.0, "r", "failed", "quota exceeded"),
    ),
    (
        {"type": "response.done", "response": {"id": "r", "status": "failed"}},
        ReplyDone(1.0, "r", "failed"),
    ),
    (
        {
            "type": "response.done",
            "response": {
                "id": "r",
                "status": "incomplete",
                "status_details": {"type": "incomplete", "reason": "max_output_tokens"},
            },
        },
        ReplyDone(1.0, "r", "incomplete"),
    ),
    (
        {
            "type": "response.done",
            "response": {
                "id": "r",
                "status": "incomplete",
                "status_details": {"type": "incomplete", "reason": "content_filter"},
            },
        },
        ReplyDone(1.0, "r", "incomplete", "content_filter"),
    ),
    ({"type": "error", "error": {"code": "x", "message": "broken"}}, ErrorReported(1.0, "broken")),
    (
        {
            "type": "rtvc.turn",
            "item_id": "i",
            "response_id": None,
            "stage": "transcript",
            "segments": [{"name": "queue_wait", "start_ms": 250, "duration_ms": 8}],
            "hidden": [{"name": "encode", "start_ms": 0, "duration_ms": 80}],
        },
        TurnTimed(
            1.0,
            "i",
            None,
            "transcript",
            (Segment("queue_wait", 0.25, 0.008, False), Segment("encode", 0.0, 0.08, True)),
        ),
    ),
]


@pytest.mark.parametrize(("event", "seen"), SEEN, ids=lambda value: str(value)[:40])
def test_a_message_becomes_an_observation(event: dict[str, Any], seen: object) -> None:
    assert RealtimeClient(transcription=False).receive(json.dumps(event), 1.0) == seen


def test_deltas_add_up_for_each_item_until_its_final() -> None:
    client = RealtimeClient(transcription=False)

    def delta(item: str, text: str) -> object:
        event = {"type": f"{TRANSCRIPTION}.delta", "item_id": item, "delta": text}
        return client.receive(json.dumps(event), 1.0)

    delta("a", "hel")
    delta("b", "other")
    assert delta("a", "lo") == PartialText(1.0, "a", "hello")
    final = {"type": f"{TRANSCRIPTION}.completed", "item_id": "a", "transcript": "hello"}
    client.receive(json.dumps(final), 1.0)
    assert delta("a", "again") == PartialText(1.0, "a", "again")


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (b"\xff\xfe", "garbage_not_json"),
        ("{", "garbage_not_json"),
        ("[" * 100_000, "garbage_not_json"),
        ("[1]", "garbage_not_object"),
        ('{"x":1}', "garbage_no_type"),
        ('{"type":7}', "garbage_no_type"),
        ('{"type":"session.created"}', "garbage_fields"),
        ('{"type":"session.created","session":[]}', "garbage_fields"),
        ('{"type":"response.done","response":{"id":1,"status":"x"}}', "garbage_fields"),
        (
            '{"type":"input_audio_buffer.speech_started","item_id":"i","audio_start_ms":NaN}',
            "garbage_fields",
        ),
        (
            '{"type":"response.output_audio.delta","response_id":"r","item_id":"a","delta":"?"}',
            "garbage_fields",
        ),
        ('{"type":"rtvc.turn","item_id":"i","stage":"reply","segments":[1]}', "garbage_fields"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_garbage_has_a_name(message: str | bytes, name: str) -> None:
    assert RealtimeClient(transcription=False).receive(message, 1.0) == Garbage(1.0, name)


def test_messages_that_say_nothing_about_a_measurement_are_passed_over() -> None:
    client = RealtimeClient(transcription=False)
    assert client.receive('{"type":"rate_limits.updated"}', 1.0) is None


KNOWN_TYPES = [event["type"] for event, _ in SEEN]

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = st.dictionaries(
    st.sampled_from(
        ["session", "error", "item_id", "audio_start_ms", "delta", "response", "segments", "stage"]
    ),
    JSON_VALUES,
)


@settings(deadline=None, max_examples=200)
@given(kind=st.sampled_from(KNOWN_TYPES), fields=FIELDS)
def test_nothing_a_server_sends_raises(kind: str, fields: dict[str, Any]) -> None:
    RealtimeClient(transcription=False).receive(json.dumps({**fields, "type": kind}), 1.0)


@settings(deadline=None, max_examples=100)
@given(message=st.binary(max_size=40) | st.text(max_size=40))
def test_no_bytes_raise(message: str | bytes) -> None:
    RealtimeClient(transcription=False).receive(message, 1.0)


def test_what_is_sent_is_what_the_protocol_says() -> None:
    assert json.loads(RealtimeClient.append(b"\x01\x02")) == {
        "type": "input_audio_buffer.append",
        "audio": base64.b64encode(b"\x01\x02").decode(),
    }
    assert json.loads(RealtimeClient.truncate("a", 1234)) == {
        "type": "conversation.item.truncate",
        "item_id": "a",
        "content_index": 0,
        "audio_end_ms": 1234,
    }


def test_only_a_transcription_session_is_asked_for() -> None:
    assert RealtimeClient(transcription=False).opening() == []
    (update,) = RealtimeClient(transcription=True).opening()
    assert json.loads(update)["session"]["type"] == "transcription"


@pytest.mark.parametrize("transcription", [True, False])
@pytest.mark.parametrize(
    ("heard", "asked"),
    [
        ({"transcription": None}, True),
        ({}, True),
        ({"transcription": {"model": "whisper-1"}}, False),
    ],
)
def test_transcripts_are_asked_for_where_the_server_sends_none(
    transcription: bool, heard: dict[str, Any], asked: bool
) -> None:
    client = RealtimeClient(transcription=transcription)
    session = {"id": "s", "audio": {"input": heard}}
    client.receive(json.dumps({"type": "session.created", "session": session}), 1.0)
    updates = [json.loads(message)["session"] for message in client.opening()]
    wanted = [update["audio"]["input"].get("transcription") for update in updates]
    assert [each for each in wanted if each] == ([{"model": ASKED_MODEL}] if asked else [])
    assert all(
        update["type"] == ("transcription" if transcription else "realtime") for update in updates
    )
