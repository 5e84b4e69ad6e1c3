"""A figure as PNG: matplotlib draws the elements of its SVG, in the light colours of its sheet.

The figures are made of few kinds of elements (`rtvc.report.svg`), each with classes; what those
look like is read from the style sheet, so that there is one drawing and one place for its colours.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

from rtvc.report.svg import Figure

DPI = 192
"""Pixels an inch: two for each user unit."""

UNITS_PER_INCH = 96.0
POINTS_PER_UNIT = 72 / UNITS_PER_INCH

FONT_SCALE = 0.88
"""matplotlib's own font is wider than those of browsers."""

Style = Mapping[str, str]

_RULE = re.compile(r"([^{}@]+)\{([^{}]*)\}")
_VARIABLE = re.compile(r"var\((--[\w-]+)\)")
_CLASS = re.compile(r"\.([\w-]+)")
_MOVE = re.compile(r"([MlmL])\s*(-?[\d.]+)[ ,](-?[\d.]+)")
_ANCHORS = {"start": "left", "middle": "center", "end": "right"}


class Sheet:
    """The rules of a style sheet that figures need, in the colours of paper."""

    def __init__(self, text: str) -> None:
        self._variables: dict[str, str] = {}
        self._rules: list[tuple[frozenset[str], str | None, dict[str, str]]] = []
        for selectors, body in _RULE.findall(_without_media(text)):
            declared = dict(_declarations(body))
            for selector in selectors.split(","):
                self._add(selector.strip(), declared)

    def _add(self, selector: str, declared: dict[str, str]) -> None:
        if selector == ":root":
            self._variables |= declared
            return
        last = selector.split()[-1]
        tag = last.partition(".")[0]
        self._rules.append((frozenset(_CLASS.findall(last)), tag or None, declared))

    def style(self, element: Element) -> Style:
        """What applies to an element; a later rule outweighs an earlier one."""
        own = set((element.get("class") or "").split())
        tag = element.tag.rpartition("}")[2]
        found: dict[str, str] = {}
        for classes, only, declared in sorted(self._rules, key=lambda rule: len(rule[0])):
            if classes <= own and only in (None, tag) and (classes or only):
                found |= declared
        return {name: self._resolved(value) for name, value in found.items()}

    def colour(self, name: str) -> str:
        """Of a variable such as --paper."""
        return self._variables.get(name, "#ffffff")

    def _resolved(self, value: str) -> str:
        return _VARIABLE.sub(lambda found: self.colour(found[1]), value)


def _without_media(text: str) -> str:
    """Rules for dark screens and for printers are left out."""
    kept, depth, skipped = [], 0, False
    for part in re.split(r"(@media[^{]*\{|[{}])", text):
        if part.startswith("@media"):
            skipped, depth = True, 1
        elif not skipped:
            kept.append(part)
        else:
            depth += {"{": 1, "}": -1}.get(part, 0)
            skipped = depth > 0
    return "".join(kept)


def _declarations(body: str) -> Iterator[tuple[str, str]]:
    for declaration in body.split(";"):
        name, colon, value = declaration.partition(":")
        if colon:
            yield name.strip(), value.strip()


def write_png(figure: Figure, sheet: str, path: Path) -> None:
    """Draw a figure as the style sheet says."""
    # Loaded here: a report without PNG must not pay for the library.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    root = fromstring(figure.svg)
    *_, width, height = (float(number) for number in (root.get("viewBox") or "").split())
    rules = Sheet(sheet)
    canvas = Canvas(figsize=(width / UNITS_PER_INCH, height / UNITS_PER_INCH), dpi=DPI)
    FigureCanvasAgg(canvas)
    canvas.set_facecolor(rules.colour("--paper"))
    axes = canvas.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    for place, element in enumerate(root):
        _draw(axes, element, rules.style(element), place)
    with warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box, which is no reason to end a run.
        warnings.simplefilter("ignore")
        # Without the program's name the same figure gives the same file.
        canvas.savefig(path, metadata={"Software": None})


def _draw(axes: Any, element: Element, style: Style, place: int) -> None:
    from matplotlib.patches import Circle, Polygon, Rectangle

    def at(name: str) -> float:
        return float(element.get(name) or 0)

    look = _look(style, place)
    kind = element.tag.rpartition("}")[2]
    if kind == "rect":
        axes.add_patch(Rectangle((at("x"), at("y")), at("width"), at("height"), **look))
    elif kind == "circle":
        axes.add_patch(Circle((at("cx"), at("cy")), at("r"), **look))
    elif kind == "text":
        _write(axes, element, style, place)
    else:
        closed = kind == "polyline" and style.get("fill", "none") != "none"
        for points in _strokes(element, kind):
            axes.add_patch(Polygon(points, closed=closed, **{**look, "fill": closed}))


def _strokes(element: Element, kind: str) -> Iterator[list[tuple[float, float]]]:
    """The points of a line, a polyline, or each stroke of a path."""
    if kind == "line":
        numbers = [float(element.get(name) or 0) for name in ("x1", "y1", "x2", "y2")]
        yield [(numbers[0], numbers[1]), (numbers[2], numbers[3])]
    elif kind == "polyline":
        pairs = [pair.split(",") for pair in (element.get("points") or "").split()]
        if len(pairs) > 1:
            yield [(float(x), float(y)) for x, y in pairs]
    else:
        yield from _path(element.get("d") or "")


def _path(written: str) -> Iterator[list[tuple[float, float]]]:
    """Straight strokes; M and L are absolute, m and l relative."""
    visited: list[tuple[str, tuple[float, float]]] = []
    x = y = 0.0
    for command, first, second in _MOVE.findall(written):
        relative = command.islower()
        x, y = float(first) + x * relative, float(second) + y * relative
        visited.append((command, (x, y)))
    for (_, start), (command, end) in pairwise(visited):
        if command in "lL":
            yield [start, end]


def _look(style: Style, place: int) -> dict[str, Any]:
    fill, stroke = style.get("fill", "#000000"), style.get("stroke", "none")
    look: dict[str, Any] = {
        "facecolor": fill,
        "edgecolor": stroke,
        "linewidth": float(style.get("stroke-width", "1")) * POINTS_PER_UNIT,
        "alpha": float(style["opacity"]) if "opacity" in style else None,
        "zorder": place,
        "joinstyle": "round",
    }
    if stroke == "none":
        look["linewidth"] = 0
    dashes = [
        float(part) for part in style.get("stroke-dasharray", "none").split() if part != "none"
    ]
    if dashes:
        width = float(style.get("stroke-width", "1"))
        look["linestyle"] = (0, [part / width for part in dashes])
    return look


def _write(axes: Any, element: Element, style: Style, place: int) -> None:
    size = float(style.get("font-size", "12px").removesuffix("px"))
    axes.text(
        float(element.get("x") or 0),
        float(element.get("y") or 0),
        # A dollar sign begins no formula.
        "".join(element.itertext()).replace("$", r"\$"),
        color=style.get("fill", "#000000"),
        fontsize=size * POINTS_PER_UNIT * FONT_SCALE,
        fontweight="bold" if int(style.get("font-weight", "400")) >= 600 else "normal",
        ha=_ANCHORS[element.get("text-anchor") or "start"],
        va="baseline",
        zorder=place + 0.5,
    )
