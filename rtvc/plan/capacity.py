"""The most sessions that a simulated instance holds: climb, then bisect. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from rtvc.plan.simulation import Outcome, Setup, simulate
from rtvc.results.plan import Point
from rtvc.stats import quantile, supports

UTTERANCES = 400
"""In one simulation, about; what is near the edge is simulated more often."""

LEAST_S, LONGEST_S = 60.0, 1200.0
"""Seconds that are simulated at least and at most."""

NEAR = 0.25
"""A delay so near to the target, as a part of it, is simulated again with other draws."""

AGAIN = 3
"""Times that is done."""

FINE = 50
"""Above so many sessions the edge is found to a fiftieth."""

LIMIT = 4096
"""No instance is tried with more sessions."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What every held session has."""

    delay_s: float = 0.5
    """Transcription delay p95 at most."""
    partial_interval_s: float | None = 1.5
    """Median time between two texts of an utterance at most; None: whatever it is."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found."""

    holds: int
    """Most sessions that met the aim; 0: not even one."""
    fails_at: int | None
    """Fewest that did not; None: not found up to the limit."""
    binding: str | None
    """What those missed; None: none was found."""
    points: tuple[Point, ...]
    """All that was simulated, rising."""


def point_of(outcomes: Sequence[Outcome], sessions: int) -> Point:
    """Several simulations of the same, told apart by their draws, as one; at least one."""
    delays = [delay for outcome in outcomes for delay in outcome.delays_s]
    intervals = [each for outcome in outcomes for each in outcome.intervals_s]
    batches = [each.mean_batch for each in outcomes if each.mean_batch is not None]
    rooms = [each.headroom_sessions for each in outcomes if each.headroom_sessions is not None]
    return Point(
        sessions=sessions,
        n=len(delays),
        delay_p50_s=_supported(delays, 0.5),
        delay_p95_s=_supported(delays, 0.95),
        delay_p99_s=_supported(delays, 0.99),
        partial_interval_p50_s=quantile(intervals, 0.5),
        missing=sum(math.isinf(delay) for delay in delays),
        refused=max(outcome.refused for outcome in outcomes),
        mean_batch=fmean(batches) if batches else None,
        busy=fmean(outcome.busy for outcome in outcomes),
        own_work=fmean(outcome.own_work for outcome in outcomes),
        headroom_sessions=fmean(rooms) if rooms else None,
    )


def _supported(values: Sequence[float], q: float) -> float | None:
    return quantile(values, q) if supports(len(values), q) else None


def missed(point: Point, aim: Aim) -> str | None:
    """What keeps these sessions from being held; None: nothing."""
    if point.refused:
        return "sessions refused"
    if point.own_work >= 1:
        return "the server's own process"
    if point.delay_p95_s is None or point.delay_p95_s > aim.delay_s:
        return "transcription delay"
    interval_s, most_s = point.partial_interval_p50_s, aim.partial_interval_s
    if interval_s is not None and most_s is not None and interval_s > most_s:
        return "time between partials"
    return None


def measure_s(setup: Setup) -> float:
    """Seconds in which so many people say enough."""
    wanted_s = UTTERANCES * setup.talk.cycle_s / max(setup.sessions, 1)
    return min(max(wanted_s, LEAST_S), LONGEST_S)


def look(setup: Setup, aim: Aim, of: Callable[[Setup], Outcome] = simulate) -> Point:
    """Simulate one number of sessions, again where it is near the edge."""
    setup = replace(setup, measure_s=measure_s(setup))
    outcomes = [of(setup)]
    point = point_of(outcomes, setup.sessions)
    if not _near(point, aim):
        return point
    outcomes += [of(replace(setup, seed=setup.seed + number + 1)) for number in range(AGAIN)]
    return point_of(outcomes, setup.sessions)


def _near(point: Point, aim: Aim) -> bool:
    pairs = (
        (point.delay_p95_s, aim.delay_s),
        (point.partial_interval_p50_s, aim.partial_interval_s),
    )
    return any(
        value is not None and target is not None and abs(value - target) <= NEAR * target
        for value, target in pairs
    )


def find(
    setup: Setup,
    aim: Aim,
    *,
    limit: int = LIMIT,
    of: Callable[[Setup], Outcome] = simulate,
    told: Callable[[int], None] = lambda _: None,
) -> Found:
    """The most sessions, up to `limit`; `told` hears of each number before it is simulated."""
    points: dict[int, Point] = {}

    def holds(sessions: int) -> bool:
        told(sessions)
        points[sessions] = look(replace(setup, sessions=sessions), aim, of)
        return missed(points[sessions], aim) is None

    low, high = 0, 1
    while high <= limit and holds(high):
        low, high = high, 2 * high
    if high > limit:
        if low == limit or holds(limit):
            return Found(limit, None, None, _rising(points))
        high = limit
    while high - low > max(1, low // FINE):
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return Found(low, high, missed(points[high], aim), _rising(points))


def _rising(points: dict[int, Point]) -> tuple[Point, ...]:
    return tuple(points[sessions] for sessions in sorted(points))
