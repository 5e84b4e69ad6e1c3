"""Before and after a fix: whether the gain came that was expected."""

from collections.abc import Callable
from dataclasses import dataclass

from rtvc.profile.diagnose.evidence import Evidence, Phase, middle
from rtvc.profile.diagnose.finding import Delay
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
    def expected_s(self) -> float | None:
        """Seconds that fixing the first cause was to gain; None: there was no cause."""
        return self.before.findings[0].share_s if self.before.findings else None

    @property
    def gained_s(self) -> float | None:
        """Of the delay that the first cause lengthened; None: it cannot be compared."""
        if not self.before.findings:
            return None
        first = self.before.findings[0]
        phase = _of_name(self.after.evidence, first.phase)
        was = _of_name(self.before.evidence, first.phase)
        if phase is None or was is None:
            return None
        before_s, after_s = _DELAYS[first.delay](was), _DELAYS[first.delay](phase)
        return None if before_s is None or after_s is None else before_s - after_s

    @property
    def came(self) -> bool | None:
        """Whether the expected gain came; None: nothing was expected, or it cannot be told."""
        if self.expected_s is None or self.gained_s is None:
            return None
        return self.gained_s >= CAME * self.expected_s

    @property
    def sentence(self) -> str:
        if self.expected_s is None:
            return "Before, no cause was named: no gain was expected."
        first = self.before.findings[0]
        expected = f"{shown(self.expected_s, 's')} of the {first.delay}"
        if self.gained_s is None:
            return f"Expected to gain {expected}; it cannot be compared."
        gained = shown(self.gained_s, "s")
        if self.came:
            return f"The gain came: {gained}, expected {expected}."
        return f"The gain did not come: {gained}, expected {expected}."


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
