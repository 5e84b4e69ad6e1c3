"""Before and after a fix: which causes are gone, and whether the gain came that was expected."""

from collections.abc import Callable
from dataclasses import dataclass

from rtvc.profile.diagnose.evidence import Evidence, Phase, middle
from rtvc.profile.diagnose.finding import Cause, Delay
from rtvc.profile.diagnose.verdict import Diagnosis
from rtvc.slo import shown

CAME = 0.5
"""Share of the expected gain from which on it has come: the estimate is one of means."""

_DELAYS: dict[Delay, Callable[[Phase], float | None]] = {
    "connection": lambda phase: middle(phase.connections_s),
    "transcription delay": lambda phase: phase.delay_s,
    "response latency": lambda phase: phase.latency_s,
}


@dataclass(frozen=True, slots=True)
class Change:
    """One delay, before and after, with the same number of speakers."""

    delay: Delay
    """Which."""
    phase: str
    """Where it was compared."""
    before_s: float
    """Mean, of connections the median."""
    after_s: float
    """The same afterwards."""

    @property
    def gain_s(self) -> float:
        return self.before_s - self.after_s


@dataclass(frozen=True)
class Comparison:
    """What came of a fix."""

    before: Diagnosis
    """As it was."""
    after: Diagnosis
    """As it is."""
    changes: tuple[Change, ...]
    """Delays that both tell."""

    @property
    def unproven(self) -> str | None:
        """Why nothing follows from the two; None: something does."""
        for which, each in (("second", self.after), ("first", self.before)):
            if each.interrupted:
                return f"the {which} measurement was interrupted"
            if each.void:
                return f"the {which} measurement is void: the load generator was late itself"
        if self.after.undecided:
            return "the second measurement is undecided"
        return None

    @property
    def gone(self) -> list[Cause]:
        """Causes that were named before and are not any more."""
        now = [finding.cause for finding in self.after.findings]
        return [one.cause for one in self.before.findings if one.cause not in now]

    @property
    def remaining(self) -> list[Cause]:
        """Causes named both times."""
        now = [finding.cause for finding in self.after.findings]
        return [one.cause for one in self.before.findings if one.cause in now]

    @property
    def expected_s(self) -> float | None:
        """Seconds that fixing the first cause was to gain; None: there was none, or it is not
        gone, or nothing follows."""
        if self.unproven is not None or not self.before.findings:
            return None
        first = self.before.findings[0]
        return first.share_s if first.cause in self.gone else None

    @property
    def gained_s(self) -> float | None:
        """Of the delay that the first cause lengthened; None: it cannot be compared."""
        if not self.before.findings or self.unproven is not None:
            return None
        first = self.before.findings[0]
        phase = _of_name(self.after.evidence, first.phase)
        was = _of_name(self.before.evidence, first.phase)
        if phase is None or was is None or phase.speakers != was.speakers:
            return None
        before_s, after_s = _DELAYS[first.delay](was), _DELAYS[first.delay](phase)
        return None if before_s is None or after_s is None else before_s - after_s

    @property
    def came(self) -> bool | None:
        """Whether the expected gain came; None: nothing was expected, or it cannot be told."""
        if self.unproven is not None or not self.before.findings:
            return None
        if self.expected_s is None:
            return False
        return None if self.gained_s is None else self.gained_s >= CAME * self.expected_s

    @property
    def sentence(self) -> str:
        if self.unproven is not None:
            return f"Nothing follows about the fix: {self.unproven}."
        if not self.before.findings:
            return "Before, no cause was named: no gain was expected."
        return f"{self._gain} {self._causes}"

    @property
    def _gain(self) -> str:
        first = self.before.findings[0]
        expected_s, gained_s = self.expected_s, self.gained_s
        if expected_s is None:
            change = "" if gained_s is None else f"; the {first.delay} {_less(gained_s)}"
            return f"The first cause, {first.cause}, is still there{change}."
        expected = f"{shown(expected_s, 's')} of the {first.delay}"
        if gained_s is None:
            return f"Expected to gain {expected}; it cannot be compared."
        verb = "came" if self.came else "did not come"
        return f"The gain {verb}: {shown(gained_s, 's')}, expected {expected}."

    @property
    def _causes(self) -> str:
        now = [finding.cause for finding in self.after.findings]
        fresh = [cause for cause in now if cause not in self.remaining]
        lists = (("Gone", self.gone), ("still there", self.remaining), ("new", fresh))
        told = [f"{name}: {', '.join(causes)}" for name, causes in lists if causes]
        said = "; ".join(told)
        return f"{said[:1].upper()}{said[1:]}."


def _less(gained_s: float) -> str:
    if gained_s >= 0:
        return f"is {shown(gained_s, 's')} shorter"
    return f"is {shown(-gained_s, 's')} longer"


def compare(before: Diagnosis, after: Diagnosis) -> Comparison:
    changes = []
    for phase in after.evidence.phases:
        was = _of_name(before.evidence, phase.name)
        if was is None or was.speakers != phase.speakers:
            continue
        for delay, of in _DELAYS.items():
            before_s, after_s = of(was), of(phase)
            if before_s is not None and after_s is not None:
                changes.append(Change(delay, phase.name, before_s, after_s))
    return Comparison(before, after, tuple(changes))


def _of_name(evidence: Evidence, name: str) -> Phase | None:
    return next((phase for phase in evidence.phases if phase.name == name), None)
