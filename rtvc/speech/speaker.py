"""What a simulated speaker does when: a pure microphone.

    frame(0), frame(1), …      silence or speech, sample-exact; frame i is due at (i + 1) × frame_s
    reply_started(at_s) …      what the speaker hears, in seconds of the same stream

Stream time 0 is the first sample of frame 0. Nothing here waits, sends or looks at a clock.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rtvc.audio import float_to_int16, resample, rms
from rtvc.errors import AudioError, UsageError
from rtvc.speech.corpus import Clip
from rtvc.speech.scenario import Scenario

__all__ = [
    "SPEECH_LEVEL_DBFS",
    "PreparedClip",
    "Scenario",
    "SilentSpeaker",
    "Speaker",
    "SpokenUtterance",
    "prepare",
]

SPEECH_LEVEL_DBFS = -26.0
"""RMS level of speech that a microphone is set up for (as telephony tests have it)."""

_LOUDEST = 0.89  # -1 dBFS


@dataclass(frozen=True, slots=True, eq=False)
class PreparedClip:
    """A clip as it goes over the wire."""

    clip: Clip
    """What is said, and the truth about it."""
    rate_hz: int
    """Hertz of `pcm16`."""
    pcm16: NDArray[np.int16] = field(repr=False)
    """16-bit samples, shape (samples,), at least one."""
    _cut: dict[int, tuple[bytes, ...]] = field(default_factory=dict, repr=False)
    """Frames by their length in samples."""

    def frames(self, samples: int) -> tuple[bytes, ...]:
        """Cut into frames of so many samples, the last one filled up with silence; made once."""
        if samples not in self._cut:
            padded = np.zeros(-(-len(self.pcm16) // samples) * samples, dtype="<i2")
            padded[: len(self.pcm16)] = self.pcm16
            rows = padded.reshape(-1, samples)
            self._cut[samples] = tuple(row.tobytes() for row in rows)
        return self._cut[samples]


def prepare(
    clip: Clip, rate_hz: int, speech_level_dbfs: float | None = SPEECH_LEVEL_DBFS
) -> PreparedClip:
    """The clip at the wire's rate and a speaking level; a level of None leaves it as it is.

    Raises:
        AudioError: the clip has no samples.
    """
    if not len(clip.audio):
        raise AudioError(f"expected samples in clip {clip.clip_id}, got none")
    audio = resample(clip.audio, clip.rate_hz, rate_hz)
    if speech_level_dbfs is not None:
        start, end = (round(t * clip.rate_hz) for t in (clip.speech_start_s, clip.speech_end_s))
        gain = 10 ** (speech_level_dbfs / 20) / max(rms(clip.audio[start:end]), 1e-6)
        audio = audio * np.float32(min(gain, _LOUDEST / max(float(np.abs(audio).max()), 1e-6)))
    return PreparedClip(clip, rate_hz, float_to_int16(audio))


Kind = Literal["utterance", "interruption"]


@dataclass(slots=True, eq=False)
class SpokenUtterance:
    """One clip as it was, or is being, spoken; times in seconds of the stream.

    What lies at offset `a` of the clip has been spoken at `start_s + a`.
    """

    index: int
    """Its place in the speaker's `utterances`."""
    clip: Clip
    """What is said."""
    kind: Kind
    """"interruption" if it began while a reply played and was meant to."""
    start_s: float
    """The clip's first sample."""
    complete: bool = False
    """Whether the clip's last sample has left the microphone."""

    @property
    def text(self) -> str:
        return self.clip.text

    @property
    def voice(self) -> str:
        return self.clip.voice

    @property
    def speech_start_s(self) -> float:
        return self.start_s + self.clip.speech_start_s

    @property
    def first_word_end_s(self) -> float:
        return self.start_s + self.clip.first_word_end_s

    @property
    def speech_end_s(self) -> float:
        return self.start_s + self.clip.speech_end_s

    @property
    def word_ends_s(self) -> tuple[float, ...] | None:
        """When each word has been spoken; None for recordings."""
        if self.clip.words is None:
            return None
        return tuple(self.start_s + word.end_s for word in self.clip.words)


class _State(Enum):
    PAUSING = "speaks when the time has come"
    SPEAKING = "in the middle of a clip"
    AWAITING = "hopes for a reply; speaks again when none came in time"
    LISTENING = "hears a reply; speaks again after it, or into it"
    SILENT = "has nothing more to say"


class Speaker:
    """One simulated speaker; its clips are spoken in turn, again and again.

    Where the scenario waits for replies, the next utterance comes a moment after the reply has
    been heard to its end, or when no reply came in time; else after a pause. Speech never starts
    before what `frame` has already given out, and once begun it is never cut off.
    """

    def __init__(
        self,
        clips: Sequence[PreparedClip],
        scenario: Scenario,
        rng: random.Random,
        rate_hz: int,
        frame_s: float = 0.02,
        *,
        aligned: bool = False,
        end_offset_s: float = 0.0,
        floor: Sequence[bytes] = (),
    ) -> None:
        """Where `aligned`, clips begin with a frame, so that their frames are cut only once.

        Where turns end together, this speaker's end `end_offset_s` later. `floor` is what the
        microphone hears while nothing is said, frame by frame, again and again.
        """
        _check(clips, rate_hz, frame_s)
        self.utterances: list[SpokenUtterance] = []
        """All that was begun, in order; it grows."""
        self._clips = clips
        self._scenario = scenario
        self._rng = rng
        self._rate_hz = rate_hz
        self._frame_samples = round(rate_hz * frame_s)
        self._silence = bytes(2 * self._frame_samples)
        self._frames = 0
        self._state = _State.PAUSING
        self._aligned = aligned
        self._began_at_s = 0.0
        self._end_offset_s = end_offset_s
        self._floor = floor
        self._first_s = rng.uniform(0, scenario.start_within_s)
        self._next_sample: int | None = self._start(self._first_s)
        self._rest: NDArray[np.int16] = np.zeros(0, np.int16)
        self._cut: Sequence[bytes] = ()
        self._spoken = 0
        self._reply_plays = False
        self._interrupt_at_s: float | None = None
        self._stopping = False

    @property
    def done(self) -> bool:
        """Whether only silence is left."""
        return self._state is _State.SILENT

    def begin(self, at_s: float) -> None:
        """The stream's first sample is spoken at `at_s` of the clock that all speakers share."""
        self._began_at_s = at_s
        if not self._frames and self._state is _State.PAUSING:
            self._next_sample = self._start(self._first_s)

    def frame(self, index: int) -> bytes:
        """PCM16 of frame `index`; ask for each once, from 0 on."""
        if index != self._frames:
            raise ValueError(f"expected frame {self._frames}, got {index}")
        self._frames += 1
        begin = index * self._frame_samples
        if self._quiet_until(begin + self._frame_samples):
            return self._background(index)
        if self._aligned:
            return self._speak_cut(begin)
        out = np.frombuffer(self._background(index), "<i2").copy()
        at = 0
        while at < len(out) and not self._quiet_until(begin + len(out)):
            if self._state is not _State.SPEAKING:
                at = self._begin(begin + at) - begin
            at = self._speak(out, at, begin)
        return out.tobytes()

    def _background(self, index: int) -> bytes:
        return self._floor[index % len(self._floor)] if self._floor else self._silence

    def _speak_cut(self, begin: int) -> bytes:
        """The next frame of the clip, silence after its end included."""
        if self._state is not _State.SPEAKING:
            self._next_sample = begin
            self._begin(begin)
            self._cut, self._spoken = self._next_cut(), 0
        frame = self._cut[self._spoken]
        self._spoken += 1
        if self._spoken == len(self._cut):
            short = -len(self._rest) % self._frame_samples
            self._finish((begin + self._frame_samples - short) / self._rate_hz)
        return frame

    def _next_cut(self) -> Sequence[bytes]:
        clip = self._clips[(len(self.utterances) - 1) % len(self._clips)]
        return clip.frames(self._frame_samples)

    def _quiet_until(self, sample: int) -> bool:
        if self._state is _State.SPEAKING:
            return False
        return self._next_sample is None or self._next_sample >= sample

    def _begin(self, earliest_sample: int) -> int:
        """Start the next clip, and say at which sample."""
        assert self._next_sample is not None
        start = max(self._next_sample, earliest_sample)
        prepared = self._clips[len(self.utterances) % len(self._clips)]
        kind: Kind = "interruption" if self._state is _State.LISTENING else "utterance"
        self.utterances.append(
            SpokenUtterance(len(self.utterances), prepared.clip, kind, start / self._rate_hz)
        )
        self._state, self._next_sample, self._rest = _State.SPEAKING, None, prepared.pcm16
        self._interrupt_at_s = None
        return start

    def _speak(self, out: NDArray[np.int16], at: int, begin: int) -> int:
        """Fill the frame from `at` on, and say how far."""
        count = min(len(out) - at, len(self._rest))
        out[at : at + count] = self._rest[:count]
        self._rest = self._rest[count:]
        if not len(self._rest):
            self._finish((begin + at + count) / self._rate_hz)
        return at + count

    def _finish(self, at_s: float) -> None:
        self.utterances[-1].complete = True
        if self._stopping:
            self._state = _State.SILENT
        elif not self._scenario.wait_for_reply:
            self._pause(at_s, self._scenario.pause_s)
        elif self._reply_plays:
            self._listen()
        else:
            self._state = _State.AWAITING
            self._next_sample = self._start(at_s + self._scenario.reply_timeout_s)

    def _pause(self, at_s: float, range_s: tuple[float, float]) -> None:
        self._state = _State.PAUSING
        self._next_sample = self._start(at_s + self._rng.uniform(*range_s))

    def _listen(self) -> None:
        self._state = _State.LISTENING
        interrupt_at_s = self._interrupt_at_s
        self._next_sample = None if interrupt_at_s is None else self._start(interrupt_at_s)

    def _start(self, earliest_s: float) -> int:
        """Sample at which the next clip begins, at `earliest_s` of the stream or after."""
        every_s = self._scenario.turn_ends_every_s
        if every_s is None:
            return self._sample(earliest_s)
        # What `frame` has given out is past: an end that would need it is missed.
        earliest_s = max(earliest_s, self._frames * self._frame_samples / self._rate_hz)
        clip = self._clips[len(self.utterances) % len(self._clips)].clip
        lead_s = self._began_at_s - self._end_offset_s + clip.speech_end_s
        end = math.ceil((earliest_s + lead_s) / every_s - 1e-9)
        grid = self._frame_samples if self._aligned else 1
        return round((end * every_s - lead_s) * self._rate_hz / grid) * grid

    def _sample(self, at_s: float) -> int:
        return round(at_s * self._rate_hz)

    def reply_started(self, at_s: float) -> None:
        """A reply is heard from now on."""
        if self._reply_plays or not self._scenario.wait_for_reply:
            return
        self._reply_plays = True
        self._interrupt_at_s = None
        if self._rng.random() < self._scenario.interruption_probability:
            self._interrupt_at_s = at_s + self._rng.uniform(*self._scenario.interrupt_after_s)
        if self._state in (_State.PAUSING, _State.AWAITING):
            self._listen()

    def reply_ended(self, at_s: float) -> None:
        """The reply has been heard to its end, was cut off, or had no sound."""
        self._reply_plays = False
        if self._state in (_State.LISTENING, _State.AWAITING):
            self._pause(at_s, self._scenario.think_s)

    def final_received(self, at_s: float) -> None:
        """The speaker was understood; the reply may take its time from now."""
        if self._state is _State.AWAITING:
            self._next_sample = self._start(at_s + self._scenario.reply_timeout_s)

    def stop(self, at_s: float) -> None:
        """From `at_s` on begin nothing more; what is being said is said to its end."""
        self._stopping = True
        if self._state is not _State.SPEAKING:
            self._state, self._next_sample = _State.SILENT, None


class SilentSpeaker:
    """Somebody who listens and says nothing; only what is around is heard."""

    def __init__(self, frame_samples: int, floor: Sequence[bytes] = ()) -> None:
        """`floor` as of `Speaker`."""
        self.utterances: Sequence[SpokenUtterance] = ()
        self._floor = floor or (bytes(2 * frame_samples),)
        self._stopping = False

    @property
    def done(self) -> bool:
        """Whether nothing more is to be heard of it."""
        return self._stopping

    def begin(self, at_s: float) -> None: ...

    def frame(self, index: int) -> bytes:
        return self._floor[index % len(self._floor)]

    def reply_started(self, at_s: float) -> None: ...
    def reply_ended(self, at_s: float) -> None: ...
    def final_received(self, at_s: float) -> None: ...

    def stop(self, at_s: float) -> None:
        self._stopping = True


def _check(clips: Sequence[PreparedClip], rate_hz: int, frame_s: float) -> None:
    if not clips:
        raise UsageError("expected at least one clip for a speaker, got none")
    for prepared in clips:
        if prepared.rate_hz != rate_hz or not len(prepared.pcm16):
            raise UsageError(
                f"expected samples at {rate_hz} Hz in clip {prepared.clip.clip_id}, "
                f"got {len(prepared.pcm16)} at {prepared.rate_hz} Hz"
            )
    samples = rate_hz * frame_s
    if samples < 1 or abs(samples - round(samples)) > 1e-6:
        raise UsageError(f"expected whole samples per frame, got {samples:g}")
