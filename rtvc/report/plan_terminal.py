"""A plan in a terminal: what-ifs, predicted beside measured, the fleet, what it rests on, and last
the answer."""

import textwrap
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rtvc.report.plan_wording import (
    UNKNOWN,
    dollars,
    figures_text,
    holds_text,
    measured_text,
    ranked,
    share,
    verdict_text,
    why_text,
)
from rtvc.report.wording import unbroken
from rtvc.results.plan import FleetRow, Plan, Variant

FLEET_ROWS = 10
"""Kinds of instances listed; the page has all."""


def plan_panel(plan: Plan, width: int | None = None) -> RenderableType:
    """All of it; `width` None: no line is broken."""
    parts: list[RenderableType] = [variants_table(plan.variants)]
    if any(variant.measured is not None for variant in plan.variants):
        parts += [Text(""), beside_table(plan.variants)]
    if plan.fleet:
        parts += [Text(""), fleet_table(plan.fleet)]
        hidden = len(plan.fleet) - FLEET_ROWS
        if hidden > 0:
            parts.append(Text(f"{hidden} more on the page", "dim"))
        if plan.prices:
            parts.append(Text(_kept(f"prices: {plan.prices}", width), "dim"))
    parts.append(Text(""))
    parts += [Text(_kept(f"assumed: {line}", width), "dim") for line in plan.assumptions]
    style = "bold yellow" if plan.agrees is False else "bold green"
    parts += [Text(""), Text(_kept(plan.sentence, width), style)]
    best = ranked(plan.variants)[0]
    if best.serve_flags:
        # On one line, so that it can be copied.
        serve = " ".join(("  rtvc serve", *best.serve_flags))
        parts.append(Text(serve, "bold", no_wrap=True, overflow="ignore"))
    return Group(*parts)


def _kept(sentence: str, width: int | None) -> str:
    """Broken to a width, a number and its unit on one line."""
    if width is None:
        return sentence
    kept = "\n".join(textwrap.wrap(unbroken(sentence), width, break_long_words=False))
    return kept.replace("\N{NO-BREAK SPACE}", " ")


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def variants_table(variants: Sequence[Variant]) -> Table:
    """One line a combination, in the order asked."""
    table = _table("run so", "holds", "w × t × b", "p50", "p95", "p99", "texts", "busy")
    table.add_column("then")
    best = max(variant.holds for variant in variants)
    for variant in variants:
        table.add_row(
            Text(variant.name, "green" if variant.holds == best else ""),
            Text(holds_text(variant), "bold"),
            Text(f"{variant.workers} × {variant.threads} × {variant.max_batch}"),
            *map(Text, figures_text(variant)),
            Text(why_text(variant), "dim"),
        )
    return table


def beside_table(variants: Sequence[Variant]) -> Table:
    """Predicted beside measured."""
    table = _table("run so", "predicted", "measured")
    table.add_column("")
    table.add_column("run", overflow="fold")
    for variant in variants:
        if variant.measured is None:
            continue
        table.add_row(
            Text(variant.name),
            Text(holds_text(variant)),
            Text(measured_text(variant.measured)),
            Text(verdict_text(variant), "green" if variant.close else "red"),
            Text(variant.measured.folder, "dim"),
        )
    return table


def fleet_table(fleet: Sequence[FleetRow]) -> Table:
    """The cheapest first."""
    table = _table("instance", "speed", "holds", "needed", "refused", "$/h each", "$/h fleet")
    table.add_column("speed is", overflow="fold")
    for row in fleet[:FLEET_ROWS]:
        style = "" if row.instances is not None else "dim"
        table.add_row(
            Text(row.instance, style),
            Text(UNKNOWN if row.speed is None else f"{row.speed:.2g}×", style),
            Text(UNKNOWN if row.sessions_each is None else f"{row.sessions_each:,}", style),
            Text(UNKNOWN if row.instances is None else f"{row.instances:,}", style),
            Text(share(row.refused), style),
            Text(dollars(row.usd_per_hour), style),
            Text(dollars(row.fleet_usd_per_hour), style),
            Text(row.basis, "yellow" if row.basis == "extrapolated" else "dim"),
        )
    return table
