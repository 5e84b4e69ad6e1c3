"""`rtvc report`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rtvc.record import load_manifest
from rtvc.report.page import build_report
from rtvc.report.terminal import verdict_panel
from rtvc.slo import judge, parse_objectives
from rtvc.summary import load_summary


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, such as reports/runs/*.")],
    with_text: Annotated[
        bool | None,
        typer.Option(
            "--with-text/--without-text",
            help="Show what was said and heard [yes, unless it was somebody's recordings]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Rebuild report.html and summary.json of runs and print their verdicts.

    The targets are those that the run was made with.
    """
    # All are checked before the first is written.
    targets = {folder: load_manifest(folder).targets for folder in runs}
    console = Console(soft_wrap=True, highlight=False)
    for folder, wanted in targets.items():
        path = build_report(folder, with_text=with_text)
        summary = load_summary(folder)
        console.print(verdict_panel(summary, judge(summary, parse_objectives(wanted))))
        console.print(f"report: {path}", markup=False)
