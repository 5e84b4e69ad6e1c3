"""What somebody pays who knows every call beforehand: enclosed, and the bounds hold."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.plan.clairvoyant import Paid, lower_bound, packed
from rtvc.plan.day import DAY_S, Call


def partitions(calls: Sequence[Call]) -> Iterator[list[list[Call]]]:
    """All ways to deal them out to instances."""
    if not calls:
        yield []
        return
    first, rest = calls[0], calls[1:]
    for dealt in partitions(rest):
        yield [[first], *dealt]
        for number in range(len(dealt)):
            yield [*dealt[:number], [first, *dealt[number]], *dealt[number + 1 :]]


def at_once(calls: Sequence[Call]) -> int:
    """Most of them on the line together; who hangs up as another calls makes room first."""
    changes = [(c.at_s, 1) for c in calls] + [(c.at_s + c.length_s, -1) for c in calls]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def price_of(calls: Sequence[Call], boot_s: float) -> float:
    """Of one instance that holds these: kept where that is cheaper than to boot it again."""
    total_s, until_s, started = 0.0, 0.0, False
    for call in sorted(calls, key=lambda each: each.at_s):
        gap_s = call.at_s - until_s
        if gap_s > 0 or not started:
            total_s += min(gap_s, boot_s)
        started = True
        ends_s = call.at_s + call.length_s
        total_s += max(ends_s - max(call.at_s, until_s), 0.0)
        until_s = max(until_s, ends_s)
    return total_s


def optimum_s(calls: Sequence[Call], capacity: int, boot_s: float) -> float:
    """By trying everything."""
    return min(
        sum(price_of(held, boot_s) for held in dealt)
        for dealt in partitions(calls)
        if all(at_once(held) <= capacity for held in dealt)
    )


some_calls = st.lists(
    st.builds(
        Call,
        st.integers(0, 40).map(float),
        st.integers(1, 30).map(float),
    ),
    min_size=1,
    max_size=6,
).map(lambda calls: sorted(calls, key=lambda call: call.at_s))


@given(calls=some_calls, capacity=st.integers(1, 3), boot_s=st.sampled_from([0.0, 3.0, 12.0, 60.0]))
@settings(deadline=None, max_examples=120)
def test_the_optimum_lies_between_the_bounds(
    calls: list[Call], capacity: int, boot_s: float
) -> None:
    best_s = optimum_s(calls, capacity, boot_s)
    assert lower_bound(calls, capacity, boot_s).instance_s <= best_s + 1e-6
    assert packed(calls, capacity, boot_s).instance_s >= best_s - 1e-6


@given(calls=some_calls, boot_s=st.sampled_from([0.0, 5.0]))
@settings(deadline=None, max_examples=60)
def test_with_room_for_all_the_bound_is_the_optimum(calls: list[Call], boot_s: float) -> None:
    assert lower_bound(calls, 6, boot_s).instance_s == pytest.approx(optimum_s(calls, 6, boot_s))


@given(calls=some_calls, capacity=st.integers(1, 3), boot_s=st.sampled_from([0.0, 5.0]))
@settings(deadline=None, max_examples=60)
def test_there_are_always_enough_of_them(calls: list[Call], capacity: int, boot_s: float) -> None:
    for found in (lower_bound(calls, capacity, boot_s), packed(calls, capacity, boot_s)):
        for call in calls:
            there = sum(from_s <= call.at_s < until_s for from_s, until_s in found.spans)
            line = sum(c.at_s <= call.at_s < c.at_s + c.length_s for c in calls)
            assert there * capacity >= line


def test_by_hand() -> None:
    """Two calls together need one instance of two slots, and two of one slot."""
    both = [Call(100.0, 50.0), Call(120.0, 60.0)]
    assert lower_bound(both, 2, 30.0).spans == ((70.0, 180.0),)
    assert lower_bound(both, 1, 30.0).instance_s == (30 + 80) + (30 + 30)
    assert packed(both, 1, 30.0).instance_s == (30 + 50) + (30 + 60)


def test_a_short_gap_is_bridged_and_a_long_one_booted() -> None:
    near = [Call(100.0, 50.0), Call(170.0, 10.0)]
    far = [Call(100.0, 50.0), Call(300.0, 10.0)]
    for found in (lower_bound, packed):
        assert found(near, 1, 30.0).instance_s == 30 + 50 + 20 + 10
        assert found(far, 1, 30.0).instance_s == 30 + 50 + 30 + 10


def test_only_what_lies_within_the_day_is_paid() -> None:
    calls = [Call(-600.0, 300.0), Call(-50.0, 100.0), Call(DAY_S - 10, 100.0)]
    for found in (lower_bound, packed):
        paid = found(calls, 1, 30.0)
        assert paid.instance_s == pytest.approx(50.0 + 30.0 + 10.0)
        assert all(0 <= from_s < until_s <= DAY_S for from_s, until_s in paid.spans)


def test_nobody_calls_and_nobody_pays() -> None:
    assert lower_bound([], 5, 60.0) == packed([], 5, 60.0) == Paid(())
    assert Paid(()).instance_s == 0
    assert set(Paid(()).counts(3600.0)) == {0}


def test_instances_are_counted_at_instants() -> None:
    paid = Paid(((0.0, DAY_S), (3600.0, 7200.0), (3601.0, 7201.0)))
    counts = paid.counts(3600.0)
    assert len(counts) == 25
    assert counts[:4] == [1, 2, 2, 1]
    assert counts[24] == 0
