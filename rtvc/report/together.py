"""Several searches for a capacity on one page: which holds how many, and where each gives way."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtvc.errors import RecordError
from rtvc.record import Run, StepRow, load_run
from rtvc.report.page import css, template
from rtvc.report.steps import capacity_curve, delay_of, delay_text
from rtvc.report.svg import (
    WIDTH,
    Scale,
    cross,
    dot,
    left_axis,
    line,
    path_through,
    picture,
    text,
)
from rtvc.slo import capacity, parse_objectives, shown

LEFT, RIGHT, TOP, BOTTOM = 84, WIDTH - 28, 30, 330
"""Edges of the plotting area, in user units."""

COLOURS = 6
"""Series told apart by colour; then they come again in another stroke."""

TARGETS_SHOWN = 3.0
"""Times the largest target: what is slower leaves the picture at its upper edge."""


@dataclass(frozen=True, slots=True)
class Series:
    """One search, as it is drawn and listed."""

    name: str
    """As its reader calls it."""
    run: Run
    """Its run directory."""
    target_s: float | None
    """Transcription delay that it was searched for; None: by other objectives only."""

    @property
    def decided(self) -> list[StepRow]:
        """Steps that say something and measured a delay."""
        known = [s for s in self.run.steps if delay_of(s) is not None]
        return [s for s in known if s.outcome in ("passed", "failed")]


def build_together(folders: Mapping[str, Path], out: Path) -> str:
    """Write one page of several searches, by name; returns what it says in a sentence.

    Raises:
        RecordError: a folder is no run, or its run was no search.
    """
    said = context(load_series(folders))
    style = css("figures.css", "report.css", "together.css")
    page = template("together.html.j2").render({**said, "css": style})
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, "utf-8")
    return str(said["sentence"])


def load_series(folders: Mapping[str, Path]) -> list[Series]:
    """By name, in the order given.

    Raises:
        RecordError: a folder is no run, or its run was no search.
    """
    found = []
    for name, folder in folders.items():
        run = load_run(folder)
        if not run.steps:
            raise RecordError(
                f"{folder}: expected a search (`rtvc loadtest --find-capacity`), got a run "
                "without steps"
            )
        found.append(Series(name, run, _target_s(run)))
    return found


def _target_s(run: Run) -> float | None:
    objectives = parse_objectives(run.manifest.targets)
    return min((o.target for o in objectives if o.metric == "transcription_delay"), default=None)


def sentence(series: Sequence[Series]) -> str:
    """What all of them say: the most first."""
    held = sorted(series, key=lambda one: -capacity(one.run.steps).holds)
    parts = [f"{one.name} holds {capacity(one.run.steps).holds}" for one in held]
    return ", ".join(parts) + "."


def row_of(one: Series, number: int) -> dict[str, Any]:
    """One row of the table."""
    answer = capacity(one.run.steps)
    passed = [s for s in one.run.steps if s.outcome == "passed" and s.speakers == answer.holds]
    best = passed[-1] if passed else None
    missed = [s for s in one.run.steps if s.speakers > answer.holds and s.outcome == "failed"]
    first = min(missed, key=lambda step: step.speakers, default=None)
    return {
        "swatch": f"series-{number % COLOURS}",
        "name": one.name,
        "target": "–" if one.target_s is None else shown(one.target_s, "s"),
        "holds": answer.holds,
        "delay": "–" if best is None else delay_text(best),
        "n": "–" if best is None else f"{best.utterances:,}",
        "missed": "–" if first is None else first.speakers,
        "why": "" if first is None else _why(first),
    }


def _why(step: StepRow) -> str:
    return "; ".join(filter(None, (step.reason, step.binding and f"binding: {step.binding}")))


def differences(series: Sequence[Series]) -> list[str]:
    """What keeps the searches from being told apart by their strategy alone."""
    manifests = [one.run.manifest for one in series]
    parts: dict[str, set[Any]] = {
        "machines": {(m.machine.cpu, m.machine.cores, m.machine.memory_bytes) for m in manifests},
        "commits of rtvc": {m.commit for m in manifests},
        "corpora": {(m.corpus, m.corpus_hash) for m in manifests},
        "scenarios": {str(m.settings.get("scenario")) for m in manifests},
        "lengths of a message": {str(m.settings.get("frame_s")) for m in manifests},
        "protocols": {m.protocol for m in manifests},
    }
    return [f"{len(seen)} {name}" for name, seen in parts.items() if len(seen) > 1]


def curves(series: Sequence[Series]) -> str | None:
    """Markup: transcription delay against speakers, one curve a search; None: nothing measured."""
    measured = [step for one in series for step in one.decided]
    if not measured:
        return None
    x = _speakers_scale(measured)
    target_s = max((one.target_s or 0.0 for one in series), default=0.0)
    finite = [d for s in measured if (d := delay_of(s)) is not None and math.isfinite(d)]
    highest_s = 1.15 * max(finite, default=1.0)
    y = Scale(0, min(highest_s, TARGETS_SHOWN * target_s) if target_s else highest_s, BOTTOM, TOP)
    parts = [*_speakers_axis(x), *left_axis(y, LEFT, RIGHT, "ms", 1000)]
    for target in sorted({one.target_s for one in series if one.target_s}):
        label = text(LEFT + 6, y(target) - 6, f"target {shown(target, 's')}", "target-label")
        parts += [line(LEFT, y(target), RIGHT, y(target), "target"), label]
    for number, one in enumerate(series):
        parts += _curve(one, number, x, y)
    return picture(BOTTOM + 40, parts, "Transcription delay against concurrent speakers")


def _speakers_scale(steps: Sequence[StepRow]) -> Scale:
    """Of the logarithm, for one speaker stands beside hundreds."""
    numbers = [math.log2(step.speakers) for step in steps]
    return Scale(min(numbers) - 0.3, max(numbers) + 0.3, LEFT, RIGHT)


def _speakers_axis(x: Scale) -> list[str]:
    parts = [line(x.start, BOTTOM, x.end, BOTTOM, "axis")]
    for power in range(math.ceil(x.low), math.floor(x.high) + 1):
        at = x(power)
        label = text(at, BOTTOM + 16, f"{2**power:g}", "tick", "middle")
        parts += [line(at, TOP, at, BOTTOM, "grid"), label]
    return [*parts, text(x.end, BOTTOM + 34, "concurrent speakers", "tick", "end")]


def _curve(one: Series, number: int, x: Scale, y: Scale) -> list[str]:
    levels: dict[int, list[float]] = {}
    for step in one.decided:
        levels.setdefault(step.speakers, []).append(min(delay_of(step) or 0.0, y.high))
    points = [(x(math.log2(n)), y(sum(d) / len(d))) for n, d in sorted(levels.items())]
    colour = f"line-{number % COLOURS}"
    stroke = " again" if number >= COLOURS else ""
    parts = [path_through(points, f"strategy {colour}{stroke}")]
    for step in one.decided:
        at = x(math.log2(step.speakers)), y(min(delay_of(step) or 0.0, y.high))
        hint = f"{one.name}, {step.speakers} speakers: {step.outcome}, {delay_text(step)}"
        parts.append(
            dot(*at, f"strategy-dot {colour}", hint)
            if step.outcome == "passed"
            else cross(*at, f"strategy-cross {colour}", hint)
        )
    return parts


def context(series: Sequence[Series]) -> dict[str, Any]:
    """All that the page says."""
    return {
        "sentence": sentence(series),
        "rows": [row_of(one, number) for number, one in enumerate(series)],
        "figure": curves(series),
        "differences": differences(series),
        "searches": [
            {
                "name": one.name,
                "figure": capacity_curve(one.run.steps, one.target_s),
                "command": one.run.manifest.command,
                "said": sorted(one.run.manifest.server.items()),
                "commit": one.run.manifest.commit or "not run from a source tree",
                "started": one.run.manifest.started_at,
            }
            for one in series
        ],
        "machine": series[0].run.manifest.machine,
        "colocated": any(one.run.manifest.colocated for one in series),
    }
