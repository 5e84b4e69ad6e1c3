"""A simulated fleet on one page: the answer, the day, what would be otherwise, what it rests on.
One HTML file that opens offline."""

from pathlib import Path
from typing import Any

from rtvc.errors import RecordError, why
from rtvc.record import Manifest, load_manifest
from rtvc.report.autoscaling_figures import autoscaling_figures
from rtvc.report.autoscaling_wording import COLUMNS, cells, enclosed, label
from rtvc.report.page import FIGURES_FOLDER, REPORT_FILE, css, template, write_figures
from rtvc.report.plan_wording import seconds
from rtvc.report.wording import unbroken
from rtvc.results.autoscaling import DayRow, FleetRun, load_fleet

SHEETS = ("figures.css",)
"""What the figures look like."""


def build_fleet_report(folder: Path, *, png: bool = False) -> Path:
    """Write the page and its figures from fleet.json; returns the page's path.

    Raises:
        RecordError: the folder holds no simulated fleet, or cannot be written to.
    """
    return write_fleet_report(folder, load_fleet(folder), load_manifest(folder), png=png)


def write_fleet_report(
    folder: Path, run: FleetRun, manifest: Manifest, *, png: bool = False
) -> Path:
    """The same of what was read already.

    Raises:
        RecordError: it cannot be written.
    """
    page = template("autoscaling.html.j2").render(context(run, manifest))
    path = Path(folder) / REPORT_FILE
    try:
        path.write_text(page, "utf-8")
        drawn = autoscaling_figures(run)
        write_figures(Path(folder) / FIGURES_FOLDER, drawn, png=png, sheets=SHEETS)
    except OSError as error:
        raise RecordError(f"cannot write {path}: {why(error)}") from error
    return path


def context(run: FleetRun, manifest: Manifest) -> dict[str, Any]:
    """All that the page says."""
    took = "" if run.seconds is None else f"simulated in {seconds(run.seconds)}"
    facts = (f"capacity {run.capacity:,} ({run.capacity_from})", took, manifest.started_at)
    return {
        "css": css("figures.css", "report.css"),
        "sentence": unbroken(run.sentence),
        "outcome": ("met", "Targets met") if run.met else ("missed", "Targets missed"),
        "facts": " · ".join(filter(None, facts)),
        "columns": COLUMNS,
        "days": [_row(day) for day in run.days],
        "others": [_row(other) for other in run.others],
        "enclosed": unbroken(enclosed(run.days[0])),
        "policy": [(name, f"{value:g}") for name, value in run.policy.items()],
        "figures": {figure.name: figure for figure in autoscaling_figures(run)},
        "assumptions": run.assumptions,
        "command": manifest.command,
        "version": manifest.rtvc_version,
    }


def _row(row: DayRow) -> dict[str, Any]:
    return {
        "name": label(row),
        "kind": "passed" if row.met else "failed",
        "mark": "✓" if row.met else "✗",
        "cells": [unbroken(cell) for cell in cells(row)],
    }
