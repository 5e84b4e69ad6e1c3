"""Utterances transcribed while they are spoken, in virtual time: exact, whatever the machine."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.bench.clips import BenchClip
from rtvc.bench.streaming import Cadence, Shown, corrections, live, stream_clip, word_latencies_s
from rtvc.clock import FakeClock
from rtvc.errors import TranscriberError, UsageError
from rtvc.normalisers import normaliser_for
from rtvc.stt.transcriber import AudioArray

ENGLISH = normaliser_for("en")
WORDS = ("turn", "on", "the", "kitchen", "light")
ENDS_S = (0.4, 0.6, 0.8, 1.3, 1.7)


def clip_of(
    words: tuple[str, ...] = WORDS,
    ends_s: tuple[float, ...] | None = ENDS_S,
    reference: str | None = "",
    language: str = "en",
) -> BenchClip:
    """Speech from 0 to 1.7 s in 2 s of audio."""
    return BenchClip(
        name="clip",
        audio_16k=np.full(32_000, 0.05, np.float32),
        reference=" ".join(words) if reference == "" else reference,
        language=language,
        condition="clean",
        words_end_s=ends_s,
        speech_start_s=0.0,
        speech_end_s=1.7,
    )


@dataclass(frozen=True)
class Heard:
    """A text."""

    text: str
    """As told."""


@dataclass
class Engine:
    """Says what it is told to, in so many seconds of a clock that it moves itself."""

    clock: FakeClock
    """Moved by each inference."""
    says: Callable[[float], str]
    """Seconds of audio → text."""
    seconds: float = 0.1
    """Of each inference."""
    asked: list[tuple[int, str | None]] = field(default_factory=list)
    """Samples and language of each."""

    def transcribe(self, audio: AudioArray, language: str | None) -> Heard:
        self.asked.append((len(audio), language))
        self.clock.advance(self.seconds)
        return Heard(self.says(len(audio) / 16_000))


def spoken_by(heard_s: float) -> str:
    """All words that are over by then."""
    ended = (w for w, end_s in zip(WORDS, ENDS_S, strict=True) if end_s <= heard_s + 1e-9)
    return " ".join(ended)


def engine_of(says: Callable[[float], str] = spoken_by, seconds: float = 0.1) -> Engine:
    return Engine(FakeClock(), says, seconds)


def test_a_swift_engine_shows_each_word_with_the_next_partial() -> None:
    engine = engine_of(seconds=0.1)
    found = stream_clip(engine, clip_of(), engine.clock)
    # Asked at 0.4, 0.8, 1.2, 1.6 s, and for the final 64 ms after the end at 1.7 s.
    assert [samples / 16_000 for samples, _ in engine.asked] == pytest.approx(
        [0.4, 0.8, 1.2, 1.6, 1.764]
    )
    assert found.partials == 4
    assert found.final_delay_s == pytest.approx(0.164)
    assert found.word_latency_s == pytest.approx((0.1, 0.3, 0.1, 0.4, 0.164))
    assert found.corrections == 0
    assert (found.text, found.last_partial) == ("turn on the kitchen light", "turn on the kitchen")
    assert (found.reference, found.language, found.audio_s) == (found.text, "en", 2.0)


def test_a_slow_engine_shows_less_and_the_final_waits_for_the_partial() -> None:
    engine = engine_of(seconds=0.7)
    found = stream_clip(engine, clip_of(), engine.clock)
    # Asked at 0.4 and 1.1 s; free at 1.8 s, when the final has waited for 36 ms already.
    assert [samples / 16_000 for samples, _ in engine.asked] == pytest.approx([0.4, 1.1, 1.764])
    assert found.final_delay_s == pytest.approx(1.8 + 0.7 - 1.7)
    assert found.partials == 2


def test_what_the_engine_is_told() -> None:
    engine = engine_of()
    stream_clip(engine, clip_of(language="de"), engine.clock)
    assert {language for _, language in engine.asked} == {"de"}


def test_audio_that_ends_with_the_speech_is_followed_by_silence() -> None:
    heard: list[AudioArray] = []

    class Listening(Engine):
        def transcribe(self, audio: AudioArray, language: str | None) -> Heard:
            heard.append(audio)
            return super().transcribe(audio, language)

    clip = BenchClip("clip", np.ones(16_000, np.float32), "on", "en", "clean")
    engine = Listening(FakeClock(), spoken_by)
    stream_clip(engine, clip, engine.clock)
    assert len(heard[-1]) == 17_024
    assert heard[-1][:16_000].min() == 1.0
    assert not heard[-1][16_000:].any()
    assert [len(audio) for audio in heard[:-1]] == [6_400, 12_800]


def test_no_text_is_no_final() -> None:
    engine = engine_of(lambda heard_s: "")
    found = stream_clip(engine, clip_of(), engine.clock)
    assert (found.final_delay_s, found.partials, found.last_partial) == (None, 0, "")
    assert found.word_latency_s == ()


def test_what_an_engine_raises_goes_through() -> None:
    def says(heard_s: float) -> str:
        raise TranscriberError("out of memory")

    engine = engine_of(says)
    with pytest.raises(TranscriberError, match="out of memory"):
        stream_clip(engine, clip_of(), engine.clock)


def test_words_that_became_others_are_corrections() -> None:
    texts = iter(["Turn", "turn in", "turn on, the", "turn on the chicken", "turn on the kitchen"])
    engine = engine_of(lambda heard_s: next(texts))
    found = stream_clip(engine, clip_of(), engine.clock)
    # "in" became "on", "chicken" became "kitchen"; a capital and a comma are no words.
    assert found.corrections == 2


def test_agreement_shows_less_later_and_corrects_less() -> None:
    texts = ["turn in", "turn on the", "turn on the chicken", "turn on the kitchen", ""]

    def heard(agreed: bool) -> tuple[list[str], int]:
        left = iter(texts)
        cadence = Cadence(agreed=agreed)
        partials, final = live(lambda heard_s: (next(left), 0.1), 0.0, 1.7, cadence)
        shown = [each.text for each in partials]
        return shown, corrections(partials, ENGLISH) + (final.text != "")

    assert heard(agreed=False) == (texts[:4], 2)
    assert heard(agreed=True) == (["turn", "turn on the", "turn on the"], 0)


def test_a_word_that_comes_twice_is_not_seen_before_it_is_said() -> None:
    clip = clip_of(("the", "cat", "the", "dog"), (0.3, 0.7, 1.1, 1.7))
    partials = [Shown(0.45, 0.4, "the"), Shown(1.3, 1.2, "the cat the")]
    final = Shown(1.9, 1.764, "the cat the dog")
    found = word_latencies_s(clip, partials, final, ENGLISH)
    assert found == pytest.approx((0.15, 0.6, 0.2, 0.2))


def test_a_word_guessed_early_has_a_latency_below_zero() -> None:
    clip = clip_of()
    partials = [Shown(1.0, 0.9, "turn on the kitchen")]
    found = word_latencies_s(clip, partials, Shown(2.0, 1.764, " ".join(WORDS)), ENGLISH)
    assert found[3] == pytest.approx(1.0 - 1.3)


def test_only_words_that_the_final_has_right_count() -> None:
    partials = [Shown(0.9, 0.8, "turn on the")]
    found = word_latencies_s(clip_of(), partials, Shown(2.0, 1.764, "turn off the light"), ENGLISH)
    assert found == pytest.approx((0.5, 0.1, 0.3))


def test_a_written_word_of_several_spoken_ones() -> None:
    clip = clip_of(("set", "42", "now"), (0.4, 1.0, 1.7))
    final = Shown(2.0, 1.764, "set forty two now")
    assert word_latencies_s(clip, [], final, ENGLISH) == pytest.approx((1.6, 1.0, 1.0, 0.3))


@pytest.mark.parametrize(
    "clip",
    [
        clip_of(ends_s=None),
        clip_of(ends_s=(0.4, 1.7)),
        clip_of(reference=None),
        clip_of(("打开灯",), (1.7,), language="zh"),
        # Read together they are "five dollars".
        clip_of(("$", "5"), (0.8, 1.7)),
    ],
)
def test_without_the_times_of_words_there_is_no_latency(clip: BenchClip) -> None:
    final = Shown(2.0, 1.764, clip.reference or "turn on the kitchen light")
    assert word_latencies_s(clip, [], final, normaliser_for(clip.language)) == ()


@given(
    st.lists(st.floats(0.0, 2.0), min_size=1, max_size=40),
    st.floats(0.05, 1.0),
    st.floats(0.0, 0.5),
    st.floats(0.1, 6.0),
)
@settings(deadline=None)
def test_one_thing_at_a_time_and_never_ahead_of_the_speaker(
    costs_s: list[float], every_s: float, start_s: float, length_s: float
) -> None:
    asked: list[tuple[float, float]] = []

    def answer(heard_s: float) -> tuple[str, float]:
        cost_s = costs_s[len(asked) % len(costs_s)]
        asked.append((heard_s, cost_s))
        return f"text {len(asked)}", cost_s

    end_s = start_s + length_s
    partials, final = live(answer, start_s, end_s, Cadence(every_s=every_s))
    shown = [*partials, final]
    assert len(shown) == len(asked)
    for before, after in pairwise(shown):
        assert after.at_s >= before.at_s
    free_s = 0.0
    for (heard_s, cost_s), each in zip(asked, shown, strict=True):
        began_s = each.at_s - cost_s
        assert began_s >= heard_s - 1e-9
        assert began_s >= free_s - 1e-9
        free_s = each.at_s
    spans = [b - a for (a, _), (b, _) in pairwise(asked[:-1])]
    assert all(span >= every_s - 1e-9 for span in spans)
    assert final.at_s >= end_s + Cadence().tried_after_s


@pytest.mark.parametrize("wrong", [{"every_s": 0.0}, {"tried_after_s": -0.1}])
def test_a_cadence_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected partials more than 0 s apart"):
        Cadence(wrong.get("every_s", 0.4), wrong.get("tried_after_s", 0.064))
