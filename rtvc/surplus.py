"""Which instances of a group take no more calls, so that they are empty when they go. Pure.

A balancer that spreads calls leaves no instance empty, so none that is protected while it has calls
could ever be taken away. When a group has more instances than it should, some of them stand aside:
they stay until their last call is over, but get no new ones. Every server works this out by itself
from the same list, so all of them name the same ones without asking each other.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

MOST_SHARE = 0.2
"""Of the group may stand aside at once: the others hold all calls, as a group shrinks when it is
less than four fifths full; and whoever sets its size by hand can't shut out every caller."""


@dataclass(frozen=True, slots=True)
class Member:
    """An instance of the group that is in service."""

    name: str
    """Its id; tells equals apart in the same way everywhere."""
    protected: bool
    """From scale-in: it has calls, or had some a moment ago."""
    zone: str = ""
    """Where it runs."""


def standing_aside(members: Iterable[Member], desired: int) -> frozenset[str]:
    """Names of as many as there are too many, but of a fifth at most: of the zone that has most,
    what is empty first.

    >>> both = [Member("i-1", protected=True), Member("i-2", protected=False)]
    >>> sorted(standing_aside(both, 1)), sorted(standing_aside(both, 2))
    (['i-2'], [])
    """
    by_zone: dict[str, list[Member]] = {}
    for member in members:
        by_zone.setdefault(member.zone, []).append(member)
    for there in by_zone.values():
        there.sort(key=lambda member: (member.protected, member.name), reverse=True)
    there_are = sum(map(len, by_zone.values()))
    aside = set()
    for _ in range(min(there_are - max(desired, 0), math.ceil(MOST_SHARE * there_are))):
        fullest = max(sorted(by_zone), key=lambda zone: len(by_zone[zone]))
        aside.add(by_zone[fullest].pop().name)
    return frozenset(aside)
