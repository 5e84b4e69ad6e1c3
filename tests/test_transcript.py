"""Normalisation, word errors, alignment and cross-talk."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.transcript import (
    NORMALISER,
    aligned_words,
    cardinal,
    cross_talk_words,
    normalise,
    wer,
    word_errors,
)

words = st.lists(st.sampled_from(["red", "green", "the", "a", "window", "open"]), max_size=8)
sentences = words.map(" ".join)


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Hello,  WORLD!", "hello world"),
        ("I'm sure it’s 'fine'", "i'm sure it's fine"),
        ("twenty-one", "twenty one"),
        ("21", "twenty one"),
        ("Room 105.", "room one hundred five"),
        ("1,250,000 people", "one million two hundred fifty thousand people"),
        ("code 40213", "code four zero two one three"),
        ("007", "zero zero seven"),
        ("in 1995 and 2024", "in nineteen ninety five and twenty twenty four"),
        ("1905 or 1900", "nineteen oh five or nineteen hundred"),
        ("2005", "two thousand five"),
        ("3.14", "three point one four"),
        ("the 3rd, 12th, 20th and 8th", "the third twelfth twentieth and eighth"),
        ("31st of May", "thirty first of may"),
        ("$50", "fifty dollars"),
        ("£3.20", "three pounds and twenty pence"),
        ("80%", "eighty percent"),
        ("at 7:30 or 7:05", "at seven thirty or seven oh five"),
        ("10:00", "ten o'clock"),
        ("mp3", "mp three"),
        ("6 p.m. in the U.S.", "six pm in the us"),
        ("my favourite colour is grey, OK?", "my favorite color is gray okay"),
        ("Zürich, ТЕСТ, 日本 🎉", "zürich тест 日本"),
        ("…", ""),
        ("", ""),
    ],
)
def test_normalise(written: str, spoken: str) -> None:
    assert normalise(written) == spoken


def test_the_normaliser_has_a_version() -> None:
    assert NORMALISER == "rtvc-en-1"


@given(st.text(max_size=40))
@settings(deadline=None)
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(alphabet="0123456789.,:$£%th nd-a", max_size=16))
@settings(deadline=None)
def test_no_digit_is_left_over(text: str) -> None:
    assert not any(c.isdigit() for c in normalise(text))


@given(st.integers(0, 999_999_999_999))
def test_cardinals_differ(number: int) -> None:
    assert cardinal(number) != cardinal(number + 1)


@given(sentences, sentences)
@settings(deadline=None)
def test_edits_are_symmetric_and_balance_lengths(said: str, heard: str) -> None:
    there, back = word_errors(said, heard), word_errors(heard, said)
    assert there.errors == back.errors
    assert there.insertions - there.deletions == there.hypothesis_words - there.reference_words
    assert (there.errors == 0) == (said == heard)


def test_wer_pools_counts() -> None:
    none_wrong, one_wrong = word_errors("a b c d e f", "a b c d e f"), word_errors("x y", "x")
    assert wer([none_wrong, one_wrong]) == 1 / 8
    assert wer([word_errors("no", "yes we can")]) == 3.0


def test_wer_without_words_is_absent() -> None:
    assert wer([]) is None
    assert wer([word_errors("", "ghost words")]) is None
    assert word_errors("", "ghost words").insertions == 2


@given(sentences, sentences)
@settings(deadline=None)
def test_aligned_words_are_equal_and_rise(said: str, heard: str) -> None:
    pairs = aligned_words(said, heard)
    assert all(said.split()[i] == heard.split()[j] for i, j in pairs)
    assert pairs == sorted(set(pairs))
    errors = word_errors(said, heard)
    assert len(pairs) == errors.reference_words - errors.substitutions - errors.deletions


def test_a_leaked_phrase_counts() -> None:
    others = ["set a timer for ten minutes.", "play some jazz"]
    assert cross_talk_words("i like rice set a timer for ten minutes", "i like rice", others) == 4


def test_a_replaced_transcript_counts() -> None:
    assert cross_talk_words("play some jazz", "open the window", ["Play some jazz!"]) == 2


def test_one_wrong_word_is_a_misrecognition() -> None:
    assert cross_talk_words("open the green window", "open the red window", ["the green box"]) == 0


def test_function_words_are_no_evidence() -> None:
    assert cross_talk_words("rice is in the", "rice", ["what is in the box"]) == 0


def test_words_of_ones_own_are_no_evidence() -> None:
    assert cross_talk_words("play some jazz", "play some jazz", ["play some jazz now"]) == 0


def test_a_word_that_two_others_said_counts_once() -> None:
    assert cross_talk_words("red box", "hello", ["the red box", "a red box"]) == 2


def test_parts_from_two_texts_count_each() -> None:
    heard = "blue lamp green chair"
    assert cross_talk_words(heard, "hello", ["the blue lamp", "my green chair"]) == 4


@given(sentences)
@settings(deadline=None)
def test_nobody_else_no_cross_talk(heard: str) -> None:
    assert cross_talk_words(heard, "", []) == 0
