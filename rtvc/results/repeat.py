"""Whether two benches say the same of the same cells. Pure.

Two benches on one machine differ by what else it did meanwhile, so what is compared are ratios:
each cell's typical delay beside that of the cells in the middle. Two cells are ranked otherwise if
they stand in another order, unless either bench has them nearer to each other than the tolerance.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from rtvc.results.summary import BenchSummary, CellSummary
from rtvc.stats import quantile

TOLERANCE = 0.10
"""By how much a ratio may differ and still be the same."""

WER_TOLERANCE = 0.01
"""By how much a word error rate may be higher: a point."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """One cell in both benches."""

    key: str
    """Of the cell."""
    name: str
    """What it is called in the newer bench."""
    before: float
    """Times as slow as the cells in the middle, in the older bench."""
    after: float
    """The same in the newer one, were it as fast a machine as in the older one."""
    wer_change: float | None = None
    """Newer − older; None: not known of both."""
    memory: float | None = None
    """Newer ÷ older; None: not known of both."""

    @property
    def drift(self) -> float:
        """Newer ÷ older of the two ratios, whichever way round is at least 1; 1: the same."""
        return max(self.after / self.before, self.before / self.after)


@dataclass(frozen=True, slots=True)
class Repeat:
    """Two benches of the same cells, side by side."""

    cells: tuple[Repeated, ...]
    """Those that both have, as the older one has them: the fastest first."""
    only_before: tuple[str, ...]
    """Keys of cells that only the older one has."""
    only_after: tuple[str, ...]
    """Keys of cells that only the newer one has."""
    speed: float | None
    """Times: how much slower the newer bench was, at the median of the cells; None: no cells."""
    swapped: tuple[tuple[str, str], ...]
    """Names of cells that stand in another order by more than the tolerance in both."""
    tolerance: float = TOLERANCE
    """By how much a ratio may differ."""

    @property
    def drifted(self) -> tuple[Repeated, ...]:
        """Cells whose ratio is another."""
        return tuple(one for one in self.cells if one.drift > 1 + self.tolerance + 1e-9)

    @property
    def misheard(self) -> tuple[Repeated, ...]:
        """Cells that understand less than they did."""
        return tuple(
            one
            for one in self.cells
            if one.wer_change is not None and one.wer_change > WER_TOLERANCE + 1e-9
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """What is not as it was, a line each; empty: all is."""
        return tuple(self._told())

    def _told(self) -> Iterator[str]:
        if not self.cells:
            yield "the two benches have no cell in common"
        for key in self.only_before:
            yield f"{key} has no result any more"
        for one in self.drifted:
            yield (
                f"{one.name}: {one.after:.2f} times the middle delay, was "
                f"{one.before:.2f} ({100 * (one.drift - 1):.0f} % apart)"
            )
        for first, second in self.swapped:
            yield f"{first} was faster than {second} and is slower"
        for one in self.misheard:
            yield f"{one.name}: {100 * (one.wer_change or 0.0):.1f} points more word errors"


def compare_benches(
    before: BenchSummary, after: BenchSummary, tolerance: float = TOLERANCE
) -> Repeat:
    """The older bench beside the newer one.

    The older one's delays are divided by their geometric mean over the cells that both have, the
    newer one's by the same and by how much slower it was: the median of the cells' own ratios, so
    that one cell that was disturbed does not make the others look as if they were.
    """
    old, new = _timed(before), _timed(after)
    keys = [key for key in old if key in new]
    slower = [math.log(_delay(new[key]) / _delay(old[key])) for key in keys]
    middle, speed = _middle(old, keys), math.exp(quantile(slower, 0.5) or 0.0)
    cells = tuple(_repeated(old[key], new[key], middle, speed) for key in keys)
    return Repeat(
        cells=cells,
        only_before=tuple(key for key in old if key not in new),
        only_after=tuple(key for key in new if key not in old),
        speed=speed if keys else None,
        swapped=tuple(swaps(cells, tolerance)),
        tolerance=tolerance,
    )


def _timed(summary: BenchSummary) -> dict[str, CellSummary]:
    return {one.cell.key: one for one in summary.cells if one.typical_s}


def _delay(one: CellSummary) -> float:
    """Seconds; only such cells are asked as were timed."""
    return one.typical_s or math.nan


def _middle(cells: dict[str, CellSummary], keys: Sequence[str]) -> float:
    """Seconds: the geometric mean."""
    if not keys:
        return 1.0
    return math.exp(math.fsum(math.log(_delay(cells[key])) for key in keys) / len(keys))


def _repeated(old: CellSummary, new: CellSummary, middle: float, speed: float) -> Repeated:
    known = None if old.wer is None or new.wer is None else new.wer - old.wer
    memory = None
    if old.memory_bytes and new.memory_bytes is not None:
        memory = new.memory_bytes / old.memory_bytes
    return Repeated(
        key=new.cell.key,
        name=new.name,
        before=_delay(old) / middle,
        after=_delay(new) / (middle * speed),
        wer_change=known,
        memory=memory,
    )


def swaps(cells: Sequence[Repeated], tolerance: float) -> Iterator[tuple[str, str]]:
    """(faster before, slower now), of cells further apart than the tolerance in both benches."""
    for first, second in combinations(cells, 2):
        fast, slow = (first, second) if first.before <= second.before else (second, first)
        was_apart = slow.before > fast.before * (1 + tolerance)
        if was_apart and fast.after > slow.after * (1 + tolerance):
            yield fast.name, slow.name
