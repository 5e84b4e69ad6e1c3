"""A day of calls: when each comes and how long it lasts. Pure: one seed, one day."""

import math
import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from rtvc.errors import UsageError

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S

LEAD_S = 2 * HOUR_S
"""Calls begin so long before the day that is counted: at its first second people talk already."""

LONGEST_S = 4 * HOUR_S
"""Of a call; somebody hangs up at last."""

OFFICE: tuple[tuple[float, float], ...] = (
    (0, 0.04),
    (2, 0.02),
    (5, 0.02),
    (6, 0.05),
    (7, 0.16),
    (8, 0.45),
    (9, 0.85),
    (10, 1.00),
    (11, 0.96),
    (12.5, 0.68),
    (14, 0.90),
    (16, 0.82),
    (18, 0.45),
    (19.5, 0.62),
    (21, 0.50),
    (23, 0.12),
    (24, 0.04),
)
"""(hour, share of the busiest moment): people at work, a lunch break, an evening."""

Lengths = Literal["log-normal", "exponential", "fixed"]
"""How lengths of calls scatter about their mean."""

SPREAD = math.sqrt(math.log(2))
"""Of the logarithm of a length, so that its deviation is as large as its mean."""


@dataclass(frozen=True, slots=True)
class Spike:
    """Many who call at once, on top of the day's shape: a broadcast, another service's failure."""

    at_s: float
    """It begins."""
    share: float
    """Calls more, as a part of those at the busiest moment."""
    rise_s: float = 120.0
    """Until it is at its highest."""
    stay_s: float = 900.0
    """So long it stays there; then it ends as fast as it came."""

    def share_at(self, at_s: float) -> float:
        """
        >>> [Spike(0.0, 0.5).share_at(at_s) for at_s in (-1.0, 60.0, 500.0, 1140.0)]
        [0.0, 0.25, 0.5, 0.0]
        """
        since_s = at_s - self.at_s
        left_s = 2 * self.rise_s + self.stay_s - since_s
        return self.share * min(max(min(since_s, left_s) / self.rise_s, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Day:
    """Who calls."""

    peak_calls: float
    """At once, on average, at the busiest moment of the shape."""
    call_s: float = 300.0
    """Length of a call, on average."""
    lengths: Lengths = "log-normal"
    """How they scatter."""
    shape: tuple[tuple[float, float], ...] = OFFICE
    """(hour, share of the busiest moment), from 0 to 24; straight lines between."""
    spikes: tuple[Spike, ...] = ()
    """On top of it."""

    def share_at(self, at_s: float) -> float:
        """Part of the busiest moment's calls that are expected then; before the day: as late on it.

        >>> Day(100.0).share_at(10 * 3600), round(Day(100.0).share_at(-3600), 3)
        (1.0, 0.12)
        """
        hour = at_s / HOUR_S % 24
        after = bisect_right(self.shape, hour, key=lambda knot: knot[0])
        (from_h, low), (to_h, high) = self.shape[after - 1], self.shape[after]
        usual = low + (high - low) * (hour - from_h) / (to_h - from_h)
        return usual + sum(spike.share_at(at_s) for spike in self.spikes)

    @property
    def most_share(self) -> float:
        """Never exceeded."""
        usual = max(share for _, share in self.shape)
        return usual + sum(spike.share for spike in self.spikes)


@dataclass(frozen=True, slots=True)
class Call:
    """One caller."""

    at_s: float
    """Since midnight; less than 0: before the day that is counted."""
    length_s: float
    """Until they hang up."""


def check(day: Day) -> None:
    """Raises UsageError for a day that no service has."""
    if not 0 < day.peak_calls <= 1_000_000:
        raise UsageError(f"expected more than 0 calls at once, up to 1 M, got {day.peak_calls:g}")
    if not 1 <= day.call_s <= HOUR_S:
        raise UsageError(f"expected calls of 1 s to an hour on average, got {day.call_s:g} s")
    hours = [hour for hour, _ in day.shape]
    rising = all(before < after for before, after in pairwise(hours))
    if len(hours) < 2 or not rising or (hours[0], hours[-1]) != (0, 24):
        raise UsageError("expected the shape of a day as hours that rise from 0 to 24")
    if any(share < 0 for _, share in day.shape) or day.most_share <= 0:
        raise UsageError("expected shares of 0 or more, and one above it, in the shape of a day")


def calls(day: Day, seed: int = 0) -> Iterator[Call]:
    """All of them in order: Poisson arrivals whose rate follows the day (by thinning).

    Raises:
        UsageError: no service has such a day.
    """
    check(day)
    rng = random.Random(f"{seed}/day")
    most_per_s = day.most_share * day.peak_calls / day.call_s
    at_s = -LEAD_S + rng.expovariate(most_per_s)
    while at_s < DAY_S:
        if rng.random() * day.most_share < day.share_at(at_s):
            yield Call(at_s, _length_s(day, rng))
        at_s += rng.expovariate(most_per_s)


def _length_s(day: Day, rng: random.Random) -> float:
    if day.lengths == "fixed":
        return day.call_s
    if day.lengths == "exponential":
        drawn_s = rng.expovariate(1 / day.call_s)
    else:
        drawn_s = rng.lognormvariate(math.log(day.call_s) - SPREAD**2 / 2, SPREAD)
    return min(drawn_s, LONGEST_S)
