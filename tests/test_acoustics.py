"""Noise, rooms and monologues: as asked for, the same again, and nothing that was said moves."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.audio import rms
from rtvc.errors import AudioError, UsageError
from rtvc.loadtest.speakers.sound import Sound
from rtvc.speech.acoustics import (
    DIRECT_TO_REVERBERANT_DB,
    floor_frames,
    in_room,
    noise_floor,
    pink_noise,
    room_response,
    white_noise,
    with_noise,
)
from rtvc.speech.corpus import Clip
from rtvc.speech.monologue import joined, monologues, speech_s
from rtvc.speech.scenario import Acoustics, Part, Scenario, SpeechMix
from rtvc.speech.speaker import SPEECH_LEVEL_DBFS, PreparedClip, prepare
from rtvc.speech.synthesis import Word

RATE_HZ = 8_000
FRAME = 160


def clip_of(
    number: int, speech_s: float = 1.0, before_s: float = 0.1, after_s: float = 0.2
) -> Clip:
    """A tone from `before_s` on, in two words; silence around it."""
    samples = round((before_s + speech_s + after_s) * RATE_HZ)
    at_s = np.arange(samples) / RATE_HZ
    spoken = (at_s >= before_s) & (at_s < before_s + speech_s)
    audio = np.where(spoken, 0.05 * number * np.sin(2 * np.pi * 440 * at_s), 0.0)
    half_s = before_s + speech_s / 2
    return Clip(
        clip_id=f"clip-{number}",
        text=f"word {number}",
        audio=audio.astype(np.float32),
        rate_hz=RATE_HZ,
        words=(Word("word", before_s, half_s), Word(str(number), half_s, before_s + speech_s)),
        first_word_end_s=half_s,
        speech_start_s=before_s,
        speech_end_s=before_s + speech_s,
        voice="test",
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(deadline=None, max_examples=25)
@given(st.floats(0.1, 2.0), st.sampled_from([8_000, 16_000]), st.integers(0, 99))
def test_a_room_decays_as_asked_for(rt60_s: float, rate_hz: int, seed: int) -> None:
    response = room_response(rt60_s, rate_hz, rng(seed)).astype(np.float64)
    assert response[0] == 1.0, "the direct sound comes at once"
    tail = float(np.sum(response[1:] ** 2))
    assert 10 * np.log10(1 / tail) == pytest.approx(DIRECT_TO_REVERBERANT_DB, abs=0.01)
    # Schroeder's backward integration; from -5 to -25 dB, times three, as ISO 3382 has it (T20).
    energy = np.cumsum(response[1:][::-1] ** 2)[::-1]
    level_db = 10 * np.log10(energy / energy[0])
    begin, end = (int(np.argmax(level_db < limit)) for limit in (-5, -25))
    assert 3 * (end - begin) / rate_hz == pytest.approx(rt60_s, rel=0.25)


def test_in_a_room_the_words_stay_where_they_were() -> None:
    clip = clip_of(1)
    wet = in_room(clip, room_response(0.3, RATE_HZ, rng()))
    assert (wet.words, wet.speech_start_s, wet.speech_end_s) == (
        clip.words,
        clip.speech_start_s,
        clip.speech_end_s,
    )
    start, end = round(0.1 * RATE_HZ), round(1.1 * RATE_HZ)
    assert rms(wet.audio[:start]) < 1e-4, "no sound before it"
    assert rms(wet.audio[end : end + 400]) > 1e-3, "echo after it"
    echo = len(wet.audio) - len(clip.audio)
    assert echo == round(0.3 * RATE_HZ) - 1
    # Until the first reflection it is the clip itself, neither earlier nor later.
    dry = start + 31
    np.testing.assert_allclose(wet.audio[:dry], clip.audio[:dry], atol=1e-4)


@pytest.mark.parametrize("kind", ["white", "pink", "babble"])
@pytest.mark.parametrize("snr_db", [-5.0, 10.0, 30.0])
def test_noise_is_as_loud_as_asked_for_and_the_same_again(kind: str, snr_db: float) -> None:
    talk = [clip_of(k + 1, speech_s=0.3) for k in range(8)]
    floor, again, other = (
        noise_floor(kind, snr_db, 100 * FRAME, RATE_HZ, rng(seed), talk) for seed in (1, 1, 2)
    )
    assert 20 * np.log10(rms(floor)) == pytest.approx(SPEECH_LEVEL_DBFS - snr_db, abs=0.01)
    np.testing.assert_array_equal(floor, again)
    assert not np.array_equal(floor, other)
    frames = floor_frames(floor, FRAME)
    assert len(frames) == 100
    assert {len(frame) for frame in frames} == {2 * FRAME}


def test_white_is_even_and_pink_falls_by_three_decibels_an_octave() -> None:
    def slope_db(noise: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(noise)) ** 2
        edges = [100 * 2**k for k in range(9)]
        density_db = [
            10 * np.log10(power[low:high].mean()) for low, high in itertools.pairwise(edges)
        ]
        return float(np.polyfit(range(len(density_db)), density_db, 1)[0])

    assert slope_db(white_noise(1 << 17, rng())) == pytest.approx(0.0, abs=0.15)
    assert slope_db(pink_noise(1 << 17, rng())) == pytest.approx(-3.01, abs=0.15)


def test_noise_of_an_unknown_kind_or_of_nobody() -> None:
    with pytest.raises(UsageError, match="white, pink or babble"):
        noise_floor("brown", 10, FRAME, RATE_HZ, rng())
    with pytest.raises(UsageError, match="clips of others"):
        noise_floor("babble", 10, FRAME, RATE_HZ, rng())


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 2000), st.integers(0, 5 * FRAME), st.integers(0, 9))
def test_noise_is_added_to_the_end_of_a_frame(samples: int, start: int, seed: int) -> None:
    floor = noise_floor("white", 20, 5 * FRAME, RATE_HZ, rng(seed))
    clean = PreparedClip(clip_of(1), RATE_HZ, np.full(samples, 3000, np.int16))
    noisy = with_noise(clean, floor, start, FRAME)
    assert len(noisy.pcm16) % FRAME == 0
    assert 0 <= len(noisy.pcm16) - samples < FRAME
    assert noisy.clip is clean.clip, "what is said, and when, stays"
    padded = np.zeros(len(noisy.pcm16))
    padded[:samples] = 3000
    added = noisy.pcm16 - padded
    wanted = np.take(floor, start + np.arange(len(added)), mode="wrap") * 32768
    np.testing.assert_allclose(added, wanted, atol=1.0)


MIX = Scenario(
    parts=(
        Part(1, Scenario(acoustics=Acoustics("white", 10.0))),
        Part(1, Scenario(acoustics=Acoustics(rt60_s=0.2))),
        Part(1, Scenario()),
    )
)


def test_each_speaker_hears_what_the_mix_says() -> None:
    sound, again = (Sound(MIX, FRAME, RATE_HZ, seed=3) for _ in range(2))
    clip = clip_of(4)
    noisy, echoing, clean = (sound.of(number, 0, clip) for number in range(3))
    assert sound.floor_of(0) == 0
    assert sound.floor_of(1) is sound.floor_of(2) is None
    np.testing.assert_array_equal(clean.pcm16, prepare(clip, RATE_HZ).pcm16)
    assert len(echoing.pcm16) > len(clean.pcm16)
    assert noisy.clip.speech_end_s == echoing.clip.speech_end_s == clip.speech_end_s
    np.testing.assert_array_equal(again.of(0, 0, clip).pcm16, noisy.pcm16)
    np.testing.assert_array_equal(again.of(1, 0, clip).pcm16, echoing.pcm16)
    assert not np.array_equal(sound.of(3, 0, clip).pcm16, noisy.pcm16), "its own noise"
    assert not np.array_equal(sound.of(4, 0, clip).pcm16, echoing.pcm16), "a room of its own"


def test_speakers_who_are_alike_share_a_few_loops_of_noise() -> None:
    scenario = Scenario(acoustics=Acoustics("pink", 10.0))
    sound = Sound(scenario, FRAME, RATE_HZ, seed=3)
    which = [sound.floor_of(number) for number in range(40)]
    assert set(which) == set(range(len(sound.floors)))
    assert len(sound.floors) == 8
    assert len({len(floor) for floor in sound.floors}) == 1


pieces = st.lists(
    st.tuples(st.floats(0.2, 1.5), st.floats(0, 0.3), st.floats(0, 0.3)), min_size=1, max_size=6
)


@settings(deadline=None, max_examples=50)
@given(pieces, st.integers(0, 99))
def test_joined_sentences_keep_the_time_of_every_word(
    drawn: list[tuple[float, float, float]], seed: int
) -> None:
    clips = [clip_of(k + 1, *times) for k, times in enumerate(drawn)]
    gaps_s = [random.Random(seed + k).uniform(0.0, 0.4) for k in range(len(clips) - 1)]
    whole = joined(clips, gaps_s)
    assert whole.text == " ".join(clip.text for clip in clips)
    assert whole.words is not None
    assert [word.text for word in whole.words] == whole.text.split()
    # A sample of rounding at each seam.
    exact_s = (2 * len(clips)) / RATE_HZ
    at_s = clips[0].speech_start_s
    for clip, gap_s, index in zip(clips, [*gaps_s, 0.0], range(len(clips)), strict=True):
        first, second = whole.words[2 * index : 2 * index + 2]
        assert first.start_s == pytest.approx(at_s, abs=exact_s)
        at_s += speech_s(clip)
        assert second.end_s == pytest.approx(at_s, abs=exact_s)
        begin, end = (round(t * RATE_HZ) for t in (first.start_s, second.end_s))
        assert rms(whole.audio[begin:end]) == pytest.approx(0.05, rel=0.1), "each as loud"
        after = whole.audio[end + 1 : end + round(gap_s * RATE_HZ) - 1]
        assert not after.any(), "silence between them"
        at_s += gap_s
    assert whole.speech_start_s == clips[0].speech_start_s
    assert whole.first_word_end_s == clips[0].first_word_end_s
    assert whole.speech_end_s == pytest.approx(whole.words[-1].end_s, abs=1 / RATE_HZ)


def test_recordings_without_words_can_be_joined() -> None:
    def recorded(number: int) -> Clip:
        clip = clip_of(number)
        return Clip(clip.clip_id, clip.text, clip.audio, RATE_HZ, None, 0.2, 0.1, 1.1, clip.voice)

    assert joined([recorded(1), recorded(2)], [0.1]).words is None
    with pytest.raises(AudioError, match="one gap fewer"):
        joined([recorded(1), recorded(2)], [])
    with pytest.raises(AudioError, match="expected clips"):
        joined([], [])


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(0.3, 3.0), min_size=1, max_size=40),
    st.floats(1, 10),
    st.floats(0, 8),
    st.integers(0, 9),
)
def test_monologues_are_as_long_as_was_drawn(
    lengths_s: list[float], low_s: float, more_s: float, seed: int
) -> None:
    high_s = low_s + more_s
    clips = [clip_of(k + 1, length_s) for k, length_s in enumerate(lengths_s)]
    mix = SpeechMix(monologue_s=(low_s, high_s), gap_s=(0.05, 0.1))
    found = monologues(clips, mix, random.Random(seed))
    assert found
    texts = " ".join(clip.text for clip in found)
    assert " ".join(clip.text for clip in clips).startswith(texts), "in order, none twice"
    for whole in found[:-1]:
        assert low_s <= speech_s(whole) + 1e-3
        # Longer than the most only where one sentence more had to be.
        assert speech_s(whole) <= max(high_s, low_s + 3.1) + 1e-3
    assert speech_s(found[-1]) >= low_s or len(found) == 1


def test_without_a_wish_sentences_stay_as_they_are() -> None:
    clips = [clip_of(1), clip_of(2)]
    assert monologues(clips, SpeechMix(), random.Random(0)) == clips
