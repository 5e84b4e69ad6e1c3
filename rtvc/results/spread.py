"""How figures spread: over the rounds of a bench, and over its short turns. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rtvc.results.cells import Heard
from rtvc.stats import mean, quantile, supports

LENGTHS = ((0.0, 2.0), (2.0, 5.0), (5.0, 10.0), (10.0, math.inf))
"""Seconds: classes of short turns by their length, from and below."""


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over the rounds."""

    median: float
    """Of the rounds."""
    low: float
    """A quarter of the rounds lie below."""
    high: float
    """A quarter of the rounds lie above."""
    rounds: int
    """Rounds behind it."""

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """None without rounds.

        >>> Spread.of([3.0, 1.0, 2.0])
        Spread(median=2.0, low=1.5, high=2.5, rounds=3)
        """
        quarters = [quantile(values, q) for q in (0.5, 0.25, 0.75)]
        median, low, high = quarters
        if median is None or low is None or high is None:
            return None
        return cls(median, low, high, len(values))


@dataclass(frozen=True, slots=True)
class Delay:
    """Delays of one kind, pooled over the rounds."""

    n: int
    """How many; one that never came counts."""
    p50: float | None = None
    """Seconds; None: n does not support it."""
    p95: float | None = None
    """Seconds; None: n does not support it."""
    max: float | None = None
    """Seconds; infinite: one never came; None: there are none."""
    mean: float | None = None
    """Seconds; None: there are none."""

    @classmethod
    def of(cls, values: Sequence[float]) -> "Delay":
        """
        >>> Delay.of([0.25] * 12)
        Delay(n=12, p50=0.25, p95=None, max=0.25, mean=0.25)
        """
        return cls(
            len(values),
            _supported(values, 0.5),
            _supported(values, 0.95),
            max(values, default=None),
            mean(values),
        )

    @property
    def slow(self) -> float | None:
        """What is judged: p95 where n supports it, else the largest; None: there are none."""
        return self.max if self.p95 is None else self.p95

    @property
    def slow_name(self) -> str:
        """What `slow` is: "p95", or "max" of too few."""
        return "max" if self.p95 is None else "p95"


def _supported(values: Sequence[float], q: float) -> float | None:
    return quantile(values, q) if supports(len(values), q) else None


@dataclass(frozen=True, slots=True)
class LengthClass:
    """Short turns of about the same length."""

    from_s: float
    """Seconds of audio, from."""
    below_s: float
    """Seconds of audio, below; infinite: all longer ones."""
    delay: Delay
    """From handing in the audio to the text."""

    @property
    def name(self) -> str:
        """
        >>> LengthClass(0.0, 2.0, Delay(0)).name, LengthClass(10.0, math.inf, Delay(0)).name
        ('0–2 s', '10 s and more')
        """
        if math.isinf(self.below_s):
            return f"{self.from_s:g} s and more"
        return f"{self.from_s:g}–{self.below_s:g} s"


def by_length(turns: Sequence[Heard]) -> tuple[LengthClass, ...]:
    """Delays by length of the audio; classes without turns are left out."""
    found = []
    for low, high in LENGTHS:
        delays = [turn.delay_s for turn in turns if low <= turn.audio_s < high]
        if delays:
            found.append(LengthClass(low, high, Delay.of(delays)))
    return tuple(found)


def typical_delay(turns: Iterable[Heard]) -> float | None:
    """Seconds: the mean over clips of each clip's median delay over the rounds.

    Every cell hears the same clips, so two of these have a ratio that means something; the median
    keeps one slow round, whatever made it slow, out of it. None without turns.
    """
    by_clip: dict[tuple[str, str], list[float]] = {}
    for turn in turns:
        by_clip.setdefault((turn.clip, turn.condition), []).append(turn.delay_s)
    middles = (quantile(delays, 0.5) for delays in by_clip.values())
    return mean([middle for middle in middles if middle is not None])
