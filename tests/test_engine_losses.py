"""A line in the log for each time the engine's process is replaced."""

import asyncio
import logging
import os
import signal
import sys

import pytest

from rtvc.errors import TranscriberError
from rtvc.stt.losses import Outcomes, ended, told
from rtvc.stt.scripted import Fault, ScriptedTranscriber
from rtvc.stt.tickets import Counts
from tests.test_engine import make_job, scripted, started, text_of, until

ENGINE = "rtvc.stt.process_engine"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == ENGINE]


@pytest.mark.slow
async def test_a_killed_process_is_one_line_with_its_signal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with started(scripted(ScriptedTranscriber("my secret", delay_s=0.5))) as engine:
        answer = asyncio.create_task(text_of(engine, make_job()))
        await asyncio.sleep(0.1)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        assert await answer == "my secret"
        await until(lambda: engine.status.state == "ready")
    assert lines(caplog) == [
        "the speech-to-text engine is restarted: killed by signal 9 (SIGKILL); its jobs: 1 retried"
    ]
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.slow
async def test_a_hang_is_told_once_for_each_restart(caplog: pytest.LogCaptureFixture) -> None:
    async with started(scripted(ScriptedTranscriber("awake"), hang_after_s=0.8)) as engine:
        engine._job_s = 0.0
        with pytest.raises(TranscriberError):
            await engine.transcribe(make_job(fault=Fault.HANG))
        await until(lambda: engine.status.state == "ready")
    retried = "the speech-to-text engine is restarted: no answer within 0.8 s; its jobs: 1 retried"
    assert lines(caplog) == [
        *[retried] * 3,
        "the speech-to-text engine is restarted: no answer within 0.8 s; its jobs: 1 failed",
    ]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process, as Linux can")
async def test_want_of_memory_is_told_without_the_librarys_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with started(scripted(ScriptedTranscriber("fine"), max_batch=1)) as engine:
        with pytest.raises(TranscriberError):
            await engine.transcribe(make_job(fault=Fault.EXHAUST))
        await until(lambda: engine.status.state == "ready")
    retried = "the speech-to-text engine is restarted: it ran out of memory; its jobs: 1 retried"
    assert lines(caplog) == [
        *[retried] * 2,
        "the speech-to-text engine is restarted: it ran out of memory; its jobs: 1 failed",
    ]


async def test_an_end_in_order_is_no_line(caplog: pytest.LogCaptureFixture) -> None:
    async with started(scripted(ScriptedTranscriber("fine"))) as engine:
        assert await text_of(engine, make_job()) == "fine"
    assert lines(caplog) == []


def test_ends_and_outcomes_are_worded() -> None:
    assert ended(-11) == "killed by signal 11 (SIGSEGV)"
    assert ended(-9999) == "killed by signal 9999"
    before = Outcomes.of(Counts(retried=3, failed=1))
    after = Outcomes.of(Counts(retried=5, failed=2)).since(before)
    assert after == Outcomes(retried=2, failed=1)
    assert told("x", Outcomes(0, 0)).endswith("x; no job was lost")
