"""The Realtime protocol, held against the official client's own types."""

import base64
import itertools
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from openai.types.realtime.realtime_session_create_response import RealtimeSessionCreateResponse
from openai.types.realtime.realtime_transcription_session_create_response import (
    RealtimeTranscriptionSessionCreateResponse,
)
from pydantic import BaseModel, TypeAdapter, ValidationError

from rtvc.errors import ProtocolError
from rtvc.protocol import realtime
from rtvc.protocol.realtime import (
    PartPlace,
    ServerEvents,
    ServerStatus,
    SessionConfig,
    TurnSegment,
    TurnTimings,
    default_session,
    encode,
    parse_client_event,
)
from rtvc.protocol.validation import MAX_AUDIO_CHARS, MAX_EVENT_CHARS

PLACE = PartPlace("resp_1", "item_2")
USER = realtime.user_item("item_1", transcript="hello")
ASSISTANT = realtime.assistant_item("item_2", "hi", status="completed")
EMPTY = realtime.assistant_item("item_2", None, status="in_progress")
WRITTEN = realtime.assistant_item("item_2", "hi", modality="text", status="incomplete")


def models_by_type(union: Any) -> dict[str, type[BaseModel]]:
    members = get_args(get_args(union)[0])
    return {get_args(m.model_fields["type"].annotation)[0]: m for m in members}


OPENAI_SERVER_EVENTS = models_by_type(RealtimeServerEvent)
OPENAI_CLIENT_EVENTS = models_by_type(RealtimeClientEvent)


def server_events() -> ServerEvents:
    counter = itertools.count(1)
    return ServerEvents(lambda prefix: f"{prefix}_{next(counter)}")


def refused(text: str | bytes) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        parse_client_event(text)
    return caught.value


def event(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields})


STANDARD_EVENTS: list[Callable[[ServerEvents], dict[str, Any]]] = [
    lambda e: e.session_created(default_session("realtime", "selftest").to_wire("sess_1")),
    lambda e: e.session_created(default_session("transcription", "selftest").to_wire("sess_1")),
    lambda e: e.session_updated(default_session("realtime", "selftest").to_wire("sess_1")),
    lambda e: e.error("no", code="invalid_value", param="type", event_id="e"),
    lambda e: e.error("no"),
    lambda e: e.speech_started("item_1", audio_start_ms=40),
    lambda e: e.speech_stopped("item_1", audio_end_ms=1400),
    lambda e: e.committed("item_1", previous_item_id=None),
    lambda e: e.committed("item_1", previous_item_id="item_0"),
    lambda e: e.cleared(),
    lambda e: e.timeout_triggered("item_1", audio_start_ms=0, audio_end_ms=5000),
    lambda e: e.item_added(USER, previous_item_id=None),
    lambda e: e.item_added(EMPTY, previous_item_id="item_1"),
    lambda e: e.item_done(ASSISTANT, previous_item_id="item_1"),
    lambda e: e.item_done(WRITTEN, previous_item_id="item_1"),
    lambda e: e.item_deleted("item_1"),
    lambda e: e.item_retrieved(USER),
    lambda e: e.item_truncated("item_2", audio_end_ms=700),
    lambda e: e.transcription_delta("item_1", "hello "),
    lambda e: e.transcription_completed("item_1", "hello", audio_s=1.23456),
    lambda e: e.transcription_failed("item_1", "engine died", code="engine_died"),
    lambda e: e.response_created(realtime.response("resp_1", "in_progress")),
    lambda e: e.response_done(
        realtime.response("resp_1", "completed", output=[ASSISTANT], output_tokens=7)
    ),
    lambda e: e.response_done(realtime.response("resp_1", "cancelled", reason="turn_detected")),
    lambda e: e.response_done(
        realtime.response("resp_1", "incomplete", reason="max_output_tokens", max_output_tokens=5)
    ),
    lambda e: e.response_done(
        realtime.response("resp_1", "failed", error=("llm_failed", "no answer"), modality="text")
    ),
    lambda e: e.output_item_added("resp_1", EMPTY),
    lambda e: e.output_item_done("resp_1", ASSISTANT),
    lambda e: e.content_part_added(PLACE),
    lambda e: e.content_part_done(PLACE, "hi"),
    lambda e: e.content_part_done(PLACE, "hi", modality="text"),
    lambda e: e.audio_delta(PLACE, b"\0\1"),
    lambda e: e.audio_done(PLACE),
    lambda e: e.audio_transcript_delta(PLACE, "hi"),
    lambda e: e.audio_transcript_done(PLACE, "hi"),
    lambda e: e.text_delta(PLACE, "hi"),
    lambda e: e.text_done(PLACE, "hi"),
]


@pytest.mark.parametrize("build", STANDARD_EVENTS)
def test_server_events_are_the_ones_openai_describes(
    build: Callable[[ServerEvents], dict[str, Any]],
) -> None:
    wire = encode(build(server_events()))
    sent = json.loads(wire)
    model = OPENAI_SERVER_EVENTS[sent["type"]]
    parsed = TypeAdapter(model).validate_json(wire, strict=True)
    assert not parsed.model_extra, "a field OpenAI does not know"
    assert sent["event_id"] == "event_1"


@pytest.mark.parametrize("kind", ["realtime", "transcription"])
def test_the_session_shown_keeps_to_the_schema(kind: Any) -> None:
    wire = default_session(kind, "selftest").to_wire("sess_1")
    models: dict[str, type[BaseModel]] = {
        "realtime": RealtimeSessionCreateResponse,
        "transcription": RealtimeTranscriptionSessionCreateResponse,
    }
    parsed = models[kind].model_validate(wire, strict=True)
    assert not parsed.model_extra
    assert wire["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 250
    assert wire["audio"]["input"]["transcription"]["model"] == "selftest"
    assert ("output" in wire["audio"]) is (kind == "realtime")


def test_every_method_of_server_events_was_validated() -> None:
    methods = {name for name in vars(ServerEvents) if not name.startswith("_")}
    used = {name for build in STANDARD_EVENTS for name in build.__code__.co_names} & methods
    ours = {"rtvc_status", "rtvc_hypothesis", "rtvc_turn", "protocol_error"}
    assert methods - used == ours


def test_encoding_survives_half_a_surrogate_pair() -> None:
    wire = encode(server_events().text_delta(PLACE, "\ud83d"))
    assert wire.encode("ascii")
    assert json.loads(wire)["delta"] == "\ud83d"


def test_encoding_never_writes_what_is_not_json() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encode({"type": "x", "value": float("nan")})


def test_a_protocol_error_travels_whole() -> None:
    error = refused(event("response.cancel", response_id=7, event_id="mine"))
    sent = server_events().protocol_error(error)["error"]
    assert sent == {
        "type": "invalid_request_error",
        "code": "invalid_type",
        "message": "response_id: expected a string, got 7",
        "param": "response_id",
        "event_id": "mine",
    }


def test_rtvc_events_carry_their_version_and_all_their_fields() -> None:
    events = server_events()
    segment = TurnSegment("decode", 10.0, 20.0)
    turn = TurnTimings(
        "item_1",
        None,
        "transcript",
        30.0,
        None,
        900.0,
        [segment],
        [],
        0.0,
        1,
        "selftest",
        860.0,
        870.0,
    )
    status = ServerStatus("ready", 1.0, "", "selftest", "self-test model", "l", "t", None, 1, 4)
    sent = [
        json.loads(encode(built))
        for built in (
            events.rtvc_turn(turn),
            events.rtvc_status(status),
            events.rtvc_hypothesis(
                "item_1", revision=3, text="hello wor", stable_text="hello", audio_ms=640
            ),
        )
    ]
    assert [s["version"] for s in sent] == [1, 1, 1]
    assert sent[0]["segments"] == [{"name": "decode", "start_ms": 10.0, "duration_ms": 20.0}]
    assert sent[1]["max_sessions"] == 4
    assert sent[2]["stable_text"] == "hello"


def test_the_documentation_names_every_field_of_our_own_events() -> None:
    text = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text(encoding="utf-8")
    ours = text.partition("## Our own events")[2].partition("## RealtimeVoiceChat")[0]
    for model in (ServerStatus, TurnTimings, TurnSegment):
        for field in fields(model):
            assert f"`{field.name}`" in ours or field.name in SHORT
    assert f"now **{realtime.RTVC_VERSION}**" in ours


SHORT = {"name", "start_ms", "duration_ms"}
"""Shown together, as the shape of a segment."""


# Client events.

AUDIO = base64.b64encode(b"\1\2\3\4").decode()
MESSAGE = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
IMAGE = MESSAGE | {"content": [{"type": "input_image"}]}
CLIENT_EVENTS: list[dict[str, Any]] = [
    {"type": "session.update", "session": {"type": "realtime", "instructions": "Be brief."}},
    {"type": "input_audio_buffer.append", "audio": AUDIO},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {"type": "conversation.item.create", "item": MESSAGE, "previous_item_id": "root"},
    {"type": "conversation.item.delete", "item_id": "item_1"},
    {"type": "conversation.item.retrieve", "item_id": "item_1"},
    {
        "type": "conversation.item.truncate",
        "item_id": "item_1",
        "content_index": 0,
        "audio_end_ms": 12,
    },
    {
        "type": "response.create",
        "response": {
            "instructions": "Say hi.",
            "output_modalities": ["text"],
            "conversation": "none",
            "input": [MESSAGE],
            "metadata": {"topic": "greeting"},
            "max_output_tokens": 100,
            "audio": {"output": {"voice": "alloy"}},
        },
    },
    {"type": "response.cancel", "response_id": "resp_1"},
    {"type": "output_audio_buffer.clear"},
]


def test_every_client_event_of_openai_is_parsed() -> None:
    assert {e["type"] for e in CLIENT_EVENTS} == set(OPENAI_CLIENT_EVENTS)


@pytest.mark.parametrize("sent", CLIENT_EVENTS, ids=lambda e: str(e["type"]))
def test_client_events_come_through(sent: dict[str, Any]) -> None:
    OPENAI_CLIENT_EVENTS[sent["type"]].model_validate(sent)
    text = json.dumps(sent | {"event_id": "mine", "unknown_to_us": [1, {"a": None}]})
    for parsed in (parse_client_event(text), parse_client_event(text.encode())):
        got = json.loads(parsed.model_dump_json(exclude_unset=True))
        assert got == sent | {"event_id": "mine"}


def test_events_cannot_be_changed() -> None:
    parsed = parse_client_event(event("input_audio_buffer.append", audio=AUDIO))
    with pytest.raises(ValidationError):
        setattr(parsed, "event_id", "other")  # noqa: B010 - mypy knows that it is frozen


def test_audio_comes_out_as_it_went_in() -> None:
    parsed = parse_client_event(event("input_audio_buffer.append", audio=AUDIO))
    assert isinstance(parsed, realtime.InputAudioBufferAppend)
    assert parsed.pcm_bytes() == b"\1\2\3\4"


@pytest.mark.parametrize("audio", ["AQID*A==", "AQI", "AQ==AQ==", " AQID", "é", "====", "A"])
def test_audio_must_be_strict_base64(audio: str) -> None:
    text = event("input_audio_buffer.append", audio=audio, event_id="mine")
    parsed = parse_client_event(text)
    assert isinstance(parsed, realtime.InputAudioBufferAppend)
    with pytest.raises(ProtocolError, match="audio: expected base64") as caught:
        parsed.pcm_bytes()
    assert (caught.value.code, caught.value.event_id) == ("invalid_base64", "mine")


def test_audio_up_to_15_mib_is_taken_and_more_is_not() -> None:
    fits = event("input_audio_buffer.append", audio="A" * MAX_AUDIO_CHARS)
    parsed = parse_client_event(fits)
    assert isinstance(parsed, realtime.InputAudioBufferAppend)
    assert len(parsed.pcm_bytes()) == 15 * 1024 * 1024
    error = refused(event("input_audio_buffer.append", audio="A" * (MAX_AUDIO_CHARS + 4)))
    assert error.param == "audio"
    assert refused("[" * (MAX_EVENT_CHARS + 1)).code == "event_too_large"


@pytest.mark.parametrize(
    ("text", "code", "param", "words"),
    [
        ("{", "invalid_json", None, "expected JSON"),
        (b"\xff\xfe", "invalid_json", None, "expected JSON"),
        ('{"type":"\\ud800"}', "invalid_json", None, "expected JSON"),
        ('{"a":NaN}', "invalid_json", None, "expected JSON"),
        ("[" * 5000, "invalid_json", None, "expected JSON"),
        ("[1]", "invalid_json", None, "expected a JSON object, got a list of 1"),
        ("{}", "missing_required_parameter", "type", "got nothing"),
        ('{"type":["x"]}', "invalid_value", "type", "got a list of 1"),
        ('{"type":"session.delete"}', "invalid_value", "type", '"session.delete"'),
        ('{"type":"session.update"}', "missing_required_parameter", "session", "got nothing"),
        ('{"type":"session.update","session":[]}', "invalid_type", "session", "an object"),
        ('{"type":"input_audio_buffer.append"}', "missing_required_parameter", "audio", "nothing"),
        ('{"type":"input_audio_buffer.append","audio":1}', "invalid_type", "audio", "a string"),
        ('{"type":"response.cancel","event_id":1}', "invalid_type", "event_id", "a string"),
        (event("response.cancel", event_id="x" * 513), "invalid_value", "event_id", "513"),
        (event("conversation.item.delete", item_id=""), "invalid_value", "item_id", "at least 1"),
        (event("conversation.item.create", item=3), "invalid_type", "item", "got 3"),
        (
            event("conversation.item.create", item=MESSAGE | {"role": "tool"}),
            "invalid_type",
            "item",
            "role user, system or assistant",
        ),
        (
            event("conversation.item.create", item=IMAGE),
            "invalid_type",
            "item.content.0",
            "input_image",
        ),
        (
            event(
                "conversation.item.create",
                item=MESSAGE | {"content": [{"type": "input_text", "text": "x" * 100_001}]},
            ),
            "invalid_value",
            "item.content.0.text",
            "at most 100000 characters",
        ),
        (
            event("conversation.item.truncate", item_id="i", content_index=0, audio_end_ms=-1),
            "invalid_value",
            "audio_end_ms",
            "0 or more",
        ),
        (
            event("response.create", response={"metadata": {"a": 1}}),
            "invalid_type",
            "response.metadata.a",
            "a string",
        ),
        (
            event("response.create", response={"output_modalities": ["audio", "text"]}),
            "invalid_value",
            "response.output_modalities",
            "at most 1",
        ),
    ],
)
def test_refusals_say_what_was_expected_and_what_came(
    text: str | bytes, code: str, param: str | None, words: str
) -> None:
    error = refused(text)
    assert (error.code, error.param) == (code, param)
    assert words in str(error)
    assert len(str(error)) < 400
    assert "\n" not in str(error)


def test_an_error_names_the_event_at_fault_even_with_an_unknown_type() -> None:
    assert refused('{"type":"x","event_id":"mine"}').event_id == "mine"
    assert refused('{"type":"x","event_id":7}').event_id is None


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (MESSAGE, "hi"),
        ({"type": "message", "role": "system", "content": MESSAGE["content"]}, "hi"),
        (
            {
                "type": "message",
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "one"},
                    {"type": "output_audio", "transcript": "two"},
                ],
            },
            "one two",
        ),
        (
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_audio", "audio": AUDIO, "transcript": "three"},
                    {"type": "input_audio", "audio": AUDIO},
                ],
            },
            "three",
        ),
    ],
)
def test_messages_are_read_as_text_and_shown_without_audio(item: Any, text: str) -> None:
    parsed = parse_client_event(event("conversation.item.create", item=item))
    assert isinstance(parsed, realtime.ConversationItemCreate)
    made = parsed.item
    assert not isinstance(made, realtime.FunctionCall | realtime.FunctionCallOutput)
    assert made.text == text
    wire = realtime.item_to_wire(made, "item_9")
    assert AUDIO not in json.dumps(wire)
    assert wire["id"] == "item_9"
    OPENAI_SERVER_EVENTS["conversation.item.added"].model_validate(
        server_events().item_added(wire, previous_item_id=None)
    )


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
        {"type": "function_call_output", "call_id": "c", "output": "7"},
    ],
)
def test_function_calls_are_kept_as_items(item: dict[str, Any]) -> None:
    parsed = parse_client_event(event("conversation.item.create", item=item))
    assert isinstance(parsed, realtime.ConversationItemCreate)
    wire = realtime.item_to_wire(parsed.item, "item_1")
    assert wire.items() >= item.items()


# Session settings.


def updated(config: SessionConfig | None = None, /, **patch: Any) -> SessionConfig:
    config = config or default_session("realtime", "selftest")
    return config.updated({"type": "realtime", **patch})


def input_updated(config: SessionConfig | None = None, /, **fields: Any) -> SessionConfig:
    return updated(config, audio={"input": fields})


def test_only_what_is_given_changes() -> None:
    config = updated(instructions="Be brief.")
    config = input_updated(config, turn_detection={"type": "server_vad", "threshold": 0.7})
    config = input_updated(config, turn_detection={"type": "server_vad", "prefix_padding_ms": 10})
    wire = config.to_wire("s")
    assert wire["instructions"] == "Be brief."
    assert wire["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.7,
        "prefix_padding_ms": 10,
        "silence_duration_ms": 250,
        "create_response": True,
        "interrupt_response": True,
        "idle_timeout_ms": None,
    }


def test_the_old_settings_stay_as_they_were() -> None:
    before = default_session("realtime", "selftest")
    after = before.updated({"type": "realtime", "instructions": "x"})
    assert (before.instructions, after.instructions) == ("", "x")


def test_unset_silence_is_the_servers_and_explicit_silence_is_honoured() -> None:
    config = default_session("realtime", "selftest", unset_silence_ms=180)
    assert config.silence_ms == 180
    config = input_updated(
        config, turn_detection={"type": "server_vad", "silence_duration_ms": 500}
    )
    assert config.silence_ms == 500
    assert input_updated(config, turn_detection={"type": "server_vad"}).silence_ms == 500
    null = {"type": "server_vad", "silence_duration_ms": None}
    assert input_updated(config, turn_detection=null).silence_ms == 180
    assert (
        input_updated(config, turn_detection=null).to_wire("s")["audio"]["input"]["turn_detection"][
            "silence_duration_ms"
        ]
        == 180
    )
    zero = {"type": "server_vad", "silence_duration_ms": 0}
    assert input_updated(config, turn_detection=zero).silence_ms == 0


def test_turn_detection_can_be_semantic_or_off() -> None:
    config = input_updated(turn_detection={"type": "semantic_vad", "eagerness": "low"})
    assert isinstance(config.turn_detection, realtime.SemanticVad)
    assert config.replies
    eager = input_updated(config, turn_detection={"type": "semantic_vad", "eagerness": "high"})
    assert config.silence_ms is not None
    assert eager.silence_ms is not None
    assert eager.silence_ms < config.silence_ms
    off = input_updated(config, turn_detection=None)
    assert (off.turn_detection, off.silence_ms, off.replies) == (None, None, False)
    on = input_updated(off, turn_detection={"type": "server_vad", "threshold": None})
    assert on.turn_detection == realtime.ServerVad()


def test_nulls_that_mean_nothing_change_nothing() -> None:
    config = updated(instructions="Be brief.")
    same = updated(config, instructions=None, audio=None, tools=None, model=None)
    assert same == config
    assert input_updated(config, transcription=None).audio.input.transcription is None


def test_the_models_shown_are_the_ones_in_use() -> None:
    config = default_session("realtime", "rtvc", transcription_model="tiny.en")
    asked = updated(
        config,
        model="gpt-realtime",
        audio={"input": {"transcription": {"model": "whisper-1", "language": "en"}}},
    )
    wire = asked.to_wire("s")
    assert wire["model"] == "rtvc"
    assert wire["audio"]["input"]["transcription"] == {
        "model": "tiny.en",
        "language": "en",
        "prompt": None,
    }


def test_settings_of_ours_cannot_be_changed_from_outside() -> None:
    asked = updated(transcription_model="x", unset_silence_ms=9999, id="sess_x", object="y")
    assert asked == default_session("realtime", "selftest")


def test_a_voice_may_come_as_an_object() -> None:
    config = updated(audio={"output": {"voice": {"id": "voice_1"}, "speed": 1.5}})
    assert config.audio.output.voice == "voice_1"
    assert config.audio.output.speed == 1.5


def test_telephone_audio_is_8_khz() -> None:
    config = input_updated(format={"type": "audio/pcmu"})
    assert config.audio.input.format.rate_hz == 8000
    assert config.audio.output.format.rate_hz == 24_000
    assert config.to_wire("s")["audio"]["input"]["format"] == {"type": "audio/pcmu"}


def test_tools_replies_and_limits() -> None:
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    config = updated(
        tools=[tool],
        tool_choice={"type": "function", "name": "f"},
        max_output_tokens=7,
        output_modalities=["text"],
        tracing={"workflow_name": "w"},
        truncation={"type": "retention_ratio", "retention_ratio": 0.5},
        include=["item.input_audio_transcription.logprobs"],
    )
    assert (config.token_limit, config.modality) == (7, "text")
    assert updated(config, max_output_tokens="inf").token_limit is None
    assert updated(config, tools=[]).tools == ()
    parsed = RealtimeSessionCreateResponse.model_validate(config.to_wire("s"))
    assert not parsed.model_extra


@pytest.mark.parametrize(
    ("patch", "param"),
    [
        ({"audio": {"output": {"speed": 1.6}}}, "audio.output.speed"),
        ({"audio": {"output": {"speed": 0.2}}}, "audio.output.speed"),
        ({"audio": {"output": {"speed": "1"}}}, "audio.output.speed"),
        ({"audio": {"output": {"voice": {"id": 3}}}}, "audio.output.voice"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}},
         "audio.input.format.rate"),
        ({"audio": {"input": {"format": "pcm16"}}}, "audio.input.format"),
        ({"audio": {"input": {"turn_detection": {"type": "none"}}}}, "audio.input.turn_detection"),
        *(
            ({"audio": {"input": {"turn_detection": {"type": "server_vad", name: value}}}},
             f"audio.input.turn_detection.{name}")
            for name, value in [
                ("silence_duration_ms", 10_001), ("silence_duration_ms", -1),
                ("silence_duration_ms", 250.5), ("silence_duration_ms", True),
                ("threshold", 1.1), ("threshold", -0.1),
                ("prefix_padding_ms", 2001), ("idle_timeout_ms", 4999),
            ]
        ),
        ({"audio": {"input": {"transcription": {"language": "english!"}}}},
         "audio.input.transcription.language"),
        ({"audio": {"input": {"noise_reduction": {"type": "far"}}}},
         "audio.input.noise_reduction.type"),
        ({"audio": []}, "audio"),
        ({"model": 3}, "model"),
        ({"max_output_tokens": 4097}, "max_output_tokens"),
        ({"max_output_tokens": "all"}, "max_output_tokens"),
        ({"output_modalities": ["text", "audio"]}, "output_modalities"),
        ({"output_modalities": []}, "output_modalities"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools.0.type"),
        ({"tools": [{"type": "function", "name": "f", "parameters": {"a": "x" * 100_000}}]},
         "tools.0.parameters"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"truncation": {"type": "retention_ratio", "retention_ratio": 2}},
         "truncation.retention_ratio"),
        ({"include": ["everything"]}, "include.0"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_by_name(patch: dict[str, Any], param: str) -> None:
    config = default_session("realtime", "selftest")
    with pytest.raises(ProtocolError) as caught:
        config.updated({"type": "realtime", **patch}, event_id="mine")
    assert caught.value.param == f"session.{param}"
    assert caught.value.event_id == "mine"


def test_the_type_is_required_and_cannot_change() -> None:
    config = default_session("transcription", "selftest")
    with pytest.raises(ProtocolError, match="beta shape") as missing:
        config.updated({"turn_detection": None})
    assert missing.value.code == "missing_required_parameter"
    with pytest.raises(ProtocolError, match="cannot change"):
        config.updated({"type": "realtime"})
    assert not config.replies
    assert config.updated({"type": "transcription"}) == config


# Whatever comes, only ProtocolError goes out.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["event_id", "audio", "item", "item_id", "session", "response", "content_index", "type"]
)


@given(st.text() | st.binary() | JSON.map(json.dumps))
@settings(deadline=None, max_examples=200)
def test_any_message_parses_or_is_refused(message: str | bytes) -> None:
    parse_or_refuse(message)


@given(st.sampled_from(CLIENT_EVENTS), st.dictionaries(FIELDS, JSON, max_size=3))
@settings(deadline=None, max_examples=300)
def test_any_event_with_wrong_fields_parses_or_is_refused(
    sent: dict[str, Any], wrong: dict[str, Any]
) -> None:
    parse_or_refuse(json.dumps(sent | wrong))


SESSION_KEYS = sorted(SessionConfig.model_fields)
INPUT_KEYS = ["format", "noise_reduction", "transcription", "turn_detection"]
PATCHES = st.dictionaries(st.sampled_from(SESSION_KEYS), JSON, max_size=4) | st.dictionaries(
    st.sampled_from(INPUT_KEYS),
    JSON | st.dictionaries(st.sampled_from(["type", "threshold", "rate"]), JSON),
    max_size=3,
).map(lambda fields: {"audio": {"input": fields}})


@given(PATCHES, st.sampled_from(["realtime", "transcription"]))
@settings(deadline=None, max_examples=300)
def test_any_update_is_taken_whole_or_refused(patch: dict[str, Any], kind: Any) -> None:
    param, shown = update_or_refusal(default_session(kind, "selftest"), {**patch, "type": kind})
    assert param.startswith("session")
    encode(server_events().session_updated(shown))


def update_or_refusal(config: SessionConfig, patch: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    try:
        config = config.updated(patch)
    except ProtocolError as error:
        return error.param or "", {}
    return "session", config.to_wire("s")


def parse_or_refuse(message: str | bytes) -> None:
    try:
        parsed = parse_client_event(message)
        if isinstance(parsed, realtime.InputAudioBufferAppend):
            parsed.pcm_bytes()
    except ProtocolError as error:
        encode(server_events().protocol_error(error))
