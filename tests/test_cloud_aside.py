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


def test_one_that_is_replaced_as_broken_is_neither_counted_nor_named() -> None:
    """What is left is as many as are wanted, so none of those that work stands aside."""
    others = [listed(number) for number in range(1, 5)]
    assert too_many(roster(4, listed(0, healthy=False), *others)) == frozenset()
    assert too_many(roster(3, listed(0, healthy=False), *others)) == {"i-1"}


# When.


def stands(aside: Aside, at_s: float) -> tuple[bool, bool]:
    """Whether it stands aside, and whether nobody is sent there any more."""
    return aside.stands, aside.left_alone(at_s)


def test_it_is_left_alone_once_a_load_balancer_had_time_to_notice() -> None:
    aside = Aside(OWN)
    stood = []
    for at_s, seen in (
        (0.0, FEW),
        (30.0, MANY),
        (30.0 + NOTICED_S - 0.1, MANY),
        (30.0 + NOTICED_S, MANY),
        (1000.0, MANY),
    ):
        aside.seen(at_s, seen)
        stood.append(stands(aside, at_s))
    assert stood == [(False, False), (True, False), (True, False), (True, True), (True, True)]


@pytest.mark.parametrize("after_s", [0.0, NOTICED_S])
def test_it_is_back_as_soon_as_it_is_wanted_and_goes_from_the_beginning(after_s: float) -> None:
    aside = Aside(OWN)
    aside.seen(0.0, MANY)
    aside.seen(after_s, MANY)
    stood = []
    for at_s, seen in ((100.0, FEW), (130.0, MANY), (130.0 + NOTICED_S, MANY)):
        aside.seen(at_s, seen)
        stood.append(stands(aside, at_s))
    assert stood == [(False, False), (True, False), (True, True)]


def test_somebody_else_may_be_too_many() -> None:
    aside = Aside("i-4")
    aside.seen(0.0, MANY)
    assert not aside.stands


def test_who_is_in_the_group_no_more_does_not_stand_aside() -> None:
    aside = Aside(OWN)
    aside.seen(0.0, MANY)
    aside.seen(30.0, roster(2, *(listed(number) for number in range(1, 5))))
    assert not aside.stands


def test_what_was_seen_holds_for_a_while_when_nobody_answers() -> None:
    aside = Aside(OWN)
    aside.seen(0.0, MANY)
    aside.seen(100.0, MANY)
    stood = []
    for after_s in (FORGOTTEN_S - 0.1, FORGOTTEN_S):
        aside.unseen(100.0 + after_s)
        stood.append(stands(aside, 100.0 + after_s))
    aside.seen(1000.0, MANY)
    stood.append(stands(aside, 1000.0))
    assert stood == [(True, True), (False, False), (True, False)]


def test_nobody_stands_aside_before_anything_was_seen() -> None:
    aside = Aside(OWN)
    aside.unseen(1e6)
    assert not aside.stands


# Going.


LATER_S = 100.0
"""When nobody is sent any more to one that stood aside at 0."""


def left_alone() -> Aside:
    aside = Aside(OWN)
    aside.seen(0.0, MANY)
    return aside


FREE = roster(4, listed(0, protected=False), *(listed(number) for number in range(1, 5)))


def test_it_goes_once_it_is_empty_and_was_given_free() -> None:
    assert left_alone().goes(LATER_S, FREE, sessions=0)
    assert not left_alone().goes(LATER_S, FREE, sessions=1)
    assert not left_alone().goes(LATER_S, MANY, sessions=0)


@pytest.mark.parametrize("state", ["Terminating", "Standby", "Pending"])
def test_it_goes_from_service_only(state: str) -> None:
    own = listed(0, protected=False, state=state)
    assert not left_alone().goes(LATER_S, roster(4, own), sessions=0)
    assert not left_alone().goes(LATER_S, roster(4), sessions=0)
    assert not left_alone().goes(LATER_S, roster(0, listed(7)), sessions=0)


def test_nobody_goes_to_whom_callers_are_still_sent() -> None:
    aside = Aside(OWN)
    assert not aside.goes(LATER_S, FREE, sessions=0)
    aside.seen(LATER_S, FREE)
    assert not aside.goes(LATER_S + NOTICED_S - 0.1, FREE, sessions=0)
    assert aside.goes(LATER_S + NOTICED_S, FREE, sessions=0)


def test_an_instance_that_is_wanted_again_does_not_go() -> None:
    aside = left_alone()
    wanted = replace(FREE, desired=5)
    aside.seen(LATER_S, wanted)
    assert not aside.goes(LATER_S, wanted, sessions=0)


# As the simulation has it.


def test_the_simulation_supposes_what_a_server_does() -> None:
    """So long after the group was told to be smaller, at worst, nobody is sent there any more."""
    assert (LOOK_S, LOOK_S + NOTICED_S) == (LOOKED_S, SEEN_LATE_S)
