"""Whether an instance is to end, and how long its sessions have."""

from datetime import UTC, datetime, timedelta

import pytest

from rtvc.server.cloud.ending import (
    LATE_S,
    MARGIN_S,
    SPOT_S,
    Departure,
    Leave,
    Signs,
    Times,
    leave,
)
from rtvc.server.cloud.instance import Member, SpotNotice

NOW = datetime(2026, 1, 31, 8, 20, tzinfo=UTC)


def spot(in_s: float) -> SpotNotice:
    return SpotNotice("terminate", NOW + timedelta(seconds=in_s))


def judged(signs: Signs, hook_s: float | None = 600.0) -> Leave | None:
    return leave(signs, NOW, Times(hook_s, balancer_s=None, otherwise_s=30.0))


def deadline_s(signs: Signs, hook_s: float | None = 600.0) -> float | None:
    found = judged(signs, hook_s)
    return None if found is None else found.deadline_s


@pytest.mark.parametrize(
    "state", [None, "InService", "Standby", "Detached", "Warmed:Stopped", "Warmed:Hibernated"]
)
def test_it_stays(state: str | None) -> None:
    assert judged(Signs(state)) is None


@pytest.mark.parametrize("state", ["Terminated", "Warmed:Terminated"])
def test_sessions_have_as_long_as_the_hook_keeps_the_machine(state: str) -> None:
    assert deadline_s(Signs(state)) == 600 - MARGIN_S
    assert deadline_s(Signs(state), hook_s=5.0) == 0.0


def test_without_a_hook_they_have_as_long_as_after_sigterm() -> None:
    assert deadline_s(Signs("Terminated"), hook_s=None) == 30.0


@pytest.mark.parametrize(
    ("hook_s", "balancer_s", "expected_s"),
    [
        (3600.0, 300.0, 300 - MARGIN_S - LATE_S),
        (300.0, 3600.0, 300 - MARGIN_S),
        # A load balancer that cuts at once leaves nobody anything.
        (3600.0, 0.0, 0.0),
        (None, 300.0, 30.0),
        (None, 60.0, 60 - MARGIN_S - LATE_S),
    ],
)
def test_nobody_is_left_to_be_cut_by_the_load_balancer(
    hook_s: float | None, balancer_s: float, expected_s: float
) -> None:
    found = leave(Signs("Terminated"), NOW, Times(hook_s, balancer_s, otherwise_s=30.0))
    assert found is not None
    assert found.deadline_s == expected_s


def test_a_spot_instance_is_not_taken_from_its_load_balancer_first() -> None:
    found = leave(Signs("InService", spot(120)), NOW, Times(600.0, 60.0, otherwise_s=30.0))
    assert found is not None
    assert found.deadline_s == SPOT_S


def test_what_auto_scaling_says_counts_as_much() -> None:
    assert deadline_s(Signs("InService", terminating=True)) == 600 - MARGIN_S


@pytest.mark.parametrize(
    ("in_s", "expected"),
    [(120, SPOT_S), (1000, SPOT_S), (60, 60 - MARGIN_S), (5, 0.0), (-60, 0.0)],
)
def test_a_spot_notice_says_when(in_s: float, expected: float) -> None:
    assert deadline_s(Signs("InService", spot(in_s))) == expected


def test_the_sooner_of_two_ends_counts() -> None:
    found = judged(Signs("Terminated", spot(60)))
    assert found is not None
    assert (found.deadline_s, "spot" in found.why) == (50.0, True)
    assert deadline_s(Signs("Terminated", spot(120)), hook_s=70.0) == 60.0


def test_an_end_is_only_ever_brought_forward() -> None:
    departure = Departure()
    assert departure.sooner(100.0, 590.0)
    # The same sign, seen again and again.
    assert not departure.sooner(105.0, 590.0)
    # A spot notice, whose instant does not move.
    assert departure.sooner(200.0, 110.0)
    assert not departure.sooner(205.0, 105.0)
    assert not departure.sooner(210.0, 99.5)
    assert departure.by_s == 310.0


@pytest.mark.parametrize(
    ("state", "ends"),
    [
        ("Pending", False),
        ("Pending:Wait", False),
        ("InService", False),
        ("Standby", False),
        ("Detached", False),
        ("Warmed:Stopped", False),
        ("Terminating", True),
        ("Terminating:Wait", True),
        ("Terminating:Proceed", True),
        ("Terminating:Retained", True),
        ("Terminated", True),
        ("Warmed:Terminating:Wait", True),
    ],
)
def test_which_states_mean_the_end(state: str, ends: bool) -> None:
    assert Member("voice", state, protected=True).ends is ends
