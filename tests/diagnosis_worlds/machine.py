"""What computes: processors whose cores all share, and threads that do one thing at a time."""

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from tests.diagnosis_worlds.kernel import Kernel, Signal

_DONE_S = 1e-9


class _Work:
    """One piece of work under way."""

    __slots__ = ("done", "left_s", "owner", "width")

    def __init__(self, owner: str, left_s: float, width: float) -> None:
        self.owner, self.left_s, self.width = owner, left_s, width
        self.done = Signal()


class Processor:
    """Cores, or a graphics card: whoever computes gets an even share."""

    def __init__(self, kernel: Kernel, capacity: float) -> None:
        self._kernel = kernel
        self.capacity = capacity
        self.steady: dict[str, float] = {}
        """Cores that are wanted all the time, by owner."""
        self._works: list[_Work] = []
        self._used_s: dict[str, float] = defaultdict(float)
        self._busy_s = 0.0
        self.small_s = 0.0
        """Core seconds of all small pieces so far."""
        self._since_s = 0.0
        self._version = 0

    @property
    def wanted(self) -> float:
        """Cores that would be busy if there were enough."""
        return sum(work.width for work in self._works) + sum(self.steady.values())

    @property
    def crowding(self) -> float:
        """Times as long as everything takes; 1: there is room."""
        return max(1.0, self.wanted / self.capacity)

    def work(self, owner: str, seconds: float, width: float = 1.0) -> Signal:
        """`seconds` of work on `width` cores, if it had them to itself; the signal: it is done."""
        self._advance()
        work = _Work(owner, seconds, min(width, self.capacity))
        self._works.append(work)
        self._plan()
        return work.done

    def want(self, owner: str, cores: float) -> None:
        """From now on so many cores are wanted all the time."""
        self._advance()
        self.steady[owner] = cores
        self._plan()

    def drop(self, done: Signal) -> None:
        """Work that nobody wants any more; its signal never comes."""
        self._advance()
        self._works = [work for work in self._works if work.done is not done]
        self._plan()

    def spent(self, owner: str, seconds: float) -> None:
        """So small a piece that it is only booked."""
        self._used_s[owner] += seconds
        self.small_s += seconds

    def used_s(self, owner: str) -> float:
        """Core seconds so far."""
        self._advance()
        return self._used_s[owner]

    @property
    def busy_s(self) -> float:
        """Seconds so far in which anything was computed."""
        self._advance()
        return self._busy_s

    def _advance(self) -> None:
        passed_s = self._kernel.now - self._since_s
        if passed_s <= 0:
            return
        rate = 1.0 / self.crowding
        for work in self._works:
            work.left_s -= passed_s * rate
            self._used_s[work.owner] += passed_s * rate * work.width
        for owner, cores in self.steady.items():
            self._used_s[owner] += passed_s * rate * cores
        self._busy_s += passed_s * min(1.0, self.wanted)
        self._since_s = self._kernel.now

    def _plan(self) -> None:
        self._version += 1
        if self._works:
            soonest_s = min(work.left_s for work in self._works) * self.crowding
            self._kernel.after(max(soonest_s, 0.0), self._end, self._version)

    def _end(self, version: int) -> None:
        if version != self._version:
            return
        self._advance()
        ended = [work for work in self._works if work.left_s <= _DONE_S]
        self._works = [work for work in self._works if work.left_s > _DONE_S]
        self._plan()
        for work in ended:
            work.done.fire()


class Thread:
    """Does what it is given, one after the other, on a processor that may be crowded."""

    def __init__(
        self, kernel: Kernel, cores: Processor, owner: str, rng: random.Random, factor: float = 1.0
    ) -> None:
        """`factor`: how many times as long everything takes on it."""
        self._kernel = kernel
        self._cores = cores
        self._owner = owner
        self._random = rng
        self._factor = factor
        self.free_at_s = 0.0
        """When it has done all that it was given."""

    def finish_s(self, seconds: float, *, computing: bool = True) -> float:
        """Take `seconds` of work now; returns the instant at which it will be done."""
        start_s = max(self._kernel.now, self.free_at_s)
        if computing:
            seconds *= self._factor
            self._cores.spent(self._owner, seconds)
            seconds = self._in_company(seconds)
        self.free_at_s = start_s + seconds
        return self.free_at_s

    def call(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Work so long, then call."""
        self._kernel.at(self.finish_s(seconds), call, *arguments)

    def _in_company(self, seconds: float) -> float:
        """A scheduler favours who sleeps a lot: waiting for a core is short, but it is there."""
        crowding = self._cores.crowding
        if crowding <= 1.0:
            return seconds
        pause_s = min(self._random.expovariate(1 / 0.0005) * (crowding - 1.0), 0.02)
        return seconds * min(crowding, 3.0) + pause_s * (self._random.random() < 0.2)


class Lane:
    """One way through a network: late, unevenly, and in order."""

    def __init__(self, kernel: Kernel, delay_s: Callable[[], float]) -> None:
        self._kernel = kernel
        self._delay_s = delay_s
        self._last_s = 0.0

    def arrival_s(self, sent_at_s: float | None = None) -> float:
        """When what is sent then (None: now) is there."""
        sent_at_s = self._kernel.now if sent_at_s is None else sent_at_s
        self._last_s = max(self._last_s, sent_at_s + self._delay_s())
        return self._last_s

    def send(self, call: Callable[..., None], *arguments: Any, at_s: float | None = None) -> None:
        """Call at the other end."""
        self._kernel.at(self.arrival_s(at_s), call, *arguments)
