"""Segments add up."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.instruments.stages import Segment, in_a_row, split_at, unaccounted_s

instants = st.floats(-100, 100)
stages = st.lists(st.tuples(st.sampled_from(["queue_wait", "encode", "decode"]), st.floats(0, 20)))


def total_s(segments: list[Segment]) -> float:
    return sum(segment.duration_s for segment in segments)


@given(start_s=instants, stages=stages)
def test_stages_in_a_row_touch_each_other(start_s: float, stages: list[tuple[str, float]]) -> None:
    segments = in_a_row(start_s, stages)
    assert [segment.name for segment in segments] == [name for name, _ in stages]
    assert total_s(segments) == pytest.approx(sum(s for _, s in stages))
    at_s = start_s
    for segment in segments:
        assert segment.start_s == at_s
        at_s = segment.end_s


def test_a_negative_length_is_no_length() -> None:
    assert [s.duration_s for s in in_a_row(0.0, [("a", -1.0), ("b", 1.0)])] == [0.0, 1.0]


@given(start_s=instants, stages=stages, instant_s=instants)
def test_a_split_loses_no_time(
    start_s: float, stages: list[tuple[str, float]], instant_s: float
) -> None:
    segments = in_a_row(start_s, stages)
    hidden, felt = split_at(segments, instant_s)
    assert total_s(hidden) + total_s(felt) == pytest.approx(total_s(segments))
    assert all(segment.end_s <= instant_s + 1e-9 for segment in hidden)
    assert all(segment.start_s >= instant_s - 1e-9 for segment in felt)
    assert all(segment.duration_s > 0 for segment in [*hidden, *felt])
    names = {segment.name for segment in [*hidden, *felt]}
    assert names == {segment.name for segment in segments if segment.duration_s > 0}


@given(start_s=instants, stages=stages, instant_s=instants)
def test_what_is_felt_after_a_split_is_still_contiguous(
    start_s: float, stages: list[tuple[str, float]], instant_s: float
) -> None:
    for half in split_at(in_a_row(start_s, stages), instant_s):
        for earlier, later in pairwise(half):
            assert later.start_s == pytest.approx(earlier.end_s, abs=1e-9)


def test_what_the_segments_leave_is_unaccounted() -> None:
    assert unaccounted_s(in_a_row(0.0, [("a", 1.0)]), 1.5) == 0.5
    assert unaccounted_s(in_a_row(0.0, [("a", 2.0)]), 1.5) == -0.5
