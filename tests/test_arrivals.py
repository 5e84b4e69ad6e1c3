"""Who comes when, and stays how long."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import UsageError
from rtvc.loadtest.speakers.arrivals import Schedule, rate_per_minute
from rtvc.speech.scenario import Arrivals

OPEN = Arrivals("open", stay_s=(10.0, 30.0))


def callers(per_minute: float, seed: int = 0) -> Schedule:
    return Schedule(OPEN, speakers=1, ramp_s=0.0, per_minute=per_minute, seed=seed)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 500), st.floats(0, 60))
def test_a_ramp_is_even_and_everybody_stays(speakers: int, ramp_s: float) -> None:
    schedule = Schedule(Arrivals(), speakers=speakers, ramp_s=ramp_s)
    came_s = [schedule.arrival_s(number) for number in range(speakers)]
    assert came_s[0] == 0
    assert all(
        after - before == pytest.approx(ramp_s / speakers) for before, after in pairwise(came_s)
    )
    assert came_s[-1] < ramp_s or ramp_s == 0
    assert schedule.stay_s(speakers - 1) is None


@pytest.mark.parametrize("per_minute", [6.0, 60.0, 600.0])
def test_callers_come_at_random_at_the_rate_asked_for(per_minute: float) -> None:
    """As many as a Poisson process has, and gaps as it has them (Kolmogorov and Smirnov)."""
    n, schedule = 4000, callers(per_minute, seed=5)
    came_s = [schedule.arrival_s(number) for number in range(n)]
    gaps_s = [after - before for before, after in pairwise([0.0, *came_s])]
    mean_s = 60 / per_minute
    assert sum(gaps_s) / n == pytest.approx(mean_s, rel=4 / math.sqrt(n))
    furthest = max(
        abs((k + 1) / n - (1 - math.exp(-gap_s / mean_s))) for k, gap_s in enumerate(sorted(gaps_s))
    )
    assert furthest < 1.63 / math.sqrt(n), "the chance of more is 1 %"
    # In one minute as in another: counts vary as much as they are large.
    minutes = int(came_s[-1] // 60)
    counts = [0] * minutes
    for at_s in came_s:
        if at_s < 60 * minutes:
            counts[int(at_s // 60)] += 1
    mean = sum(counts) / minutes
    variance = sum((count - mean) ** 2 for count in counts) / minutes
    assert variance / mean == pytest.approx(1.0, abs=6 / math.sqrt(minutes) + 0.15)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.lists(st.integers(0, 200), min_size=1, max_size=10))
def test_a_caller_is_the_same_in_whatever_order_they_are_asked_for(
    seed: int, numbers: list[int]
) -> None:
    one, other = callers(30.0, seed), callers(30.0, seed)
    in_order = {number: one.arrival_s(number) for number in range(201)}
    assert all(other.arrival_s(number) == in_order[number] for number in numbers)
    for number in numbers:
        stay_s = one.stay_s(number)
        assert stay_s == other.stay_s(number)
        assert stay_s is not None
        assert 10 <= stay_s <= 30
    assert callers(30.0, seed + 1).arrival_s(5) != in_order[5]


def test_as_many_come_as_arrive_before_the_end() -> None:
    schedule = callers(60.0)
    count = schedule.until(100.0, most=1000)
    assert schedule.arrival_s(count - 1) < 100.0 <= schedule.arrival_s(count)
    assert schedule.until(100.0, most=20) == 21, "one more than there may be"
    assert callers(0.01).until(1.0, most=5) == 1, "at least one"


def test_the_rate_keeps_as_many_on_the_line_as_are_wanted() -> None:
    assert rate_per_minute(OPEN, 10) == pytest.approx(30.0)
    assert rate_per_minute(Arrivals("open", per_minute=7.0, stay_s=(1, 2)), 10) == 7.0
    assert rate_per_minute(Arrivals(), 10) is None
    schedule = callers(30.0, seed=3)
    stays = [(schedule.arrival_s(k), schedule.stay_s(k) or 0.0) for k in range(2000)]
    end_s = schedule.arrival_s(1900)
    on_line_s = sum(min(end_s, at + stay) - at for at, stay in stays if at < end_s)
    assert on_line_s / end_s == pytest.approx(10.0, rel=0.1)


def test_without_a_rate_nobody_can_come() -> None:
    with pytest.raises(UsageError, match="callers a minute"):
        Schedule(OPEN, speakers=1, ramp_s=0.0)
