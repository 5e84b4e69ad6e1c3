"""The figures of a simulated fleet: pure functions from its records to SVG."""

from collections.abc import Callable, Sequence

from rtvc.report.autoscaling_wording import share
from rtvc.report.svg import (
    WIDTH,
    Figure,
    Scale,
    bar,
    bottom_axis,
    left_axis,
    line,
    path_through,
    picture,
    text,
)
from rtvc.results.autoscaling import TIMES_AT_MOST, DayRow, FleetRun, Moment

LEFT, RIGHT = 84, WIDTH - 28
"""Edges of the plotting area, in user units."""

STRIPS = (120, 190, 250, 110)
"""User units: heights of the plots of a day, each with its name."""

NAME = 30
"""User units that the name of a plot takes."""

NAMES = 280
"""User units that the names of bars take."""

BAR, GAP = 16, 8
"""User units: height of a bar, and what is between two."""

TIMES_SHOWN = 2.2
"""What is dearer leaves the picture at its right edge."""

Curve = tuple[str, str, Callable[[Moment], float]]
"""(name, class, what is drawn of a moment)."""


def autoscaling_figures(run: FleetRun) -> list[Figure]:
    """All that there is data for."""
    made = (day_figure(run), others_figure(run))
    return [figure for figure in made if figure is not None]


def day_figure(run: FleetRun) -> Figure | None:
    """The first day, from midnight to midnight; None without moments."""
    if not run.moments:
        return None
    minutes = run.every_s / 60
    callers: Curve = ("callers a minute", "series-b", lambda each: each.arrivals / minutes)
    calls: Curve = ("calls at once", "series-b", lambda each: each.calls)
    slots: Curve = (
        "slots of the instances that are paid",
        "series-a",
        lambda each: each.instances * run.capacity,
    )
    paid: Curve = ("instances paid", "series-b", lambda each: each.instances)
    wanted: Curve = ("wanted by target tracking", "series-a", lambda each: each.wanted)
    fewest: Curve = ("the least possible", "series-typical", lambda each: each.optimum)
    x = Scale(0, 24, LEFT, RIGHT)
    tops = [sum(STRIPS[:number]) for number in range(len(STRIPS) + 1)]
    parts = [
        *_strip(run.moments, x, tops[0], tops[1], (callers,)),
        *_strip(run.moments, x, tops[1], tops[2], (slots, calls)),
        *_strip(run.moments, x, tops[2], tops[3], (wanted, fewest, paid)),
        *_refused(run, x, tops[3], tops[4]),
        *bottom_axis(x, tops[4], tops[4], "o'clock"),
    ]
    return Figure(
        "day",
        "A day",
        f"Simulated day {run.days[0].seed}, in stretches of {minutes:g} min. The least possible is "
        "what somebody would have paid who knew every call beforehand and could move calls.",
        picture(tops[4] + 30, parts, "Callers, calls, instances and refused callers over a day"),
    )


def _strip(
    moments: Sequence[Moment], x: Scale, top: float, bottom: float, curves: Sequence[Curve]
) -> list[str]:
    """One plot over the day, its curves named above it."""
    highest = max(value(each) for _, _, value in curves for each in moments)
    y = Scale(0, max(highest, 1) * 1.1, bottom - 8, top + NAME)
    parts = [*left_axis(y, LEFT, RIGHT, ""), line(LEFT, y(0), RIGHT, y(0), "axis")]
    at = float(LEFT)
    for name, class_, value in curves:
        parts += [path_through([(at, top + 16), (at + 22, top + 16)], class_)]
        parts += [text(at + 28, top + 20, name, "label")]
        at += 28 + 6.5 * len(name) + 24
        points = [(x(each.at_s / 3600), y(value(each))) for each in moments]
        parts.append(path_through(points, class_))
    return parts


def _refused(run: FleetRun, x: Scale, top: float, bottom: float) -> list[str]:
    """A bar for each stretch in which somebody was."""
    most = max(each.refused for each in run.moments)
    y = Scale(0, max(most, 1) * 1.1, bottom - 8, top + NAME)
    width = x(run.every_s / 3600) - x(0)
    parts = [*left_axis(y, LEFT, RIGHT, ""), line(LEFT, y(0), RIGHT, y(0), "axis")]
    first = run.days[0]
    said = f"callers refused: {first.refused:,} of {first.calls:,}, {share(first.refused_share)}"
    parts.append(text(LEFT, top + 20, said, "label"))
    for each in run.moments:
        if each.refused:
            at, height = y(each.refused), y(0) - y(each.refused)
            hint = f"{each.refused} of {each.arrivals} refused"
            parts.append(bar(x(each.at_s / 3600), at, width, height, "over", hint))
    return parts


def others_figure(run: FleetRun) -> Figure | None:
    """What a day would cost otherwise; None where nothing was compared."""
    if not run.others:
        return None
    rows = [run.days[0], *run.others]
    bottom = NAME + len(rows) * (BAR + GAP)
    x = Scale(1, TIMES_SHOWN, LEFT + NAMES, RIGHT)
    limit = x(TIMES_AT_MOST)
    parts = [
        *bottom_axis(x, bottom, NAME, "× the least"),
        line(limit, NAME - 6, limit, bottom, "target"),
        text(limit, NAME - 12, f"target {TIMES_AT_MOST:g}", "target-label", "middle"),
    ]
    for number, row in enumerate(rows):
        parts += _other(row, x, NAME + number * (BAR + GAP) + GAP / 2)
    return Figure(
        "otherwise",
        "As it would be otherwise",
        "Instance-hours of the same day as a multiple of the least possible: bars begin at 1, and "
        f"what is dearer than {TIMES_SHOWN:g} ends there. Red: more callers are refused, more "
        "hours paid or calls cut than there should be. “AWS: …” is what AWS may do as well, as it "
        "promises neither.",
        picture(bottom + 30, parts, "Instance-hours of other ways to scale"),
    )


def _other(row: DayRow, x: Scale, top: float) -> list[str]:
    said = f"{row.times:.2f}, {share(row.refused_share)} refused"
    said += f", {row.cut:,} cut" if row.cut else ""
    end = x(min(max(row.times, x.low), x.high))
    beside = (
        (end - 6, "end", "in-dark") if end > (x.start + x.end) / 2 else (end + 6, "start", "tick")
    )
    return [
        text(x.start - 8, top + BAR - 4, row.name, "label", "end"),
        bar(x.start, top, end - x.start, BAR - 2, "speech" if row.met else "over", said),
        text(beside[0], top + BAR - 5, said, beside[2], beside[1]),
    ]
