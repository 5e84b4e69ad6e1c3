"""The files of a bench run, written whole or not at all, and read back.

A process that measured a cell writes one file, so a bench that is stopped at any moment has lost at
most the round it was in.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from rtvc.errors import RecordError, why
from rtvc.record import Manifest, check_version, load_manifest, read_json
from rtvc.record.files import write_json
from rtvc.results.cells import SCHEMA, Cell, CellFailure, RoundResult

CELLS_FOLDER = "cells"
"""Holds a folder for each cell, named by its key."""

FAILURE_FILE = "failed.json"

T = TypeVar("T", RoundResult, CellFailure)


@dataclass(frozen=True, slots=True)
class BenchRun:
    """A bench run, read."""

    manifest: Manifest
    """What, where, when."""
    rounds: list[RoundResult]
    """What was measured, by cell and then by round."""
    failures: list[CellFailure]
    """Why cells have no result, or not all of their rounds; by cell."""

    @property
    def cells(self) -> list[Cell]:
        """Cells of which at least one round was measured, in order."""
        return list(dict.fromkeys(result.cell for result in self.rounds))

    def of(self, cell: Cell) -> list[RoundResult]:
        """The rounds of one cell, the first one first."""
        return [result for result in self.rounds if result.cell == cell]


def is_bench(folder: Path) -> bool:
    """Whether a folder holds a bench run rather than a run of a load test."""
    return (Path(folder) / CELLS_FOLDER).is_dir()


def cell_folder(folder: Path, cell: Cell) -> Path:
    """Where the files of one cell lie, inside the folder of the bench."""
    return Path(folder) / CELLS_FOLDER / cell.key


def round_path(folder: Path, cell: Cell, number: int) -> Path:
    """Where a round of a cell lies; it is there if it was measured whole."""
    return cell_folder(folder, cell) / f"round-{number}.json"


def write_round(folder: Path, result: RoundResult) -> Path:
    """Keep what one process measured; returns the file's path.

    Raises:
        RecordError: it cannot be written.
    """
    return _write(round_path(folder, result.cell, result.round), result)


def write_failure(folder: Path, failure: CellFailure) -> Path:
    """Keep why a cell has no result; a later failure of the same cell replaces it.

    Raises:
        RecordError: it cannot be written.
    """
    return _write(cell_folder(folder, failure.cell) / FAILURE_FILE, failure)


def load_round(path: Path) -> RoundResult:
    """One round.

    Raises:
        RecordError: there is none, or it cannot be understood.
    """
    return _read(path, RoundResult)


def load_failure(path: Path) -> CellFailure:
    """One failure.

    Raises:
        RecordError: there is none, or it cannot be understood.
    """
    return _read(path, CellFailure)


def load_bench(folder: Path) -> BenchRun:
    """Read a bench run, also one that was stopped half way.

    Raises:
        RecordError: it is none, or a file of it cannot be understood; names the file.
    """
    manifest = load_manifest(folder)
    if not is_bench(folder):
        raise RecordError(
            f"this is no bench run: {folder} (expected a folder {CELLS_FOLDER}, as `rtvc bench` "
            "makes it)"
        )
    cells = Path(folder) / CELLS_FOLDER
    rounds = _sorted_rounds(map(load_round, sorted(cells.glob("*/round-*.json"))))
    failures = [load_failure(path) for path in sorted(cells.glob(f"*/{FAILURE_FILE}"))]
    return BenchRun(manifest, rounds, sorted(failures, key=lambda failure: failure.cell))


def _sorted_rounds(rounds: Iterable[RoundResult]) -> list[RoundResult]:
    """By number: as text, round-10 would stand before round-2."""
    return sorted(rounds, key=lambda result: (result.cell, result.round))


def _write(path: Path, content: RoundResult | CellFailure) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, _plain(asdict(content)))
    except OSError as error:
        raise RecordError(f"cannot write {path}: {why(error)}") from error
    return path


def _plain(value: Any) -> Any:
    """The same with half characters replaced: a model may make some, and no reader takes them."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


def _read(path: Path, kind: type[T]) -> T:
    content = read_json(path)
    check_version(path, content.get("schema"), SCHEMA)
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {where}: {first['msg']}") from error
