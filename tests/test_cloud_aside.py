"""When an instance stands aside, and when it goes."""

import random
from dataclasses import replace
from typing import Any

import pytest

from rtvc.plan.scaling import LOOKED_S, SEEN_LATE_S
from rtvc.server.cloud.aside import FORGOTTEN_S, LOOK_S, NOTICED_S, Aside, too_many
from rtvc.server.cloud.instance import Listed, Roster

OWN = "i-0"


def listed(number: int, **changes: Any) -> Listed:
    return replace(Listed(f"i-{number}", "a", "InService", protected=True), **changes)


def roster(desired: int, *more: Listed) -> Roster:
    """Five instances, unless others are given; of those that are alike the first stands aside."""
    return Roster(desired, more or tuple(listed(number) for number in range(5)))


MANY, FEW = roster(4), roster(5)
"""Groups in which the first one is too many, and is not."""


# Who.


def test_those_that_are_too_many_are_the_same_in_whatever_order_they_are_listed() -> None:
    instances = [listed(number, zone="ab"[number % 2]) for number in range(12)]
    for _ in range(20):
        random.Random(0).shuffle(instances)
        assert too_many(Roster(10, tuple(instances))) == {"i-0", "i-1"}


def test_an_instance_that_was_given_free_goes_before_others() -> None:
    instances = [listed(number, protected=number != 3) for number in range(5)]
    assert too_many(roster(4, *instances)) == {"i-3"}


@pytest.mark.parametrize(
    "state",
    [
        *("Pending", "Pending:Wait", "Pending:Proceed", "EnteringStandby", "Standby", "Detaching"),
        *("Terminating", "Terminating:Wait", "Terminating:Proceed"),
    ],
)
def test_who_is_not_in_service_is_neither_counted_nor_named(state: str) -> None:
    """One that is still loading has to become ready to get there."""
    others = [listed(number) for number in range(1, 5)]
    assert too_many(roster(4, listed(0, state=state), *others)) == frozenset()
    assert too_many(roster(3, listed(0, state=state), *others)) == {"i-1"}


# When.


def test_its_door_is_shut_once_a_load_balancer_had_time_to_notice() -> None:
    aside = Aside(OWN)
    doors = []
    for at_s, seen in (
        (0.0, FEW),
        (30.0, MANY),
        (30.0 + NOTICED_S - 0.1, MANY),
        (30.0 + NOTICED_S, MANY),
        (1000.0, MANY),
    ):
        aside.seen(at_s, seen)
        doors.append(aside.door)
    assert doors == ["open", "closing", "closing", "shut", "shut"]


@pytest.mark.parametrize("after_s", [0.0, NOTICED_S])
def test_it_is_back_as_soon_as_it_is_wanted_and_goes_from_the_beginning(after_s: float) -> None:
    aside = Aside(OWN)
    aside.seen(0.0, MANY)
    aside.seen(after_s, MANY)
    doors = []
    for at_s, seen in ((100.0, FEW), (130.0, MANY), (130.0 + NOTICED_S, MANY)):
        aside.seen(at_s, seen)
        doors.append(aside.door)
    assert doors == ["open", "closing", "shut"]


def test_somebody_else_may_be_too_many() -> None:
    aside = Aside("i-4")
    aside.seen(0.0, MANY)
    assert aside.door == "open"


def test_who_is_in_the_group_no_more_does_not_stand_aside() -> None:
    aside = Aside(OWN)
    aside.seen(0.0, MANY)
    aside.seen(30.0, roster(2, *(listed(number) for number in range(1, 5))))
    assert aside.door == "open"


def test_what_was_seen_holds_for_a_while_when_nobody_answers() -> None:
    aside = Aside(OWN)
    aside.seen(0.0, MANY)
    aside.seen(100.0, MANY)
    doors = []
    for after_s in (FORGOTTEN_S - 0.1, FORGOTTEN_S):
        aside.unseen(100.0 + after_s)
        doors.append(aside.door)
    aside.seen(1000.0, MANY)
    assert [*doors, aside.door] == ["shut", "open", "closing"]


def test_nobody_stands_aside_before_anything_was_seen() -> None:
    aside = Aside(OWN)
    aside.unseen(1e6)
    assert aside.door == "open"


# Going.


def shut() -> Aside:
    aside = Aside(OWN)
    aside.seen(0.0, MANY)
    aside.seen(NOTICED_S, MANY)
    return aside


FREE = roster(4, listed(0, protected=False), *(listed(number) for number in range(1, 5)))


def test_it_goes_once_it_is_empty_and_was_given_free() -> None:
    assert shut().goes(FREE, sessions=0)
    assert not shut().goes(FREE, sessions=1)
    assert not shut().goes(MANY, sessions=0)


@pytest.mark.parametrize("state", ["Terminating", "Standby", "Pending"])
def test_it_goes_from_service_only(state: str) -> None:
    own = listed(0, protected=False, state=state)
    assert not shut().goes(roster(4, own), sessions=0)
    assert not shut().goes(roster(4), sessions=0)
    assert not shut().goes(roster(0, listed(7)), sessions=0)


def test_nobody_goes_to_whom_callers_are_still_sent() -> None:
    aside = Aside(OWN)
    assert not aside.goes(FREE, sessions=0)
    aside.seen(0.0, FREE)
    assert not aside.goes(FREE, sessions=0)
    aside.seen(NOTICED_S, FREE)
    assert aside.goes(FREE, sessions=0)


def test_an_instance_that_is_wanted_again_does_not_go() -> None:
    aside = shut()
    wanted = replace(FREE, desired=5)
    aside.seen(100.0, wanted)
    assert not aside.goes(wanted, sessions=0)


# As the simulation has it.


def test_the_simulation_supposes_what_a_server_does() -> None:
    """So long after the group was told to be smaller, at worst, nobody is sent there any more."""
    assert (LOOK_S, LOOK_S + NOTICED_S) == (LOOKED_S, SEEN_LATE_S)
