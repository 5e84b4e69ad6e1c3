"""Virtual time: what happens next. Nothing waits, so an hour takes as long as its events."""

import heapq
from collections.abc import Callable
from itertools import count

Action = Callable[[], None]


class Calendar:
    """Carries actions out in the order of their instants.

    >>> calendar, seen = Calendar(), []
    >>> calendar.after(2.0, lambda: seen.append("late"))
    >>> calendar.after(1.0, lambda: seen.append("soon"))
    >>> calendar.run_until(1.5)
    >>> seen, calendar.now_s
    (['soon'], 1.5)
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        """Seconds since the simulation began."""
        self._events: list[tuple[float, int, Action]] = []
        self._order = count()

    def at(self, instant_s: float, action: Action) -> None:
        """What is past happens now; of what happens at one instant, what was asked first."""
        heapq.heappush(self._events, (max(instant_s, self.now_s), next(self._order), action))

    def after(self, seconds: float, action: Action) -> None:
        self.at(self.now_s + seconds, action)

    def run_until(self, end_s: float) -> None:
        """Carry out all that is due by then."""
        while self._events and self._events[0][0] <= end_s:
            self.now_s, _, action = heapq.heappop(self._events)
            action()
        self.now_s = max(self.now_s, end_s)
