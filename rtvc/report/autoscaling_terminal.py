"""A simulated fleet in a terminal: its days, what would be otherwise, what it rests on, and last
the answer."""

import textwrap
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rtvc.report.autoscaling_wording import COLUMNS, cells, enclosed, label
from rtvc.report.wording import unbroken
from rtvc.results.autoscaling import DayRow, FleetRun


def fleet_panel(run: FleetRun, width: int | None = None) -> RenderableType:
    """All of it; `width` None: no line is broken."""
    parts: list[RenderableType] = [days_table(run.days)]
    if run.others:
        parts += [Text(""), days_table(run.others)]
    between = enclosed(run.days[0])
    told = [between] if between else []
    told += [f"assumed: {line}" for line in run.assumptions]
    parts += [Text(""), *(Text(_kept(line, width), "dim") for line in told)]
    style = "bold green" if run.met else "bold yellow"
    parts += [Text(""), Text(_kept(run.sentence, width), style)]
    return Group(*parts)


def _kept(sentence: str, width: int | None) -> str:
    """Broken to a width, a number and its unit on one line."""
    if width is None:
        return sentence
    kept = "\n".join(textwrap.wrap(unbroken(sentence), width, break_long_words=False))
    return kept.replace("\N{NO-BREAK SPACE}", " ")


def days_table(rows: Sequence[DayRow]) -> Table:
    """One line a day."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("day", overflow="fold")
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        name = Text(label(row), "green" if row.met else "yellow")
        table.add_row(name, *map(Text, cells(row)))
    return table
