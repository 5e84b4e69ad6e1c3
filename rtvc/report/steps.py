"""A search for the capacity, drawn and listed: pure functions from its steps."""

import math
from collections.abc import Sequence
from typing import Any

from rtvc.record import StepRow
from rtvc.report.svg import (
    WIDTH,
    Scale,
    cross,
    dot,
    left_axis,
    line,
    path_through,
    picture,
    round_step,
    tag,
    text,
)
from rtvc.slo import capacity, shown

LEFT, RIGHT, TOP, BOTTOM = 84, WIDTH - 28, 44, 300
"""Edges of the plotting area, in user units."""

LABEL = 52
"""User units that a label takes."""

MARKS = {"passed": "✓", "failed": "✗", "void": "–", "undecided": "?"}

KINDS = {"passed": "passed", "failed": "failed", "void": "unjudged", "undecided": "undecided"}
"""Colours of the marks."""


def delay_of(step: StepRow) -> float | None:
    """Seconds: p95, or the largest where there were too few utterances; infinite if missing."""
    return step.delay_max_s if step.delay_p95_s is None else step.delay_p95_s


def capacity_curve(steps: Sequence[StepRow], target_s: float | None) -> str | None:
    """Markup of transcription delay against speakers; None if no step measured any."""
    measured = [step for step in steps if delay_of(step) is not None]
    if not measured:
        return None
    x = _speakers_scale(measured)
    y = Scale(0, _ceiling_s(measured, target_s), BOTTOM, TOP)
    parts = [*_interval_band(steps, x), *_speakers_axis(x), *left_axis(y, LEFT, RIGHT, "ms", 1000)]
    if target_s is not None:
        parts.append(line(LEFT, y(target_s), RIGHT, y(target_s), "target"))
        name = f"target {shown(target_s, 's')}"
        parts.append(text(LEFT + 6, y(target_s) - 6, name, "target-label"))
    # A run that says nothing has its mark, but no say in the curve.
    decided = [step for step in measured if step.outcome in ("passed", "failed")]
    typical = [(step.speakers, step.delay_p50_s) for step in decided]
    parts.append(path_through(_curve(typical, x, y), "series-typical"))
    slow = [(step.speakers, delay_of(step)) for step in decided]
    parts.append(path_through(_curve(slow, x, y), "series"))
    for step in measured:
        parts += _step_mark(step, x, y)
    parts += _edge_labels(measured, x, y)
    return picture(BOTTOM + 40, parts, "Transcription delay against concurrent speakers")


def _speakers_scale(steps: Sequence[StepRow]) -> Scale:
    most = max(step.speakers for step in steps)
    return Scale(0, most * 1.06 + 0.5, LEFT, RIGHT)


def _ceiling_s(steps: Sequence[StepRow], target_s: float | None) -> float:
    """What is far beyond the target is drawn at the edge, so that the rest can be read."""
    finite = [delay for step in steps if (delay := delay_of(step)) is not None]
    finite = [delay for delay in finite if math.isfinite(delay)]
    highest = max(finite, default=0.1)
    return (
        highest * 1.15
        if target_s is None
        else max(min(highest * 1.15, 3 * target_s), 1.3 * target_s)
    )


def _interval_band(steps: Sequence[StepRow], x: Scale) -> list[str]:
    """What is held, as a ground, with its edge named."""
    holds = capacity(steps).holds
    if not holds:
        return []
    wide = x(holds) - x(0)
    ground = tag("rect", x=x(0), y=TOP, width=wide, height=BOTTOM - TOP, class_="held-ground")
    near_edge = x(holds) > RIGHT - 60
    return [
        ground,
        line(x(holds), TOP - 10, x(holds), BOTTOM, "held-edge"),
        text(x(holds), TOP - 16, f"holds {holds}", "held-label", "end" if near_edge else "middle"),
    ]


def _speakers_axis(x: Scale) -> list[str]:
    step = max(1.0, round_step(x.high, 12))
    parts = [line(x.start, BOTTOM, x.end, BOTTOM, "axis")]
    for number in range(int(x.high / step) + 1):
        parts.append(text(x(number * step), BOTTOM + 16, f"{number * step:g}", "tick", "middle"))
    return [*parts, text(x.end, BOTTOM + 34, "concurrent speakers", "tick", "end")]


def _curve(
    points: Sequence[tuple[int, float | None]], x: Scale, y: Scale
) -> list[tuple[float, float]]:
    """Through the mean of the runs of each number of speakers."""
    runs: dict[int, list[float]] = {}
    for speakers, seconds in points:
        if seconds is not None:
            runs.setdefault(speakers, []).append(min(seconds, y.high))
    return [(x(n), y(sum(runs[n]) / len(runs[n]))) for n in sorted(runs)]


def _step_mark(step: StepRow, x: Scale, y: Scale) -> list[str]:
    delay = delay_of(step)
    if delay is None:
        return []
    at = x(step.speakers), y(min(delay, y.high))
    hint = f"step {step.step + 1}, speakers {step.speakers}: {step.outcome}, {delay_text(step)}"
    if step.outcome == "failed":
        return [cross(*at, "cross", hint)]
    return [dot(*at, "step-held" if step.outcome == "passed" else "step-open", hint)]


def _edge_labels(steps: Sequence[StepRow], x: Scale, y: Scale) -> list[str]:
    """How far beyond the picture; of labels that would overlap, the first from the left."""
    labels: list[str] = []
    free_from = -math.inf
    for step in sorted(steps, key=lambda step: step.speakers):
        delay = delay_of(step)
        if delay is not None and delay > y.high and x(step.speakers) >= free_from:
            labels.append(text(x(step.speakers), TOP - 9, shown(delay, "s"), "tick", "middle"))
            free_from = x(step.speakers) + LABEL
    return labels


def delay_text(step: StepRow) -> str:
    """As in the table: p95, or the maximum with its name."""
    delay = delay_of(step)
    if delay is None:
        return "–"
    return shown(delay, "s") if step.delay_p95_s is not None else f"max {shown(delay, 's')}"


def step_rows(steps: Sequence[StepRow]) -> list[dict[str, Any]]:
    """The table of steps."""
    return [
        {
            "mark": MARKS.get(step.outcome, "?"),
            "kind": KINDS.get(step.outcome, "undecided"),
            "status": step.outcome,
            "speakers": step.speakers,
            "purpose": step.purpose,
            "cells": [
                f"{step.utterances:,}",
                _seconds(step.delay_p50_s),
                delay_text(step),
                _seconds(step.partial_interval_p50_s),
                f"{step.errors:,}",
                f"{step.cut_utterances:,}",
                _seconds(step.lag_p99_s),
                "–" if step.goodput_share is None else shown(step.goodput_share, "%"),
            ],
            "why": _why(step),
        }
        for step in steps
    ]


def _why(step: StepRow) -> str:
    parts = [step.reason, f"binding: {step.binding}" if step.binding else None, step.evidence]
    said = "; ".join(part for part in parts if part)
    return f"{said} (stopped early)" if said and step.stopped_early else said


def _seconds(value: float | None) -> str:
    return "–" if value is None else shown(value, "s")
