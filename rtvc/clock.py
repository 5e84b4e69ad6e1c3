"""The one file that reads clocks.

Durations come from `Clock.now` (monotonic seconds); UTC is written once, in a manifest.
"""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from; handed to everything that measures."""

    def now(self) -> float:
        """Monotonic seconds; only differences mean anything."""

    def utc(self) -> datetime:
        """Wall time: for manifests, and for what other machines are to understand."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.perf_counter()

    def utc(self) -> datetime:
        return datetime.now(UTC)


class FakeClock:
    """A clock that moves only when told to.

    >>> clock = FakeClock()
    >>> clock.advance(1.5)
    >>> clock.now()
    1.5
    """

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def now(self) -> float:
        return self.now_s

    def utc(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
