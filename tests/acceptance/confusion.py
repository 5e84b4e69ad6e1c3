"""Confusion matrices of a diagnosis: as text, as JSON and as a picture."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEALTHY = "healthy"
NOTHING = "(no verdict)"
VOID = "generator-saturated"

ORDER = (
    "model-per-session",
    "device-contention",
    "inference-saturated",
    "serialised-inference",
    "audio-backlog",
    "hidden-backlog",
    "partials-starving-finals",
    "turn-detector",
    "endpoint-wait",
    "blocked-event-loop",
    "slow-llm",
    "slow-tts",
    "cold-start",
    "device-throttling",
    "memory-exhaustion",
    "network",
    "engine-failing",
    VOID,
    HEALTHY,
    NOTHING,
)


@dataclass(frozen=True, slots=True)
class Result:
    """What was true of one case, and what was said."""

    case: str
    """Its name; the seed of a simulated one."""
    causes: list[str]
    """True ones; empty: healthy."""
    strength: str
    """What was wrong, and how badly."""
    felt: dict[str, list[float]]
    """Seconds, by what they are of: without and with the faults where both are known."""
    folder: str
    """Of the raw record, within the folder of all."""
    named: list[str] = field(default_factory=list)
    """Causes as ranked."""
    healthy: bool = False
    """Whether it was called healthy."""
    void: bool = False
    """Whether the record was called void."""
    error: str | None = None
    """Why there is no verdict; None: there is one."""
    seconds: float | None = None
    """How long a live case took."""

    @property
    def first(self) -> str:
        """What was named first."""
        if self.error is not None:
            return NOTHING
        if self.named:
            return self.named[0]
        return VOID if self.void else HEALTHY if self.healthy else NOTHING

    @property
    def right(self) -> bool:
        """The one cause first, or both of two, or healthy without any cause."""
        if not self.causes:
            return self.first == HEALTHY and not self.named
        if len(self.causes) > 1:
            return self.error is None and set(self.causes) <= set(self.named)
        return self.first == self.causes[0]

    @property
    def said(self) -> str:
        return self.error or ", ".join(self.named) or self.first


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a share.

    >>> [round(edge, 3) for edge in wilson(90, 90)]
    [0.959, 1.0]
    """
    if not n:
        return 0.0, 1.0
    share, weight = right / n, z * z / n
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / n + weight / (4 * n)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def share(right: int, n: int) -> str:
    low, high = wilson(right, n)
    percent = 100 * right / n if n else 0
    return f"{right} of {n} ({percent:.0f} %; 95 % interval {100 * low:.0f}–{100 * high:.0f} %)"


def single(results: Sequence[Result]) -> list[Result]:
    """Those that belong into a matrix: one cause, or none."""
    return [result for result in results if len(result.causes) <= 1]


def matrix(results: Sequence[Result]) -> dict[str, Counter[str]]:
    """True cause → how often each was named first."""
    rows: dict[str, Counter[str]] = {}
    for result in single(results):
        truth = result.causes[0] if result.causes else HEALTHY
        rows.setdefault(truth, Counter())[result.first] += 1
    return {name: rows[name] for name in ORDER if name in rows}


def write_report(out: Path, simulated: Sequence[Result], live: Sequence[Result]) -> str:
    """Writes confusion.md, .json, .svg and .png; returns the first."""
    out.mkdir(parents=True, exist_ok=True)
    kinds = {"simulated": simulated, "live": live}
    kinds = {name: results for name, results in kinds.items() if results}
    figures = {name: _figures(results) for name, results in kinds.items()}
    (out / "confusion.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    text = "\n".join(_page(kinds)) + "\n"
    (out / "confusion.md").write_text(text, "utf-8")
    if kinds:
        _draw({name: matrix(results) for name, results in kinds.items()}, out / "confusion.svg")
    return text


def _figures(results: Sequence[Result]) -> dict[str, Any]:
    ill = [r for r in single(results) if r.causes]
    sound = [r for r in results if not r.causes]
    pairs = [r for r in results if len(r.causes) > 1]
    right = sum(r.right for r in ill)
    return {
        "right_first": right,
        "n": len(ill),
        "interval": wilson(right, len(ill)),
        "healthy_accused": sum(not r.right for r in sound),
        "healthy": len(sound),
        "pairs_both_named": sum(r.right for r in pairs),
        "pairs": len(pairs),
        "matrix": matrix(results),
    }


def _page(kinds: dict[str, Sequence[Result]]) -> list[str]:
    lines = ["# Does `rtvc profile diagnose` name the true cause?", ""]
    lines += ["    python -m tests.acceptance.diagnosis --simulated --live", ""]
    lines += ["Every case ran once and is counted. Rows: the true cause. Columns: what was named"]
    lines += ["first. A right answer stands in bold. The same as a picture: confusion.svg.", ""]
    for name, results in kinds.items():
        lines += _section(name, results)
    return lines


def _section(name: str, results: Sequence[Result]) -> list[str]:
    figures = _figures(results)
    lines = [f"## {name.capitalize()}", ""]
    lines.append(f"- Right cause first: {share(figures['right_first'], figures['n'])}")
    accused, sound = figures["healthy_accused"], figures["healthy"]
    lines.append(f"- Healthy servers accused: {accused} of {sound}")
    if figures["pairs"]:
        both, pairs = figures["pairs_both_named"], figures["pairs"]
        lines.append(f"- Two causes at once, both named: {share(both, pairs)}")
    return [*lines, "", *_table(matrix(results)), "", *_wrong(results), ""]


def _table(rows: dict[str, Counter[str]]) -> list[str]:
    columns = [name for name in ORDER if name in rows or any(row[name] for row in rows.values())]
    head = "".join(f" {number} |" for number in range(1, len(columns) + 1))
    lines = [f"| | true cause |{head}", "|---|---|" + "---|" * len(columns)]
    for truth, row in rows.items():
        cells = "".join(f" {_cell(row[name], name == truth)} |" for name in columns)
        lines.append(f"| {columns.index(truth) + 1} | {truth} |{cells}")
    return lines


def _cell(times: int, right: bool) -> str:
    if not times:
        return "·" if right else ""
    return f"**{times}**" if right else str(times)


def _wrong(results: Sequence[Result]) -> list[str]:
    wrong = [result for result in results if not result.right]
    if not wrong:
        return ["No case was judged wrong."]
    lines = ["Judged wrong:", ""]
    for result in wrong:
        lines.append(f"- `{result.case}` ({result.strength or 'sound'}): {result.said}")
    return lines


def _draw(matrices: dict[str, dict[str, Counter[str]]], svg: Path) -> None:
    # Loaded here: tests of the figures need no picture.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2 * len(matrices), 8.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(matrices), squeeze=False)[0]
    for axis, (name, rows) in zip(axes, matrices.items(), strict=True):
        _draw_one(axis, name, rows)
    # Without a date the same results give the same file.
    figure.savefig(svg, metadata={"Date": None})
    figure.savefig(svg.with_suffix(".png"), dpi=130)


def _draw_one(axis: Any, name: str, rows: dict[str, Counter[str]]) -> None:
    columns = [c for c in ORDER if c in rows or any(row[c] for row in rows.values())]
    shares = [[row[c] / max(row.total(), 1) for c in columns] for row in rows.values()]
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=8)
    axis.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axis.set_xlabel("named first")
    axis.set_ylabel("true cause")
    n = sum(row.total() for row in rows.values())
    axis.set_title(f"{name}, n = {n}", fontsize=11)
    for y, (truth, row) in enumerate(rows.items()):
        for x, named in enumerate(columns):
            if row[named]:
                dark = row[named] / row.total() > 0.55
                colour = "white" if dark else "#c2364a" if named != truth else "#1d2733"
                axis.text(x, y, str(row[named]), ha="center", va="center", color=colour)
    axis.spines[:].set_visible(False)
