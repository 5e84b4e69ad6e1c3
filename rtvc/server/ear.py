"""Hearing, off the event loop: wire audio → 16 kHz → 32 ms frames → speech or not.

One `Ear` per session; its calls come one at a time, on a thread of the server's pool.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtvc.audio import Resampler
from rtvc.voice.echo import EchoGuard
from rtvc.voice.session import SAMPLE_RATE_HZ, Frame
from rtvc.voice.vad import FRAME_SAMPLES, VoiceActivityDetector

_ECHO_WINDOW_SAMPLES = round(0.3 * SAMPLE_RATE_HZ)
_ECHO_PROBABILITY = 0.35
"""Frames below this can't be speech, so the echo test is spared."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Microphone audio as it came off the wire."""

    data: bytes
    """Encoded as the session's input format says."""
    seconds: float
    """Its length."""
    arrived_at_s: float
    """When its message was read."""


class _Piece(NamedTuple):
    """What came out of the resampler when a chunk went in."""

    audio: NDArray[np.float32]
    """16 kHz mono, shape (samples,)."""
    arrived_at_s: float
    """When the chunk's message was read."""
    received_s: float
    """Seconds of the session's audio that had arrived with it."""


class Ear:
    """One session's hearing: decoding, resampling, VAD and the echo test."""

    def __init__(
        self,
        vad: VoiceActivityDetector,
        *,
        decode: Callable[[bytes], NDArray[np.float32]],
        rate_hz: int,
    ) -> None:
        self._vad = vad
        self._decode = decode
        self._resampler = Resampler(rate_hz, SAMPLE_RATE_HZ)
        self._pending = np.zeros(0, np.float32)
        self._recent = np.zeros(0, np.float32)
        self._echo = EchoGuard()
        self._echo_lock = threading.Lock()
        self.echo_frames = 0
        """Frames that sounded like speech and were only the reply's echo."""
        self.in_utterance = False
        """Set by the listener: whether an utterance is going on."""
        self._replied = False
        self._reply_at_s = float("-inf")
        self._received_s = 0.0

    def change_input(self, decode: Callable[[bytes], NDArray[np.float32]], rate_hz: int) -> None:
        """From now on audio comes in another format; what was heard stays heard."""
        self._pending = np.concatenate([self._pending, self._resampler.flush()])
        self._decode = decode
        self._resampler = Resampler(rate_hz, SAMPLE_RATE_HZ)

    def reply_audio(self, audio: NDArray[np.float32], now_s: float) -> None:
        """16 kHz reply audio that was just sent; it plays after what was sent before."""
        self._replied = True
        self._reply_at_s = now_s
        with self._echo_lock:
            self._echo.reply_audio(audio, now_s)

    def replied_since(self, instant_s: float) -> bool:
        """Whether reply audio was sent since then."""
        return self._reply_at_s >= instant_s

    def reply_flushed(self, now_s: float) -> None:
        """The client stopped playing."""
        with self._echo_lock:
            self._echo.flush(now_s)

    def reply_playing(self, now_s: float) -> bool:
        """Whether the client is, by what was sent, still playing a reply."""
        if not self._replied:
            return False
        with self._echo_lock:
            return self._echo.playing(now_s)

    def reply_audible(self, now_s: float) -> bool:
        """Whether a reply plays, or its echo may still be on its way."""
        if not self._replied:
            return False
        with self._echo_lock:
            return self._echo.playing(now_s) or self._echo.remembered_s > 0

    def hear(self, chunks: Sequence[Chunk]) -> list[Frame]:
        """Judge what arrived (at least one chunk); what does not fill a frame waits.

        Raises:
            AudioError: a chunk that its format can't be read as.
        """
        return self._judge([self._receive(chunk) for chunk in chunks])

    def _receive(self, chunk: Chunk) -> _Piece:
        self._received_s += chunk.seconds
        audio = self._resampler.feed(self._decode(chunk.data))
        return _Piece(audio, chunk.arrived_at_s, self._received_s)

    def flush(self, now_s: float) -> list[Frame]:
        """Everything still held back, for a commit: the last frame may be short."""
        frames = self._judge([_Piece(self._resampler.flush(), now_s, self._received_s)])
        if len(self._pending):
            frames.append(Frame(self._pending, 0.0, now_s, self._received_s))
            self._pending = np.zeros(0, np.float32)
        return frames

    def _judge(self, heard: Sequence[_Piece]) -> list[Frame]:
        """Frames of what waited and what was heard, each arrived when its last sample did."""
        pieces = [self._pending, *(piece.audio for piece in heard)]
        audio = np.concatenate(pieces)
        count = len(audio) // FRAME_SAMPLES
        # A copy, or a few samples would keep all that was heard with them in memory.
        self._pending = audio[count * FRAME_SAMPLES :].copy()
        windows = audio[: count * FRAME_SAMPLES].reshape(count, FRAME_SAMPLES)
        piece_ends = np.cumsum([len(piece) for piece in pieces])
        frame_ends = FRAME_SAMPLES * np.arange(1, count + 1)
        # What waited did not fill a frame, unless a change of format added to it.
        last_heard = np.maximum(np.searchsorted(piece_ends, frame_ends) - 1, 0)
        judged = zip(windows, self._vad.probabilities(windows), last_heard, strict=True)
        return [self._frame(window, speech, heard[last]) for window, speech, last in judged]

    def _frame(self, audio: NDArray[np.float32], speech: float, last: _Piece) -> Frame:
        self._recent = np.concatenate([self._recent, audio])[-_ECHO_WINDOW_SAMPLES:]
        if self._replied and speech >= _ECHO_PROBABILITY and self._is_echo(last.arrived_at_s):
            self.echo_frames += 1
            speech = 0.0
        return Frame(audio, speech, last.arrived_at_s, last.received_s)

    def _is_echo(self, ends_at_s: float) -> bool:
        """An echo outlasts the reply by the delay of its way; the guard remembers for so long.

        Within an utterance only what plays now can be heard: a person who has stopped a reply is
        not measured against it any more.
        """
        with self._echo_lock:
            if self.in_utterance and not self._echo.playing(ends_at_s):
                return False
            return self._echo.is_echo(self._recent, ends_at_s)
