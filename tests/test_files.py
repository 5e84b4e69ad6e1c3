"""Files beside live sessions: a process that comes with the first and goes after the last."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import psutil
import pytest

from rtvc.clock import SystemClock
from rtvc.errors import ModelError, TranscriberError
from rtvc.speech.corpus import builtin_clips
from rtvc.stt.files import BatchedWhisper, FileEngine, FileJob, PieceByPiece, spoken
from rtvc.stt.models import SELFTEST_PATH
from rtvc.stt.scripted import ScriptedTranscriber
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray, Job, JobKind
from rtvc.transcript import word_errors

PAUSE = np.zeros(SAMPLE_RATE_HZ, np.float32)


def two_utterances() -> tuple[AudioArray, str]:
    first, second = builtin_clips(2, seed=9)
    audio = np.concatenate([PAUSE, first.audio, PAUSE, second.audio, PAUSE])
    return audio, f"{first.text} {second.text}"


def file_job(audio: AudioArray, **more: float) -> FileJob:
    return FileJob("file", "file", JobKind.FINAL, 0, audio, 0.0, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def file_engine(idle_s: float = 60.0) -> AsyncIterator[FileEngine]:
    engine = FileEngine(device="cpu", compute_type="auto", clock=SystemClock(), idle_s=idle_s)
    try:
        yield engine
    finally:
        await engine.close()


def children() -> list[psutil.Process]:
    found = psutil.Process(os.getpid()).children()
    return [child for child in found if is_engine(child)]


def is_engine(child: psutil.Process) -> bool:
    try:
        return "rtvc.stt.child" in child.cmdline()
    except psutil.Error:  # it has just ended
        return False


async def until_gone() -> None:
    for _ in range(400):
        if not children():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the process is still there")


@pytest.mark.model
async def test_the_process_is_nice_and_goes_when_files_stop_coming() -> None:
    audio, _ = two_utterances()
    async with file_engine(idle_s=0.3) as engine:
        assert children() == []
        answers = [await engine.transcribe("scripted", file_job(audio)) for _ in range(2)]
        assert [answer.text for answer in answers] == ["hello there hello there"] * 2
        (child,) = children()
        # Linux counts niceness by thread; the first one only reads the pipe.
        working = [thread.id for thread in child.threads() if thread.id != child.pid]
        assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in working} == {19}
        await until_gone()
        assert not engine.running
        again = await engine.transcribe("scripted", file_job(audio))
        assert again.text == answers[0].text


@pytest.mark.model
async def test_closing_ends_what_is_under_way_and_the_process() -> None:
    audio = np.tile(two_utterances()[0], 8)
    async with file_engine() as engine:
        await engine.transcribe("selftest", file_job(audio[:SAMPLE_RATE_HZ]))
        under_way = asyncio.create_task(engine.transcribe("selftest", file_job(audio)))
        await asyncio.sleep(0.2)
        await engine.close()
        with pytest.raises(TranscriberError, match="the server is stopping"):
            await under_way
    await until_gone()


async def test_a_model_that_cannot_be_had_is_an_error_and_leaves_nothing() -> None:
    async with file_engine() as engine:
        for _ in range(2):
            with pytest.raises(ModelError, match="expected a folder"):
                await engine.transcribe("no-such-model", file_job(PAUSE))
    assert children() == []


@pytest.mark.model
def test_utterances_are_told_with_their_places_in_the_file() -> None:
    audio, said = two_utterances()
    whisper = BatchedWhisper(
        SELFTEST_PATH,
        clock=SystemClock(),
        device="cpu",
        long_windows=False,
        suppress_blank=False,
        niceness=0,
    )
    whisper.load()
    answer = whisper.transcribe([file_job(audio, offset_s=100.0)])[0]
    assert isinstance(answer, type(answer))
    assert word_errors(said, answer.text).errors <= 3
    segments = answer.segments  # type: ignore[attr-defined]
    assert len(segments) == 2
    assert 100.5 < segments[0].start_s < segments[0].end_s < segments[1].start_s
    assert segments[1].end_s <= 100.0 + len(audio) / SAMPLE_RATE_HZ
    nothing = whisper.transcribe([Job("a", "1", JobKind.FINAL, 0, PAUSE, 0.0)])[0]
    assert (nothing.text, nothing.guards) == ("", ("silence",))


@pytest.mark.model
def test_any_transcriber_can_do_files() -> None:
    audio, _ = two_utterances()
    by_piece = PieceByPiece(ScriptedTranscriber("word"), clock=SystemClock(), niceness=0)
    by_piece.load()
    answer = by_piece.transcribe([file_job(audio)])[0]
    assert answer.text == "word word"
    assert len(spoken(audio)) == 2
    assert spoken(PAUSE) == []
