"""`rtvc report`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rtvc.errors import UsageError
from rtvc.record import load_manifest
from rtvc.report.autoscaling_page import write_fleet_report
from rtvc.report.autoscaling_terminal import fleet_panel
from rtvc.report.bench_page import bench_targets, read_bench, write_bench_report
from rtvc.report.bench_terminal import bench_panel
from rtvc.report.chaos_page import write_chaos_report
from rtvc.report.chaos_terminal import chaos_panel
from rtvc.report.page import build_report
from rtvc.report.plan_page import write_plan_report
from rtvc.report.plan_terminal import plan_panel
from rtvc.report.terminal import terminal_width, verdict_panel
from rtvc.report.together import build_together
from rtvc.results.autoscaling import is_fleet, load_fleet
from rtvc.results.chaos import is_chaos, load_chaos
from rtvc.results.plan import is_plan, load_plan
from rtvc.results.reading import is_bench
from rtvc.results.targets import Targets, parse_targets
from rtvc.slo import Objective, judge, parse_objectives
from rtvc.summary import load_summary

FLEET_MISSED = 99
"""A day of a simulated fleet is not as it should be."""

Rebuild = Callable[[Console], int]
"""Rebuilds the report of one run and prints what it says; returns its exit code."""


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Folders of runs, such as reports/runs/*")
    ],
    slo: Annotated[
        list[str] | None,
        typer.Option(
            "--slo",
            metavar="OBJECTIVE",
            help="Judge by this instead, such as transcription_delay_p95<500ms (of a bench: "
            "delay_p95<500ms, wer<10%, memory<4GiB), or a TOML file with [slo] objectives = "
            "[...]; repeatable [those the run was made with]".replace("[", r"\["),
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

    Of a bench: bench.json, and which settings to run. Of a plan: what it predicts. Of a simulated
    fleet: what it costs. Of chaos: what users felt.

    Exit code, of the worst of them: 0 targets met, 3 void, undecided or interrupted, 99 missed.
    """
    # All are checked before the first is written.
    tasks = [_rebuilding(folder, slo, with_text=with_text) for folder in runs]
    console = Console(soft_wrap=True, highlight=False)
    worst = max([rebuild(console) for rebuild in tasks], default=0)
    if together is not None:
        console.print(build_together(_named(runs), together), markup=False)
        console.print(f"together: {together}", markup=False)
    raise typer.Exit(worst)


def _rebuilding(folder: Path, slo: Sequence[str] | None, *, with_text: bool | None) -> Rebuild:
    """What is to be done for one folder; raises if it is no run or its targets are unknown."""
    manifest = load_manifest(folder)
    if is_bench(folder):
        targets = parse_targets(slo) if slo else bench_targets(manifest, folder)
        return partial(_rebuild_bench, folder, targets, with_text)
    if is_plan(folder):
        load_plan(folder)
        if slo:
            raise UsageError(f"{folder} is a plan, made for its own target: leave --slo out")
        return partial(_rebuild_plan, folder)
    if is_fleet(folder):
        load_fleet(folder)
        if slo:
            raise UsageError(f"{folder} is a simulated fleet with targets of its own: no --slo")
        return partial(_rebuild_fleet, folder)
    if is_chaos(folder):
        load_chaos(folder)
        if slo:
            raise UsageError(f"{folder} is a run of rtvc chaos, which loses nothing or fails")
        return partial(_rebuild_chaos, folder)
    return partial(_rebuild_run, folder, parse_objectives(slo or manifest.targets), with_text)


def _rebuild_run(
    folder: Path, wanted: Sequence[Objective], with_text: bool | None, console: Console
) -> int:
    path = build_report(folder, with_text=with_text, objectives=wanted, png=True)
    summary = load_summary(folder)
    judgement = judge(summary, wanted)
    console.print(verdict_panel(summary, judgement, terminal_width(console)))
    console.print(f"report: {path}", markup=False)
    return judgement.exit_code


def _rebuild_bench(folder: Path, targets: Targets, with_text: bool | None, console: Console) -> int:
    found = read_bench(folder, targets=targets)
    path = write_bench_report(folder, found, with_text=with_text, png=True)
    console.print(bench_panel(found, terminal_width(console)))
    console.print(f"report: {path}", markup=False)
    return found.exit_code


def _rebuild_plan(folder: Path, console: Console) -> int:
    plan = load_plan(folder)
    path = write_plan_report(folder, plan, load_manifest(folder), png=True)
    console.print(plan_panel(plan, terminal_width(console)))
    console.print(f"report: {path}", markup=False)
    return 0


def _rebuild_fleet(folder: Path, console: Console) -> int:
    run = load_fleet(folder)
    path = write_fleet_report(folder, run, load_manifest(folder), png=True)
    console.print(fleet_panel(run, terminal_width(console)))
    console.print(f"report: {path}", markup=False)
    return 0 if run.met else FLEET_MISSED


def _rebuild_chaos(folder: Path, console: Console) -> int:
    chaos = load_chaos(folder)
    path = write_chaos_report(folder, chaos, load_manifest(folder))
    console.print(chaos_panel(chaos, terminal_width(console)))
    console.print(f"report: {path}", markup=False)
    return chaos.exit_code


def _named(runs: list[Path]) -> dict[str, Path]:
    """By the folder's name, and where two share it by their paths."""
    names = [folder.resolve().name for folder in runs]
    return {
        (name if names.count(name) == 1 else str(folder)): folder
        for name, folder in zip(names, runs, strict=True)
    }
