"""What the settings of a session mean for its ears, and what the client is told of them."""

from dataclasses import dataclass
from typing import Any, cast

import pytest

from rtvc.config import TurnSettings, load_settings
from rtvc.protocol.realtime import SessionConfig, default_session
from rtvc.server.services import TEXTLESS_SILENCE_MS, Services
from rtvc.server.sessions.realtime_settings import (
    PATIENCE,
    session_to_wire,
    turn_notice,
    voice_settings,
)
from rtvc.stt.transcriber import Engine
from rtvc.voice.endpointing import EndpointingSettings
from rtvc.voice.turn_model import ScriptedTurnModel, TurnModel


@dataclass
class SomeServices:
    """What the settings look at."""

    turn_model: TurnModel | None = None
    """Judges pauses."""
    no_turn_model: str | None = "it is not installed"
    """Why not."""


def services(turn_model: TurnModel | None = None) -> Services:
    return cast(Services, SomeServices(turn_model))


@dataclass
class SomeStatus:
    """Of an engine."""

    model_kind: str
    """As in `EngineStatus`."""


@dataclass
class SomeEngine:
    """Whose model turns may depend on."""

    status: SomeStatus
    """Its state."""


def turn_with(model_kind: str, silence_ms: int | None) -> TurnSettings:
    """The settings of turns beside such a model."""
    some = object.__new__(Services)
    turn = {} if silence_ms is None else {"silence_ms": silence_ms}
    some.settings = load_settings({"turn": turn}, environment={})
    some.engine = cast(Engine, SomeEngine(SomeStatus(model_kind)))
    return some.turn


@pytest.mark.parametrize(
    ("model_kind", "asked_ms", "expected_ms"),
    [
        ("whisper", None, None),
        ("synthetic weights", None, TEXTLESS_SILENCE_MS),
        ("synthetic weights", 700, 700),
    ],
)
def test_where_no_text_can_tell_the_silence_is_fixed_and_longer(
    model_kind: str, asked_ms: int | None, expected_ms: int | None
) -> None:
    assert turn_with(model_kind, asked_ms).silence_ms == expected_ms


def config(**detection: Any) -> SessionConfig:
    patch = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
    return default_session("realtime", "some-model").updated(patch)


def endpointing(chosen: SessionConfig, *, turn_model: bool = True) -> EndpointingSettings:
    found = voice_settings(chosen, TurnSettings(), turn_model=turn_model).endpointing
    assert found is not None
    return found


@pytest.mark.parametrize("eagerness", sorted(PATIENCE))
def test_eagerness_is_patience_with_what_is_incomplete(eagerness: str) -> None:
    found = endpointing(config(type="semantic_vad", eagerness=eagerness))
    longest_s = {"low": 8, "medium": 4, "auto": 4, "high": 2}[eagerness]
    assert found.incomplete_silence_s == longest_s
    assert found.silence_s is not None
    assert found.judge_after_s < found.silence_s < found.unjudged_silence_s + 0.001 <= longest_s


@pytest.mark.parametrize(("eagerness", "silence_s"), [("low", 1.0), ("auto", 0.5), ("high", 0.25)])
def test_without_a_turn_model_eagerness_is_a_fixed_silence(
    eagerness: str, silence_s: float
) -> None:
    found = endpointing(config(type="semantic_vad", eagerness=eagerness), turn_model=False)
    assert (found.silence_s, found.incomplete_silence_s) == (silence_s, None)


def test_a_turn_model_has_no_say_in_server_vad() -> None:
    for detection in ({}, {"silence_duration_ms": 700}):
        found = endpointing(config(type="server_vad", **detection))
        assert found.incomplete_silence_s is None


def test_a_client_that_gets_fixed_silences_is_told_which_and_why() -> None:
    chosen = config(type="semantic_vad", eagerness="low")
    notice = turn_notice(chosen, services())
    assert notice == "semantic_vad waits for a fixed silence of 1000 ms: it is not installed"
    wire = session_to_wire(chosen, "sess_1", services())
    assert wire["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 1000


def test_nobody_is_told_what_they_did_not_ask_about() -> None:
    judged = services(ScriptedTurnModel())
    semantic = config(type="semantic_vad")
    assert turn_notice(semantic, judged) is None
    assert session_to_wire(semantic, "sess_1", judged) == semantic.to_wire("sess_1")
    for other in (config(type="server_vad"), default_session("transcription", "some-model")):
        assert turn_notice(other, services()) is None
        assert session_to_wire(other, "sess_1", services()) == other.to_wire("sess_1")
