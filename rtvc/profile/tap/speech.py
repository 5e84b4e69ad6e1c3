"""Where speech lies in a client's audio, judged by level alone: a tap has no model to spare.

The rule is that by which `rtvc.speech.corpus` finds the bounds of recordings, on a running window:
a frame of 20 ms is loud if it lies within 25 dB of the loud frames of the last 10 s and 8 dB above
the quiet ones (at most 12 dB below the loud ones), and never below −55 dBFS. A lone loud frame is
a click, two in a row are speech.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rtvc.audio import FloatArray

FRAME_S = 0.02
WINDOW_FRAMES = 500
JUDGE_EVERY_FRAMES = 10
KEPT_FRAMES = 6000
LEAST_DB = -55.0
FIRST_DB = -40.0
"""Before there is anything to compare with."""
SHORT_FRAMES = 150
MOST_QUIET_DB = -40.0
"""In a window that short there may have been no pause yet: what is louder is not held for one."""
_QUIET_PERCENTILE, _LOUD_PERCENTILE = 5, 98


@dataclass(frozen=True, slots=True)
class LoudFrame:
    """20 ms of speech."""

    start_s: float
    """Seconds of audio before it."""
    end_s: float
    """Seconds of audio up to its end."""
    at_s: float
    """Instant at which its last sample was spoken, as far as the packets tell."""


def threshold_db(levels_db: Iterable[float]) -> float:
    """dBFS: what counts as loud after these levels.

    >>> threshold_db([-100.0] * 400 + [-20.0] * 100), threshold_db([-60.0] * 500)
    (-45.0, -52.0)
    >>> threshold_db([-20.0] * 50)
    -32.0
    """
    levels = list(levels_db)
    quiet, loud = np.percentile(levels, [_QUIET_PERCENTILE, _LOUD_PERCENTILE])
    if len(levels) < SHORT_FRAMES:
        quiet = min(quiet, MOST_QUIET_DB)
    loud = max(loud, quiet + 20)
    return float(max(loud - 25, min(quiet + 8, loud - 12), LEAST_DB))


class SpeechLevel:
    """The microphone of one client, followed message by message."""

    def __init__(self) -> None:
        self.position_s = 0.0
        """Seconds of audio heard."""
        self.loud: deque[LoudFrame] = deque(maxlen=KEPT_FRAMES)
        """Frames of speech, oldest first."""
        self._rest: FloatArray = np.zeros(0, np.float32)
        self._rate_hz = 0
        self._levels_db: deque[float] = deque(maxlen=WINDOW_FRAMES)
        self._frames = 0
        self._threshold_db = FIRST_DB
        self._before: LoudFrame | None = None
        self._earlier_at_s = -np.inf

    def feed(self, at_s: float, samples: FloatArray, rate_hz: int) -> None:
        """Audio in a message that came at `at_s`: its last sample had been spoken just then.

        The others were spoken before, at the audio's own pace, but not before the message that
        came ahead of it: audio that is sent faster than it is spoken counts as spoken when sent.
        """
        if rate_hz != self._rate_hz:
            self._rate_hz, self._rest = rate_hz, np.zeros(0, np.float32)
        begin_s = self.position_s - len(self._rest) / rate_hz
        self.position_s += len(samples) / rate_hz
        size = round(rate_hz * FRAME_S)
        whole = np.concatenate([self._rest, samples])
        count = len(whole) // size
        self._rest = whole[count * size :]
        for number, level_db in enumerate(_levels_db(whole[: count * size].reshape(-1, size))):
            start_s = begin_s + number * size / rate_hz
            end_s = start_s + size / rate_hz
            spoken_at_s = max(self._earlier_at_s, at_s - (self.position_s - end_s))
            self._judge(level_db, LoudFrame(start_s, end_s, spoken_at_s))
        self._earlier_at_s = at_s

    def _judge(self, level_db: float, frame: LoudFrame) -> None:
        self._levels_db.append(level_db)
        self._frames += 1
        if self._frames % JUDGE_EVERY_FRAMES == 0:
            self._threshold_db = threshold_db(self._levels_db)
        if level_db < self._threshold_db:
            self._before = None
            return
        if self._before is not None:
            if not self.loud or self.loud[-1] is not self._before:
                self.loud.append(self._before)
            self.loud.append(frame)
        self._before = frame

    def last(self, until_s: float | None = None) -> LoudFrame | None:
        """The last frame of speech, of those that begin before a position in the audio."""
        before = (f for f in reversed(self.loud) if until_s is None or f.start_s < until_s)
        return next(before, None)

    def onset(self, end: LoudFrame, from_s: float, gap_s: float | None) -> LoudFrame:
        """Where the speech began that ended with `end`: behind a position, and, where a gap is
        given, behind the last silence that was longer."""
        first = end
        for frame in reversed(self.loud):
            if frame.start_s >= end.end_s:
                continue
            if frame.end_s <= from_s:
                break
            if gap_s is not None and first.start_s - frame.end_s > gap_s:
                break
            first = frame
        return first


def _levels_db(frames: FloatArray) -> list[float]:
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    levels: list[float] = (10 * np.log10(power + 1e-10)).tolist()
    return levels
