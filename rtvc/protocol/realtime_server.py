"""Events the server sends, one method each, and the table of the rtvc.* ones."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rtvc.errors import ProtocolError
from rtvc.protocol.realtime_items import Modality, WireItem

Event = dict[str, Any]
RTVC_VERSION = 1
"""Version of the rtvc.* events; counts up when a field changes its meaning or goes."""

ResponseStatus = Literal["in_progress", "completed", "cancelled", "failed", "incomplete"]
StatusReason = Literal["turn_detected", "client_cancelled", "max_output_tokens", "content_filter"]


def encode(event: Event) -> str:
    """Compact JSON, ASCII only, so that half a surrogate pair in a text cannot break it."""
    return json.dumps(event, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class PartPlace:
    """Which part of which reply a delta belongs to."""

    response_id: str
    """The reply."""
    item_id: str
    """Its message."""
    output_index: int = 0
    """Always 0: a reply is one message."""
    content_index: int = 0
    """Always 0: a message is one part."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """Fields of rtvc.status."""

    state: str
    """"starting", "loading", "warming", "ready", "restarting", "aside", "draining" or "failed"."""
    progress: float
    """0 to 1, over everything that must be ready."""
    detail: str
    """One line for a person."""
    model: str
    """Speech-to-text model as the user knows it."""
    model_kind: str
    """"whisper", "self-test model", "synthetic weights", "pocketsphinx" or "scripted"."""
    llm: str
    """Name of the language model."""
    tts: str
    """Name of the speech synthesizer."""
    notice: str | None
    """What a person should know before believing a number; None: nothing."""
    sessions: int
    """Sessions open now."""
    max_sessions: int
    """Slots for sessions."""
    headroom_sessions: float | None = None
    """More sessions that would keep to the delay target; None: unknown."""
    degradation: str = "none"
    """Given up under overload: "none", "slower-partials", "no-partials" or "refusing"."""


@dataclass(frozen=True, slots=True)
class TurnSegment:
    """One stretch of a turn."""

    name: str
    """"vad_delay", "endpoint_wait", "queue_wait", "features", "encode", "decode", "emit", …"""
    start_ms: float
    """Milliseconds since the last speech sample arrived."""
    duration_ms: float
    """Milliseconds."""


@dataclass(frozen=True, slots=True)
class TurnTimings:
    """Fields of rtvc.turn."""

    item_id: str
    """The utterance."""
    response_id: str | None
    """Its reply; None in stage "transcript" and where there is none."""
    stage: Literal["transcript", "reply"]
    """After the final transcript, or after the first audio of the reply."""
    transcription_delay_ms: float
    """Milliseconds, last speech sample → final transcript sent."""
    response_latency_ms: float | None
    """Milliseconds, last speech sample → first reply audio sent; None before it was."""
    audio_ms: float
    """Milliseconds of audio transcribed."""
    segments: Sequence[TurnSegment]
    """Contiguous; their sum is what the person waited."""
    hidden: Sequence[TurnSegment]
    """Work done while the person was waited for; not in the sum."""
    unaccounted_ms: float
    """Milliseconds that no segment explains."""
    batch_size: int
    """Jobs that shared the inference."""
    model: str
    """Speech-to-text model."""
    last_speech_ms: float
    """Milliseconds of the session's audio up to the last speech sample, as VAD heard it."""
    received_ms: float
    """Milliseconds of the session's audio that had arrived with that sample."""


def response(
    response_id: str,
    status: ResponseStatus,
    *,
    conversation_id: str | None = None,
    output: Sequence[WireItem] = (),
    reason: StatusReason | None = None,
    error: tuple[str, str] | None = None,
    modality: Modality = "audio",
    max_output_tokens: int | None = None,
    output_tokens: int | None = None,
    metadata: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A response resource; `error` is (code, message) of a failed one."""
    return {
        "id": response_id,
        "object": "realtime.response",
        "conversation_id": conversation_id,
        "status": status,
        "status_details": _status_details(status, reason, error),
        "output": list(output),
        "output_modalities": [modality],
        "max_output_tokens": "inf" if max_output_tokens is None else max_output_tokens,
        "usage": None if output_tokens is None else {"output_tokens": output_tokens},
        "metadata": metadata,
    }


def _status_details(
    status: ResponseStatus, reason: StatusReason | None, error: tuple[str, str] | None
) -> dict[str, Any] | None:
    if status == "in_progress":
        return None
    details: dict[str, Any] = {"type": status}
    if reason:
        details["reason"] = reason
    if error:
        details["error"] = {"type": "server_error", "code": error[0], "message": error[1]}
    return details


class ServerEvents:
    """Builds events; each gets an id of its own."""

    def __init__(self, new_id: Callable[[str], str]) -> None:
        self._new_id = new_id

    def _event(self, kind: str, **fields: Any) -> Event:
        return {"type": kind, "event_id": self._new_id("event"), **fields}

    # Session.

    def session_created(self, session: dict[str, Any]) -> Event:
        return self._event("session.created", session=session)

    def session_updated(self, session: dict[str, Any]) -> Event:
        return self._event("session.updated", session=session)

    def error(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        event_id: str | None = None,
        type: str = "invalid_request_error",
    ) -> Event:
        """`event_id` names the client's event at fault."""
        error = {
            "type": type,
            "code": code,
            "message": message,
            "param": param,
            "event_id": event_id,
        }
        return self._event("error", error=error)

    def protocol_error(self, error: ProtocolError) -> Event:
        """What the client did wrong, in its own terms."""
        return self.error(str(error), code=error.code, param=error.param, event_id=error.event_id)

    # Input audio.

    def speech_started(self, item_id: str, *, audio_start_ms: int) -> Event:
        """`audio_start_ms` counts all audio appended, and includes the prefix padding."""
        return self._event(
            "input_audio_buffer.speech_started", audio_start_ms=audio_start_ms, item_id=item_id
        )

    def speech_stopped(self, item_id: str, *, audio_end_ms: int) -> Event:
        """`audio_end_ms` includes the silence that ended the turn."""
        return self._event(
            "input_audio_buffer.speech_stopped", audio_end_ms=audio_end_ms, item_id=item_id
        )

    def committed(self, item_id: str, *, previous_item_id: str | None) -> Event:
        return self._event(
            "input_audio_buffer.committed", item_id=item_id, previous_item_id=previous_item_id
        )

    def cleared(self) -> Event:
        return self._event("input_audio_buffer.cleared")

    def timeout_triggered(self, item_id: str, *, audio_start_ms: int, audio_end_ms: int) -> Event:
        return self._event(
            "input_audio_buffer.timeout_triggered",
            audio_start_ms=audio_start_ms,
            audio_end_ms=audio_end_ms,
            item_id=item_id,
        )

    # Conversation.

    def item_added(self, item: WireItem, *, previous_item_id: str | None) -> Event:
        return self._event("conversation.item.added", item=item, previous_item_id=previous_item_id)

    def item_done(self, item: WireItem, *, previous_item_id: str | None) -> Event:
        return self._event("conversation.item.done", item=item, previous_item_id=previous_item_id)

    def item_deleted(self, item_id: str) -> Event:
        return self._event("conversation.item.deleted", item_id=item_id)

    def item_retrieved(self, item: WireItem) -> Event:
        return self._event("conversation.item.retrieved", item=item)

    def item_truncated(self, item_id: str, *, audio_end_ms: int) -> Event:
        return self._event(
            "conversation.item.truncated",
            item_id=item_id,
            content_index=0,
            audio_end_ms=audio_end_ms,
        )

    # Transcription of what the user said.

    def transcription_delta(self, item_id: str, delta: str) -> Event:
        """Words that will not change; deltas only append."""
        return self._transcription("delta", item_id, delta=delta)

    def transcription_completed(self, item_id: str, transcript: str, *, audio_s: float) -> Event:
        """The whole transcript, which replaces the deltas."""
        usage = {"type": "duration", "seconds": round(audio_s, 3)}
        return self._transcription("completed", item_id, transcript=transcript, usage=usage)

    def transcription_failed(self, item_id: str, message: str, *, code: str | None = None) -> Event:
        error = {"type": "server_error", "code": code, "message": message, "param": None}
        return self._transcription("failed", item_id, error=error)

    def _transcription(self, name: str, item_id: str, **fields: Any) -> Event:
        kind = f"conversation.item.input_audio_transcription.{name}"
        return self._event(kind, item_id=item_id, content_index=0, **fields)

    # A reply.

    def response_created(self, response: dict[str, Any]) -> Event:
        return self._event("response.created", response=response)

    def response_done(self, response: dict[str, Any]) -> Event:
        return self._event("response.done", response=response)

    def output_item_added(self, response_id: str, item: WireItem) -> Event:
        return self._output_item("added", response_id, item)

    def output_item_done(self, response_id: str, item: WireItem) -> Event:
        return self._output_item("done", response_id, item)

    def _output_item(self, name: str, response_id: str, item: WireItem) -> Event:
        return self._event(
            f"response.output_item.{name}", response_id=response_id, output_index=0, item=item
        )

    def content_part_added(self, place: PartPlace, *, modality: Modality = "audio") -> Event:
        return self._part("content_part.added", place, part=_part(modality, ""))

    def content_part_done(
        self, place: PartPlace, text: str, *, modality: Modality = "audio"
    ) -> Event:
        return self._part("content_part.done", place, part=_part(modality, text))

    def audio_delta(self, place: PartPlace, audio: bytes) -> Event:
        """`audio` in the session's output format."""
        return self._part("output_audio.delta", place, delta=base64.b64encode(audio).decode())

    def audio_done(self, place: PartPlace) -> Event:
        return self._part("output_audio.done", place)

    def audio_transcript_delta(self, place: PartPlace, delta: str) -> Event:
        return self._part("output_audio_transcript.delta", place, delta=delta)

    def audio_transcript_done(self, place: PartPlace, transcript: str) -> Event:
        return self._part("output_audio_transcript.done", place, transcript=transcript)

    def text_delta(self, place: PartPlace, delta: str) -> Event:
        return self._part("output_text.delta", place, delta=delta)

    def text_done(self, place: PartPlace, text: str) -> Event:
        return self._part("output_text.done", place, text=text)

    def _part(self, name: str, place: PartPlace, **fields: Any) -> Event:
        return self._event(
            f"response.{name}",
            response_id=place.response_id,
            item_id=place.item_id,
            output_index=place.output_index,
            content_index=place.content_index,
            **fields,
        )

    # Ours, for clients that asked with ?rtvc=1.

    def rtvc_status(self, status: ServerStatus) -> Event:
        return self._rtvc("status", asdict(status))

    def rtvc_hypothesis(
        self, item_id: str, *, revision: int, text: str, stable_text: str, audio_ms: float
    ) -> Event:
        """The whole hypothesis so far; replaces the earlier one of the same item."""
        fields = {
            "item_id": item_id,
            "revision": revision,
            "text": text,
            "stable_text": stable_text,
            "audio_ms": audio_ms,
        }
        return self._rtvc("hypothesis", fields)

    def rtvc_turn(self, turn: TurnTimings) -> Event:
        return self._rtvc("turn", asdict(turn))

    def _rtvc(self, name: str, fields: dict[str, Any]) -> Event:
        return self._event(f"rtvc.{name}", version=RTVC_VERSION, **fields)


def _part(modality: Modality, text: str) -> dict[str, str]:
    return {"type": modality, "transcript" if modality == "audio" else "text": text}
