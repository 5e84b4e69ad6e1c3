"""Intervals of what differs between two runs, by resampling speakers. Pure, and seeded.

Method. One speaker's utterances resemble each other (a voice, a place in the ramp), so the units
that are drawn are speakers, each with all its utterances: the cluster bootstrap with groups kept
whole (Davison and Hinkley, "Bootstrap Methods and their Application", 1997, §3.8, strategy 1).
Runs that may be compared let the same speakers say the same, so both sides of a draw are the same
speakers, and what makes one of them slow in both runs cancels out (paired, as Bisani and Ney do
for word errors, ICASSP 2004). With fewer than `FEWEST_SPEAKERS` there is too little to draw from:
then utterances are drawn, of each run by itself, and taken as independent.

The interval is that of percentiles, widened for small numbers of units (Hesterberg, "What
Teachers Should Know About the Bootstrap", The American Statistician 69:4, 2015: the tail is
Φ(−√(n/(n−1))·t), t being Student's quantile with n − 1 degrees of freedom).

What it does not see: whatever moved a whole run (another tenant on the machine, a cold cache) is
in no resample of that run. Hence the tolerance of a regression, and the advice to repeat.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtvc.stats import expanded_tail

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RESAMPLES = 2000
"""Draws an interval is made of."""

CONFIDENCE = 0.95
"""Share of such comparisons whose interval holds the truth."""

FEWEST_SPEAKERS = 8
"""With fewer, utterances are drawn instead."""

CELLS = 2_000_000
"""Weights held at a time, so that long runs fit into memory."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the truth lies, at `CONFIDENCE`."""

    low: float
    """Lower end."""
    high: float
    """Upper end; infinite if answers never came."""

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Estimate:
    """A ratio and a difference of two runs, each with what chance leaves of it."""

    ratio: Interval | None
    """After ÷ before; None where that means nothing: a delay before of 0 or less."""
    change: Interval
    """After − before."""
    units: int
    """Drawn from: speakers, or utterances of the smaller run."""
    clustered: bool
    """Whether speakers were drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What was measured of one thing in one run: a value, or a count among so many."""

    speakers: Integers
    """Whose each is."""
    values: Floats
    """Seconds, infinite where an answer never came; or what was counted."""
    of: Floats | None = None
    """Among how many it was counted; None: values are delays."""

    def __len__(self) -> int:
        return len(self.values)


Statistic = Callable[[Integers], Floats]
"""Weights of each sample, one row a draw → one number a draw; NaN where a draw is empty."""


def samples(rows: Sequence[tuple[int, float]]) -> Samples:
    """Delays as (speaker, seconds)."""
    ordered = sorted(rows, key=lambda row: row[1])
    return Samples(
        np.array([speaker for speaker, _ in ordered], np.int64),
        np.array([value for _, value in ordered], np.float64),
    )


def counts(rows: Sequence[tuple[int, float, float]]) -> Samples:
    """Counts as (speaker, how many, of how many)."""
    return Samples(
        np.array([speaker for speaker, _, _ in rows], np.int64),
        np.array([count for _, count, _ in rows], np.float64),
        np.array([of for _, _, of in rows], np.float64),
    )


def quantile_of(delays: Samples, q: float) -> Statistic:
    """The q-quantile, by linear interpolation as everywhere in rtvc."""
    return lambda weights: weighted_quantile(delays.values, weights, q)


def share_of(counted: Samples) -> Statistic:
    """What was counted ÷ among how many, both pooled."""
    of = counted.values if counted.of is None else counted.of

    def share(weights: Integers) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((weights @ counted.values) / (weights @ of), np.float64)

    return share


def weighted_quantile(ordered: Floats, weights: Integers, q: float) -> Floats:
    """The q-quantile of samples of which each is there as often as its weight says, row by row.

    >>> weighted_quantile(np.array([1.0, 2.0, 9.0]), np.array([[1, 1, 1], [0, 3, 1]]), 0.5)
    array([2., 2.])
    """
    reached = np.cumsum(weights, axis=1)
    totals = reached[:, -1]
    position = q * (totals - 1)
    low = np.floor(position)
    below = ordered[_first_beyond(reached, low)]
    above = ordered[_first_beyond(reached, np.minimum(low + 1, totals - 1))]
    fraction = position - low
    with np.errstate(invalid="ignore"):
        between = np.minimum(below + fraction * (above - below), above)
    whole = (below == above) | (fraction == 0)
    return np.where(totals > 0, np.where(whole, below, between), np.nan)


def _first_beyond(reached: Integers, rank: Floats) -> Integers:
    """The first sample whose copies go beyond a rank, in each row."""
    return np.asarray((reached > rank[:, None]).argmax(axis=1), np.int64)


def estimate(
    before: Samples,
    after: Samples,
    statistics: Sequence[tuple[Statistic, Statistic]],
    *,
    name: str,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Estimate | None]:
    """For each pair of statistics, of before and of after; None where no draw told anything.

    `name` and `seed` decide the draws, whatever else is compared.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    clustered = speakers_of(before, after) >= FEWEST_SPEAKERS
    units = speakers_of(before, after) if clustered else min(len(before), len(after))
    drawn: list[tuple[list[Floats], list[Floats]]] = [([], []) for _ in statistics]
    for old, new in _weights(before, after, rng, resamples, clustered=clustered):
        for (of_old, of_new), (olds, news) in zip(statistics, drawn, strict=True):
            olds.append(of_old(old))
            news.append(of_new(new))
    return [
        _estimate(np.concatenate(olds), np.concatenate(news), units, clustered=clustered)
        for olds, news in drawn
    ]


def speakers_of(before: Samples, after: Samples) -> int:
    """Different speakers, of both runs together."""
    return len(np.union1d(before.speakers, after.speakers))


def _weights(
    before: Samples, after: Samples, rng: np.random.Generator, resamples: int, *, clustered: bool
) -> Iterator[tuple[Integers, Integers]]:
    """How often each sample of either run is in each draw, some draws at a time."""
    everyone = np.union1d(before.speakers, after.speakers)
    places = [np.searchsorted(everyone, each.speakers) for each in (before, after)]
    at_a_time = max(1, CELLS // max(len(before), len(after)))
    for first in range(0, resamples, at_a_time):
        rows = min(at_a_time, resamples - first)
        if clustered:
            chosen = _drawn(rng, len(everyone), rows)
            yield chosen[:, places[0]], chosen[:, places[1]]
        else:
            yield _drawn(rng, len(before), rows), _drawn(rng, len(after), rows)


def _drawn(rng: np.random.Generator, units: int, rows: int) -> Integers:
    """How often each unit is among as many, drawn with replacement."""
    return np.asarray(rng.multinomial(units, np.full(units, 1 / units), size=rows), np.int64)


def _estimate(old: Floats, new: Floats, units: int, *, clustered: bool) -> Estimate | None:
    told = ~(np.isnan(old) | np.isnan(new))
    old, new = old[told], new[told]
    if not len(old):
        return None
    both_missing = np.isinf(old) & np.isinf(new)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        ratios = np.where(both_missing, 1.0, new / old)
        changes = np.where(both_missing, 0.0, new - old)
    ratio = _interval(ratios, units) if (old > 0).all() else None
    return Estimate(ratio, _interval(changes, units), units, clustered)


def _interval(drawn: Floats, units: int) -> Interval:
    """The order statistics at both tails, rounded outwards."""
    ordered = np.sort(drawn)
    cut = math.floor(expanded_tail(units, CONFIDENCE) * (len(ordered) - 1))
    return Interval(float(ordered[cut]), float(ordered[len(ordered) - 1 - cut]))
