"""The engine's process: it may crash, hang or raise; sessions see an answer or a clear error."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import groupby

import numpy as np
import psutil
import pytest

from rtvc.clock import SystemClock
from rtvc.errors import ModelError, TranscriberError
from rtvc.stt.advisor import ADVICE_EVERY_S
from rtvc.stt.engine import build_engine
from rtvc.stt.environment import KEEP_MEMORY, KEPT_MEMORY, WAITING
from rtvc.stt.headroom import ENOUGH_SERVED
from rtvc.stt.process import EngineProcess
from rtvc.stt.process_engine import EnginePlan, ProcessEngine
from rtvc.stt.scripted import Fault, ScriptedTranscriber
from rtvc.stt.tickets import Limits
from rtvc.stt.transcriber import (
    SAMPLE_RATE_HZ,
    Engine,
    EngineStatus,
    Hypothesis,
    Job,
    JobKind,
    ReportProgress,
)

CLOCK = SystemClock()
TONE = (0.1 * np.sin(np.arange(SAMPLE_RATE_HZ) / 5)).astype(np.float32)


def make_job(
    session: str = "a",
    kind: JobKind = JobKind.FINAL,
    *,
    item: str = "1",
    revision: int = 1,
    fault: Fault | None = None,
) -> Job:
    return Job(session, item, kind, revision, TONE, CLOCK.now(), prompt=fault)


def scripted(
    transcriber: ScriptedTranscriber,
    *,
    workers: int = 1,
    max_batch: int = 4,
    hang_after_s: float = 10,
) -> ProcessEngine:
    limits = Limits(max_batch=max_batch, final_attempts_without_memory=3)
    plan = EnginePlan(transcriber, "scripted", "scripted", workers=workers, limits=limits)
    return ProcessEngine(
        lambda report: plan, clock=CLOCK, model="scripted", hang_after_s=hang_after_s
    )


@asynccontextmanager
async def started(engine: ProcessEngine) -> AsyncIterator[ProcessEngine]:
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def text_of(engine: Engine, job: Job) -> str:
    hypothesis = await engine.transcribe(job)
    assert isinstance(hypothesis, Hypothesis)
    return hypothesis.text


async def test_the_status_tells_how_far_the_start_is() -> None:
    engine = scripted(ScriptedTranscriber("good morning", load_s=0.05))
    seen: list[EngineStatus] = []
    engine.on_status(seen.append)
    with pytest.raises(TranscriberError, match="expected a ready engine, it is starting"):
        await engine.transcribe(make_job())
    async with started(engine):
        assert [status.state for status in seen] == ["loading", "warming", "warming", "ready"]
        progress = [status.progress for status in seen]
        assert progress == sorted(progress)
        assert progress[-1] == 1.0
        assert engine.status.load_s is not None
        assert engine.status.load_s >= 0.05
    assert seen[-1].state == "closed"


async def test_jobs_queued_while_busy_share_a_batch() -> None:
    async with started(scripted(ScriptedTranscriber("yes", delay_s=0.2), max_batch=4)) as engine:
        jobs = [make_job(session) for session in "abcd"]
        answers = await asyncio.gather(*[engine.transcribe(job) for job in jobs])
        assert [answer.batch_size for answer in answers if answer] == [1, 3, 3, 3]
        assert all(answer.queue_wait_s >= 0.15 for answer in answers[1:] if answer)
        assert engine.status.counters["done"] == 4


async def test_a_superseded_partial_answers_none() -> None:
    async with started(scripted(ScriptedTranscriber("yes", delay_s=0.1))) as engine:
        busy = asyncio.create_task(engine.transcribe(make_job("b")))
        await asyncio.sleep(0)
        older = asyncio.create_task(engine.transcribe(make_job(kind=JobKind.PARTIAL, revision=1)))
        await asyncio.sleep(0)
        newer = asyncio.create_task(engine.transcribe(make_job(kind=JobKind.PARTIAL, revision=2)))
        assert await older is None
        assert await newer is not None
        assert await busy is not None
        assert engine.status.counters["superseded"] == 1


async def test_cancelling_a_session_ends_its_calls_and_no_others() -> None:
    async with started(scripted(ScriptedTranscriber("yes", delay_s=0.2))) as engine:
        running = asyncio.create_task(engine.transcribe(make_job("a")))
        waiting = asyncio.create_task(engine.transcribe(make_job("a", item="2")))
        other = asyncio.create_task(engine.transcribe(make_job("b")))
        await asyncio.sleep(0)
        engine.cancel_session("a")
        assert await running is None
        assert await waiting is None
        assert (await other) is not None


async def test_a_cancelled_call_gives_its_place_up() -> None:
    async with started(scripted(ScriptedTranscriber("yes", delay_s=0.2))) as engine:
        busy = asyncio.create_task(engine.transcribe(make_job("a")))
        waiting = asyncio.create_task(engine.transcribe(make_job("b")))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert engine.status.queued == 0
        assert await busy is not None
        assert engine.status.counters["cancelled"] == 1


@pytest.mark.parametrize("waiting", [True, False])
async def test_a_final_and_the_speculative_job_that_became_it_share_one_answer(
    waiting: bool,
) -> None:
    async with started(scripted(ScriptedTranscriber("yes", delay_s=0.2), max_batch=1)) as engine:
        if waiting:
            busy = asyncio.create_task(engine.transcribe(make_job("b")))
            await asyncio.sleep(0)
        tried = asyncio.create_task(engine.transcribe(make_job(kind=JobKind.SPECULATIVE)))
        await asyncio.sleep(0)
        final = asyncio.create_task(engine.transcribe(make_job(kind=JobKind.FINAL)))
        answers = await asyncio.gather(tried, final)
        assert answers[0] is answers[1]
        assert answers[0] is not None
        counters = engine.status.counters
        assert counters["promoted"] == 1
        assert counters["done"] == 1 + waiting
        if waiting:
            assert await busy is not None


async def test_a_promoted_job_lives_as_long_as_one_of_its_callers() -> None:
    async with started(scripted(ScriptedTranscriber("yes", delay_s=0.2), max_batch=1)) as engine:
        busy = asyncio.create_task(engine.transcribe(make_job("b")))
        tried = asyncio.create_task(engine.transcribe(make_job(kind=JobKind.SPECULATIVE)))
        await asyncio.sleep(0)
        final = asyncio.create_task(engine.transcribe(make_job(kind=JobKind.FINAL)))
        await asyncio.sleep(0)
        tried.cancel()
        assert await final is not None
        assert await busy is not None
        assert engine.status.counters["cancelled"] == 0


async def test_a_promoted_job_that_fails_fails_for_both_callers() -> None:
    async with started(scripted(ScriptedTranscriber("yes"))) as engine:
        tried = make_job(kind=JobKind.SPECULATIVE, fault=Fault.RAISE)
        calls = [engine.transcribe(job) for job in (tried, replace(tried, kind=JobKind.FINAL))]
        failures = await asyncio.gather(*calls, return_exceptions=True)
        assert all("failed twice" in str(failure) for failure in failures)


async def test_the_status_tells_cadence_headroom_and_memory() -> None:
    async with started(scripted(ScriptedTranscriber("yes", delay_s=0.02))) as engine:
        await engine.open_session("a")
        assert engine.status.headroom_sessions is None
        for revision in range(ENOUGH_SERVED):
            await engine.transcribe(make_job(revision=revision))
        await asyncio.sleep(ADVICE_EVERY_S)
        status = engine.status
        assert status.headroom_sessions is not None
        assert status.headroom_sessions > 1
        assert status.partial_interval_s == engine.partial_interval_s > 0
        assert status.memory_bytes is not None
        assert status.memory_bytes > 1e6


async def test_a_closed_session_leaves_no_job_behind() -> None:
    async with started(scripted(ScriptedTranscriber("yes", delay_s=0.1), max_batch=1)) as engine:
        await engine.open_session("a")
        calls = [
            asyncio.create_task(engine.transcribe(make_job("a", kind, item=str(number))))
            for number, kind in enumerate([*JobKind, *JobKind])
        ]
        await asyncio.sleep(0)
        engine.close_session("a")
        assert await asyncio.gather(*calls) == [None] * 6
        assert engine.status.queued == 0
        assert await text_of(engine, make_job("b")) == "yes"
        counters = engine.status.counters
        assert counters["done"] == 1
        assert engine._callers == {}
        assert engine._running == {}
        engine.close_session("a")


@pytest.mark.slow
async def test_jobs_survive_the_death_of_the_process() -> None:
    async with started(scripted(ScriptedTranscriber("still here", delay_s=0.5))) as engine:
        first = engine.pid
        assert first is not None
        states: list[str] = []
        engine.on_status(lambda status: states.append(status.state))
        jobs = [make_job(session) for session in "ab"]
        answers = asyncio.gather(*[text_of(engine, job) for job in jobs])
        await asyncio.sleep(0.1)
        os.kill(first, signal.SIGKILL)
        await until(lambda: engine.status.state == "restarting")
        late = asyncio.create_task(text_of(engine, make_job("c")))
        assert await answers == ["still here", "still here"]
        assert await late == "still here"
        assert engine.pid != first
        assert engine.status.restarts == 1
        assert engine.status.counters["retried"] == 1
        assert states[0] == "restarting"
        assert states[-1] == "ready"
        assert not psutil.pid_exists(first)


@pytest.mark.slow
async def test_a_job_that_always_crashes_fails_alone() -> None:
    async with started(scripted(ScriptedTranscriber("fine", delay_s=0.1))) as engine:
        busy = asyncio.create_task(text_of(engine, make_job("z")))
        await asyncio.sleep(0)
        poison = asyncio.create_task(engine.transcribe(make_job("a", fault=Fault.CRASH)))
        healthy = asyncio.create_task(text_of(engine, make_job("b")))
        with pytest.raises(
            TranscriberError, match=r"failed 4 times: its process ended \(exit code 70"
        ):
            await poison
        assert await healthy == "fine"
        assert await busy == "fine"
        assert engine.status.restarts == 4
        assert engine.status.counters["failed"] == 1


@pytest.mark.slow
async def test_a_hanging_process_is_replaced() -> None:
    engine = scripted(ScriptedTranscriber("awake"), hang_after_s=0.8)
    async with started(engine):
        engine._job_s = 0.0
        with pytest.raises(TranscriberError, match=r"failed 4 times: no answer within"):
            await engine.transcribe(make_job("a", fault=Fault.HANG))
        assert await text_of(engine, make_job("b")) == "awake"
        assert engine.status.restarts == 4


async def test_a_raising_model_fails_the_job_and_keeps_the_process() -> None:
    async with started(scripted(ScriptedTranscriber("fine"))) as engine:
        first = engine.pid
        with pytest.raises(TranscriberError, match="failed twice: the script says: raise"):
            await engine.transcribe(make_job("a", fault=Fault.RAISE))
        assert await text_of(engine, make_job("b")) == "fine"
        assert engine.pid == first


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process, as Linux can")
async def test_a_process_that_runs_out_of_memory_is_replaced() -> None:
    async with started(scripted(ScriptedTranscriber("fine"), max_batch=1)) as engine:
        first = engine.pid
        with pytest.raises(TranscriberError, match="failed 3 times: out of memory"):
            await engine.transcribe(make_job("a", fault=Fault.EXHAUST))
        await until(lambda: engine.status.state == "ready")
        assert engine.pid != first
        assert engine.status.restarts == 3
        assert await text_of(engine, make_job("b")) == "fine"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process, as Linux can")
async def test_whoever_is_in_company_with_a_want_of_memory_is_not_lost_for_it() -> None:
    engine = scripted(ScriptedTranscriber("fine", delay_s=0.4), workers=2, max_batch=1)
    async with started(engine):
        busy = [asyncio.create_task(text_of(engine, make_job("z", item=str(n)))) for n in range(9)]
        poison = [engine.transcribe(make_job(s, fault=Fault.EXHAUST)) for s in "abc"]
        failures = await asyncio.gather(*poison, return_exceptions=True)
        assert all("out of memory" in str(failure) for failure in failures)
        assert await asyncio.gather(*busy) == ["fine"] * 9
        assert engine.status.restarts == 9
        assert engine.status.counters["failed"] == 3


async def test_a_model_that_goes_on_raising_is_loaded_afresh() -> None:
    async with started(scripted(ScriptedTranscriber("fine"), max_batch=1)) as engine:
        faulty = [engine.transcribe(make_job(s, fault=Fault.RAISE)) for s in "ab"]
        failures = await asyncio.gather(*faulty, return_exceptions=True)
        assert all(isinstance(failure, TranscriberError) for failure in failures)
        await until(lambda: engine.status.state == "ready")
        assert engine.status.restarts == 1
        assert await text_of(engine, make_job("c")) == "fine"


async def test_a_model_that_cannot_be_loaded_is_an_error_of_start() -> None:
    engine = scripted(ScriptedTranscriber(load_error="expected weights, got none"))
    try:
        with pytest.raises(ModelError, match="expected weights, got none"):
            await engine.start()
        assert engine.status.state == "failed"
        assert engine.pid is None
        with pytest.raises(TranscriberError, match="it is failed: expected weights"):
            await engine.transcribe(make_job())
    finally:
        await engine.close()


async def test_a_process_that_dies_while_loading_is_an_error_of_start() -> None:
    engine = scripted(ScriptedTranscriber(load_s=60))
    starting = asyncio.create_task(engine.start())
    await until(lambda: engine.status.state == "loading")
    pid = engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ModelError, match=r"while loading: its process ended \(exit code -9\)"):
        await starting
    await engine.close()


async def test_close_leaves_no_process_and_no_waiting_call() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    engine = scripted(ScriptedTranscriber("never", delay_s=60))
    await engine.start()
    call = asyncio.create_task(engine.transcribe(make_job()))
    await asyncio.sleep(0.05)
    await engine.close()
    assert await call is None
    assert await engine.transcribe(make_job()) is None
    after = {child.pid for child in psutil.Process().children(recursive=True)}
    assert after <= before
    await engine.close()


@pytest.mark.slow
async def test_close_while_the_process_is_being_replaced() -> None:
    engine = scripted(ScriptedTranscriber("never"))
    await engine.start()
    pid = engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    engine._lose("stopped by the test")
    await asyncio.sleep(0.1)
    await engine.close()
    assert not psutil.pid_exists(pid)
    assert engine._alive == set()


async def test_close_while_the_model_is_looked_for_ends_the_start() -> None:
    go_on = threading.Event()

    def prepare(report: ReportProgress) -> EnginePlan:
        report(0.0, "downloading")
        go_on.wait(20)
        return EnginePlan(ScriptedTranscriber(), "scripted", "scripted")

    engine = ProcessEngine(prepare, clock=CLOCK, model="scripted")
    starting = asyncio.create_task(engine.start())
    await until(lambda: engine.status.detail == "downloading")
    await engine.close()
    go_on.set()
    with pytest.raises(ModelError, match="closed while loading"):
        await starting
    assert engine.pid is None


async def test_an_engine_that_cannot_be_loaded_again_fails_what_waits() -> None:
    transcriber = ScriptedTranscriber("yes", delay_s=0.2)
    plan = EnginePlan(transcriber, "scripted", "scripted")
    engine = ProcessEngine(
        lambda report: plan, clock=CLOCK, model="scripted", relaunch_pauses_s=(0, 0, 60)
    )
    async with started(engine):
        call = asyncio.create_task(engine.transcribe(make_job()))
        await asyncio.sleep(0.05)
        transcriber._load_error = "the weights are gone"
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(TranscriberError, match="the engine failed: the weights are gone"):
            await call
        assert engine.status.state == "failed"
        assert engine.status.failed_restarts == 2
        assert engine.pid is None


@pytest.mark.slow
async def test_an_engine_that_has_failed_is_tried_again_until_it_works(
    caplog: pytest.LogCaptureFixture,
) -> None:
    transcriber = ScriptedTranscriber("yes")
    plan = EnginePlan(transcriber, "scripted", "scripted")
    engine = ProcessEngine(
        lambda report: plan, clock=CLOCK, model="scripted", relaunch_pauses_s=(0, 0.05)
    )
    async with started(engine):
        states: list[str] = []
        engine.on_status(lambda status: states.append(status.state))
        transcriber._load_error = "the weights are gone"
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: engine.status.failed_restarts >= 3)
        assert engine.status.state == "failed"
        transcriber._load_error = None
        await until(lambda: engine.status.state == "ready")
        assert await text_of(engine, make_job()) == "yes"
        assert engine.status.restarts == 1
        # From failed straight to ready: /readyz does not say in between that it is loading.
        kinds = [state for state, _ in groupby(states)]
        assert kinds == ["restarting", "failed", "ready"]
        failures = engine.status.failed_restarts
        assert caplog.text.count("to restart speech-to-text failed: the weights") == failures
        assert "it is tried again every 0.05 s" in caplog.text
        # Success begins the back-off anew.
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: engine.status.restarts == 2 and engine.status.state == "ready")
        assert engine.status.failed_restarts == failures


@pytest.mark.slow
async def test_an_engine_is_replaced_once_its_process_can_be_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = EnginePlan(ScriptedTranscriber("yes"), "scripted", "scripted")
    engine = ProcessEngine(
        lambda report: plan, clock=CLOCK, model="scripted", relaunch_pauses_s=(0, 0.05)
    )

    def no_more_descriptors(process: EngineProcess) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async with started(engine):
        with monkeypatch.context() as patched:
            patched.setattr(EngineProcess, "start", no_more_descriptors)
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            await until(lambda: engine.status.failed_restarts >= 2)
        assert "Too many open files" in engine.status.detail
        await until(lambda: engine.status.state == "ready")
        assert await text_of(engine, make_job()) == "yes"


async def test_closing_an_engine_that_has_failed_ends_the_attempts() -> None:
    transcriber = ScriptedTranscriber("yes")
    plan = EnginePlan(transcriber, "scripted", "scripted")
    engine = ProcessEngine(
        lambda report: plan, clock=CLOCK, model="scripted", relaunch_pauses_s=(0, 60)
    )
    await engine.start()
    transcriber._load_error = "the weights are gone"
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    await until(lambda: engine.status.state == "failed")
    await engine.close()
    assert engine.status.state == "closed"
    assert engine.pid is None


async def test_close_while_loading_ends_the_start() -> None:
    engine = scripted(ScriptedTranscriber(load_s=60))
    starting = asyncio.create_task(engine.start())
    await until(lambda: engine.status.state == "loading")
    pid = engine.pid
    await engine.close()
    with pytest.raises(ModelError, match="closed while loading"):
        await starting
    assert pid is not None
    assert not psutil.pid_exists(pid)


async def test_what_lies_in_the_process_is_still_waiting() -> None:
    """A full batch of finals is handed over ahead of time; its jobs' wait goes on."""
    delay_s = 0.1
    transcriber = ScriptedTranscriber("yes", delay_s=delay_s)
    async with started(scripted(transcriber, max_batch=1)) as engine:
        asked = [engine.transcribe(make_job(session)) for session in "abc"]
        answers = await asyncio.gather(*asked)
        waits_s = [answer.queue_wait_s for answer in answers if answer is not None]
        assert len(waits_s) == 3
        for place, wait_s in enumerate(waits_s):
            assert wait_s >= 0.95 * place * delay_s
        assert engine.status.counters["done"] == 3


@pytest.mark.parametrize("own", [None, "glibc.malloc.arena_max=3"])
async def test_the_process_keeps_its_memory_unless_the_user_says_otherwise(
    own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if own is not None:
        monkeypatch.setenv(KEEP_MEMORY, own)
    async with started(scripted(ScriptedTranscriber("yes"))) as engine:
        told = psutil.Process(engine.pid).environ()[KEEP_MEMORY]
    # The C library cuts the string as it reads it, where it can be seen.
    assert told
    assert (own or KEPT_MEMORY).startswith(told)


@pytest.mark.parametrize("own", [None, "active"])
async def test_idle_threads_of_the_process_sleep_unless_the_user_says_otherwise(
    own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if own is not None:
        monkeypatch.setenv(WAITING, own)
    async with started(scripted(ScriptedTranscriber("yes"))) as engine:
        assert psutil.Process(engine.pid).environ()[WAITING] == (own or "passive")


async def test_the_process_inherits_no_socket_and_ends_by_its_parent_alone() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server, started(scripted(ScriptedTranscriber("yes"))) as engine:
        assert engine.pid is not None
        process = psutil.Process(engine.pid)
        assert process.net_connections("inet") == []
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(engine.pid, number)
        assert await text_of(engine, make_job()) == "yes"
        assert engine.status.restarts == 0
    assert not process.is_running()


PARENT = """
import asyncio, os, sys
from rtvc.clock import SystemClock
from rtvc.stt.engine import build_engine

async def main():
    engine = build_engine("scripted", clock=SystemClock())
    await engine.start()
    print(engine.pid, flush=True)
    sys.stdin.read()
    os._exit(1)

asyncio.run(main())
"""


@pytest.mark.slow
def test_the_process_ends_with_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()


async def test_the_loop_goes_on_while_the_engine_works() -> None:
    async with started(scripted(ScriptedTranscriber("yes", delay_s=0.3))) as engine:
        ticks = 0
        call = asyncio.create_task(engine.transcribe(make_job()))
        while not call.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert ticks >= 10


async def test_an_engine_is_built_by_name_and_fails_in_start_only() -> None:
    engine = build_engine("no-such-model", clock=CLOCK)
    assert engine.status.model == "no-such-model"
    with pytest.raises(ModelError, match="expected a folder or one of"):
        await engine.start()
    assert engine.status.state == "failed"
    await engine.close()


async def test_a_built_engine_answers() -> None:
    engine = build_engine("scripted", clock=CLOCK)
    await engine.start()
    try:
        assert engine.status.model_kind == "scripted"
        assert await text_of(engine, make_job()) == "hello there"
        silent = replace(make_job(), audio=np.zeros_like(TONE))
        assert await text_of(engine, silent) == ""
    finally:
        await engine.close()


@pytest.mark.model
async def test_a_model_is_arranged_for_the_machine_and_says_how() -> None:
    engine = build_engine("selftest", clock=CLOCK)
    await engine.start()
    try:
        status = engine.status
        assert status.trials
        chosen = (status.workers, status.threads_per_worker)
        assert chosen in {(t.workers, t.threads_per_worker) for t in status.trials}
        assert status.max_batch in {t.batch for t in status.trials}
        assert status.calibration_s is not None
        assert isinstance(engine, ProcessEngine)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: engine.status.restarts == 1 and engine.status.state == "ready")
        assert (engine.status.workers, engine.status.threads_per_worker) == chosen
        assert engine.status.trials == status.trials
        assert engine.status.max_batch == status.max_batch
    finally:
        await engine.close()


@pytest.mark.model
async def test_lengths_of_audio_are_warmed_up_at_the_first_start_only() -> None:
    engine = build_engine(
        "selftest",
        workers=1,
        threads_per_worker=1,
        max_batch=2,
        warm_up_audio_s=1.8,
        clock=CLOCK,
    )
    told: list[str] = []
    progress: list[float] = []
    engine.on_status(lambda status: told.append(status.detail))
    engine.on_status(lambda status: progress.append(status.progress))
    await engine.start()
    try:
        assert progress == sorted(progress)
        # The context is the audio, half a second, and at least 2 s: 2.0, 2.2 and 2.4 s here.
        assert {detail for detail in told if "context" in detail} == {
            f"warming up: {s} s of context, batch of {n}" for s in (2.0, 2.2, 2.4) for n in (1, 2)
        }
        assert isinstance(engine, ProcessEngine)
        assert engine.pid is not None
        told.clear()
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: engine.status.restarts == 1 and engine.status.state == "ready")
        assert "warming up: batch of 2" in told
        assert not [detail for detail in told if "context" in detail]
    finally:
        await engine.close()


@pytest.mark.model
async def test_lengths_are_warmed_up_in_the_arrangement_that_was_found() -> None:
    engine = build_engine("selftest", warm_up_audio_s=1.0, clock=CLOCK)
    told: list[str] = []
    engine.on_status(lambda status: told.append(status.detail))
    await engine.start()
    try:
        sizes = [detail for detail in told if "2.0 s of context, batch of" in detail]
        assert len(sizes) >= engine.status.max_batch
        assert sizes == [
            f"warming up: 2.0 s of context, batch of {n + 1}" for n in range(len(sizes))
        ]
    finally:
        await engine.close()


@pytest.mark.model
async def test_an_engine_of_a_session_does_not_keep_its_caller_waiting_for_lengths() -> None:
    engine = build_engine("selftest", sharing="per-session", warm_up_audio_s=1.8, clock=CLOCK)
    told: list[str] = []
    engine.on_status(lambda status: told.append(status.detail))
    await engine.start()
    try:
        assert told
        assert not [detail for detail in told if "context" in detail]
    finally:
        await engine.close()


class HalfWarmed(ScriptedTranscriber):
    """One that has no time for three of its lengths, or no memory."""

    def __init__(self, text: str, *, memory: bool = True) -> None:
        super().__init__(text)
        self._memory = memory

    def warm_up_lengths(self, audio_s: float, report: ReportProgress) -> int:
        report(0.5, f"warming up lengths to {audio_s:g} s")
        if not self._memory:
            raise MemoryError("a large batch")
        time.sleep(0.2)
        return 3


async def test_lengths_that_there_was_no_time_for_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plan = EnginePlan(HalfWarmed("yes"), "scripted", "scripted", warm_up_audio_s=8.0)
    engine = ProcessEngine(lambda report: plan, clock=CLOCK, model="scripted")
    told: list[str] = []
    engine.on_status(lambda status: told.append(status.detail))
    async with started(engine):
        assert "warming up lengths to 8 s" in told
        assert "3 lengths of audio and sizes of batch were not warmed up" in caplog.text
        assert "a smaller warm_up_audio_s or max_batch needs less" in caplog.text
        assert engine.status.warm_up_s is not None
        # What a job takes is not learnt from all lengths together.
        assert engine._job_s <= engine.status.warm_up_s - 0.2


async def test_lengths_that_there_is_no_memory_for_are_named() -> None:
    plan = EnginePlan(HalfWarmed("yes", memory=False), "scripted", "scripted", warm_up_audio_s=8.0)
    engine = ProcessEngine(lambda report: plan, clock=CLOCK, model="scripted")
    with pytest.raises(TranscriberError, match=r"up to 8 s, got: out of memory: a large batch"):
        await engine.start()
    await engine.close()


@pytest.mark.model
async def test_an_arrangement_of_the_users_is_not_looked_for() -> None:
    engine = build_engine("selftest", workers=1, threads_per_worker=1, max_batch=3, clock=CLOCK)
    await engine.start()
    try:
        status = engine.status
        assert (status.workers, status.threads_per_worker, status.max_batch) == (1, 1, 3)
        assert status.trials == ()
        assert status.calibration_s is None
    finally:
        await engine.close()
