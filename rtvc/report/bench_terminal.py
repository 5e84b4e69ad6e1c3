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
    kind_note,
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
    """One line a cell, the fastest first."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("cell", overflow="fold")
    for name in ("p50", "p95", "×", "WER", "RTFx", "holds", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in report.summary.cells:
        table.add_row(*_cells(one, mark(one, report.summary, report.recommendation)))
    return table


def _plain(text: str) -> Text:
    """With spaces that a reader of the terminal can search for."""
    return Text(text.replace("\N{NO-BREAK SPACE}", " "))


def _cells(one: CellSummary, sign: Mark) -> list[Text]:
    style = _STYLES.get(sign.kind, "")
    name = Text(one.name, style)
    if kind_note(one):
        name.append(f" ({kind_note(one)})", "dim")
    slow = NONE if one.delay.slow is None else seconds(one.delay.slow)
    few = "" if one.delay.p95 is not None or one.delay.slow is None else f" max of {one.delay.n}"
    return [
        Text(sign.sign, style),
        name,
        Text(seconds(one.delay.p50)),
        Text(slow).append(few, "dim"),
        Text(faster_text(one)),
        _plain(wer_text(one)),
        Text(NONE if one.rtfx is None else f"{digits(one.rtfx)}×"),
        Text(held_text(one)),
        _plain(memory_text(one)),
    ]


def _notes(summary: BenchSummary) -> list[Text]:
    notes = [Text(f"× against {yardstick_text(summary)}", "dim")] if summary.yardstick else []
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
