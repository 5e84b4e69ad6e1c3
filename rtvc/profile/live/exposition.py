"""What `GET /metrics` answered, once: gauges, counters and histograms by name and labels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from rtvc.errors import RtvcError

Key = tuple[str, tuple[tuple[str, str], ...]]
"""Name, and labels in order of their names."""


def key(name: str, **labels: str) -> Key:
    """
    >>> key("rtvc_turn_stage_seconds", stage="decode", path="felt")
    ('rtvc_turn_stage_seconds', (('path', 'felt'), ('stage', 'decode')))
    """
    return name, tuple(sorted(labels.items()))


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram, or what was added to one between two scrapes."""

    edges: tuple[float, ...]
    """Upper edges, rising; the last is infinite."""
    up_to: tuple[float, ...]
    """Values no larger than each edge."""
    total: float
    """Sum of the values."""

    @property
    def n(self) -> int:
        """Values."""
        return round(self.up_to[-1]) if self.up_to else 0

    def since(self, earlier: "Buckets") -> "Buckets":
        """What was added after `earlier`; all of it where the edges are others."""
        if earlier.edges != self.edges:
            return self
        pairs = zip(self.up_to, earlier.up_to, strict=True)
        # A sum of differences never falls: a count that is off by a little must not either.
        up_to = tuple(accumulate((max(0.0, now - then) for now, then in pairs), max))
        return Buckets(self.edges, up_to, self.total - earlier.total)

    def plus(self, more: "Buckets") -> "Buckets":
        """Both together; only `more` where the edges are others."""
        if more.edges != self.edges:
            return more
        pairs = zip(self.up_to, more.up_to, strict=True)
        return Buckets(self.edges, tuple(a + b for a, b in pairs), self.total + more.total)

    def above(self, edge: float) -> int | None:
        """Values above an edge; None: it is no edge of a bucket, so nobody knows."""
        if edge not in self.edges:
            return None
        return self.n - round(self.up_to[self.edges.index(edge)])


@dataclass(frozen=True, slots=True)
class Exposition:
    """One scrape, in order of appearance."""

    gauges: Mapping[Key, float]
    """What is."""
    counters: Mapping[Key, float]
    """What happened since the server's start."""
    histograms: Mapping[Key, Buckets]
    """How long, or how large, what happened was; since the server's start."""

    def restarted_after(self, earlier: "Exposition") -> bool:
        """Whether a count fell: the server is another one, and has counted from 0."""
        counts = ((name, value) for name, value in self.counters.items())
        if any(value < earlier.counters.get(name, value) for name, value in counts):
            return True
        return any(
            now.n < earlier.histograms[name].n
            for name, now in self.histograms.items()
            if name in earlier.histograms
        )


@dataclass(slots=True)
class _Parts:
    """A histogram while it is read."""

    up_to: dict[float, float] = field(default_factory=dict)
    total: float = 0.0

    def buckets(self) -> Buckets:
        edges = tuple(sorted(self.up_to))
        return Buckets(edges, tuple(self.up_to[edge] for edge in edges), self.total)


def parse(text: str) -> Exposition:
    """Read Prometheus's text format; RtvcError if it is none."""
    gauges: dict[Key, float] = {}
    counters: dict[Key, float] = {}
    histograms: dict[Key, _Parts] = {}
    try:
        for family in text_string_to_metric_families(text):
            if family.type == "histogram":
                _read_histogram(family, histograms)
            else:
                into = counters if family.type == "counter" else gauges
                for sample in family.samples:
                    if not math.isfinite(sample.value):
                        continue
                    into[key(sample.name, **sample.labels)] = float(sample.value)
    except (ValueError, IndexError, KeyError) as error:
        raise RtvcError(f"expected metrics in Prometheus's text format, but {error}") from None
    finished = {name: parts.buckets() for name, parts in histograms.items()}
    return Exposition(gauges, counters, finished)


def _read_histogram(family: Metric, into: dict[Key, _Parts]) -> None:
    for sample in family.samples:
        labels = dict(sample.labels)
        edge = labels.pop("le", None)
        parts = into.setdefault(key(family.name, **labels), _Parts())
        if edge is not None:
            parts.up_to[math.inf if edge == "+Inf" else float(edge)] = float(sample.value)
        elif sample.name.endswith("_sum"):
            parts.total = float(sample.value)
