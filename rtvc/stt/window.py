"""When a fault on purpose is on: a while counted from the moment the server was ready."""

import math
from dataclasses import dataclass

from rtvc.clock import Clock


@dataclass(frozen=True, slots=True)
class Window:
    """From an instant on, for a while or for good."""

    begin_s: float
    """Seconds after the server was ready."""
    length_s: float | None = None
    """How long; None: from then on."""

    @property
    def end_s(self) -> float:
        """Seconds after the server was ready; infinite: never.

        >>> Window(20, 10).end_s, Window(20).end_s
        (30, inf)
        """
        return math.inf if self.length_s is None else self.begin_s + self.length_s

    def holds(self, since_ready_s: float) -> bool:
        """
        >>> [Window(20, 10).holds(at_s) for at_s in (19.9, 20, 29.9, 30)]
        [False, True, True, False]
        """
        return self.begin_s <= since_ready_s < self.end_s

    def __str__(self) -> str:
        """As it is written after @: 20+10, or 20."""
        return f"{self.begin_s:g}" + ("" if self.length_s is None else f"+{self.length_s:g}")


class Origin:
    """The instant from which windows count; copies sent to a process later know it from here."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ready_at_s: float | None = None
        """By the machine's monotonic clock, which all its processes share; None: not ready yet."""

    def begin(self) -> None:
        """It is ready now."""
        self.ready_at_s = self._clock.now()

    @property
    def since_ready_s(self) -> float | None:
        """None: it is not ready yet."""
        return None if self.ready_at_s is None else self._clock.now() - self.ready_at_s

    def within(self, window: Window | None) -> bool:
        """Whether a fault with that window is on now; one without a window always is."""
        if window is None:
            return True
        since_s = self.since_ready_s
        return since_s is not None and window.holds(since_s)
