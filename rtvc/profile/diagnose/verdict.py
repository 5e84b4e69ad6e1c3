"""From findings to an answer: one sentence first, its figures under it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtvc.profile.diagnose.causes import find
from rtvc.profile.diagnose.evidence import Evidence, surely_more
from rtvc.profile.diagnose.finding import Cause, Finding
from rtvc.profile.diagnose.reading import read_evidence
from rtvc.profile.diagnose.wording import sentence_of, unseen_in
from rtvc.slo import Objective

HEALTHY, MISSED, UNDECIDED = 0, 99, 3
"""Exit codes."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found, ranked."""

    evidence: Evidence
    """What it follows from."""
    findings: tuple[Finding, ...]
    """The most expensive first; empty: nothing to name."""
    unseen: tuple[str, ...]
    """What this server, or this place, did not show."""

    @property
    def causes(self) -> list[Cause]:
        """Ranked; healthy is one; empty: too slow, and nothing measured says why."""
        if self.healthy:
            return [Cause.HEALTHY]
        return [finding.cause for finding in self.findings]

    @property
    def healthy(self) -> bool:
        return not self.findings and not self.missed

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
    def undecided(self) -> bool:
        return self.void or (self.missed and not self.findings)

    @property
    def sentence(self) -> str:
        return sentence_of(self.evidence, self.findings, missed=self.missed)

    @property
    def exit_code(self) -> int:
        if self.undecided:
            return UNDECIDED
        return MISSED if self.findings else HEALTHY


def diagnose(folder: Path, objectives: Sequence[Objective] = ()) -> Diagnosis:
    """From the folder of a diagnosis or of a single run.

    Raises:
        RecordError: it holds no run, or one that cannot be read.
        UsageError: it is not there.
    """
    return diagnosis_of(read_evidence(folder, objectives))


def diagnosis_of(evidence: Evidence) -> Diagnosis:
    return Diagnosis(evidence, tuple(find(evidence)), tuple(unseen_in(evidence)))
