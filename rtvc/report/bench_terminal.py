"""A bench in a terminal: one line a cell, then why others have none, then which to run."""

import textwrap

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rtvc.report.bench_page import BenchReport, yardstick_text
from rtvc.report.bench_tables import (
    NONE,
    Mark,
    by_reason,
    faster_text,
    held_text,
    mark,
    memory_text,
    wer_text,
)
from rtvc.report.wording import seconds, unbroken
from rtvc.results.cells import CellFailure
from rtvc.results.naming import labels
from rtvc.results.summary import BenchSummary, CellSummary
from rtvc.results.wording import digits

_STYLES = {"passed": "green", "undecided": "yellow", "unjudged": "dim"}
"""Colours of the marks."""

FIGURES = ("p50", "p95", "×", "WER", "RTFx", "holds", "memory")
"""Columns."""

LARGEST = "*"
"""Beside the largest delay, where turns are too few for a p95."""

REASONS = 8
"""Cells without a result that are told one by one."""


def bench_panel(report: BenchReport, width: int | None = None) -> RenderableType:
    """The table and, last, where the eye ends up, what to run; `width` None: no line is broken."""
    found = report.recommendation
    style = "bold green" if found.met else "bold yellow"
    lines = [Text(""), Text(_kept(found.sentence, width), style), Text(_kept(found.because, width))]
    if found.serve:
        # On one line, so that it can be copied.
        lines.append(Text(f"  {found.serve}", "bold", no_wrap=True, overflow="ignore"))
    if found.note:
        lines.append(Text(_kept(f"Beware: {found.note}.", width), "yellow"))
    return Group(bench_table(report), *_notes(report.summary), *lines)


def _kept(sentence: str, width: int | None) -> str:
    """Broken to a width, a number and its unit on one line."""
    if width is None:
        return sentence
    kept = "\n".join(textwrap.wrap(unbroken(sentence), width, break_long_words=False))
    return kept.replace("\N{NO-BREAK SPACE}", " ")


def bench_table(report: BenchReport) -> Table:
    """One line a cell, the fastest first; without columns in which nothing stands."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("")
    table.add_column("cell", overflow="fold")
    cells = report.summary.cells
    rows = [_cells(one, mark(one, report.summary, report.recommendation)) for one in cells]
    told = [at for at in range(2, 2 + len(FIGURES)) if any(row[at].plain != NONE for row in rows)]
    for at in told:
        table.add_column(FIGURES[at - 2], justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row[:2], *(row[at] for at in told))
    return table


def _plain(text: str) -> Text:
    """With spaces that a reader of the terminal can search for."""
    return Text(text.replace("\N{NO-BREAK SPACE}", " "))


def _cells(one: CellSummary, sign: Mark) -> list[Text]:
    style = _STYLES.get(sign.kind, "")
    slow = NONE if one.delay.slow is None else seconds(one.delay.slow)
    few = _few(one) * LARGEST
    return [
        Text(sign.sign, style),
        Text(one.name, style),
        Text(seconds(one.delay.p50)),
        Text(slow).append(few, "dim"),
        Text(faster_text(one)),
        _plain(wer_text(one)),
        Text(NONE if one.rtfx is None else f"{digits(one.rtfx)}×"),
        Text(held_text(one)),
        _plain(memory_text(one)),
    ]


def _few(one: CellSummary) -> bool:
    """Whether the largest delay stands in place of the p95."""
    return one.delay.p95 is None and one.delay.slow is not None


def _notes(summary: BenchSummary) -> list[Text]:
    few = sorted({one.delay.n for one in summary.cells if _few(one)})
    which = " to ".join(dict.fromkeys([str(few[0]), str(few[-1])])) if few else ""
    notes = [Text(f"{LARGEST} the largest of {which}: p95 needs 100 turns", "dim")] if few else []
    notes += [Text(f"× against {yardstick_text(summary)}", "dim")] if summary.yardstick else []
    notes += _without_result(summary)
    return notes + [Text(note, "dim") for note in summary.notes]


def _without_result(summary: BenchSummary) -> list[Text]:
    """A clear line each, of many the first."""
    failures = by_reason(summary.failures)
    cells = [*(failure.cell for failure in failures), *(one.cell for one in summary.cells)]
    names = labels(cells)
    lines = [_reason(names[failure.cell.key], failure) for failure in failures[:REASONS]]
    more = len(failures) - REASONS
    if more > 0:
        lines.append(Text(f"and {more} more without a result: see report.html", "dim"))
    return lines


def _reason(name: str, failure: CellFailure) -> Text:
    expected = failure.kind in ("skipped", "unsupported")
    return Text(f"{failure.kind}: {name}: {failure.reason}", "dim" if expected else "yellow")
