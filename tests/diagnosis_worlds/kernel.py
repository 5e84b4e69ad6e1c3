"""Simulated time: what is due next happens next."""

import heapq
from collections.abc import Callable, Generator
from itertools import count
from typing import Any

Task = Generator["float | Signal", Any, None]
"""Yields seconds to sleep, or a signal to wait for; is sent the signal's value."""


class Signal:
    """Something that happens once."""

    __slots__ = ("_calls", "done", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: Any = None
        self._calls: list[Callable[[Any], None]] = []

    def fire(self, value: Any = None) -> None:
        """It has happened; a second time says nothing new."""
        if self.done:
            return
        self.done, self.value = True, value
        calls, self._calls = self._calls, []
        for call in calls:
            call(value)

    def then(self, call: Callable[[Any], None]) -> None:
        """Call with its value once it has happened."""
        if self.done:
            call(self.value)
        else:
            self._calls.append(call)


class Kernel:
    """A clock and what is due; same instants in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()

    def at(self, instant_s: float, call: Callable[..., None], *arguments: Any) -> None:
        due = (max(instant_s, self.now), next(self._numbers), call, arguments)
        heapq.heappush(self._due, due)

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now + seconds, call, *arguments)

    def spawn(self, task: Task) -> Signal:
        """Run a task; the signal tells when it has ended."""
        ended = Signal()
        self._step(task, ended, None)
        return ended

    def run(self, until: Signal, most_s: float) -> None:
        """Go on until that happens, or until the time is up."""
        while self._due and not until.done and self.now <= most_s:
            self.now, _, call, arguments = heapq.heappop(self._due)
            call(*arguments)

    def _step(self, task: Task, ended: Signal, value: Any) -> None:
        try:
            wanted = task.send(value)
        except StopIteration:
            ended.fire()
            return
        if isinstance(wanted, Signal):
            wanted.then(lambda found: self.after(0.0, self._step, task, ended, found))
        else:
            self.after(wanted, self._step, task, ended, None)
