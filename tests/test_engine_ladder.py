"""An engine under overload: partials end, every final is answered, and partials come back."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import numpy as np
import pytest

from rtvc.clock import SystemClock
from rtvc.stt.ladder import Rules, Step
from rtvc.stt.process_engine import EnginePlan, ProcessEngine
from rtvc.stt.scripted import ScriptedTranscriber
from rtvc.stt.sharing import together
from rtvc.stt.tickets import Limits
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, EngineStatus, Job, JobKind
from tests.test_engine import until

TONE = (0.1 * np.sin(np.arange(SAMPLE_RATE_HZ) / 5)).astype(np.float32)
JOB_S = 0.03
HURRY = 10.0


class HurriedClock:
    """Runs ahead of the machine's, so that seconds of calm do not take seconds."""

    def __init__(self) -> None:
        self._clock = SystemClock()

    def now(self) -> float:
        return HURRY * self._clock.now()

    def utc(self) -> datetime:
        return self._clock.utc()


CLOCK = HurriedClock()


@asynccontextmanager
async def an_engine(rules: Rules | None = None) -> AsyncIterator[ProcessEngine]:
    """One worker, one job at a time."""
    plan = EnginePlan(
        ScriptedTranscriber("yes", delay_s=JOB_S),
        "scripted",
        "scripted",
        limits=Limits(max_batch=1),
    )
    engine = ProcessEngine(
        lambda report: plan,
        clock=CLOCK,
        model="scripted",
        delay_target_s=HURRY * 0.1,
        rules=rules,
    )
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


def a_job(session: str, kind: JobKind = JobKind.FINAL) -> Job:
    return Job(session, "1", kind, 1, TONE, CLOCK.now())


async def heard(engine: ProcessEngine, job: Job) -> str | None:
    hypothesis = await engine.transcribe(job)
    return None if hypothesis is None else hypothesis.text


async def overload(engine: ProcessEngine, sessions: int) -> list[asyncio.Task[str | None]]:
    """All finish speaking at once."""
    for number in range(sessions):
        await engine.open_session(f"s{number}")
    return [asyncio.create_task(heard(engine, a_job(f"s{number}"))) for number in range(sessions)]


@pytest.mark.slow
async def test_an_overloaded_engine_gives_up_partials_and_no_final(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="rtvc.stt.process_engine")
    async with an_engine() as engine:
        seen: list[Step] = []
        engine.on_status(lambda status: seen.append(status.degradation))
        finals = await overload(engine, 60)
        waiting = asyncio.create_task(heard(engine, a_job("early", JobKind.PARTIAL)))
        await until(lambda: engine.status.degradation >= Step.NO_PARTIALS)
        assert await waiting is None
        assert await heard(engine, a_job("late", JobKind.PARTIAL)) is None
        assert engine.status.counters["shed"] == 2
        assert await asyncio.gather(*finals) == ["yes"] * 60
        assert engine.status.degradation is Step.REFUSING
        assert engine.status.counters["failed"] == engine.status.counters["cancelled"] == 0
        for number in range(60):
            engine.close_session(f"s{number}")
        await until(lambda: engine.status.degradation is Step.NONE)
        assert await heard(engine, a_job("late", JobKind.PARTIAL)) == "yes"
        changes = engine.status.degradation_changes
        assert (changes["no-partials"], changes["refusing"], changes["none"]) == (2, 1, 1)
        assert len(seen) == len(caplog.records) == sum(changes.values())
        lines = [record.getMessage() for record in caplog.records]
        assert "degradation up to refusing (3 of 3): " in "".join(lines)
        assert all("% of the workers' time" in line for line in lines)


async def test_what_the_user_keeps_is_not_given_up() -> None:
    async with an_engine(Rules((Step.NONE,))) as engine:
        finals = await overload(engine, 20)
        partial = asyncio.create_task(heard(engine, a_job("a", JobKind.PARTIAL)))
        assert await asyncio.gather(*finals) == ["yes"] * 20
        assert await partial == "yes"
        assert engine.status.degradation is Step.NONE
        assert engine.status.degradation_changes == {"none": 0}


def test_several_engines_are_as_degraded_as_the_worst() -> None:
    def status(step: Step, changes: dict[str, int]) -> EngineStatus:
        return EngineStatus(
            "ready", 1, "", "m", "scripted", degradation=step, degradation_changes=changes
        )

    pool = together(
        [status(Step.SLOWER_PARTIALS, {"none": 1}), status(Step.NO_PARTIALS, {"none": 2})], "pool"
    )
    assert pool.degradation is Step.NO_PARTIALS
    assert pool.degradation_changes == {"none": 3}
