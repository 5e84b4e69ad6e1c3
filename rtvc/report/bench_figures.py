"""The figures of a bench: delay against word errors, and delay and sessions cell by cell."""

import math
from collections.abc import Iterable, Sequence

from rtvc.report.svg import (
    TICK_CHARACTER,
    WIDTH,
    Figure,
    Scale,
    bar,
    bottom_axis,
    left_axis,
    line,
    path_through,
    picture,
    ring,
    text,
)
from rtvc.results.recommendation import Recommendation
from rtvc.results.summary import BenchSummary, CellSummary
from rtvc.results.targets import Targets
from rtvc.results.wording import gibibytes
from rtvc.slo import shown

LEFT, RIGHT, TOP, BOTTOM = 84, WIDTH - 28, 30, 372
"""Edges of the plotting area, in user units."""

SMALLEST, LARGEST = 5.0, 22.0
"""User units: radii of the least and of the most memory."""

LABEL_GAP = 14.0
"""User units between the base lines of two names."""

MOST_BARS = 40
"""Cells drawn as bars; the table has them all."""

ROW = 26
"""User units: height of a cell among the bars."""

NAMES = 300
"""User units: room for the names of cells beside their bars."""

HOLDS = 96
"""User units: room for what a cell holds."""


def bench_figures(
    summary: BenchSummary, recommendation: Recommendation, targets: Targets
) -> dict[str, Figure]:
    """Every figure there is something to draw of, by name."""
    made = (
        trade_off(summary, recommendation, targets),
        delays(summary, recommendation, targets),
    )
    return {figure.name: figure for figure in made if figure is not None}


# Delay against word errors.


def trade_off(
    summary: BenchSummary, recommendation: Recommendation, targets: Targets
) -> Figure | None:
    """None where fewer than two cells have both a delay and a word error rate."""
    known = [one for one in summary.cells if _place(one) is not None]
    if len(known) < 2:
        return None
    x, y = _scales(known, targets)
    parts = [*_seconds_axis(x), *left_axis(y, LEFT, RIGHT, "%", 100)]
    parts += _targets(x, y, targets)
    on_front = [one for one in known if one.cell.key in summary.front]
    corners = sorted((x(math.log10(d)), y(w)) for one in on_front for d, w in _places([one]))
    parts.append(path_through(corners, "front"))
    # The largest lie below, so that none hides another.
    for one in sorted(known, key=lambda one: -(one.memory_bytes or 0)):
        parts.append(_circle(one, x, y, known, _class(one, summary, recommendation)))
    parts += _labels(known, x, y, summary, recommendation)
    return Figure(
        "trade-off",
        "Delay against word errors",
        "Each circle is a cell: how long short turns took (p95, or the largest of too few), how "
        "many words were wrong, its area the memory it took. Further left is faster, further down "
        "is more right; the line joins the cells that no other beats in both. The axis of delay is "
        "logarithmic.",
        picture(BOTTOM + 40, parts, "Delay of cells against their word error rate"),
    )


def _place(one: CellSummary) -> tuple[float, float] | None:
    """(seconds, share); a delay of nothing has no logarithm."""
    slow, wer = one.delay.slow, one.wer
    return None if not slow or wer is None or math.isinf(slow) else (slow, wer)


def _places(cells: Iterable[CellSummary]) -> list[tuple[float, float]]:
    return [place for one in cells if (place := _place(one)) is not None]


def _scales(known: Sequence[CellSummary], targets: Targets) -> tuple[Scale, Scale]:
    places = _places(known)
    seconds = [math.log10(delay) for delay, _ in places]
    if targets.delay_p95_s:
        seconds.append(math.log10(targets.delay_p95_s))
    highest = max([*(wer for _, wer in places), targets.wer or 0.0, 0.01])
    x = Scale(min(seconds) - 0.15, max(seconds) + 0.25, LEFT, RIGHT)
    return x, Scale(0, 1.15 * highest, BOTTOM, TOP)


def _seconds_axis(x: Scale) -> list[str]:
    """Ticks at 1, 2 and 5 of every power of ten."""
    parts = [line(x.start, BOTTOM, x.end, BOTTOM, "axis")]
    for power in range(math.floor(x.low), math.ceil(x.high) + 1):
        for step in (1, 2, 5):
            value = step * 10.0**power
            if value > 0 and x.low <= math.log10(value) <= x.high:
                at = x(math.log10(value))
                label = text(at, BOTTOM + 16, shown(value, "s"), "tick", "middle")
                parts += [line(at, TOP, at, BOTTOM, "grid"), label]
    return [*parts, text(x.end, BOTTOM + 34, "delay of short turns", "tick", "end")]


def _targets(x: Scale, y: Scale, targets: Targets) -> list[str]:
    parts = []
    if targets.delay_p95_s:
        at = x(math.log10(targets.delay_p95_s))
        name = f"target {shown(targets.delay_p95_s, 's')}"
        parts += [line(at, TOP, at, BOTTOM, "target"), text(at, TOP - 8, name, "target-label")]
    if targets.wer is not None:
        at = y(targets.wer)
        name = f"target {shown(targets.wer, '%')}"
        parts += [line(LEFT, at, RIGHT, at, "target")]
        parts += [text(RIGHT, at - 5, name, "target-label", "end")]
    return parts


def _circle(one: CellSummary, x: Scale, y: Scale, known: Sequence[CellSummary], class_: str) -> str:
    delay, wer = _places([one])[0]
    hint = f"{one.name}: {one.delay.slow_name} {shown(delay, 's')}, {_rate(one, wer)}{_takes(one)}"
    return ring(x(math.log10(delay)), y(wer), radius(one, known), f"cell {class_}", hint)


def _rate(one: CellSummary, wer: float) -> str:
    unit = "WER" if one.accuracy is None else one.accuracy.unit.upper()
    return f"{unit} {shown(wer, '%')}"


def _takes(one: CellSummary) -> str:
    return "" if one.memory_bytes is None else f", {gibibytes(one.memory_bytes)}"


def radius(one: CellSummary, among: Iterable[CellSummary]) -> float:
    """User units: its area grows with memory; the least there is where that is unknown."""
    most = max((other.memory_bytes or 0 for other in among), default=0)
    if not one.memory_bytes or not most:
        return SMALLEST
    return max(SMALLEST, LARGEST * math.sqrt(one.memory_bytes / most))


def _class(one: CellSummary, summary: BenchSummary, recommendation: Recommendation) -> str:
    """By what a cell is: the one to run, the yardstick, one that no other beats, or another."""
    if one.cell.key == recommendation.cell:
        return "chosen" if recommendation.met else "nearest"
    if one.cell.key == summary.yardstick:
        return "yardstick"
    return "best" if one.cell.key in summary.front else "beaten"


def _labels(
    known: Sequence[CellSummary],
    x: Scale,
    y: Scale,
    summary: BenchSummary,
    recommendation: Recommendation,
) -> list[str]:
    """Names of the cells that matter; the others show theirs to the pointer."""
    named = [one for one in known if _class(one, summary, recommendation) != "beaten"]
    places = [(x(math.log10(delay)), y(wer)) for delay, wer in _places(named)]
    lines = apart([at_y for _, at_y in places], LABEL_GAP)
    parts = []
    for one, (at_x, _), at_y in zip(named, places, lines, strict=True):
        away = radius(one, known) + 5
        kind = "total" if one.cell.key == recommendation.cell else "label"
        # To the right, unless it would leave the picture there.
        right = at_x + away + TICK_CHARACTER * len(one.name) < WIDTH
        at = at_x + away if right else at_x - away
        parts.append(text(at, at_y + 4, one.name, kind, "start" if right else "end"))
    return parts


def apart(places: Sequence[float], gap: float) -> list[float]:
    """The same places in the same order, none nearer to another than the gap, moved down.

    >>> apart([10.0, 12.0, 50.0, 11.0], 5.0)
    [10.0, 20.0, 50.0, 15.0]
    """
    moved = list(places)
    lowest = -math.inf
    for number in sorted(range(len(places)), key=lambda number: places[number]):
        moved[number] = max(places[number], lowest + gap)
        lowest = moved[number]
    return moved


# Delay and sessions, cell by cell.


def delays(
    summary: BenchSummary, recommendation: Recommendation, targets: Targets
) -> Figure | None:
    """None where no cell was timed."""
    timed = [one for one in summary.cells if _finite(one.delay.slow)]
    if not timed:
        return None
    drawn = timed[:MOST_BARS]
    longest = max(one.delay.slow or 0.0 for one in drawn)
    x = Scale(0, 1.06 * max(longest, targets.delay_p95_s or 0.0, 0.001), NAMES, WIDTH - HOLDS)
    height = 22 + ROW * len(drawn)
    parts = bottom_axis(x, height, 22, "ms", 1000)
    for number, one in enumerate(drawn):
        parts += _bars(one, x, 26 + ROW * number, _class(one, summary, recommendation))
    if targets.delay_p95_s:
        at = x(targets.delay_p95_s)
        name = f"target {shown(targets.delay_p95_s, 's')}"
        parts += [line(at, 18, at, height, "target"), text(at, 12, name, "target-label", "middle")]
    more = f" The {len(drawn)} fastest of {len(timed)}." if len(drawn) < len(timed) else ""
    return Figure(
        "delays",
        "Delay of short turns",
        "From handing in the audio to the text: the bar ends at p95 (or the largest of too few), "
        "the mark inside is the median. At the right: sessions that the engine alone holds." + more,
        picture(height + 26, parts, "Delay of short turns, cell by cell"),
    )


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _bars(one: CellSummary, x: Scale, y: float, class_: str) -> list[str]:
    slow = one.delay.slow or 0.0
    hint = f"{one.name}: {one.delay.slow_name} {shown(slow, 's')}, n={one.delay.n}"
    kind = "total" if class_ == "chosen" else "label"
    parts = [
        text(NAMES - 10, y + 13, clipped(one.name), kind, "end"),
        bar(x(0), y, x(slow) - x(0), ROW - 8, f"cell-bar {class_}", hint),
    ]
    if one.delay.p50 is not None:
        at = x(one.delay.p50)
        parts.append(line(at, y + 2, at, y + ROW - 10, "middle"))
    parts.append(text(x(slow) + 6, y + 13, shown(slow, "s"), "tick"))
    if one.held is not None:
        parts.append(text(WIDTH - 4, y + 13, f"holds {one.held.sessions}", kind, "end"))
    return parts


def clipped(name: str) -> str:
    """A name that fits beside its bar: both its ends tell cells apart, so its middle goes.

    >>> clipped("tiny.en beam 1")
    'tiny.en beam 1'
    """
    most = math.floor((NAMES - 16) / TICK_CHARACTER)
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[head + 1 - most :]}"
