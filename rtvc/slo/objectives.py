"""Objectives: one target each, and what of a run it is about."""

import operator
from collections.abc import Callable
from dataclasses import dataclass

from rtvc.slo.wording import Unit, shown, spoken
from rtvc.summary import QUANTILES, Summary

AGGREGATES = (*QUANTILES, "min", "med", "max", "mean", "avg")
"""What may follow a timed metric; med is another name for p50, avg for mean."""

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}

DIVISORS = {"ms": 1000, "s": 1, "%": 100, "": 1}
"""What a written number is divided by."""

Reading = tuple[float | None, int]
"""Measured value (None without samples) and the n behind it."""

SHARES: dict[str, Callable[[Summary], Reading]] = {
    "errors": lambda run: (run.errors.rate, run.errors.attempts),
    "wer": lambda run: (run.accuracy.wer, run.accuracy.reference_words),
    "premature_finals": lambda run: (run.utterances.premature_share, run.utterances.spoken),
    "late_frames": lambda run: (run.generator.late_share, run.generator.frames),
    "goodput": lambda run: _goodput(run),
    "good_speakers": lambda run: _good_speakers(run),
}
"""Objectives on shares, in percent."""

COUNTS: dict[str, Callable[[Summary], Reading]] = {
    "cross_talk": lambda run: _count(run, run.accuracy.cross_talk_words),
    "first_words_lost": lambda run: _count(run, run.accuracy.first_words_lost),
    "last_words_lost": lambda run: _count(run, run.accuracy.last_words_lost),
    "finals_missing": lambda run: _count(run, run.utterances.finals_missing),
    "replies_missing": lambda run: _count(run, run.utterances.replies_missing),
    "hallucinated_finals": lambda run: _hallucinated(run, run.accuracy.hallucinated_finals),
    "hallucinated_partials": lambda run: _hallucinated(run, run.accuracy.hallucinated_partials),
}
"""Objectives on counts."""


def _count(run: Summary, counted: int | None) -> Reading:
    spoken = run.utterances.spoken
    return (float(counted) if spoken and counted is not None else None, spoken)


def _hallucinated(run: Summary, made_up: int | None) -> Reading:
    """Nothing needs to be said for it: listening is enough."""
    sessions = run.connections.usable
    return (float(made_up) if sessions and made_up is not None else None, sessions)


def _goodput(run: Summary) -> Reading:
    return (None, 0) if run.goodput is None else (run.goodput.share, run.goodput.utterances)


def _good_speakers(run: Summary) -> Reading:
    return (None, 0) if run.goodput is None else (run.goodput.speakers_share, run.goodput.speakers)


_COUNTED = {
    "connection": "connections",
    "response_latency": "replies",
    "barge_in_latency": "interruptions",
    "generator_lag": "frames",
    "errors": "attempts",
    "wer": "words",
    "late_frames": "frames",
    "hallucinated_finals": "sessions",
    "hallucinated_partials": "sessions",
    "good_speakers": "speakers",
}

_SIGNS = {"<=": "≤", ">=": "≥", "==": "=", "!=": "≠"}


@dataclass(frozen=True, slots=True)
class Objective:
    """One target."""

    metric: str
    """A name of METRICS, SHARES or COUNTS."""
    aggregate: str | None
    """One of AGGREGATES; None for shares and counts."""
    comparison: str
    """One of COMPARISONS."""
    target: float
    """Seconds, share or count."""
    unit: Unit
    """"s" for seconds, "%" for a share, "" for a count."""
    abort_on_fail: bool = False
    """Whether a run ends as soon as it is missed."""
    abort_after_s: float = 0.0
    """Seconds of measuring before that."""

    def holds(self, value: float) -> bool:
        return COMPARISONS[self.comparison](value, self.target)

    @property
    def is_upper_bound(self) -> bool:
        """Whether less is better."""
        return self.comparison in ("<", "<=")

    @property
    def quantile(self) -> float | None:
        """0 to 1; None where it is about something else."""
        return QUANTILES.get(self.aggregate or "")

    @property
    def tolerated_share(self) -> float | None:
        """Share of samples that may be beyond the target; None: it bounds no quantile above."""
        if self.quantile is None or not self.is_upper_bound:
            return None
        return 1 - self.quantile

    @property
    def name(self) -> str:
        """
        >>> Objective("transcription_delay", "p95", "<", 0.5, "s").name
        'transcription delay p95'
        """
        return " ".join(filter(None, (spoken(self.metric), self.aggregate)))

    @property
    def counted(self) -> str | None:
        """What its samples are; None where they are utterances, as nearly everywhere."""
        return _COUNTED.get(self.metric)

    @property
    def target_text(self) -> str:
        return f"{_SIGNS.get(self.comparison, self.comparison)} {shown(self.target, self.unit)}"

    def __str__(self) -> str:
        """As it would be written: parses to the same objective."""
        subject = self.metric if self.aggregate is None else f"{self.metric}_{self.aggregate}"
        number = 100 * self.target if self.unit == "%" else self.target
        delay = f" delay={self.abort_after_s:.12g}s" if self.abort_after_s else ""
        abort = f" abort_on_fail{delay}" if self.abort_on_fail else ""
        return f"{subject}{self.comparison}{number:.12g}{self.unit}{abort}"
