"""`rtvc compare`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rtvc.compare.comparable import Bounds, Side
from rtvc.compare.comparison import AGGREGATES, Comparison, Difference
from rtvc.compare.comparison import compare as compare_sides
from rtvc.compare.measured import SHARES, TIMED
from rtvc.compare.tolerance import parse_tolerances
from rtvc.errors import UsageError
from rtvc.record import load_run
from rtvc.report.bench_repeat import compare_folders
from rtvc.report.compare_page import COMPARE_FILE, write_comparison
from rtvc.report.comparing import (
    MARKS,
    Tone,
    n_text,
    name_of,
    ratio_text,
    sentence,
    tone_of,
    value_text,
    verdict_text,
)
from rtvc.results.reading import is_bench
from rtvc.slo import capacity, telling_step
from rtvc.summary import during, summarize, with_inferred_ready

REGRESSION_EXIT = 99

WIDE = 110
"""Characters of a terminal from which on the verdicts stand there in words as well."""

UNSEEN = 140
"""Characters of a line where there is no terminal: no row is broken."""

LEGEND = "✗ regression  ▽ worse, tolerated  ✓ better  = no difference seen  ? too few samples"

_STYLES: dict[Tone, str] = {
    "regression": "red",
    "worse": "yellow",
    "better": "green",
    "same": "",
    "unknown": "dim",
}


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="Folder of the run to measure by")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Folder of the run in question")],
    as_json: Annotated[bool, typer.Option("--json", help="Only JSON on stdout")] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(
            "--fail-on",
            metavar="regression",
            help=r"Exit with 99 if B is a regression \[0 whatever is found]",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold",
            metavar="TOLERANCE",
            help="What a regression must exceed: 5% of delays and capacity, or by name: "
            "transcription_delay_p95=20%, wer=0.5% (points), capacity=0%; repeatable "
            r"\[10%, shares 1%]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help=r"Of the draws \[0]", show_default=False)
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help=r"The page \[B/compare.html]", show_default=False
        ),
    ] = None,
) -> None:
    """Compare two runs: ratios with confidence intervals, and what else differs between them; or
    two benches, cell by cell.

    Runs that measured different things are refused, each reason named.

    Exit code: 0, 99 with --fail-on regression if B is worse than A by more than is tolerated,
    2 wrong usage, or runs that cannot be compared.
    """
    if fail_on not in (None, "regression"):
        raise UsageError(f"expected --fail-on regression, got {fail_on!r}")
    if is_bench(before) or is_bench(after):
        if threshold or out is not None:
            raise UsageError("expected --threshold and --out with two load tests, got a bench")
        raise typer.Exit(_benches(before, after, fail=fail_on is not None, as_json=as_json))
    tolerances = parse_tolerances(threshold or [], TIMED, SHARES, AGGREGATES)
    old, new = load_side("A", before), load_side("B", after)
    found = compare_sides(old, new, tolerances, seed=seed)
    if as_json:
        written = {**found.to_json(), "verdict": sentence(found)}
        typer.echo(json.dumps(written, indent=2, allow_nan=False))
    if not found.comparable:
        _refuse(found, said=as_json)
    page = write_comparison(found, old, new, out or after / COMPARE_FILE)
    if not as_json:
        _print(found, page)
    raise typer.Exit(REGRESSION_EXIT if fail_on and found.regressions else 0)


def _benches(before: Path, after: Path, *, fail: bool, as_json: bool) -> int:
    """Both beside each other; the exit code."""
    shown, found = compare_folders(before, after)
    typer.echo(json.dumps(found, indent=2, allow_nan=False) if as_json else shown, nl=as_json)
    return REGRESSION_EXIT if fail and found["problems"] else 0


def load_side(label: str, folder: Path) -> Side:
    """One run as it is compared; of a search, the step that tells most."""
    run = with_inferred_ready(load_run(folder))
    step = telling_step(run.steps)
    if step is None:
        return Side(label, run, summarize(run))
    found = capacity(run.steps)
    return Side(
        label,
        during(run, step),
        summarize(run, step),
        Bounds(found.holds, found.fails_at, decided=found.outcome in ("met", "missed")),
        step.speakers,
    )


def _refuse(found: Comparison, *, said: bool) -> None:
    if said:
        raise typer.Exit(UsageError.exit_code)
    reasons = "; ".join(found.obstacles)
    raise UsageError(f"{found.before} and {found.after} cannot be compared: {reasons}")


def _print(found: Comparison, page: Path) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, UNSEEN)
    console.print(f"A: {found.before}\nB: {found.after}\n", markup=False, soft_wrap=True)
    console.print(comparison_table(found, in_words=console.width >= WIDE))
    console.print(Text(LEGEND, "dim"))
    for change in found.allowed:
        console.print(Text(f"differs: {change}", "dim"))
    for warning in found.warnings:
        console.print(Text(f"beware: {warning}", "yellow"))
    style = "bold red" if found.regressions else "bold green"
    console.print(Text(f"\n{sentence(found)}", style))
    console.print(f"page: {page}", markup=False, soft_wrap=True)


def comparison_table(found: Comparison, *, in_words: bool) -> Table:
    """One line a figure, what the server says of itself last; the verdict also in words."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("figure")
    for name in ("A", "B"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("B against A (95 %)")
    if in_words:
        table.add_column("", no_wrap=True)
    table.add_column("n in A | B", justify="right", no_wrap=True)
    for each in found.differences:
        table.add_row(*_cells(each, in_words=in_words))
    return table


def _cells(each: Difference, *, in_words: bool) -> list[Text]:
    tone = tone_of(each)
    style = "dim" if each.kind == "segment" else _STYLES[tone]
    return [
        Text(MARKS[tone], style),
        Text(name_of(each), "dim" if each.kind == "segment" else ""),
        Text(value_text(each.before, each)),
        Text(value_text(each.after, each)),
        Text(ratio_text(each), style),
        *([Text(verdict_text(each), style)] if in_words else []),
        Text(n_text(each), "dim"),
    ]
