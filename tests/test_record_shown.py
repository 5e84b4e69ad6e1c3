"""What a caller read, change by change, as one cell."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.record import decode_shown, encode_shown

changes = st.lists(st.tuples(st.floats(-5, 500), st.text(max_size=30)), max_size=12)


@given(changes)
def test_what_is_written_is_read(shown: list[tuple[float, str]]) -> None:
    kept, before = [], ""
    for at_s, text in shown:
        if text != before:
            kept.append((round(at_s, 3), text))
        before = text
    assert decode_shown(encode_shown(shown)) == kept


def test_nothing_shown_is_absent() -> None:
    assert encode_shown([]) is None
    assert encode_shown([(1.0, "")]) is None
    assert decode_shown(None) == []


def test_a_text_that_grows_is_not_repeated() -> None:
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    shown = [(k / 2, " ".join(words[: k + 1])) for k in range(len(words))]
    cell = encode_shown(shown)
    assert cell is not None
    assert cell.count("one") == 1
    assert decode_shown(cell) == shown


@pytest.mark.parametrize("cell", ["[1]", "[[1, 2]]", '[[0.5, "a", "b"]]', "{", '[["x", 0, "b"]]'])
def test_anything_else_is_refused(cell: str) -> None:
    with pytest.raises(ValueError, match=r"expected|property name|convert"):
        decode_shown(cell)


def test_it_stays_json() -> None:
    cell = encode_shown([(0.5, 'she said "né"')])
    assert json.loads(cell or "") == [[0.5, 0, 'she said "né"']]
