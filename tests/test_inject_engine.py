"""Faults inside the engine: each does what its name says, and the engine lives on."""

import asyncio
import math
import pickle
import threading
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.clock import FakeClock, SystemClock
from rtvc.stt.faulty import IDLE_S, RAMP_S, Coldness, FaultyTranscriber, GrowingMemory, Troubles
from rtvc.stt.process_engine import EnginePlan, ProcessEngine
from rtvc.stt.scripted import ScriptedTranscriber
from rtvc.stt.tickets import Limits
from rtvc.stt.transcriber import Hypothesis, Job, JobKind
from tests.test_engine import make_job, text_of, until

CLOCK = SystemClock()


class Costly(ScriptedTranscriber):
    """Each inference takes a second of a clock of its own."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__("yes")
        self.clock = clock
        self.batches: list[list[Job]] = []

    def transcribe(self, jobs: Sequence[Job]) -> list[Hypothesis]:
        self.batches.append(list(jobs))
        self.clock.advance(1.0)
        return [replace(h, encode_s=0.4, decode_s=0.6) for h in super().transcribe(jobs)]


def job(session_id: str = "a", kind: JobKind = JobKind.FINAL) -> Job:
    return Job(session_id, "1", kind, 1, make_job().audio, 0.0)


def ignore(progress: float, detail: str) -> None:
    """Nobody looks."""


def faulty(troubles: Troubles) -> tuple[FaultyTranscriber, Costly, FakeClock]:
    clock = FakeClock()
    inner = Costly(clock)
    transcriber = FaultyTranscriber(inner, troubles, clock=clock, hold=clock.advance)
    transcriber.load()
    transcriber.warm_up(ignore)
    return transcriber, inner, clock


def took(transcriber: FaultyTranscriber, clock: FakeClock, *jobs: Job) -> float:
    """Seconds of one batch, all of which are in its stages."""
    began_s = clock.now()
    answers = transcriber.transcribe(jobs)
    assert len(answers) == len(jobs)
    assert [answer.text for answer in answers] == ["yes"] * len(jobs)
    seconds = clock.now() - began_s
    for answer in answers:
        assert answer.features_s + answer.encode_s + answer.decode_s == pytest.approx(seconds)
    return seconds


@given(times=st.floats(1, 20), kind=st.sampled_from(JobKind))
@settings(deadline=None, max_examples=30)
def test_slow_inference_takes_so_many_times_as_long(times: float, kind: JobKind) -> None:
    transcriber, inner, clock = faulty(Troubles(slower=times))
    for _ in range(3):
        assert took(transcriber, clock, job("a", kind), job("b", kind)) == pytest.approx(times)
    # The device is kept as busy as it would be: the work is really done again.
    assert len(inner.batches) == 3 * int(times)


def test_without_troubles_nothing_is_added() -> None:
    transcriber, inner, clock = faulty(Troubles())
    assert [took(transcriber, clock, job()) for _ in range(3)] == [1.0] * 3
    assert len(inner.batches) == 3


def test_throttling_comes_gradually_and_stays() -> None:
    transcriber, _, clock = faulty(Troubles(throttled=4.0))
    clock.advance(1000.0)  # what does not work does not grow hot
    first_s = took(transcriber, clock, job())
    clock.advance(RAMP_S / 2)
    middle_s = took(transcriber, clock, job())
    clock.advance(RAMP_S)
    last_s = took(transcriber, clock, job())
    assert first_s < 1.2 < middle_s < 3.0 < last_s
    assert last_s == pytest.approx(4.0)
    clock.advance(RAMP_S)
    assert took(transcriber, clock, job()) == pytest.approx(4.0)


def test_slow_and_throttled_are_both() -> None:
    transcriber, _, clock = faulty(Troubles(slower=2.0, throttled=3.0))
    took(transcriber, clock, job())
    clock.advance(RAMP_S)
    assert took(transcriber, clock, job()) == pytest.approx(6.0)


def test_a_cold_session_waits_once_until_it_idles() -> None:
    transcriber, _, clock = faulty(Troubles(cold_s=2.0))
    assert took(transcriber, clock, job("a")) == pytest.approx(3.0)
    assert took(transcriber, clock, job("a")) == pytest.approx(1.0)
    assert took(transcriber, clock, job("b"), job("a")) == pytest.approx(3.0)
    clock.advance(IDLE_S - 4.0)
    assert took(transcriber, clock, job("a")) == pytest.approx(1.0)
    clock.advance(IDLE_S + 0.1)
    assert took(transcriber, clock, job("a")) == pytest.approx(3.0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 30)), max_size=30))
def test_coldness_lasts_no_longer_than_it_should(uses: list[tuple[str, float]]) -> None:
    cold, now_s = Coldness(2.0, idle_s=10.0), 0.0
    last_s: dict[str, float] = {}
    for session_id, pause_s in uses:
        now_s += pause_s
        rest_s = cold.rest_s([session_id], now_s)
        assert rest_s <= 2.0 + 1e-9
        if now_s - last_s.get(session_id, -math.inf) > 12.0:
            assert rest_s == pytest.approx(2.0)
        last_s[session_id] = now_s


def test_a_flood_of_partials_leaves_other_jobs_alone() -> None:
    transcriber, inner, clock = faulty(Troubles(partial_times=3.0))
    partial = job("a", JobKind.PARTIAL)
    assert took(transcriber, clock, partial, partial) == pytest.approx(3.0)
    assert took(transcriber, clock, job()) == pytest.approx(1.0)
    assert took(transcriber, clock, job(), partial) == pytest.approx(1.0)
    assert len(inner.batches) == 5


def test_a_load_takes_so_long_at_least() -> None:
    clock = FakeClock()
    slow = FaultyTranscriber(Costly(clock), Troubles(load_s=5.0), clock=clock, hold=clock.advance)
    slow.load()
    assert clock.now() == 5.0


def test_while_it_is_arranged_and_warmed_up_the_model_is_sound() -> None:
    clock = FakeClock()
    troubles = Troubles(slower=5.0, cold_s=1.0, hang_after_s=0.0)
    transcriber = FaultyTranscriber(Costly(clock), troubles, clock=clock, hold=clock.advance)
    transcriber.load()
    assert took(transcriber, clock, job()) == 1.0


def test_it_travels_to_the_engines_process() -> None:
    transcriber = FaultyTranscriber(ScriptedTranscriber("yes"), Troubles(slower=2.0), clock=CLOCK)
    copy = pickle.loads(pickle.dumps(transcriber))
    copy.load()
    copy.warm_up(ignore)
    assert copy.transcribe([job()])[0].text == "yes"


def test_memory_grows_to_its_bound_and_no_further() -> None:
    before = set(threading.enumerate())
    transcriber = FaultyTranscriber(
        ScriptedTranscriber("yes"),
        Troubles(grow_bytes_per_s=2e8, room_bytes=50_000_000),
        clock=CLOCK,
    )
    # Not the process's resident size: a large one takes what it has freed before.
    tracemalloc.start()
    transcriber.load()
    transcriber.warm_up(ignore)
    assert transcriber.transcribe([job()])[0].text == "yes"
    for _ in range(200):
        try:
            transcriber.transcribe([job()])
        except MemoryError:
            break
        threading.Event().wait(0.02)
    with pytest.raises(MemoryError):
        transcriber.transcribe([job()])
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes > 40_000_000
    transcriber.close()
    assert set(threading.enumerate()) == before


def test_memory_is_taken_to_the_byte() -> None:
    memory = GrowingMemory(1e7, 2_500_000)
    memory.start()
    for _ in range(200):
        if memory.full:
            break
        threading.Event().wait(0.02)
    assert (memory.full, memory.taken_bytes) == (True, 2_500_000)
    memory.stop()


def engine_of(troubles: Troubles, **more: Any) -> ProcessEngine:
    transcriber = FaultyTranscriber(ScriptedTranscriber("yes"), troubles, clock=CLOCK)
    plan = EnginePlan(transcriber, "scripted", "scripted", limits=Limits(max_batch=1))
    return ProcessEngine(lambda report: plan, clock=CLOCK, model="scripted", **more)


@pytest.mark.slow
async def test_a_crashing_engine_is_replaced_and_answers_again() -> None:
    engine = engine_of(Troubles(crash_after_s=0.3))
    try:
        await engine.start()
        assert await text_of(engine, make_job()) == "yes"
        await until(lambda: engine.status.restarts >= 1)
        assert await text_of(engine, make_job("b")) == "yes"
        await until(lambda: engine.status.restarts >= 2)
    finally:
        await engine.close()


@pytest.mark.slow
async def test_a_hanging_engine_is_replaced_and_answers_again() -> None:
    engine = engine_of(Troubles(hang_after_s=1.0), hang_after_s=0.5)
    try:
        await engine.start()
        assert await text_of(engine, make_job()) == "yes"
        assert engine.status.restarts == 0
        await asyncio.sleep(1.1)
        assert await text_of(engine, make_job("b")) == "yes"
        assert engine.status.restarts == 1
    finally:
        await engine.close()


@pytest.mark.slow
async def test_an_engine_without_memory_is_replaced_and_answers_again() -> None:
    engine = engine_of(Troubles(grow_bytes_per_s=1e8, room_bytes=60_000_000))
    try:
        await engine.start()
        assert await text_of(engine, make_job()) == "yes"
        await asyncio.sleep(1.2)
        assert await text_of(engine, make_job("b")) == "yes"
        assert engine.status.restarts == 1
    finally:
        await engine.close()
