"""The search for the largest number of speakers a server holds. Pure: results in, steps out.

    next_step() → Step | None        result(StepOutcome)        answer() → Capacity

It climbs 1, 2, 4, 8, … until a step fails, bisects between what holds and what does not, and runs
both sides of the boundary a second time. Each number of speakers counts what came of its steps;
the majority decides. Where two runs contradict each other the number is in doubt: it is neither
held nor missed, and the answer is the interval around it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rtvc.slo import Capacity, Level, StepStatus, capacity, levels

Purpose = Literal["climb", "bisect", "confirm"]

MOST_RUNS = 4
"""Decided runs of one number of speakers; then a doubt stays one."""

MOST_STEPS = 80
"""No search takes more."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to run next."""

    number: int
    """From 0."""
    speakers: int
    """Concurrent speakers."""
    purpose: Purpose
    """Why; a step that confirms must have all its samples."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What came of it."""

    outcome: StepStatus
    """"passed", "failed", "void" or "undecided"."""
    reason: str | None = None
    """Why not passed, one line."""
    binding: str | None = None
    """What held it back; None if unknown."""
    evidence: str | None = None
    """How that is known; None if nobody looked."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A step and what came of it, as the answer is made of them."""

    speakers: int
    """Concurrent speakers."""
    outcome: StepStatus
    """As in the outcome."""
    reason: str | None
    """Why not passed."""
    binding: str | None
    """What held it back."""
    evidence: str | None
    """How that is known."""


class CapacitySearch:
    """Which number of speakers to try next, and what all tries say together."""

    def __init__(self, start: int = 1, limit: int = 128) -> None:
        """Starts at `start` speakers and never asks for more than `limit`."""
        if not 1 <= start <= limit:
            raise ValueError(f"expected 1 <= start <= limit, got {start} and {limit}")
        self._start = start
        self._limit = limit
        self._trials: list[Trial] = []
        self._pending: Step | None = None
        self._last: Step | None = None

    @property
    def steps(self) -> int:
        """Steps that are over."""
        return len(self._trials)

    def next_step(self) -> Step | None:
        """The step to run; the same until its result is in. None: the search is over."""
        if self._pending is None and len(self._trials) < MOST_STEPS:
            wanted = next(self._wanted(), None)
            if wanted is not None:
                self._pending = Step(len(self._trials), *wanted)
        return self._pending

    def result(self, outcome: StepOutcome) -> None:
        if self._pending is None:
            raise ValueError("expected a step under way, but there is none")
        self._trials.append(
            Trial(
                self._pending.speakers,
                outcome.outcome,
                outcome.reason,
                outcome.binding,
                outcome.evidence,
            )
        )
        self._last, self._pending = self._pending, None

    def answer(self) -> Capacity:
        """What is known so far."""
        return capacity(self._trials)

    def _wanted(self) -> Iterator[tuple[int, Purpose]]:
        """What is still worth a step, the most urgent first."""
        seen = levels(self._trials)
        yield from self._repeat_lost(seen)
        yield from self._settle_contradictions(seen)
        yield from self._climb(seen)
        yield from self._bisect(seen)
        yield from self._confirm(seen)

    def _repeat_lost(self, seen: dict[int, Level]) -> Iterator[tuple[int, Purpose]]:
        """A run that says nothing is repeated at once, so often and no oftener."""
        last = self._last
        if last is None or seen[last.speakers].given_up:
            return
        if self._trials[-1].outcome in ("void", "undecided"):
            yield last.speakers, last.purpose

    def _settle_contradictions(self, seen: dict[int, Level]) -> Iterator[tuple[int, Purpose]]:
        """More speakers hold than a number that failed or is in doubt: that one runs again."""
        highest = max((n for n, level in seen.items() if level.held), default=0)
        for speakers, level in sorted(seen.items()):
            again = level.decided and level.decided < MOST_RUNS and not level.given_up
            if speakers < highest and not level.held and again:
                yield speakers, "confirm"

    def _climb(self, seen: dict[int, Level]) -> Iterator[tuple[int, Purpose]]:
        if not seen:
            yield self._start, "climb"
        elif _roof(seen) is None and max(seen) < self._limit:
            yield min(2 * max(seen), self._limit), "climb"

    def _bisect(self, seen: dict[int, Level]) -> Iterator[tuple[int, Purpose]]:
        """Close the gap above what holds, then the gap below what does not."""
        floor, roof = _floor(seen), _roof(seen)
        above = min((n for n, level in seen.items() if n > floor and not level.held), default=None)
        if above is not None and above - floor > 1:
            yield (floor + above) // 2, "bisect"
        if roof is not None:
            below = max(
                (n for n, level in seen.items() if not level.missed and n < roof), default=0
            )
            if roof - below > 1:
                yield (below + roof) // 2, "bisect"

    def _confirm(self, seen: dict[int, Level]) -> Iterator[tuple[int, Purpose]]:
        floor = _floor(seen)
        # The roof may be a number that cannot be measured; then the lowest that failed as well.
        failed = min((n for n, level in seen.items() if n > floor and level.failed), default=None)
        for speakers in (floor, _roof(seen), failed):
            level = seen.get(speakers or 0)
            if speakers and level is not None and level.decided == 1 and not level.given_up:
                yield speakers, "confirm"


def _floor(seen: dict[int, Level]) -> int:
    """The highest number that holds with nothing below it in doubt; 0 always holds."""
    doubted = min((n for n, level in seen.items() if not level.held), default=None)
    return max((n for n in seen if doubted is None or n < doubted), default=0)


def _roof(seen: dict[int, Level]) -> int | None:
    """The lowest number that is missed with nothing above it that is not; None so far."""
    hopeful = max((n for n, level in seen.items() if not level.missed), default=0)
    return min((n for n in seen if n > hopeful), default=None)
