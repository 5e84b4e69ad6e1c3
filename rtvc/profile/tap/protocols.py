"""What three protocols' messages mean for a turn: a reader each, and which one it is. Pure."""

import binascii
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtvc.audio import FloatArray, alaw_decode, pcm16_to_float, ulaw_decode
from rtvc.errors import AudioError, ProtocolError
from rtvc.profile.tap.speech import SpeechLevel
from rtvc.profile.tap.turns import GRACE_S, Turn, Turns
from rtvc.profile.tap.wire import Message
from rtvc.protocol.realtimevoicechat import (
    ASSUMED_RATE_HZ,
    REPLY_RATE_HZ,
    SampleRateFinder,
    decode_packet,
    parse_server_message,
)
from rtvc.protocol.validation import read_object

OPENAI_REALTIME = "openai-realtime"
REALTIMEVOICECHAT = "realtimevoicechat"
WHISPERLIVE = "whisperlive"
PROTOCOLS = (OPENAI_REALTIME, REALTIMEVOICECHAT, WHISPERLIVE)

TRY_AGAIN_LATER = 1013

Handler = Callable[[float, dict[str, Any]], None]


class ProtocolReader(ABC):
    """One connection's messages, as they pass; `turns` is what comes of them."""

    protocol = ""
    replies = True
    grace_s = GRACE_S

    def __init__(self, connection: int, *, keep_text: bool = False) -> None:
        self.speech = SpeechLevel()
        self.turns = Turns(
            connection,
            self.protocol,
            self.speech,
            replies=self.replies,
            keep_text=keep_text,
            grace_s=self.grace_s,
        )
        self.usable_at_s: float | None = None
        """When the server said that it listens; None: it did not, or the protocol has no word."""
        self.refusal: str | None = None
        """Why the server would not have the caller; None: it did not say so."""

    def from_client(self, at_s: float, message: Message) -> list[Turn]:
        """The client's message passed; turns that are over now.

        Raises:
            ProtocolError, AudioError: it does not keep to the protocol.
        """
        self._hear_client(at_s, message)
        return self.turns.settled(at_s)

    def from_server(self, at_s: float, message: Message) -> list[Turn]:
        """The server's message passed; the rest as in `from_client`."""
        self._hear_server(at_s, message)
        return self.turns.settled(at_s)

    @abstractmethod
    def _hear_client(self, at_s: float, message: Message) -> None:
        """What the client says is taken in."""

    @abstractmethod
    def _hear_server(self, at_s: float, message: Message) -> None:
        """What the server says is taken in."""


def _found(value: object, *path: str) -> Any:
    """The value at a path of names; None where it is interrupted."""
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _text(value: object, *path: str) -> str:
    found = _found(value, *path)
    return found if isinstance(found, str) else ""


def _number(value: object, *path: str) -> float | None:
    found = _found(value, *path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        return float(found)
    except OverflowError:
        return None


def _decoded_bytes(base64: str) -> int:
    """Bytes that a text in base64 holds.

    >>> _decoded_bytes("AAAA"), _decoded_bytes("AAA="), _decoded_bytes("")
    (3, 2, 0)
    """
    return len(base64) * 3 // 4 - base64[-2:].count("=")


@dataclass(frozen=True, slots=True)
class _Format:
    """How audio is written in a session."""

    rate_hz: int
    """Hertz."""
    sample_bytes: int
    """Bytes a sample."""
    decode: Callable[[bytes], FloatArray]
    """Bytes to samples."""


_PCM = _Format(24_000, 2, pcm16_to_float)
_FORMATS = {
    "audio/pcm": _PCM,
    "pcm16": _PCM,
    "audio/pcmu": _Format(8_000, 1, ulaw_decode),
    "g711_ulaw": _Format(8_000, 1, ulaw_decode),
    "audio/pcma": _Format(8_000, 1, alaw_decode),
    "g711_alaw": _Format(8_000, 1, alaw_decode),
}


def _format(session: object, side: str) -> _Format:
    """Of "input" or "output", in today's words or in the beta's."""
    name = _text(session, "audio", side, "format", "type")
    return _FORMATS.get(name or _text(session, f"{side}_audio_format"), _PCM)


class RealtimeReader(ProtocolReader):
    """OpenAI Realtime, today's event names and the beta's."""

    protocol = OPENAI_REALTIME

    def __init__(self, connection: int, *, keep_text: bool = False) -> None:
        super().__init__(connection, keep_text=keep_text)
        self._input = self._output = _PCM
        self._stopped_s: dict[str, float] = {}
        self._committed_s: float | None = None
        transcription = "conversation.item.input_audio_transcription"
        self._of_client: dict[str, Handler] = {
            "input_audio_buffer.append": self._audio,
            "input_audio_buffer.commit": self._client_commit,
            "conversation.item.truncate": self._cut,
            "response.cancel": self._cut,
        }
        self._of_server: dict[str, Handler] = {
            "session.created": self._session,
            "session.updated": self._session,
            "input_audio_buffer.speech_started": self._speech_started,
            "input_audio_buffer.speech_stopped": self._speech_stopped,
            "input_audio_buffer.committed": self._committed,
            f"{transcription}.delta": self._partial,
            "rtvc.hypothesis": self._partial,
            f"{transcription}.completed": self._final,
            f"{transcription}.failed": self._failed,
            "response.created": self._reply_begun,
            "response.output_audio.delta": self._reply_audio,
            "response.audio.delta": self._reply_audio,
            "response.done": self._reply_done,
        }

    def _hear_client(self, at_s: float, message: Message) -> None:
        self._dispatch(self._of_client, at_s, message)

    def _hear_server(self, at_s: float, message: Message) -> None:
        self._dispatch(self._of_server, at_s, message)

    def _dispatch(self, handlers: dict[str, Handler], at_s: float, message: Message) -> None:
        if message.kind != "text":
            return
        event = read_object(message.data)
        handler = handlers.get(_text(event, "type"))
        if handler is not None:
            handler(at_s, event)

    # The client's.

    def _audio(self, at_s: float, event: dict[str, Any]) -> None:
        try:
            data = binascii.a2b_base64(_text(event, "audio"))
        except ValueError as error:
            raise ProtocolError(f"expected base64, got something else: {error}") from None
        self.speech.feed(at_s, self._input.decode(data), self._input.rate_hz)

    def _client_commit(self, at_s: float, event: dict[str, Any]) -> None:
        self._committed_s = self.speech.position_s

    def _cut(self, at_s: float, event: dict[str, Any]) -> None:
        self.turns.stop_sign(at_s, certain=True)

    # The server's.

    def _session(self, at_s: float, event: dict[str, Any]) -> None:
        session = event.get("session")
        if self.usable_at_s is None:
            self.usable_at_s = at_s
        self._input, self._output = _format(session, "input"), _format(session, "output")
        self.turns.replies = _text(session, "type") != "transcription"

    def _speech_started(self, at_s: float, event: dict[str, Any]) -> None:
        start_ms = _number(event, "audio_start_ms")
        self.turns.begin(_text(event, "item_id"), None if start_ms is None else start_ms / 1000)
        self.turns.stop_sign(at_s, certain=False)

    def _speech_stopped(self, at_s: float, event: dict[str, Any]) -> None:
        end_ms = _number(event, "audio_end_ms")
        if end_ms is not None:
            # One stop a commit: an older one belongs to an item that never was.
            self._stopped_s = {_text(event, "item_id"): end_ms / 1000}

    def _committed(self, at_s: float, event: dict[str, Any]) -> None:
        item_id = _text(event, "item_id")
        by_client, self._committed_s = self._committed_s, None
        until_s = self._stopped_s.pop(item_id, by_client)
        self.turns.take(item_id, at_s, until_s, by_client=by_client is not None)

    def _partial(self, at_s: float, event: dict[str, Any]) -> None:
        if _text(event, "delta").strip() or _text(event, "text").strip():
            self.turns.show(_text(event, "item_id"), at_s)

    def _final(self, at_s: float, event: dict[str, Any]) -> None:
        self.turns.finish(_text(event, "item_id"), at_s, _text(event, "transcript"))

    def _failed(self, at_s: float, event: dict[str, Any]) -> None:
        self.turns.fail(_text(event, "item_id"))

    def _reply_begun(self, at_s: float, event: dict[str, Any]) -> None:
        self.turns.reply_begun(at_s)

    def _reply_audio(self, at_s: float, event: dict[str, Any]) -> None:
        samples = _decoded_bytes(_text(event, "delta")) / self._output.sample_bytes
        self.turns.reply_heard(at_s, samples / self._output.rate_hz)

    def _reply_done(self, at_s: float, event: dict[str, Any]) -> None:
        if _text(event, "response", "status") == "cancelled":
            self.turns.stop_sign(at_s, certain=True)
        self.turns.reply_over(at_s)


class RealtimeVoiceChatReader(ProtocolReader):
    """RealtimeVoiceChat at /ws; it has no word for "ready"."""

    protocol = REALTIMEVOICECHAT

    def __init__(self, connection: int, *, keep_text: bool = False) -> None:
        super().__init__(connection, keep_text=keep_text)
        self._finder = SampleRateFinder()
        self._number = 0

    def _hear_client(self, at_s: float, message: Message) -> None:
        if message.kind != "binary":
            return
        packet = decode_packet(message.data)
        rate_hz = self._finder.feed(packet.timestamp_ms, packet.samples) or ASSUMED_RATE_HZ
        self.speech.feed(at_s, pcm16_to_float(packet.pcm), rate_hz)

    def _hear_server(self, at_s: float, message: Message) -> None:
        said = parse_server_message(message.data) if message.kind == "text" else None
        if said is None:
            return
        key = str(self._number)
        match said.type:
            case "partial_user_request":
                if said.content.strip():
                    self.turns.show(key, at_s)
            case "final_user_request":
                self.turns.finish(key, at_s, said.content)
                self._number += 1
            case "tts_chunk":
                self.turns.reply_heard(at_s, _decoded_bytes(said.content) / 2 / REPLY_RATE_HZ)
            case "final_assistant_answer":
                self.turns.reply_over(at_s)
            case "stop_tts":
                self.turns.stop_sign(at_s, certain=True)
                self.turns.reply_over(at_s)
            case _:
                pass


@dataclass(slots=True)
class _Spoken:
    """A stretch of speech in WhisperLive, which knows segments only."""

    key: str
    """Of its turn."""
    start_s: float
    """Position in the audio."""
    end_s: float
    """Position of the end of its last speech so far."""
    over: bool = False
    """Silence has followed."""
    final_at_s: float | None = None
    """When everything up to its end had become final; None so far."""
    text: str = ""
    """The final segments, joined."""


_SAMPLES: dict[str, Callable[[bytes], FloatArray]] = {
    "float32": lambda data: np.frombuffer(data, "<f4").astype(np.float32),
    "int16": pcm16_to_float,
    "uint8": lambda data: (np.frombuffer(data, np.uint8) / 128 - 1).astype(np.float32),
}


class WhisperLiveReader(ProtocolReader):
    """WhisperLive: no turns, no replies; a stretch of speech between silences counts as a turn."""

    protocol = WHISPERLIVE
    replies = False
    grace_s = 30.0  # a segment is final after up to ten identical readings of a second each

    RATE_HZ = 16_000
    SILENCE_S = 0.8
    """So much silence ends a stretch."""
    SLACK_S = 0.1
    """How far a segment's bounds may reach over without belonging to it."""
    COVER_S = 1.0
    """How far before the last speech the last final segment of it may end."""
    END_OF_AUDIO = b"END_OF_AUDIO"
    MOST_WAITING = 8

    def __init__(self, connection: int, *, keep_text: bool = False) -> None:
        super().__init__(connection, keep_text=keep_text)
        self._format = "float32"
        self._spoken: list[_Spoken] = []
        self._heard_s = 0.0
        self._number = 0

    def _hear_client(self, at_s: float, message: Message) -> None:
        if message.kind == "text":
            self._format = _text(read_object(message.data), "audio_format") or "float32"
        elif message.kind == "binary" and message.data != self.END_OF_AUDIO:
            self.speech.feed(at_s, self._samples(message.data), self.RATE_HZ)
            self._follow(at_s)

    def _samples(self, data: bytes) -> FloatArray:
        decode = _SAMPLES.get(self._format)
        if decode is None:
            raise AudioError(f"expected float32, int16 or uint8, got {self._format!r}")
        if self._format == "float32" and len(data) % 4:
            raise AudioError(f"expected whole 32-bit samples, got {len(data)} bytes")
        return np.nan_to_num(decode(data))

    def _follow(self, at_s: float) -> None:
        """The microphone went on: speech begins, goes on, or is over."""
        newest = self.speech.last()
        if newest is None:
            return
        current = self._spoken[-1] if self._spoken and not self._spoken[-1].over else None
        if newest.end_s > self._heard_s:
            self._heard_s = newest.end_s
            if current is None:
                current = self._begin(newest.start_s)
            current.end_s = newest.end_s
            current.final_at_s = None
        silence_s = self.speech.position_s - self._heard_s
        if current is not None and silence_s >= self.SILENCE_S:
            current.over = True
            self.turns.take(current.key, at_s, current.end_s)
            self._tell(current)

    def _begin(self, start_s: float) -> _Spoken:
        current = _Spoken(str(self._number), start_s, start_s)
        self._number += 1
        self._spoken = [*self._spoken[-self.MOST_WAITING :], current]
        self.turns.begin(current.key)
        return current

    def _hear_server(self, at_s: float, message: Message) -> None:
        if message.kind != "text":
            return
        said = read_object(message.data)
        if said.get("message") == "SERVER_READY":
            self.usable_at_s = at_s
        elif said.get("status") in ("WAIT", "ERROR"):
            self.refusal = str(said["status"])
        segments = said.get("segments")
        if isinstance(segments, list) and segments:
            self._segments(at_s, [_segment(segment) for segment in segments])

    def _segments(self, at_s: float, segments: "list[_Segment]") -> None:
        if self._spoken and any(s.text.strip() and not s.completed for s in segments):
            self.turns.show(self._spoken[-1].key, at_s)
        for spoken in self._spoken:
            if not self._is_final(spoken, segments):
                spoken.final_at_s = None
            elif spoken.final_at_s is None:
                spoken.final_at_s = at_s
                spoken.text = " ".join(s.text.strip() for s in segments if self._is_in(spoken, s))
        for spoken in [s for s in self._spoken if s.over]:
            self._tell(spoken)

    def _is_in(self, spoken: _Spoken, segment: "_Segment") -> bool:
        return segment.end_s > spoken.start_s and segment.start_s < spoken.end_s - self.SLACK_S

    def _is_final(self, spoken: _Spoken, segments: "list[_Segment]") -> bool:
        """Its segments are complete, and reach to its end."""
        own = [segment for segment in segments if self._is_in(spoken, segment)]
        reach_s = max((segment.end_s for segment in own), default=0.0)
        covered = bool(own) and reach_s >= spoken.end_s - self.COVER_S
        return covered and all(segment.completed for segment in own)

    def _tell(self, spoken: _Spoken) -> None:
        """A final that came while it was not clear that the speech was over counts from then."""
        if spoken.final_at_s is not None:
            self.turns.finish(spoken.key, spoken.final_at_s, spoken.text)
            self._spoken.remove(spoken)


@dataclass(frozen=True, slots=True)
class _Segment:
    """A piece of WhisperLive's text."""

    start_s: float
    """Position in the audio."""
    end_s: float
    """Position in the audio."""
    text: str
    """What was heard."""
    completed: bool
    """Whether it will not change."""


def _segment(wire: object) -> _Segment:
    try:
        start_s, end_s = float(_found(wire, "start")), float(_found(wire, "end"))
    except (TypeError, ValueError, OverflowError):
        raise ProtocolError("expected a segment with start and end, got none") from None
    return _Segment(start_s, end_s, _text(wire, "text"), _found(wire, "completed") is True)


READERS: dict[str, type[ProtocolReader]] = {
    OPENAI_REALTIME: RealtimeReader,
    REALTIMEVOICECHAT: RealtimeVoiceChatReader,
    WHISPERLIVE: WhisperLiveReader,
}

_REALTIME_PREFIXES = ("session.", "input_audio_buffer.", "conversation.", "response.")
_VOICECHAT_TYPES = frozenset(
    {"tts_start", "tts_stop", "clear_history", "set_speed", "partial_user_request"}
    | {"final_user_request", "tts_chunk", "stop_tts", "tts_interruption"}
)


def protocol_of(path: str, message: Message) -> str | None:
    """The protocol of a connection by its first messages, then by its path; None: unknown yet.

    >>> protocol_of("/ws", Message("text", b'{"uid": "1", "model": "small"}'))
    'whisperlive'
    >>> protocol_of("/ws", Message("binary", bytes(4104)))
    'realtimevoicechat'
    >>> protocol_of("/", Message("binary", bytes(4104)))
    """
    return _by_message(message) or _by_path(path)


def _by_message(message: Message) -> str | None:
    if message.kind != "text":
        return None
    try:
        said = read_object(message.data)
    except ProtocolError:
        return None
    kind = _text(said, "type")
    if kind.startswith(_REALTIME_PREFIXES):
        return OPENAI_REALTIME
    if kind in _VOICECHAT_TYPES:
        return REALTIMEVOICECHAT
    return WHISPERLIVE if "uid" in said else None


def _by_path(path: str) -> str | None:
    bare = path.partition("?")[0].rstrip("/")
    if bare.endswith("/realtime"):
        return OPENAI_REALTIME
    return REALTIMEVOICECHAT if bare.endswith("/ws") else None
