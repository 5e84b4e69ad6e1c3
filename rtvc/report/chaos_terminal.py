"""A run of `rtvc chaos` in a terminal: a line for each fault, and last the verdict."""

import textwrap

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rtvc.report.chaos_wording import (
    MARKS,
    delay_text,
    missing_text,
    recovery_text,
    verdict_text,
)
from rtvc.results.chaos import Chaos, Fault

STYLES = {"passed": "green", "failed": "red", "void": "yellow"}


def chaos_panel(chaos: Chaos, width: int | None = None) -> RenderableType:
    """All of it; `width` None: no line is broken."""
    sentence = chaos.sentence
    if width is not None:
        sentence = "\n".join(textwrap.wrap(sentence, width))
    style = {0: "bold green", 3: "bold yellow"}.get(chaos.exit_code, "bold red")
    return Group(_table(chaos), Text(""), Text(sentence, style))


def _table(chaos: Chaos) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("", "fault"):
        table.add_column(name, no_wrap=True)
    for name in ("delay before", "during", "after", "replies missing", "recovered after"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("", overflow="fold")
    for fault in chaos.faults:
        style = STYLES[fault.status]
        spans = (fault.before, fault.during, fault.after)
        table.add_row(
            Text(MARKS[fault.status], style),
            Text(fault.name),
            *(Text(delay_text(each)) for each in spans),
            Text(missing_text(fault)),
            Text(recovery_text(fault)),
            Text(verdict_text(fault), style),
        )
    return table


def fault_line(fault: Fault) -> str:
    """One fault, as soon as it is done."""
    return (
        f"{MARKS[fault.status]} {fault.name}: {verdict_text(fault)}; delay "
        f"{delay_text(fault.before)}, during {delay_text(fault.during)}, after "
        f"{delay_text(fault.after)}; replies missing {missing_text(fault)}; recovered after "
        f"{recovery_text(fault)}; took "
        f"{fault.seconds:.0f} s"
    )
