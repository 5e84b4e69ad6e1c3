"""Which instances of a group stand aside: as many as are too many, the same for every server."""

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.surplus import MOST_SHARE, Member, standing_aside


def group(*zones: str, idle: tuple[int, ...] = ()) -> list[Member]:
    """One in each of these zones, numbered from 0; `idle`: those that are not protected."""
    return [Member(f"i-{n:02d}", n not in idle, zone) for n, zone in enumerate(zones)]


members = st.lists(
    st.builds(Member, st.uuids().map(str), st.booleans(), st.sampled_from("abc")),
    max_size=40,
    unique_by=lambda member: member.name,
)


@given(members=members, desired=st.integers(-1, 45), shuffled=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=200)
def test_it_is_as_many_as_are_too_many_whoever_asks(
    members: list[Member], desired: int, shuffled: random.Random
) -> None:
    aside = standing_aside(members, desired)
    too_many = max(len(members) - max(desired, 0), 0)
    assert len(aside) == min(too_many, math.ceil(MOST_SHARE * len(members)))
    assert aside <= {member.name for member in members}
    other_order = [*members]
    shuffled.shuffle(other_order)
    assert standing_aside(other_order, desired) == aside


@given(members=members, desired=st.integers(0, 40))
@settings(deadline=None, max_examples=200)
def test_of_a_zone_whoever_is_empty_goes_first(members: list[Member], desired: int) -> None:
    aside = standing_aside(members, desired)
    for zone in "abc":
        there = [member for member in members if member.zone == zone]
        stay = [member for member in there if member.name not in aside]
        if any(member.protected for member in there if member.name in aside):
            assert all(member.protected for member in stay)


@given(members=members, desired=st.integers(0, 40))
@settings(deadline=None, max_examples=200)
def test_zones_stay_as_even_as_they_can(members: list[Member], desired: int) -> None:
    aside = standing_aside(members, desired)
    left = {zone: sum(m.zone == zone and m.name not in aside for m in members) for zone in "abc"}
    for zone in {member.zone for member in members if member.name in aside}:
        # What gave somebody away was the fullest until then.
        assert left[zone] + 1 >= max(left.values())


def test_who_asked_for_less_than_there_is_gets_it_fifth_by_fifth() -> None:
    ten = group(*"ababababab")
    assert standing_aside(ten, 0) == {"i-00", "i-01"}
    assert standing_aside(ten, 9) == {"i-00"}
    assert standing_aside(ten, 10) == frozenset()
    assert standing_aside(ten, 99) == frozenset()


def test_an_instance_comes_back_when_more_are_wanted() -> None:
    ten = group(*"aaaaaaaaaa", idle=(7,))
    assert standing_aside(ten, 8) == {"i-07", "i-00"}
    assert standing_aside(ten, 9) == {"i-07"}


def test_a_group_of_nobody_names_nobody() -> None:
    assert standing_aside([], 3) == frozenset()
    assert standing_aside([], -1) == frozenset()
