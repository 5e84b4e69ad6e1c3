"""One call, pure: a simulated speaker, the protocol and the measurement, wired together.

    upgraded(at_s), receive(message, at_s), tick(at_s) → messages to send
    next_pcm16() → audio of the next frame   append(pcm16) → the message that carries it

Instants are seconds since the run's start; the speaker lives in seconds of its own stream.
"""

from collections.abc import Sequence
from typing import Protocol

from rtvc.loadtest.turns.heard import Reply
from rtvc.loadtest.turns.measure import Measurement, Utterance
from rtvc.loadtest.turns.surroundings import SendTimes, with_surroundings
from rtvc.loadtest.wire.client import ProtocolClient
from rtvc.loadtest.wire.messages import Outgoing
from rtvc.loadtest.wire.observations import (
    FinalText,
    Observation,
    PlaybackStopped,
    ReplyAudio,
    ReplyDone,
    SessionUsable,
    SpansHeard,
    SpeechStarted,
    TurnedAway,
    TurnTimed,
)

SILENT_REPLY_S = 10.0
"""A reply that neither ends nor sounds for this long is taken to be over."""

RECENT = 8
"""Utterances of a speaker that can overlap one that has just been told."""


class Microphone(Protocol):
    """What a call needs of a simulated speaker (`rtvc.speech.speaker.Speaker`)."""

    @property
    def utterances(self) -> Sequence[Utterance]: ...
    @property
    def done(self) -> bool: ...
    def begin(self, at_s: float) -> None: ...
    def frame(self, index: int) -> bytes: ...
    def reply_started(self, at_s: float) -> None: ...
    def reply_ended(self, at_s: float) -> None: ...
    def final_received(self, at_s: float) -> None: ...
    def stop(self, at_s: float) -> None: ...


class Mute:
    """Says nothing: for calls that only connect."""

    utterances: Sequence[Utterance] = ()
    done = True

    def begin(self, at_s: float) -> None: ...

    def frame(self, index: int) -> bytes:
        return b""

    def reply_started(self, at_s: float) -> None: ...
    def reply_ended(self, at_s: float) -> None: ...
    def final_received(self, at_s: float) -> None: ...
    def stop(self, at_s: float) -> None: ...


class Call:
    """What one caller says, hears and sends."""

    def __init__(
        self, client: ProtocolClient, microphone: Microphone, measurement: Measurement
    ) -> None:
        self._client = client
        self._microphone = microphone
        self.measurement = measurement
        self._stream_start_s = 0.0
        self._frame = 0
        self._listening: Reply | None = None
        self.session_id: str | None = None
        """As the server named it."""
        self.usable_at_s: float | None = None
        """When the server said that the caller may speak."""
        self.turned_away: TurnedAway | None = None
        """The server said no, or goodbye, in words of its protocol."""
        self._timed: list[TurnTimed] = []
        self._outbox: list[Outgoing] = []
        self._send_times = SendTimes()

    def upgraded(self, at_s: float) -> list[Outgoing]:
        """The WebSocket is open: messages to send."""
        if self._client.usable_at_once:
            self.usable_at_s = at_s
        return self._client.greeting()

    @property
    def understood(self) -> bool:
        """Whether the server has said something in the protocol that is expected of it."""
        return self._client.understood

    def goodbye(self) -> list[Outgoing]:
        """Messages to send before hanging up."""
        return self._client.goodbye()

    def append(self, pcm16: bytes) -> Outgoing:
        """The message that carries a piece of audio; made for this call only."""
        return self._client.append(pcm16)

    def begin(self, stream_start_s: float) -> None:
        """The first sample of frame 0 is spoken now."""
        self._stream_start_s = stream_start_s
        self._microphone.begin(stream_start_s)
        self.measurement.begin(stream_start_s, self._microphone.utterances)

    def next_pcm16(self) -> bytes:
        """Audio of the next frame."""
        pcm16 = self._microphone.frame(self._frame)
        self._frame += 1
        return pcm16

    def sent(self, audio_s: float, at_s: float) -> None:
        """Everything up to `audio_s`, an offset in the stream, has been sent."""
        self._send_times.sent(audio_s, at_s)

    def next_frame(self) -> Outgoing:
        """The message that carries it."""
        return self._client.append(self.next_pcm16())

    def receive(self, message: str | bytes, at_s: float) -> list[Outgoing]:
        """Messages to send in answer."""
        seen = self._client.receive(message, at_s)
        if isinstance(seen, tuple):
            for each in seen:
                self._take(each, at_s)
        elif seen is not None:
            self._take(seen, at_s)
        return self._to_send()

    def _to_send(self) -> list[Outgoing]:
        if not self._outbox:
            return []
        messages, self._outbox = self._outbox, []
        return messages

    def _take(self, seen: Observation, at_s: float) -> None:
        self.measurement.observe(seen)
        match seen:
            case SessionUsable(session_id=session_id):
                self._usable(at_s, session_id)
            case TurnedAway():
                self.turned_away = self.turned_away or seen
            case FinalText():
                self._microphone.final_received(at_s - self._stream_start_s)
            case SpansHeard(spans=spans) if any(span.final for span in spans):
                self._microphone.final_received(at_s - self._stream_start_s)
            case TurnTimed():
                times = self._send_times
                self._timed.append(
                    with_surroundings(seen, self._stream_start_s, times, self.measurement)
                )
            case _:
                self._take_reply(seen, at_s)

    def _take_reply(self, seen: Observation, at_s: float) -> None:
        match seen:
            case SpeechStarted() | PlaybackStopped():
                self._barge_in(at_s)
            case ReplyAudio(response_id=response_id):
                self._hear(response_id, at_s)
            case ReplyDone(response_id=response_id, status=status):
                self._done(response_id, status, at_s)
            case _:
                pass

    def _usable(self, at_s: float, session_id: str | None) -> None:
        if self.usable_at_s is None:
            self.usable_at_s, self.session_id = at_s, session_id
            self._outbox += self._client.opening()

    def _hear(self, response_id: str, at_s: float) -> None:
        reply = self.measurement.replies[response_id]
        if self._listening is reply or reply.playback.stopped_at_s is not None:
            return
        if self._listening is None:
            self._microphone.reply_started(at_s - self._stream_start_s)
            self._outbox += self._client.playing(True)
        self._listening = reply

    def _barge_in(self, at_s: float) -> None:
        reply = self._listening
        if reply is None or reply.item_id is None or not reply.playing_or_coming(at_s):
            return
        heard_ms = round(reply.playback.heard_s(at_s) * 1000)
        reply.playback.stop(at_s)
        self._end_reply(at_s)
        truncate = self._client.truncate(reply.item_id, heard_ms)
        self._outbox += [] if truncate is None else [truncate]

    def _done(self, response_id: str, status: str, at_s: float) -> None:
        silent = self.measurement.replies[response_id].first_audio_at_s is None
        if silent and status != "cancelled":
            # A reply without sound; the conversation goes on.
            self._microphone.reply_ended(at_s - self._stream_start_s)
        self._play_on(at_s)

    def tick(self, at_s: float) -> list[Outgoing]:
        """Call often: the loudspeaker plays on, and the speaker hears the reply end.

        Returns messages to send."""
        self._play_on(at_s)
        return self._to_send()

    def _play_on(self, at_s: float) -> None:
        reply = self._listening
        if reply is None:
            return
        silent_at_s = reply.playback.silent_at_s or at_s
        if at_s < silent_at_s:
            return
        if reply.done_at_s is not None:
            self._end_reply(max(silent_at_s, reply.done_at_s))
        elif at_s > silent_at_s + SILENT_REPLY_S:
            self._end_reply(silent_at_s)

    def _end_reply(self, at_s: float) -> None:
        self._listening = None
        self._microphone.reply_ended(at_s - self._stream_start_s)
        self._outbox += self._client.playing(False)

    def stop(self, at_s: float) -> None:
        """Say no more once the current utterance is over."""
        self._microphone.stop(at_s - self._stream_start_s)

    def finished(self, at_s: float) -> bool:
        """Nothing more to say, and every answer is in or overdue."""
        return self._microphone.done and self.measurement.all_settled(at_s)

    def said(self, from_s: float, until_s: float) -> list[str]:
        """Texts that were being spoken at some time between two instants."""
        start_s, end_s = from_s - self._stream_start_s, until_s - self._stream_start_s
        return [
            u.text
            for u in self._microphone.utterances[-RECENT:]
            if u.speech_start_s < end_s and u.speech_end_s > start_s
        ]

    def drain_timed(self) -> list[TurnTimed]:
        """The server's own accounts of turns since the last call."""
        timed, self._timed = self._timed, []
        return timed
