"""The verdict on a search for the capacity."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rtvc.record import StepRow
from rtvc.slo.outcomes import EXIT_CODES, Outcome
from rtvc.slo.wording import said_speakers

LOST_RUNS = 3
"""Void or undecided runs of one number of speakers after which it is given up."""


class Trial(Protocol):
    """The part of a step that an answer is made of."""

    @property
    def speakers(self) -> int: ...
    @property
    def outcome(self) -> str: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def binding(self) -> str | None: ...
    @property
    def evidence(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Level:
    """One number of speakers and what came of its runs."""

    passed: int
    """Runs that met every target."""
    failed: int
    """Runs that did not."""
    lost: int
    """Runs that say nothing: void or undecided."""

    @property
    def decided(self) -> int:
        return self.passed + self.failed

    @property
    def held(self) -> bool:
        return self.passed > self.failed

    @property
    def given_up(self) -> bool:
        """Whether it could not be measured."""
        return self.lost >= LOST_RUNS

    @property
    def missed(self) -> bool:
        """Not held, as far as is known; what cannot be measured bounds the search as well."""
        return self.failed > self.passed or (not self.decided and self.given_up)


def levels(trials: Iterable[Trial]) -> dict[int, Level]:
    """By number of speakers, in ascending order."""
    seen: dict[int, Counter[str]] = {}
    for trial in trials:
        seen.setdefault(trial.speakers, Counter())[trial.outcome] += 1
    return {
        speakers: Level(tally["passed"], tally["failed"], tally["void"] + tally["undecided"])
        for speakers, tally in sorted(seen.items())
    }


@dataclass(frozen=True, slots=True)
class Capacity:
    """The answer of a search: an interval, a sentence and a reason."""

    holds: int
    """Most speakers that met every target, with nothing below in doubt; 0: not even one."""
    fails_at: int | None
    """Fewest that missed a target, with nothing above that met them; None if unknown."""
    sentence: str
    """For a person."""
    binding: str | None
    """What held it back at `fails_at`; None if unknown."""
    evidence: str | None
    """What the server's own figures said of it, or that it has none; None if not known."""
    outcome: Outcome
    """"met": a capacity was found; "missed": not even one speaker; else nothing is known."""
    confirmed: bool
    """Whether both sides of the boundary were run twice."""

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]


def capacity(trials: Sequence[Trial]) -> Capacity:
    """What steps say together; also of a search that was cut off.

    >>> from typing import NamedTuple
    >>> class Run(NamedTuple):
    ...     speakers: int
    ...     outcome: str
    ...     reason: str | None = None
    ...     binding: str | None = None
    ...     evidence: str | None = None
    >>> missed = Run(10, "failed", "transcription delay p95 812 ms", "inference")
    >>> capacity([Run(8, "passed"), missed, missed, Run(8, "passed")]).sentence
    'holds 8 speakers, not 10: transcription delay p95 812 ms; binding: inference'
    """
    seen = levels(trials)
    doubted = min((n for n, level in seen.items() if not level.held), default=None)
    holds = max((n for n in seen if doubted is None or n < doubted), default=0)
    hopeful = max((n for n, level in seen.items() if level.held), default=0)
    missed = (n for n, level in seen.items() if n > hopeful and level.failed > level.passed)
    fails_at = min(missed, default=None)
    causes = [t for t in trials if t.speakers == fails_at and t.outcome == "failed"]
    told = _most_telling(causes)
    once = [n for n in (holds, fails_at) if n and seen[n].decided < 2]
    return Capacity(
        holds=holds,
        fails_at=fails_at,
        sentence=_capacity_sentence(trials, holds, fails_at, told, confirmed=not once),
        binding=told.binding if told else None,
        evidence=told.evidence if told else None,
        outcome=_capacity_outcome(trials, holds, fails_at),
        confirmed=bool(trials) and not once,
    )


def _most_telling(causes: Sequence[Trial]) -> Trial | None:
    """The last of the runs that missed which knows why; else the last."""
    known = [cause for cause in causes if cause.binding]
    return ([None, *causes[-1:], *known[-1:]])[-1]


def _bound(told: Trial) -> str:
    """What held it back, and how that is known."""
    if told.binding is None and told.evidence is None:
        return ""
    how = f" ({told.evidence})" if told.evidence else ""
    return f"; binding: {told.binding or 'unknown'}{how}"


def telling_step(steps: Sequence[StepRow]) -> StepRow | None:
    """The step whose figures stand for the search: the last one that held the most speakers."""
    found = capacity(steps)
    held = [s for s in steps if s.speakers == found.holds and s.outcome == "passed"]
    missed = [s for s in steps if s.speakers == found.fails_at and s.outcome == "failed"]
    return ([None, *steps[-1:], *missed[-1:], *held[-1:]])[-1]


def _capacity_outcome(trials: Sequence[Trial], holds: int, fails_at: int | None) -> Outcome:
    if holds:
        return "met"
    if fails_at is not None:
        return "missed"
    return "void" if any(trial.outcome == "void" for trial in trials) else "undecided"


def _capacity_sentence(
    trials: Sequence[Trial],
    holds: int,
    fails_at: int | None,
    told: Trial | None,
    *,
    confirmed: bool,
) -> str:
    if fails_at is None:
        return _open_sentence(trials, holds)
    held = f"holds {said_speakers(holds)}, not {fails_at}" if holds else _nobody(fails_at)
    apart = _between(trials, holds, fails_at) if holds else ""
    reasons = [t.reason for t in trials if t.speakers == fails_at and t.outcome == "failed"]
    why = f": {reasons[-1]}" if reasons and reasons[-1] else ""
    bound = _bound(told) if told else ""
    return f"{held}{apart if confirmed else ''}{why}{bound}{'' if confirmed else _ONCE}"


def _between(trials: Sequence[Trial], holds: int, fails_at: int) -> str:
    """Why the two are apart, if they are."""
    seen = levels([trial for trial in trials if holds < trial.speakers < fails_at])
    lost = [str(n) for n, level in seen.items() if not level.decided]
    if lost:
        return f" ({', '.join(lost)} could not be measured)"
    return " (runs between them contradict each other)" if seen else ""


_ONCE = " (not confirmed by a second run)"


def _nobody(fails_at: int) -> str:
    fewer = "" if fails_at == 1 else "; fewer were not tried"
    return f"does not hold even {said_speakers(fails_at)}{fewer}"


def _open_sentence(trials: Sequence[Trial], holds: int) -> str:
    """Nothing was missed: what was not measurable, or simply the most that was tried."""
    if not trials:
        return "nothing is known: no step was finished"
    lost = [t for t in trials if t.outcome in ("void", "undecided") and t.speakers > holds]
    void = "void: " if any(t.outcome == "void" for t in lost) else ""
    known = f"holds at least {said_speakers(holds)}" if holds else f"{void}nothing is known"
    if not lost:
        return f"{known}, the most that were tried"
    return f"{known}; {lost[-1].speakers} could not be measured: {lost[-1].reason}"
