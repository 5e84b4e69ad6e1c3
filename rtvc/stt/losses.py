"""What is logged when the engine's process is replaced: why, and what became of its jobs."""

import signal
from dataclasses import dataclass

from rtvc.stt.tickets import Counts

OUT_OF_MEMORY = "it ran out of memory"


def times_of(attempts: int) -> str:
    """
    >>> times_of(2), times_of(4)
    ('twice', '4 times')
    """
    return {1: "once", 2: "twice"}.get(attempts, f"{attempts} times")


def ended(exit_code: int | None) -> str:
    """How a process ended.

    >>> ended(-9), ended(70), ended(None)
    ('killed by signal 9 (SIGKILL)', 'its process ended with exit code 70', 'its process ended')
    """
    if exit_code is None:
        return "its process ended"
    if exit_code >= 0:
        return f"its process ended with exit code {exit_code}"
    try:
        name = f" ({signal.Signals(-exit_code).name})"
    except ValueError:
        name = ""
    return f"killed by signal {-exit_code}{name}"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Jobs by what became of them, up to an instant."""

    retried: int
    """Taken up a second time."""
    failed: int
    """Given up."""

    @classmethod
    def of(cls, counts: Counts) -> "Outcomes":
        return cls(counts.retried, counts.failed)

    def since(self, earlier: "Outcomes") -> "Outcomes":
        return Outcomes(self.retried - earlier.retried, self.failed - earlier.failed)


def told(why: str, jobs: Outcomes) -> str:
    """One line; nothing that anybody said is in it.

    >>> told("no answer within 10 s", Outcomes(retried=2, failed=1))
    'the speech-to-text engine is restarted: no answer within 10 s; its jobs: 2 retried, 1 failed'
    """
    parts = [f"{n} {what}" for n, what in ((jobs.retried, "retried"), (jobs.failed, "failed")) if n]
    became = f"its jobs: {', '.join(parts)}" if parts else "no job was lost"
    return f"the speech-to-text engine is restarted: {why}; {became}"
