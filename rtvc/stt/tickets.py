"""What the scheduler handles: tickets and batches, how they are lost, the limits it keeps to."""

from dataclasses import dataclass
from enum import Enum

from rtvc.stt.transcriber import SAMPLE_RATE_HZ, Job


class Loss(Enum):
    """How a batch was lost."""

    ERROR = "error"
    """The model said that it cannot."""
    DEATH = "death"
    """The process ended, or hung."""
    MEMORY = "memory"
    """The device had no memory left for it."""
    COMPANY = "company"
    """Another batch had none, and the process was replaced under this one, too."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the scheduler keeps to."""

    max_batch: int = 4
    """Jobs in one inference at most."""
    deep_batch: int | None = None
    """The same of finals while two such batches of them wait: then all go sooner the more are done
    a second, whatever a batch takes; None: as ever."""
    max_partial_batch: int | None = None
    """The same of partials, for which a final may have to wait; None: as any other."""
    mix_kinds: bool = False
    """Whether partials may fill the batch of a final; right where a batch costs little more."""
    starvation_s: float = 1.0
    """Seconds after which a partial goes ahead of finals, if no partial was taken meanwhile."""
    buckets_s: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0, 30.0)
    """Seconds of audio: upper edges of the lengths that may share a batch."""
    max_held: int = 1024
    """Jobs waiting and running at most; when full, a final pushes out a partial, or a
    speculative final, else refuse."""
    partial_batches: int | None = None
    """Batches of partials that may run at once, so that a final finds a free worker; None: any."""
    max_attempts: int = 2
    """Times a job is tried before it fails, if the failure may be its own."""
    final_attempts_at_death: int = 4
    """The same of a final whose process ended or hung each time. More than for others: the words
    are lost with it. Not many: one that kills processes makes everyone wait for new ones."""
    final_attempts_without_memory: int = 12
    """The same of a final that ran alone and found no memory: whoever else has it is to blame."""


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """One job in the scheduler's hands."""

    ticket_id: int
    """Counts up; the order of arrival."""
    job: Job
    """What was asked."""
    since_s: float
    """Instant since which this job, or a partial it replaced, has waited."""
    losses: tuple[Loss, ...] = ()
    """Failed attempts so far, how each was lost."""

    @property
    def attempt(self) -> int:
        """Failed attempts so far; a job tried before runs alone."""
        return len(self.losses)

    @property
    def audio_s(self) -> float:
        return len(self.job.audio) / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Jobs that share one inference."""

    batch_id: int
    """Counts up."""
    tickets: tuple[Ticket, ...]
    """Most urgent first."""
    taken_at_s: float
    """Instant at which a worker took it."""

    @property
    def audio_s(self) -> float:
        return sum(ticket.audio_s for ticket in self.tickets)


@dataclass(slots=True)
class Counts:
    """Jobs by what became of them; each job submitted is in exactly one of the rest."""

    submitted: int = 0
    done: int = 0
    superseded: int = 0
    cancelled: int = 0
    failed: int = 0
    promoted: int = 0
    """Speculative jobs that became the final asked for after them."""
    shed: int = 0
    """Partials given up under overload."""
    retried: int = 0
    """Second attempts; beside the sum, not in it."""
