"""Rows as lines of CSV, and back."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from rtvc.errors import RecordError
from rtvc.record.rows import FILES, Row, RowT


@dataclass(frozen=True, slots=True)
class Column:
    """How one field becomes a cell and back."""

    name: str
    type: type
    """bool, int, float or str."""
    optional: bool
    """Whether the cell may be empty."""

    def encode(self, value: Any) -> str:
        if value is None:
            return ""
        if self.type is str:
            return '"' + str(value).replace('"', '""') + '"'
        if self.type is float:
            return repr(float(value))
        return str(int(value))

    def decode(self, cell: str | None) -> Any:
        if cell is None:
            if self.optional:
                return None
            raise ValueError(f"column {self.name} expects a value, but the cell is empty")
        return bool(int(cell)) if self.type is bool else self.type(cell)


def _column(name: str, hint: Any) -> Column:
    choices = get_args(hint) or (hint,)
    (plain,) = [choice for choice in choices if choice is not NoneType]
    return Column(name, plain, NoneType in choices)


COLUMNS = {
    kind: {name: _column(name, hint) for name, hint in get_type_hints(kind).items()}
    for kind in FILES
}


def line_of(row: Row) -> str:
    columns = COLUMNS[type(row)].values()
    return ",".join(column.encode(getattr(row, column.name)) for column in columns) + "\n"


def decoded(
    kind: type[RowT],
    header: list[str | None],
    rows: Iterator[tuple[int, list[str | None]]],
    path: Path,
) -> Iterator[RowT]:
    decoders = _decoders(kind, header, path)
    for line, cells in rows:
        if len(cells) != len(header):
            raise RecordError(f"{path}:{line}: expected {len(header)} cells, got {len(cells)}")
        try:
            yield kind(**{name: decode(cells[at]) for name, at, decode in decoders})
        except ValueError as error:
            raise RecordError(f"{path}:{line}: {error}") from error


def _decoders(
    kind: type[Row], header: list[str | None], path: Path
) -> list[tuple[str, int, Callable[[str | None], Any]]]:
    """Columns that are unknown are left out; those that may be empty may be missing."""
    decoders: list[tuple[str, int, Callable[[str | None], Any]]] = []
    for name, column in COLUMNS[kind].items():
        if name in header:
            decoders.append((name, header.index(name), column.decode))
        elif not column.optional:
            raise RecordError(f"{path}: expected a column {name}, but there is none")
    return decoders


_CELL = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n)')
_CUT_OFF = re.compile(r'(?:"(?:[^"]|"")*"?|[^",\r\n]*)\r?\Z')


def cells_of(text: str, path: Path) -> Iterator[tuple[int, list[str | None]]]:
    """(line, cells) of every complete row; a row without its line end is left out."""
    at, start, line, cells = 0, 0, 1, list[str | None]()
    while at < len(text):
        found = _CELL.match(text, at)
        if found is None:
            if _CUT_OFF.match(text, at):
                return
            raise RecordError(f"{path}:{line}: expected a cell, got {text[at : at + 20]!r}")
        quoted, bare, end = found.groups()
        cells.append(bare or None if quoted is None else quoted.replace('""', '"'))
        at = found.end()
        if end != ",":
            yield line, cells
            line += text.count("\n", start, at)
            start, cells = at, []
