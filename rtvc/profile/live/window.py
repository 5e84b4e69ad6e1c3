"""The last minute of scrapes, and what happened in it.

Counts are differences between scrapes. A server that was restarted in between counts from 0 again:
then what it counted since is added to what was counted before, as Prometheus does it, but for the
whole scrape at once, because a counter that has overtaken its old value does not show it.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from rtvc.instruments.gpu import GpuSample
from rtvc.profile.live.exposition import Buckets, Exposition, Key, key
from rtvc.stats import supports

SPAN_S = 60.0
"""Seconds that figures of what happened are taken over."""

SOON_S = 5.0
"""Seconds that rates are taken over."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scrape:
    """Everything read at one instant."""

    at_s: float
    """When, on the watcher's clock."""
    metrics: Exposition
    """What `/metrics` answered."""
    sessions: Any = None
    """What `/v1/sessions` answered; None: nothing that can be read."""
    gpus: tuple[GpuSample, ...] = ()
    """Devices of this machine; empty: none, or the server is elsewhere."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long something took, from a histogram; nothing that n does not support."""

    n: int
    """Values."""
    p50_s: float | None
    """Interpolated; None: n does not support it, or it is beyond the last edge."""
    p95_s: float | None
    """The same."""
    p99_s: float | None
    """The same."""
    at_most_s: float | None
    """Upper edge of the bucket of the largest value; None: no value, or beyond the last edge."""
    more_than_s: float | None
    """The last edge, where the largest value is beyond it; None: it is not."""
    mean_s: float | None
    """Exact; None: no value."""

    @classmethod
    def of(cls, buckets: Buckets | None) -> "Times":
        if buckets is None or not buckets.n:
            return cls(0, None, None, None, None, None, None)
        low, high = largest_bucket(buckets)
        beyond = math.isinf(high)
        return cls(
            buckets.n,
            _supported(buckets, 0.5),
            _supported(buckets, 0.95),
            _supported(buckets, 0.99),
            at_most_s=None if beyond else high,
            more_than_s=low if beyond else None,
            mean_s=buckets.total / buckets.n,
        )


def _supported(buckets: Buckets, q: float) -> float | None:
    return quantile(buckets, q) if supports(buckets.n, q) else None


def quantile(buckets: Buckets, q: float) -> float | None:
    """The q-quantile, supported or not; None: there are no values, or it is beyond the last edge.

    As Prometheus's histogram_quantile has it: the bucket that holds value number q × n, and within
    it a straight line from its lower to its upper edge. But no more than the exact sum allows:
    were it larger, the 1 − q of the values above it alone would add up to more.

    >>> quantile(Buckets((1.0, 2.0, math.inf), (2.0, 4.0, 4.0), 5.0), 0.75)
    1.5
    >>> quantile(Buckets((1.0, 2.0, math.inf), (4.0, 4.0, 4.0), 0.5), 0.5)
    0.25
    """
    if not buckets.n:
        return None
    rank = q * buckets.up_to[-1]
    low, before = 0.0, 0.0
    for high, count in zip(buckets.edges, buckets.up_to, strict=True):
        if count >= rank and count > before:
            if math.isinf(high):
                return None
            on_the_line = low + (high - low) * max(0.0, rank - before) / (count - before)
            return max(low, min(on_the_line, high, _allowed_by_sum(buckets, q)))
        low, before = high, count
    return None


def _allowed_by_sum(buckets: Buckets, q: float) -> float:
    """No q-quantile is larger: all values are above `least`, and 1 − q of them at least as large
    as the quantile (Markov's inequality).
    """
    occupied = next(at for at, count in enumerate(buckets.up_to) if count > 0)
    least = buckets.edges[occupied - 1] if occupied else 0.0
    mean = buckets.total / buckets.up_to[-1]
    return math.inf if q >= 1 else least + max(0.0, mean - least) / (1 - q)


def largest_bucket(buckets: Buckets) -> tuple[float, float]:
    """Edges of the bucket that holds the largest value; of the first one without values."""
    low, before = 0.0, 0.0
    found = (0.0, buckets.edges[0])
    for high, count in zip(buckets.edges, buckets.up_to, strict=True):
        if count > before:
            found = (low, high)
        low, before = high, count
    return found


class Window:
    """Scrapes of the last `span_s`, and the one before them to take differences from."""

    def __init__(self, span_s: float = SPAN_S) -> None:
        self._span_s = span_s
        self._scrapes: deque[Scrape] = deque()
        self._fresh: deque[bool] = deque()
        self.restarts = 0
        """Restarts of the server that were seen."""
        self.restarted_at_s: float | None = None
        """When the last of them was seen; None: there was none."""

    def add(self, scrape: Scrape) -> None:
        restarted = bool(self._scrapes) and scrape.metrics.restarted_after(self.last.metrics)
        if restarted:
            self.restarts += 1
            self.restarted_at_s = scrape.at_s
        self._scrapes.append(scrape)
        self._fresh.append(restarted)
        while len(self._scrapes) > 1 and self._scrapes[1].at_s <= scrape.at_s - self._span_s:
            self._scrapes.popleft()
            self._fresh.popleft()

    def __bool__(self) -> bool:
        return bool(self._scrapes)

    @property
    def last(self) -> Scrape:
        """The newest one; there must be one."""
        return self._scrapes[-1]

    @property
    def span_s(self) -> float:
        """Seconds that the figures are really taken over: less than a minute at first."""
        return self.last.at_s - self._scrapes[0].at_s if self._scrapes else 0.0

    # What is.

    def gauge(self, name: str, **labels: str) -> float | None:
        """As last read; None: not told."""
        return self.last.metrics.gauges.get(key(name, **labels)) if self._scrapes else None

    def series(self, name: str, **labels: str) -> list[float | None]:
        """A gauge, scrape by scrape."""
        wanted = key(name, **labels)
        return [scrape.metrics.gauges.get(wanted) for scrape in self._scrapes]

    def labels(self, name: str) -> list[dict[str, str]]:
        """The labels under which a metric was last read, in the server's order."""
        if not self._scrapes:
            return []
        metrics = self.last.metrics
        every = (*metrics.gauges, *metrics.counters, *metrics.histograms)
        return [dict(labels) for found, labels in every if found == name]

    def gpus(self) -> list[tuple[GpuSample, ...]]:
        """Devices, scrape by scrape."""
        return [scrape.gpus for scrape in self._scrapes]

    # What happened.

    def histogram(self, name: str, **labels: str) -> Buckets | None:
        """What was added to a histogram; None: there is none, or only one scrape so far."""
        wanted = key(name, **labels)
        return self._added(
            lambda metrics: metrics.histograms.get(wanted), Buckets.since, Buckets.plus
        )

    def count(self, name: str, **labels: str) -> float | None:
        """By how much a counter rose; None: not told, or only one scrape so far."""
        wanted = key(name, **labels)
        return self._added(
            lambda metrics: metrics.counters.get(wanted),
            lambda now, then: now - then,
            lambda one, more: one + more,
        )

    def rate(self, name: str, **labels: str) -> float | None:
        """By how much a counter rose a second, over the last few; None: not told."""
        soon = Window(SOON_S)
        for scrape in self._latest(SOON_S):
            soon.add(scrape)
        count = soon.count(name, **labels)
        return count / soon.span_s if count is not None and soon.span_s > 0 else None

    def rates(self, name: str, **labels: str) -> list[float | None]:
        """The same between one scrape and the next."""
        wanted = key(name, **labels)
        return [_rate(one, other, wanted, fresh=fresh) for (one, other), fresh in self._steps()]

    def largest(self, name: str) -> list[float | None]:
        """At most how long the longest took between one scrape and the next; None: nothing did.

        The upper edge of its bucket, or the last edge where it is beyond that.
        """
        found: list[float | None] = []
        for (one, other), fresh in self._steps():
            now, then = (
                other.metrics.histograms.get(key(name)),
                one.metrics.histograms.get(key(name)),
            )
            added = now if now is None or then is None or fresh else now.since(then)
            times = Times.of(added)
            found.append(times.more_than_s if times.at_most_s is None else times.at_most_s)
        return found

    def _steps(self) -> Iterator[tuple[tuple[Scrape, Scrape], bool]]:
        """Each scrape and the next, and whether the server was restarted in between."""
        return zip(pairwise(self._scrapes), list(self._fresh)[1:], strict=True)

    def _latest(self, seconds: float) -> list[Scrape]:
        """The scrapes of the last seconds, and the one before; at least two, if there are two."""
        scrapes = list(self._scrapes)
        first = next(
            (at for at, each in enumerate(scrapes) if each.at_s > self.last.at_s - seconds), 0
        )
        return scrapes[max(0, min(first - 1, len(scrapes) - 2)) :]

    def _added(
        self,
        read: Callable[[Exposition], T | None],
        since: Callable[[T, T], T],
        plus: Callable[[T, T], T],
    ) -> T | None:
        """Run by run: the first from its first scrape, later ones from 0."""
        added: T | None = None
        for number, (first, last) in enumerate(self._runs()):
            end = read(last.metrics)
            if end is None or (number == 0 and first is last):
                continue
            begin = read(first.metrics) if number == 0 else None
            more = end if begin is None else since(end, begin)
            added = more if added is None else plus(added, more)
        return added

    def _runs(self) -> Iterator[tuple[Scrape, Scrape]]:
        """First and last scrape of each stretch without a restart."""
        first: Scrape | None = None
        last: Scrape | None = None
        for scrape, fresh in zip(self._scrapes, self._fresh, strict=True):
            if first is None or last is None or (fresh and scrape is not self._scrapes[0]):
                if first is not None and last is not None:
                    yield first, last
                first = scrape
            last = scrape
        if first is not None and last is not None:
            yield first, last


def _rate(one: Scrape, other: Scrape, wanted: Key, *, fresh: bool) -> float | None:
    now, then = other.metrics.counters.get(wanted), one.metrics.counters.get(wanted)
    if now is None or then is None or other.at_s <= one.at_s:
        return None
    return (now if fresh else now - then) / (other.at_s - one.at_s)
