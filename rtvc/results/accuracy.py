"""What was heard against what was said: pooled error rates, and words out of nothing. Pure.

Rates are those of pooled counts, (S + D + I) ÷ what was said, after the normalisation of each
clip's language; they may exceed 1. Texts are kept raw, so all of this is done when they are read.

The interval is a bootstrap over clips (Bisani and Ney, "Bootstrap estimates for confidence
intervals in ASR performance evaluation", ICASSP 2004): so many clips are drawn with replacement,
each with all that was heard of it in every round and condition, and the rate is taken anew. Its
percentiles are widened where clips are few, as in `rtvc.compare.bootstrap`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import jiwer
import numpy as np

from rtvc.normalisers import Unit, normaliser_for, primary_tag
from rtvc.results.cells import Quiet, Streamed
from rtvc.stats import expanded_tail
from rtvc.transcript import WordErrors

RESAMPLES = 2000
"""Draws an interval is made of."""

CONFIDENCE = 0.95
"""Share of such intervals that hold the truth."""

REMEMBERED = 4096
"""Comparisons kept: the same text comes back in every round."""


class Transcribed(Protocol):
    """One clip and what was made of it: `Heard`, `LongFile` and `Streamed` are such."""

    @property
    def clip(self) -> str:
        """Its name."""

    @property
    def text(self) -> str:
        """What was heard, raw."""

    @property
    def reference(self) -> str | None:
        """What was said; None: unknown."""

    @property
    def language(self) -> str:
        """ISO-639-1 of what was said."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What was heard against what was said, over many clips."""

    wer: float | None
    """Errors ÷ what was said, in `unit`; None: nothing that was said is known."""
    unit: Unit
    """"wer": words are counted; "cer": characters, which is so for all clips as soon as one of
    them is in a language without spaces between words."""
    substitutions: int
    """Heard as others."""
    deletions: int
    """Lost."""
    insertions: int
    """Invented."""
    reference_words: int
    """Said, over all rows; characters where `unit` is "cer"."""
    low: float | None
    """Lower end of the 95 % interval of the rate; None: fewer than two clips."""
    high: float | None
    """Its upper end; None: fewer than two clips."""
    normaliser: str
    """Name and version; rates under different ones must not be compared."""
    clips: int
    """Different clips compared."""
    rows: int = 0
    """Comparisons: a clip counts once a round and condition."""
    perfect: int = 0
    """Of these, without an error."""
    unscored: int = 0
    """Rows left out: what was said in them is unknown."""

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions


@dataclass(frozen=True, slots=True)
class Hallucinated:
    """What was heard where nobody spoke."""

    words: int
    """Words out of nothing; characters in languages without spaces between words."""
    clips: int
    """Quiet clips."""
    clips_with_words: int
    """Of these, such as were not left empty."""
    audio_s: float
    """Seconds of quiet."""

    @property
    def words_per_minute(self) -> float | None:
        """None: there was no quiet to listen to."""
        return self.words / (self.audio_s / 60) if self.audio_s > 0 else None


@dataclass(frozen=True, slots=True)
class _Compared:
    """One row, counted."""

    clip: str
    """Name of the clip."""
    counts: WordErrors
    """Of words, or of characters."""


def score(rows: Sequence[Transcribed]) -> Accuracy:
    """The error rate of finished texts.

    >>> from rtvc.results.cells import Heard
    >>> found = score([Heard("a", "clean", 1.0, 0.1, "Turn of the light", "turn on the light")])
    >>> found.wer, found.unit, found.normaliser, found.low
    (0.25, 'wer', 'rtvc-en-1', None)
    """
    return _scored([(row, row.text) for row in rows])


def score_partials(rows: Sequence[Streamed]) -> Accuracy:
    """The error rate of the last text shown before the final; words still to come count as lost."""
    return _scored([(row, row.last_partial) for row in rows])


def score_by_language(rows: Sequence[Transcribed]) -> dict[str, Accuracy]:
    """The error rate of each language, each in its own unit; keys are primary tags, in order."""
    tags = sorted({primary_tag(row.language) for row in rows})
    return {tag: score([row for row in rows if primary_tag(row.language) == tag]) for tag in tags}


def hallucinated(rows: Sequence[Quiet], language: str = "en") -> Hallucinated:
    """Words heard in quiet; `language` is the one that the recogniser was told.

    >>> hallucinated([Quiet("silence", 30.0, ""), Quiet("pink", 30.0, "Thank you.")])
    Hallucinated(words=2, clips=2, clips_with_words=1, audio_s=60.0)
    """
    normaliser = normaliser_for(language)
    counts = [len(normaliser.tokens(row.text, normaliser.unit)) for row in rows]
    return Hallucinated(
        words=sum(counts),
        clips=len(rows),
        clips_with_words=sum(count > 0 for count in counts),
        audio_s=math.fsum(row.audio_s for row in rows),
    )


def edits(said: Sequence[str], heard: Sequence[str]) -> WordErrors:
    """The fewest edits from what was said to what was heard; tokens hold no space.

    >>> edits(list("abc"), list("axcd"))
    WordErrors(substitutions=1, deletions=0, insertions=1, reference_words=3, hypothesis_words=4)
    """
    if not said or not heard:
        return WordErrors(0, len(said), len(heard), len(said), len(heard))
    found = jiwer.process_words(" ".join(said), " ".join(heard))
    return WordErrors(found.substitutions, found.deletions, found.insertions, len(said), len(heard))


def recognised(said: Sequence[str], heard: Sequence[str]) -> list[tuple[int, int]]:
    """Index pairs (said, heard) of tokens that were heard rightly, rising.

    >>> recognised(["play", "some", "jazz"], ["now", "play", "sum", "jazz"])
    [(0, 1), (2, 3)]
    """
    if not said or not heard:
        return []
    chunks = jiwer.process_words(" ".join(said), " ".join(heard)).alignments[0]
    return [
        (chunk.ref_start_idx + k, chunk.hyp_start_idx + k)
        for chunk in chunks
        if chunk.type == "equal"
        for k in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]


def _scored(pairs: Sequence[tuple[Transcribed, str]]) -> Accuracy:
    languages = [primary_tag(row.language) for row, _ in pairs if row.reference is not None]
    unit = _unit(languages)
    compared = [
        _Compared(row.clip, _counted(row.reference, text, primary_tag(row.language), unit))
        for row, text in pairs
        if row.reference is not None
    ]
    total = _sum(each.counts for each in compared)
    by_clip = _by_clip(compared)
    low, high = _interval(by_clip)
    return Accuracy(
        wer=total.errors / total.reference_words if total.reference_words else None,
        unit=unit,
        substitutions=total.substitutions,
        deletions=total.deletions,
        insertions=total.insertions,
        reference_words=total.reference_words,
        low=low,
        high=high,
        normaliser=_names(languages or [primary_tag(row.language) for row, _ in pairs]),
        clips=len(by_clip),
        rows=len(compared),
        perfect=sum(not each.counts.errors for each in compared),
        unscored=len(pairs) - len(compared),
    )


def _unit(languages: Iterable[str]) -> Unit:
    """Words and characters are never added up: all are counted in characters if some must be."""
    units = {normaliser_for(language).unit for language in languages}
    return "cer" if "cer" in units else "wer"


def _names(languages: Iterable[str]) -> str:
    names = {normaliser_for(language).name for language in languages}
    return " + ".join(sorted(names)) or normaliser_for("en").name


@lru_cache(maxsize=REMEMBERED)
def _counted(reference: str, text: str, language: str, unit: Unit) -> WordErrors:
    normaliser = normaliser_for(language)
    return edits(normaliser.tokens(reference, unit), normaliser.tokens(text, unit))


def _sum(counts: Iterable[WordErrors]) -> WordErrors:
    every = list(counts)
    return WordErrors(
        substitutions=sum(each.substitutions for each in every),
        deletions=sum(each.deletions for each in every),
        insertions=sum(each.insertions for each in every),
        reference_words=sum(each.reference_words for each in every),
        hypothesis_words=sum(each.hypothesis_words for each in every),
    )


def _by_clip(compared: Sequence[_Compared]) -> list[list[WordErrors]]:
    """All that was heard of each clip, in the order of their names."""
    clips: dict[str, list[WordErrors]] = {}
    for each in compared:
        clips.setdefault(each.clip, []).append(each.counts)
    return [clips[name] for name in sorted(clips)]


def _interval(clips: Sequence[Sequence[WordErrors]]) -> tuple[float | None, float | None]:
    """Where the rate lies, at `CONFIDENCE`."""
    pooled = [_sum(counts) for counts in clips]
    errors = np.array([each.errors for each in pooled], np.float64)
    said = np.array([each.reference_words for each in pooled], np.float64)
    if len(clips) < 2 or not said.any():
        return None, None
    if not errors.any():
        # What is heard again in another round proves nothing new.
        once = sum(max(each.reference_words for each in counts) for counts in clips)
        return 0.0, most_without_an_error(once)
    rng = np.random.default_rng(len(clips))
    draws = rng.multinomial(len(clips), np.full(len(clips), 1 / len(clips)), size=RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = (draws @ errors) / (draws @ said)
    # A draw in which nothing was said tells nothing.
    ordered = np.sort(rates[np.isfinite(rates)])
    if not len(ordered):
        return None, None
    cut = math.floor(expanded_tail(len(clips), CONFIDENCE) * (len(ordered) - 1))
    return float(ordered[cut]), float(ordered[len(ordered) - 1 - cut])


def most_without_an_error(words: int) -> float:
    """The upper end where not one of so many words was wrong: no draw of clips differs then.

    Clopper and Pearson's exact bound for no event in n, 1 − (α / 2) ^ (1 / n); it takes words as
    independent.

    >>> round(most_without_an_error(300), 4)
    0.0122
    """
    return float(1.0 - ((1.0 - CONFIDENCE) / 2) ** (1.0 / words))
