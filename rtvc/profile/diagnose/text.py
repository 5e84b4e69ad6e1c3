"""A diagnosis for a terminal, as JSON and as Markdown."""

import json
import math
from pathlib import Path
from typing import Any

from rtvc.errors import RecordError, why
from rtvc.profile.diagnose.comparison import Comparison
from rtvc.profile.diagnose.evidence import Phase, middle
from rtvc.profile.diagnose.finding import REMEDIES, Finding, Proof
from rtvc.profile.diagnose.verdict import Diagnosis
from rtvc.profile.diagnose.wording import GAINS, TOLD_S, share_of
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
    limit = "" if proof.threshold is None else f" (limit {_limit(proof.threshold, proof.unit)})"
    when = f"{proof.phase}, {proof.from_s:.0f}-{proof.until_s:.0f} s"
    return f"{proof.figure}: {figure(proof.value, proof.unit)}{limit} [{when}]"


def _limit(threshold: float, unit: str) -> str:
    return figure(threshold, "" if unit.startswith("of ") else unit)


def gain_line(finding: Finding) -> str:
    """What fixing it is worth."""
    expected = REMEDIES[finding.cause].why
    if finding.share_s < TOLD_S:
        instead = GAINS.get(finding.cause, "nothing that was measured")
        return f"no time, but {instead}: {expected}"
    of = f"{shown(finding.of_s, 's')} {finding.delay} ({finding.phase})"
    return f"{share_of(finding)} of {of}: {expected}"


# For a terminal, or a file.

BAD, GOOD, DIM, PLAIN = "bold red", "bold green", "dim", ""

Line = tuple[str, str]
"""A line without its end, and its style."""


def lines(diagnosis: Diagnosis, comparison: Comparison | None = None) -> list[Line]:
    """All there is to say; never padded, never cut."""
    told = [(diagnosis.sentence, GOOD if diagnosis.healthy else BAD), ("", PLAIN)]
    for number, finding in enumerate(diagnosis.findings, 1):
        told += [*_finding_lines(number, finding), ("", PLAIN)]
    table = [list(COLUMNS), *(phase_cells(phase) for phase in diagnosis.evidence.phases)]
    told += [*_table_lines(table), ("", PLAIN)]
    told += [(f"note: {note}", "yellow") for note in diagnosis.notes]
    told += [(f"not seen: {gap}", DIM) for gap in diagnosis.unseen]
    if comparison is not None:
        told += [("", PLAIN), (comparison.sentence, "bold")]
        told += _table_lines(change_table(comparison)) if comparison.changes else []
    return told


def _finding_lines(number: int, finding: Finding) -> list[Line]:
    remedy = REMEDIES[finding.cause]
    told = [(f"   • {proof_line(proof)}", PLAIN) for proof in finding.proof]
    told += [(f"   note: {note}", "yellow") for note in finding.notes]
    told.append((f"   fix: {remedy.fix}", "green"))
    if remedy.fork:
        told.append((f"   in a RealtimeVoiceChat fork: {remedy.fork}", "green"))
    told.append((f"   gain: {gain_line(finding)}", PLAIN))
    return [(f"{number}. {finding.cause}", "bold"), *told]


def _table_lines(rows: list[list[str]]) -> list[Line]:
    """Names to the left, figures to the right, no wider than they must be."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    left = [all(not any(map(str.isdigit, cell)) for cell in column) for column in columns]
    told = []
    for place, row in enumerate(rows):
        cells = [
            cell.ljust(width) if to_left else cell.rjust(width)
            for cell, width, to_left in zip(row, widths, left, strict=True)
        ]
        told.append(("  ".join(cells).rstrip(), PLAIN if place else DIM))
    return told


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


def change_table(comparison: Comparison) -> list[list[str]]:
    rows = [["phase", "delay", "before", "after", "gain"]]
    for change in comparison.changes:
        values = (change.before_s, change.after_s, change.gain_s)
        rows.append([change.phase, change.delay, *(figure(value) for value in values)])
    return rows


# As JSON.


def to_json(diagnosis: Diagnosis, comparison: Comparison | None = None) -> dict[str, Any]:
    """Plain values; an answer that never came is "inf"."""
    shown_: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "verdict": diagnosis.sentence,
        "healthy": diagnosis.healthy,
        "void": diagnosis.void,
        "undecided": diagnosis.undecided,
        "interrupted": diagnosis.interrupted,
        "causes": [cause.value for cause in diagnosis.causes],
        "findings": [_finding_json(finding) for finding in diagnosis.findings],
        "phases": [_phase_json(phase) for phase in diagnosis.evidence.phases],
        "notes": list(diagnosis.notes),
        "not_seen": list(diagnosis.unseen),
    }
    if comparison is not None:
        shown_["comparison"] = {
            "verdict": comparison.sentence,
            "came": comparison.came,
            "gone": [cause.value for cause in comparison.gone],
            "remaining": [cause.value for cause in comparison.remaining],
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
        "word_error_rate": plain(phase.word_error_rate),
        "others_cpus": [
            {"name": one.name, "pid": one.pid, "cpus": round(one.cpus, 3)}
            for one in phase.neighbours
        ],
    }


def plain(value: float | None) -> float | str | None:
    """JSON has no infinity."""
    if value is None or math.isfinite(value):
        return value
    return "inf"


# As Markdown, and into the folder.


def markdown(diagnosis: Diagnosis, comparison: Comparison | None = None) -> str:
    told = ["# Diagnosis", "", f"**{diagnosis.sentence}**", ""]
    for number, finding in enumerate(diagnosis.findings, 1):
        remedy = REMEDIES[finding.cause]
        told += [f"## {number}. {finding.cause}", ""]
        told += [f"- {proof_line(proof)}" for proof in finding.proof]
        told += [f"- Note: {note}." for note in finding.notes]
        told += [f"- **Fix:** {remedy.fix}"]
        told += [f"- In a RealtimeVoiceChat fork: {remedy.fork}"] if remedy.fork else []
        told += [f"- **Gain:** {gain_line(finding)}", ""]
    told += [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    told += [f"| {' | '.join(phase_cells(phase))} |" for phase in diagnosis.evidence.phases]
    told += ["", *(f"- Note: {note}." for note in diagnosis.notes)]
    told += [*(f"- Not seen: {gap}." for gap in diagnosis.unseen), ""]
    if comparison is not None:
        told += ["## Against the earlier diagnosis", "", f"**{comparison.sentence}**", ""]
        told += ["| phase | delay | before | after |", "|---|---|---|---|"]
        told += [
            f"| {one.phase} | {one.delay} | {figure(one.before_s)} | {figure(one.after_s)} |"
            for one in comparison.changes
        ]
        told.append("")
    return "\n".join(told)


def write(folder: Path, diagnosis: Diagnosis, comparison: Comparison | None = None) -> None:
    """Both files, into the diagnosis' folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps(to_json(diagnosis, comparison), indent=2, allow_nan=False)
        (folder / JSON_FILE).write_text(content + "\n", "utf-8")
        (folder / MARKDOWN_FILE).write_text(markdown(diagnosis, comparison), "utf-8")
    except OSError as error:
        raise RecordError(f"cannot write to {folder}: {why(error)}") from error
