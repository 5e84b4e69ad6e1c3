"""Two benches of the same cells: the same machine is told from another result."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.results.cells import Cell
from rtvc.results.repeat import Repeat, compare_benches
from rtvc.results.summary import BenchSummary
from rtvc.results.yardstick import summarize_bench
from tests.bench_run import MEDIUM, SMALL, TINY, a_bench, a_round, turns

BASE = Cell("faster-whisper", "base.en")
CELLS = (SMALL, MEDIUM, TINY, BASE)

delays = st.floats(0.01, 5)


def bench(known: dict[Cell, float], wrong: int = 0) -> BenchSummary:
    results = [a_round(cell, heard=turns(delay, wrong, 3)) for cell, delay in known.items()]
    return summarize_bench(a_bench(results))


def repeated(before: dict[Cell, float], after: dict[Cell, float], tolerance: float = 0.1) -> Repeat:
    return compare_benches(bench(before), bench(after), tolerance)


known = st.lists(delays, min_size=1, max_size=4).map(
    lambda values: dict(zip(CELLS, values, strict=False))
)


@given(known, st.floats(0.2, 5))
@settings(deadline=None, max_examples=40)
def test_a_machine_that_is_slower_as_a_whole_changes_no_ratio(
    before: dict[Cell, float], factor: float
) -> None:
    found = repeated(before, {cell: delay * factor for cell, delay in before.items()})
    assert found.problems == ()
    assert found.speed == pytest.approx(factor)
    assert all(one.drift == pytest.approx(1) for one in found.cells)


@given(known, known)
@settings(deadline=None, max_examples=40)
def test_what_drifted_one_way_drifted_as_far_the_other(
    one: dict[Cell, float], other: dict[Cell, float]
) -> None:
    there, back = repeated(one, other, 0.1237), repeated(other, one, 0.1237)
    drifts = {each.key: each.drift for each in there.cells}
    assert {each.key: each.drift for each in back.cells} == pytest.approx(drifts)
    assert set(there.only_before) == set(back.only_after)
    assert {frozenset(pair) for pair in there.swapped} == {frozenset(pair) for pair in back.swapped}


@given(known)
@settings(deadline=None, max_examples=20)
def test_the_ratios_of_a_bench_multiply_to_one(before: dict[Cell, float]) -> None:
    found = repeated(before, before)
    assert math.prod(one.before for one in found.cells) == pytest.approx(1)


def test_one_cell_that_became_slower_is_named() -> None:
    before = {SMALL: 0.2, MEDIUM: 0.8, TINY: 0.04, BASE: 0.1}
    found = repeated(before, {**before, BASE: 0.15})
    assert [one.key for one in found.drifted] == [BASE.key]
    assert found.problems == ("base.en beam 1: 0.94 times the middle delay, was 0.63 (50 % apart)",)
    assert repeated(before, {**before, BASE: 0.105}).problems == ()


def test_cells_that_changed_places_are_named_unless_they_were_near() -> None:
    before = {SMALL: 0.2, MEDIUM: 0.8}
    found = repeated(before, {SMALL: 0.8, MEDIUM: 0.2})
    assert found.swapped == (("small.en int8 beam 1", "medium.en beam 3, VAD filter"),)
    near = repeated({SMALL: 0.200, MEDIUM: 0.205}, {SMALL: 0.205, MEDIUM: 0.200})
    assert (near.swapped, near.problems) == ((), ())


def test_a_cell_without_a_result_any_more_is_a_problem_and_a_new_one_is_not() -> None:
    lost = repeated({SMALL: 0.2, MEDIUM: 0.8}, {SMALL: 0.2})
    assert lost.problems == (f"{MEDIUM.key} has no result any more",)
    gained = repeated({SMALL: 0.2}, {SMALL: 0.2, MEDIUM: 0.8})
    assert (gained.problems, gained.only_after) == ((), (MEDIUM.key,))


def test_benches_of_other_cells_have_nothing_to_say() -> None:
    found = repeated({SMALL: 0.2}, {MEDIUM: 0.8})
    assert found.speed is None
    assert "the two benches have no cell in common" in found.problems


def test_a_cell_that_understands_less_is_a_problem() -> None:
    found = compare_benches(bench({SMALL: 0.2}), bench({SMALL: 0.2}, wrong=1))
    assert found.problems == ("small.en int8 beam 1: 9.1 points more word errors",)
    assert compare_benches(bench({SMALL: 0.2}, wrong=1), bench({SMALL: 0.2})).problems == ()
