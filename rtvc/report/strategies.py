"""Several searches in one picture: which way of serving holds how many?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtvc.record import Run, load_run
from rtvc.report.steps import delay_of
from rtvc.slo import capacity, parse_objectives

COLOURS = ("#2f67b1", "#c2364a", "#1b7a4b", "#a4660a", "#7a63b8", "#3a8f9c", "#5f6873")
"""Told apart by most eyes, also in print."""

SHAPES = "osD^vPX"
"""And by shape."""

STROKES = ("-", (0, (5, 2)), (0, (1, 1.5)))
"""And by the line, where colours and shapes come again."""


def strategies_figure(runs: Mapping[str, Path], out: Path) -> Path:
    """Draw transcription delay p95 against speakers, one curve for each named run directory.

    Writes `out` as SVG and PNG, whatever its ending; returns the SVG's path.
    """
    # Loaded here: a report without this figure must not pay for the library.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    loaded = {name: load_run(folder) for name, folder in runs.items()}
    figure = Figure(figsize=(12.4, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    target_s = min(filter(None, map(_target_s, loaded.values())), default=None)
    ceiling_s = 3 * target_s if target_s else None
    for number, (name, run) in enumerate(loaded.items()):
        _draw(axes, name, run, number, ceiling_s)
    _dress(axes, target_s, ceiling_s)
    svg = out.with_suffix(".svg")
    # Without a date the same runs give the same file.
    figure.savefig(svg, metadata={"Date": None})
    figure.savefig(out.with_suffix(".png"), dpi=160)
    return svg


def _target_s(run: Run) -> float | None:
    objectives = parse_objectives(run.manifest.targets)
    delays = [o.target for o in objectives if o.metric == "transcription_delay"]
    return min(delays, default=None)


def curve(run: Run) -> list[tuple[int, float]]:
    """(speakers, seconds): the mean over the runs of each number of speakers."""
    levels: dict[int, list[float]] = {}
    for step in run.steps:
        delay = delay_of(step)
        if delay is not None and step.outcome in ("passed", "failed"):
            levels.setdefault(step.speakers, []).append(delay)
    return [(n, sum(delays) / len(delays)) for n, delays in sorted(levels.items())]


def _draw(axes: Any, name: str, run: Run, number: int, ceiling_s: float | None) -> None:
    points = curve(run)
    holds = capacity(run.steps).holds
    label = f"{name}: holds {holds}"
    axes.plot(
        [speakers for speakers, _ in points],
        _clipped([delay for _, delay in points], ceiling_s),
        color=COLOURS[number % len(COLOURS)],
        marker=SHAPES[number % len(SHAPES)],
        markersize=5,
        linewidth=1.8,
        linestyle=STROKES[number // len(COLOURS) % len(STROKES)],
        label=label,
    )
    if holds:
        colour = COLOURS[number % len(COLOURS)]
        axes.axvline(holds, color=colour, linewidth=0.8, linestyle=":", alpha=0.8)


def _clipped(delays: Sequence[float], ceiling_s: float | None) -> list[float]:
    """Milliseconds; what is far beyond the target leaves the picture at its upper edge."""
    highest_s = ceiling_s or 60.0
    return [1000 * min(delay, highest_s * 1.5) for delay in delays]


def _dress(axes: Any, target_s: float | None, ceiling_s: float | None) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("concurrent speakers")
    axes.set_ylabel("transcription delay p95 (ms)")
    axes.set_ylim(0, 1000 * ceiling_s if ceiling_s else None)
    if target_s:
        axes.axhline(1000 * target_s, color="#c2364a", linewidth=1.1, linestyle="--")
        axes.annotate(
            f"target {1000 * target_s:g} ms",
            (0.995, 1000 * target_s),
            xycoords=("axes fraction", "data"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right",
            color="#c2364a",
            fontsize=9,
        )
    axes.grid(visible=True, color="#e6e8eb", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    # Beside the picture: over it, ten names hide the curves.
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
