"""What a plan says, in words: pure functions of its records."""

from collections.abc import Iterable, Sequence

from rtvc.results.plan import FleetRow, Measured, Plan, Point, Variant
from rtvc.slo import shown

UNKNOWN = "–"
"""Where there is no figure."""


def dollars(usd: float | None) -> str:
    """
    >>> dollars(0.8048), dollars(12.5), dollars(4180.2), dollars(None)
    ('$0.805', '$12.50', '$4,180', '–')
    """
    if usd is None:
        return UNKNOWN
    if usd >= 1000:
        return f"${usd:,.0f}"
    return f"${usd:.2f}" if usd >= 10 else f"${usd:.3f}"


def seconds(value: float | None) -> str:
    return UNKNOWN if value is None else shown(value, "s")


def share(value: float | None) -> str:
    return UNKNOWN if value is None else shown(value, "%")


def holds_text(variant: Variant) -> str:
    """How many, as far as was looked."""
    if variant.fails_at is None:
        return f"{variant.holds:,} or more"
    return f"{variant.holds:,}"


def why_text(variant: Variant) -> str:
    """What a session more would miss."""
    if variant.binding is None:
        return "no limit found"
    return f"{variant.binding} at {variant.fails_at:,}" if variant.fails_at else variant.binding


def at_capacity(variant: Variant) -> Point | None:
    """The point at as many sessions as are held; None: not even one is."""
    return next((point for point in variant.points if point.sessions == variant.holds), None)


def figures_text(variant: Variant) -> tuple[str, ...]:
    """Delay p50, p95 and p99, time between texts, part of the workers' time: at capacity."""
    point = at_capacity(variant)
    if point is None:
        return (UNKNOWN,) * 5
    return (
        seconds(point.delay_p50_s),
        seconds(point.delay_p95_s),
        seconds(point.delay_p99_s),
        seconds(point.partial_interval_p50_s),
        share(point.busy),
    )


def verdict_text(variant: Variant) -> str:
    """How near a prediction came; empty: nobody measured it."""
    if variant.measured is None:
        return ""
    if variant.close is None:
        return "the search found no end: neither confirmed nor refuted"
    off = variant.off_by
    apart = "" if off is None else f"{100 * off:+.0f} %, ".replace("-", "−")
    return f"{apart}{'within' if variant.close else 'not within'} 15 % or ±1"


def measured_text(measured: Measured) -> str:
    """Sessions, or that the search ended before it had too many."""
    return f"{measured.holds:,}" if measured.fails_at is not None else f"≥ {measured.holds:,}"


def ranked(variants: Iterable[Variant]) -> list[Variant]:
    """The one that holds most first; of equals the one asked for first."""
    return sorted(variants, key=lambda variant: -variant.holds)


def sentence(plan: Plan) -> str:
    """The answer: what holds most, what it is compared with, what a fleet of it costs."""
    first, *others = ranked(plan.variants)
    target = shown(plan.delay_target_s, "s")
    said = f"{first.name} would hold {holds_text(first)} at p95 ≤ {target}"
    if others:
        said += _instead(first, others[-1])
    said += "."
    if plan.demand is not None:
        said += " " + _fleet_sentence(plan)
    if plan.agrees is not None:
        said += " " + _agreement(plan.variants)
    return said


def _instead(best: Variant, worst: Variant) -> str:
    if worst.holds == best.holds:
        return f", and so would {worst.name}"
    times = f", {best.holds / worst.holds:.1f}× as many" if worst.holds else ""
    return f", {worst.name} {worst.holds:,}{times}"


def _fleet_sentence(plan: Plan) -> str:
    assert plan.demand is not None
    users = f"{plan.demand.users:,} users"
    known = [row for row in plan.fleet if row.instances is not None]
    if not known:
        return f"No instance is known to hold a session, so none serves {users}."
    priced = [row for row in known if row.fleet_usd_per_hour is not None]
    row = priced[0] if priced else known[0]
    cost = f", {dollars(row.fleet_usd_per_hour)} an hour" if priced else ""
    return (
        f"{users} ({plan.demand.erlangs:,.0f} calls at once in the busiest hour) take "
        f"{row.instances:,} × {row.instance}{cost}, speed {_basis(row)}, and "
        f"{share(row.refused)} of the calls are refused."
    )


def _basis(row: FleetRow) -> str:
    return row.basis if row.basis in ("measured", "given", "extrapolated") else "not known"


def _agreement(variants: Sequence[Variant]) -> str:
    judged = [variant for variant in variants if variant.close is not None]
    close = sum(bool(variant.close) for variant in judged)
    return f"Predicted within 15 % or one speaker of what was measured: {close} of {len(judged)}."
