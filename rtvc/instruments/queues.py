"""Queues that are bounded, named and know their backlog in seconds of audio."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class WhenFull(StrEnum):
    """What a full queue does with one item more."""

    REFUSE = "refuse"
    """The new item is not taken."""
    DROP_OLDEST = "drop_oldest"
    """The oldest item makes room."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """One reading of one queue."""

    name: str
    """Which queue."""
    depth: int
    """Items waiting."""
    backlog_s: float
    """Seconds of audio waiting."""
    oldest_age_s: float | None
    """How long the oldest item has waited; None: empty."""
    limit_s: float
    """Most seconds of audio it holds."""
    put: int
    """Items offered since the start."""
    dropped: int
    """Items refused or dropped since the start."""


class MeasuredQueue(Generic[T]):
    """First in, first out, up to `limit_s` seconds of audio; put = taken + dropped + waiting."""

    def __init__(
        self,
        name: str,
        *,
        limit_s: float,
        seconds_of: Callable[[T], float],
        when_full: WhenFull = WhenFull.REFUSE,
    ) -> None:
        self.name = name
        self.limit_s = limit_s
        self._when_full = when_full
        self._seconds_of = seconds_of
        self._items: deque[tuple[float, T]] = deque()
        self._backlog_s = 0.0
        self._put = 0
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, now_s: float) -> bool:
        """Offer an item; False if something had to be dropped (this item, or older ones).

        An empty queue takes any item, however long.
        """
        self._put += 1
        length_s = self._seconds_of(item)
        fits = self._fits(length_s)
        if not fits and self._when_full is WhenFull.REFUSE:
            self._dropped += 1
            return False
        while not self._fits(length_s):
            self._take()
            self._dropped += 1
        self._items.append((now_s, item))
        self._backlog_s += length_s
        return fits

    def has_room(self, length_s: float) -> bool:
        """Whether an item of `length_s` would be taken without dropping one."""
        return self._fits(length_s)

    def take_all(self) -> list[T]:
        """Everything that waits, oldest first."""
        return [self._take() for _ in range(len(self._items))]

    def state(self, now_s: float) -> QueueState:
        """A reading."""
        oldest = now_s - self._items[0][0] if self._items else None
        return QueueState(
            self.name, len(self), self._backlog_s, oldest, self.limit_s, self._put, self._dropped
        )

    def _fits(self, length_s: float) -> bool:
        return not self._items or self._backlog_s + length_s <= self.limit_s

    def _take(self) -> T:
        _, item = self._items.popleft()
        self._backlog_s = self._backlog_s - self._seconds_of(item) if self._items else 0.0
        return item
