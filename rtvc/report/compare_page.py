"""Two runs on one page: the table of what differs, and both distributions in one picture."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtvc.compare.comparable import Side
from rtvc.compare.comparison import Comparison, Difference
from rtvc.compare.measured import TIMED, delays
from rtvc.errors import UsageError
from rtvc.report.comparing import (
    MARKS,
    METHOD,
    n_text,
    name_of,
    ratio_text,
    sentence,
    tone_of,
    value_text,
    verdict_text,
)
from rtvc.report.distributions import Curve, Panel, grid
from rtvc.report.page import css, delay_targets, run_objectives, template
from rtvc.report.wording import unbroken
from rtvc.slo import spoken

COMPARE_FILE = "compare.html"

_KINDS = {"regression": "failed", "worse": "undecided", "better": "passed"}
"""Colours of the marks."""


def write_comparison(found: Comparison, before: Side, after: Side, path: Path) -> Path:
    """One file that opens offline; returns its path."""
    page = template("compare.html.j2").render(_context(found, before, after))
    try:
        path.write_text(page, "utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    return path


def _context(found: Comparison, before: Side, after: Side) -> dict[str, Any]:
    return {
        "css": css("figures.css", "report.css"),
        "sentence": unbroken(sentence(found)),
        "outcome": _outcome(found),
        "sides": [_side(side) for side in (before, after)],
        "warnings": found.warnings,
        "rows": [
            {
                "mark": MARKS[tone_of(each)],
                "kind": _kind(each),
                "name": name_of(each),
                "segment": each.kind == "segment",
                "before": unbroken(value_text(each.before, each)),
                "after": unbroken(value_text(each.after, each)),
                "ratio": unbroken(ratio_text(each)),
                "n": n_text(each),
                "verdict": unbroken(verdict_text(each)),
            }
            for each in found.differences
        ],
        "figure": overlay(before, after, delay_targets(run_objectives(after.run))),
        "allowed": found.allowed,
        "method": METHOD,
        "version": after.run.manifest.rtvc_version,
    }


def _kind(each: Difference) -> str:
    """What the server says of itself explains and is not judged."""
    return "unjudged" if each.kind == "segment" else _KINDS.get(tone_of(each), "unjudged")


def _outcome(found: Comparison) -> tuple[str, str]:
    """(class, words)."""
    if found.regressions:
        return "missed", "Regression"
    return "met", "No regression"


def _side(side: Side) -> dict[str, str]:
    manifest = side.run.manifest
    parts = (manifest.started_at, manifest.model, manifest.commit and manifest.commit[:12])
    return {
        "label": side.label,
        "folder": side.run.folder.name,
        "facts": " · ".join(filter(None, parts)),
    }


def overlay(before: Side, after: Side, targets: Mapping[str, float]) -> str | None:
    """Markup: the distributions of both; None where neither has samples."""
    if before.speakers != after.speakers:
        return None
    panels = []
    for name in TIMED:
        curves = [
            Curve(side.label, class_, measured)
            for side, class_ in ((before, "series-a"), (after, "series-b"))
            if (measured := delays(side.run, name).values.tolist())
        ]
        if any(math.isfinite(delay) for curve in curves for delay in curve.delays_s):
            panels.append(Panel(spoken(name), curves, targets.get(name)))
    return grid(panels, "Cumulated distributions of both runs") if panels else None
