"""A run of `rtvc chaos` on one page, and as chaos.md. One HTML file that opens offline."""

from pathlib import Path
from typing import Any

from rtvc.errors import RecordError, why
from rtvc.record import Manifest, load_manifest
from rtvc.report.chaos_wording import (
    COLUMNS,
    MARKS,
    cells,
    counted,
    markdown,
    seconds,
    verdict_text,
)
from rtvc.report.page import REPORT_FILE, css, template
from rtvc.report.wording import unbroken
from rtvc.results.chaos import Chaos, Fault, load_chaos

MARKDOWN_FILE = "chaos.md"

OUTCOMES = {
    0: ("met", "Nothing lost"),
    99: ("missed", "Something was lost"),
    3: ("void", "Nothing is proven"),
}
"""Exit code → class and words of what stands above the sentence."""


def build_chaos_report(folder: Path) -> Path:
    """Write the page and chaos.md from summary.json; returns the page's path.

    Raises:
        RecordError: the folder holds no such run, or cannot be written to.
    """
    return write_chaos_report(folder, load_chaos(folder), load_manifest(folder))


def write_chaos_report(folder: Path, chaos: Chaos, manifest: Manifest) -> Path:
    """The same of what was read already.

    Raises:
        RecordError: it cannot be written.
    """
    page = template("chaos.html.j2").render(context(chaos, manifest))
    path = Path(folder) / REPORT_FILE
    try:
        path.write_text(page, "utf-8")
        (Path(folder) / MARKDOWN_FILE).write_text(markdown(chaos), "utf-8")
    except OSError as error:
        raise RecordError(f"cannot write {path}: {why(error)}") from error
    return path


def context(chaos: Chaos, manifest: Manifest) -> dict[str, Any]:
    """All that the page says."""
    machine = manifest.machine
    return {
        "css": css("figures.css", "report.css"),
        "sentence": unbroken(chaos.sentence),
        "outcome": OUTCOMES[chaos.exit_code],
        "facts": f"{chaos.model} · {chaos.speakers} speakers · {machine.cpu}, {machine.cores} "
        f"cores · {chaos.started_at}",
        "columns": COLUMNS,
        "faults": [_row(fault) for fault in chaos.faults],
        "command": manifest.command,
        "version": manifest.rtvc_version,
    }


def _lines(cell: str) -> tuple[str, str]:
    """A figure, and what it is known from below it.

    >>> [line.replace("\\xa0", " ") for line in _lines("467 ms (max, n=12)")]
    ['467 ms', 'max, n=12']
    """
    figure, _, rest = cell.partition(" (")
    return unbroken(figure), unbroken(rest.removesuffix(")"))


def _row(fault: Fault) -> dict[str, Any]:
    return {
        "name": fault.name,
        "kind": {"passed": "passed", "failed": "failed", "void": "undecided"}[fault.status],
        "mark": MARKS[fault.status],
        "cells": [_lines(cell) for cell in cells(fault)],
        "verdict": verdict_text(fault),
        "short": "void" if fault.status == "void" else verdict_text(fault),
        "done": fault.done,
        "notes": [*fault.notes, *counted(fault)],
        "limit": unbroken(seconds(fault.limit_s)),
        "when": unbroken(f"{fault.begin_s:.1f} s to {fault.end_s:.1f} s"),
    }
