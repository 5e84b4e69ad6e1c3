"""Who shares a model: the same engine, once, a few times, or once for each session."""

import asyncio
import os
import signal
from functools import partial
from typing import cast

import httpx
import psutil
import pytest

from rtvc.clock import SystemClock
from rtvc.errors import ModelError, TranscriberError
from rtvc.stt.engine import build_engine
from rtvc.stt.headroom import Targets, targets_for
from rtvc.stt.process_engine import EnginePlan, ProcessEngine
from rtvc.stt.scripted import ScriptedTranscriber
from rtvc.stt.sharing import PerSessionEngine, PoolEngine, aim
from rtvc.stt.transcriber import Engine, EngineStatus
from tests.realtime_peer import session
from tests.servers import running_server
from tests.test_engine import make_job, text_of, until
from tests.test_server_realtime import utterance

CLOCK = SystemClock()


def one(*, delay_s: float = 0.0, load_error: str | None = None) -> Engine:
    transcriber = ScriptedTranscriber("yes", delay_s=delay_s, load_error=load_error)
    plan = EnginePlan(transcriber, "scripted", "scripted")
    return ProcessEngine(lambda report: plan, clock=CLOCK, model="scripted")


def processes() -> set[int]:
    """Engines' processes of this program."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            if "rtvc.stt.child" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.add(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


async def test_a_pool_spreads_its_sessions_and_each_stays_where_it_is() -> None:
    pool = PoolEngine([one(delay_s=0.02), one(delay_s=0.02)])
    await pool.start()
    try:
        for session in "abcd":
            await pool.open_session(session)
        homes = [pool._homes[session] for session in "abcd"]
        assert [homes.count(engine) for engine in pool._engines] == [2, 2]
        for _ in range(3):
            answers = await asyncio.gather(*(text_of(pool, make_job(s)) for s in "abcd"))
            assert answers == ["yes"] * 4
        assert [pool._homes[session] for session in "abcd"] == homes
        assert [engine.status.counters["done"] for engine in pool._engines] == [6, 6]
        for session in "ac":
            pool.close_session(session)
        await pool.open_session("e")
        assert pool._homes["e"] is homes[0]
    finally:
        await pool.close()
    assert pool.status.state == "closed"


async def test_a_pools_status_is_the_sum_of_its_engines() -> None:
    pool = PoolEngine([one(), one(), one()])
    seen: list[EngineStatus] = []
    pool.on_status(seen.append)
    await pool.start()
    try:
        status = pool.status
        assert (status.state, status.sharing, status.engines) == ("ready", "pool", 3)
        assert status.workers == 3
        assert status.memory_bytes is not None
        single = pool._engines[0].status.memory_bytes
        assert single is not None
        assert status.memory_bytes > 2 * single
        assert [s.state for s in seen].count("ready") == 1
        await text_of(pool, make_job("a"))
        assert pool.status.counters["done"] == 1
    finally:
        await pool.close()


async def test_a_pool_goes_on_without_a_failed_engine_and_with_it_when_it_is_back() -> None:
    transcribers = [ScriptedTranscriber("yes", delay_s=0.2) for _ in range(2)]
    engines = [
        ProcessEngine(
            partial(_plan_of, transcriber),
            clock=CLOCK,
            model="scripted",
            relaunch_pauses_s=(0, 0.05),
        )
        for transcriber in transcribers
    ]
    pool = PoolEngine(engines)
    seen: list[str] = []
    pool.on_status(lambda status: seen.append(status.state))
    await pool.start()
    try:
        for session_id in "ab":
            await pool.open_session(session_id)
        assert [pool._homes[session_id] for session_id in "ab"] == engines
        waiting = [asyncio.create_task(text_of(pool, make_job("a", item=str(n)))) for n in range(2)]
        await asyncio.sleep(0.05)
        transcribers[0]._load_error = "the weights are gone"
        seen.clear()
        assert engines[0].pid is not None
        os.kill(engines[0].pid, signal.SIGKILL)
        assert await asyncio.gather(*waiting) == ["yes", "yes"]
        assert engines[0].status.state == "failed"
        assert pool._homes["a"] is engines[1]
        assert (pool.status.state, pool.status.workers) == ("ready", 1)
        assert notice_of(pool) == "1 of 2 engines out: the weights are gone"
        assert set(seen) == {"ready"}
        await pool.open_session("c")
        assert pool._homes["c"] is engines[1]
        transcribers[0]._load_error = None
        await until(lambda: engines[0].status.state == "ready")
        assert pool.status.workers == 2
        assert notice_of(pool) is None
        await pool.open_session("d")
        assert pool._homes["d"] is engines[0]
    finally:
        await pool.close()


def _plan_of(transcriber: ScriptedTranscriber, report: object) -> EnginePlan:
    return EnginePlan(transcriber, "scripted", "scripted")


async def test_where_every_engine_of_a_pool_has_failed_so_has_the_pool() -> None:
    transcriber = ScriptedTranscriber("yes", delay_s=0.2)
    engine = ProcessEngine(
        partial(_plan_of, transcriber), clock=CLOCK, model="scripted", relaunch_pauses_s=(0, 60)
    )
    pool = PoolEngine([engine])
    await pool.start()
    try:
        call = asyncio.create_task(pool.transcribe(make_job("a")))
        await asyncio.sleep(0.05)
        transcriber._load_error = "the weights are gone"
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(TranscriberError, match="the weights are gone"):
            await call
        assert state_of(pool) == "failed"
    finally:
        await pool.close()


async def test_a_session_gets_an_engine_of_its_own_and_takes_it_along() -> None:
    before = processes()
    engine = PerSessionEngine(one)
    await engine.start()
    assert state_of(engine) == "ready"
    assert processes() == before
    try:
        await engine.open_session("a")
        await engine.open_session("b")
        assert len(processes() - before) == 2
        assert (engine.status.engines, engine.status.workers) == (2, 2)
        assert engine.status.headroom_sessions is None
        assert engine.status.memory_bytes is not None
        assert await text_of(engine, make_job("a")) == "yes"
        engine.close_session("a")
        assert await engine.transcribe(make_job("a")) is None
        assert await text_of(engine, make_job("b")) == "yes"
        await until(lambda: len(processes() - before) == 1)
    finally:
        await engine.close()
    assert processes() == before
    assert state_of(engine) == "closed"
    with pytest.raises(TranscriberError, match="closed"):
        await engine.open_session("c")


async def test_a_session_that_leaves_while_its_model_loads_leaves_nothing() -> None:
    def slow() -> Engine:
        transcriber = ScriptedTranscriber(load_s=60)
        plan = EnginePlan(transcriber, "scripted", "scripted")
        return ProcessEngine(lambda report: plan, clock=CLOCK, model="scripted")

    before = processes()
    engine = PerSessionEngine(slow)
    opening = asyncio.create_task(engine.open_session("a"))
    await until(lambda: len(processes() - before) == 1)
    engine.close_session("a")
    with pytest.raises(TranscriberError, match="did not load"):
        await opening
    await engine.close()
    assert processes() == before


async def test_a_model_that_cannot_be_loaded_is_known_at_the_start() -> None:
    engine = PerSessionEngine(lambda: one(load_error="no weights here"))
    with pytest.raises(ModelError, match="no weights here"):
        await engine.start()
    assert engine.status.state == "failed"
    with pytest.raises(TranscriberError, match="the session's model did not load: no weights"):
        await engine.open_session("a")
    engine.close_session("a")
    await engine.close()


@pytest.mark.parametrize(
    ("sharing", "kind"),
    [("shared", ProcessEngine), ("pool", PoolEngine), ("per-session", PerSessionEngine)],
)
async def test_how_a_model_is_shared_is_the_users_choice(sharing: str, kind: type) -> None:
    engine = build_engine("scripted", sharing=sharing, pool_size=2, clock=CLOCK)
    assert isinstance(engine, kind)
    assert engine.status.sharing == sharing
    try:
        await engine.start()
        await engine.open_session("a")
        assert await text_of(engine, make_job("a")) == "hello there"
        assert engine.status.sharing == sharing
        assert engine.partial_interval_s >= 0
        engine.cancel_session("a")
        engine.close_session("a")
    finally:
        await engine.close()


@pytest.mark.model
async def test_nobody_waits_for_a_model_where_it_is_shared() -> None:
    engine = build_engine("selftest", sharing="per-session", clock=CLOCK)
    await engine.start()
    try:
        own_s = await opened_s(engine)
        assert engine.status.trials == ()
    finally:
        await engine.close()
    shared = build_engine("selftest", workers=1, threads_per_worker=1, max_batch=1, clock=CLOCK)
    await shared.start()
    try:
        assert await opened_s(shared) < 0.1 * own_s
    finally:
        await shared.close()


def state_of(engine: Engine) -> str:
    return engine.status.state


def notice_of(engine: Engine) -> str | None:
    return engine.status.notice


async def opened_s(engine: Engine) -> float:
    began_s = CLOCK.now()
    await engine.open_session("a")
    return CLOCK.now() - began_s


@pytest.mark.model
@pytest.mark.slow
async def test_a_server_with_a_model_for_each_session_says_what_that_costs() -> None:
    flags = ("--sharing", "per-session", "--partials", "flat-out")
    with running_server(*flags) as url:
        async with session(url, "rtvc=1&intent=transcription") as peer:
            await peer.until("session.created")
            async with httpx.AsyncClient() as client:
                body = (await client.get(f"{url}/v1/models")).json()["data"][0]
            assert (body["sharing"], body["engines"], body["workers"]) == ("per-session", 1, 1)
            assert body["memory_bytes"] > 1e7
            assert body["load_s"] > 0
            await peer.speak(utterance("what time is it in paris?"))
            await peer.until("conversation.item.input_audio_transcription.completed")
            assert len(peer.of("rtvc.hypothesis")) >= 2


async def test_a_delay_target_can_change_while_the_engine_runs() -> None:
    pool = PoolEngine([one(), one()])
    await pool.start()

    def targets() -> list[Targets]:
        engines = cast(list[ProcessEngine], pool._engines)
        return [engine._advisor._meter.targets for engine in engines]

    try:
        before = targets()
        aim(pool, 2.0)
        assert targets() == [targets_for(2.0)] * 2
        assert before != targets()
    finally:
        await pool.close()


def test_an_engine_without_a_target_is_left_alone() -> None:
    engine = PerSessionEngine(one)
    status = engine.status
    aim(engine, 2.0)
    assert engine.status == status
