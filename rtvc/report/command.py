"""`rtvc report`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rtvc.record import load_manifest
from rtvc.report.page import build_report
from rtvc.report.terminal import terminal_width, verdict_panel
from rtvc.report.together import build_together
from rtvc.slo import judge, parse_objectives
from rtvc.summary import load_summary


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Folders of runs, such as reports/runs/*")
    ],
    slo: Annotated[
        list[str] | None,
        typer.Option(
            "--slo",
            metavar="OBJECTIVE",
            help="Judge by this instead, such as transcription_delay_p95<500ms, or a TOML file "
            "with [slo] objectives = [...]; repeatable [those the run was made with]".replace(
                "[", r"\["
            ),
            show_default=False,
        ),
    ] = None,
    together: Annotated[
        Path | None,
        typer.Option(
            "--together",
            metavar="FILE",
            help="Also one page of all of them, which must be searches for a capacity",
            show_default=False,
        ),
    ] = None,
    with_text: Annotated[
        bool | None,
        typer.Option(
            "--with-text/--without-text",
            help=r"Show what was said and heard \[yes, unless it was somebody's recordings]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Rebuild report.html, figures and summary.json of runs and print their verdicts.

    Exit code, of the worst of them: 0 targets met, 3 void, undecided or interrupted, 99 missed.
    """
    # All are checked before the first is written.
    targets = {folder: parse_objectives(slo or load_manifest(folder).targets) for folder in runs}
    for folder in runs:
        load_manifest(folder)
    console = Console(soft_wrap=True, highlight=False)
    worst = 0
    for folder, wanted in targets.items():
        path = build_report(folder, with_text=with_text, objectives=wanted, png=True)
        summary = load_summary(folder)
        judgement = judge(summary, wanted)
        console.print(verdict_panel(summary, judgement, terminal_width(console)))
        console.print(f"report: {path}", markup=False)
        worst = max(worst, judgement.exit_code)
    if together is not None:
        console.print(build_together(_named(runs), together), markup=False)
        console.print(f"together: {together}", markup=False)
    raise typer.Exit(worst)


def _named(runs: list[Path]) -> dict[str, Path]:
    """By the folder's name, and where two share it by their paths."""
    names = [folder.resolve().name for folder in runs]
    return {
        (name if names.count(name) == 1 else str(folder)): folder
        for name, folder in zip(names, runs, strict=True)
    }
