"""Prometheus's text format, written from the table of metrics.

A server is asked every second, also when its CPUs are all taken, and prometheus_client's own writer
takes most of the time of an answer: it builds every line anew. Here all of a line but its value is
made once. Numbers are written by the library.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from prometheus_client.utils import floatToGoString

from rtvc.server.measuring.metrics import METRICS, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]
"""Values, in the order of the table."""

Observed = tuple[Labels, list[tuple[str, float]], float]
"""A histogram: its labels, values up to each edge, and their sum."""

KEPT = 4096
"""Beginnings of lines; a server has some hundreds, as labels have a handful of values each."""


class Sheet:
    """The figures of one scrape; a metric that is not in the table raises `KeyError`."""

    def __init__(self) -> None:
        self._values: dict[str, list[tuple[Labels, float]]] = {name: [] for name in METRICS}
        self._histograms: dict[str, list[Observed]] = {name: [] for name in METRICS}

    def put(self, name: str, value: float | None, *labels: str) -> None:
        """A value under the values of its labels; None: unknown, and left out."""
        if value is not None:
            self._values[name].append((labels, value))

    def put_all(self, name: str, values: Iterable[tuple[str, float]]) -> None:
        """Values of a metric with one label."""
        for label, value in values:
            self.put(name, value, label)

    def put_histogram(
        self, name: str, cumulative: list[tuple[str, float]], total: float, *labels: str
    ) -> None:
        """(upper edge, values up to it), the last for "+Inf", and the sum of all values."""
        self._histograms[name].append((labels, cumulative, total))

    def text(self) -> bytes:
        """As it is scraped: every metric of the table, even without samples."""
        return "".join(self._lines()).encode()

    def _lines(self) -> Iterator[str]:
        for name, row in METRICS.items():
            yield _head(row)
            for labels, value in self._values[name]:
                yield f"{_beginning(name, row.labels, labels)}{_number(value)}\n"
            for labels, cumulative, total in self._histograms[name]:
                yield from _histogram(row, labels, cumulative, total)


def _histogram(
    row: Metric, labels: Labels, cumulative: Sequence[tuple[str, float]], total: float
) -> Iterator[str]:
    buckets = _beginnings(row.name, row.labels, labels, tuple(edge for edge, _ in cumulative))
    for beginning, (_, count) in zip(buckets, cumulative, strict=True):
        yield f"{beginning}{_number(count)}\n"
    count, name = cumulative[-1][1], row.name
    yield f"{_beginning(f'{name}_count', row.labels, labels)}{_number(count)}\n"
    yield f"{_beginning(f'{name}_sum', row.labels, labels)}{_number(total)}\n"


@lru_cache(maxsize=KEPT)
def _head(row: Metric) -> str:
    told = row.help.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {row.name} {told}\n# TYPE {row.name} {row.kind}\n"


@lru_cache(maxsize=KEPT)
def _beginnings(name: str, names: Labels, values: Labels, edges: Labels) -> list[str]:
    """Of a histogram's buckets."""
    return [_line(f"{name}_bucket", (*names, "le"), (*values, edge)) for edge in edges]


@lru_cache(maxsize=KEPT)
def _beginning(name: str, names: Labels, values: Labels) -> str:
    return _line(name, names, values)


def _line(name: str, names: Labels, values: Labels) -> str:
    """All of a line but its value, labels in the order of their names."""
    pairs = sorted(zip(names, values, strict=True))
    labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in pairs)
    return f"{name}{{{labels}}} " if labels else f"{name} "


def _number(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
