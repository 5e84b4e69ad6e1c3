"""What one process is to measure: a cell, a round, and where everything is."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from rtvc.errors import UsageError
from rtvc.record.files import read_json, write_json
from rtvc.results.cells import Cell

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
"""Of inferences whose times are taken, as far as the engine goes."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What is measured of each cell."""

    most_at_once: int = 8
    """Largest batch whose service time is taken; a cell's own batch if that is larger."""
    batch_runs: int = 3
    """Inferences of each size of batch."""
    streaming: int = 6
    """Turns that are heard as they are spoken; 0: none."""
    partial_interval_s: float = 0.4
    """Audio between two partials of such a turn."""
    held: bool = True
    """Whether sessions are added until the delay target breaks; in the first round only."""
    delay_target_s: float = 0.5
    """End of speech → final, at p95: what held sessions must keep."""
    held_at_most: int = 128
    """Sessions beyond which nobody looks."""
    held_step_s: float = 12.0
    """Seconds for which a number of sessions is looked at."""
    held_budget_s: float = 240.0
    """Seconds after which no further number is looked at."""

    def sizes(self, most: int) -> tuple[int, ...]:
        """Sizes of batches to time for an engine that takes `most` at once.

        >>> Measures().sizes(6), Measures().sizes(1)
        ((1, 2, 4, 6), (1,))
        """
        return (*(size for size in BATCH_SIZES if size < most), most)


@dataclass(frozen=True, slots=True)
class CellSpec:
    """Of one process."""

    cell: Cell
    """What is measured."""
    round: int
    """Counted from 0."""
    folder: str
    """Of the bench; the result goes there."""
    input: str
    """Folder with the clips."""
    failure_file: str
    """Where to say why there is no result."""
    interim: str
    """Private folder for what is measured already, should the rest of it fail."""
    cold: bool = False
    """Whether these weights are loaded for the first time in this bench."""
    measures: Measures = field(default_factory=Measures)
    """How much is measured."""
    weights: str | None = None
    """CTranslate2 folder, for a process that cannot find it by itself; None: it can."""
    result_file: str = ""
    """Where such a process writes its result; empty: the process knows."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a process has no result, in its own words."""

    kind: str
    """As in `CellFailure`."""
    reason: str
    """One line for a person."""


T = TypeVar("T", CellSpec, Failed)


def save(path: Path, content: CellSpec | Failed) -> None:
    """Whole or not at all."""
    write_json(path, asdict(content))


def load_spec(path: Path) -> CellSpec:
    """Raises UsageError if it is none."""
    return _load(path, CellSpec)


def load_failed(path: Path) -> Failed | None:
    """None: the process said nothing."""
    return _load(path, Failed) if path.is_file() else None


def _load(path: Path, kind: type[T]) -> T:
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"expected a cell to measure in {path}, {where}: {first['msg']}") from None
