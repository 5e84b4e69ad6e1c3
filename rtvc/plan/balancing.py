"""Which instance gets the next call. Pure."""

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


class Balancer(Generic[TargetT]):
    """Gives calls to instances; the only one that counts them.

    >>> balancer = Balancer[Target]("least", capacity=1)
    >>> one = Target(1)
    >>> balancer.open(one)
    >>> balancer.take() is one, balancer.take()
    (True, None)
    """

    def __init__(self, balancing: Balancing, capacity: int, retries: int = 0) -> None:
        """`retries`: other instances that are tried after one that is full; of "round-robin", as
        the other ways find room wherever there is some."""
        self._balancing = balancing
        self._capacity = capacity
        self._retries = retries
        # By number of calls; instances in the order in which they came to have so many.
        self._by_calls: list[dict[int, TargetT]] = [{} for _ in range(capacity + 1)]
        self._ring: list[TargetT] = []
        self._next = 0

    @property
    def has_room(self) -> bool:
        """Whether some instance would take a call."""
        return len(self._by_calls[self._capacity]) < len(self._ring)

    def open(self, target: TargetT) -> None:
        """It gets calls from now on."""
        target.open = True
        self._by_calls[target.calls][target.number] = target
        self._ring.append(target)

    def close(self, target: TargetT) -> None:
        """It gets no more; those that it has go on."""
        target.open = False
        del self._by_calls[target.calls][target.number]
        self._ring.remove(target)

    def take(self) -> TargetT | None:
        """An instance that has one call more now; None: the caller is refused."""
        chosen = self._chosen()
        if chosen is not None:
            self._count(chosen, 1)
        return chosen

    def give_back(self, target: TargetT) -> None:
        """A call of this instance is over."""
        self._count(target, -1)

    def _count(self, target: TargetT, more: int) -> None:
        if not target.open:
            target.calls += more
            return
        del self._by_calls[target.calls][target.number]
        target.calls += more
        self._by_calls[target.calls][target.number] = target

    def _chosen(self) -> TargetT | None:
        if self._balancing == "round-robin":
            return self._in_turn()
        with_room = self._by_calls[: self._capacity]
        if self._balancing == "fullest":
            with_room.reverse()
        return next((next(iter(some.values())) for some in with_room if some), None)

    def _in_turn(self) -> TargetT | None:
        for _ in range(min(1 + self._retries, len(self._ring))):
            target = self._ring[self._next % len(self._ring)]
            self._next += 1
            if target.calls < self._capacity:
                return target
        return None
