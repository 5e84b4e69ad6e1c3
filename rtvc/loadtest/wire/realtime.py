"""The caller's side of the OpenAI Realtime protocol, without a socket or a clock.

    socket → receive(message, at_s) → observation      append(pcm16), truncate(…) → message → socket

Plain dictionaries, not models: this runs for every frame of every speaker, and it has to
outlive whatever a broken server sends. What it cannot read is a `Garbage` with a name.
"""

import binascii
import json
from base64 import b64encode

from rtvc.loadtest.wire.client import TypedClient
from rtvc.loadtest.wire.messages import (
    OPENAI_REALTIME,
    Message,
    Outgoing,
    number_of,
    text_of,
)
from rtvc.loadtest.wire.observations import (
    ErrorReported,
    FinalFailed,
    FinalText,
    ItemCommitted,
    Observation,
    PartialText,
    ReplyAudio,
    ReplyCreated,
    ReplyDone,
    Segment,
    SessionUsable,
    SpeechStarted,
    TurnTimed,
)

WIRE_RATE_HZ = 24_000
"""Sample rate of audio/pcm, the only one the protocol knows."""

REPLY_BYTES_PER_S = WIRE_RATE_HZ * 2

_APPEND_PREFIX = '{"type":"input_audio_buffer.append","audio":"'
_FORMAT = {"type": "audio/pcm", "rate": WIRE_RATE_HZ}
ASKED_MODEL = "gpt-4o-mini-transcribe"
"""Named where a server sends no transcripts unless asked; OpenAI's own is such a server."""


class RealtimeClient(TypedClient):
    """Turns messages into observations, and intentions into messages."""

    protocol = OPENAI_REALTIME

    def __init__(self, *, transcription: bool) -> None:
        self._transcription = transcription
        self._partials: dict[str, str] = {}
        self._sends_no_text = False
        self.readers = {
            "session.created": self._session_created,
            "error": _error,
            "input_audio_buffer.speech_started": _speech_started,
            "input_audio_buffer.committed": _committed,
            "conversation.item.input_audio_transcription.delta": self._delta,
            "conversation.item.input_audio_transcription.completed": self._completed,
            "conversation.item.input_audio_transcription.failed": self._failed,
            "response.created": _response_created,
            "response.output_audio.delta": _audio_delta,
            "response.done": _response_done,
            "rtvc.hypothesis": _hypothesis,
            "rtvc.turn": _turn,
        }

    def opening(self) -> list[Outgoing]:
        heard = {"transcription": {"model": ASKED_MODEL}} if self._sends_no_text else {}
        if self._transcription:
            return [_update("transcription", {"format": _FORMAT, **heard})]
        return [_update("realtime", heard)] if heard else []

    @staticmethod
    def append(pcm16: bytes) -> str:
        return f'{_APPEND_PREFIX}{b64encode(pcm16).decode("ascii")}"}}'

    @staticmethod
    def truncate(item_id: str, audio_end_ms: int) -> str:
        return json.dumps(
            {
                "type": "conversation.item.truncate",
                "item_id": item_id,
                "content_index": 0,
                "audio_end_ms": audio_end_ms,
            }
        )

    def _session_created(self, event: Message, at_s: float) -> Observation:
        session = event["session"]
        session_id = session.get("id")
        self.introduced = True
        audio = session.get("audio")
        heard = audio.get("input") if isinstance(audio, dict) else None
        # A server that says so sends no transcripts unless asked to.
        self._sends_no_text = isinstance(heard, dict) and heard.get("transcription") is None
        return SessionUsable(at_s, session_id if isinstance(session_id, str) else None)

    def _delta(self, event: Message, at_s: float) -> Observation:
        item_id = text_of(event, "item_id")
        text = self._partials.get(item_id, "") + text_of(event, "delta")
        self._partials[item_id] = text
        return PartialText(at_s, item_id, text)

    def _completed(self, event: Message, at_s: float) -> Observation:
        item_id, text = text_of(event, "item_id"), text_of(event, "transcript")
        self._partials.pop(item_id, None)
        return FinalText(at_s, item_id, text)

    def _failed(self, event: Message, at_s: float) -> Observation:
        item_id = text_of(event, "item_id")
        self._partials.pop(item_id, None)
        return FinalFailed(at_s, item_id, _reason(event))


def _update(kind: str, heard: Message) -> str:
    session = {"type": kind, "audio": {"input": heard}}
    return json.dumps({"type": "session.update", "session": session})


def _seconds(event: Message, field_ms: str) -> float:
    value = event[field_ms]
    if isinstance(value, str):
        raise TypeError(field_ms)
    return number_of(value) / 1000


def _reason(event: Message) -> str:
    error = event.get("error")
    if not isinstance(error, dict):
        return "no reason given"
    return str(error.get("message") or error.get("code") or "no reason given")[:200]


def _error(event: Message, at_s: float) -> Observation:
    return ErrorReported(at_s, _reason(event))


def _speech_started(event: Message, at_s: float) -> Observation:
    position_s = _seconds(event, "audio_start_ms") if "audio_start_ms" in event else None
    return SpeechStarted(at_s, text_of(event, "item_id"), position_s)


def _committed(event: Message, at_s: float) -> Observation:
    return ItemCommitted(at_s, text_of(event, "item_id"))


def _hypothesis(event: Message, at_s: float) -> Observation:
    return PartialText(at_s, text_of(event, "item_id"), text_of(event, "text"))


def _response_created(event: Message, at_s: float) -> Observation:
    return ReplyCreated(at_s, text_of(event["response"], "id"))


def _audio_delta(event: Message, at_s: float) -> Observation:
    pcm16 = binascii.a2b_base64(text_of(event, "delta"), strict_mode=True)
    ids = text_of(event, "response_id"), text_of(event, "item_id")
    return ReplyAudio(at_s, *ids, len(pcm16) / REPLY_BYTES_PER_S)


def _response_done(event: Message, at_s: float) -> Observation:
    response = event["response"]
    status, details = text_of(response, "status"), response.get("status_details")
    told = details if isinstance(details, dict) else None
    return ReplyDone(at_s, text_of(response, "id"), status, _lost(status, told))


def _lost(status: str, details: Message | None) -> str | None:
    """Why there is no whole reply; None: there is, or nobody says."""
    if status == "failed":
        return None if details is None else _reason(details)
    reason = (details or {}).get("reason")
    # One that was cut at its longest is an answer.
    if status != "incomplete" or reason == "max_output_tokens":
        return None
    return str(reason or "the reply is incomplete")[:200]


def _segments(event: Message, field: str, *, hidden: bool) -> list[Segment]:
    return [
        Segment(
            text_of(part, "name"), _seconds(part, "start_ms"), _seconds(part, "duration_ms"), hidden
        )
        for part in event.get(field) or []
    ]


def _turn(event: Message, at_s: float) -> Observation:
    response_id = event.get("response_id")
    shown = _segments(event, "segments", hidden=False)
    hidden = _segments(event, "hidden", hidden=True)
    return TurnTimed(
        at_s,
        text_of(event, "item_id"),
        response_id if isinstance(response_id, str) else None,
        text_of(event, "stage"),
        (*shown, *hidden),
        _seconds(event, "last_speech_ms") if "last_speech_ms" in event else None,
        _seconds(event, "received_ms") if "received_ms" in event else None,
    )
