"""Error rates: pooled, with an interval that holds the truth, in words or in characters."""

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.results.accuracy import (
    Transcribed,
    edits,
    hallucinated,
    most_without_an_error,
    recognised,
    score,
    score_by_language,
    score_partials,
)
from rtvc.results.cells import Heard, LongFile, Quiet, Streamed
from rtvc.transcript import wer, word_errors

WORDS = ("open", "the", "red", "door", "now", "please", "again")
sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)


def heard(clip: str, text: str, reference: str | None, language: str = "en") -> Heard:
    return Heard(clip, "clean", 1.0, 0.1, text, reference, language)


def of_pairs(pairs: Sequence[tuple[str, str]]) -> list[Heard]:
    return [heard(f"c{k}", text, said) for k, (said, text) in enumerate(pairs)]


@given(st.lists(st.tuples(sentences, st.one_of(st.just(""), sentences)), min_size=1, max_size=8))
@settings(deadline=None, max_examples=60)
def test_the_rate_is_that_of_pooled_counts(pairs: list[tuple[str, str]]) -> None:
    found = score(of_pairs(pairs))
    counted = [word_errors(said, text) for said, text in pairs]
    assert found.wer == wer(counted)
    assert found.substitutions == sum(each.substitutions for each in counted)
    assert found.deletions == sum(each.deletions for each in counted)
    assert found.insertions == sum(each.insertions for each in counted)
    assert found.reference_words == sum(each.reference_words for each in counted)
    assert found.perfect == sum(said == text for said, text in pairs)


@given(st.lists(st.tuples(sentences, sentences), min_size=2, max_size=8))
@settings(deadline=None, max_examples=40)
def test_the_interval_is_around_the_rate_and_the_same_again(pairs: list[tuple[str, str]]) -> None:
    found = score(of_pairs(pairs))
    assert found.wer is not None
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.wer + 1e-12
    assert found.wer <= found.high + 1e-12
    assert score(of_pairs(pairs)) == found


@given(st.lists(st.tuples(sentences, sentences), min_size=2, max_size=6), st.integers(2, 5))
@settings(deadline=None, max_examples=30)
def test_more_rounds_of_the_same_make_nothing_surer(
    pairs: list[tuple[str, str]], rounds: int
) -> None:
    once = score(of_pairs(pairs))
    often = score(of_pairs(pairs) * rounds)
    assert often.wer == pytest.approx(once.wer)
    assert often.clips == once.clips
    assert often.rows == rounds * once.rows
    assert often.low == pytest.approx(once.low)
    assert often.high == pytest.approx(once.high)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = random.Random(3)
    held = 0
    for _ in range(120):
        rows = []
        for clip in range(30):
            wrong = [rng.random() < 0.2 for _ in range(8)]
            text = " ".join("wrong" if missed else "right" for missed in wrong)
            rows.append(heard(str(clip), text, "right " * 8))
        found = score(rows)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.2 <= found.high
    assert held >= 106


def test_a_bad_clip_among_good_ones_leaves_much_open() -> None:
    good = [(f"word {k}", f"word {k}") for k in range(9)]
    lumped = score(of_pairs([*good, ("a b c d e", "f g h i j")]))
    assert lumped.high is not None
    assert lumped.low == 0.0
    assert lumped.wer is not None
    assert lumped.high > 2 * lumped.wer


def test_no_error_at_all_is_no_proof_of_none() -> None:
    found = score(of_pairs([("one two three", "one two three")] * 10))
    assert (found.wer, found.low) == (0.0, 0.0)
    assert found.high == most_without_an_error(30)
    assert most_without_an_error(30) > most_without_an_error(300) > 0


def test_one_clip_has_a_rate_and_no_interval() -> None:
    found = score(of_pairs([("one two", "one")]))
    assert (found.wer, found.low, found.high, found.clips) == (0.5, None, None, 1)


def test_what_nobody_knows_is_left_out_and_counted() -> None:
    rows = [heard("a", "one two", "one two"), heard("b", "anything", None)]
    found = score(rows)
    assert (found.wer, found.clips, found.unscored) == (0.0, 1, 1)


def test_nothing_known_has_no_rate() -> None:
    unknown: list[list[Heard]] = [[], [heard("a", "anything", None)]]
    for rows in unknown:
        found = score(rows)
        assert (found.wer, found.low, found.high, found.clips) == (None, None, None, 0)
        assert found.normaliser == "rtvc-en-1"


def test_words_out_of_an_empty_reference_are_insertions() -> None:
    found = score([heard("a", "thank you", ""), heard("b", "one two", "one two")])
    assert (found.insertions, found.wer) == (2, 1.0)


@pytest.mark.parametrize(
    ("language", "said", "text", "rate"),
    [
        ("ja", "今日はいい天気です。", "今日は良い天気です", 1 / 9),
        ("zh", "打开灯", "打开 灯！", 0.0),
        ("th", "สวัสดี", "สวัสดี", 0.0),
    ],
)
def test_scripts_without_spaces_have_a_character_error_rate(
    language: str, said: str, text: str, rate: float
) -> None:
    found = score([heard("a", text, said, language)])
    assert found.unit == "cer"
    assert found.wer == pytest.approx(rate)
    assert found.normaliser == "rtvc-basic-1"


def test_words_and_characters_are_never_added_up() -> None:
    rows = [heard("a", "open the dor", "open the door"), heard("b", "打开灯", "打开灯", "zh")]
    together = score(rows)
    assert together.unit == "cer"
    assert (together.errors, together.reference_words) == (1, 11 + 3)
    assert together.normaliser == "rtvc-basic-1 + rtvc-en-1"
    apart = score_by_language(rows)
    assert [(tag, each.unit) for tag, each in apart.items()] == [("en", "wer"), ("zh", "cer")]
    assert apart["en"].wer == pytest.approx(1 / 3)
    assert apart["zh"].wer == 0.0


def test_each_language_is_cleaned_up_in_its_own_way() -> None:
    rows = [heard("a", "it is 7", "it is seven"), heard("b", "es ist 7", "es ist sieben", "de")]
    apart = score_by_language(rows)
    assert apart["en"].wer == 0.0
    assert apart["de"].wer == pytest.approx(1 / 3)
    assert score(rows).unit == "wer"


def test_partials_are_scored_by_the_last_one_shown() -> None:
    row = Streamed("a", 2.0, 0.3, (0.2,), 0, 1, "open the", "open the door", "open the door", "en")
    assert score([row]).wer == 0.0
    partials = score_partials([row])
    assert partials.deletions == 1
    assert partials.wer == pytest.approx(1 / 3)


def test_long_files_are_scored_like_turns() -> None:
    rows: list[Transcribed] = [LongFile("a", 60.0, 1.0, "one two", "one two three", "en")]
    assert score(rows).deletions == 1


def test_words_out_of_quiet_are_counted_by_the_minute() -> None:
    rows = [
        Quiet("silence", 20.0, ""),
        Quiet("pink", 20.0, "Thanks for watching!"),
        Quiet("hum", 20.0, " ... "),
    ]
    found = hallucinated(rows)
    assert (found.words, found.clips, found.clips_with_words) == (3, 3, 1)
    assert found.words_per_minute == pytest.approx(3.0)
    assert hallucinated([]).words_per_minute is None
    assert hallucinated([Quiet("hum", 60.0, "字幕")], "zh").words == 2


tokens = st.lists(st.sampled_from("abcd"), max_size=10)


@given(tokens, tokens)
@settings(deadline=None)
def test_edits_turn_one_into_the_other(said: list[str], text: list[str]) -> None:
    found = edits(said, text)
    assert found.reference_words - found.deletions + found.insertions == found.hypothesis_words
    assert max(len(said), len(text)) >= found.errors >= abs(len(said) - len(text))
    assert (found.errors == 0) == (said == text)
    assert edits(text, said).errors == found.errors


@given(tokens, tokens)
@settings(deadline=None)
def test_what_is_recognised_is_the_same_and_in_order(said: list[str], text: list[str]) -> None:
    pairs = recognised(said, text)
    assert all(said[at] == text[heard_at] for at, heard_at in pairs)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(pairs))
    assert len(pairs) == len(said) - edits(said, text).substitutions - edits(said, text).deletions


@given(st.integers(1, 100_000))
@settings(deadline=None)
def test_the_bound_without_an_error_is_exact(words: int) -> None:
    bound = most_without_an_error(words)
    assert math.isclose((1 - bound) ** words, 0.025, rel_tol=1e-6)
