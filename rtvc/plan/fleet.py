"""Many instances by the calls that each holds: how many are needed, and what comes of it. Pure.

One instance is simulated event by event elsewhere; here a call is one arrival and one departure, so
an hour of a million users takes seconds.
"""

import heapq
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rtvc.errors import UsageError
from rtvc.plan.erlang import refused, slots_for
from rtvc.results.plan import Demand

Routing = Literal["pooled", "random"]
"""Where a call goes: to an instance with room, as a balancer knows that counts sessions, or to any
of them, as one does that knows nothing."""

MOST_CALLS = 300_000
"""Counted one by one at most; a longer hour is cut short, and says so by its number of calls."""


@dataclass(frozen=True, slots=True)
class Calls:
    """What was counted."""

    calls: int
    """That came while it was counted."""
    refused: int
    """Of these."""
    most_at_once: int
    """On the line, over all instances."""

    @property
    def refused_share(self) -> float:
        return self.refused / self.calls if self.calls else 0.0


def check(demand: Demand) -> None:
    """Raises UsageError for what no service has."""
    if not 1 <= demand.users <= 1_000_000_000:
        raise UsageError(f"expected 1 to 1,000,000,000 users, got {demand.users:,}")
    if not 0 < demand.calls_per_day <= 1000:
        raise UsageError(
            f"expected more than 0 calls a day of a user, up to 1000, got {demand.calls_per_day:g}"
        )
    if not 1 <= demand.call_s <= 86_400:
        raise UsageError(f"expected calls of 1 s to a day, got {demand.call_s:g} s")
    if not 1 / 24 <= demand.busy_hour_share <= 1:
        share = 100 * demand.busy_hour_share
        raise UsageError(
            f"expected 4.17 to 100 % of a day's calls in its busiest hour, got {share:g} %"
        )


def instances_for(
    demand: Demand, sessions_each: int, at_most: float, routing: Routing = "pooled"
) -> int | None:
    """The fewest instances that refuse no more than this part of the calls; None: an instance
    holds nobody."""
    if sessions_each < 1:
        return None
    if routing == "pooled":
        return max(math.ceil(slots_for(demand.erlangs, at_most) / sessions_each), 1)
    return _alone(demand.erlangs, sessions_each, at_most)


def _alone(erlangs: float, sessions_each: int, at_most: float) -> int:
    """Each with its own share of the calls, by bisection: more instances never refuse more."""
    low, high = 0, 1
    while refused(sessions_each, erlangs / high) > at_most:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        enough = refused(sessions_each, erlangs / middle) <= at_most
        low, high = (low, middle) if enough else (middle, high)
    return high


def refused_by(
    demand: Demand, instances: int, sessions_each: int, routing: Routing = "pooled"
) -> float:
    """The part of the calls that so many instances refuse."""
    if routing == "pooled":
        return refused(instances * sessions_each, demand.erlangs)
    return refused(sessions_each, demand.erlangs / instances)


def count_calls(
    demand: Demand,
    instances: int,
    sessions_each: int,
    routing: Routing = "pooled",
    *,
    seed: int = 0,
    hours: float = 1.0,
) -> Calls:
    """The busiest hour, call by call: Poisson arrivals, lengths between half and one and a half
    times the mean. What is counted begins once the line is as full as it gets."""
    rng = random.Random(f"{seed}/calls")
    free = [sessions_each] * instances
    spread = _Spread(free, routing, rng)
    leaving: list[tuple[float, int]] = []
    rate = demand.calls_per_hour / 3600
    settled_s = 2 * demand.call_s
    ends_s = settled_s + min(3600 * hours, MOST_CALLS / rate)
    came = turned_away = most = 0
    for at_s in _arrivals(rate, ends_s, rng):
        while leaving and leaving[0][0] <= at_s:
            spread.give_back(heapq.heappop(leaving)[1])
        counts = at_s >= settled_s
        came += counts
        instance = spread.take()
        if instance is None:
            turned_away += counts
            continue
        heapq.heappush(leaving, (at_s + demand.call_s * rng.uniform(0.5, 1.5), instance))
        most = max(most, len(leaving))
    return Calls(came, turned_away, most)


def _arrivals(rate: float, ends_s: float, rng: random.Random) -> Iterator[float]:
    at_s = rng.expovariate(rate)
    while at_s < ends_s:
        yield at_s
        at_s += rng.expovariate(rate)


class _Spread:
    """Gives calls to instances."""

    def __init__(self, free: list[int], routing: Routing, rng: random.Random) -> None:
        self._free = free
        self._routing = routing
        self._rng = rng
        # Instances with room, each once; whoever was given back to stands last.
        self._open = [number for number, slots in enumerate(free) if slots > 0]
        self._place = {number: place for place, number in enumerate(self._open)}

    def take(self) -> int | None:
        """An instance for one more call; None: it is refused."""
        if self._routing == "random":
            chosen = self._rng.randrange(len(self._free))
            if not self._free[chosen]:
                return None
        elif not self._open:
            return None
        else:
            # Which one does not matter to how many are refused.
            chosen = self._open[self._rng.randrange(len(self._open))]
        self._free[chosen] -= 1
        if not self._free[chosen]:
            self._shut(chosen)
        return chosen

    def give_back(self, instance: int) -> None:
        if not self._free[instance]:
            self._place[instance] = len(self._open)
            self._open.append(instance)
        self._free[instance] += 1

    def _shut(self, instance: int) -> None:
        """The last takes its place."""
        place, last = self._place.pop(instance), self._open.pop()
        if last != instance:
            self._open[place] = last
            self._place[last] = place
