"""Readings of one figure over time, and what they come to."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from rtvc.record import SampleRow
from rtvc.stats import quantile

_LABELLED = re.compile(r"(?P<name>[^{]+)\{(?P<labels>.*)\}")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Series:
    """(instant, value) in order of time."""

    points: tuple[tuple[float, float], ...] = ()
    """Seconds of the phase, and the reading there; empty: never told."""

    def __bool__(self) -> bool:
        return bool(self.points)

    @property
    def values(self) -> list[float]:
        return [value for _, value in self.points]

    @property
    def mean(self) -> float | None:
        return fmean(self.values) if self.points else None

    @property
    def maximum(self) -> float | None:
        return max(self.values, default=None)

    @property
    def minimum(self) -> float | None:
        return min(self.values, default=None)

    @property
    def last(self) -> float | None:
        return self.points[-1][1] if self.points else None

    def at(self, q: float) -> float | None:
        """The q-quantile."""
        return quantile(self.values, q)

    def between(self, from_s: float, until_s: float) -> "Series":
        """The readings of a stretch of time."""
        return Series(tuple(point for point in self.points if from_s <= point[0] <= until_s))

    @property
    def span_s(self) -> float:
        return self.points[-1][0] - self.points[0][0] if self.points else 0.0

    @property
    def risen(self) -> float | None:
        """What a counter grew by; a restart of its process begins at 0 again. None: not told."""
        if not self.points:
            return None
        return sum(step for _, step in self.steps().points)

    def steps(self) -> "Series":
        """What a counter grew by from each reading to the next, at the latter."""
        pairs = zip(self.points, self.points[1:], strict=False)
        return Series(
            tuple((at, now - was if now >= was else now) for (_, was), (at, now) in pairs)
        )

    def thirds(self) -> tuple[float, float, float] | None:
        """Means of the first, middle and last third of the readings; None: fewer than six."""
        if len(self.points) < 6:
            return None
        third = len(self.points) // 3
        values = self.values
        return fmean(values[:third]), fmean(values[third:-third]), fmean(values[-third:])

    @property
    def trend(self) -> tuple[float, float]:
        """Mann's and Kendall's sum of signs, and its variance without a trend; they add up."""
        values, n = self.values, len(self.points)
        signs = sum(
            (later > sooner) - (later < sooner)
            for place, sooner in enumerate(values)
            for later in values[place + 1 :]
        )
        return float(signs), n * (n - 1) * (2 * n + 5) / 18

    @property
    def slope(self) -> float | None:
        """Rise a second, from the first to the last third; None: too short to tell."""
        parts = self.thirds()
        if parts is None or self.span_s <= 0:
            return None
        return (parts[2] - parts[0]) / (self.span_s * 2 / 3)


def canonical(name: str) -> str:
    """A metric's name with its labels in order, however the server wrote them.

    >>> canonical('a{path="felt",stage="emit"}') == canonical('a{stage="emit", path="felt"}')
    True
    """
    found = _LABELLED.fullmatch(name)
    if found is None:
        return name
    labels = sorted(_LABEL.findall(found["labels"]))
    return found["name"] + "{" + ",".join(f'{key}="{value}"' for key, value in labels) + "}"


class Readings:
    """All series of one source."""

    def __init__(self, rows: Iterable[SampleRow]) -> None:
        points: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for row in rows:
            points[canonical(row.name)].append((row.at_s, row.value))
        self._series = {name: Series(tuple(sorted(found))) for name, found in points.items()}

    def __bool__(self) -> bool:
        return bool(self._series)

    def of(self, name: str, **labels: str) -> Series:
        """One figure; empty where nobody told it."""
        inner = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        return self._series.get(name + (f"{{{inner}}}" if inner else ""), Series())

    def readings_of(self, name: str) -> Sequence[tuple[float, float]]:
        """(instant, value) of a figure by its whole name."""
        return self._series[name].points

    def names(self) -> Sequence[str]:
        return list(self._series)
