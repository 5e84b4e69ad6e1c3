"""Sessions held by an engine alone: the search, the verdicts, and the threads that do the work."""

import random
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.bench.clips import BenchClip
from rtvc.bench.crowd import Crowd, Desk, Habits
from rtvc.bench.held import FINE, Room, find, last_verdict, search, sessions_held, verdict
from rtvc.clock import SystemClock
from rtvc.errors import TranscriberError, UsageError
from rtvc.stt.transcriber import Hypothesis, Job, ReportProgress

BUSY = Habits(pause_s=(0.01, 0.03), start_within_s=0.05, tried_after_s=0.01, silence_s=0.02)
"""A tenth of a second of speech, and the next."""

PATIENT_S = 60.0
"""A target that a machine keeps whatever else runs on it."""


def clip_of(seconds: float = 0.1, reference: str | None = "open the door") -> BenchClip:
    audio = np.zeros(round(seconds * 16_000), np.float32)
    return BenchClip("clip", audio, reference, "en", "clean")


class FakeModel:
    """Answers after a while; counts how many ask at once."""

    device = "cpu"
    compute_type: str | None = None

    def __init__(self, seconds: float = 0.0, error: Exception | None = None) -> None:
        self.jobs = 0
        self.at_once = 0
        self.most_at_once = 0
        self.largest = 0
        self._seconds = seconds
        self._error = error
        self._lock = threading.Lock()

    def load(self) -> None: ...

    def warm_up(self, report: ReportProgress) -> None: ...

    def transcribe(self, jobs: Sequence[Job]) -> list[Hypothesis]:
        with self._lock:
            self.jobs += len(jobs)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.largest = max(self.largest, len(jobs))
        if self._error is not None:
            raise self._error
        threading.Event().wait(self._seconds)
        with self._lock:
            self.at_once -= 1
        return [Hypothesis("open", 0.1, 0.0, 0.0, 0.0, 0.0, len(jobs), 1) for _ in jobs]


def workers_left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("held ")]


@given(st.integers(0, 400), st.integers(1, 300), st.integers(1, 40))
@settings(deadline=None)
def test_the_search_finds_the_edge(limit: int, most: int, start: int) -> None:
    tried: list[int] = []

    def holds(sessions: int) -> bool:
        tried.append(sessions)
        return sessions <= limit

    held, fails_at = search(holds, start=min(start, most), most=most, go_on=lambda: True)
    assert held <= limit
    assert len(tried) == len(set(tried))
    assert all(1 <= sessions <= most for sessions in tried)
    if limit >= most:
        assert (held, fails_at) == (most, None)
    else:
        assert fails_at is not None
        assert held <= limit < fails_at
        assert fails_at - held <= max(1, held // FINE)


@given(st.integers(0, 128), st.integers(0, 128))
def test_a_hopeful_look_costs_few_sure_ones(truth: int, hope: int) -> None:
    """Whatever quick looks said, what is held was made sure of, and what fails is near it."""
    looks: list[int] = []

    def surely(sessions: int) -> bool:
        looks.append(sessions)
        return sessions <= truth

    held, fails = find(lambda n: n <= hope, surely, start=1, most=128, go_on=lambda: True)
    assert held <= truth
    assert held == 0 or held in looks
    if fails is not None:
        assert fails > min(truth, hope)
        assert fails - held <= max(1, held // FINE)
    assert len(looks) <= 12


def test_a_search_without_time_finds_nothing() -> None:
    assert search(lambda sessions: True, start=1, most=8, go_on=lambda: False) == (0, None)


def test_a_search_that_is_cut_off_keeps_what_it_knows() -> None:
    left = iter([True, True, True, True, False, False])
    found = search(lambda s: s <= 5, start=1, most=64, go_on=lambda: next(left))
    assert found == (4, 8)


@given(st.lists(st.floats(0.0, 2.0), max_size=300), st.floats(0.1, 1.0))
@settings(deadline=None)
def test_verdicts_agree_with_what_was_seen(delays_s: list[float], target_s: float) -> None:
    late = sum(delay_s > target_s for delay_s in delays_s)
    for enough_time in (False, True):
        found = verdict(delays_s, target_s, enough_time=enough_time)
        if late == 0:
            assert found is not False
        if delays_s and late == len(delays_s) and len(delays_s) >= 3:
            assert found is False
        if found is True:
            assert enough_time
            assert len(delays_s) >= 100
            assert late <= 0.05 * len(delays_s) + 1
    last = last_verdict(delays_s, target_s)
    assert last is False or delays_s
    if late == 0 and delays_s:
        assert last is True


def test_a_few_finals_prove_little() -> None:
    assert verdict([0.9], 0.5, enough_time=True) is None
    assert verdict([0.3] * 19 + [0.9], 0.5, enough_time=True) is None
    assert last_verdict([0.3] * 19 + [0.9], 0.5) is False
    assert last_verdict([], 0.5) is False


def test_a_patient_target_is_held_by_as_many_as_are_asked_for() -> None:
    model = FakeModel()
    found = sessions_held(
        model, [clip_of()], SystemClock(), target_s=PATIENT_S, most=2, step_s=0.2, habits=BUSY
    )
    assert (found.sessions, found.fails_at, found.target_s) == (2, None, PATIENT_S)
    assert found.n > 0
    assert (found.p95_s is not None) == (found.n >= 100)
    assert model.jobs >= found.n
    assert workers_left() == []


def test_a_model_slower_than_the_target_holds_nobody() -> None:
    found = sessions_held(
        FakeModel(0.1), [clip_of()], SystemClock(), target_s=0.05, step_s=2.0, habits=BUSY
    )
    assert (found.sessions, found.fails_at, found.p95_s, found.n) == (0, 1, None, 0)


def test_workers_work_at_once_and_take_batches_no_larger_than_allowed() -> None:
    model = FakeModel(0.05)
    sessions_held(
        model,
        [clip_of()],
        SystemClock(),
        workers=2,
        max_batch=3,
        target_s=PATIENT_S,
        start=8,
        most=8,
        step_s=0.3,
        habits=BUSY,
    )
    assert model.most_at_once == 2
    assert 1 < model.largest <= 3


def test_what_the_model_raises_goes_through_and_nothing_is_left_running() -> None:
    model = FakeModel(error=TranscriberError("CUDA failed: out of memory"))
    with pytest.raises(TranscriberError, match="out of memory"):
        sessions_held(model, [clip_of()], SystemClock(), workers=2, habits=BUSY)
    assert workers_left() == []


def test_an_interrupt_ends_the_workers() -> None:
    clock = SystemClock()
    now_s = clock.now()
    crowd = Crowd(3, [clip_of()], random.Random(1), began_at_s=now_s, habits=BUSY)
    desk = Desk(crowd, workers=2, max_batch=2, target_s=0.5, now_s=now_s)

    def look(now_s: float) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Room(desk, FakeModel(), clock).run(2, look)
    assert workers_left() == []


def test_no_time_at_all_tries_nothing() -> None:
    model = FakeModel()
    found = sessions_held(model, [clip_of()], SystemClock(), budget_s=0.0, habits=BUSY)
    assert (found.sessions, found.fails_at, found.n, model.jobs) == (0, None, 0, 0)


@pytest.mark.parametrize(
    ("clips", "start", "most", "workers"),
    [
        ([], 1, 8, 1),
        ([clip_of(reference="")], 1, 8, 1),
        ([clip_of()], 0, 8, 1),
        ([clip_of()], 9, 8, 1),
        ([clip_of()], 1, 8, 0),
    ],
)
def test_what_makes_no_sense_is_refused(
    clips: list[BenchClip], start: int, most: int, workers: int
) -> None:
    with pytest.raises(UsageError, match="expected clips in which somebody speaks"):
        sessions_held(FakeModel(), clips, SystemClock(), start=start, most=most, workers=workers)
