"""The scheduler: nothing is lost, finals first, partials neither pile up nor starve."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import TranscriberError
from rtvc.stt.scheduler import Scheduler
from rtvc.stt.tickets import Batch, Limits, Loss, Ticket
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, Job, JobKind

FINAL, SPECULATIVE, PARTIAL = JobKind.FINAL, JobKind.SPECULATIVE, JobKind.PARTIAL


def make_job(
    session: str = "a",
    kind: JobKind = PARTIAL,
    revision: int = 1,
    *,
    item: str = "1",
    seconds: float = 1.0,
    at_s: float = 0.0,
    language: str | None = None,
    prompt: str | None = None,
) -> Job:
    audio = np.broadcast_to(np.float32(0), round(seconds * SAMPLE_RATE_HZ))
    return Job(session, item, kind, revision, audio, at_s, language, prompt)


def ids(tickets: Sequence[Ticket]) -> list[int]:
    return [ticket.ticket_id for ticket in tickets]


def taken(scheduler: Scheduler, now_s: float = 0.0) -> Batch:
    batch = scheduler.next_batch(now_s)
    assert batch is not None
    return batch


def names(batch: Batch | None) -> list[str]:
    return [] if batch is None else [f"{t.job.session_id}:{t.job.kind}" for t in batch.tickets]


# Order


def test_an_idle_worker_gets_the_first_job_at_once() -> None:
    scheduler = Scheduler()
    assert scheduler.next_batch(0.0) is None
    scheduler.submit(make_job(at_s=5.0), 5.0)
    assert names(scheduler.next_batch(5.0)) == ["a:partial"]
    assert scheduler.next_batch(5.0) is None


def test_finals_go_first_over_all_sessions() -> None:
    scheduler = Scheduler(Limits(max_batch=1))
    scheduler.submit(make_job("a"), 0.0)
    scheduler.submit(make_job("b", SPECULATIVE), 0.1)
    scheduler.submit(make_job("c", FINAL), 0.2)
    order = [names(scheduler.next_batch(0.3))[0] for _ in range(3)]
    assert order == ["c:final", "b:speculative", "a:partial"]


def test_jobs_of_several_sessions_share_a_batch_up_to_its_size() -> None:
    scheduler = Scheduler(Limits(max_batch=3))
    for session in "abcd":
        scheduler.submit(make_job(session, FINAL), 0.0)
    assert len(taken(scheduler).tickets) == 3
    assert names(scheduler.next_batch(0.0)) == ["d:final"]


@pytest.mark.parametrize(
    "other",
    [
        make_job("b", FINAL, seconds=3.0),
        make_job("b", FINAL, language="de"),
        make_job("b", FINAL, prompt="names"),
    ],
)
def test_jobs_of_another_shape_run_apart(other: Job) -> None:
    scheduler = Scheduler()
    scheduler.submit(make_job("a", FINAL), 0.0)
    scheduler.submit(other, 0.0)
    assert names(scheduler.next_batch(0.0)) == ["a:final"]
    assert names(scheduler.next_batch(0.0)) == ["b:final"]


@pytest.mark.parametrize("mixed", [False, True])
def test_partials_fill_a_finals_batch_only_where_that_is_cheap(mixed: bool) -> None:
    scheduler = Scheduler(Limits(mix_kinds=mixed))
    scheduler.submit(make_job("a"), 0.0)
    scheduler.submit(make_job("b", FINAL), 0.0)
    expected = ["b:final", "a:partial"] if mixed else ["b:final"]
    assert names(scheduler.next_batch(0.0)) == expected


def test_of_many_that_fit_those_nearest_in_length_share_the_leads_batch() -> None:
    scheduler = Scheduler(Limits(max_batch=2))
    for session, seconds in (("a", 1.0), ("b", 1.9), ("c", 1.1)):
        scheduler.submit(make_job(session, FINAL, seconds=seconds), 0.0)
    assert names(scheduler.next_batch(0.0)) == ["a:final", "c:final"]
    # The one passed over leads the next, whatever is nearer to whom.
    scheduler.submit(make_job("d", FINAL, seconds=1.0), 0.0)
    assert names(scheduler.next_batch(0.0)) == ["b:final", "d:final"]


def test_a_final_never_gives_way_to_a_speculation_of_its_leads_length() -> None:
    scheduler = Scheduler(Limits(max_batch=2))
    scheduler.submit(make_job("a", FINAL, seconds=1.0), 0.0)
    scheduler.submit(make_job("b", SPECULATIVE, seconds=1.0), 0.0)
    scheduler.submit(make_job("c", FINAL, seconds=2.0), 0.0)
    assert names(scheduler.next_batch(0.0)) == ["a:final", "c:final"]


def test_batches_of_partials_may_be_kept_smaller() -> None:
    scheduler = Scheduler(Limits(max_batch=4, max_partial_batch=2))
    for kind in (PARTIAL, FINAL):
        for session in "abc":
            scheduler.submit(make_job(f"{session}{kind}", kind), 0.0)
    assert len(taken(scheduler).tickets) == 3
    assert len(taken(scheduler).tickets) == 2


def test_batches_of_finals_are_larger_while_many_wait() -> None:
    scheduler = Scheduler(Limits(max_batch=1, deep_batch=2))
    for session in "abcde":
        scheduler.submit(make_job(session, FINAL), 0.0)
    sizes = [len(taken(scheduler).tickets) for _ in range(4)]
    assert sizes == [2, 1, 1, 1]


def test_a_deep_row_of_speculations_or_partials_changes_nothing() -> None:
    scheduler = Scheduler(Limits(max_batch=1, deep_batch=2))
    for kind in (SPECULATIVE, PARTIAL):
        for session in "abcde":
            scheduler.submit(make_job(f"{session}{kind}", kind), 0.0)
    assert {len(taken(scheduler).tickets) for _ in range(10)} == {1}


def test_only_a_full_batch_of_finals_is_settled_ahead() -> None:
    scheduler = Scheduler(Limits(max_batch=2))
    scheduler.submit(make_job("p"), 0.0)
    scheduler.submit(make_job("a", FINAL), 0.0)
    scheduler.submit(make_job("s", SPECULATIVE), 0.0)
    assert scheduler.next_full_batch(0.0) is None
    assert scheduler.waiting == 3
    scheduler.submit(make_job("b", FINAL), 0.0)
    assert names(scheduler.next_full_batch(0.0)) == ["a:final", "b:final"]
    assert scheduler.next_full_batch(0.0) is None


# Latest wins


def test_a_newer_partial_replaces_the_waiting_one() -> None:
    scheduler = Scheduler()
    first, _ = scheduler.submit(make_job(revision=1), 0.0)
    second, dropped = scheduler.submit(make_job(revision=2), 0.1)
    assert ids(dropped) == [first.ticket_id]
    assert ids(taken(scheduler).tickets) == [second.ticket_id]


def test_a_newer_partial_waits_for_the_running_one() -> None:
    scheduler = Scheduler()
    scheduler.submit(make_job(revision=1), 0.0)
    running = taken(scheduler)
    scheduler.submit(make_job(revision=2), 0.1)
    assert scheduler.next_batch(0.1) is None
    scheduler.finish(running.batch_id)
    assert [t.job.revision for t in taken(scheduler).tickets] == [2]


def test_a_newer_partial_keeps_the_place_of_the_one_it_replaces() -> None:
    scheduler = Scheduler(Limits(max_batch=1))
    scheduler.submit(make_job("a"), 0.0)
    scheduler.submit(make_job("b"), 0.1)
    scheduler.submit(make_job("a", revision=2), 0.2)
    assert names(scheduler.next_batch(0.3)) == ["a:partial"]


def test_a_final_drops_the_sessions_partials_and_older_speculation() -> None:
    scheduler = Scheduler()
    speculative, _ = scheduler.submit(make_job(kind=SPECULATIVE, revision=1), 0.0)
    partial, _ = scheduler.submit(make_job(revision=2), 0.0)
    other, _ = scheduler.submit(make_job("b", revision=2), 0.0)
    final, dropped = scheduler.submit(make_job(kind=FINAL, revision=3), 0.0)
    assert sorted(ids(dropped)) == [speculative.ticket_id, partial.ticket_id]
    assert ids(taken(scheduler).tickets) == [final.ticket_id]
    assert ids(taken(scheduler).tickets) == [other.ticket_id]


def test_speculation_on_another_item_survives_a_final() -> None:
    scheduler = Scheduler()
    scheduler.submit(make_job(kind=SPECULATIVE, item="2"), 0.0)
    _, dropped = scheduler.submit(make_job(kind=FINAL, item="1"), 0.0)
    assert dropped == []


def test_a_stale_job_is_turned_away() -> None:
    scheduler = Scheduler()
    scheduler.submit(make_job(kind=FINAL, revision=3), 0.0)
    partial, dropped = scheduler.submit(make_job(revision=2), 0.0)
    assert ids(dropped) == [partial.ticket_id]
    older, dropped = scheduler.submit(make_job(kind=FINAL, revision=2), 0.0)
    assert ids(dropped) == [older.ticket_id]


# Promotion


def test_a_waiting_speculation_becomes_the_final_that_is_asked_for() -> None:
    scheduler = Scheduler(Limits(max_batch=1))
    tried, _ = scheduler.submit(make_job(kind=SPECULATIVE, revision=4, seconds=1.0), 0.0)
    scheduler.submit(make_job("b", SPECULATIVE), 0.0)
    partial, _ = scheduler.submit(make_job("a", revision=3), 0.1)
    final, dropped = scheduler.submit(make_job(kind=FINAL, revision=4, seconds=1.2), 0.2)
    assert final.ticket_id == tried.ticket_id
    assert ids(dropped) == [partial.ticket_id]
    first = taken(scheduler)
    assert names(first) == ["a:final"]
    assert first.tickets[0].audio_s == pytest.approx(1.0)
    assert [t.job.kind for t in scheduler.finish(first.batch_id)] == [FINAL]
    assert names(scheduler.next_batch(0.3)) == ["b:speculative"]
    assert scheduler.next_batch(0.3) is None
    counts = scheduler.counts
    assert (counts.submitted, counts.promoted, counts.done, counts.superseded) == (4, 1, 1, 1)


def test_a_running_speculation_answers_the_final_that_is_asked_for() -> None:
    scheduler = Scheduler()
    tried, _ = scheduler.submit(make_job(kind=SPECULATIVE, revision=4), 0.0)
    running = taken(scheduler)
    final, _ = scheduler.submit(make_job(kind=FINAL, revision=4), 0.2)
    assert final.ticket_id == tried.ticket_id
    assert scheduler.next_batch(0.2) is None
    assert ids(scheduler.finish(running.batch_id)) == [tried.ticket_id]


def test_a_promoted_job_that_is_lost_is_tried_again_as_a_final() -> None:
    scheduler = Scheduler(Limits(max_batch=1))
    scheduler.submit(make_job(kind=SPECULATIVE, revision=4), 0.0)
    running = taken(scheduler)
    scheduler.submit(make_job(kind=FINAL, revision=4), 0.2)
    scheduler.submit(make_job("b", FINAL), 0.2)
    scheduler.retry(running.batch_id)
    assert names(scheduler.next_batch(0.3)) == ["a:final"]


@pytest.mark.parametrize("change", [{"revision": 5}, {"item": "2"}])
def test_a_final_of_something_else_runs_for_itself(change: dict[str, Any]) -> None:
    scheduler = Scheduler()
    tried, _ = scheduler.submit(make_job(kind=SPECULATIVE, revision=4), 0.0)
    taken(scheduler)
    wanted = {"revision": 4, **change}
    final, _ = scheduler.submit(make_job(kind=FINAL, **wanted), 0.2)
    assert final.ticket_id != tried.ticket_id
    assert ids(taken(scheduler).tickets) == [final.ticket_id]


def test_a_cancelled_speculation_is_not_promoted() -> None:
    scheduler = Scheduler()
    tried, _ = scheduler.submit(make_job(kind=SPECULATIVE, revision=4), 0.0)
    taken(scheduler)
    scheduler.cancel(tried)
    final, _ = scheduler.submit(make_job(kind=FINAL, revision=4), 0.2)
    assert ids(taken(scheduler).tickets) == [final.ticket_id]


# Starvation


def test_a_partial_goes_ahead_of_finals_once_in_a_while() -> None:
    scheduler = Scheduler(Limits(max_batch=1, starvation_s=1.0))
    for session in "xyz":
        scheduler.submit(make_job(session), 0.0)
    for number in range(12):
        scheduler.submit(make_job(f"f{number}", FINAL), 0.0)
    order = "".join(
        "p" if "partial" in names(scheduler.next_batch(0.9 + step / 4))[0] else "f"
        for step in range(10)
    )
    assert order == "fpfffpfffp"


def test_partials_that_wait_for_one_another_do_not_go_ahead_of_finals() -> None:
    scheduler = Scheduler(Limits(max_batch=1, starvation_s=1.0))
    for session in "wxyz":
        scheduler.submit(make_job(session), 0.0)
    assert names(scheduler.next_batch(1.5)) == ["w:partial"]
    scheduler.submit(make_job("f", FINAL), 2.0)
    assert names(scheduler.next_batch(2.0)) == ["f:final"]


def test_renewing_a_partial_does_not_make_it_young_again() -> None:
    scheduler = Scheduler(Limits(max_batch=1, starvation_s=1.0))
    for step in range(12):
        scheduler.submit(make_job("a", revision=step), step / 10)
    scheduler.submit(make_job("f", FINAL), 1.1)
    assert names(scheduler.next_batch(1.1)) == ["a:partial"]


# Cancelling, retrying, limits


def test_cancelling_a_session_drops_what_waits_and_what_runs() -> None:
    scheduler = Scheduler(Limits(max_batch=1))
    running, _ = scheduler.submit(make_job("a", FINAL), 0.0)
    batch = taken(scheduler)
    waiting, _ = scheduler.submit(make_job("a", item="2"), 0.0)
    scheduler.submit(make_job("b"), 0.0)
    assert sorted(ids(scheduler.cancel_session("a"))) == [running.ticket_id, waiting.ticket_id]
    assert scheduler.cancel_session("a") == []
    assert scheduler.finish(batch.batch_id) == []
    assert (scheduler.counts.cancelled, scheduler.counts.done) == (2, 0)
    assert names(scheduler.next_batch(0.0)) == ["b:partial"]


def test_a_lost_batch_is_tried_again_in_front_and_one_by_one() -> None:
    scheduler = Scheduler(Limits(max_batch=2))
    for session in "abc":
        scheduler.submit(make_job(session, FINAL), 0.0)
    lost = taken(scheduler)
    assert scheduler.retry(lost.batch_id) == ([], [])
    assert [names(scheduler.next_batch(0.0)) for _ in range(3)] == [
        ["a:final"],
        ["b:final"],
        ["c:final"],
    ]


def test_a_job_lost_twice_fails() -> None:
    scheduler = Scheduler()
    ticket, _ = scheduler.submit(make_job(), 0.0)
    scheduler.retry(taken(scheduler).batch_id)
    failed, superseded = scheduler.retry(taken(scheduler).batch_id)
    assert ids(failed) == [ticket.ticket_id]
    assert superseded == []
    assert scheduler.waiting == 0


@pytest.mark.parametrize(
    ("kind", "loss", "attempts"),
    [
        (PARTIAL, Loss.DEATH, 2),
        (SPECULATIVE, Loss.MEMORY, 2),
        (PARTIAL, Loss.COMPANY, 2),
        (FINAL, Loss.ERROR, 2),
        (FINAL, Loss.DEATH, 3),
        (FINAL, Loss.MEMORY, 5),
    ],
)
def test_how_often_a_job_is_tried(kind: JobKind, loss: Loss, attempts: int) -> None:
    limits = Limits(final_attempts_at_death=3, final_attempts_without_memory=5)
    scheduler = Scheduler(limits)
    ticket, _ = scheduler.submit(make_job(kind=kind), 0.0)
    for _ in range(attempts - 1):
        assert scheduler.retry(taken(scheduler).batch_id, loss) == ([], [])
    failed, _ = scheduler.retry(taken(scheduler).batch_id, loss)
    assert ids(failed) == [ticket.ticket_id]
    assert scheduler.counts.retried == attempts - 1
    assert scheduler.waiting == 0


def test_each_kind_of_loss_of_a_final_is_counted_by_itself() -> None:
    limits = Limits(final_attempts_at_death=2, final_attempts_without_memory=3)
    scheduler = Scheduler(limits)
    ticket, _ = scheduler.submit(make_job(kind=FINAL), 0.0)
    before = [Loss.MEMORY, Loss.DEATH, Loss.ERROR, Loss.MEMORY, *[Loss.COMPANY] * 20]
    for loss in before:
        assert scheduler.retry(taken(scheduler).batch_id, loss) == ([], [])
    failed, _ = scheduler.retry(taken(scheduler).batch_id, Loss.DEATH)
    assert ids(failed) == [ticket.ticket_id]
    assert scheduler.counts.retried == len(before)


def test_a_final_that_was_lost_twice_lets_others_go_first() -> None:
    scheduler = Scheduler(Limits(max_batch=1))
    for session in "ab":
        scheduler.submit(make_job(session, FINAL), 0.0)
    for _ in range(2):
        batch = taken(scheduler)
        assert names(batch) == ["a:final"]
        scheduler.retry(batch.batch_id, Loss.DEATH)
    assert [names(taken(scheduler)) for _ in range(2)] == [["b:final"], ["a:final"]]


def test_a_lost_partial_gives_way_to_the_newer_one() -> None:
    scheduler = Scheduler()
    old, _ = scheduler.submit(make_job(item="1", revision=5), 0.0)
    lost = taken(scheduler)
    new, _ = scheduler.submit(make_job(item="2", revision=1), 0.0)
    assert ids(scheduler.retry(lost.batch_id)[1]) == [old.ticket_id]
    assert ids(taken(scheduler).tickets) == [new.ticket_id]


def test_a_lost_final_leaves_the_next_items_partial_alone() -> None:
    scheduler = Scheduler()
    scheduler.submit(make_job(kind=FINAL, item="1"), 0.0)
    lost = taken(scheduler)
    scheduler.submit(make_job(item="2"), 0.0)
    assert scheduler.retry(lost.batch_id) == ([], [])
    assert scheduler.waiting == 2


def test_when_full_a_final_pushes_out_a_partial_and_others_are_refused() -> None:
    scheduler = Scheduler(Limits(max_held=2))
    first, _ = scheduler.submit(make_job("a"), 0.0)
    scheduler.submit(make_job("b"), 0.0)
    with pytest.raises(TranscriberError, match="at most 2 jobs"):
        scheduler.submit(make_job("c"), 0.0)
    assert scheduler.submit(make_job("b", revision=2), 0.0)[1] != []
    _, dropped = scheduler.submit(make_job("c", FINAL), 0.0)
    assert ids(dropped) == [first.ticket_id]


def test_when_full_without_partials_a_final_pushes_out_a_speculative_one() -> None:
    scheduler = Scheduler(Limits(max_held=2))
    tried, _ = scheduler.submit(make_job("a", SPECULATIVE), 0.0)
    scheduler.submit(make_job("b", FINAL), 0.0)
    _, dropped = scheduler.submit(make_job("c", FINAL), 0.0)
    assert ids(dropped) == [tried.ticket_id]
    with pytest.raises(TranscriberError, match="at most 2 jobs"):
        scheduler.submit(make_job("d", FINAL), 0.0)
    assert names(taken(scheduler)) == ["b:final", "c:final"]


def test_the_backlog_is_seconds_of_audio() -> None:
    scheduler = Scheduler()
    scheduler.submit(make_job("a", FINAL, seconds=2.5), 0.0)
    scheduler.submit(make_job("b", seconds=1.5), 0.0)
    assert scheduler.backlog_s == pytest.approx(4.0)
    assert taken(scheduler).audio_s == pytest.approx(2.5)
    assert scheduler.backlog_s == pytest.approx(1.5)


# Properties over any sequence of events


class Driver:
    """Drives a scheduler at random and checks at every step what must always hold."""

    def __init__(self, seed: int, limits: Limits) -> None:
        self.random = random.Random(seed)
        self.scheduler = Scheduler(limits)
        self.limits = limits
        self.now_s = 0.0
        self.revision = 0
        self.running: dict[int, Batch] = {}
        self.ended: Counter[int] = Counter()
        self.tickets: dict[int, Ticket] = {}
        self.partials_taken_at_s = -1e9

    def step(self) -> None:
        self.now_s += self.random.choice([0.0, 0.05, 0.4])
        action = self.random.choices(
            [
                *(self.submit, self.take, self.take_ahead),
                *(self.finish, self.lose, self.cancel_session, self.cancel),
            ],
            weights=[10, 6, 2, 4, 1, 1, 1],
        )[0]
        action()
        self.check()

    def submit(self) -> None:
        self.revision += 1
        job = make_job(
            self.random.choice("abcde"),
            self.random.choice(list(JobKind)),
            self.revision - self.random.choice([0, 0, 1, 3]),
            item=self.random.choice("12"),
            seconds=self.random.choice([0.5, 3.0]),
        )
        try:
            ticket, dropped = self.scheduler.submit(job, self.now_s)
        except TranscriberError:
            assert self.scheduler.waiting + self.scheduler.running == self.limits.max_held
            return
        self.check_promotion(job, ticket)
        self.tickets[ticket.ticket_id] = ticket
        self.end(dropped)

    def check_promotion(self, job: Job, ticket: Ticket) -> None:
        """A final is the speculative job of its revision, if one still counts; else it is new."""
        tried = self.tickets.get(ticket.ticket_id)
        if tried is not None:
            assert (tried.job.item_id, tried.job.revision) == (job.item_id, job.revision)
            assert (tried.job.kind, job.kind) == (SPECULATIVE, FINAL)
            assert ticket.ticket_id not in self.ended

    def take(self) -> None:
        waiting = self.waiting()
        starved = self.starved(waiting)
        batch = self.scheduler.next_batch(self.now_s)
        if batch is None:
            assert all(t.job.kind is PARTIAL for t in waiting)
            assert self.reserved() or all(self.is_blocked(t) for t in waiting)
            return
        self.check_batch(batch, waiting)
        self.check_starvation(batch, starved)
        self.running[batch.batch_id] = batch

    def take_ahead(self) -> None:
        waiting = self.waiting()
        starved = self.starved(waiting)
        batch = self.scheduler.next_full_batch(self.now_s)
        if batch is None:
            return
        assert len(batch.tickets) == self.most(waiting)
        assert all(t.job.kind is FINAL for t in batch.tickets)
        self.check_batch(batch, waiting)
        self.check_starvation(batch, starved)
        self.running[batch.batch_id] = batch

    def finish(self) -> None:
        if self.running:
            batch_id = self.random.choice(list(self.running))
            del self.running[batch_id]
            self.end(self.scheduler.finish(batch_id))

    def lose(self) -> None:
        if self.running:
            batch_id = self.random.choice(list(self.running))
            del self.running[batch_id]
            for tickets in self.scheduler.retry(batch_id, self.random.choice(list(Loss))):
                self.end(tickets)

    def cancel_session(self) -> None:
        self.end(self.scheduler.cancel_session(self.random.choice("abcde")))

    def cancel(self) -> None:
        if self.tickets:
            ticket = self.random.choice(list(self.tickets.values()))
            if self.scheduler.cancel(ticket):
                self.end([ticket])

    def end(self, tickets: Sequence[Ticket]) -> None:
        self.ended.update(ids(tickets))

    def waiting(self) -> list[Ticket]:
        return list(self.scheduler._by_urgency())

    def reserved(self) -> bool:
        """Whether the workers that are left are for finals."""
        led = [b for b in self.running.values() if b.tickets[0].job.kind is PARTIAL]
        limit = self.limits.partial_batches
        assert limit is None or len(led) <= limit
        return limit is not None and len(led) == limit

    def is_blocked(self, ticket: Ticket) -> bool:
        session = ticket.job.session_id
        return any(
            t.job.kind is PARTIAL and t.job.session_id == session
            for batch in self.running.values()
            for t in batch.tickets
        )

    def starved(self, waiting: Sequence[Ticket]) -> list[int]:
        bound_s = self.limits.starvation_s
        if self.reserved():
            return []
        return [
            t.ticket_id
            for t in waiting
            if t.job.kind is PARTIAL
            and not self.is_blocked(t)
            and self.now_s - t.since_s >= bound_s
        ]

    def check_batch(self, batch: Batch, waiting: Sequence[Ticket]) -> None:
        assert 1 <= len(batch.tickets) <= self.most(waiting)
        assert len({(t.job.language, t.job.prompt, t.audio_s > 2) for t in batch.tickets}) == 1
        assert len(batch.tickets) == 1 or not any(t.attempt for t in batch.tickets)
        lead = batch.tickets[0]
        if lead.job.kind is not FINAL:
            assert len(batch.tickets) <= self.limits.max_batch
        if lead.job.kind is PARTIAL and self.limits.max_partial_batch is not None:
            assert len(batch.tickets) <= self.limits.max_partial_batch
        if lead.job.kind is PARTIAL and any(t.job.kind is not PARTIAL for t in waiting):
            assert self.now_s - lead.since_s >= self.limits.starvation_s
            assert self.now_s - self.partials_taken_at_s >= self.limits.starvation_s
        if lead.job.kind is SPECULATIVE:
            assert all(t.job.kind is not FINAL for t in waiting)

    def most(self, waiting: Sequence[Ticket]) -> int:
        """Jobs in a batch that a final leads; what leads otherwise is checked apart."""
        deep = self.limits.deep_batch or self.limits.max_batch
        finals = sum(t.job.kind is FINAL for t in waiting)
        return deep if finals >= 2 * deep else self.limits.max_batch

    def check_starvation(self, batch: Batch, starved: Sequence[int]) -> None:
        """Where a partial has starved and none was taken of late, one is taken now."""
        neglected = self.now_s - self.partials_taken_at_s >= self.limits.starvation_s
        if starved and neglected:
            assert set(ids(batch.tickets)) & set(starved)
        if any(t.job.kind is PARTIAL for t in batch.tickets):
            self.partials_taken_at_s = self.now_s

    def check(self) -> None:
        counts = self.scheduler.counts
        gone = counts.done + counts.superseded + counts.cancelled + counts.failed
        held = self.scheduler.waiting + self.scheduler.running
        assert counts.submitted == gone + counts.promoted + held
        assert len(self.tickets) == counts.submitted - counts.promoted
        assert sum(self.ended.values()) == gone
        assert all(times == 1 for times in self.ended.values())
        assert self.scheduler.waiting + self.scheduler.running <= self.limits.max_held
        waiting = Counter(t.job.session_id for t in self.waiting() if t.job.kind is PARTIAL)
        running = Counter(
            t.job.session_id
            for batch in self.running.values()
            for t in batch.tickets
            if t.job.kind is PARTIAL
        )
        assert all(n == 1 for n in (*waiting.values(), *running.values()))


@given(
    seed=st.integers(0, 2**32),
    max_batch=st.integers(1, 4),
    mixed=st.booleans(),
    partial_batches=st.sampled_from([None, 1, 2]),
    max_partial_batch=st.sampled_from([None, 1, 2]),
    deeper=st.sampled_from([None, 0, 1]),
    max_held=st.sampled_from([3, 1024]),
)
@settings(deadline=None, max_examples=150)
def test_whatever_happens_the_promises_hold(
    seed: int,
    max_batch: int,
    mixed: bool,
    partial_batches: int | None,
    max_partial_batch: int | None,
    deeper: int | None,
    max_held: int,
) -> None:
    limits = Limits(
        max_batch=max_batch,
        deep_batch=None if deeper is None else max_batch + deeper,
        max_partial_batch=max_partial_batch,
        mix_kinds=mixed,
        partial_batches=partial_batches,
        max_held=max_held,
    )
    driver = Driver(seed, limits)
    for _ in range(120):
        driver.step()
    driver.end(driver.scheduler.drain())
    assert driver.scheduler.waiting == driver.scheduler.running == 0
    assert set(driver.ended) == set(driver.tickets)
