"""From findings to an answer: one sentence first, its figures under it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rtvc.profile.diagnose.causes import judge
from rtvc.profile.diagnose.chance import surely_more
from rtvc.profile.diagnose.evidence import Evidence
from rtvc.profile.diagnose.finding import Cause, Finding
from rtvc.profile.diagnose.notes import notes_on
from rtvc.profile.diagnose.reading import read_evidence
from rtvc.profile.diagnose.wording import sentence_of, unseen_in
from rtvc.slo import Objective

HEALTHY, MISSED, UNDECIDED = 0, 99, 3
"""Exit codes."""

ALIKE = [Cause.DEVICE_CONTENTION, Cause.INFERENCE_SATURATED]
"""What others take of a device, and a device that is too small, are not told apart."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found, ranked."""

    evidence: Evidence
    """What it follows from."""
    findings: tuple[Finding, ...]
    """The most expensive first; empty: nothing to name."""
    unseen: tuple[str, ...]
    """What this server, or this place, did not show."""
    notes: tuple[str, ...] = ()
    """What else is to be known: negligible causes, few turns, what no cause explains."""

    @property
    def causes(self) -> list[Cause]:
        """Ranked; healthy is one; empty: too slow or cut off, and nothing measured says why."""
        if self.healthy:
            return [Cause.HEALTHY]
        return [finding.cause for finding in self.findings]

    @property
    def healthy(self) -> bool:
        return not self.findings and not self.missed and not self.interrupted

    @property
    def interrupted(self) -> bool:
        """Whether somebody stopped it: nothing is judged then."""
        return self.evidence.interrupted

    @property
    def void(self) -> bool:
        """Whether the load generator was too late for anything to follow."""
        return any(finding.cause is Cause.GENERATOR_SATURATED for finding in self.findings)

    @property
    def missed(self) -> bool:
        """Whether a target was surely missed, or answers were lost."""
        evidence = self.evidence
        turns = sum(len(phase.judged) for phase in evidence.phases)
        lost = surely_more(sum(phase.finals_missing for phase in evidence.phases), turns)
        unconnected = any(phase.attempts and not phase.connections_s for phase in evidence.phases)
        return evidence.delay_missed or evidence.connection_missed or lost or unconnected

    @property
    def indistinct(self) -> bool:
        """Whether the first two causes would look the same."""
        return [finding.cause for finding in self.findings[:2]] == ALIKE

    @property
    def undecided(self) -> bool:
        unexplained = self.missed and not self.findings
        return self.void or self.interrupted or self.indistinct or unexplained

    @property
    def sentence(self) -> str:
        return sentence_of(
            self.evidence, self.findings, missed=self.missed, indistinct=self.indistinct
        )

    @property
    def exit_code(self) -> int:
        if self.undecided:
            return UNDECIDED
        return MISSED if self.findings else HEALTHY


def diagnose(
    folder: Path, objectives: Sequence[Objective] = (), *, interrupted: bool = False
) -> Diagnosis:
    """From the folder of a diagnosis or of a single run.

    `interrupted`: somebody stopped it just now, whatever the folder says.

    Raises:
        RecordError: it holds no run, or one that cannot be read.
        UsageError: it is not there.
    """
    evidence = read_evidence(folder, objectives)
    return diagnosis_of(replace(evidence, interrupted=evidence.interrupted or interrupted))


def diagnosis_of(evidence: Evidence) -> Diagnosis:
    found = judge(evidence)
    notes = notes_on(evidence, found)
    return Diagnosis(evidence, found.named, tuple(unseen_in(evidence)), tuple(notes))
