"""What a speaker costs the load generator, drawn against how many there are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtvc.report.strategies import COLOURS, SHAPES

Runs = Mapping[int, list[dict[str, Any]]]
"""Tries by number of speakers."""

PANELS = (
    ("cpu_ms_per_speech_s", 1.0, "CPU, ms for each second of a speaker"),
    ("memory_bytes", 1 / 2**20, "Memory of the generators, MiB"),
    ("lag_p99_ms", 1.0, "Lag p99, ms"),
)
"""Field, factor and what it says."""

LAG_LIMIT_MS = 10.0


def draw(curves: Mapping[str, Runs], out: Path) -> Path:
    """Write `out` as SVG and PNG; returns the SVG's path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (field, factor, said) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for number, (title, runs) in enumerate(curves.items()):
            points = [
                (speakers, factor * tries[-1][field])
                for speakers, tries in runs.items()
                if tries[-1].get(field) is not None
            ]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    color=COLOURS[number % len(COLOURS)],
                    marker=SHAPES[number % len(SHAPES)],
                    markersize=5,
                    label=title,
                )
        if field == "lag_p99_ms":
            axes.axhline(LAG_LIMIT_MS, color="#5f6873", linewidth=1, linestyle="--")
            axes.set_ylim(top=3 * LAG_LIMIT_MS)
        axes.set_title(said, fontsize=10, loc="left")
        axes.set_xlabel("speakers")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
    figure.axes[0].legend(fontsize=8, frameon=False)
    svg = out.with_suffix(".svg")
    figure.savefig(svg, metadata={"Date": None})
    figure.savefig(out.with_suffix(".png"), dpi=160)
    return svg
