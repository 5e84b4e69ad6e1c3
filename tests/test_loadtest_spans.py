"""Text with positions becomes turns: whose words, when they were seen, and when they were final."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.loadtest.turns.measure import Measurement, Turn
from rtvc.loadtest.turns.spans import divide, owners
from rtvc.loadtest.wire.observations import SpansHeard, TextSpan

STREAM_START_S = 100.0


@dataclass
class Said:
    """An utterance of two seconds."""

    index: int
    speech_start_s: float
    text: str = "hello there"
    kind: str = "utterance"
    voice: str = "en-us"
    complete: bool = True

    @property
    def speech_end_s(self) -> float:
        return self.speech_start_s + 2.0

    @property
    def first_word_end_s(self) -> float:
        return self.speech_start_s + 0.4

    @property
    def word_ends_s(self) -> tuple[float, ...] | None:
        return (self.first_word_end_s, self.speech_end_s)


def at(stream_s: float) -> float:
    return STREAM_START_S + stream_s


def final(start_s: float, end_s: float, text: str = "hello there") -> TextSpan:
    return TextSpan(start_s, end_s, text, final=True)


def partial(start_s: float, end_s: float, text: str) -> TextSpan:
    return TextSpan(start_s, end_s, text, final=False)


def measuring(*said: Said) -> Measurement:
    measurement = Measurement(conversation=False, settle_s=3.0, finals_end_turns=False)
    measurement.begin(STREAM_START_S, said)
    return measurement


def only(turns: list[Turn]) -> Turn:
    assert len(turns) == 1, turns
    return turns[0]


ONE, TWO = Said(0, 1.0, "turn on the lights"), Said(1, 6.0, "play some jazz")


@pytest.mark.parametrize(
    ("span", "owner"),
    [
        (final(1.1, 2.9), ONE),
        (final(3.0, 8.0), TWO),  # starts where the last one ended
        (final(0.0, 6.5), ONE),  # and reaches a little into the next
        (final(8.1, 8.9), TWO),  # just after its end
        (final(3.2, 3.9), ONE),  # nearer to the first
        (partial(1.0, 2.0, "turn"), ONE),
        (partial(3.0, 6.2, "play"), TWO),
        (partial(0.0, 0.5, "hm"), ONE),  # before anything was said
    ],
    ids=str,
)
def test_text_belongs_to_the_utterance_that_it_covers(span: TextSpan, owner: Said) -> None:
    assert owners(span, [ONE, TWO]) == [(owner, span.text)]


def test_text_of_two_utterances_is_divided_where_the_words_fit() -> None:
    span = final(0.9, 8.1, "Turn on the light, play some jazz.")
    assert owners(span, [ONE, TWO]) == [(ONE, "turn on the light"), (TWO, "play some jazz")]


@pytest.mark.parametrize(
    ("heard", "parts"),
    [
        ("turn on the lights play some jazz", ["turn on the lights", "play some jazz"]),
        ("turn the lights play jazz", ["turn the lights", "play jazz"]),
        ("turn on the bites stay some jazz", ["turn on the bites", "stay some jazz"]),
        ("play some jazz", ["", "play some jazz"]),
        ("turn on the lights", ["turn on the lights", ""]),
        ("", ["", ""]),
    ],
)
def test_words_are_divided_as_they_were_said(heard: str, parts: list[str]) -> None:
    assert divide(heard, ["Turn on the lights.", "Play some jazz!"]) == parts


WORDS = st.lists(st.sampled_from(["turn", "on", "jazz", "two"]), max_size=6).map(" ".join)


@settings(deadline=None, max_examples=100)
@given(heard=WORDS, said=st.lists(WORDS.filter(bool), min_size=1, max_size=3))
def test_no_word_is_lost_or_made_up_in_dividing(heard: str, said: list[str]) -> None:
    parts = divide(heard, said)
    assert len(parts) == len(said)
    assert " ".join(filter(None, parts)) == heard


def test_an_utterance_is_final_when_its_last_completed_segment_comes() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(SpansHeard(at(2.2), (partial(0.9, 2.0, "hello"),)))
    measurement.observe(SpansHeard(at(3.4), (partial(0.9, 3.0, "hello there"),)))
    assert measurement.settled(at(9.0)) == [], "what may still change is waited for"
    measurement.observe(SpansHeard(at(9.5), (final(0.0, 3.0),)))
    assert measurement.settled(at(12.4)) == [], "more of it may come"
    turn = only(measurement.settled(at(12.6)))
    assert (turn.heard, turn.first_partial_at_s, turn.final_at_s) == (
        "hello there",
        at(2.2),
        at(9.5),
    )
    assert turn.partial_interval_s == pytest.approx(0.8)


def test_segments_of_one_utterance_are_joined_and_none_is_premature() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(SpansHeard(at(2.5), (final(0.0, 2.0, "hello"),)))
    measurement.observe(SpansHeard(at(4.0), (partial(2.0, 3.0, "there"),)))
    measurement.observe(SpansHeard(at(5.0), (final(2.0, 3.0, "there"),)))
    turn = only(measurement.settled(at(8.1)))
    assert (turn.heard, turn.final_at_s, turn.finals) == ("hello there", at(5.0), 2)
    assert turn.premature_finals == 0
    assert turn.shown == ((at(2.5), "hello"), (at(4.0), "hello there"))


def test_one_segment_may_answer_two_utterances() -> None:
    measurement = measuring(ONE, TWO)
    both = final(0.9, 8.0, "turn on the lights play some jazz")
    measurement.observe(SpansHeard(at(9.0), (both,)))
    first, second = measurement.settled(at(12.5))
    assert (first.heard, second.heard) == ("turn on the lights", "play some jazz")
    assert first.final_at_s == second.final_at_s == at(9.0)


def test_text_before_anything_was_said_is_counted_and_belongs_to_nobody() -> None:
    measurement = measuring(Said(0, 5.0))
    measurement.observe(SpansHeard(at(2.0), (partial(0.0, 1.0, "you"), final(0.0, 1.0, "you"))))
    assert measurement.counts["finals_without_utterance"] == 1
    assert measurement.settled(at(7.5)) == []


def test_text_that_never_becomes_final_is_missing() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(SpansHeard(at(3.0), (partial(0.9, 3.0, "hello there"),)))
    turn = only(measurement.settled(at(13.1)))
    assert (turn.heard, turn.final_at_s, turn.first_partial_at_s) == (None, None, at(3.0))


@settings(deadline=None, max_examples=100)
@given(
    spans=st.lists(
        st.tuples(st.floats(-1, 20), st.floats(-1, 20), WORDS, st.booleans(), st.floats(0, 30)),
        max_size=12,
    )
)
def test_whatever_comes_each_utterance_is_told_once(
    spans: list[tuple[float, float, str, bool, float]],
) -> None:
    measurement = measuring(ONE, TWO)
    for start_s, end_s, text, is_final, at_s in sorted(spans, key=lambda each: each[-1]):
        span = TextSpan(start_s, max(start_s, end_s), text, is_final)
        measurement.observe(SpansHeard(at(at_s), (span,)))
    turns = measurement.settled(at(60.0))
    assert sorted(turn.utterance.index for turn in turns) == [0, 1]
    for turn in turns:
        assert turn.final_at_s is None or turn.final_at_s <= turn.speech_end_at_s + 10.0


def test_the_rest_of_an_utterance_is_waited_for_however_slow_the_server_is() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(SpansHeard(at(2.5), (final(0.0, 2.0, "hello"),)))
    assert measurement.settled(at(11.9)) == []
    measurement.observe(SpansHeard(at(12.0), (final(2.0, 2.8, "there"),)))
    turn = only(measurement.settled(at(15.1)))
    assert (turn.heard, turn.final_at_s) == ("hello there", at(12.0))


def test_a_rest_that_never_comes_is_lost() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(SpansHeard(at(2.4), (final(0.0, 2.0, "hello"),)))
    turn = only(measurement.settled(at(13.1)))
    assert (turn.heard, turn.final_at_s) == ("hello", None)
