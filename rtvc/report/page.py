"""A run directory in, one HTML file out: opens offline, asks nothing of any network."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rtvc.errors import RecordError, UsageError
from rtvc.record import Manifest, RowT, Run, StepRow, TurnRow, load_run
from rtvc.report.definitions import DEFINITIONS
from rtvc.report.figures import Figure, capacity_figure, figures, segment_class
from rtvc.report.steps import step_rows
from rtvc.slo import (
    UNJUDGED,
    Judgement,
    Objective,
    Outcome,
    Unit,
    Verdict,
    capacity,
    judge,
    parse_objectives,
    shown,
    spoken,
    telling_step,
)
from rtvc.summary import (
    Accuracy,
    Metric,
    Summary,
    during,
    summarize,
    transcription_delay,
    word_errors,
    write_summary,
)

TEMPLATES = Path(__file__).parent / "templates"

REPORT_FILE = "report.html"

HALF_LOST = 0.5
"""Word error rate above which it is doubtful that the model is one for this speech."""

MARKS = {"passed": "✓", "failed": "✗", "undecided": "?", "no data": "✗"}
"""As k6 draws them."""

VOID_MARK = "–"
"""Beside every objective of a run that is void or was interrupted."""

OUTCOMES: dict[Outcome, str] = {
    "met": "Targets met",
    "missed": "Targets missed",
    "undecided": "Undecided",
    "void": "Void",
    "interrupted": "Interrupted",
}

SEARCH_OUTCOMES: dict[Outcome, str] = {
    "met": "Capacity found",
    "missed": "Targets missed",
    "undecided": "Undecided",
    "void": "Void",
    "interrupted": "Interrupted",
}

_UNIT = re.compile(r"(?<=\d) (?=(?:ms|s|%)(?!\w))|(?<=[<>≤≥=]) (?=\d)")

WORST = 8
"""Utterances listed with their words."""


def unbroken(text: str) -> str:
    """The same with spaces inside "500 ms" and "< 500 ms" at which no line is broken."""
    return _UNIT.sub("\N{NO-BREAK SPACE}", text)


def build_report(
    run_dir: Path,
    *,
    with_text: bool | None = None,
    objectives: Sequence[Objective] | None = None,
) -> Path:
    """Write report.html, figures/*.svg and summary.json; returns the page's path.

    `with_text` None shows texts unless the corpus is somebody's recordings; `objectives` None
    judges by those that the run was made with.
    """
    run = load_run(Path(run_dir))
    step = telling_step(run.steps)
    summary = summarize(run, step)
    judgement = judge(summary, _objectives(run) if objectives is None else objectives)
    target_s = _delay_target(judgement)
    # The page of a search is that of one of its steps, with the search above it.
    part = run if step is None else _from_zero(during(run, step), step.measured_from_s)
    drawn = figures(part, summary, target_s)
    curve = capacity_figure(run.steps, target_s)
    if curve is not None:
        drawn[curve.name] = curve
    page = _template().render(
        {
            **_context(part, summary, judgement, drawn, with_text),
            "steps": step_rows(run.steps),
            "telling": None if step is None else _telling(step),
            "manifest": run.manifest,
        }
    )
    found = {"capacity": asdict(capacity(run.steps))} if run.steps else {}
    write_summary(run.folder, summary, **found)
    _write_figures(run.folder / "figures", drawn.values())
    path = run.folder / REPORT_FILE
    path.write_text(page, "utf-8")
    return path


def _telling(step: StepRow) -> str:
    speakers = f"{step.speakers} speaker{'' if step.speakers == 1 else 's'}"
    return f"From here on: step {step.step + 1}, {speakers}, {step.outcome}."


def _from_zero(run: Run, begin_s: float | None) -> Run:
    """The same run with its instants counted from `begin_s`, for drawing."""
    return replace(
        run,
        turns=[_earlier(row, begin_s or 0.0) for row in run.turns],
        samples=[_earlier(row, begin_s or 0.0) for row in run.samples],
        generator=[_earlier(row, begin_s or 0.0) for row in run.generator],
    )


def _earlier(row: RowT, by_s: float) -> RowT:
    instants = (each.name for each in fields(row) if each.name.endswith("at_s"))
    known = {name: value for name in instants if (value := getattr(row, name)) is not None}
    return replace(row, **{name: value - by_s for name, value in known.items()})


def _objectives(run: Run) -> Any:
    try:
        return parse_objectives(run.manifest.targets)
    except UsageError as error:
        raise RecordError(f"{run.folder}: targets: {error}") from error


def _delay_target(judgement: Judgement) -> float | None:
    """Seconds: the tightest upper bound on transcription delay."""
    bounds = [
        verdict.objective.target
        for verdict in judgement.verdicts
        if verdict.objective.metric == "transcription_delay"
        and verdict.objective.comparison.startswith("<")
    ]
    return min(bounds, default=None)


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _css(*names: str) -> str:
    return "\n".join((TEMPLATES / name).read_text("utf-8") for name in names)


def _write_figures(folder: Path, drawn: Iterable[Figure]) -> None:
    """Each figure as a file of its own, with its colours inside."""
    folder.mkdir(exist_ok=True)
    style = f"<style>{_css('figures.css')}\nsvg {{ background: var(--paper); }}</style>"
    for figure in drawn:
        opened = figure.svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        head, close, rest = opened.partition(">")
        (folder / f"{figure.name}.svg").write_text(head + close + style + rest + "\n", "utf-8")


def _context(
    run: Run,
    summary: Summary,
    judgement: Judgement,
    drawn: dict[str, Figure],
    with_text: bool | None,
) -> dict[str, Any]:
    texts = run.manifest.corpus != "recordings" if with_text is None else with_text
    return {
        "css": _css("figures.css", "report.css"),
        "judgement": judgement,
        "sentence": unbroken(judgement.sentence),
        "outcome": (SEARCH_OUTCOMES if summary.steps else OUTCOMES)[judgement.outcome],
        "facts": _facts(run.manifest, summary),
        "notices": _notices(run, summary),
        "targets": [
            _target_row(verdict, judged=judgement.outcome not in UNJUDGED)
            for verdict in judgement.verdicts
        ],
        "delays": [
            _delay_row(name, metric)
            for name, metric in summary.metrics.items()
            if metric.n or metric.missing
        ],
        "figures": drawn,
        "legend": _legend(summary),
        "segments": _segment_rows(summary),
        "accuracy": _accuracy_numbers(summary),
        "not_observable": not run.manifest.text_observable,
        "worst": _worst(run) if texts else [],
        "texts_left_out": not texts,
        "connections": _connection_numbers(summary),
        "reasons": _reasons(summary),
        "generator": _generator_numbers(summary),
        "environment": _environment(run.manifest),
        "details": _details(run.manifest),
        "definitions": DEFINITIONS,
    }


def _facts(manifest: Manifest, summary: Summary) -> list[str]:
    length = "" if summary.duration_s is None else f"{summary.duration_s:.0f} s"
    speakers = f"{summary.speakers} speaker{'' if summary.speakers == 1 else 's'}"
    if summary.steps:
        most = max(step.speakers for step in summary.steps)
        length = f"{summary.steps[-1].measured_until_s / 60:.0f} min"
        speakers = f"{len(summary.steps)} steps with up to {most} speakers"
    model = _model(manifest)
    named = f"model {model}" if model else None
    found = (_when(manifest.started_at), manifest.url, speakers, length, named)
    return [fact for fact in found if fact]


def _when(started_at: str) -> str:
    try:
        moment = datetime.fromisoformat(started_at)
    except ValueError:
        return started_at
    return f"{moment:%d %B %Y, %H:%M} UTC".lstrip("0")


def _model(manifest: Manifest) -> str | None:
    if manifest.model is None:
        return manifest.model_kind
    return f"{manifest.model} ({manifest.model_kind})" if manifest.model_kind else manifest.model


def _notices(run: Run, summary: Summary) -> list[str]:
    notices = []
    if summary.self_test:
        notices.append(
            "Measured with the self-test model: it understands the built-in synthetic speakers "
            "only. Its delays and word errors say nothing about a real model's."
        )
    if not run.manifest.text_observable:
        notices.append(
            "Measured with synthetic weights: they cost what the real model costs, and what they "
            "write means nothing. Delays are real; what was heard is not observable."
        )
    if summary.interrupted:
        notices.append("The run was interrupted; what it had recorded is shown and not judged.")
    elif summary.cut_off:
        notices.append("The run was cut off before its end; what it had recorded is shown.")
    if summary.accuracy.wer is not None and summary.accuracy.wer > HALF_LOST:
        notices.append("Almost nothing was understood: is this the right model for this speech?")
    if run.manifest.colocated:
        notices.append("Server and load generator shared one machine and competed for its cores.")
    return notices


def _target_row(verdict: Verdict, *, judged: bool) -> dict[str, Any]:
    """In a run that is not judged nothing is ticked, however good it looks."""
    return {
        "kind": verdict.status.replace(" ", "-") if judged else "unjudged",
        "mark": MARKS[verdict.status] if judged else VOID_MARK,
        "status": verdict.status if judged else "not judged",
        "name": verdict.objective.name,
        "target": unbroken(verdict.objective.target_text),
        "measured": unbroken(verdict.bare_text),
        "n": " ".join(filter(None, (f"{verdict.n:,}", verdict.objective.counted))),
        "fill": _fill(verdict),
    }


def _fill(verdict: Verdict) -> float | None:
    """Percent of the track; the target stands at two thirds of it."""
    target = verdict.objective.target
    if verdict.measured is None or target <= 0:
        return None
    share = verdict.measured / target
    return 100.0 if math.isinf(share) else round(min(max(share * 66.6, 0.6), 100.0), 1)


def _seconds(value: float | None) -> str:
    return "–" if value is None else shown(value, "s")


def _delay_row(name: str, metric: Metric) -> dict[str, Any]:
    interval = "–"
    if metric.p95_low is not None and metric.p95_high is not None:
        interval = f"{shown(metric.p95_low, 's')} to {shown(metric.p95_high, 's')}"
    cells = [f"{metric.n:,}", f"{metric.missing:,}", _seconds(metric.p50), _seconds(metric.p95)]
    return {
        "name": spoken(name),
        "cells": [*cells, interval, _seconds(metric.p99), _maximum(metric)],
    }


def _maximum(metric: Metric) -> str:
    """When an answer never came, the largest of those that did stands beside it."""
    if metric.max is None or math.isfinite(metric.max) or metric.max_observed is None:
        return _seconds(metric.max)
    return f"missing ({shown(metric.max_observed, 's')} of those that came)"


def _legend(summary: Summary) -> list[dict[str, str]]:
    names = dict.fromkeys(name for stack in summary.stacks for name in stack.segments)
    return [{"name": spoken(name), "kind": segment_class(name)} for name in names]


def _segment_rows(summary: Summary) -> list[dict[str, Any]]:
    return [
        {
            "stage": segment.stage,
            "name": spoken(segment.name),
            "kind": "swatch-none" if segment.hidden else segment_class(segment.name),
            "nature": "hidden work" if segment.hidden else "wait" if segment.wait else "work",
            "cells": [
                f"{segment.n:,}",
                _seconds(segment.p50),
                _seconds(segment.p95),
                _seconds(segment.max),
            ],
        }
        for segment in summary.segments
    ]


def _number(name: str, value: float | None, unit: Unit = "") -> dict[str, str]:
    return {"name": name, "value": "–" if value is None else shown(value, unit)}


def _accuracy_numbers(summary: Summary) -> list[dict[str, str]]:
    accuracy, spoken = summary.accuracy, summary.utterances
    return [
        *_word_numbers(accuracy),
        _number(f"premature finals ({spoken.cut_utterances})", spoken.premature_share, "%"),
        _number("finals missing", spoken.finals_missing),
        _number(f"utterances ({spoken.warm_up} more to warm up)", spoken.spoken),
    ]


def _word_numbers(accuracy: Accuracy) -> list[dict[str, str]]:
    if accuracy.cross_talk_words is None:
        names = ("word errors", "cross-talk words")
        return [{"name": name, "value": "not observable"} for name in names]
    kinds = f"{accuracy.substitutions} S + {accuracy.deletions} D + {accuracy.insertions} I"
    return [
        _number(f"word errors: {kinds} of {accuracy.reference_words:,}", accuracy.wer, "%"),
        _number(f"cross-talk words ({accuracy.cross_talk_turns} turns)", accuracy.cross_talk_words),
    ]


def _connection_numbers(summary: Summary) -> list[dict[str, str]]:
    made, errors = summary.connections, summary.errors
    return [
        _number(f"errors ({errors.count} of {errors.attempts:,})", errors.rate, "%"),
        _number("most sessions at once", made.concurrent),
        _number("refused", made.refused),
        _number("failed", made.failed),
        _number("lost mid-run", made.lost),
        _number("replies missing", summary.utterances.replies_missing),
    ]


def _generator_numbers(summary: Summary) -> list[dict[str, str]]:
    generator = summary.generator
    return [
        _number(f"lag p99 of {generator.frames:,} frames", generator.lag_p99, "s"),
        _number(f"frames late ({generator.late_frames:,})", generator.late_share, "%"),
        _number("CPU of the busiest process, p95", generator.cpu_p95, "%"),
        _number("longest oversleep of its loop", generator.loop_lag_max, "s"),
    ]


def _reasons(summary: Summary) -> list[dict[str, Any]]:
    made = summary.connections
    rows: list[dict[str, Any]] = [asdict(reason) for reason in made.reasons]
    if made.complaint:
        rows.append({"outcome": "complaint", "reason": made.complaint, "times": "first"})
    return rows


def _worst(run: Run) -> list[dict[str, Any]]:
    """Utterances with word errors, most first, the slower of equals first."""
    if not run.manifest.text_observable:
        return []
    errors_of = ((turn, word_errors(turn)) for turn in run.turns if not turn.warm_up)
    scored = [(sum(errors), turn) for turn, errors in errors_of if errors and sum(errors)]
    scored.sort(key=lambda pair: (-pair[0], -transcription_delay(pair[1])))
    return [_worst_row(turn, errors) for errors, turn in scored[:WORST]]


def _worst_row(turn: TurnRow, errors: int) -> dict[str, Any]:
    return {
        "who": f"{turn.speaker}, utterance {turn.utterance}",
        "words": word_changes(turn.text, turn.heard or ""),
        "errors": f"{errors} in {turn.reference_words}",
        "delay": _seconds(transcription_delay(turn)),
    }


def word_changes(said: str, heard: str) -> list[tuple[str, str]]:
    """Runs of words as ("same" | "lost" | "new", words); for eyes, the counts come from jiwer.

    >>> word_changes("turn the light on", "Turn a light on.")
    [('same', 'turn'), ('lost', 'the'), ('new', 'a'), ('same', 'light on')]
    """
    old, new = said.split(), heard.split()
    plain_old, plain_new = list(map(_plain_word, old)), list(map(_plain_word, new))
    changes = []
    matcher = SequenceMatcher(None, plain_old, plain_new, autojunk=False)
    for kind, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if kind == "equal":
            changes.append(("same", " ".join(old[old_from:old_to])))
            continue
        changes.append(("lost", " ".join(old[old_from:old_to])))
        changes.append(("new", " ".join(new[new_from:new_to])))
    return [(kind, words) for kind, words in changes if words]


def _plain_word(word: str) -> str:
    return word.lower().strip(".,!?;:\"'()")


def _environment(manifest: Manifest) -> list[tuple[str, str]]:
    machine = manifest.machine
    found: list[tuple[str, str | None]] = [
        ("Command", manifest.command),
        ("Server", manifest.url),
        ("Protocol", manifest.protocol),
        ("Model", _model(manifest)),
        (
            "Machine",
            f"{machine.cpu}, {machine.cores} cores, {machine.memory_bytes / 2**30:.0f} GiB",
        ),
        ("GPU", ", ".join(machine.gpus) or "none"),
        ("System", f"{machine.platform}, Python {machine.python}"),
        ("Corpus", " ".join(filter(None, (manifest.corpus, manifest.corpus_hash))) or None),
        ("rtvc", " ".join(filter(None, (manifest.rtvc_version, manifest.commit)))),
        ("Started", manifest.started_at),
    ]
    return [(name, value) for name, value in found if value]


def _details(manifest: Manifest) -> list[tuple[str, list[tuple[str, str]]]]:
    sections = {
        "Settings": manifest.settings,
        "What the server said of itself": manifest.server,
        "Package versions": manifest.packages,
    }
    return [
        (name, [(key, _written(value)) for key, value in entries.items()])
        for name, entries in sections.items()
    ]


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
