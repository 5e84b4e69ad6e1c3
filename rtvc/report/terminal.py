"""The verdict in a terminal: marks as k6 draws them, n beside each figure."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rtvc.report.page import MARKS, VOID_MARK
from rtvc.slo import Judgement, Outcome, Status, Verdict
from rtvc.summary import Summary

_STATUS_STYLES: dict[Status, str] = {
    "passed": "green",
    "failed": "red",
    "undecided": "yellow",
    "no data": "red",
}

_OUTCOME_STYLES: dict[Outcome, str] = {
    "met": "bold green",
    "missed": "bold red",
    "undecided": "bold yellow",
    "void": "bold yellow",
}


def verdict_table(summary: Summary, verdicts: Sequence[Verdict]) -> RenderableType:
    """One line an objective, then what the figures were measured with."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("objective", no_wrap=True)
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("target", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for verdict in verdicts:
        table.add_row(*_cells(verdict, void=not summary.generator.valid))
    return Group(table, *_notes(summary))


def _cells(verdict: Verdict, *, void: bool) -> list[Text]:
    style = "dim" if void else _STATUS_STYLES[verdict.status]
    return [
        Text(VOID_MARK if void else MARKS[verdict.status], style),
        Text(verdict.objective.name),
        Text(verdict.measured_text.partition(", n=")[0], style),
        Text(verdict.objective.target_text),
        Text(f"n={verdict.n}", "dim"),
    ]


def _notes(summary: Summary) -> list[Text]:
    notes = []
    if not summary.generator.valid:
        notes.append(Text(f"void: {summary.generator.reason}", "yellow"))
    if summary.self_test:
        notes.append(Text("measured with the self-test model", "yellow"))
    elif summary.model:
        kind = f" ({summary.model_kind})" if summary.model_kind else ""
        notes.append(Text(f"measured with {summary.model}{kind}", "dim"))
    return notes


def verdict_panel(summary: Summary, judgement: Judgement) -> RenderableType:
    """The table and, last, where the eye ends up, the sentence."""
    sentence = Text(judgement.sentence, _OUTCOME_STYLES[judgement.outcome])
    return Group(verdict_table(summary, judgement.verdicts), Text(""), sentence)
