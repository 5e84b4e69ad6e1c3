"""Hearing: whatever the pieces, the same frames, and no sample lost."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtvc.audio import float_to_pcm16, pcm16_to_float, resample, ulaw_decode
from rtvc.errors import AudioError
from rtvc.server.ear import Chunk, Ear
from rtvc.speech.synthesis import Synthesizer
from rtvc.voice.session import Frame
from rtvc.voice.vad import FRAME_SAMPLES, ScriptedVad

RATES_HZ = (8000, 16_000, 24_000, 44_100, 48_000)


def an_ear(rate_hz: int = 24_000) -> Ear:
    return Ear(ScriptedVad(), decode=pcm16_to_float, rate_hz=rate_hz)


def noise(samples: int, level: float = 0.3) -> NDArray[np.float32]:
    return np.random.default_rng(samples).uniform(-level, level, samples).astype(np.float32)


def chunk(data: bytes, arrived_at_s: float = 0.0) -> Chunk:
    return Chunk(data, len(data) / 48_000, arrived_at_s)


def joined(frames: Sequence[Frame]) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *(frame.audio for frame in frames)])


@settings(deadline=None, max_examples=40)
@given(
    rate_hz=st.sampled_from(RATES_HZ),
    pieces=st.lists(st.integers(0, 3000), min_size=1, max_size=12),
    calls=st.integers(1, 4),
)
def test_however_the_audio_is_cut_the_frames_are_the_same(
    rate_hz: int, pieces: list[int], calls: int
) -> None:
    data = float_to_pcm16(noise(sum(pieces)))
    whole = an_ear(rate_hz)
    expected = [*whole.hear([chunk(data)]), *whole.flush(1.0)]
    cuts = np.cumsum([0, *pieces]) * 2
    chunks = [chunk(data[a:b]) for a, b in pairwise(cuts)]
    ear, frames = an_ear(rate_hz), []
    for start in range(0, len(chunks), calls):
        frames += ear.hear(chunks[start : start + calls])
    frames += ear.flush(1.0)
    assert [len(frame.audio) for frame in frames] == [len(frame.audio) for frame in expected]
    assert [f.speech_probability for f in frames] == [f.speech_probability for f in expected]
    np.testing.assert_allclose(joined(frames), joined(expected), atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(rate_hz=st.sampled_from(RATES_HZ), samples=st.integers(1, 20_000))
def test_after_a_flush_nothing_is_missing(rate_hz: int, samples: int) -> None:
    ear = an_ear(rate_hz)
    audio = noise(samples)
    frames = [*ear.hear([chunk(float_to_pcm16(audio))]), *ear.flush(0.0)]
    heard = joined(frames)
    assert abs(len(heard) - samples * 16_000 / rate_hz) <= 1
    assert all(len(frame.audio) == FRAME_SAMPLES for frame in frames[:-1])
    assert ear.flush(0.0) == []
    if rate_hz == 16_000:
        np.testing.assert_array_equal(heard, pcm16_to_float(float_to_pcm16(audio)))


def test_what_was_heard_stays_what_it_was() -> None:
    t = np.arange(24_000) / 24_000
    tone = (0.4 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    ear = an_ear()
    heard = joined([*ear.hear([chunk(float_to_pcm16(tone))]), *ear.flush(0.0)])
    wanted = resample(tone, 24_000, 16_000)
    inner = slice(200, -200)
    np.testing.assert_allclose(heard[inner], wanted[inner], atol=2e-3)


@settings(deadline=None, max_examples=30)
@given(before=st.integers(1, 4000), after=st.integers(1, 4000))
def test_a_change_of_format_loses_nothing(before: int, after: int) -> None:
    ear = an_ear(24_000)
    frames = ear.hear([chunk(float_to_pcm16(noise(before)))])
    ear.change_input(ulaw_decode, 8000)
    frames += ear.hear([chunk(bytes(after))])
    frames += ear.flush(0.0)
    assert abs(len(joined(frames)) - (before * 2 / 3 + after * 2)) <= 2


def test_a_frame_arrived_when_its_last_sample_did() -> None:
    ear = an_ear(16_000)
    half = float_to_pcm16(noise(FRAME_SAMPLES // 2))
    frames = ear.hear([chunk(half, float(second)) for second in range(6)])
    assert [frame.arrived_at_s for frame in frames] == [1.0, 3.0, 5.0]
    frames = ear.hear([chunk(half, 6.0)])
    frames += ear.hear([chunk(half, 7.0), chunk(half, 8.0)])
    assert [frame.arrived_at_s for frame in frames] == [7.0]
    assert ear.flush(9.0)[0].arrived_at_s == 9.0


def test_what_waits_keeps_nothing_else_in_memory() -> None:
    ear = an_ear(16_000)
    ear.hear([chunk(float_to_pcm16(noise(16_000)))])
    (last,) = ear.flush(0.0)
    assert len(last.audio) == 16_000 % FRAME_SAMPLES
    base = last.audio.base
    assert base is None or base.nbytes <= 4 * FRAME_SAMPLES


def test_half_a_sample_is_an_error_that_says_so() -> None:
    with pytest.raises(AudioError, match="whole 16-bit samples, got 3 bytes"):
        an_ear().hear([chunk(b"abc")])


def spoken(text: str, voice: str) -> NDArray[np.float32]:
    return Synthesizer().say(text, voice=voice, rate_hz=16_000).audio


def test_the_reply_heard_again_is_no_speech_and_a_person_is() -> None:
    reply = spoken("the weather will be fine tomorrow, with some wind.", "en-us+f3")
    person = spoken("stop, i want to know about the trains instead.", "en-us+m3")
    quiet = np.zeros(800, np.float32)
    ear, other_ear = an_ear(16_000), an_ear(16_000)
    for each in (ear, other_ear):
        each.reply_audio(reply, 0.0)
        assert each.reply_playing(1.0)
        assert each.reply_audible(1.0)
    echo = hear_in_real_time(ear, np.concatenate([quiet, 0.4 * reply]))
    assert ear.echo_frames > 0
    assert np.mean(echo) < 0.2
    heard = hear_in_real_time(other_ear, person)
    assert np.mean(heard) > 0.8


def hear_in_real_time(ear: Ear, audio: NDArray[np.float32]) -> list[bool]:
    judged = []
    for start in range(0, len(audio) - FRAME_SAMPLES, FRAME_SAMPLES):
        data = float_to_pcm16(audio[start : start + FRAME_SAMPLES])
        arrived_at_s = (start + FRAME_SAMPLES) / 16_000
        for frame in ear.hear([chunk(data, arrived_at_s)]):
            judged.append(frame.speech_probability > 0.5)
    return judged


def test_after_a_flush_of_the_reply_nothing_plays() -> None:
    ear = an_ear(16_000)
    ear.reply_audio(noise(16_000 * 5), 0.0)
    ear.reply_flushed(1.0)
    assert not ear.reply_playing(1.1)
