"""Drawing in SVG: escaped elements, linear scales, axes with round ticks."""

import math
from dataclasses import dataclass
from html import escape

WIDTH = 960
"""Width of every figure, in user units."""

TICK_CHARACTER = 6.5
"""User units: width of a character beside an axis, at most on average."""


def tag(name: str, content: str = "", **attributes: str | float) -> str:
    """One element; `content` is markup already, attributes are escaped.

    >>> tag("rect", x=1.25, class_="a<b")
    '<rect x="1.25" class="a&lt;b"></rect>'
    """
    written = "".join(f' {_name(key)}="{_value(value)}"' for key, value in attributes.items())
    return f"<{name}{written}>{content}</{name}>"


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else f"{value:.6g}"


def text(x: float, y: float, content: str, class_: str = "label", anchor: str = "start") -> str:
    return tag("text", escape(content), x=x, y=y, class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def bar(x: float, y: float, width: float, height: float, class_: str, hint: str = "") -> str:
    """A rectangle that stays visible however short, with a hint for the pointer."""
    title = tag("title", escape(hint)) if hint else ""
    return tag("rect", title, x=x, y=y, width=max(width, 0.8), height=height, class_=class_)


def cross(x: float, y: float, class_: str, hint: str) -> str:
    path = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
    return tag("path", tag("title", escape(hint)), d=path, class_=class_)


def dot(x: float, y: float, class_: str, hint: str) -> str:
    return tag("circle", tag("title", escape(hint)), cx=x, cy=y, r=4.5, class_=class_)


def ring(x: float, y: float, radius: float, class_: str, hint: str = "") -> str:
    title = tag("title", escape(hint)) if hint else ""
    return tag("circle", title, cx=x, cy=y, r=radius, class_=class_)


def path_through(points: list[tuple[float, float]], class_: str) -> str:
    steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return tag("polyline", points=steps, class_=class_)


def picture(height: float, parts: list[str], label: str) -> str:
    """The whole figure; the label is read aloud by screen readers."""
    view = f"0 0 {WIDTH} {height:.0f}"
    return tag("svg", "".join(parts), viewBox=view, class_="figure", role="img", aria_label=label)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, ready to be placed."""

    name: str
    """File name without its ending."""
    title: str
    """What it shows."""
    caption: str
    """How to read it."""
    svg: str
    """Markup."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values from low to high onto start to end, in user units."""

    low: float
    """Value at `start`."""
    high: float
    """Value at `end`."""
    start: float
    """User units."""
    end: float
    """User units."""

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) * (self.end - self.start) / (self.high - self.low)

    def ticks(self, count: int = 6) -> list[float]:
        return round_ticks(self.low, self.high, count)


def round_step(span: float, count: int) -> float:
    """The smallest of 1, 2, 2.5, 5 × 10ⁿ that makes at most `count` steps of the span."""
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= raw * (1 - 1e-9))


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """
    >>> round_ticks(0, 1, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    step = round_step(high - low, count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(step * number, 10) for number in range(first, last + 1)]


def bottom_axis(scale: Scale, y: float, top: float, unit: str, factor: float = 1.0) -> list[str]:
    """Ticks below, a faint grid above; the last tick carries the unit."""
    parts = [line(scale.start, y, scale.end, y, "axis")]
    ticks = scale.ticks(8)
    for value in ticks:
        x = scale(value)
        name = f"{value * factor:g}" + (f" {unit}" if value == ticks[-1] else "")
        # Centred under its tick, but never over the edge of the figure.
        at = min(x, WIDTH - 1 - TICK_CHARACTER * len(name) / 2)
        parts += [line(x, top, x, y, "grid"), text(at, y + 16, name, "tick", "middle")]
    return parts


def short(value: float) -> str:
    """
    >>> short(0.25), short(2500), short(150_000_000)
    ('0.25', '2500', '150 M')
    """
    return f"{value / 1e6:g} M" if abs(value) >= 1e6 else f"{value:g}"


def left_axis(scale: Scale, x: float, right: float, unit: str, factor: float = 1.0) -> list[str]:
    """Ticks at the left, a faint grid to the right; the top tick carries the unit."""
    parts = []
    ticks = scale.ticks(4)
    for value in ticks:
        y = scale(value)
        name = short(value * factor) + (f" {unit}" if value == ticks[-1] else "")
        parts += [line(x, y, right, y, "grid"), text(x - 8, y + 4, name, "tick", "end")]
    return parts
