"""A run directory in, one HTML file out: opens offline, asks nothing of any network."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rtvc.errors import RecordError, UsageError
from rtvc.record import RowT, Run, StepRow, load_run
from rtvc.report.about import details, environment, facts, notices
from rtvc.report.definitions import DEFINITIONS
from rtvc.report.figures import capacity_figure, figures
from rtvc.report.png import write_png
from rtvc.report.said import conversations, left_out, worst
from rtvc.report.steps import step_rows
from rtvc.report.svg import Figure
from rtvc.report.tables import (
    accuracy_numbers,
    connection_numbers,
    delay_row,
    generator_numbers,
    goodput_numbers,
    legend,
    reason_rows,
    segment_rows,
    target_row,
)
from rtvc.report.timeline import excerpt
from rtvc.report.wording import OUTCOMES, SEARCH_OUTCOMES, unbroken
from rtvc.slo import (
    UNJUDGED,
    Judgement,
    Objective,
    capacity,
    judge,
    parse_objectives,
    telling_step,
    utterance_targets,
)
from rtvc.summary import (
    SUMMARY_FILE,
    Summary,
    during,
    summarize,
    with_inferred_ready,
    write_summary,
)

TEMPLATES = Path(__file__).parent / "templates"

REPORT_FILE = "report.html"

FIGURES_FOLDER = "figures"


def build_report(
    run_dir: Path,
    *,
    with_text: bool | None = None,
    objectives: Sequence[Objective] | None = None,
    png: bool = False,
) -> Path:
    """Write report.html, figures/*.svg and summary.json; returns the page's path.

    `with_text` None shows texts unless the corpus is somebody's recordings; `objectives` None
    judges by those that the run was made with; `png` writes each figure as PNG as well.

    Raises:
        RecordError: it is no run, or only its summary is left.
    """
    run = with_inferred_ready(load_run(Path(run_dir)))
    _check_rows(run)
    wanted = run_objectives(run) if objectives is None else tuple(objectives)
    step = telling_step(run.steps)
    summary = summarize(run, step, utterance_targets(wanted))
    judgement = judge(summary, wanted)
    texts = run.manifest.corpus != "recordings" if with_text is None else with_text
    # The page of a search is that of one of its steps, with the search above it.
    part = run if step is None else _from_zero(during(run, step), step.measured_from_s)
    drawn = _drawn(run, part, summary, delay_targets(wanted), texts=texts)
    page = template("report.html.j2").render(
        {
            **_context(part, summary, judgement, drawn, texts=texts),
            "steps": step_rows(run.steps),
            "telling": None if step is None else _telling(step),
            "manifest": run.manifest,
        }
    )
    found = {"capacity": asdict(capacity(run.steps))} if run.steps else {}
    write_summary(run.folder, summary, **found)
    write_figures(run.folder / FIGURES_FOLDER, drawn.values(), png=png)
    path = run.folder / REPORT_FILE
    path.write_text(page, "utf-8")
    return path


def _check_rows(run: Run) -> None:
    """A summary of rows that were thinned out would overwrite one that says more."""
    bare = not (run.connections or run.turns or run.generator)
    if bare and (run.folder / SUMMARY_FILE).exists():
        raise RecordError(
            f"{run.folder}: expected the rows of the run (connections.csv, turns.csv, "
            f"generator.csv), found its {SUMMARY_FILE} only, which is left as it is"
        )


def _drawn(
    run: Run, part: Run, summary: Summary, targets: dict[str, float], *, texts: bool
) -> dict[str, Figure]:
    target_s = targets.get("transcription_delay")
    drawn = figures(part, summary, target_s, targets=targets, texts=texts)
    curve = capacity_figure(run.steps, target_s)
    if curve is not None:
        drawn[curve.name] = curve
    return drawn


def _telling(step: StepRow) -> str:
    speakers = f"{step.speakers} speaker{'' if step.speakers == 1 else 's'}"
    return f"From here on: step {step.step + 1}, {speakers}, {step.outcome}."


def _from_zero(run: Run, begin_s: float | None) -> Run:
    """The same run with its instants counted from `begin_s`, for drawing."""
    return replace(
        run,
        connections=[_earlier(row, begin_s or 0.0) for row in run.connections],
        turns=[_earlier(row, begin_s or 0.0) for row in run.turns],
        samples=[_earlier(row, begin_s or 0.0) for row in run.samples],
        generator=[_earlier(row, begin_s or 0.0) for row in run.generator],
    )


def _earlier(row: RowT, by_s: float) -> RowT:
    instants = (each.name for each in fields(row) if each.name.endswith("at_s"))
    known = {name: value for name in instants if (value := getattr(row, name)) is not None}
    return replace(row, **{name: value - by_s for name, value in known.items()})


def run_objectives(run: Run) -> tuple[Objective, ...]:
    """Those that a run was made with."""
    try:
        return parse_objectives(run.manifest.targets)
    except UsageError as error:
        raise RecordError(f"{run.folder}: targets: {error}") from error


def delay_targets(objectives: Iterable[Objective]) -> dict[str, float]:
    """Seconds: the tightest upper bound on each timed metric."""
    bounds: dict[str, float] = {}
    for objective in objectives:
        if objective.unit == "s" and objective.comparison.startswith("<"):
            known = bounds.get(objective.metric, objective.target)
            bounds[objective.metric] = min(known, objective.target)
    return bounds


def template(name: str) -> Any:
    """A page to be filled in."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def css(*names: str) -> str:
    """Style sheets, one after the other."""
    return "\n".join((TEMPLATES / name).read_text("utf-8") for name in names)


def write_figures(
    folder: Path,
    drawn: Iterable[Figure],
    *,
    png: bool,
    sheets: Sequence[str] = ("figures.css",),
) -> None:
    """Each figure as a file of its own, with its colours inside."""
    folder.mkdir(exist_ok=True)
    sheet = css(*sheets)
    style = f"<style>{sheet}\nsvg {{ background: var(--paper); }}</style>"
    for figure in drawn:
        opened = figure.svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        head, close, rest = opened.partition(">")
        (folder / f"{figure.name}.svg").write_text(head + close + style + rest + "\n", "utf-8")
        if png:
            write_png(figure, sheet, folder / f"{figure.name}.png")


def _context(
    run: Run, summary: Summary, judgement: Judgement, drawn: dict[str, Figure], *, texts: bool
) -> dict[str, Any]:
    judged = judgement.outcome not in UNJUDGED
    part = excerpt(run) if texts else None
    return {
        "css": css("figures.css", "report.css"),
        "judgement": judgement,
        "sentence": unbroken(judgement.sentence),
        "outcome": (SEARCH_OUTCOMES if summary.steps else OUTCOMES)[judgement.outcome],
        "facts": facts(run.manifest, summary),
        "notices": notices(run, summary),
        "targets": [target_row(verdict, judged=judged) for verdict in judgement.verdicts],
        "goodput": goodput_numbers(summary),
        "delays": [
            delay_row(name, metric, summary)
            for name, metric in summary.metrics.items()
            if metric.n or metric.missing or name in summary.not_observable
        ],
        "figures": drawn,
        "legend": legend(summary),
        "segments": segment_rows(summary),
        "accuracy": accuracy_numbers(summary),
        "not_observable": not run.manifest.text_observable,
        "worst": worst(run) if texts else [],
        "conversations": [] if part is None else conversations(run, part),
        "conversations_left_out": "" if part is None else left_out(part),
        "texts_left_out": not texts,
        "connections": connection_numbers(summary),
        "reasons": reason_rows(summary),
        "generator": generator_numbers(summary),
        "environment": environment(run.manifest),
        "details": details(run.manifest),
        "definitions": DEFINITIONS,
    }
