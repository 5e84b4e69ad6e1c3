"""Does a figure creep up, and did delays get longer? Pure: numbers in, verdicts out.

Memory, threads and descriptors are sampled every few seconds, and one sample is much like the one
before. A test that takes them for independent finds slopes everywhere. So the slope (Theil–Sen: the
median of all slopes between two samples) is given an interval that takes each eighth of the time
for one sample, its median: a line through the eight, and Student's t (Draper and Smith 1998,
Applied Regression Analysis, 1.4). Only a slope whose interval leaves out 0 is one. A test counts
how often rows that go nowhere are taken for rising.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 400
CONFIDENCE = 0.99
POINTS = 120
"""A longer row is made so long: the median of each stretch stands for it."""
STRETCHES = 8
"""Each is longer than what one sample knows of the next."""
LEAST = 12
"""Samples; with fewer nothing is said. The fuzz has one a round."""
_T = 3.7074
"""Student's t of `CONFIDENCE`, two-sided, for a line through `STRETCHES` points (6 degrees)."""


@dataclass(frozen=True, slots=True)
class Slope:
    """How a figure changes, in its units an hour."""

    per_hour: float
    """Theil–Sen."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end."""
    first: float
    """Median of the first fifth."""
    last: float
    """Median of the last fifth."""
    samples: int
    """As given."""

    @property
    def steady(self) -> bool:
        """Whether 0 is in the interval."""
        return self.low <= 0 <= self.high

    @property
    def rises(self) -> bool:
        """Whether it creeps up, beyond doubt."""
        return self.low > 0


def theil_sen(at: Floats, values: Floats) -> float:
    """Median slope between two samples.

    >>> theil_sen(np.arange(5.0), np.array([0.0, 2.0, 4.0, 6.0, 99.0]))
    2.0
    """
    one, other = np.triu_indices(len(at), 1)
    apart = at[other] - at[one]
    there = apart > 0
    return float(np.median((values[other] - values[one])[there] / apart[there]))


def slope(at_s: Sequence[float], values: Sequence[float]) -> Slope | None:
    """None: too few samples to say."""
    at, given = np.asarray(at_s, np.float64) / 3600, np.asarray(values, np.float64)
    if len(at) < LEAST:
        return None
    at, short = _shortened(at), _shortened(given)
    per_hour = theil_sen(at, short)
    low, high = _interval(at, short)
    fifth = max(1, len(given) // 5)
    return Slope(
        per_hour,
        float(min(low, per_hour)),
        float(max(high, per_hour)),
        float(np.median(given[:fifth])),
        float(np.median(given[-fifth:])),
        len(given),
    )


def _shortened(values: Floats) -> Floats:
    parts = np.array_split(values, min(POINTS, len(values)))
    return np.array([np.median(part) for part in parts])


def _interval(at: Floats, values: Floats) -> tuple[float, float]:
    middles = np.array([part.mean() for part in np.array_split(at, STRETCHES)])
    levels = np.array([np.median(part) for part in np.array_split(values, STRETCHES)])
    from_middle = middles - middles.mean()
    spread = float(from_middle @ from_middle)
    per_hour = float(from_middle @ levels) / spread
    rest = levels - levels.mean() - per_hour * from_middle
    error = float(np.sqrt(rest @ rest / (STRETCHES - 2) / spread))
    return per_hour - _T * error, per_hour + _T * error


def is_flat(counts: Slope, room: float = 1.0) -> bool:
    """Whether a number of things stays as it is; `room`: more of them at the end are no leak."""
    return not counts.rises or counts.last - counts.first <= room


@dataclass(frozen=True, slots=True)
class Longer:
    """Delays of two stretches of time, held against each other."""

    before_p50_s: float
    """Median of the first."""
    after_p50_s: float
    """Median of the second."""
    before_p95_s: float
    """95th percentile of the first."""
    after_p95_s: float
    """95th percentile of the second."""
    ratio_p95: float
    """Second ÷ first."""
    ratio_low: float
    """Lower end of its interval."""
    ratio_high: float
    """Upper end."""
    p_value: float
    """How often chance alone makes the second so much longer (ranks; one-sided)."""
    before: int
    """Delays in the first."""
    after: int
    """Delays in the second."""


def longer(before_s: Sequence[float], after_s: Sequence[float], *, seed: int = 0) -> Longer | None:
    """Whether delays got longer; None: too few to say."""
    before, after = np.asarray(before_s, np.float64), np.asarray(after_s, np.float64)
    if min(len(before), len(after)) < 5:
        return None
    rng = np.random.default_rng(seed)
    ratios = [
        np.quantile(rng.choice(after, len(after)), 0.95)
        / np.quantile(rng.choice(before, len(before)), 0.95)
        for _ in range(2 * RESAMPLES)
    ]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, (tail, 1 - tail))
    p95 = [float(np.quantile(each, 0.95)) for each in (before, after)]
    return Longer(
        float(np.median(before)),
        float(np.median(after)),
        p95[0],
        p95[1],
        p95[1] / p95[0],
        float(low),
        float(high),
        _rank_test(before, after, rng),
        len(before),
        len(after),
    )


def _rank_test(before: Floats, after: Floats, rng: np.random.Generator) -> float:
    """Permutations of ranks: the share in which the second stands as high, or higher."""
    together = np.concatenate([before, after])
    ranks = np.argsort(np.argsort(together, kind="stable")).astype(np.float64)
    seen = ranks[len(before) :].sum()
    higher = sum(rng.permutation(ranks)[len(before) :].sum() >= seen for _ in range(2000))
    return float(higher + 1) / 2001
