"""The caller's side of RealtimeSTT's multi-user server, without a socket or a clock.

    open → hello, ready → start → packets …      timeline, realtime, final, status ← …

The server numbers its finals, not its recordings: a second recording that begins before the first
one's final bears the same `segmentId`. So items are recordings here, as `timeline` tells of them,
and a final belongs to the oldest one without: the server transcribes them in order.
"""

import json
import struct
from collections import deque

from rtvc.loadtest.wire.client import Seen, TypedClient
from rtvc.loadtest.wire.messages import (
    REALTIMESTT,
    Message,
    Outgoing,
    text_of,
)
from rtvc.loadtest.wire.observations import (
    ErrorReported,
    FinalFailed,
    FinalText,
    Garbage,
    ItemCommitted,
    Observation,
    PartialText,
    SessionUsable,
    SpeechStarted,
    TurnedAway,
)

WIRE_RATE_HZ = 16_000
"""Hertz; the server takes any rate and makes this of it, packet by packet."""

_LENGTH = struct.Struct("<I")

_NOT_RECORDED = "speaker limit"
"""In the warning about a recording that will not be transcribed."""


class RealtimeSTTClient(TypedClient):
    """Turns messages into observations, and intentions into messages."""

    protocol = REALTIMESTT

    def __init__(self) -> None:
        self._session_id: str | None = None
        self._recordings = 0
        self._latest = ""
        self._waiting: deque[str] = deque()
        self._ignored: set[str] = set()
        self._shown = ""
        self.readers = {
            "hello": self._hello,
            "ready": self._ready,
            "timeline": self._timeline,
            "realtime": self._realtime,
            "final": self._final,
            "error": self._error,
            "warning": self._warning,
        }

    def opening(self) -> list[Outgoing]:
        return ['{"type":"start"}']

    @staticmethod
    def append(pcm16: bytes) -> bytes:
        metadata = json.dumps(
            {
                "sampleRate": WIRE_RATE_HZ,
                "channels": 1,
                "format": "pcm_s16le",
                "frames": len(pcm16) // 2,
            }
        ).encode()
        return _LENGTH.pack(len(metadata)) + metadata + pcm16

    def read(self, event: Message, at_s: float) -> Seen:
        if self._is_foreign(event):
            return Garbage(at_s, "garbage_foreign_session")
        return super().read(event, at_s)

    def _is_foreign(self, event: Message) -> bool:
        if self._session_id is None or "sessionId" not in event:
            return False
        return text_of(event, "sessionId") != self._session_id

    def _hello(self, event: Message, at_s: float) -> None:
        del at_s
        self._session_id = text_of(event, "sessionId")
        self.understood = True

    def _ready(self, event: Message, at_s: float) -> Observation:
        if event.get("ok") is False:
            reason = "the server is ready and says that it is not well"
            return TurnedAway(at_s, "failed", "ended_by_message", reason)
        self.introduced = True
        return SessionUsable(at_s, self._session_id)

    def _timeline(self, event: Message, at_s: float) -> Observation | None:
        happened = text_of(event, "event")
        if happened == "recording_started":
            return SpeechStarted(at_s, self._new_recording(), None)
        if happened == "recording_ended" and self._latest:
            return ItemCommitted(at_s, self._latest)
        return None

    def _new_recording(self) -> str:
        self._latest = f"recording-{self._recordings}"
        self._recordings += 1
        self._waiting.append(self._latest)
        self._shown = ""
        return self._latest

    def _realtime(self, event: Message, at_s: float) -> Observation | None:
        text = text_of(event, "text").strip()
        if text == self._shown:
            return None
        item_id = self._latest or self._new_recording()
        self._shown = text
        return PartialText(at_s, item_id, text)

    def _final(self, event: Message, at_s: float) -> Observation:
        text = text_of(event, "text")
        return FinalText(at_s, self._answered(), text)

    def _answered(self) -> str:
        """The recording that has been waiting longest; one that was never told of, if none is."""
        if not self._waiting:
            self._new_recording()
        return self._waiting.popleft()

    def _error(self, event: Message, at_s: float) -> Observation:
        where, reason = event.get("where"), _reason(event)
        if where == "admission":
            return TurnedAway(at_s, "refused", "refused_by_message", reason)
        if where != "final":
            return ErrorReported(at_s, reason)
        item_id = self._answered()
        ignored = item_id in self._ignored
        self._ignored.discard(item_id)
        if event.get("code") == "empty_final" and not ignored:
            return FinalText(at_s, item_id, "")
        return FinalFailed(at_s, item_id, reason)

    def _warning(self, event: Message, at_s: float) -> Observation:
        reason = _reason(event)
        if _NOT_RECORDED in reason:
            self._ignored.add(self._new_recording())
        return ErrorReported(at_s, reason)


def _reason(event: Message) -> str:
    return str(event.get("message") or event.get("code") or "no reason given")[:200]
