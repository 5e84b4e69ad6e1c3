"""Silero VAD: state per session, the same answers however the frames are grouped."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtvc.speech.synthesis import Synthesizer
from rtvc.voice.silero import SileroModel, SileroVad
from rtvc.voice.vad import FRAME_SAMPLES, ScriptedVad

_model = SileroModel()


def spoken_frames() -> NDArray[np.float32]:
    spoken = Synthesizer().say("good morning, what can i do for you?", rate_hz=16_000).audio
    pause = np.zeros(16_000, np.float32)
    audio = np.concatenate([pause, spoken, pause])
    return audio[: len(audio) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)


FRAMES = spoken_frames()
EXPECTED = _model.session().probabilities(FRAMES)


def in_groups(vad: SileroVad, groups: list[int]) -> list[float]:
    found: list[float] = []
    while len(found) < len(FRAMES):
        size = groups[len(found) % len(groups)]
        found += vad.probabilities(FRAMES[len(found) : len(found) + size])
    return found


def test_speech_is_told_from_silence() -> None:
    assert len(EXPECTED) == len(FRAMES)
    assert max(EXPECTED[:25]) < 0.3
    assert np.mean(np.array(EXPECTED[35:55]) > 0.5) > 0.8


@settings(deadline=None, max_examples=15)
@given(groups=st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_groups_of_frames_are_judged_as_one_stream(groups: list[int]) -> None:
    assert in_groups(_model.session(), groups) == pytest.approx(EXPECTED, abs=1e-4)


def test_sessions_do_not_hear_each_other() -> None:
    one, other = _model.session(), _model.session()
    found = []
    for frame in FRAMES:
        found += one.probabilities(frame[None])
        other.probabilities(np.zeros((1, FRAME_SAMPLES), np.float32))
    assert found == pytest.approx(EXPECTED, abs=1e-4)


def test_no_frames_give_no_answers_and_change_nothing() -> None:
    vad = _model.session()
    assert vad.probabilities(np.zeros((0, FRAME_SAMPLES), np.float32)) == []
    assert vad.probabilities(FRAMES) == pytest.approx(EXPECTED, abs=1e-4)


def test_the_scripted_detector_goes_by_level() -> None:
    frames = np.zeros((2, FRAME_SAMPLES), np.float32)
    frames[1, 7] = -0.5
    assert ScriptedVad(0.1).probabilities(frames) == [0.0, 1.0]
    assert ScriptedVad().probabilities(frames[:0]) == []
