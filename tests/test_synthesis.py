"""espeak-ng: any text, word times, threads."""

import ctypes
import gc
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rtvc.errors import UsageError
from rtvc.speech.synthesis import AUDIBLE, VOICES, Speech, Synthesizer

TEXT = "wait, that is not what i meant. set a timer for forty two minutes, of the day."


@pytest.fixture(scope="module")
def synthesizer() -> Synthesizer:
    return Synthesizer()


def check_times(speech: Speech) -> None:
    times = [(w.start_s, w.end_s) for w in speech.words]
    assert all(type(t) is float for pair in times for t in pair)
    assert all(start <= end for start, end in times)
    assert all(before[1] <= after[0] + 1e-9 for before, after in pairwise(times))
    assert 0 <= speech.speech_start_s <= speech.speech_end_s <= len(speech.audio) / speech.rate_hz
    if times:
        assert times[-1][1] == pytest.approx(speech.speech_end_s)


def test_words_are_the_text_and_tile_the_sound(synthesizer: Synthesizer) -> None:
    speech = synthesizer.say(TEXT)
    assert [w.text for w in speech.words] == TEXT.split()
    check_times(speech)


def test_a_pause_belongs_to_no_word(synthesizer: Synthesizer) -> None:
    speech = synthesizer.say("wait, that is not right")
    pause_s = speech.words[1].start_s - speech.words[0].end_s
    assert pause_s > 0.05
    end, start = (
        round(t * speech.rate_hz) for t in (speech.words[0].end_s, speech.words[1].start_s)
    )
    assert np.abs(speech.audio[end:start]).max() <= AUDIBLE


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 48_000])
def test_speech_bounds_are_the_first_and_last_audible_sample(
    synthesizer: Synthesizer, rate_hz: int
) -> None:
    speech = synthesizer.say("hello there", rate_hz=rate_hz)
    loud = np.flatnonzero(np.abs(speech.audio) > AUDIBLE)
    assert speech.speech_start_s == loud[0] / rate_hz
    assert speech.speech_end_s == (loud[-1] + 1) / rate_hz
    assert speech.audio.dtype == np.float32


@pytest.mark.parametrize("text", ["", "   ", "\0\x07", "…", "\ud800", "\u200d\ufeff"])
def test_nothing_to_say_is_empty_speech(synthesizer: Synthesizer, text: str) -> None:
    speech = synthesizer.say(text)
    assert (len(speech.audio), speech.words, speech.speech_end_s) == (0, (), 0.0)


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=12) | st.text(st.characters(), max_size=12))
@example("🎉 party 👩‍🚀")
@example("你好世界")
@example("a\0b\x01 50P c")
@example("<speak>hi</speak> [[h@l'oU]]")
@example("\ud800 hello")
def test_any_text_can_be_said(text: str) -> None:
    check_times(Synthesizer().say(text, words_per_minute=400))


def test_a_fast_voice_is_shorter_and_a_high_one_differs(synthesizer: Synthesizer) -> None:
    slow, fast = (synthesizer.say(TEXT, words_per_minute=wpm) for wpm in (130, 200))
    assert fast.speech_end_s < slow.speech_end_s
    low, high = (synthesizer.say("hello", pitch=pitch) for pitch in (20, 80))
    assert not np.array_equal(low.audio, high.audio)


def test_the_same_request_gives_the_same_samples() -> None:
    synthesizer = Synthesizer(reproducible=True)
    first = synthesizer.say(TEXT, voice="en-us+m3")
    Synthesizer().say("something else", voice="en+f2", pitch=90)
    np.testing.assert_array_equal(synthesizer.say(TEXT, voice="en-us+m3").audio, first.audio)


def test_speaking_leaves_no_types_behind(synthesizer: Synthesizer) -> None:
    """ctypes keeps each type of array that it is asked for, and every length would be one."""
    before = array_types()
    for words in range(1, 12):
        synthesizer.say("one two three four five six seven eight nine ten eleven"[: 5 * words])
    assert array_types() == before


def array_types() -> int:
    kind = type(ctypes.c_short * 1)
    return sum(type(one) is kind for one in gc.get_objects())


def test_threads_do_not_mix_their_voices() -> None:
    wanted = [(f"number {k}", VOICES[k * 5]) for k in range(12)]
    synthesizers = [Synthesizer(reproducible=True), Synthesizer(reproducible=True)]
    alone = [synthesizers[0].say(text, voice) for text, voice in wanted]
    with ThreadPoolExecutor(4) as pool:
        pending = [
            pool.submit(synthesizers[k % 2].say, text, voice)
            for k, (text, voice) in enumerate(wanted)
        ]
        together = [each.result() for each in pending]
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a.audio, b.audio)
        assert a.words == b.words


def test_every_listed_voice_exists(synthesizer: Synthesizer) -> None:
    assert [name for name in VOICES if not synthesizer.has_voice(name)] == []
    assert len(set(VOICES)) == len(VOICES)


@pytest.mark.parametrize("name", ["xx-klingon", "", "\0", "\ud800"])
def test_an_unknown_voice_is_refused(synthesizer: Synthesizer, name: str) -> None:
    assert not synthesizer.has_voice(name)
    with pytest.raises(UsageError, match="espeak-ng voice"):
        synthesizer.say("hello", voice=name)
    assert synthesizer.say("hello").words
