"""Which instance gets the next call. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Balancing = Literal["least", "round-robin", "fullest"]
"""Where a call goes: to the instance with the fewest (a load balancer that counts open requests),
to one after the other (one that counts nothing), or to the fullest that has room: what packs best,
and what no load balancer of AWS does."""


@dataclass(slots=True, eq=False)
class Target:
    """An instance as a balancer sees it."""

    number: int
    """Its name; counts up."""
    calls: int = 0
    """On it now."""
    open: bool = False
    """Whether it gets calls."""


TargetT = TypeVar("TargetT", bound=Target)


class _Node(Generic[TargetT]):
    """A part of a balancer: counts the calls that it gave itself, and knows of no others."""

    def __init__(self, capacity: int) -> None:
        # By number of calls; instances in the order in which they came to have so many.
        self._by_calls: list[dict[int, TargetT]] = [{} for _ in range(capacity + 1)]
        self._calls: dict[int, int] = {}

    def add(self, target: TargetT, calls: int) -> None:
        """It gets calls from now on; `calls`: that it has, if it is new here."""
        self._at(target, calls)[target.number] = target

    def remove(self, target: TargetT) -> None:
        """It gets no more."""
        del self._at(target)[target.number]

    def count(self, target: TargetT, more: int) -> None:
        """So many calls more; where it gets any, it has had so many for less long than others."""
        if target.open:
            self.remove(target)
        self._calls[target.number] += more
        if target.open:
            self.add(target, 0)

    def _at(self, target: TargetT, calls: int = 0) -> dict[int, TargetT]:
        return self._by_calls[self._calls.setdefault(target.number, calls)]

    def fewest(self) -> TargetT | None:
        """That it gave fewest calls; None: there is no instance."""
        return _first(self._by_calls)

    def fullest(self) -> TargetT | None:
        """That has room; None: none has."""
        return _first(self._by_calls[-2::-1])


def _first(by_calls: Iterable[dict[int, TargetT]]) -> TargetT | None:
    return next((next(iter(some.values())) for some in by_calls if some), None)


class Balancer(Generic[TargetT]):
    """Gives calls to instances; the only one that counts them.

    >>> balancer = Balancer[Target]("least", capacity=1)
    >>> one = Target(1)
    >>> balancer.open(one)
    >>> balancer.take() is one, balancer.take()
    (True, None)
    """

    def __init__(
        self, balancing: Balancing, capacity: int, retries: int = 0, nodes: int = 1
    ) -> None:
        """`retries`: other instances that are tried after one that is full; of "round-robin", as
        the other ways find room wherever there is some. `nodes`: parts of the balancer that get
        calls by turns, and each knows those that it gave itself; of "least".
        """
        self.node = 0
        """That gave the last call."""
        self._balancing = balancing
        self._capacity = capacity
        self._retries = retries
        self._nodes = [_Node[TargetT](capacity) for _ in range(nodes)]
        self._ring: list[TargetT] = []
        self._next = 0
        self._full: set[int] = set()

    @property
    def has_room(self) -> bool:
        """Whether some instance would take a call."""
        return len(self._full) < len(self._ring)

    def open(self, target: TargetT) -> None:
        """It gets calls from now on."""
        target.open = True
        for number, node in enumerate(self._nodes):
            # Whatever it had before it was known here counts as the first one's.
            node.add(target, 0 if number else target.calls)
        self._ring.append(target)
        self._see(target)

    def close(self, target: TargetT) -> None:
        """It gets no more; those that it has go on."""
        target.open = False
        for node in self._nodes:
            node.remove(target)
        self._ring.remove(target)
        self._see(target)

    def take(self) -> TargetT | None:
        """An instance that has one call more now; None: the caller is refused."""
        self.node = (self.node + 1) % len(self._nodes)
        chosen = self._chosen()
        if chosen is not None:
            self._count(chosen, 1, self.node)
        return chosen

    def give_back(self, target: TargetT, node: int = 0) -> None:
        """A call of this instance is over, which that node gave."""
        self._count(target, -1, node)

    def _count(self, target: TargetT, more: int, node: int) -> None:
        target.calls += more
        self._nodes[node].count(target, more)
        self._see(target)

    def _see(self, target: TargetT) -> None:
        """Whether it is among those that are full."""
        if target.open and target.calls == self._capacity:
            self._full.add(target.number)
        else:
            self._full.discard(target.number)

    def _chosen(self) -> TargetT | None:
        if self._balancing == "round-robin":
            return self._in_turn()
        node = self._nodes[self.node]
        if self._balancing == "fullest":
            return node.fullest()
        # A full one refuses: to one node alone that means that all are full.
        fewest = node.fewest()
        return fewest if fewest is not None and fewest.calls < self._capacity else None

    def _in_turn(self) -> TargetT | None:
        for _ in range(min(1 + self._retries, len(self._ring))):
            target = self._ring[self._next % len(self._ring)]
            self._next += 1
            if target.calls < self._capacity:
                return target
        return None
