"""The caller's side of WhisperLive's protocol, without a socket or a clock.

    open → options (JSON) → SERVER_READY → float32 audio …      segments ← … ← segments

The server knows stretches of audio, not utterances: every message repeats its last segments, each
with its place in the audio that was sent. A segment that is `completed` will not change; it comes
to be so by being heard the same often enough, never by an end of speech.
"""

import json
from urllib.parse import parse_qs, urlsplit

import numpy as np

from rtvc.loadtest.wire.client import ProtocolClient
from rtvc.loadtest.wire.messages import (
    WHISPERLIVE,
    Message,
    Outgoing,
    number_of,
    text_of,
)
from rtvc.loadtest.wire.observations import (
    ErrorReported,
    Garbage,
    Observation,
    SessionUsable,
    SpansHeard,
    TextSpan,
    TurnedAway,
)

WIRE_RATE_HZ = 16_000
"""Sample rate of what the server takes, the only one it knows."""

END_OF_AUDIO = b"END_OF_AUDIO"

REPEATS = 10
"""Times that its own client asks a text to be repeated before it is final."""

_FULL_SCALE = np.float32(1 / 32768)


class WhisperLiveClient(ProtocolClient):
    """Turns messages into observations, and intentions into messages."""

    protocol = WHISPERLIVE

    def __init__(self, uid: str, url: str = "") -> None:
        """The query of `url` may name `model`, `language` and `same_output_threshold`."""
        self._uid = uid
        self._asked = parse_qs(urlsplit(url).query)
        self._final: set[TextSpan] = set()
        self._shown: TextSpan | None = None

    def greeting(self) -> list[Outgoing]:
        options = {
            "uid": self._uid,
            "language": self._asked.get("language", ["en"])[-1],
            "task": "transcribe",
            "model": self._asked.get("model", ["small"])[-1],
            "use_vad": True,
            "send_last_n_segments": 10,
            "no_speech_thresh": 0.45,
            "clip_audio": False,
            "same_output_threshold": self._repeats(),
        }
        return [json.dumps(options)]

    def _repeats(self) -> int:
        asked = self._asked.get("same_output_threshold", [""])[-1]
        return int(asked) if asked.isdecimal() else REPEATS

    @staticmethod
    def append(pcm16: bytes) -> bytes:
        samples = np.frombuffer(pcm16, "<i2").astype("<f4") * _FULL_SCALE
        return samples.tobytes()

    def goodbye(self) -> list[Outgoing]:
        return [END_OF_AUDIO]

    def read(self, event: Message, at_s: float) -> Observation | None:
        if text_of(event, "uid") != self._uid:
            return Garbage(at_s, "garbage_foreign_session")
        if "status" in event:
            return _status(event, at_s)
        if "segments" in event:
            return self._segments(event, at_s)
        return self._said(event.get("message"), at_s)

    def _said(self, word: object, at_s: float) -> Observation | None:
        if word == "SERVER_READY":
            self.introduced = True
            return SessionUsable(at_s, self._uid)
        if word == "DISCONNECT":
            reason = "the server ended the session (DISCONNECT: its time was up)"
            return TurnedAway(at_s, "lost", "ended_by_message", reason)
        return None

    def _segments(self, event: Message, at_s: float) -> Observation | None:
        spans = [span for segment in event["segments"] for span in _span(segment)]
        fresh = [span for span in spans if span.final and span not in self._final]
        self._final = {span for span in spans if span.final}
        changing = next((span for span in reversed(spans) if not span.final), None)
        if changing is not None and not _same_text(changing, self._shown):
            fresh.append(changing)
        self._shown = changing
        return SpansHeard(at_s, tuple(fresh)) if fresh else None


def _same_text(span: TextSpan, before: TextSpan | None) -> bool:
    return before is not None and span.text.split() == before.text.split()


def _span(segment: Message) -> list[TextSpan]:
    """None where there is no text."""
    text = text_of(segment, "text").strip()
    start_s, end_s = number_of(segment["start"]), number_of(segment["end"])
    final = segment.get("completed") is True
    return [TextSpan(start_s, max(start_s, end_s), text, final)] if text else []


def _status(event: Message, at_s: float) -> Observation:
    """WAIT: the server is full; ERROR: it could not load its model; WARNING: it took another."""
    status, said = text_of(event, "status"), event.get("message")
    if status == "WAIT":
        reason = f"WAIT: the server is full for {number_of(said):.1f} min"
        return TurnedAway(at_s, "refused", "refused_by_message", reason)
    reason = f"{status}: {said}"[:200]
    if status == "ERROR":
        return TurnedAway(at_s, "failed", "ended_by_message", reason)
    return ErrorReported(at_s, reason)
