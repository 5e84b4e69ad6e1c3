"""What a Realtime session's settings mean for the voice session, and what they start from."""

from dataclasses import dataclass, replace
from typing import Any

from rtvc.config import TurnSettings
from rtvc.protocol.realtime import (
    DEFAULT_SILENCE_MS,
    SemanticVad,
    SessionConfig,
    SessionKind,
    default_session,
)
from rtvc.server.services import Services
from rtvc.voice.endpointing import EndpointingSettings
from rtvc.voice.session import VoiceSettings


@dataclass(frozen=True, slots=True)
class Patience:
    """What an eagerness of `semantic_vad` means where a turn model judges."""

    complete_s: float
    """Silence that ends a turn which the model holds for complete."""
    incomplete_s: float
    """Silence that ends one which it holds for incomplete: OpenAI's longest waits."""


PATIENCE = {
    "low": Patience(0.5, 8.0),
    "medium": Patience(0.3, 4.0),
    "auto": Patience(0.3, 4.0),
    "high": Patience(0.25, 2.0),
}


def initial_config(services: Services, kind: SessionKind) -> SessionConfig:
    """The settings of a session before its first update: the server's own."""
    settings, model = services.settings, services.engine.status.model
    turn = services.turn
    config = default_session(
        kind,
        services.llm.name if kind == "realtime" else model,
        DEFAULT_SILENCE_MS if turn.silence_ms is None else turn.silence_ms,
        transcription_model=model,
        instructions=settings.llm.system if kind == "realtime" else "",
        voice=settings.tts.voice,
    )
    detection: dict[str, Any] = {"type": turn.detection}
    if turn.detection == "server_vad":
        detection |= {
            "threshold": turn.threshold,
            "prefix_padding_ms": turn.prefix_padding_ms,
        }
    return config.updated({"type": kind, "audio": {"input": {"turn_detection": detection}}})


def voice_settings(
    config: SessionConfig, turn: TurnSettings, *, turn_model: bool = False
) -> VoiceSettings:
    """How the voice session should listen; the client's wishes go before the server's.

    `turn_model`: whether there is one to judge pauses.
    """
    common = VoiceSettings(
        endpointing=None,
        partial_interval_s=turn.least_partial_interval_s,
        partials=turn.partials != "off",
    )
    detection = config.turn_detection
    if detection is None:
        return common
    if isinstance(detection, SemanticVad):
        endpointing = _semantic(detection, (config.silence_ms or 0) / 1000, turn, turn_model)
        padding_ms = turn.prefix_padding_ms
    else:
        explicit = detection.silence_duration_ms
        chosen_ms = turn.silence_ms if explicit is None else explicit
        silence_s = None if chosen_ms is None else chosen_ms / 1000
        endpointing = EndpointingSettings(detection.threshold, silence_s)
        padding_ms = detection.prefix_padding_ms
    return replace(common, endpointing=endpointing, prefix_padding_s=padding_ms / 1000)


def _semantic(
    detection: SemanticVad, fixed_s: float, turn: TurnSettings, turn_model: bool
) -> EndpointingSettings:
    """Without a turn model the eagerness is a choice between fixed silences."""
    if not turn_model:
        return EndpointingSettings(turn.threshold, fixed_s)
    patience = PATIENCE[detection.eagerness]
    return EndpointingSettings(
        turn.threshold,
        patience.complete_s,
        incomplete_silence_s=patience.incomplete_s,
        unjudged_silence_s=fixed_s,
    )


def session_to_wire(config: SessionConfig, session_id: str, services: Services) -> dict[str, Any]:
    """The settings in effect; `semantic_vad` without a turn model shows its fixed silence."""
    wire = config.to_wire(session_id)
    if turn_notice(config, services) is not None:
        wire["audio"]["input"]["turn_detection"]["silence_duration_ms"] = config.silence_ms
    return wire


def turn_notice(config: SessionConfig, services: Services) -> str | None:
    """What a client that asked for `semantic_vad` must know; None: it has what it asked for."""
    if not isinstance(config.turn_detection, SemanticVad) or services.turn_model is not None:
        return None
    reason = services.no_turn_model or "there is no turn model"
    return f"semantic_vad waits for a fixed silence of {config.silence_ms} ms: {reason}"
