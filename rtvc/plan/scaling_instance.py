"""An instance of a group over its life, and what came of a day. Records only."""

import math
from collections.abc import Container
from dataclasses import dataclass, field

from rtvc.plan.balancing import Target
from rtvc.plan.clairvoyant import Span
from rtvc.plan.day import Call
from rtvc.surplus import Member

ZONES = 3
"""Of the group, one after the other."""


@dataclass(slots=True)
class Tally:
    """What came of it, within the day."""

    calls: int = 0
    """That came."""
    refused_at_s: list[float] = field(default_factory=list)
    """Instants at which nobody had room."""
    waits_s: list[float] = field(default_factory=list)
    """After which somebody had, for each of these; infinite: not that day."""
    cut: int = 0
    """Calls that scale-in ended."""
    served: list[Call] = field(default_factory=list)
    """Calls that were not refused, those from before the day as well; of one that was cut, as much
    as there was of it."""
    spans: list[Span] = field(default_factory=list)
    """When each instance was paid."""
    wanted: list[int] = field(default_factory=list)
    """At each tick."""
    aside: list[int] = field(default_factory=list)
    """Instances that get no more calls, at each tick."""


@dataclass(slots=True, eq=False)
class Instance(Target):
    """One of the group."""

    from_s: float = 0.0
    """It was started."""
    ready: bool = False
    """Whether it can hold calls."""
    settled_from_s: float = math.inf
    """It counts as there; infinite: not before it is ready."""
    empty_from_s: float = math.inf
    """Since then it has had no call; infinite: it has one, or is not ready."""
    shut_from_s: float = math.inf
    """It lets nobody in, as it stands aside; infinite: it does not."""
    ends_s: float = math.inf
    """It is being taken away, until then; infinite: it is not."""

    def free_from_s(self, idle_s: float) -> float:
        """Its server clears the protection: nobody comes any more, and nobody has been there for
        so long.

        >>> Instance(1, empty_from_s=100.0, shut_from_s=130.0).free_from_s(60.0)
        160.0
        """
        return max(self.empty_from_s + idle_s, self.shut_from_s)

    def member(self, idle: Container[int]) -> Member:
        """As all others see it; `idle`: numbers of those that are not protected."""
        protected = self.number not in idle
        return Member(f"i-{self.number:06d}", protected, zone=str(self.number % ZONES))


def number_of(name: str) -> int:
    """
    >>> number_of(Instance(7).member(idle=()).name)
    7
    """
    return int(name.removeprefix("i-"))
