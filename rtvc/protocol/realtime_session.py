"""The settings of a Realtime session: defaults, updates, and what the wire shows."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from rtvc.errors import ProtocolError
from rtvc.protocol.realtime_items import Modality
from rtvc.protocol.validation import (
    BoundedText,
    Frozen,
    Identifier,
    SmallObject,
    named,
    type_tag,
    validated,
)

SessionKind = Literal["realtime", "transcription"]
LogProbs = Literal["item.input_audio_transcription.logprobs"]

MAX_TOOLS = 128
DEFAULT_SILENCE_MS = 250
EAGERNESS_SILENCE_MS = {"low": 1000, "medium": 500, "auto": 500, "high": 250}
"""Silence that ends a turn under semantic_vad, by eagerness."""

CLEARED_BY_NULL = frozenset(
    {
        "audio.input.noise_reduction",
        "audio.input.transcription",
        "audio.input.transcription.language",
        "audio.input.transcription.prompt",
        "audio.input.turn_detection",
        "audio.input.turn_detection.idle_timeout_ms",
        "audio.input.turn_detection.silence_duration_ms",
        "audio.output.voice",
        "tracing",
    }
)
"""Fields where null means off or unset; null anywhere else leaves the field as it was."""

MERGED = frozenset(
    {
        "audio",
        "audio.input",
        "audio.output",
        "audio.input.transcription",
        "audio.input.turn_detection",
    }
)
"""Objects that are updated field by field; all others are replaced whole."""


class Pcm(Frozen):
    """16-bit little-endian mono."""

    type: Literal["audio/pcm"] = "audio/pcm"
    """Always "audio/pcm"."""
    rate: Literal[24000] = 24000
    """Hertz; the protocol knows no other."""

    @property
    def rate_hz(self) -> int:
        """Samples per second."""
        return self.rate


class Mulaw(Frozen):
    """G.711 µ-law."""

    type: Literal["audio/pcmu"] = "audio/pcmu"
    """Always "audio/pcmu"."""

    @property
    def rate_hz(self) -> int:
        """Samples per second."""
        return 8000


class Alaw(Frozen):
    """G.711 A-law."""

    type: Literal["audio/pcma"] = "audio/pcma"
    """Always "audio/pcma"."""

    @property
    def rate_hz(self) -> int:
        """Samples per second."""
        return 8000


AudioFormat = Annotated[
    Annotated[Pcm, Tag("<audio/pcm>")]
    | Annotated[Mulaw, Tag("<audio/pcmu>")]
    | Annotated[Alaw, Tag("<audio/pcma>")],
    Discriminator(
        type_tag,
        custom_error_type="format",
        custom_error_message="expected a format of type audio/pcm, audio/pcmu or audio/pcma",
    ),
]


class NoiseReduction(Frozen):
    """Accepted and shown; the server applies none."""

    type: Literal["near_field", "far_field"]
    """Where the microphone stands."""


class Transcription(Frozen):
    """How speech becomes text."""

    model: Identifier | None = None
    """What the client asked for; the wire shows the model that is in fact used."""
    language: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] | None = None
    """ISO-639-1; None: the model's own."""
    prompt: BoundedText | None = None
    """Context the model may lean on; None: none."""


class ServerVad(Frozen):
    """A turn ends after a stretch of silence."""

    type: Literal["server_vad"] = "server_vad"
    """Always "server_vad"."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability of speech above which a frame counts as speech."""
    prefix_padding_ms: Annotated[int, Field(ge=0, le=2000)] = 300
    """Milliseconds of audio kept before speech began."""
    silence_duration_ms: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Milliseconds of silence that end a turn; None: unset, the server's own."""
    create_response: bool = True
    """Whether a turn is replied to without being asked."""
    interrupt_response: bool = True
    """Whether speech cancels a reply."""
    idle_timeout_ms: Annotated[int, Field(ge=5000, le=30_000)] | None = None
    """Milliseconds of nobody speaking after which the assistant speaks; None: never."""


class SemanticVad(Frozen):
    """A turn ends when the words seem complete, the sooner the more eager."""

    type: Literal["semantic_vad"] = "semantic_vad"
    """Always "semantic_vad"."""
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    """How soon the assistant takes its turn."""
    create_response: bool = True
    """Whether a turn is replied to without being asked."""
    interrupt_response: bool = True
    """Whether speech cancels a reply."""


TurnDetection = Annotated[
    Annotated[ServerVad, Tag("<server_vad>")] | Annotated[SemanticVad, Tag("<semantic_vad>")],
    Discriminator(
        type_tag,
        custom_error_type="turn_detection",
        custom_error_message="expected turn detection of type server_vad or semantic_vad, or null",
    ),
]


class InputSettings(Frozen):
    """What the client sends and what is made of it."""

    format: AudioFormat = Pcm()
    """Of input_audio_buffer.append."""
    noise_reduction: NoiseReduction | None = None
    """None: none."""
    transcription: Transcription | None = Transcription()
    """None: speech is understood but its transcript is not sent."""
    turn_detection: TurnDetection | None = ServerVad()
    """None: the client commits by hand."""


class OutputSettings(Frozen):
    """What the server speaks."""

    format: AudioFormat = Pcm()
    """Of response.output_audio.delta."""
    voice: Identifier | None = None
    """Name of a voice; None: the synthesizer's own."""
    speed: Annotated[float, Field(ge=0.25, le=1.5)] = 1.0
    """Multiple of the voice's own speed."""

    @field_validator("voice", mode="before")
    @classmethod
    def _custom_voice(cls, voice: object) -> object:
        """A custom voice comes as an object with an id."""
        return voice.get("id") if isinstance(voice, dict) else voice


class AudioSettings(Frozen):
    """Both directions."""

    input: InputSettings = InputSettings()
    """From the client."""
    output: OutputSettings = OutputSettings()
    """To the client; unused in a transcription session."""


class FunctionTool(Frozen):
    """A function the client offers; shown, never called by this server."""

    type: Literal["function"]
    """Always "function"; MCP tools are refused."""
    name: Identifier
    """The function."""
    description: BoundedText | None = None
    """When to call it; None: not said."""
    parameters: SmallObject | None = None
    """JSON Schema; None: no parameters."""


class FunctionChoice(Frozen):
    """The one function that must be called."""

    type: Literal["function"]
    """Always "function"."""
    name: Identifier
    """The function."""


class RetentionRatio(Frozen):
    """How much of a conversation survives truncation."""

    type: Literal["retention_ratio"]
    """Always "retention_ratio"."""
    retention_ratio: Annotated[float, Field(ge=0, le=1)]
    """Share that is kept."""


Tools = Annotated[tuple[FunctionTool, ...], Field(strict=False, max_length=MAX_TOOLS)]
ToolChoice = Annotated[
    Annotated[Literal["auto", "none", "required"], Tag("<word>")]
    | Annotated[FunctionChoice, Tag("<object>")],
    Discriminator(lambda value: "<word>" if isinstance(value, str) else "<object>"),
]
Truncation = Annotated[
    Annotated[Literal["auto", "disabled"], Tag("<word>")]
    | Annotated[RetentionRatio, Tag("<object>")],
    Discriminator(lambda value: "<word>" if isinstance(value, str) else "<object>"),
]
Tracing = Annotated[
    Annotated[Literal["auto"], Tag("<word>")] | Annotated[SmallObject, Tag("<object>")],
    Discriminator(lambda value: "<word>" if isinstance(value, str) else "<object>"),
]
TokenLimit = Annotated[
    Annotated[Literal["inf"], Tag("<word>")]
    | Annotated[Annotated[int, Field(ge=1, le=4096)], Tag("<number>")],
    Discriminator(lambda value: "<word>" if isinstance(value, str) else "<number>"),
]
Modalities = Annotated[tuple[Modality, ...], Field(strict=False, min_length=1, max_length=1)]


class SessionConfig(Frozen):
    """The settings in force; never changed, only replaced by `updated`."""

    type: SessionKind
    """"realtime" converses, "transcription" only listens."""
    model: Identifier
    """Shown to the client; its wishes do not change it."""
    transcription_model: Identifier
    """Name of the speech-to-text model in use, shown as transcription.model."""
    unset_silence_ms: Annotated[int, Field(ge=0, le=10_000)] = DEFAULT_SILENCE_MS
    """Milliseconds of silence that end a turn where the client set none."""
    instructions: BoundedText = ""
    """System prompt."""
    output_modalities: Modalities = ("audio",)
    """Either audio with its transcript, or text."""
    max_output_tokens: TokenLimit = "inf"
    """Tokens of one reply, 1 to 4096, or "inf"."""
    audio: AudioSettings = AudioSettings()
    """Both directions."""
    tools: Tools = ()
    """Functions offered by the client."""
    tool_choice: ToolChoice = "auto"
    """Shown, without effect."""
    tracing: Tracing | None = None
    """Shown, without effect; None: off."""
    truncation: Truncation = "auto"
    """Shown, without effect."""
    include: Annotated[tuple[LogProbs, ...], Field(strict=False, max_length=1)] = ()
    """Shown; log probabilities are never sent."""

    @property
    def turn_detection(self) -> ServerVad | SemanticVad | None:
        """How turns end; None: the client commits by hand."""
        return self.audio.input.turn_detection

    @property
    def silence_ms(self) -> int | None:
        """Milliseconds of silence that end a turn, in effect; None: the client commits."""
        detection = self.turn_detection
        if detection is None:
            return None
        if isinstance(detection, SemanticVad):
            return EAGERNESS_SILENCE_MS[detection.eagerness]
        explicit = detection.silence_duration_ms
        return self.unset_silence_ms if explicit is None else explicit

    @property
    def replies(self) -> bool:
        """Whether the end of a turn starts a reply."""
        detection = self.turn_detection
        return self.type == "realtime" and detection is not None and detection.create_response

    @property
    def modality(self) -> Modality:
        """What a reply is made of."""
        return self.output_modalities[0]

    @property
    def token_limit(self) -> int | None:
        """Tokens of one reply; None: no limit."""
        return None if self.max_output_tokens == "inf" else self.max_output_tokens

    def updated(self, patch: dict[str, Any], *, event_id: str | None = None) -> "SessionConfig":
        """These settings with those of a session.update in their place.

        Raises:
            ProtocolError: names the field at fault; nothing of the patch is taken.
        """
        self._check_kind(patch, event_id)
        merged = _merged(self.model_dump(), patch, "")
        merged |= {key: getattr(self, key) for key in ("transcription_model", "unset_silence_ms")}
        config = validated(SessionConfig, merged, param="session", event_id=event_id)
        return config.model_copy(update={"model": self.model})

    def _check_kind(self, patch: dict[str, Any], event_id: str | None) -> None:
        kind = patch.get("type")
        if kind == self.type:
            return
        if kind is None:
            expected = '"realtime" or "transcription" (the beta shape of sessions is not spoken)'
            code, got = "missing_required_parameter", "nothing"
        else:
            expected = f'"{self.type}": the type of a session cannot change'
            code, got = "invalid_value", named(kind)
        message = f"session.type: expected {expected}, got {got}"
        raise ProtocolError(message, code=code, param="session.type", event_id=event_id)

    def to_wire(self, session_id: str) -> dict[str, Any]:
        """The effective settings, as session.created and session.updated show them."""
        shown = self._transcription_fields if self.type == "transcription" else self._all_fields
        name = "realtime.session" if self.type == "realtime" else "realtime.transcription_session"
        return {"type": self.type, "object": name, "id": session_id} | shown()

    def _all_fields(self) -> dict[str, Any]:
        wire = self.model_dump(
            mode="json",
            exclude={"type", "transcription_model", "unset_silence_ms", "audio", "include"},
        )
        output = self.audio.output.model_dump(mode="json")
        audio = {"input": self._input_to_wire(), "output": output}
        return wire | {"audio": audio, "include": list(self.include) or None}

    def _transcription_fields(self) -> dict[str, Any]:
        return {"audio": {"input": self._input_to_wire()}, "include": list(self.include) or None}

    def _input_to_wire(self) -> dict[str, Any]:
        wire = self.audio.input.model_dump(mode="json")
        if wire["transcription"] is not None:
            wire["transcription"]["model"] = self.transcription_model
        if isinstance(self.turn_detection, ServerVad):
            wire["turn_detection"]["silence_duration_ms"] = self.silence_ms
        return wire


def default_session(
    kind: SessionKind,
    model: str,
    unset_silence_ms: int = DEFAULT_SILENCE_MS,
    *,
    transcription_model: str | None = None,
    instructions: str = "",
    voice: str | None = None,
) -> SessionConfig:
    """The settings of a session before its first update.

    `model` is the name shown; `transcription_model` (None: the same) names the engine's.
    """
    return SessionConfig(
        type=kind,
        model=model,
        transcription_model=transcription_model or model,
        unset_silence_ms=unset_silence_ms,
        instructions=instructions,
        audio=AudioSettings(output=OutputSettings(voice=voice)),
    )


def _merged(current: dict[str, Any], patch: dict[str, Any], path: str) -> dict[str, Any]:
    merged = dict(current)
    for key, value in patch.items():
        field_path = f"{path}.{key}" if path else key
        says_something = value is not None or field_path in CLEARED_BY_NULL
        if key in current and says_something:
            merged[key] = _replacement(current[key], value, field_path)
    return merged


def _replacement(old: Any, new: Any, path: str) -> Any:
    if path not in MERGED or not isinstance(new, dict):
        return new
    if not isinstance(old, dict) or new.get("type", old.get("type")) != old.get("type"):
        return {key: value for key, value in new.items() if value is not None}
    return _merged(old, new, path)
