"""A plan on one page: the answer, the what-ifs, predicted beside measured, the fleet, what it all
rests on. One HTML file that opens offline."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rtvc.errors import RecordError, why
from rtvc.record import Manifest, load_manifest
from rtvc.report.page import FIGURES_FOLDER, REPORT_FILE, css, template, write_figures
from rtvc.report.plan_figures import COLOURS, plan_figures
from rtvc.report.plan_wording import (
    UNKNOWN,
    at_capacity,
    dollars,
    figures_text,
    holds_text,
    measured_text,
    seconds,
    share,
    verdict_text,
    why_text,
)
from rtvc.report.wording import unbroken
from rtvc.results.plan import Demand, FleetRow, Plan, Service, Variant, load_plan
from rtvc.slo import shown

SHEETS = ("figures.css", "together.css")
"""What the figures look like."""


def build_plan_report(folder: Path, *, png: bool = False) -> Path:
    """Write the page and its figures from plan.json; returns the page's path.

    Raises:
        RecordError: the folder holds no plan, or cannot be written to.
    """
    return write_plan_report(folder, load_plan(folder), load_manifest(folder), png=png)


def write_plan_report(folder: Path, plan: Plan, manifest: Manifest, *, png: bool = False) -> Path:
    """The same of what was read already.

    Raises:
        RecordError: it cannot be written.
    """
    page = template("plan.html.j2").render(context(plan, manifest))
    path = Path(folder) / REPORT_FILE
    try:
        path.write_text(page, "utf-8")
        write_figures(Path(folder) / FIGURES_FOLDER, plan_figures(plan), png=png, sheets=SHEETS)
    except OSError as error:
        raise RecordError(f"cannot write {path}: {why(error)}") from error
    return path


def context(plan: Plan, manifest: Manifest) -> dict[str, Any]:
    """All that the page says."""
    return {
        "css": css("figures.css", "report.css", "together.css"),
        "sentence": unbroken(plan.sentence),
        "outcome": outcome(plan),
        "facts": _facts(plan, manifest),
        "variants": [variant_row(each, n) for n, each in enumerate(plan.variants)],
        "beside": [beside_row(each) for each in plan.variants if each.measured is not None],
        "demand": None if plan.demand is None else demand_rows(plan.demand, plan.refused_target),
        "fleet": [fleet_row(row) for row in plan.fleet],
        "prices": plan.prices,
        "figures": {figure.name: figure for figure in plan_figures(plan)},
        "services": service_rows(plan.variants),
        "assumptions": plan.assumptions,
        "command": manifest.command,
        "version": manifest.rtvc_version,
    }


def outcome(plan: Plan) -> tuple[str, str]:
    """(class, words) of what stands above the sentence."""
    if plan.agrees is None:
        return "unjudged", "Predicted, not measured"
    return ("met", "Predictions hold") if plan.agrees else ("missed", "Predictions are off")


def _facts(plan: Plan, manifest: Manifest) -> str:
    partials = (
        "" if plan.partial_target_s is None else f", a text every {seconds(plan.partial_target_s)}"
    )
    took = "" if plan.seconds is None else f"simulated in {seconds(plan.seconds)}"
    parts = (
        f"from {', '.join(plan.sources)}",
        f"{plan.scenario}, p95 ≤ {shown(plan.delay_target_s, 's')}{partials}",
        took,
        manifest.started_at,
    )
    return " · ".join(filter(None, parts))


def variant_row(variant: Variant, number: int) -> dict[str, Any]:
    """One row of the table of what-ifs."""
    best = at_capacity(variant)
    batch = None if best is None else best.mean_batch
    return {
        "swatch": f"series-{number % COLOURS}",
        "name": variant.name,
        "model": variant.model,
        "kind": variant.model_kind,
        "holds": holds_text(variant),
        "why": why_text(variant),
        "serve": " ".join(("rtvc serve", *variant.serve_flags)) if variant.serve_flags else "",
        "cells": [
            f"{variant.workers} × {variant.threads} × {variant.max_batch}",
            *figures_text(variant),
            UNKNOWN if batch is None else f"{batch:.1f}",
            _mebibytes(variant.memory_bytes),
        ],
    }


def _mebibytes(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count / 2**20:,.0f} MiB"


def beside_row(variant: Variant) -> dict[str, Any]:
    """Predicted beside measured."""
    measured = variant.measured
    assert measured is not None
    return {
        "name": variant.name,
        "kind": {None: "unjudged", True: "passed", False: "failed"}[variant.close],
        "mark": {None: "?", True: "✓", False: "✗"}[variant.close],
        "cells": [
            holds_text(variant),
            measured_text(measured),
            UNKNOWN if measured.fails_at is None else f"{measured.fails_at:,}",
            seconds(measured.target_s),
        ],
        "verdict": verdict_text(variant),
        "run": measured.folder,
    }


def demand_rows(demand: Demand, refused: float | None) -> list[tuple[str, str]]:
    """Who calls, as a list."""
    return [
        ("users", f"{demand.users:,}"),
        ("calls of one a day", f"{demand.calls_per_day:g}"),
        ("length of a call", f"{demand.call_s / 60:g} min"),
        ("in the busiest hour", f"{share(demand.busy_hour_share)} of a day's calls"),
        ("calls in that hour", f"{demand.calls_per_hour:,.0f}"),
        ("calls at once, on average", f"{demand.erlangs:,.1f} erlang"),
        ("may be refused", share(refused)),
    ]


def fleet_row(row: FleetRow) -> dict[str, Any]:
    """One kind of instance."""
    gpus = "–" if row.gpu is None else f"{row.gpus} × {row.gpu}"
    speed = UNKNOWN if row.speed is None else f"{row.speed:.2g}×"
    return {
        "name": row.instance,
        "basis": row.basis,
        "known": row.instances is not None,
        "cells": [
            gpus,
            speed,
            UNKNOWN if row.sessions_each is None else f"{row.sessions_each:,}",
            UNKNOWN if row.instances is None else f"{row.instances:,}",
            share(row.refused),
            share(row.simulated_refused),
            share(row.waiting),
            dollars(row.usd_per_hour),
            dollars(row.fleet_usd_per_hour),
            dollars(row.fleet_usd_per_month),
        ],
        "limited_by": row.limited_by or "",
    }


def service_rows(variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """Service times, each once."""
    rows: dict[tuple[str, int], Service] = {}
    for variant in variants:
        rows.setdefault((variant.model, variant.threads), variant.service)
    return [
        {
            "name": f"{model}, {threads} thread{'' if threads == 1 else 's'}",
            "cells": [
                seconds(each.base_s),
                seconds(each.each_s),
                f"{each.audio_s:.1f} s",
                share(each.grows_per_s),
                f"± {share(each.variation)}",
                _contention(each),
                f"{each.n:,}",
            ],
        }
        for (model, threads), each in rows.items()
    ]


def _contention(service: Service) -> str:
    told = [f"{at_once}: {times:.2f}×" for at_once, times in service.contention if at_once > 1]
    return ", ".join(told) or UNKNOWN
