"""An hour of a server's life: memory, threads, descriptors, and what people waited for."""

from collections.abc import Sequence
from pathlib import Path

from rtvc.report.strategies import COLOURS
from rtvc.stats import quantile

WINDOW_S = 60.0


def draw(columns: dict[str, list[float]], delays: Sequence[tuple[float, float]], out: Path) -> Path:
    """Write `out` as SVG and PNG; returns the SVG's path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 9.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(4, 1, sharex=True)
    minutes = [at / 60 for at in columns["at_s"]]
    panels = (
        ("Memory, MiB", {"server": "server_bytes", "engine": "engine_bytes"}, 1 / 2**20),
        ("Threads and descriptors", {"threads": "threads", "descriptors": "descriptors"}, 1.0),
        ("Sessions", {"sessions": "sessions"}, 1.0),
    )
    for panel, (title, lines, factor) in zip(axes, panels, strict=False):
        for number, (label, name) in enumerate(lines.items()):
            values = [factor * value for value in columns[name]]
            panel.plot(minutes, values, color=COLOURS[number], label=label, linewidth=1.2)
        panel.set_title(title, fontsize=10, loc="left")
        panel.legend(fontsize=8, frameon=False)
    for number, q in enumerate((0.5, 0.95)):
        at, values = _windows(delays, q)
        axes[3].plot(at, values, color=COLOURS[number], label=f"p{100 * q:.0f}", linewidth=1.2)
    axes[3].set_title("Transcription delay, ms, minute by minute", fontsize=10, loc="left")
    axes[3].legend(fontsize=8, frameon=False)
    axes[3].set_xlabel("minutes")
    for panel in axes:
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.25)
    svg = out.with_suffix(".svg")
    figure.savefig(svg, metadata={"Date": None})
    figure.savefig(out.with_suffix(".png"), dpi=160)
    return svg


def _windows(delays: Sequence[tuple[float, float]], q: float) -> tuple[list[float], list[float]]:
    """(minutes, milliseconds)."""
    windows: dict[int, list[float]] = {}
    for at_s, delay_s in delays:
        windows.setdefault(int(at_s // WINDOW_S), []).append(delay_s)
    told = {at: quantile(values, q) for at, values in sorted(windows.items())}
    kept = {at: 1000 * value for at, value in told.items() if value is not None}
    return [(at + 0.5) * WINDOW_S / 60 for at in kept], list(kept.values())
