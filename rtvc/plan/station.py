"""One engine: the real scheduler and the real meter, with inferences that only take time. Pure."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from rtvc.errors import TranscriberError
from rtvc.plan.events import Calendar
from rtvc.plan.processor import Processor
from rtvc.stt.advisor import Advisor
from rtvc.stt.headroom import Advice, BatchCost, LoadMeter, Targets
from rtvc.stt.ladder import Rules
from rtvc.stt.scheduler import Scheduler
from rtvc.stt.tickets import Batch, Limits, Ticket
from rtvc.stt.transcriber import Job

WorkOf = Callable[[Batch], float]
"""Seconds that an inference would take alone."""


class Asker(Protocol):
    """Whoever gave a station its jobs."""

    def answered(self, ticket: Ticket) -> None:
        """A job was answered; as it is now, so a speculative one may have become a final."""

    def lost(self, ticket: Ticket) -> None:
        """A job was superseded and will never run."""


@dataclass(slots=True)
class Served:
    """What a station did."""

    batches: int = 0
    """Inferences."""
    jobs: int = 0
    """Utterances in them."""
    worker_s: float = 0.0
    """Seconds of all workers together."""
    overflows: int = 0
    """Jobs that were refused because too many were held."""


class Station:
    """Takes jobs, and answers them when their time has come."""

    def __init__(
        self,
        calendar: Calendar,
        processor: Processor,
        asker: Asker,
        work_of: WorkOf,
        *,
        workers: int,
        limits: Limits,
        prior: BatchCost | None = None,
        targets: Targets | None = None,
        rules: Rules | None = None,
        watches_headroom: bool = False,
    ) -> None:
        """`watches_headroom`: whether sessions are let in by it, so that it is always known."""
        self._calendar = calendar
        self._processor = processor
        self._asker = asker
        self._work_of = work_of
        self._workers = workers
        self._scheduler = Scheduler(limits)
        self.advisor = Advisor(
            LoadMeter(workers, limits.max_batch, prior=prior, targets=targets),
            self._scheduler,
            rules=rules,
            on_shed=self._lose,
        )
        self._watches_headroom = watches_headroom
        self._running = 0
        # As in the engine's process: one batch may lie there before a worker is free.
        self._ahead: deque[Batch] = deque()
        self.sessions = 0
        """Open."""
        self.served = Served()

    @property
    def advice(self) -> Advice:
        """Good for a moment."""
        self.advisor.renew(self._calendar.now_s, with_headroom=self._watches_headroom)
        return self.advisor.advice

    @property
    def headroom_sessions(self) -> float | None:
        """More sessions that the engine would let in; None: it cannot tell yet."""
        if self._watches_headroom:
            return self.advice.headroom_sessions
        return self.advisor.headroom_sessions(self._calendar.now_s)

    def open_session(self) -> None:
        self.sessions += 1
        self.advisor.opened(self._calendar.now_s)

    def submit(self, job: Job) -> bool:
        """False: it was refused, for too many are held."""
        now_s = self._calendar.now_s
        self.advisor.renew(now_s, with_headroom=self._watches_headroom)
        try:
            _, dropped = self._scheduler.submit(job, now_s)
        except TranscriberError:
            self.served.overflows += 1
            return False
        self.advisor.asked(job.session_id, job.kind, now_s)
        self._lose(dropped)
        self._dispatch()
        return True

    def _lose(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._asker.lost(ticket)

    def _dispatch(self) -> None:
        """Every idle worker gets what it should do now; if all are busy, what comes next."""
        while True:
            spare = self._workers + 1 - self._running - len(self._ahead)
            if spare <= 0:
                return
            scheduler, now_s = self._scheduler, self._calendar.now_s
            batch = scheduler.next_batch(now_s) if spare > 1 else scheduler.next_full_batch(now_s)
            if batch is None:
                return
            if self._running < self._workers:
                self._begin(batch)
            else:
                self._ahead.append(batch)

    def _begin(self, batch: Batch) -> None:
        self._running += 1
        began_s = self._calendar.now_s
        self._processor.run(self._work_of(batch), partial(self._end, batch, began_s))

    def _end(self, batch: Batch, began_s: float) -> None:
        self._running -= 1
        if self._ahead:
            self._begin(self._ahead.popleft())
        now_s = self._calendar.now_s
        self._count(batch, now_s - began_s)
        for ticket in self._scheduler.finish(batch.batch_id):
            waited_s, delay_s = began_s - ticket.since_s, now_s - ticket.since_s
            self.advisor.answered(ticket.job.kind, waited_s, delay_s, now_s)
            self._asker.answered(ticket)
        self._dispatch()

    def _count(self, batch: Batch, seconds: float) -> None:
        self.advisor.served([ticket.job.kind for ticket in batch.tickets], seconds)
        self.served.batches += 1
        self.served.jobs += len(batch.tickets)
        self.served.worker_s += seconds
