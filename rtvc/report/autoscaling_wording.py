"""What a simulated fleet says, in words: pure functions of its records."""

import math
from statistics import fmean

from rtvc.results.autoscaling import REFUSED_AT_MOST, TIMES_AT_MOST, DayRow, FleetRun, worst
from rtvc.slo import shown

UNKNOWN = "–"
"""Where there is no figure."""

COLUMNS = (
    "callers",
    "refused",
    "would have waited",
    "cut",
    "instances",
    "instance-hours",
    "× the least",
)
"""Of a row, beside its name."""


def share(value: float) -> str:
    """
    >>> share(0.0004), share(0.25)
    ('0.04 %', '25 %')
    """
    return shown(value, "%")


def span(seconds: float) -> str:
    """
    >>> span(90.0), span(180.0), span(10.0)
    ('90 s', '3 min', '10 s')
    """
    return f"{seconds / 60:g} min" if seconds >= 120 else f"{seconds:g} s"


def hours(seconds: float) -> str:
    """
    >>> hours(3_600_000.0)
    '1,000'
    """
    return f"{seconds / 3600:,.0f}"


def cells(row: DayRow) -> tuple[str, ...]:
    """As many as there are columns."""
    return (
        f"{row.calls:,}",
        share(row.refused_share),
        _waited(row),
        f"{row.cut:,}",
        f"{row.least:,} to {row.most:,}",
        hours(row.instance_s),
        f"{row.times:.2f}",
    )


def _waited(row: DayRow) -> str:
    """Whoever was refused, until somebody had room."""
    if row.wait_p50_s is None or row.wait_max_s is None:
        return UNKNOWN
    longest = "for ever" if math.isinf(row.wait_max_s) else f"{row.wait_max_s:.0f} s"
    middle = "for ever" if math.isinf(row.wait_p50_s) else f"{row.wait_p50_s:.0f} s"
    return f"{middle}, at most {longest}"


def label(row: DayRow) -> str:
    """With its day."""
    return f"{row.name}, day {row.seed}"


def enclosed(row: DayRow) -> str:
    """Between what the optimum lies; empty: only one side was worked out."""
    if row.packed_s is None:
        return ""
    return (
        f"On day {row.seed} whoever knows every call beforehand pays {hours(row.bound_s)} "
        f"instance-hours at least, and {hours(row.packed_s)} are enough."
    )


def sentence(run: FleetRun) -> str:
    """The answer: what a day costs, and what callers notice of it."""
    refused, cut, times = worst(run.days)
    paid = hours(fmean(day.instance_s for day in run.days))
    several = f" (the worst of {len(run.days)} days)" if len(run.days) > 1 else ""
    said = (
        f"{paid} instance-hours a day, {times:.2f} times what is needed at least by whoever knows "
        f"every call beforehand; {share(refused)} of the callers are refused, "
        f"{_cut(cut)}{several}"
    )
    missed = _missed(refused, cut, times)
    return f"{said}: {missed}." if missed else f"{said}."


def _cut(cut: int) -> str:
    if not cut:
        return "and no call is cut"
    return f"and {cut:,} call{' is' if cut == 1 else 's are'} cut"


def _missed(refused: float, cut: int, times: float) -> str:
    """What is not as it should be; empty: all is."""
    wanted = {
        f"at most {share(REFUSED_AT_MOST)} refused": refused <= REFUSED_AT_MOST,
        "no call cut": not cut,
        f"at most {TIMES_AT_MOST:g} times the least": times <= TIMES_AT_MOST,
    }
    broken = [name for name, kept in wanted.items() if not kept]
    return f"expected {' and '.join(broken)}" if broken else ""
