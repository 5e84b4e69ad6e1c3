"""The figures of a report: pure functions from a run and its summary to SVG."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import median

from rtvc.record import GeneratorRow, Run, StepRow, TurnRow
from rtvc.report.distributions import distributions
from rtvc.report.steps import capacity_curve
from rtvc.report.strategies import strategies_figure as strategies_figure
from rtvc.report.svg import (
    WIDTH,
    Figure,
    Scale,
    bar,
    bottom_axis,
    cross,
    left_axis,
    line,
    path_through,
    picture,
    round_step,
    text,
)
from rtvc.report.timeline import timeline
from rtvc.slo import shown, spoken
from rtvc.stats import supports
from rtvc.summary import CPU_LIMIT, FRAME_S, WAITS, Stack, Summary, transcription_delay

LEFT, RIGHT = 84, WIDTH - 16
"""Edges of the plotting area, in user units."""

STRIP = 108
"""User units: height of one small plot over time."""

HIDDEN_WIDTH = 4.0
"""User units: least width of a piece of hidden work."""

GAUGES = 8
"""Gauges drawn from samples.csv."""

COUNTERS = ("_total", "_count", "_sum", "_bucket", "_created")
"""Ends of the names of what only rises."""

WAITING = ("queue", "backlog", "lag", "unsent", "busy")
"""In the names of gauges that tell where it jams."""


def capacity_figure(steps: Sequence[StepRow], target_s: float | None) -> Figure | None:
    """Delay against speakers; None if there was no search."""
    drawn = capacity_curve(steps, target_s)
    if drawn is None:
        return None
    return Figure(
        "capacity",
        "Delay against speakers",
        "Every step of the search: transcription delay at p95, or the largest where there were too "
        "few utterances, and at p50. What lies far beyond the target is drawn at the upper edge.",
        drawn,
    )


def figures(
    run: Run,
    summary: Summary,
    target_s: float | None,
    *,
    targets: Mapping[str, float] | None = None,
    texts: bool = True,
) -> dict[str, Figure]:
    """Every figure the run has data for, by name.

    `target_s` is that of transcription delay, `targets` those of other metrics; `texts`: whether
    what was said may be shown.
    """
    makers: Sequence[Callable[[], Figure | None]] = (
        lambda: distribution(_measured(run), target_s),
        lambda: distributions(run, targets or {}),
        lambda: over_time(_measured(run), target_s),
        lambda: timeline(run, texts=texts),
        lambda: stack(summary.stacks),
        lambda: generator_health(run.generator),
        lambda: gauges(run),
    )
    made = [figure for make in makers if (figure := make()) is not None]
    return {figure.name: figure for figure in made}


def _measured(run: Run) -> list[TurnRow]:
    return [turn for turn in run.turns if not turn.warm_up]


# The distribution of transcription delay.


def distribution(turns: Sequence[TurnRow], target_s: float | None) -> Figure | None:
    delays = sorted(map(transcription_delay, turns))
    came = [delay for delay in delays if math.isfinite(delay)]
    if not came:
        return None
    step = round_step(max(came[-1] - min(0.0, came[0]), 0.02), 36)
    counts = _binned(came, step)
    missing = len(delays) - len(came)
    low = min(0.0, step * min(counts))
    high = max(step * (max(counts) + 1), (target_s or 0) * 1.12)
    x = Scale(low, high, LEFT, RIGHT - (64 if missing else 0))
    y = Scale(0, max([*counts.values(), missing]) * 1.12, 212, 40)
    parts = [*bottom_axis(x, 212, 40, "ms", 1000), *left_axis(y, LEFT, x.end, "")]
    for number, count in counts.items():
        start, end = step * number, step * (number + 1)
        hint = f"{1000 * start:.0f} to {1000 * end:.0f} ms: {count}"
        beyond = target_s is not None and start >= target_s - 1e-9
        kind = "over" if beyond else "speech"
        parts.append(
            bar(x(start) + 0.5, y(count), x(end) - x(start) - 1, 212 - y(count), kind, hint)
        )
    parts += _missing_bar(y, missing) + _target_mark(x, target_s)
    return Figure(
        "transcription-delay",
        "Transcription delay",
        f"Utterances by delay from the true end of speech, n={len(delays)}, "
        f"bins of {1000 * step:g} ms.",
        picture(240, parts, "Histogram of transcription delay"),
    )


def _binned(values: Sequence[float], step: float) -> dict[int, int]:
    counts: dict[int, int] = {}
    for value in values:
        number = math.floor(value / step + 1e-9)
        counts[number] = counts.get(number, 0) + 1
    return counts


def _missing_bar(y: Scale, missing: int) -> list[str]:
    if not missing:
        return []
    return [
        bar(RIGHT - 34, y(missing), 20, 212 - y(missing), "missing", f"{missing} never came"),
        text(RIGHT - 24, y(missing) - 6, f"{missing}", "label", "middle"),
        text(RIGHT - 24, 228, "never", "tick", "middle"),
    ]


def _target_mark(x: Scale, target_s: float | None) -> list[str]:
    if target_s is None:
        return []
    at = x(target_s)
    name = f"target {shown(target_s, 's')}"
    return [line(at, 26, at, 212, "target"), text(at, 18, name, "target-label", "middle")]


# Delay over time.


def over_time(turns: Sequence[TurnRow], target_s: float | None) -> Figure | None:
    came = [
        (turn.speech_end_at_s, transcription_delay(turn))
        for turn in turns
        if math.isfinite(transcription_delay(turn))
    ]
    if not came:
        return None
    came.sort()
    ends = [turn.speech_end_at_s for turn in turns]
    x = Scale(0, max(*ends, 1.0), LEFT, RIGHT)
    delays = [delay for _, delay in came]
    y = Scale(min(0.0, *delays), max(*delays, target_s or 0, 0.02) * 1.1, 212, 34)
    parts = [*bottom_axis(x, 212, 34, "s"), *left_axis(y, LEFT, RIGHT, "ms", 1000)]
    if target_s is not None:
        name = f"target {shown(target_s, 's')}"
        parts.append(line(LEFT, y(target_s), RIGHT, y(target_s), "target"))
        parts.append(text(RIGHT, y(target_s) - 5, name, "target-label", "end"))
    for at, delay in came:
        late = target_s is not None and delay >= target_s
        parts.append(_dot(x(at), y(delay), "over" if late else "speech", at, delay))
    for turn in turns:
        if math.isinf(transcription_delay(turn)):
            hint = f"speaker {turn.speaker}: no final for the utterance that ended here"
            parts.append(cross(x(turn.speech_end_at_s), 20, "cross", hint))
    running = _running_median(came)
    if running:
        parts.append(path_through([(x(at), y(delay)) for at, delay in running], "median"))
    return Figure(
        "delay-over-time",
        "Delay over time",
        "Each dot is an utterance at the instant its speech ended; the line is the median of 11 "
        "in a row; a cross marks a final that never came. A rising line means a queue that grows.",
        picture(240, parts, "Transcription delay over the run"),
    )


def _dot(x: float, y: float, kind: str, at: float, delay: float) -> str:
    hint = f"{shown(delay, 's')} at {at:.1f} s"
    return bar(x - 2.5, y - 2.5, 5, 5, f"dot {kind}", hint)


def _running_median(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    width = 11
    if len(points) < 2 * width:
        return []
    windows = (points[at : at + width] for at in range(len(points) - width + 1))
    return [(window[width // 2][0], median(delay for _, delay in window)) for window in windows]


# Where the time of a turn went.


def stack(stacks: Sequence[Stack]) -> Figure | None:
    if not stacks:
        return None
    longest = max(each.total_s for each in stacks)
    x = Scale(0, max(longest * 1.04, 0.001), LEFT + 56, RIGHT - 60)
    parts, y = [], 10.0
    for each in stacks:
        parts += _stack_bars(each, x, y)
        y += 62 if each.hidden else 46
    axis = bottom_axis(x, y + 2, 4, "ms", 1000)
    return Figure(
        "server-stages",
        "Where the time of a turn went",
        "Typical turns (p50 and p95 of their length; of fewer than 100, the median one and the "
        "longest), taken apart; the parts add up. Amber is waiting, blue and "
        "violet are work. Outlined below, at least a sliver each: work hidden in a wait, not "
        "counted in the sum.",
        picture(y + 28, [*axis, *parts], "Server time of typical turns by segment"),
    )


def _stack_bars(each: Stack, x: Scale, y: float) -> list[str]:
    parts = [
        text(LEFT + 46, y + 15, each.stage, "label", "end"),
        text(LEFT + 46, y + 29, f"{_turn_name(each)}, n={each.n}", "tick", "end"),
    ]
    at = 0.0
    for name, length in _drawable(each.segments):
        width = x(length) - x(0)
        hint = f"{spoken(name)}: {shown(length, 's')}"
        parts.append(bar(x(at), y, width, 30, segment_class(name), hint))
        number = f"{1000 * length:.0f}"
        # A number that does not fit is left to the pointer and the table.
        if width > 9 * len(number) + 8:
            parts.append(text(x(at) + width / 2, y + 20, number, f"in-{_tone(name)}", "middle"))
        at += length
    parts.append(text(x(at) + 8, y + 20, shown(each.total_s, "s"), "total"))
    return parts + _hidden_bars(each, x, y + 34)


def _drawable(segments: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """What has less than no length, speech that was heard to end early, shortens what follows.

    >>> list(_drawable({"vad_offset": -0.5, "framing": 0.25, "vad_delay": 1.0}))
    [('vad_delay', 0.75)]
    """
    less = 0.0
    for name, length in segments.items():
        less += length
        if less > 0:
            yield name, less
            less = 0.0


def _turn_name(each: Stack) -> str:
    """Of few turns there is a middle one and a longest one; quantiles are for many."""
    few = {"p50": "median turn", "max": "longest turn"}
    return each.label if supports(each.n, 0.95) else few.get(each.label, each.label)


def _hidden_bars(each: Stack, x: Scale, y: float) -> list[str]:
    """Drawn from the left: hidden work has a length, its place does not matter here."""
    parts, at = [], x(0)
    for name, length in each.hidden.items():
        # A dashed box narrower than this is a blot.
        width = max(x(length) - x(0), HIDDEN_WIDTH)
        hint = f"hidden {spoken(name)}: {shown(length, 's')}"
        parts.append(bar(at, y, width, 8, "hidden-work", hint))
        at += width
    if each.hidden:
        # One label for all: the pieces are often narrower than their names.
        names = ", ".join(f"{spoken(n)} {shown(length, 's')}" for n, length in each.hidden.items())
        parts.append(text(at + 6, y + 8, f"hidden: {names}", "tick"))
    return parts


_SEGMENT_CLASSES = {
    "vad_delay",
    "endpoint_wait",
    "turn_model",
    "queue_wait",
    "features",
    "encode",
    "decode",
    "emit",
    "transport",
    "send",
    "unaccounted",
    "llm_ttft",
    "tts_ttfb",
}


def segment_class(name: str) -> str:
    """A class with a colour of its own, or that of waits or work in general."""
    known = f"segment-{name}" if name in _SEGMENT_CLASSES else ""
    return known or ("segment-wait" if name in WAITS else "segment-work")


def _tone(name: str) -> str:
    return "dark" if name in {"decode", "emit", "llm_ttft", "encode"} else "light"


# Whether the load generator kept up, and what the gauges showed.


def generator_health(rows: Sequence[GeneratorRow]) -> Figure | None:
    if not rows:
        return None
    lag = _by_second((row.at_s, 1000 * row.lag_max_s) for row in rows)
    cpu = _by_second((row.at_s, 100 * row.cpu_ratio) for row in rows if row.cpu_ratio is not None)
    end = float(math.ceil(max(row.at_s for row in rows)))
    parts = _strip(lag, end, 0, "largest lag, ms", 1000 * FRAME_S)
    if cpu:
        parts += _strip(cpu, end, STRIP, "CPU, % of a core", 100 * CPU_LIMIT)
    height = STRIP * (2 if cpu else 1)
    parts += bottom_axis(Scale(0, max(end, 1.0), LEFT, RIGHT), height, height, "s")
    return Figure(
        "generator",
        "Did the load generator keep up?",
        "Each second's latest frame and the busiest process; dashed: the limits. The run is void "
        "if lag p99 exceeds one frame or CPU p95 its limit.",
        picture(height + 26, parts, "Lag and CPU of the load generator over the run"),
    )


def gauges(run: Run) -> Figure | None:
    by_name: dict[str, list[tuple[float, float]]] = {}
    for row in run.samples:
        by_name.setdefault(f"{row.source} {row.name}", []).append((row.at_s, row.value))
    names = _telling(by_name)[:GAUGES]
    if not names:
        return None
    end = float(math.ceil(max(row.at_s for row in run.samples)))
    parts = []
    for place, name in enumerate(names):
        called = spoken(name.replace(" rtvc_", " "))
        parts += _strip(_by_second(by_name[name]), end, STRIP * place, called, None)
    height = STRIP * len(names)
    parts += bottom_axis(Scale(0, max(end, 1.0), LEFT, RIGHT), height, height, "s")
    left_out = len(by_name) - len(names)
    more = f" {left_out} more are in samples.csv." if left_out else ""
    return Figure(
        "gauges",
        "Gauges over the run",
        f"Largest reading of each second, of those that moved.{more}",
        picture(height + 26, parts, "Gauges over the run"),
    )


def _telling(by_name: Mapping[str, Sequence[tuple[float, float]]]) -> list[str]:
    """Gauges that moved, what waits first; counters only ever rise."""
    moved = [
        name
        for name, readings in by_name.items()
        if not name.partition("{")[0].endswith(COUNTERS) and len({v for _, v in readings}) > 1
    ]
    return sorted(moved, key=lambda name: (not any(word in name for word in WAITING), name))


def _by_second(readings: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Largest reading of each second."""
    largest: dict[int, float] = {}
    for at, value in readings:
        second = math.ceil(at)
        largest[second] = max(largest.get(second, -math.inf), value)
    return [(float(second), largest[second]) for second in sorted(largest)]


def _strip(
    points: Sequence[tuple[float, float]], end: float, top: float, name: str, limit: float | None
) -> list[str]:
    """One small plot of a value over time, STRIP units high."""
    highest = max([value for _, value in points] + ([limit] if limit is not None else []))
    lowest = min(0.0, *(value for _, value in points), 0.0)
    x = Scale(0, max(end, 1.0), LEFT, RIGHT)
    y = Scale(lowest, highest * 1.15 if highest > 0 else lowest + 1, top + 100, top + 30)
    parts = [*left_axis(y, LEFT, RIGHT, ""), text(LEFT, top + 20, name, "label")]
    if limit is not None:
        parts.append(line(LEFT, y(limit), RIGHT, y(limit), "target"))
    parts.append(path_through([(x(at), y(value)) for at, value in points], "series"))
    return parts
