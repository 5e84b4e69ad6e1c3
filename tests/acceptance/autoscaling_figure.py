"""Callers refused against instance-hours paid, target by target: what one costs the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtvc.report.strategies import COLOURS, SHAPES
from rtvc.results.autoscaling import REFUSED_AT_MOST, TIMES_AT_MOST

FLOOR_PERCENT = 0.001
"""Nobody refused is drawn here: a logarithm of nothing there is none."""


def draw(swept: Sequence[Mapping[str, Any]], chosen: float, out: Path) -> Path:
    """Write `out` as SVG and PNG; returns the SVG's path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, period_s in enumerate(dict.fromkeys(each["period_s"] for each in swept)):
        rows = [each for each in swept if each["period_s"] == period_s]
        times = [each["times"] for each in rows]
        refused = [max(100 * each["refused_share"], FLOOR_PERCENT) for each in rows]
        axes.plot(
            times,
            refused,
            color=COLOURS[number],
            marker=SHAPES[number],
            label=f"metric every {period_s:g} s",
        )
        for row, x, y in zip(rows, times, refused, strict=True):
            weight = "bold" if row["target_percent"] == chosen else "normal"
            name = f"{row['target_percent']:g} %"
            # One series' names to the left below, the other's to the right above.
            aside, side = ((-5, -12), "right") if number == 0 else ((5, 4), "left")
            axes.annotate(name, (x, y), aside, textcoords="offset points", weight=weight, ha=side)
    axes.axhline(100 * REFUSED_AT_MOST, color="#c2364a", linestyle="--", linewidth=1)
    axes.axvline(TIMES_AT_MOST, color="#c2364a", linestyle="--", linewidth=1)
    axes.set_yscale("log")
    axes.set_xlabel("instance-hours, × the least possible")
    axes.set_ylabel(f"callers refused, % ({FLOOR_PERCENT:g}: nobody)")
    axes.set_title("Targets of demand ÷ capacity; bold: the policy's", fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.25)
    svg = out.with_suffix(".svg")
    figure.savefig(svg, metadata={"Date": None})
    figure.savefig(out.with_suffix(".png"), dpi=160)
    return svg
