"""One contract, three transcribers: the scripted fake must behave as the real ones do."""

import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from rtvc.clock import SystemClock
from rtvc.speech.corpus import Clip, builtin_clips, folder_clips
from rtvc.stt.models import SELFTEST_PATH
from rtvc.stt.pocketsphinx import PocketSphinxTranscriber
from rtvc.stt.process_engine import EnginePlan, ProcessEngine
from rtvc.stt.scripted import ScriptedTranscriber
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray, Hypothesis, Job, JobKind, Transcriber
from rtvc.stt.whisper import WhisperTranscriber

HUMAN = Path(__file__).parents[2] / "shared" / "speech" / "human"

pytestmark = pytest.mark.model


def make_whisper() -> Transcriber:
    return WhisperTranscriber(
        SELFTEST_PATH,
        clock=SystemClock(),
        device="cpu",
        encoder_context="short",
        suppress_blank=False,
    )


MAKERS: dict[str, Callable[[], Transcriber]] = {
    "scripted": ScriptedTranscriber,
    "whisper": make_whisper,
    "pocketsphinx": lambda: PocketSphinxTranscriber(clock=SystemClock()),
}
every = pytest.mark.parametrize("name", MAKERS)


@cache
def loaded(name: str) -> Transcriber:
    transcriber = MAKERS[name]()
    transcriber.load()
    return transcriber


@cache
def clips(name: str) -> list[Clip]:
    """Speech that this transcriber can be expected to find words in."""
    if name == "pocketsphinx" and HUMAN.is_dir():
        return folder_clips(HUMAN)[:3]
    return builtin_clips(3, seed=5)


def make_job(audio: AudioArray, session: str = "a") -> Job:
    return Job(session, "1", JobKind.FINAL, 1, audio, 0.0)


SILENCE = make_job(np.zeros(SAMPLE_RATE_HZ, np.float32))


@every
def test_speech_has_text(name: str) -> None:
    for clip in clips(name):
        answer = loaded(name).transcribe([make_job(clip.audio)])[0]
        assert answer.text
        assert answer.text == answer.text.strip()
        assert answer.audio_s == pytest.approx(clip.duration_s)
        assert answer.batch_size == 1
        assert answer.tokens >= 1
        assert answer.queue_wait_s == 0.0
        assert min(answer.features_s, answer.encode_s, answer.decode_s) >= 0.0


@every
def test_silence_and_no_audio_have_none(name: str) -> None:
    nothing = make_job(np.zeros(0, np.float32))
    for answer in loaded(name).transcribe([SILENCE, nothing]):
        assert (answer.text, answer.tokens) == ("", 0)
        assert answer.guards == ("silence",)


@every
def test_one_answer_a_job_in_order(name: str) -> None:
    clip = clips(name)[0]
    answers = loaded(name).transcribe([SILENCE, make_job(clip.audio), SILENCE])
    assert [bool(answer.text) for answer in answers] == [False, True, False]


@every
def test_the_same_audio_has_the_same_text(name: str) -> None:
    job = make_job(clips(name)[0].audio)
    first, second = (loaded(name).transcribe([job])[0].text for _ in range(2))
    assert first == second


@every
def test_no_jobs_have_no_answers(name: str) -> None:
    assert loaded(name).transcribe([]) == []


@every
def test_it_travels_before_it_is_loaded(name: str) -> None:
    there = pickle.loads(pickle.dumps(MAKERS[name]()))
    there.load()
    assert there.device == "cpu"


@every
def test_warm_up_says_what_it_does(name: str) -> None:
    seen: list[tuple[float, str]] = []
    loaded(name).warm_up(lambda progress, detail: seen.append((progress, detail)))
    assert seen
    assert all(0 <= progress <= 1 and detail for progress, detail in seen)


@every
async def test_it_works_in_the_engines_process(name: str) -> None:
    plan = EnginePlan(MAKERS[name](), name, name)
    engine = ProcessEngine(lambda report: plan, clock=SystemClock(), model=name)
    try:
        await engine.start()
        job = make_job(clips(name)[0].audio)
        answer = await engine.transcribe(job)
        assert isinstance(answer, Hypothesis)
        assert answer.text == loaded(name).transcribe([job])[0].text
    finally:
        await engine.close()
