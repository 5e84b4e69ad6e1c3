"""Words and marks that every report shares."""

import re

from rtvc.slo import Outcome, Status, shown

HALF_LOST = 0.5
"""Word error rate above which it is doubtful that the model is one for this speech."""

MARKS: dict[Status, str] = {
    "passed": "✓",
    "failed": "✗",
    "undecided": "?",
    "no data": "✗",
    "not observable": "–",
}
"""As k6 draws them."""

VOID_MARK = "–"
"""Beside every objective of a run that is void or was interrupted."""

OUTCOMES: dict[Outcome, str] = {
    "met": "Targets met",
    "missed": "Targets missed",
    "undecided": "Undecided",
    "void": "Void",
    "interrupted": "Interrupted",
}

SEARCH_OUTCOMES: dict[Outcome, str] = {
    "met": "Capacity found",
    "missed": "Targets missed",
    "undecided": "Undecided",
    "void": "Void",
    "interrupted": "Interrupted",
}

_UNIT = re.compile(r"(?<=\d) (?=(?:ms|s|%)(?!\w))|(?<=[<>≤≥=]) (?=\d)")


def unbroken(text: str) -> str:
    """The same with spaces inside "500 ms" and "< 500 ms" at which no line is broken."""
    return _UNIT.sub("\N{NO-BREAK SPACE}", text)


def seconds(value: float | None) -> str:
    """A delay, or a dash where there is none."""
    return "–" if value is None else shown(value, "s")
