"""A day of a group, call by call: who is served, who is refused, and what is paid."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.plan.balancing import Balancing
from rtvc.plan.clairvoyant import Paid, lower_bound
from rtvc.plan.day import DAY_S, LEAD_S, Call, Day, calls
from rtvc.plan.policy import Policy
from rtvc.plan.scaling import LOOKED_S, SEEN_LATE_S, TICK_S, Scaling, run_day
from rtvc.plan.scaling_fleet import Fleet, ScaleIn
from rtvc.plan.scaling_instance import Tally
from rtvc.plan.target_tracking import Group

POLICY = Policy(
    target_percent=50,
    warm_up_s=60,
    metric_period_s=10,
    idle_before_unprotected_s=60,
    deregistration_delay_s=120,
    hook_timeout_s=3600,
    boot_s_assumed=60,
)

FLEET = Fleet(capacity=10, boot_s=60.0, least=1, most=5, room=False)

HOUR_S = 3600.0


def line(callers: int, at_s: float, length_s: float) -> list[Call]:
    """So many who call one after the other, a second apart."""
    return [Call(at_s + number, length_s) for number in range(callers)]


def lived(came: Sequence[Call], wanted: int = 1, **more: Any) -> Tally:
    """A day; `more` are changes of the fleet or the policy."""
    names = {each for each in more if hasattr(POLICY, each)}
    policy = replace(POLICY, **{name: more[name] for name in names})
    fleet = replace(FLEET, **{name: more[name] for name in more.keys() - names})
    return run_day(came, fleet, policy, wanted)


def ticks(tally: Tally, at_s: float) -> int:
    """Instances wanted then."""
    return tally.wanted[int(at_s // TICK_S)]


def paid(tally: Tally) -> Paid:
    return Paid(tuple(tally.spans))


# Growing


def test_it_grows_when_three_figures_are_above_the_target_and_not_before() -> None:
    """Eight callers from 00:00:01 on; figures of 80 % at 10, 20 and 30 s."""
    tally = lived(line(8, 1.0, 2 * HOUR_S))
    assert [ticks(tally, at_s) for at_s in (0, 10, 20, 30, 40)] == [1, 1, 1, 2, 2]
    assert sorted(span[0] for span in tally.spans)[:2] == [0.0, 30.0]


def test_it_grows_for_fewer_callers_when_there_is_to_be_room_for_chance() -> None:
    """Five callers are 50 % of one instance, and with their root more than that."""
    came = line(5, 1.0, 2 * HOUR_S)
    assert ticks(lived(came), 600) == 1
    assert ticks(lived(came, room=True), 600) == 2


def test_servers_ask_for_the_root_of_all_their_sessions_together() -> None:
    scaling = Scaling(replace(FLEET, room=True), POLICY, wanted=4)
    for number in range(16):
        scaling.arrive(Call(1.0 + number, HOUR_S))
    # 4 × 10 sessions can be held; 16 and 4 more are asked for.
    assert scaling._percent() == pytest.approx(50.0)


def test_nobody_is_served_by_an_instance_that_boots() -> None:
    """Ten hold the first instance; the second is started at 30 s and ready at 90 s."""
    came = [*line(10, 1.0, 2 * HOUR_S), Call(80.0, 60.0), Call(95.0, 60.0)]
    tally = lived(came)
    assert tally.refused_at_s == [80.0]
    # It would have found room as soon as the second was there.
    assert tally.waits_s == [10.0]


def test_a_figure_that_is_heard_late_is_answered_late() -> None:
    tally = lived(line(8, 1.0, 2 * HOUR_S), heard_late_s=30.0)
    assert [ticks(tally, at_s) for at_s in (30, 50, 60)] == [1, 1, 2]


def test_an_instance_counts_a_while_after_it_is_ready_however_long_that_took() -> None:
    """Terraform takes the boot that is assumed (60 s) off the warm-up (90 s), and AWS counts from
    when an instance is in service."""
    fleet = replace(FLEET, boot_s=300.0)
    scaling = Scaling(fleet, replace(POLICY, warm_up_s=90.0), 1)
    scaling.tick(0.0)
    for call in line(8, 1.0, 2 * HOUR_S):
        scaling.arrive(call)
    warming: list[int] = []
    for at_s in range(10, 400, TICK_S):
        scaling.tick(at_s)
        warming += [at_s] if scaling._as_seen(at_s).warming else []
    # Started at 30 s, ready at 330 s.
    assert warming == list(range(30, 360, TICK_S))


@pytest.mark.parametrize("by_wanted", [False, True])
def test_who_is_taken_away_is_told_apart_from_who_is_there(by_wanted: bool) -> None:
    scaling = Scaling(replace(FLEET, by_wanted=by_wanted), POLICY, 3)
    scaling._take_away(scaling._group[0], 0.0)
    expected = Group(settled=3, warming=0) if by_wanted else Group(2, 0, leaving=1)
    assert scaling._as_seen(0.0) == expected


def test_there_are_never_more_than_allowed_and_callers_beyond_are_refused() -> None:
    came = [Call(1.0 + 5 * number, 2 * HOUR_S) for number in range(60)]
    tally = lived(came, most=3)
    assert max(tally.wanted) == 3
    assert max(paid(tally).counts(60.0)) == 3
    assert len(tally.served) <= 30
    assert len(tally.served) + len(tally.refused_at_s) == tally.calls == 60


def test_whoever_waits_longest_is_counted_to_the_end() -> None:
    tally = lived([Call(0.0, 100.0), Call(10.0, 5.0)], capacity=1, most=1)
    assert tally.waits_s == [90.0]
    never = lived([Call(0.0, DAY_S), Call(10.0, 5.0)], capacity=1, most=1)
    assert never.waits_s == [math.inf]


# Shrinking


def test_without_calls_the_least_is_paid_and_no_more() -> None:
    tally = lived([], wanted=4, least=2)
    assert paid(tally).instance_s == 2 * DAY_S
    assert set(tally.wanted) == {2}
    assert tally.calls == tally.cut == 0


def crowd(long_s: float) -> list[Call]:
    """Forty who call four instances when all begins; 36 hang up after ten minutes, and one of each
    instance talks on."""
    return [*line(36, -LEAD_S, 600.0), *line(4, 40 - LEAD_S, long_s)]


@pytest.mark.parametrize("scale_in", ["aside", "idle"])
def test_an_instance_with_a_call_is_never_taken(scale_in: ScaleIn) -> None:
    tally = lived(crowd(LEAD_S + HOUR_S), wanted=4, target_percent=100, scale_in=scale_in)
    assert tally.cut == 0
    assert ticks(tally, 0.0) == 1
    # All four stay as long as the last call, and then three of them go.
    assert paid(tally).counts(HOUR_S)[:4] == [4, 4, 1, 1]


def test_calls_that_outlast_the_delay_are_cut_where_any_instance_may_go() -> None:
    came = crowd(LEAD_S + HOUR_S)
    hasty: dict[str, Any] = {"wanted": 4, "target_percent": 100, "scale_in": "drain"}
    tally = lived(came, **hasty)
    assert tally.cut == 3
    assert len(tally.served) == 40
    # Of these there was no more than until then: the least possible must not count the rest.
    until_s = [call.at_s + call.length_s for call in tally.served[36:]]
    assert sorted(until_s)[:3] == [min(until_s)] * 3
    assert min(until_s) < 0 < HOUR_S < max(until_s)
    assert lived(came, **hasty, deregistration_delay_s=4 * HOUR_S).cut == 0


def a_pair(talk_on_s: float) -> list[Call]:
    """Five on each of two instances, as many as the target; four of each hang up at midnight, and
    one of each so much later."""
    ends_s = [0.0] * 8 + [talk_on_s] * 2
    return [Call(n - LEAD_S, ends_s[n] + LEAD_S - n) for n in range(10)]


FALLS_S = 890.0
"""The fifteenth minute after midnight is over: one of two is wanted."""


def test_it_shrinks_after_a_quarter_of_an_hour_and_the_load_balancer_hears_of_it_later() -> None:
    tally = lived(a_pair(HOUR_S), wanted=2)
    assert (ticks(tally, FALLS_S - TICK_S), ticks(tally, FALLS_S)) == (2, 1)
    assert tally.aside.index(1) * TICK_S == FALLS_S + SEEN_LATE_S


def test_who_stands_aside_gets_no_calls_and_goes_when_empty() -> None:
    """Its last call ends at 40 min; those who call from 30 min on talk to the other."""
    later = [Call(1800.0 + 20 * number, 30.0) for number in range(60)]
    tally = lived([*a_pair(2400.0), *later], wanted=2)
    assert tally.cut == 0
    assert max(tally.aside) == 1
    gone_s = min(until_s for _, until_s in tally.spans)
    # The last call, a while of nothing, another look, the load balancer's delay; a tick for each.
    free_s = 2400 + POLICY.idle_before_unprotected_s
    expected_s = free_s + LOOKED_S + POLICY.deregistration_delay_s
    assert expected_s <= gone_s <= expected_s + 3 * TICK_S


def test_who_stands_aside_comes_back_when_people_call_again() -> None:
    """Nothing boots: it is there already."""
    rush = line(16, 1800.0, 2 * HOUR_S)
    tally = lived([*a_pair(2 * HOUR_S), *rush], wanted=2, most=2)
    assert tally.aside[int(1790 // TICK_S)] == 1
    assert tally.aside[int(2400 // TICK_S)] == 0
    assert ticks(tally, 2400.0) == 2
    assert len(tally.spans) == 2
    # Whoever was refused would have found room when it was back, a minute and a half later.
    assert tally.refused_at_s
    assert 0 < max(tally.waits_s) < 120


def test_one_that_is_empty_already_goes_a_look_after_it_lets_nobody_in() -> None:
    """Named at the first look, shut at the second, and ended at the third."""
    tally = lived(a_pair(0.0), wanted=2)
    gone_s = min(until_s for _, until_s in tally.spans)
    assert gone_s == FALLS_S + 3 * LOOKED_S + POLICY.deregistration_delay_s


def test_an_empty_one_may_go_before_the_delay_is_over() -> None:
    waits = lived(a_pair(0.0), wanted=2, deregistration_delay_s=1800.0)
    hurries = lived(a_pair(0.0), wanted=2, deregistration_delay_s=1800.0, ends_when_empty=True)
    spared_s = paid(waits).instance_s - paid(hurries).instance_s
    assert spared_s == pytest.approx(1800.0, abs=2 * TICK_S)


def test_who_stands_aside_takes_calls_until_the_balancer_has_noticed() -> None:
    """They come after all servers know, and before the balancer does; then to the other one."""
    at_s = [FALLS_S + LOOKED_S + TICK_S + 1, FALLS_S + SEEN_LATE_S + TICK_S + 1]
    came = [*a_pair(HOUR_S), *(call for s in at_s for call in line(4, s, 60.0))]
    assert lived(came, wanted=2).refused_at_s == []
    refused = lived(came, wanted=2, aside_refuses=True).refused_at_s
    assert {int(s // TICK_S) for s in refused} == {int(at_s[0] // TICK_S)}


# Balancing


def test_a_balancer_that_counts_refuses_only_when_all_are_full() -> None:
    """Short and long calls by turns: in turn, all the long ones meet in one instance."""
    came = [Call(float(n), HOUR_S if n % 2 else 30.0) for n in range(60)]
    two: dict[str, Any] = {"wanted": 2, "least": 2, "most": 2, "capacity": 25}
    assert lived(came, **two, balancing="least").refused_at_s == []
    assert len(lived(came, **two, balancing="round-robin").refused_at_s) == 5
    assert lived(came, **two, balancing="round-robin", retries=1).refused_at_s == []


def load_of_each(tally: Tally, scaling: Scaling) -> list[int]:
    assert tally is scaling.tally
    return sorted(instance.calls for instance in scaling._group.values())


@pytest.mark.parametrize(
    ("way", "expected"), [("least", [4, 4]), ("fullest", [0, 8]), ("round-robin", [4, 4])]
)
def test_calls_go_where_the_way_of_balancing_says(way: Balancing, expected: list[int]) -> None:
    scaling = Scaling(replace(FLEET, least=2, balancing=way), POLICY, 2)
    for call in line(8, 0.0, 600.0):
        scaling.arrive(call)
    assert load_of_each(scaling.tally, scaling) == expected


# All of it


def a_day() -> list[Call]:
    """Small, with peaks, at most some fifty at once."""
    return list(calls(Day(50.0, call_s=300.0), seed=2))


def test_the_same_day_gives_the_same_figures() -> None:
    came = a_day()
    first, again = lived(came, wanted=2, most=30), lived(came, wanted=2, most=30)
    assert first == again


@pytest.mark.parametrize("balancing", ["least", "round-robin", "fullest"])
@pytest.mark.parametrize("scale_in", ["aside", "idle", "drain"])
def test_every_day_adds_up(balancing: Balancing, scale_in: ScaleIn) -> None:
    came = a_day()
    tally = lived(came, wanted=2, most=30, balancing=balancing, scale_in=scale_in)
    assert tally.calls == sum(call.at_s >= 0 for call in came)
    of_the_day = sum(call.at_s >= 0 for call in tally.served)
    assert of_the_day + len(tally.refused_at_s) == tally.calls
    assert len(tally.waits_s) == len(tally.refused_at_s)
    assert all(1 <= wanted <= 30 for wanted in tally.wanted)
    assert len(tally.wanted) == len(tally.aside) == DAY_S // TICK_S
    assert all(0 <= from_s < until_s <= DAY_S for from_s, until_s in tally.spans)
    # At any instant there are as many slots as calls, and nobody pays less than the bound.
    bound = lower_bound(tally.served, FLEET.capacity, FLEET.boot_s)
    assert paid(tally).instance_s >= bound.instance_s
    assert scale_in == "drain" or tally.cut == 0


def test_a_balancer_of_several_nodes_adds_up_too() -> None:
    came = a_day()
    tally = lived(came, wanted=2, most=30, nodes=3)
    one = lived(came, wanted=2, most=30)
    assert tally.served != one.served or tally.spans != one.spans
    assert tally.calls == one.calls
    assert len(tally.waits_s) == len(tally.refused_at_s)
    assert tally.cut == 0


@pytest.mark.slow
@given(
    seed=st.integers(0, 10_000),
    peak_calls=st.floats(1.0, 40.0),
    capacity=st.integers(1, 12),
    boot_s=st.sampled_from([0.0, 45.0, 180.0, 900.0]),
    scale_in=st.sampled_from(["aside", "idle", "drain"]),
    balancing=st.sampled_from(["least", "round-robin", "fullest"]),
)
@settings(deadline=None, max_examples=25)
def test_no_fleet_pays_less_than_the_least_possible(
    seed: int,
    peak_calls: float,
    capacity: int,
    boot_s: float,
    scale_in: ScaleIn,
    balancing: Balancing,
) -> None:
    """However it goes about it, and whomever it refuses or cuts."""
    fleet = Fleet(
        capacity, boot_s, least=1, most=12, balancing=balancing, scale_in=scale_in, nodes=2
    )
    tally = run_day(calls(Day(peak_calls), seed), fleet, POLICY, 1)
    bound = lower_bound(tally.served, capacity, boot_s)
    assert bound.instance_s <= paid(tally).instance_s + 1e-6


def test_what_is_published_by_those_who_stand_aside_steadies_the_group() -> None:
    """Left out of the average, the others look fuller than they will be."""
    came = a_day()
    steady = lived(came, wanted=2, most=30)
    without = lived(came, wanted=2, most=30, aside_says=False)

    def turns(tally: Tally) -> int:
        """How often it was to grow after it was to shrink."""
        moves = [after - before for before, after in pairwise(tally.wanted) if after != before]
        return sum(before < 0 < after for before, after in pairwise(moves))

    assert turns(steady) < turns(without)
