"""What somebody would pay who knew every call of the day beforehand. Pure.

An instance is paid from its start to its end, takes `boot_s` of that until it holds calls, and then
holds `capacity` of them at most; a call stays where it began. To find the cheapest fleet of that
kind is NP-hard from a capacity of 2 on (Winkler and Zhang, "Wavelength assignment and generalized
interval graph coloring", SODA 2003), so the optimum is enclosed: lower_bound ≤ optimum ≤ packed.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rtvc.plan.day import DAY_S, Call

Span = tuple[float, float]
"""(from, until), seconds since midnight."""


@dataclass(frozen=True, slots=True)
class Paid:
    """A fleet over the day."""

    spans: tuple[Span, ...]
    """When instances were paid; as many at once as there were."""

    @property
    def instance_s(self) -> float:
        """All of it.

        >>> Paid(((0.0, 60.0), (30.0, 60.0))).instance_s
        90.0
        """
        return sum(until_s - from_s for from_s, until_s in self.spans)

    def counts(self, every_s: float) -> list[int]:
        """Instances at 0, at `every_s`, and so on until the day ends.

        >>> Paid(((0.0, 60.0), (30.0, 60.0))).counts(30.0)[:4]
        [1, 2, 0, 0]
        """
        last = int(DAY_S // every_s)
        changes = [0] * (last + 2)
        for from_s, until_s in self.spans:
            changes[min(_first_at(from_s, every_s), last + 1)] += 1
            changes[min(_first_at(until_s, every_s), last + 1)] -= 1
        counts, count = [], 0
        for change in changes[: last + 1]:
            count += change
            counts.append(count)
        return counts


def _first_at(at_s: float, every_s: float) -> int:
    """Number of the first instant that is not before this one."""
    return max(int(-(-at_s // every_s)), 0)


def within_the_day(from_s: float, until_s: float) -> Span | None:
    """The part of it that is counted; None: there is none."""
    kept = (max(from_s, 0.0), min(until_s, DAY_S))
    return kept if kept[0] < kept[1] else None


def lower_bound(calls: Iterable[Call], capacity: int, boot_s: float) -> Paid:
    """Nobody who serves these calls pays less; it is the optimum where calls can be moved.

    Proof. Take any fleet that serves them. Let r(t) be its instances that are ready at t, c the
    capacity, b the boot, N(t) the calls, and d(t) = ⌈N(t) ÷ c⌉.

    1. As an instance holds at most c calls, r ≥ d at every instant.
    2. It pays the integral of r, and for each instance that becomes ready the part of its boot that
       is within the day.
    3. For k = 1, 2, … let I_k(t) be 1 where r(t) ≥ k, else 0. Then r is the sum of all I_k. Where r
       rises by j, j of them rise, and at least j instances become ready. So it pays at least the
       sum over k of: the integral of I_k, and for each rise of I_k the part of a boot within the
       day.
    4. Take one k. I_k is 1 wherever d ≥ k. Let two stretches of that be g apart, the first of them
       end at e. In between I_k stays 1, which costs g; or it falls, and rises for the last time at
       some s: from then on it is 1, which costs e + g − s, and the boot costs min(s, b). If s ≥ b
       that is b or more, else e + g or more: in any case at least min(g, b). The same holds before
       the first stretch, which begins at g, with e = 0. After the last stretch nothing is owed.

    What is returned is the sum of these least costs. Where calls can be moved it is attained: level
    k as an instance is ready wherever d ≥ k, so d instances are ready at every instant. ∎
    """
    begun_s: list[float] = []
    ended_s: list[float] = []
    spans: list[Span] = []
    at_once = 0
    for at_s, more in _changes(calls):
        before = -(-at_once // capacity)
        at_once += more
        needed = -(-at_once // capacity)
        if needed > len(begun_s):
            begun_s.append(0.0)
            ended_s.append(0.0)
        if needed > before:
            gap_s = at_s - ended_s[needed - 1]
            begun_s[needed - 1] = at_s - min(gap_s, boot_s)
        elif needed < before:
            spans.append((begun_s[before - 1], at_s))
            ended_s[before - 1] = at_s
    still = -(-at_once // capacity)
    spans += [(begun, DAY_S) for begun in begun_s[:still]]
    return Paid(tuple(spans))


def _changes(calls: Iterable[Call]) -> Sequence[tuple[float, int]]:
    """(instant, +1 or −1) within the day, in order; who leaves at an instant makes room first."""
    changes = []
    for call in calls:
        span = within_the_day(call.at_s, call.at_s + call.length_s)
        if span is not None:
            changes.append((span[0], 1))
            if span[1] < DAY_S:
                changes.append((span[1], -1))
    return sorted(changes)


@dataclass(slots=True, eq=False)
class _Box:
    """An instance that is being filled."""

    number: int
    """Its name."""
    from_s: float
    """It was started."""
    until_s: float = 0.0
    """Its last call ends."""
    calls: int = 0
    """On it now."""

    @property
    def key(self) -> tuple[float, int]:
        """Where it stands among those with room."""
        return self.until_s, self.number


class _Boxes:
    """Those with room, by the end of their last call."""

    def __init__(self, capacity: int, boot_s: float) -> None:
        self._capacity = capacity
        self._boot_s = boot_s
        self._boxes: list[_Box] = []
        self._roomy: list[tuple[float, int]] = []

    def take(self, call: Call) -> _Box:
        """Where the call lengthens what is paid least: where it fits in, the tightest; else where
        most of it does; else a new one."""
        ends_s = call.at_s + call.length_s
        place = bisect_left(self._roomy, (ends_s, -1))
        place = min(place, len(self._roomy) - 1)
        if place < 0 or self._too_long_idle(self._roomy[place], call.at_s):
            box = _Box(len(self._boxes), call.at_s - self._boot_s)
            self._boxes.append(box)
        else:
            box = self._boxes[self._roomy.pop(place)[1]]
        box.calls += 1
        box.until_s = max(box.until_s, ends_s)
        if box.calls < self._capacity:
            insort(self._roomy, box.key)
        return box

    def _too_long_idle(self, key: tuple[float, int], now_s: float) -> bool:
        """Whether a new one would cost less than it does to have kept it."""
        return now_s - key[0] > self._boot_s

    def leave(self, box: _Box) -> None:
        """One of its calls is over."""
        if box.calls == self._capacity:
            insort(self._roomy, box.key)
        box.calls -= 1

    @property
    def paid(self) -> Paid:
        spans = (within_the_day(box.from_s, box.until_s) for box in self._boxes)
        return Paid(tuple(span for span in spans if span is not None))


def packed(calls: Iterable[Call], capacity: int, boot_s: float) -> Paid:
    """A fleet that serves them and moves none, so that the optimum pays no more: each call, in the
    order in which they come, goes where it adds least to what is paid."""
    boxes = _Boxes(capacity, boot_s)
    leaving: list[tuple[float, int, _Box]] = []
    for number, call in enumerate(calls):
        while leaving and leaving[0][0] <= call.at_s:
            boxes.leave(heapq.heappop(leaving)[2])
        box = boxes.take(call)
        heapq.heappush(leaving, (call.at_s + call.length_s, number, box))
    return boxes.paid
