"""A diagnosis for a terminal, as JSON and as Markdown."""

import json
import math
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rtvc.errors import RecordError, why
from rtvc.profile.diagnose.comparison import Comparison
from rtvc.profile.diagnose.evidence import Phase, middle
from rtvc.profile.diagnose.finding import REMEDIES, Finding, Proof
from rtvc.profile.diagnose.verdict import Diagnosis
from rtvc.slo import shown
from rtvc.stats import Quantile

SCHEMA_VERSION = 1
"""Raised when a reader of older files would misread newer ones."""

JSON_FILE, MARKDOWN_FILE = "diagnosis.json", "diagnosis.md"


def figure(value: float | None, unit: str = "s") -> str:
    """
    >>> figure(0.25), figure(1.2e9, "bytes"), figure(0.5, ""), figure(None)
    ('250 ms', '1.2 GB', '0.5', '–')
    """
    if value is None:
        return "–"
    if unit == "s":
        return shown(value, "s")
    if unit.startswith("bytes"):
        name, divisor = ("GB", 1e9) if abs(value) >= 1e9 else ("MB", 1e6)
        return f"{value / divisor:.3g} {name}{unit.removeprefix('bytes')}"
    return f"{value:.3g} {unit}".strip()


def proof_line(proof: Proof) -> str:
    limit = "" if proof.threshold is None else f" (limit {figure(proof.threshold, proof.unit)})"
    when = f"{proof.phase}, {proof.from_s:.0f}-{proof.until_s:.0f} s"
    return f"{proof.figure}: {figure(proof.value, proof.unit)}{limit} [{when}]"


def gain_line(finding: Finding) -> str:
    """What fixing it is worth."""
    return (
        f"{shown(finding.share_s, 's')} of {shown(finding.of_s, 's')} {finding.delay} "
        f"({finding.phase}): {REMEDIES[finding.cause].why}"
    )


# For a terminal.


def drawn(diagnosis: Diagnosis, comparison: Comparison | None = None) -> RenderableType:
    style = "bold green" if diagnosis.healthy else "bold red"
    parts: list[RenderableType] = [Text(diagnosis.sentence, style), Text("")]
    for number, finding in enumerate(diagnosis.findings, 1):
        parts += [_drawn_finding(number, finding), Text("")]
    parts += [phase_table(diagnosis), Text("")]
    parts += [Text(f"not seen: {gap}", "dim") for gap in diagnosis.unseen]
    if comparison is not None:
        parts += [Text(""), Text(comparison.sentence, "bold"), change_table(comparison)]
    return Group(*parts)


def _drawn_finding(number: int, finding: Finding) -> RenderableType:
    remedy = REMEDIES[finding.cause]
    lines = [Text(f"• {proof_line(proof)}") for proof in finding.proof]
    lines += [Text(f"note: {note}", "yellow") for note in finding.notes]
    lines.append(Text(f"fix: {remedy.fix}", "green"))
    if remedy.fork:
        lines.append(Text(f"in a RealtimeVoiceChat fork: {remedy.fork}", "green"))
    lines.append(Text(f"gain: {gain_line(finding)}"))
    return Group(Text(f"{number}. {finding.cause}", "bold"), Padding(Group(*lines), (0, 0, 0, 3)))


def phase_table(diagnosis: Diagnosis) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "phase" else "right", no_wrap=True)
    for phase in diagnosis.evidence.phases:
        table.add_row(*phase_cells(phase))
    return table


COLUMNS = (
    "phase",
    "speakers",
    "turns",
    "connection p50",
    "delay mean",
    "delay p95",
    "latency mean",
)


def phase_cells(phase: Phase) -> list[str]:
    late = Quantile.of(phase.delays_s, 0.95)
    most = "–" if late.printable is None else shown(late.printable, "s")
    if late.value is None and late.maximum is not None:
        most += f" (max, n={late.n})"
    return [
        phase.name,
        str(phase.speakers),
        str(len(phase.judged)),
        figure(middle(phase.connections_s)),
        figure(phase.delay_s),
        most,
        figure(phase.latency_s),
    ]


def change_table(comparison: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("phase", "delay", "before", "after", "gain"):
        table.add_column(name, no_wrap=True)
    for change in comparison.changes:
        values = (change.before_s, change.after_s, change.gain_s)
        table.add_row(change.phase, change.delay, *(figure(value) for value in values))
    return table


# As JSON.


def to_json(diagnosis: Diagnosis, comparison: Comparison | None = None) -> dict[str, Any]:
    """Plain values; an answer that never came is "inf"."""
    shown_: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "verdict": diagnosis.sentence,
        "healthy": diagnosis.healthy,
        "void": diagnosis.void,
        "undecided": diagnosis.undecided,
        "causes": [cause.value for cause in diagnosis.causes],
        "findings": [_finding_json(finding) for finding in diagnosis.findings],
        "phases": [_phase_json(phase) for phase in diagnosis.evidence.phases],
        "not_seen": list(diagnosis.unseen),
    }
    if comparison is not None:
        shown_["comparison"] = {
            "verdict": comparison.sentence,
            "came": comparison.came,
            "expected_s": comparison.expected_s,
            "gained_s": comparison.gained_s,
            "changes": [
                {
                    "phase": change.phase,
                    "delay": change.delay,
                    "before_s": change.before_s,
                    "after_s": change.after_s,
                }
                for change in comparison.changes
            ],
        }
    return shown_


def _finding_json(finding: Finding) -> dict[str, Any]:
    remedy = REMEDIES[finding.cause]
    return {
        "cause": finding.cause.value,
        "delay": finding.delay,
        "share_ms": round(1000 * finding.share_s, 1),
        "of_ms": round(1000 * finding.of_s, 1),
        "phase": finding.phase,
        "evidence": [
            {
                "figure": proof.figure,
                "value": plain(proof.value),
                "threshold": plain(proof.threshold),
                "unit": proof.unit,
                "phase": proof.phase,
                "from_s": round(proof.from_s, 1),
                "until_s": round(proof.until_s, 1),
            }
            for proof in finding.proof
        ],
        "notes": list(finding.notes),
        "fix": remedy.fix,
        "fix_realtimevoicechat": remedy.fork,
        "gain_ms": round(1000 * finding.share_s, 1),
        "why": remedy.why,
    }


def _phase_json(phase: Phase) -> dict[str, Any]:
    return {
        "name": phase.name,
        "speakers": phase.speakers,
        "turns": len(phase.judged),
        "connection_p50_s": plain(middle(phase.connections_s)),
        "transcription_delay_mean_s": plain(phase.delay_s),
        "transcription_delay_max_s": plain(max(phase.delays_s, default=None)),
        "response_latency_mean_s": plain(phase.latency_s),
        "finals_missing": phase.finals_missing,
    }


def plain(value: float | None) -> float | str | None:
    """JSON has no infinity."""
    if value is None or math.isfinite(value):
        return value
    return "inf"


# As Markdown, and into the folder.


def markdown(diagnosis: Diagnosis, comparison: Comparison | None = None) -> str:
    lines = ["# Diagnosis", "", f"**{diagnosis.sentence}**", ""]
    for number, finding in enumerate(diagnosis.findings, 1):
        remedy = REMEDIES[finding.cause]
        lines += [f"## {number}. {finding.cause}", ""]
        lines += [f"- {proof_line(proof)}" for proof in finding.proof]
        lines += [f"- Note: {note}." for note in finding.notes]
        lines += [f"- **Fix:** {remedy.fix}"]
        lines += [f"- In a RealtimeVoiceChat fork: {remedy.fork}"] if remedy.fork else []
        lines += [f"- **Gain:** {gain_line(finding)}", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    lines += [f"| {' | '.join(phase_cells(phase))} |" for phase in diagnosis.evidence.phases]
    lines += ["", *(f"- Not seen: {gap}." for gap in diagnosis.unseen), ""]
    if comparison is not None:
        lines += ["## Against the earlier diagnosis", "", f"**{comparison.sentence}**", ""]
        lines += ["| phase | delay | before | after |", "|---|---|---|---|"]
        lines += [
            f"| {one.phase} | {one.delay} | {figure(one.before_s)} | {figure(one.after_s)} |"
            for one in comparison.changes
        ]
        lines.append("")
    return "\n".join(lines)


def write(folder: Path, diagnosis: Diagnosis, comparison: Comparison | None = None) -> None:
    """Both files, into the diagnosis' folder."""
    try:
        content = json.dumps(to_json(diagnosis, comparison), indent=2, allow_nan=False)
        (folder / JSON_FILE).write_text(content + "\n", "utf-8")
        (folder / MARKDOWN_FILE).write_text(markdown(diagnosis, comparison), "utf-8")
    except OSError as error:
        raise RecordError(f"cannot write to {folder}: {why(error)}") from error
