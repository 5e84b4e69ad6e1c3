"""Lines of text that fit: tables that lose their least columns rather than their figures."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.text import Text

from rtvc.slo import shown

GAP = 1
"""Spaces between two columns of a table."""

_UNIT = re.compile(r"(?<=\d) (?=(?:ms|s|×)\b)")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    """Its heading."""
    cells: Sequence[Text | str]
    """One a row."""
    right: bool = True
    """Whether figures stand at its right edge."""
    drop: int = 0
    """Where the table is too wide the columns with the largest go first; 0 never goes."""

    @property
    def width(self) -> int:
        """Characters of its widest cell."""
        return max(_text(cell).cell_len for cell in (self.name, *self.cells))


def table(columns: Iterable[Column], width: int) -> list[Text]:
    """A heading and the rows, each at most `width` characters."""
    kept = list(columns)
    while _total(kept) > width and max(column.drop for column in kept):
        first = max(kept, key=lambda column: column.drop)
        kept = [column for column in kept if column is not first]
    cells = [[_text(cell) for cell in column.cells] for column in kept]
    headings = [Text(column.name, "dim") for column in kept]
    rows = [headings, *([column[row] for column in cells] for row in range(_rows(kept)))]
    return [cut(_row(row, kept), width) for row in rows]


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + GAP * (len(columns) - 1)


def _rows(columns: Sequence[Column]) -> int:
    return min(len(column.cells) for column in columns)


def _row(cells: Sequence[Text], columns: Sequence[Column]) -> Text:
    padded = []
    for cell, column in zip(cells, columns, strict=True):
        space = Text(" " * (column.width - cell.cell_len))
        padded.append(space + cell if column.right else cell + space)
    return Text(" " * GAP).join(padded)


def _text(cell: Text | str) -> Text:
    return Text(cell) if isinstance(cell, str) else cell


def cut(line: Text, width: int, *, pad: bool = False) -> Text:
    """The line, at most `width` characters; padded to them if asked."""
    line = line.copy()
    line.truncate(max(0, width), overflow="ellipsis", pad=pad)
    return line


def wrapped(text: str, width: int, style: str, most: int) -> list[Text]:
    """At most so many lines; a number stays with its unit."""
    kept = _UNIT.sub("\N{NO-BREAK SPACE}", text)
    lines = textwrap.wrap(kept, max(1, width))
    if len(lines) > most:
        lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]
    plain = (line.replace("\N{NO-BREAK SPACE}", " ") for line in lines)
    return [cut(Text(line, style), width) for line in plain]


def beside(left: Sequence[Text], right: Sequence[Text], width: int, gap: int = 2) -> list[Text]:
    """Two blocks side by side; the left one gets the smaller half."""
    left_width = (width - gap) // 2
    lines = []
    for row in range(max(len(left), len(right))):
        first = left[row] if row < len(left) else Text("")
        second = right[row] if row < len(right) else Text("")
        # Added to the first, the second would take over its style.
        lines.append(Text.assemble(cut(first, left_width, pad=True), " " * gap, second))
    return [cut(line, width) for line in lines]


# Cells.


def number(value: float | None, unit: str = "") -> str:
    """
    >>> number(3.0), number(None), number(2.0, "×")
    ('3', '–', '2×')
    """
    return "–" if value is None else f"{value:g}{unit}"


def seconds(value: float | None) -> str:
    """
    >>> seconds(0.25), seconds(None)
    ('250 ms', '–')
    """
    return "–" if value is None else shown(value, "s")


def megabytes(value: float | None) -> str:
    """
    >>> megabytes(123_400_000.0), megabytes(12_340_000_000.0)
    ('123 MB', '12.3 GB')
    """
    if value is None:
        return "–"
    return f"{value / 1e9:.1f} GB" if value >= 10e9 else f"{value / 1e6:.0f} MB"


def age(value: float | None) -> str:
    """
    >>> age(7.4), age(754.0), age(7540.0)
    ('7 s', '12:34', '2:05 h')
    """
    if value is None:
        return "–"
    minutes, rest = divmod(int(value), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"
