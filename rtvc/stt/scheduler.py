"""Which jobs run next, in which batch: pure, without a clock, a thread or a model.

Finals go first over all sessions, then speculative finals, then partials. A partial that has
starved leads a batch now and then. A session has at most one partial running and one waiting:
a newer one takes over the place, and the age, of the one it replaces. A final asked for while the
speculative job of its revision waits or runs is that job, promoted: nothing runs twice.
"""

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, count

from rtvc.errors import TranscriberError
from rtvc.stt.tickets import Batch, Counts, Limits, Loss, Ticket
from rtvc.stt.transcriber import Job, JobKind

_RANK = {JobKind.FINAL: 0, JobKind.SPECULATIVE: 1, JobKind.PARTIAL: 2}


@dataclass(slots=True)
class _Lane:
    """One session's jobs."""

    waiting: dict[int, Ticket] = field(default_factory=dict)
    running: dict[int, Ticket] = field(default_factory=dict)
    partials_running: int = 0
    """Of this session in a worker's hands, cancelled ones too."""

    def tickets(self) -> list[Ticket]:
        return [*self.waiting.values(), *self.running.values()]


class Scheduler:
    """Feed it with `submit`, drain it with `next_batch`, tell it how each batch ended."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.counts = Counts()
        self.takes_partials = True
        """Set by the caller: under overload partials end where they are asked for."""
        self._ticket_ids = count()
        self._batch_ids = count()
        self._lanes: dict[str, _Lane] = {}
        self._finals: dict[int, Ticket] = {}
        self._speculatives: dict[int, Ticket] = {}
        # Keyed by session: a newer partial takes the place of the older one in the row.
        self._partials: dict[str, Ticket] = {}
        self._batches: dict[int, Batch] = {}
        self._cancelled: set[int] = set()
        self._partials_taken_at_s = -math.inf

    @property
    def waiting(self) -> int:
        """Jobs waiting."""
        return len(self._finals) + len(self._speculatives) + len(self._partials)

    @property
    def urgent_waiting(self) -> int:
        """Finals and speculative finals waiting."""
        return len(self._finals) + len(self._speculatives)

    @property
    def urgent_since_s(self) -> float | None:
        """Since when the oldest of them waits; None: there is none."""
        rows = (self._finals, self._speculatives)
        return min((next(iter(row.values())).since_s for row in rows if row), default=None)

    @property
    def running(self) -> int:
        """Jobs running whose answers still count."""
        held = sum(len(batch.tickets) for batch in self._batches.values())
        return held - len(self._cancelled)

    @property
    def backlog_s(self) -> float:
        """Seconds of audio waiting."""
        return sum((ticket.audio_s for ticket in self._by_urgency()), 0.0)

    def submit(self, job: Job, now_s: float) -> tuple[Ticket, list[Ticket]]:
        """Take a job in. Returns its ticket and those that will never run because of it.

        A stale job is among the latter itself. A final that a speculative job of the same
        revision is promoted to gets that job's ticket.

        Raises:
            TranscriberError: too many jobs are held.
        """
        if job.kind is JobKind.PARTIAL and not self.takes_partials:
            return self._shed(job, now_s)
        tried = self._speculation_on(job)
        pushed_out = [] if tried else self._make_room(job)
        self.counts.submitted += 1
        ticket = Ticket(next(self._ticket_ids), job, now_s)
        if tried and not self._is_stale(ticket):
            return self._promote(tried, ticket)
        dropped = [*pushed_out, *self._place(ticket)]
        self.counts.superseded += len(dropped)
        return ticket, dropped

    def _shed(self, job: Job, now_s: float) -> tuple[Ticket, list[Ticket]]:
        self.counts.submitted += 1
        self.counts.shed += 1
        ticket = Ticket(next(self._ticket_ids), job, now_s)
        return ticket, [ticket]

    def shed_partials(self) -> list[Ticket]:
        """Drop all partials that wait; those that run are nearly done. Returns their tickets."""
        dropped = [*self._partials.values()]
        for ticket in dropped:
            self._remove(ticket)
        self.counts.shed += len(dropped)
        return dropped

    def next_batch(self, now_s: float) -> Batch | None:
        """What an idle worker should do now; None: nothing."""
        lead = self._lead(now_s)
        if lead is None:
            return None
        tickets = (lead, *self._company(lead))
        batch = Batch(next(self._batch_ids), tickets, now_s)
        self._batches[batch.batch_id] = batch
        for ticket in tickets:
            self._start(ticket)
            if ticket.job.kind is JobKind.PARTIAL:
                self._partials_taken_at_s = now_s
        return batch

    def next_full_batch(self, now_s: float) -> Batch | None:
        """What a worker will do next, while all are busy; None: it is not settled yet.

        A full batch of finals is: no job that comes meanwhile would go before it, or into it.
        """
        lead = self._lead(now_s)
        if lead is None or lead.job.kind is not JobKind.FINAL or lead.attempt:
            return None
        company = self._company(lead)
        full = len(company) + 1 == self._most_like(lead)
        if not full or any(ticket.job.kind is not JobKind.FINAL for ticket in company):
            return None
        return self.next_batch(now_s)

    def finish(self, batch_id: int) -> list[Ticket]:
        """A batch was answered. Returns the tickets whose answers still count."""
        answered = self._end(batch_id)
        self.counts.done += len(answered)
        return answered

    def retry(self, batch_id: int, loss: Loss = Loss.ERROR) -> tuple[list[Ticket], list[Ticket]]:
        """A batch was lost. Returns the tickets given up as failed, and as superseded."""
        failed: list[Ticket] = []
        superseded: list[Ticket] = []
        # Each is put in front of its row, so the last goes first.
        for ticket in reversed(self._end(batch_id)):
            again = replace(ticket, losses=(*ticket.losses, loss))
            if self._hopeless(again, loss):
                failed.append(ticket)
            else:
                self.counts.retried += 1
                # One that was lost so often may be the reason: others go first.
                suspect = again.attempt >= self.limits.max_attempts
                superseded += self._place(again, in_front=not suspect)
        self.counts.failed += len(failed)
        self.counts.superseded += len(superseded)
        return failed, superseded

    def _hopeless(self, ticket: Ticket, loss: Loss) -> bool:
        """Whether it was lost for the last time. Of a final each kind of loss is counted by itself:
        a device without memory does not make the next crash its fault."""
        limits = self.limits
        if ticket.job.kind is not JobKind.FINAL:
            return ticket.attempt >= limits.max_attempts
        most = {
            Loss.ERROR: limits.max_attempts,
            Loss.DEATH: limits.final_attempts_at_death,
            Loss.MEMORY: limits.final_attempts_without_memory,
        }
        # Company is no limit: whoever had no memory is counted, and does not come back for ever.
        return loss in most and ticket.losses.count(loss) >= most[loss]

    def cancel_session(self, session_id: str) -> list[Ticket]:
        """Drop all jobs of a session, running ones too. Returns their tickets."""
        lane = self._lanes.get(session_id)
        if lane is None:
            return []
        return [ticket for ticket in lane.tickets() if self.cancel(ticket)]

    def cancel(self, ticket: Ticket) -> bool:
        """Drop one job. False if it had ended before."""
        lane = self._lanes.get(ticket.job.session_id)
        if lane is None:
            return False
        if ticket.ticket_id in lane.waiting:
            self._remove(lane.waiting[ticket.ticket_id])
        elif ticket.ticket_id in lane.running and ticket.ticket_id not in self._cancelled:
            self._cancelled.add(ticket.ticket_id)
        else:
            return False
        self.counts.cancelled += 1
        return True

    def drain(self) -> list[Ticket]:
        """Cancel everything. Returns the tickets."""
        return [
            ticket for session_id in [*self._lanes] for ticket in self.cancel_session(session_id)
        ]

    def _make_room(self, job: Job) -> list[Ticket]:
        limit = self.limits.max_held
        if self.waiting + self.running < limit or self._replaces_partial(job):
            return []
        needless = next(chain(self._partials.values(), self._speculatives.values()), None)
        if job.kind is not JobKind.FINAL or needless is None:
            raise TranscriberError(
                f"expected at most {limit} jobs for speech-to-text at once, all are taken"
            )
        self._remove(needless)
        return [needless]

    def _speculation_on(self, job: Job) -> Ticket | None:
        """The speculative job, waiting or running, whose answer this final asks for."""
        if job.kind is not JobKind.FINAL or job.session_id not in self._lanes:
            return None
        lane = self._lanes[job.session_id]
        for ticket in [*lane.running.values(), *lane.waiting.values()]:
            same = ticket.job.item_id == job.item_id and ticket.job.revision == job.revision
            live = ticket.ticket_id not in self._cancelled
            if same and live and ticket.job.kind is JobKind.SPECULATIVE:
                return ticket
        return None

    def _promote(self, tried: Ticket, asked: Ticket) -> tuple[Ticket, list[Ticket]]:
        """The speculative job goes on as the final; what the final makes needless is dropped."""
        lane = self._lanes[tried.job.session_id]
        final = replace(tried, job=replace(tried.job, kind=JobKind.FINAL))
        if tried.ticket_id in lane.running:
            lane.running[tried.ticket_id] = final
        else:
            del self._speculatives[tried.ticket_id]
            self._enqueue(final, in_front=False)
        waiting = [other for other in lane.waiting.values() if other is not final]
        dropped = [other for other in waiting if _supersedes(asked, other)]
        for other in dropped:
            self._remove(other)
        self.counts.promoted += 1
        self.counts.superseded += len(dropped)
        return final, dropped

    def _is_stale(self, ticket: Ticket) -> bool:
        lane = self._lanes.get(ticket.job.session_id)
        return lane is not None and any(_makes_stale(other, ticket) for other in lane.tickets())

    def _replaces_partial(self, job: Job) -> bool:
        return job.session_id in self._partials and job.kind is not JobKind.SPECULATIVE

    def _place(self, ticket: Ticket, *, in_front: bool = False) -> list[Ticket]:
        lane = self._lanes.setdefault(ticket.job.session_id, _Lane())
        if self._is_stale(ticket):
            self._forget_if_empty(ticket.job.session_id)
            return [ticket]
        dropped = [other for other in lane.waiting.values() if _supersedes(ticket, other)]
        self._enqueue(ticket, in_front=in_front)
        for other in dropped:
            self._remove(other)
        return dropped

    def _enqueue(self, ticket: Ticket, *, in_front: bool) -> None:
        self._lanes[ticket.job.session_id].waiting[ticket.ticket_id] = ticket
        if ticket.job.kind is JobKind.PARTIAL:
            self._enqueue_partial(ticket, in_front=in_front)
            return
        row = self._row(ticket)
        if in_front:
            later = dict(row)
            row.clear()
            row[ticket.ticket_id] = ticket
            row.update(later)
        else:
            row[ticket.ticket_id] = ticket

    def _enqueue_partial(self, ticket: Ticket, *, in_front: bool) -> None:
        session_id = ticket.job.session_id
        older = self._partials.get(session_id)
        if older is not None:
            ticket = replace(ticket, since_s=min(older.since_s, ticket.since_s))
            self._lanes[session_id].waiting[ticket.ticket_id] = ticket
        if in_front:
            self._partials = {session_id: ticket, **self._partials}
        self._partials[session_id] = ticket

    def _row(self, ticket: Ticket) -> dict[int, Ticket]:
        return self._finals if ticket.job.kind is JobKind.FINAL else self._speculatives

    def _remove(self, ticket: Ticket) -> None:
        """Take a waiting ticket out of its row and lane."""
        session_id = ticket.job.session_id
        del self._lanes[session_id].waiting[ticket.ticket_id]
        if ticket.job.kind is not JobKind.PARTIAL:
            del self._row(ticket)[ticket.ticket_id]
        elif self._partials[session_id].ticket_id == ticket.ticket_id:
            del self._partials[session_id]
        self._forget_if_empty(session_id)

    def _forget_if_empty(self, session_id: str) -> None:
        lane = self._lanes[session_id]
        if not lane.waiting and not lane.running:
            del self._lanes[session_id]

    def _may_lead_partials(self) -> bool:
        limit = self.limits.partial_batches
        if limit is None:
            return True
        led = sum(batch.tickets[0].job.kind is JobKind.PARTIAL for batch in self._batches.values())
        return led < limit

    def _leading_partials(self) -> Iterator[Ticket]:
        return self._ready_partials() if self._may_lead_partials() else iter(())

    def _ready_partials(self) -> Iterator[Ticket]:
        for session_id, ticket in self._partials.items():
            if not self._lanes[session_id].partials_running:
                yield ticket

    def _by_urgency(self) -> Iterator[Ticket]:
        yield from self._finals.values()
        yield from self._speculatives.values()
        yield from self._partials.values()

    def _lead(self, now_s: float) -> Ticket | None:
        urgent = next(iter(self._finals.values()), None)
        urgent = urgent or next(iter(self._speculatives.values()), None)
        if urgent is None:
            return next(self._leading_partials(), None)
        return self._starved(now_s) or urgent

    def _starved(self, now_s: float) -> Ticket | None:
        bound_s = self.limits.starvation_s
        if now_s - self._partials_taken_at_s < bound_s:
            return None  # it is other partials that this one waits for
        return next((t for t in self._leading_partials() if now_s - t.since_s >= bound_s), None)

    def _company(self, lead: Ticket) -> list[Ticket]:
        """Jobs that may share the lead's inference: the most urgent, and those most like it."""
        room = self._most_like(lead) - 1
        if lead.attempt or not room:
            return []
        fitting = [
            ticket
            for ticket in self._candidates(lead)
            if ticket is not lead and not ticket.attempt and self._compatible(lead, ticket)
        ]
        if len(fitting) > room:
            # All wait for the longest. Nobody starves: the oldest of a kind leads the next batch.
            fitting.sort(key=lambda t: (_RANK[t.job.kind], abs(t.audio_s - lead.audio_s)))
        return fitting[:room]

    def _most_like(self, lead: Ticket) -> int:
        """Jobs in a batch that this one leads."""
        limits, most = self.limits, self.limits.max_batch
        if lead.job.kind is JobKind.PARTIAL:
            return min(limits.max_partial_batch or most, most)
        deep = limits.deep_batch or most
        return deep if len(self._finals) >= 2 * deep else most

    def _candidates(self, lead: Ticket) -> Iterator[Ticket]:
        if self.limits.mix_kinds or lead.job.kind is not JobKind.PARTIAL:
            yield from self._finals.values()
            yield from self._speculatives.values()
        if self.limits.mix_kinds or lead.job.kind is JobKind.PARTIAL:
            yield from self._ready_partials()

    def _compatible(self, lead: Ticket, other: Ticket) -> bool:
        return self._shape(lead) == self._shape(other)

    def _shape(self, ticket: Ticket) -> Hashable:
        """Jobs of one shape may share an inference: all prompts in it must be equally long."""
        edges_s = self.limits.buckets_s
        bucket = sum(ticket.audio_s > edge_s for edge_s in edges_s)
        return ticket.job.language, ticket.job.prompt, bucket

    def _start(self, ticket: Ticket) -> None:
        lane = self._lanes[ticket.job.session_id]
        lane.running[ticket.ticket_id] = ticket
        lane.partials_running += ticket.job.kind is JobKind.PARTIAL
        self._remove(ticket)

    def _end(self, batch_id: int) -> list[Ticket]:
        """Take a batch out of the workers' hands. Returns the tickets not cancelled meanwhile."""
        batch = self._batches.pop(batch_id)
        # From the lanes, where a speculative job may have become a final meanwhile.
        ended = [self._leave_lane(ticket) for ticket in batch.tickets]
        live = [ticket for ticket in ended if ticket.ticket_id not in self._cancelled]
        self._cancelled -= {ticket.ticket_id for ticket in batch.tickets}
        return live

    def _leave_lane(self, ticket: Ticket) -> Ticket:
        session_id = ticket.job.session_id
        lane = self._lanes[session_id]
        ended = lane.running.pop(ticket.ticket_id)
        lane.partials_running -= ended.job.kind is JobKind.PARTIAL
        self._forget_if_empty(session_id)
        return ended


def _makes_stale(other: Ticket, ticket: Ticket) -> bool:
    """Whether `ticket` is out of date beside `other` of its session, waiting or running."""
    ours, theirs = ticket.job, other.job
    # A second attempt may find that its session has moved on.
    if ours.kind is JobKind.PARTIAL and other.ticket_id > ticket.ticket_id:
        return theirs.kind is not JobKind.SPECULATIVE
    if ours.item_id != theirs.item_id:
        return False
    if ours.kind is theirs.kind:
        return theirs.revision > ours.revision
    return theirs.kind is JobKind.FINAL and theirs.revision >= ours.revision


def _supersedes(ticket: Ticket, other: Ticket) -> bool:
    """Whether `ticket` makes a waiting job of its session needless."""
    ours, theirs = ticket.job, other.job
    if other.ticket_id > ticket.ticket_id:
        return False
    if theirs.kind is JobKind.PARTIAL:
        return ours.kind is not JobKind.SPECULATIVE
    same_item = ours.item_id == theirs.item_id
    return same_item and _RANK[ours.kind] <= _RANK[theirs.kind] and ours.revision >= theirs.revision
