"""What a run of `rtvc chaos` says, in words: on the page, in chaos.md and in a terminal."""

import math
from collections.abc import Sequence

from rtvc.report.wording import unbroken
from rtvc.results.chaos import Chaos, Fault, Span
from rtvc.slo import shown

UNKNOWN = "–"

MARKS = {"passed": "✓", "failed": "✗", "void": "?"}

COLUMNS = (
    "turns",
    "delay before",
    "during",
    "after",
    "finals lost",
    "sessions ended",
    "foreign words",
    "refused",
    "replies missing",
    "recovered after",
    "restart",
)
"""Of the table, after the fault's name."""


def cells(fault: Fault) -> tuple[str, ...]:
    """One row of the table."""
    spans = (fault.before, fault.during, fault.after)
    return (
        " + ".join(f"{each.turns}" for each in spans),
        *(delay_text(each) for each in spans),
        str(fault.finals_lost),
        f"{fault.sessions_ended}{' (meant)' if fault.ended_by_fault else ''}",
        str(fault.cross_words),
        str(fault.refused),
        missing_text(fault),
        recovery_text(fault),
        "needed" if fault.restart_needed else "no",
    )


def delay_text(span: Span) -> str:
    """p95 or the longest, with its n."""
    if span.delay_s is None:
        return UNKNOWN
    return f"{seconds(span.delay_s)} ({span.delay_name}, n={span.turns})"


def missing_text(fault: Fault) -> str:
    """Replies, before + during + after."""
    spans = (fault.before, fault.during, fault.after)
    return " + ".join(f"{each.replies_missing}" for each in spans)


def recovery_text(fault: Fault) -> str:
    """How long until it was as before."""
    if fault.recovery_s is None:
        return f"never (n={fault.recovery_n})"
    return f"{fault.recovery_s:.1f} s (n={fault.recovery_n})"


def seconds(value: float) -> str:
    """A delay; one that never came is ∞."""
    return "∞" if math.isinf(value) else shown(value, "s")


def verdict_text(fault: Fault) -> str:
    """Why it is not passed, or that it is."""
    if fault.status == "void":
        return f"void: {fault.why_void}"
    return ", ".join(fault.failures) or "nothing lost"


def counted(fault: Fault) -> list[str]:
    """What the server counted meanwhile, as far as it has such figures and they moved."""
    return [f"{name} {value:g}" for name, value in fault.evidence.items() if value]


def markdown(chaos: Chaos) -> str:
    """All of it as chaos.md."""
    header = ("fault", *COLUMNS, "verdict")
    lines = [
        "# Chaos",
        "",
        chaos.sentence,
        "",
        f"{chaos.model}, {chaos.speakers} speakers, {chaos.started_at}. Delays are from the true "
        "end of speech to the final transcript; turns and missing replies: before + during + "
        "after.",
        "",
        _row(header),
        _row(["---"] * len(header)),
        *(_row((each.name, *cells(each), verdict_text(each))) for each in chaos.faults),
        "",
    ]
    for fault in chaos.faults:
        lines += [f"- **{fault.name}**: {told(fault)}"]
    return unbroken("\n".join(lines)) + "\n"


def told(fault: Fault) -> str:
    """What was done, and what else is known."""
    parts = [f"{fault.done}", *fault.notes]
    if found := counted(fault):
        parts.append(f"counted: {', '.join(found)}")
    return "; ".join(parts) + "."


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
