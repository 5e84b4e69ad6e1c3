"""An utterance transcribed while it is spoken: what is shown when, in virtual time.

    audio      |----speech----|
    engine       [p1]  [p2]  [p3][final]      each takes what it took when it was measured
    shown            p1    p2    p3     final

Nobody waits for the speaker: each inference is run and timed, and the utterance's clock moves on
by its time. As in the server, a partial is asked for every so many seconds of audio, never while
another is under way, and the final at the first silence. The engine does one thing at a time, so
a final waits for the partial that it finds running. What endpointing waits for is not in here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from rtvc.bench.clips import RATE_HZ, BenchClip
from rtvc.clock import Clock
from rtvc.errors import UsageError
from rtvc.normalisers import Normaliser, normaliser_for
from rtvc.results.accuracy import edits, recognised
from rtvc.results.cells import Streamed
from rtvc.stt.transcriber import AudioArray
from rtvc.voice.local_agreement import LocalAgreement


class HeardText(Protocol):
    """What an engine made of some audio."""

    @property
    def text(self) -> str:
        """Empty when nothing was said."""


class Hears(Protocol):
    """The part of an engine that matters here."""

    def transcribe(self, audio: AudioArray, language: str | None, /) -> HeardText:
        """One stretch of audio by itself."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """When the engine is asked."""

    every_s: float = 0.4
    """Seconds of audio between two partials, as the server has it at ease."""
    tried_after_s: float = 0.064
    """Seconds of silence after which the final is asked for."""
    agreed: bool = False
    """Whether only words are shown on which two hypotheses in a row agree (LocalAgreement-2)
    instead of all of each."""

    def __post_init__(self) -> None:
        if self.every_s <= 0 or self.tried_after_s < 0:
            raise UsageError(
                "expected partials more than 0 s apart and finals no earlier than speech ends, "
                f"got {self.every_s:g} s and {self.tried_after_s:g} s"
            )


@dataclass(frozen=True, slots=True)
class Shown:
    """One text that became visible."""

    at_s: float
    """Seconds from the first sample of the audio."""
    heard_s: float
    """Seconds of audio it was made of."""
    text: str
    """All that is visible from now on."""


Answer = Callable[[float], tuple[str, float]]
"""Seconds of audio from its first sample → their text, and the seconds that took."""


def live(
    answer: Answer, start_s: float, end_s: float, cadence: Cadence
) -> tuple[list[Shown], Shown]:
    """Partials as they would be shown, and the final, of speech from `start_s` to `end_s`.

    >>> partials, final = live(lambda heard_s: (f"{heard_s:.1f}", 0.5), 0.0, 1.0, Cadence())
    >>> [(shown.text, round(shown.at_s, 3)) for shown in [*partials, final]]
    [('0.4', 0.9), ('0.9', 1.4), ('1.1', 1.9)]
    """
    partials: list[Shown] = []
    agreement = LocalAgreement()
    asked_s, free_s = start_s + cadence.every_s, 0.0
    while asked_s < end_s:
        text, seconds = answer(asked_s)
        free_s = asked_s + seconds
        if cadence.agreed:
            agreement.update(text)
            text = " ".join(agreement.stable)
        if text:
            partials.append(Shown(free_s, asked_s, text))
        asked_s = max(asked_s + cadence.every_s, free_s)
    tried_s = end_s + cadence.tried_after_s
    text, seconds = answer(tried_s)
    return partials, Shown(max(tried_s, free_s) + seconds, tried_s, text)


def stream_clip(
    engine: Hears, clip: BenchClip, clock: Clock, *, cadence: Cadence | None = None
) -> Streamed:
    """One clip, transcribed as it is spoken; what the engine raises goes through."""

    def answer(heard_s: float) -> tuple[str, float]:
        audio = _first(clip.audio_16k, heard_s)
        began_s = clock.now()
        text = engine.transcribe(audio, clip.language).text
        return text.strip(), clock.now() - began_s

    partials, final = live(answer, clip.speech_start_s, clip.end_s, cadence or Cadence())
    normaliser = normaliser_for(clip.language)
    return Streamed(
        clip=clip.name,
        audio_s=clip.audio_s,
        final_delay_s=final.at_s - clip.end_s if final.text else None,
        word_latency_s=word_latencies_s(clip, partials, final, normaliser),
        corrections=corrections([*partials, final], normaliser),
        partials=len(partials),
        last_partial=partials[-1].text if partials else "",
        text=final.text,
        reference=clip.reference,
        language=clip.language,
    )


def _first(audio: AudioArray, seconds: float) -> AudioArray:
    """So many seconds of it; after its end the microphone hears nothing."""
    samples = round(seconds * RATE_HZ)
    missing = max(samples - len(audio), 0)
    return np.pad(audio[:samples], (0, missing)) if missing else audio[:samples]


def corrections(shown: Sequence[Shown], normaliser: Normaliser) -> int:
    """Words that were visible and became others, or went away, with the next text.

    Words are compared after normalisation: a capital or a comma corrects nothing.
    """
    texts = [normaliser.tokens(each.text, normaliser.unit) for each in shown]
    changes = [edits(before, after) for before, after in pairwise(texts)]
    return sum(change.substitutions + change.deletions for change in changes)


def word_latencies_s(
    clip: BenchClip, partials: Sequence[Shown], final: Shown, normaliser: Normaliser
) -> tuple[float, ...]:
    """End of each word that the final has right → that word first visible.

    Below zero where a word was guessed before it was over. Empty where nobody knows when the
    words are spoken: recordings, and scripts without spaces.
    """
    spoken = _spoken(clip, normaliser)
    first_s: dict[int, float] = {}
    for shown in [*partials, final]:
        # A word that is not begun cannot be what was recognised, though it may be the same word.
        begun = [word for word, _, since_s in spoken if since_s < shown.heard_s]
        for said, _ in recognised(begun, normaliser.words(shown.text)):
            first_s.setdefault(said, shown.at_s)
    right = recognised([word for word, _, _ in spoken], normaliser.words(final.text))
    return tuple(first_s[said] - spoken[said][1] for said, _ in right if said in first_s)


def _spoken(clip: BenchClip, normaliser: Normaliser) -> list[tuple[str, float, float]]:
    """Each normalised word, when it ends, and when the one before it ended."""
    written = (clip.reference or "").split()
    ends_s = clip.words_end_s or ()
    if normaliser.unit == "cer" or len(written) != len(ends_s):
        return []
    spoken: list[tuple[str, float, float]] = []
    before_s = 0.0
    for word, end_s in zip(written, ends_s, strict=True):
        # One written word may be several spoken ones: "42".
        spoken += [(each, end_s, before_s) for each in normaliser.words(word)]
        before_s = end_s
    whole = normaliser.words(clip.reference or "")
    return spoken if tuple(word for word, _, _ in spoken) == whole else []
