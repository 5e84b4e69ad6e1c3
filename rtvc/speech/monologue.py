"""Sentences joined to long utterances; the truth about every word moves along with it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rtvc.audio import FloatArray, resample, rms
from rtvc.errors import AudioError
from rtvc.speech.corpus import Clip
from rtvc.speech.scenario import SpeechMix
from rtvc.speech.synthesis import Word

_LEVEL = 0.05
"""RMS (-26 dBFS) at which sentences are joined, so that none is lost beside a louder one."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A sentence and where it comes to lie."""

    clip: Clip
    """At the rate and level of all."""
    begin: int
    """First of its own samples that is taken."""
    at: int
    """Where that sample lies in the whole."""

    @property
    def shift_s(self) -> float:
        """Seconds by which everything in it is later."""
        return (self.at - self.begin) / self.clip.rate_hz


def joined(clips: Sequence[Clip], gaps_s: Sequence[float]) -> Clip:
    """One utterance of several, so many seconds of silence between the speech of each.

    Texts and words are joined; what begins before the first and ends after the last is kept.

    Raises:
        AudioError: there is nothing to join, or not one gap fewer than clips.
    """
    if not clips or len(gaps_s) != len(clips) - 1:
        raise AudioError(
            f"expected clips and one gap fewer, got {len(clips)} clips and {len(gaps_s)} gaps"
        )
    rate_hz = max(clip.rate_hz for clip in clips)
    level = [_levelled(clip, rate_hz) for clip in clips]
    pieces, audio = _laid_out(level, gaps_s, rate_hz)
    first, last = pieces[0], pieces[-1]
    return Clip(
        clip_id="+".join(clip.clip_id for clip in clips),
        text=" ".join(clip.text for clip in clips),
        audio=audio,
        rate_hz=rate_hz,
        words=_words(pieces),
        first_word_end_s=first.clip.first_word_end_s,
        speech_start_s=first.clip.speech_start_s,
        speech_end_s=last.clip.speech_end_s + last.shift_s,
        voice=clips[0].voice,
    )


def _levelled(clip: Clip, rate_hz: int) -> Clip:
    """At one rate; alone where it is not joined with another, it keeps its level."""
    audio = resample(clip.audio, clip.rate_hz, rate_hz)
    begin, end = round(clip.speech_start_s * rate_hz), round(clip.speech_end_s * rate_hz)
    gain = np.float32(_LEVEL / max(rms(audio[begin:end]), 1e-6))
    return replace(clip, audio=audio * gain, rate_hz=rate_hz)


def _laid_out(
    clips: Sequence[Clip], gaps_s: Sequence[float], rate_hz: int
) -> tuple[list[_Piece], FloatArray]:
    pieces, parts = [], []
    length = 0
    for index, clip in enumerate(clips):
        is_first, is_last = index == 0, index == len(clips) - 1
        begin = 0 if is_first else round(clip.speech_start_s * rate_hz)
        end = len(clip.audio) if is_last else round(clip.speech_end_s * rate_hz)
        pieces.append(_Piece(clip, begin, length))
        gap = 0 if is_last else round(gaps_s[index] * rate_hz)
        parts += [clip.audio[begin:end], np.zeros(gap, np.float32)]
        length += max(0, end - begin) + gap
    return pieces, np.concatenate(parts)


def _words(pieces: Sequence[_Piece]) -> tuple[Word, ...] | None:
    words: list[Word] = []
    for piece in pieces:
        if piece.clip.words is None:
            return None
        words += [
            Word(word.text, word.start_s + piece.shift_s, word.end_s + piece.shift_s)
            for word in piece.clip.words
        ]
    return tuple(words)


def speech_s(clip: Clip) -> float:
    """Seconds from the first to the last of its speech."""
    return clip.speech_end_s - clip.speech_start_s


def monologues(clips: Sequence[Clip], mix: SpeechMix, rng: random.Random) -> list[Clip]:
    """The same clips, joined to utterances as long as the mix wants; unchanged if it does not.

    An utterance is as long as was drawn, to within a sentence, and no longer than the most, unless
    one sentence is. What is left at the end is an utterance only where there is no other.
    """
    if mix.monologue_s is None:
        return list(clips)
    low_s, high_s = mix.monologue_s
    done: list[Clip] = []
    pieces: list[Clip] = []
    gaps_s: list[float] = []
    wanted_s, length_s = rng.uniform(low_s, high_s), 0.0
    for clip in clips:
        gap_s = rng.uniform(*mix.gap_s) if pieces else 0.0
        longer_s = length_s + gap_s + speech_s(clip)
        if pieces and (length_s >= wanted_s or (longer_s > high_s and length_s >= low_s)):
            done.append(joined(pieces, gaps_s))
            pieces, gaps_s, wanted_s = [], [], rng.uniform(low_s, high_s)
            longer_s = speech_s(clip)
        if pieces:
            gaps_s.append(gap_s)
        pieces.append(clip)
        length_s = longer_s
    if pieces and (not done or length_s >= low_s):
        done.append(joined(pieces, gaps_s))
    return done
