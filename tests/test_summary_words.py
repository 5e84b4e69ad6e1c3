"""Word latency: from the end of each word to its first being read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.record import TurnRow, encode_shown
from rtvc.summary import summarize, word_latencies_s
from tests.synthetic_run import a_turn
from tests.test_summary import a_run

ENDS_S = [0.2, 0.4, 0.6, 1.0, 1.2, 1.4, 1.9]
TEXT = "turn on the light in the kitchen"


def said(
    *shown: tuple[float, str], text: str = TEXT, ends_s: list[float] | None = None, **more: Any
) -> TurnRow:
    more = {"heard": shown[-1][1] if shown else None, **more}
    cell = encode_shown(shown)
    ends = json.dumps(ENDS_S if ends_s is None else ends_s)
    return a_turn(0, 0, text=text, word_ends=ends, shown=cell, **more)


def test_a_word_is_seen_with_the_first_text_that_holds_it() -> None:
    turn = said(
        (0.7, "turn on the"),
        (1.1, "turn on the lied"),
        (1.6, "turn on the light in the"),
        (2.2, TEXT),
    )
    found = word_latencies_s(turn)
    assert found == pytest.approx((0.5, 0.3, 0.1, 0.6, 0.4, 0.2, 0.3))


def test_an_early_word_is_not_taken_for_its_like_later() -> None:
    first = word_latencies_s(said((0.7, "the"), (2.2, TEXT)))
    assert first[2] == pytest.approx(0.1), "only the first “the” had begun by then"
    assert first[5] == pytest.approx(2.2 - 1.4)


def test_only_words_count_that_the_final_has_right() -> None:
    turn = said((0.7, "turn on the"), (2.2, "turn off the light in the kitten"))
    assert word_latencies_s(turn) == pytest.approx((0.5, 0.1, 1.2, 1.0, 0.8))


def test_a_word_that_was_shown_before_it_was_over_is_early() -> None:
    (latency_s,) = word_latencies_s(said((0.3, "hello"), text="hello", ends_s=[0.5]))
    assert latency_s == pytest.approx(-0.2)


@pytest.mark.parametrize(
    "turn",
    [
        said(),
        said((2.2, TEXT), heard=None),
        said((2.2, TEXT), ends_s=[0.2, 0.4]),
        a_turn(0, 0, text=TEXT, heard=TEXT),
        said((2.2, "five dollars"), text="$ 5", ends_s=[0.2, 0.4]),
    ],
    ids=["nothing shown", "no final", "words untimed", "a recording", "numbers read together"],
)
def test_where_nothing_is_known_nothing_is_claimed(turn: TurnRow) -> None:
    assert word_latencies_s(turn) == ()


words = st.lists(
    st.sampled_from(["on", "off", "the", "a", "light", "lamp", "now"]), min_size=1, max_size=9
)


@given(words, words, st.lists(st.floats(0, 9), min_size=1, max_size=6))
def test_no_latency_without_its_word_and_none_before_the_first_text(
    said_words: list[str], heard: list[str], instants_s: list[float]
) -> None:
    ends_s = [0.5 * (k + 1) for k in range(len(said_words))]
    instants_s = sorted(instants_s)
    shown = [(at_s, " ".join(heard[: 1 + k])) for k, at_s in enumerate(instants_s)]
    turn = said(*shown, text=" ".join(said_words), ends_s=ends_s, heard=" ".join(heard))
    found = word_latencies_s(turn)
    assert len(found) <= min(len(said_words), len(heard))
    assert all(latency_s >= instants_s[0] - ends_s[-1] - 1e-3 for latency_s in found)


def test_it_is_summed_up_over_words_and_not_over_utterances() -> None:
    turns = [
        said((2.2, TEXT)),
        said((0.9, "hello"), text="hello", ends_s=[0.5]),
        said((9.0, "late"), text="late", ends_s=[0.5], warm_up=True),
    ]
    metric = summarize(a_run(turns=turns)).metrics["word_latency"]
    assert metric.n == 8
    assert metric.missing == 0
    assert metric.min == pytest.approx(2.2 - 1.9)
    assert metric.max == pytest.approx(2.0)
