"""PocketSphinx hears people, says nothing of silence, and carries nothing over between sessions."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from rtvc.clock import SystemClock
from rtvc.errors import ModelError
from rtvc.speech.corpus import Clip, folder_clips
from rtvc.stt.pocketsphinx import PocketSphinxTranscriber
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray, Job, JobKind
from rtvc.transcript import wer, word_errors

HUMAN = Path(__file__).parents[2] / "shared" / "speech" / "human"

pytestmark = pytest.mark.model


@cache
def loaded() -> PocketSphinxTranscriber:
    transcriber = PocketSphinxTranscriber(clock=SystemClock())
    transcriber.load()
    return transcriber


@cache
def human_clips() -> list[Clip]:
    if not HUMAN.is_dir():
        pytest.skip(f"no recordings of people in {HUMAN}")
    return folder_clips(HUMAN)


def make_job(audio: AudioArray) -> Job:
    return Job("a", "1", JobKind.FINAL, 1, audio, 0.0)


def test_people_are_understood_more_or_less() -> None:
    short = [clip for clip in human_clips() if clip.duration_s < 3.2][:8]
    answers = loaded().transcribe([make_job(clip.audio) for clip in short])
    pairs = zip(short, answers, strict=True)
    rate = wer([word_errors(clip.text, answer.text) for clip, answer in pairs])
    assert rate is not None
    assert rate <= 0.5
    assert all(answer.batch_size == 1 and answer.decode_s > 0 for answer in answers)


def test_what_was_heard_before_changes_nothing() -> None:
    first, second = human_clips()[0], human_clips()[-1]
    alone = loaded().transcribe([make_job(first.audio)])[0].text
    after = loaded().transcribe([make_job(second.audio), make_job(first.audio)])[1].text
    assert alone
    assert after == alone


def test_silence_has_no_text() -> None:
    answer = loaded().transcribe([make_job(np.zeros(SAMPLE_RATE_HZ, np.float32))])[0]
    assert (answer.text, answer.guards) == ("", ("silence",))


def test_work_before_loading_is_an_error() -> None:
    noise = np.full(SAMPLE_RATE_HZ, 0.1, np.float32)
    with pytest.raises(ModelError, match="expected load"):
        PocketSphinxTranscriber(clock=SystemClock()).transcribe([make_job(noise)])
