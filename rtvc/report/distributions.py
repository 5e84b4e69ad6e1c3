"""Distributions as cumulated shares: small panels, one for each delay, n beside each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rtvc.compare.measured import TIMED, delays
from rtvc.record import Run
from rtvc.report.svg import (
    WIDTH,
    Figure,
    Scale,
    bottom_axis,
    line,
    path_through,
    picture,
    ring,
    text,
)
from rtvc.slo import shown, spoken
from rtvc.stats import quantile, supports

PANEL, GAP = 436, 56
"""User units: width of a panel, and what lies between two."""

TOP, HEIGHT = 48, 236
"""User units: head of a panel, and all of it."""

BOTTOM = HEIGHT - 34
"""User units from the top of a panel to its axis."""

POINTS = 300
"""Steps a curve is drawn with, at most."""

TAIL = 4.0
"""Times the 95th of 100: what is slower leaves the panel at its right edge, and is counted."""

MARKED = {"p50": 0.5, "p95": 0.95}
"""Quantiles with a ring, where n supports them."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One series of delays."""

    name: str
    """As in the legend; empty where there is but one."""
    class_: str
    """How it is drawn."""
    delays_s: Sequence[float]
    """Seconds, infinite where an answer never came."""

    @property
    def came(self) -> list[float]:
        return sorted(delay for delay in self.delays_s if math.isfinite(delay))


@dataclass(frozen=True, slots=True)
class Panel:
    """One metric."""

    title: str
    """What is distributed."""
    curves: Sequence[Curve]
    """One for each run, with samples."""
    target_s: float | None
    """Seconds; None: there is none."""


def distributions(run: Run, targets: Mapping[str, float]) -> Figure | None:
    """Every delay of one run that has samples."""
    panels = []
    for name in TIMED:
        measured = delays(run, name).values.tolist()
        if any(map(math.isfinite, measured)):
            curve = Curve("", "series", measured)
            panels.append(Panel(spoken(name), [curve], targets.get(name)))
    if not panels:
        return None
    return Figure(
        "distributions",
        "Distributions",
        "Share of answers that had come by then. A curve that ends below 100 % lost answers; the "
        "rings are p50 and p95, where n supports them; dashed is the target.",
        grid(panels, "Cumulated distributions of every delay"),
    )


def grid(panels: Sequence[Panel], label: str) -> str:
    """Markup of panels, two in a row."""
    parts: list[str] = []
    for place, panel in enumerate(panels):
        column, row = place % 2, place // 2
        parts += _panel(panel, column * (PANEL + GAP) + 44, row * HEIGHT)
    rows = math.ceil(len(panels) / 2)
    return picture(rows * HEIGHT, parts, label)


def _panel(panel: Panel, left: float, top: float) -> list[str]:
    right = min(left + PANEL - 12, WIDTH - 8)
    x = Scale(*_range(panel), left, right)
    y = Scale(0, 1, top + BOTTOM, top + TOP)
    parts = [text(left, top + 20, panel.title, "total"), *_share_axis(y, left, right)]
    parts += bottom_axis(x, top + BOTTOM, top + TOP, "ms", 1000)
    if panel.target_s is not None and x.low <= panel.target_s <= x.high:
        at = x(panel.target_s)
        parts.append(line(at, top + TOP - 6, at, top + BOTTOM, "target"))
        name = f"target {shown(panel.target_s, 's')}"
        parts.append(text(min(at, right - 44), top + TOP - 10, name, "target-label", "middle"))
    notes = [note for curve in panel.curves if (note := _note(curve, x.high))]
    parts.append(text(left, top + 34, " · ".join(notes), "tick"))
    for curve in panel.curves:
        parts += _curve(curve, x, y)
    return parts


def _range(panel: Panel) -> tuple[float, float]:
    """From 0, or the earliest, to the slowest, unless that would squash the rest."""
    came = sorted(delay for curve in panel.curves for delay in curve.came)
    slow = quantile(came, 0.95) or 0.0
    high = min(came[-1], max(TAIL * slow, 1e-3)) if came else 1.0
    if panel.target_s is not None and panel.target_s <= 2.5 * high:
        high = max(high, panel.target_s)
    low = min(0.0, came[0]) if came else 0.0
    return low, max(high * 1.04, low + 1e-3)


def _share_axis(y: Scale, left: float, right: float) -> list[str]:
    parts = []
    for share in (0.0, 0.5, 0.95, 1.0):
        at = y(share)
        parts.append(line(left, at, right, at, "grid"))
        # 95 and 100 would touch: the grid line is enough for 100.
        if share < 1:
            name = f"{100 * share:g}" + (" %" if share == 0.95 else "")
            parts.append(text(left - 6, at + 4, name, "tick", "end"))
    return parts


def _note(curve: Curve, edge_s: float) -> str:
    """n, and what cannot be seen."""
    missing = len(curve.delays_s) - len(curve.came)
    beyond = sum(delay > edge_s for delay in curve.came)
    said = [f"{curve.name} n={len(curve.delays_s):,}".strip()]
    if missing:
        said.append(f"{missing} never came")
    if beyond:
        said.append(f"{beyond} slower, up to {shown(curve.came[-1], 's')}")
    return ", ".join(said)


def _curve(curve: Curve, x: Scale, y: Scale) -> list[str]:
    parts = [path_through([(x(at), y(share)) for at, share in steps(curve, x.high)], curve.class_)]
    for name, q in MARKED.items():
        value = quantile(curve.delays_s, q) if supports(len(curve.delays_s), q) else None
        if value is not None and value <= x.high:
            hint = " ".join(filter(None, (curve.name, f"{name} {shown(value, 's')}")))
            parts.append(ring(x(value), y(q), 3.6, f"{curve.class_} ring", hint))
    return parts


def steps(curve: Curve, edge_s: float) -> list[tuple[float, float]]:
    """(seconds, share that had come): a staircase that ends at the edge."""
    came, n = np.array(curve.came), len(curve.delays_s)
    inside = came[came <= edge_s]
    if len(inside) > POINTS:
        ranks = np.unique(np.linspace(0, len(inside) - 1, POINTS).round().astype(int))
    else:
        ranks = np.arange(len(inside))
    points: list[tuple[float, float]] = []
    share = 0.0
    for rank in ranks.tolist():
        at = float(inside[rank])
        points.append((at, share))
        share = (rank + 1) / n
        points.append((at, share))
    return [*points, (edge_s, share)]
