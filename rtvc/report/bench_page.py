"""A bench run in, one HTML file out: which cell to run, the table, and what it stands on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtvc.errors import RecordError, UsageError, why
from rtvc.record import Manifest
from rtvc.report.about import details, environment, when
from rtvc.report.bench_definitions import BENCH_DEFINITIONS
from rtvc.report.bench_figures import bench_figures
from rtvc.report.bench_tables import (
    accuracy_row,
    cell_row,
    condition_names,
    cost_row,
    failure_rows,
    length_names,
    length_row,
    quiet_rows,
    service_rows,
    service_sizes,
    streaming_row,
    worst_rows,
)
from rtvc.report.page import FIGURES_FOLDER, REPORT_FILE, css, template, write_figures
from rtvc.report.svg import Figure
from rtvc.report.wording import unbroken
from rtvc.results.bench_file import write_bench
from rtvc.results.reading import BenchRun, load_bench
from rtvc.results.recommendation import Recommendation, recommend
from rtvc.results.summary import BenchSummary
from rtvc.results.targets import Targets, parse_targets
from rtvc.results.yardstick import SEED_BASELINE, summarize_bench

INPUT_NOTES = "input_notes"
"""Setting of a bench's manifest: lines on its speech."""

SHEETS = ("figures.css", "bench.css")
"""Style sheets of the figures."""

_YARDSTICKS = {
    SEED_BASELINE: "the preset seed-baseline: medium.en, beam 3, VAD filter",
    "named": "as asked for",
    "slowest here": "the slowest here, for the preset seed-baseline was not measured",
}
"""Why that cell is the one to compare with."""


@dataclass(frozen=True, slots=True)
class BenchReport:
    """A bench run, summed up and told."""

    run: BenchRun
    """What was measured."""
    summary: BenchSummary
    """Its figures."""
    targets: Targets
    """What was asked for."""
    recommendation: Recommendation
    """Which cell to run."""

    @property
    def exit_code(self) -> int:
        """0: a cell keeps the targets; 99: none does; 3: nothing was measured to judge by."""
        if not self.summary.cells or self.recommendation.cell is None:
            return 3
        return 0 if self.recommendation.met else 99


def read_bench(
    folder: Path, *, targets: Targets | None = None, yardstick: str | None = None
) -> BenchReport:
    """Read a bench run and make its figures; None: as the run was made with.

    Raises:
        RecordError: it is none, or a file of it cannot be understood.
    """
    run = load_bench(folder)
    summary = summarize_bench(run, yardstick)
    wanted = bench_targets(run.manifest, folder) if targets is None else targets
    return BenchReport(run, summary, wanted, recommend(summary, wanted))


def bench_targets(manifest: Manifest, folder: Path) -> Targets:
    """Those that a bench was made with.

    Raises:
        RecordError: they cannot be understood.
    """
    try:
        return parse_targets(manifest.targets)
    except UsageError as error:
        raise RecordError(f"{folder}: targets: {error}") from error


def build_bench_report(
    folder: Path,
    *,
    targets: Targets | None = None,
    yardstick: str | None = None,
    with_text: bool | None = None,
    png: bool = False,
) -> Path:
    """Write report.html, figures/*.svg and bench.json; returns the page's path.

    `targets` and `yardstick` None: those the run was made with; `with_text` None shows texts
    unless the speech is somebody's recordings; `png` writes each figure as PNG as well.

    Raises:
        RecordError: it is no bench run, a file of it cannot be understood, or one not be written.
    """
    report = read_bench(folder, targets=targets, yardstick=yardstick)
    return write_bench_report(Path(folder), report, with_text=with_text, png=png)


def write_bench_report(
    folder: Path, report: BenchReport, *, with_text: bool | None = None, png: bool = False
) -> Path:
    """The files that `build_bench_report` makes, of a bench that was read."""
    texts = report.run.manifest.corpus != "recordings" if with_text is None else with_text
    drawn = bench_figures(report.summary, report.recommendation, report.targets)
    page = template("bench.html.j2").render(context(report, drawn, texts=texts))
    write_bench(folder, report.summary, report.recommendation, report.targets)
    path = folder / REPORT_FILE
    try:
        write_figures(folder / FIGURES_FOLDER, drawn.values(), png=png, sheets=SHEETS)
        path.write_text(page, "utf-8")
    except OSError as error:
        raise RecordError(f"cannot write {error.filename or path}: {why(error)}") from error
    return path


def context(report: BenchReport, drawn: dict[str, Figure], *, texts: bool) -> dict[str, Any]:
    """All that the page says."""
    summary, found = report.summary, report.recommendation
    return {
        "css": css("figures.css", "report.css", "bench.css"),
        "sentence": unbroken(found.sentence),
        "because": unbroken(found.because),
        "outcome": outcome(report),
        "recommendation": found,
        "facts": bench_facts(report.run.manifest, summary),
        "notices": [unbroken(note) for note in summary.notes],
        "targets": unbroken(report.targets.said),
        "yardstick": yardstick_text(summary),
        "figures": drawn,
        "rows": [cell_row(one, summary, found) for one in summary.cells],
        "failures": failure_rows(summary),
        **_more_tables(summary),
        **_words(report, texts=texts),
        "input_notes": input_notes(report.run.manifest),
        "environment": environment(report.run.manifest),
        "details": details(report.run.manifest),
        "definitions": BENCH_DEFINITIONS,
        "version": report.run.manifest.rtvc_version,
    }


def _more_tables(summary: BenchSummary) -> dict[str, Any]:
    lengths, sizes = length_names(summary), service_sizes(summary)
    conditions = condition_names(summary)
    streamed = [streaming_row(one) for one in summary.cells]
    return {
        "lengths": lengths,
        "length_rows": [length_row(one, lengths) for one in summary.cells if one.lengths],
        "conditions": conditions,
        "accuracy_rows": [
            accuracy_row(one, conditions) for one in summary.cells if one.accuracy is not None
        ],
        "streaming_rows": [row for row in streamed if row is not None],
        "sizes": sizes,
        "service_rows": [row for one in summary.cells for row in service_rows(one, sizes)],
        "cost_rows": [cost_row(one) for one in summary.cells],
    }


def _words(report: BenchReport, *, texts: bool) -> dict[str, Any]:
    """What the cell to run understood, if that may be shown."""
    one = report.summary.of(report.recommendation.cell)
    return {
        "texts_left_out": not texts,
        "heard_by": "" if one is None else one.name,
        "worst": worst_rows(report.run, one) if texts else [],
        "made_up": quiet_rows(report.run, one) if texts else [],
    }


def outcome(report: BenchReport) -> tuple[str, str]:
    """(class, words)."""
    if not report.summary.cells:
        return "void", "Nothing measured"
    return ("met", "Recommended") if report.recommendation.met else ("missed", "Targets missed")


def bench_facts(manifest: Manifest, summary: BenchSummary) -> list[str]:
    """When, on what, how much."""
    machine = manifest.machine
    most = max((one.rounds for one in summary.cells), default=0)
    turns = max((one.delay.n for one in summary.cells), default=0)
    return [
        when(manifest.started_at),
        ", ".join(machine.gpus) or f"{machine.cpu}, {machine.cores} cores",
        counted(len(summary.cells), "cell"),
        counted(most, "round"),
        f"{counted(turns, 'short turn')} a cell",
    ]


def counted(count: int, what: str) -> str:
    """
    >>> counted(1, "cell"), counted(2_000, "round")
    ('1 cell', '2,000 rounds')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def input_notes(manifest: Manifest) -> list[str]:
    """What was said of the speech before it was measured, such as a file that was left out."""
    found = manifest.settings.get(INPUT_NOTES)
    return [str(note) for note in found] if isinstance(found, list) else []


def yardstick_text(summary: BenchSummary) -> str:
    """Which cell the others are compared with, and why that one; empty: there is none."""
    one = summary.of(summary.yardstick)
    return "" if one is None else f"{one.name} ({_YARDSTICKS[summary.yardstick_is]})"
