"""Simulated sessions before the real scheduler, in virtual time."""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.bench.clips import BenchClip
from rtvc.bench.crowd import Crowd, Desk, Habits
from rtvc.errors import UsageError
from rtvc.stt.tickets import Batch
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, Job, JobKind

SILENCE_S = Habits().silence_s
TRIED_S = Habits().tried_after_s


def clip_of(speech_s: float, name: str = "clip") -> BenchClip:
    audio = np.zeros(round((speech_s + 0.1) * SAMPLE_RATE_HZ), np.float32)
    return BenchClip(name, audio, name, "en", "clean", None, 0.1, speech_s)


CLIPS = [clip_of(seconds, f"clip {seconds}") for seconds in (1.0, 2.0, 3.5)]


class World:
    """A desk, so many workers, and an engine whose every batch takes what `cost_s` says."""

    def __init__(
        self,
        sessions: int,
        cost_s: Callable[[Batch], float],
        *,
        workers: int = 1,
        max_batch: int = 1,
        seed: int = 1,
        habits: Habits | None = None,
        clips: Sequence[BenchClip] = CLIPS,
    ) -> None:
        self.crowd = Crowd(sessions, clips, random.Random(seed), habits=habits)
        self.desk = Desk(self.crowd, workers=workers, max_batch=max_batch, target_s=0.5, now_s=0.0)
        self.batches: list[Batch] = []
        self.now_s = 0.0
        self._cost_s = cost_s
        self._workers = workers
        self._running: list[tuple[float, int, Batch]] = []
        self._order = itertools.count()

    @property
    def jobs(self) -> list[Job]:
        """All that were taken, in order."""
        return [ticket.job for batch in self.batches for ticket in batch.tickets]

    def run(self, until_s: float) -> "World":
        while self.now_s < until_s:
            self._take()
            busy = len(self._running) == self._workers
            done_at_s = self._running[0][0] if self._running else float("inf")
            self.now_s = done_at_s if busy else min(done_at_s, self.desk.wake_at_s)
            if self._running and done_at_s <= self.now_s:
                self.desk.done(heapq.heappop(self._running)[2], self.now_s)
        return self

    def _take(self) -> None:
        while len(self._running) < self._workers:
            batch = self.desk.take(self.now_s)
            if batch is None:
                return
            self.batches.append(batch)
            self._check(batch)
            done_at_s = self.now_s + self._cost_s(batch)
            heapq.heappush(self._running, (done_at_s, next(self._order), batch))

    def _check(self, batch: Batch) -> None:
        """A session has one partial under way at most."""
        under_way = [*(running for _, _, running in self._running), batch]
        partials = Counter(
            ticket.job.session_id
            for each in under_way
            for ticket in each.tickets
            if ticket.job.kind is JobKind.PARTIAL
        )
        assert all(number == 1 for number in partials.values())

    def delays_s(self, patience_s: float = 0.5) -> list[float]:
        return self.crowd.delays_s(self.now_s, patience_s)


def test_a_swift_engine_leaves_only_what_endpointing_waits_for() -> None:
    world = World(4, lambda batch: 0.001).run(60.0)
    assert len(world.delays_s()) > 20
    assert world.delays_s() == pytest.approx([SILENCE_S] * len(world.delays_s()))
    assert not any(job.kind is JobKind.FINAL for job in world.jobs)


def test_one_session_waits_for_its_final_and_for_one_partial_at_most() -> None:
    world = World(1, lambda batch: 0.3).run(200.0)
    delays_s = world.delays_s(patience_s=5.0)
    assert len(delays_s) > 20
    assert min(delays_s) >= TRIED_S + 0.3 - 1e-9
    assert max(delays_s) <= TRIED_S + 2 * 0.3 + 1e-9


def test_partials_hold_what_was_said_so_far() -> None:
    world = World(1, lambda batch: 0.01).run(60.0)
    by_item: dict[str, list[Job]] = {}
    for job in world.jobs:
        by_item.setdefault(job.item_id, []).append(job)
    assert len(by_item) > 8
    for jobs in by_item.values():
        lengths_s = [len(job.audio) / SAMPLE_RATE_HZ for job in jobs]
        revisions = [job.revision for job in jobs]
        assert lengths_s == sorted(lengths_s)
        assert revisions == list(range(1, len(jobs) + 1))
        assert all(job.kind is JobKind.PARTIAL for job in jobs[:-1])
    spans_s = [
        after.enqueued_at_s - before.enqueued_at_s
        for jobs in by_item.values()
        for before, after in itertools.pairwise(jobs[:-1])
    ]
    assert min(spans_s) == pytest.approx(0.4)


def test_a_final_holds_all_that_was_said() -> None:
    world = World(1, lambda batch: 0.01).run(60.0)
    tried = [job for job in world.jobs if job.kind is JobKind.SPECULATIVE]
    lengths = {len(job.audio) for job in tried}
    assert lengths <= {round((s + TRIED_S) * SAMPLE_RATE_HZ) for s in (1.0, 2.0, 3.5)}
    assert len(lengths) > 1


@given(
    st.integers(1, 6),
    st.floats(0.001, 1.5),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 50),
)
@settings(deadline=None, max_examples=30)
def test_who_speaks_when_does_not_depend_on_the_engine(
    sessions: int, cost_s: float, workers: int, max_batch: int, seed: int
) -> None:
    def spoken(world: World) -> set[tuple[str, str, float]]:
        """When each final was tried, of those that were taken at all."""
        return {
            (job.session_id, job.item_id, round(job.enqueued_at_s, 6))
            for job in world.jobs
            if job.kind is not JobKind.PARTIAL and job.enqueued_at_s < 15.0
        }

    swift = World(sessions, lambda batch: 1e-4, seed=seed).run(30.0)
    other = World(
        sessions, lambda batch: cost_s, workers=workers, max_batch=max_batch, seed=seed
    ).run(30.0)
    assert spoken(other) <= spoken(swift)


@given(st.integers(1, 12), st.floats(0.01, 0.6), st.integers(1, 3), st.integers(1, 8))
@settings(deadline=None, max_examples=30)
def test_no_final_is_shown_before_endpointing_or_before_its_inference(
    sessions: int, cost_s: float, workers: int, max_batch: int
) -> None:
    world = World(sessions, lambda batch: cost_s, workers=workers, max_batch=max_batch).run(40.0)
    for delay_s in world.delays_s(patience_s=1e6):
        assert delay_s >= max(SILENCE_S, TRIED_S + cost_s) - 1e-6


def test_an_engine_that_never_answers_has_late_finals_all_the_same() -> None:
    world = World(3, lambda batch: 1e9)
    world.desk.take(0.0)
    world.desk.take(30.0)
    late = world.crowd.delays_s(30.0, 0.5)
    assert len(late) >= 3
    assert min(late) > 0.5
    assert world.crowd.delays_s(30.0, 1e6) == []


def test_what_began_before_all_were_there_does_not_count() -> None:
    habits = Habits(start_within_s=20.0)
    world = World(2, lambda batch: 0.001, habits=habits).run(19.0)
    assert world.jobs
    assert world.delays_s() == []


def test_without_partials_only_finals_are_asked_for() -> None:
    world = World(3, lambda batch: 0.01, habits=Habits(partials=False)).run(30.0)
    assert {job.kind for job in world.jobs} == {JobKind.SPECULATIVE}


def test_a_crowd_makes_partials_rarer() -> None:
    def partials_per_utterance(sessions: int) -> float:
        world = World(sessions, lambda batch: 0.06).run(60.0)
        kinds = Counter(job.kind for job in world.jobs)
        return kinds[JobKind.PARTIAL] / (kinds[JobKind.SPECULATIVE] + kinds[JobKind.FINAL])

    assert partials_per_utterance(20) < 0.8 * partials_per_utterance(1)


def test_more_workers_hold_more() -> None:
    def late(workers: int) -> int:
        world = World(12, lambda batch: 0.25, workers=workers).run(60.0)
        return sum(delay_s > 0.5 for delay_s in world.delays_s())

    assert late(4) < late(1)


def test_there_must_be_somebody_with_something_to_say() -> None:
    with pytest.raises(UsageError, match="expected sessions and clips"):
        Crowd(1, [], random.Random(1))
    with pytest.raises(UsageError, match="expected sessions and clips"):
        Crowd(0, CLIPS, random.Random(1))
