"""What a fleet that scales is made of: a day of calls, a balancer, target tracking, its numbers."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import UsageError
from rtvc.plan.balancing import Balancer, Balancing, Target
from rtvc.plan.day import DAY_S, LEAD_S, LONGEST_S, OFFICE, Day, Lengths, Spike, calls
from rtvc.plan.policy import FILE, policy_file, read_policy
from rtvc.plan.scaling import LOOKED_S, SEEN_LATE_S
from rtvc.plan.target_tracking import MINUTES_IN, Group, TargetTracking

# A day


def expected_calls(day: Day) -> float:
    """The area below its shape."""
    hours = sum(
        (to_h - from_h) * (low + high) / 2 for (from_h, low), (to_h, high) in pairwise(day.shape)
    )
    return hours * 3600 * day.peak_calls / day.call_s


@pytest.mark.parametrize("seed", [0, 1])
def test_as_many_call_as_the_shape_says(seed: int) -> None:
    day = Day(100.0)
    came = [call for call in calls(day, seed) if call.at_s >= 0]
    expected = expected_calls(day)
    assert abs(len(came) - expected) < 5 * math.sqrt(expected)
    busiest = sum(9.5 * 3600 <= call.at_s < 10.5 * 3600 for call in came)
    night = sum(2 * 3600 <= call.at_s < 5 * 3600 for call in came)
    assert busiest > 10 * night / 3


def test_one_seed_gives_one_day_in_order() -> None:
    day = Day(20.0)
    assert list(calls(day, 3)) == list(calls(day, 3))
    assert list(calls(day, 3)) != list(calls(day, 4))
    instants = [call.at_s for call in calls(day, 3)]
    assert instants == sorted(instants)
    assert -LEAD_S <= instants[0] < 0
    assert instants[-1] < DAY_S


@pytest.mark.parametrize("kind", get_args(Lengths))
def test_calls_are_as_long_as_they_should_be(kind: Lengths) -> None:
    lengths = [call.length_s for call in calls(Day(200.0, call_s=240.0, lengths=kind))]
    assert fmean(lengths) == pytest.approx(240.0, rel=0.03)
    assert max(lengths) <= LONGEST_S
    assert (len(set(lengths)) == 1) is (kind == "fixed")


def test_a_spike_lets_more_people_call_for_a_while() -> None:
    spike = Spike(15 * 3600.0, 0.5, rise_s=60.0, stay_s=1800.0)
    usual, day = Day(100.0), Day(100.0, spikes=(spike,))
    assert day.share_at(15.25 * 3600) == pytest.approx(usual.share_at(15.25 * 3600) + 0.5)
    assert day.share_at(14.9 * 3600) == usual.share_at(14.9 * 3600)
    assert day.share_at(16 * 3600) == usual.share_at(16 * 3600)
    counts = [
        sum(15.1 * 3600 <= call.at_s < 15.4 * 3600 for call in calls(each, 1))
        for each in (usual, day)
    ]
    assert counts[1] > 1.3 * counts[0]


def test_the_shape_that_ships_goes_from_midnight_to_midnight() -> None:
    assert (OFFICE[0][0], OFFICE[-1][0]) == (0, 24)
    assert OFFICE[0][1] == OFFICE[-1][1]
    assert max(share for _, share in OFFICE) == 1
    # From what two instances hold to what sixty hold.
    assert 60 * min(share for _, share in OFFICE) < 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"peak_calls": 0.0}, "calls at once"),
        ({"call_s": 0.5}, "calls of 1 s"),
        ({"shape": ((0, 1.0), (23, 1.0))}, "from 0 to 24"),
        ({"shape": ((0, 1.0), (12, 1.0), (12, 0.5), (24, 1.0))}, "hours that rise"),
        ({"shape": ((0, -1.0), (24, 1.0))}, "shares of 0 or more"),
        ({"shape": ((0, 0.0), (24, 0.0))}, "one above it"),
    ],
)
def test_a_day_that_no_service_has_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        next(calls(replace(Day(10.0), **change)))


# A balancer


def opened(
    balancing: Balancing, capacity: int, loads: Sequence[int], retries: int = 0, nodes: int = 1
) -> tuple[Balancer[Target], list[Target]]:
    """Instances with so many calls."""
    balancer = Balancer[Target](balancing, capacity, retries, nodes)
    targets = [Target(number, calls=load) for number, load in enumerate(loads)]
    for target in targets:
        balancer.open(target)
    return balancer, targets


def test_the_instance_with_the_fewest_gets_the_call() -> None:
    balancer, targets = opened("least", 4, [3, 1, 2])
    assert balancer.take() is targets[1]
    assert targets[1].calls == 2
    # Of equals the one that has had so many for longer.
    assert balancer.take() is targets[2]


def test_the_fullest_with_room_gets_the_call() -> None:
    balancer, targets = opened("fullest", 4, [3, 1, 4])
    assert balancer.take() is targets[0]
    assert balancer.take() is targets[1]


def test_in_turn_a_full_one_refuses_unless_another_is_tried() -> None:
    balancer, targets = opened("round-robin", 2, [2, 0, 2])
    assert [balancer.take() for _ in range(4)] == [None, targets[1], None, None]
    patient, others = opened("round-robin", 2, [2, 0, 2], retries=2)
    assert patient.take() is others[1]


def test_who_is_closed_keeps_its_calls_and_gets_none() -> None:
    balancer, targets = opened("least", 2, [1, 2])
    balancer.close(targets[0])
    assert balancer.take() is None
    assert not balancer.has_room
    balancer.give_back(targets[0])
    assert (targets[0].calls, targets[0].open) == (0, False)
    balancer.open(targets[0])
    assert (balancer.has_room, balancer.take()) == (True, targets[0])


def test_each_node_knows_only_the_calls_that_it_gave() -> None:
    balancer, targets = opened("least", 4, [0, 0], nodes=2)
    # By turns, and neither sees what the other did.
    assert [balancer.take() for _ in range(4)] == [targets[0]] * 2 + [targets[1]] * 2
    for node in (0, 1):
        balancer.give_back(targets[1], node)
    assert [balancer.take() for _ in range(2)] == [targets[1]] * 2


def test_a_node_runs_into_one_that_another_has_filled() -> None:
    balancer, targets = opened("least", 1, [0, 0], nodes=2)
    assert balancer.take() is targets[0]
    assert balancer.take() is None
    assert balancer.has_room
    assert balancer.take() is targets[1]
    assert not balancer.has_room


@given(
    balancing=st.sampled_from(get_args(Balancing)),
    capacity=st.integers(1, 3),
    nodes=st.sampled_from([1, 3]),
    deeds=st.lists(st.tuples(st.sampled_from(["take", "back", "flip"]), st.integers(0, 3))),
)
@settings(deadline=None, max_examples=200)
def test_nobody_gets_more_than_it_holds_and_nobody_is_forgotten(
    balancing: Balancing, capacity: int, nodes: int, deeds: list[tuple[str, int]]
) -> None:
    several = nodes if balancing == "least" else 1
    balancer, targets = opened(balancing, capacity, [0, 0, 0, 0], retries=3, nodes=several)
    given_by: dict[int, list[int]] = {target.number: [] for target in targets}
    for deed, number in deeds:
        target = targets[number]
        if deed == "take":
            room = [each for each in targets if each.open and each.calls < capacity]
            found = balancer.take()
            assert found in room or (found is None and (not room or several > 1))
            if found is not None:
                given_by[found.number].append(balancer.node)
        elif deed == "back" and target.calls:
            balancer.give_back(target, given_by[number].pop())
        elif deed == "flip":
            (balancer.close if target.open else balancer.open)(target)
        assert [each.calls for each in targets] == [len(each) for each in given_by.values()]
        assert all(0 <= each.calls <= capacity for each in targets)
        open_room = any(each.open and each.calls < capacity for each in targets)
        assert balancer.has_room is open_room


# Target tracking


def tracking(period_s: int = 60, **more: Any) -> TargetTracking:
    known: dict[str, Any] = {"sample_s": 10, "least": 2, "most": 20, "wanted": 10}
    return TargetTracking(80, period_s=period_s, **{**known, **more})


def fed(policy: TargetTracking, percent: float, seconds: float, **group: int) -> list[int]:
    """A figure every 10 s."""
    there = Group(**{"settled": 10, "warming": 0, **group})
    return [policy.sample(percent, there) for _ in range(int(seconds // 10))]


@pytest.mark.parametrize("period_s", [10, 30, 60])
def test_it_grows_after_three_periods_above_the_target(period_s: int) -> None:
    policy = tracking(period_s)
    assert set(fed(policy, 96.0, 3 * period_s - 10)) == {10}
    assert fed(policy, 96.0, 10) == [12]


def test_a_period_at_the_target_begins_the_count_anew() -> None:
    policy = tracking(10)
    assert fed(policy, 96.0, 20) + fed(policy, 80.0, 10) + fed(policy, 96.0, 20) == [10] * 5
    assert fed(policy, 96.0, 10) == [12]


@pytest.mark.parametrize("period_s", [10, 60])
def test_it_shrinks_after_fifteen_minutes_whatever_the_period(period_s: int) -> None:
    policy = tracking(period_s)
    assert set(fed(policy, 40.0, 60 * MINUTES_IN - 10)) == {10}
    assert fed(policy, 40.0, 10) == [5]


def test_it_shrinks_only_if_every_minute_was_ten_percent_below() -> None:
    policy = tracking(10)
    fed(policy, 40.0, 60 * (MINUTES_IN - 1))
    assert set(fed(policy, 72.0, 60)) == {10}
    assert set(fed(policy, 71.9, 60 * (MINUTES_IN - 1))) == {10}
    assert fed(policy, 71.9, 60)[-1] == 9


def test_what_is_wanted_keeps_to_the_target() -> None:
    """Rounded up: 10 instances at 60 % are 8 at 75 %, not 7 at 86 %."""
    policy = tracking(10)
    assert fed(policy, 60.0, 60 * MINUTES_IN)[-1] == 8


def test_one_breach_is_answered_once_while_the_answer_is_warming_up() -> None:
    policy = tracking(10)
    assert fed(policy, 96.0, 30)[-1] == 12
    assert set(fed(policy, 96.0, 120, settled=10, warming=2)) == {12}
    assert fed(policy, 100.0, 30, settled=10, warming=2)[-1] == 13
    assert fed(policy, 84.0, 10, settled=12, warming=1)[-1] == 13


def test_nothing_is_taken_away_while_something_warms_up() -> None:
    policy = tracking(10)
    assert set(fed(policy, 40.0, 120 * MINUTES_IN, settled=9, warming=1)) == {10}
    assert fed(policy, 40.0, 60, settled=10)[-1] == 5


def test_who_is_going_already_is_not_taken_away_once_more() -> None:
    """AWS counts them when a group shrinks."""
    assert fed(tracking(10), 40.0, 60 * MINUTES_IN, leaving=5)[-1] == 8
    assert fed(tracking(10), 96.0, 30, leaving=5)[-1] == 12


def test_how_low_the_low_alarm_is_may_be_said() -> None:
    lower = tracking(10, low=0.7)
    assert set(fed(lower, 56.0, 120 * MINUTES_IN)) == {10}
    assert fed(lower, 55.9, 60 * MINUTES_IN)[-1] == 7


def test_the_low_alarm_may_look_at_each_period() -> None:
    """One figure in six is at the target: no minute is, on average."""
    by_minute, by_period = tracking(10), tracking(10, low_period_s=10)
    for _ in range(MINUTES_IN):
        for policy in (by_minute, by_period):
            fed(policy, 40.0, 50)
            fed(policy, 80.0, 10)
    assert (by_minute.wanted, by_period.wanted) == (6, 10)
    assert set(fed(by_period, 40.0, 60 * MINUTES_IN - 10)) == {10}
    assert fed(by_period, 40.0, 10) == [5]


def test_it_stays_between_least_and_most() -> None:
    assert fed(tracking(10), 500.0, 30)[-1] == 20
    assert fed(tracking(10), 1.0, 60 * MINUTES_IN)[-1] == 2


def test_without_a_figure_nothing_happens() -> None:
    policy = tracking(10)
    assert {policy.sample(None, Group(10, 0)) for _ in range(500)} == {10}


# The policy's file


def written(folder: Path, **changes: Any) -> Path:
    """The file that ships, with changes; None leaves a number out."""
    content = {**json.loads(policy_file().read_bytes()), **changes}
    path = folder / "scaling.json"
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}), "utf-8")
    return path


def test_the_policy_that_ships_is_whole_and_its_numbers_go_together() -> None:
    policy = read_policy(policy_file())
    assert policy_file().parts[-len(FILE.parts) :] == FILE.parts
    # Otherwise instances would be counted that hold nobody yet.
    assert policy.warm_up_s >= policy.boot_s_assumed
    assert policy.settling_s == policy.warm_up_s - policy.boot_s_assumed
    assert replace(policy, warm_up_s=policy.boot_s_assumed / 2).settling_s == 0


def in_terraform(file: str) -> str:
    """A file of the module, without the alignment of its equals signs."""
    return re.sub(r" +=", " =", (policy_file().parent / file).read_text("utf-8"))


def test_terraform_does_with_the_numbers_what_is_simulated() -> None:
    group, balancer = in_terraform("group.tf"), in_terraform("balancer.tf")
    settling = "max(local.scaling.warm_up_s - local.scaling.boot_s_assumed, 0)"
    assert f"settling_s = {settling}" in group
    assert "default_instance_warmup = local.settling_s" in group
    assert "target_value = local.scaling.target_percent" in group
    assert "period = local.scaling.metric_period_s" in group
    assert "heartbeat_timeout = local.scaling.hook_timeout_s" in group
    assert "deregistration_delay = local.scaling.deregistration_delay_s" in balancer
    check = dict(re.findall(r"(?m)^    (interval|unhealthy_threshold) = (\d+)$", balancer))
    noticed_s = int(check["interval"]) * int(check["unhealthy_threshold"])
    assert noticed_s == SEEN_LATE_S - LOOKED_S


def test_what_else_stands_in_the_file_is_not_ours(tmp_path: Path) -> None:
    assert read_policy(written(tmp_path, more=[1])) == read_policy(policy_file())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"target_percent": None}, "expected target_percent in it"),
        ({"target_percent": "82"}, "expected a number as target_percent, got '82'"),
        ({"target_percent": True}, "expected a number as target_percent"),
        ({"target_percent": 0}, "above 0 and up to 100"),
        ({"target_percent": 101}, "above 0 and up to 100"),
        ({"metric_period_s": 20}, "of 10, 30, 60, got 20"),
        ({"warm_up_s": -1}, "seconds in warm_up_s"),
        ({"warm_up_s": math.nan}, "0 to 86400 seconds in warm_up_s, got nan"),
        ({"boot_s_assumed": 0}, "seconds in boot_s_assumed"),
        ({"deregistration_delay_s": 3601}, "0 to 3600 seconds in deregistration_delay_s"),
        ({"hook_timeout_s": 10}, "30 to 7200 seconds in hook_timeout_s, got 10"),
    ],
)
def test_a_slip_in_the_policy_is_named(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UsageError, match=expected) as caught:
        read_policy(written(tmp_path, **changes))
    assert "scaling.json" in str(caught.value)


def test_a_policy_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the policy"):
        read_policy(tmp_path / "none.json")
    path = tmp_path / "scaling.json"
    for text, expected in (("{", "expected JSON"), ("[]", "expected a JSON object, got list")):
        path.write_text(text, "utf-8")
        with pytest.raises(UsageError, match=expected):
            read_policy(path)
