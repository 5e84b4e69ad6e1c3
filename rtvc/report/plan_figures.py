"""The figures of a plan: pure functions from its records to SVG."""

import math
from collections.abc import Sequence

from rtvc.report.svg import (
    WIDTH,
    Figure,
    Scale,
    bar,
    bottom_axis,
    cross,
    dot,
    left_axis,
    line,
    path_through,
    picture,
    text,
)
from rtvc.results.plan import FleetRow, Plan, Variant
from rtvc.slo import shown

LEFT, RIGHT, TOP, BOTTOM = 84, WIDTH - 28, 30, 330
"""Edges of the plotting area, in user units."""

COLOURS = 6
"""Curves told apart by colour; then they come again in another stroke."""

TARGETS_SHOWN = 3.0
"""Times the target: what is slower leaves the picture at its upper edge."""

NAMES = 190
"""User units that the names of bars take."""

BAR, GAP = 16, 8
"""User units: height of a bar, and what is between two."""

BARS = 16
"""Instances drawn."""


def plan_figures(plan: Plan) -> list[Figure]:
    """All that there is data for."""
    made = (delay_curves(plan), predicted_beside_measured(plan), fleet_bars(plan))
    return [figure for figure in made if figure is not None]


def delay_curves(plan: Plan) -> Figure | None:
    """Delay against sessions, one curve a variant; None where nothing was simulated."""
    drawn = [variant for variant in plan.variants if _curve(variant)]
    if not drawn:
        return None
    points = [point for variant in drawn for point in _curve(variant)]
    powers = [math.log2(sessions) for sessions, _ in points]
    x = Scale(min(powers) - 0.3, max(powers) + 0.3, LEFT, RIGHT)
    y = Scale(0, _ceiling_s(plan, [delay_s for _, delay_s in points]), BOTTOM, TOP)
    target = text(
        LEFT + 6,
        y(plan.delay_target_s) - 6,
        f"target {shown(plan.delay_target_s, 's')}",
        "target-label",
    )
    parts = [*_sessions_axis(x), *left_axis(y, LEFT, RIGHT, "ms", 1000)]
    parts += [line(LEFT, y(plan.delay_target_s), RIGHT, y(plan.delay_target_s), "target"), target]
    for number, variant in enumerate(plan.variants):
        parts += _drawn(variant, number, x, y)
    return Figure(
        "delay-against-sessions",
        "Delay against sessions",
        "Simulated transcription delay p95. ● held, × not held. What is far beyond the target is "
        "drawn at the upper edge; the axis of sessions is logarithmic.",
        picture(BOTTOM + 40, parts, "Simulated transcription delay against sessions"),
    )


def _curve(variant: Variant) -> list[tuple[int, float]]:
    return [
        (point.sessions, point.delay_p95_s)
        for point in variant.points
        if point.delay_p95_s is not None
    ]


def _ceiling_s(plan: Plan, delays: Sequence[float]) -> float:
    finite = [delay for delay in delays if math.isfinite(delay)]
    highest_s = 1.15 * max(finite, default=plan.delay_target_s)
    return max(min(highest_s, TARGETS_SHOWN * plan.delay_target_s), 1.3 * plan.delay_target_s)


def _sessions_axis(x: Scale) -> list[str]:
    parts = [line(x.start, BOTTOM, x.end, BOTTOM, "axis")]
    for power in range(math.ceil(x.low), math.floor(x.high) + 1):
        label = text(x(power), BOTTOM + 16, f"{2**power:g}", "tick", "middle")
        parts += [line(x(power), TOP, x(power), BOTTOM, "grid"), label]
    return [*parts, text(x.end, BOTTOM + 34, "sessions", "tick", "end")]


def _drawn(variant: Variant, number: int, x: Scale, y: Scale) -> list[str]:
    points = [(x(math.log2(n)), y(min(delay, y.high))) for n, delay in _curve(variant)]
    if not points:
        return []
    colour = f"line-{number % COLOURS}"
    again = " again" if number >= COLOURS else ""
    parts = [path_through(points, f"strategy {colour}{again}")]
    for (sessions, delay), at in zip(_curve(variant), points, strict=True):
        hint = f"{variant.name}, {sessions} sessions: p95 {shown(delay, 's')}"
        held = sessions <= variant.holds
        mark = dot if held else cross
        kind = "strategy-dot" if held else "strategy-cross"
        parts.append(mark(*at, f"{kind} {colour}", hint))
    return parts


def predicted_beside_measured(plan: Plan) -> Figure | None:
    """Pairs of bars; None where nothing was measured."""
    pairs = [(v, v.measured) for v in plan.variants if v.measured is not None]
    if not pairs:
        return None
    most = max(max(variant.holds, measured.holds) for variant, measured in pairs)
    bottom = TOP + len(pairs) * (2 * BAR + 2 * GAP)
    x = Scale(0, max(most, 1) * 1.1, LEFT + NAMES, RIGHT)
    parts = bottom_axis(x, bottom, TOP, "sessions")
    for number, (variant, measured) in enumerate(pairs):
        top = TOP + number * (2 * BAR + 2 * GAP) + GAP / 2
        parts.append(text(x.start - 8, top + BAR + 4, variant.name, "label", "end"))
        for row, (name, holds, kind) in enumerate(
            (("predicted", variant.holds, "speech"), ("measured", measured.holds, "waiting"))
        ):
            at = top + row * BAR
            hint = f"{variant.name}, {name}: {holds}"
            parts.append(bar(x.start, at, x(holds) - x.start, BAR - 2, kind, hint))
            parts.append(text(x(holds) + 6, at + BAR - 5, f"{holds} {name}", "tick"))
    return Figure(
        "predicted-beside-measured",
        "Predicted beside measured",
        "Sessions that the simulation holds, and speakers that a load test found held.",
        picture(bottom + 30, parts, "Capacity, predicted and measured"),
    )


def fleet_bars(plan: Plan) -> Figure | None:
    """Price of the fleet by kind of instance, the cheapest first; None where none has a price."""
    rows = [row for row in plan.fleet if row.fleet_usd_per_hour is not None][:BARS]
    if not rows:
        return None
    bottom = TOP + len(rows) * (BAR + GAP)
    most = max(row.fleet_usd_per_hour or 0.0 for row in rows)
    x = Scale(0, max(most, 0.01) * 1.25, LEFT + NAMES, RIGHT)
    parts = bottom_axis(x, bottom, TOP, "$ an hour")
    for number, row in enumerate(rows):
        parts += _fleet_bar(row, x, TOP + number * (BAR + GAP) + GAP / 2)
    return Figure(
        "fleet",
        "What a fleet costs",
        "On-demand price an hour of as many instances as the busiest hour takes. Dashed: the "
        "speed of the GPU is extrapolated from its data sheet.",
        picture(bottom + 30, parts, "Price of a fleet by kind of instance"),
    )


def _fleet_bar(row: FleetRow, x: Scale, top: float) -> list[str]:
    price = row.fleet_usd_per_hour or 0.0
    kind = "hidden-work" if row.basis == "extrapolated" else "speech"
    said = f"{row.instances:,} × {row.instance}"
    return [
        text(x.start - 8, top + BAR - 4, said, "label", "end"),
        bar(x.start, top, x(price) - x.start, BAR - 2, kind, f"{said}: ${price:,.2f} an hour"),
        text(x(price) + 6, top + BAR - 5, f"${price:,.2f}", "tick"),
    ]
