"""What a Realtime session's settings mean for the voice session, and what they start from."""

from dataclasses import replace

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


def initial_config(services: Services, kind: SessionKind) -> SessionConfig:
    """The settings of a session before its first update: the server's own."""
    settings, model = services.settings, services.engine.status.model
    unset = settings.turn.silence_ms
    config = default_session(
        kind,
        services.llm.name if kind == "realtime" else model,
        DEFAULT_SILENCE_MS if unset is None else unset,
        transcription_model=model,
        instructions=settings.llm.system if kind == "realtime" else "",
        voice=settings.tts.voice,
    )
    detection = {
        "type": "server_vad",
        "threshold": settings.turn.threshold,
        "prefix_padding_ms": settings.turn.prefix_padding_ms,
    }
    return config.updated({"type": kind, "audio": {"input": {"turn_detection": detection}}})


def voice_settings(config: SessionConfig, turn: TurnSettings) -> VoiceSettings:
    """How the voice session should listen; the client's wishes go before the server's."""
    common = VoiceSettings(
        endpointing=None,
        partial_interval_s=turn.least_partial_interval_s,
        partials=turn.partials != "off",
    )
    detection = config.turn_detection
    if detection is None:
        return common
    if isinstance(detection, SemanticVad):
        endpointing = EndpointingSettings(turn.threshold, (config.silence_ms or 0) / 1000)
        padding_ms = turn.prefix_padding_ms
    else:
        explicit = detection.silence_duration_ms
        chosen_ms = turn.silence_ms if explicit is None else explicit
        silence_s = None if chosen_ms is None else chosen_ms / 1000
        endpointing = EndpointingSettings(detection.threshold, silence_s)
        padding_ms = detection.prefix_padding_ms
    return replace(common, endpointing=endpointing, prefix_padding_s=padding_ms / 1000)
