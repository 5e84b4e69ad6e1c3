"""What a judgement may come to."""

from typing import Literal

Status = Literal["passed", "failed", "undecided", "no data", "not observable"]
Outcome = Literal["met", "missed", "undecided", "void", "interrupted"]
StepStatus = Literal["passed", "failed", "void", "undecided"]

EXIT_CODES: dict[Outcome, int] = {
    "met": 0,
    "missed": 99,
    "undecided": 3,
    "void": 3,
    "interrupted": 3,
}

UNJUDGED: frozenset[Outcome] = frozenset({"void", "interrupted"})
"""Outcomes in which nothing is ticked, however good it looks."""
