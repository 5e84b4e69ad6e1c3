"""How far a bench is and how long it will still take."""

import io
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from rtvc.bench.cell_process import Beat, command, last_beat, pinned
from rtvc.bench.progress import Course, Turn, showing
from rtvc.results.cells import Cell

CELLS = [Cell("faster-whisper", name) for name in ("tiny.en", "base.en", "small.en")]
seconds = st.floats(0.0, 1e4)


@given(
    st.dictionaries(st.sampled_from(CELLS), st.lists(seconds, min_size=1, max_size=3)),
    st.lists(st.sampled_from(CELLS), max_size=6),
    seconds,
)
@settings(deadline=None)
def test_what_is_left_is_never_less_than_nothing_and_shrinks_with_time(
    took_s: dict[Cell, list[float]], left: list[Cell], now_s: float
) -> None:
    turns = tuple(Turn(cell, 1) for cell in left)
    early = Course(9, turns, took_s, Turn(CELLS[0], 1), 0.0)
    late = Course(9, turns, took_s, Turn(CELLS[0], 1), now_s)
    assert (early.left_s is None) == (not took_s)
    if early.left_s is not None and late.left_s is not None:
        assert 0.0 <= late.left_s <= early.left_s


def test_a_cell_is_expected_to_take_what_it_took_and_others_the_mean() -> None:
    tiny, base, small = CELLS
    took_s = {tiny: [10.0], base: [90.0, 30.0]}
    left = (Turn(tiny, 1), Turn(base, 2), Turn(small, 0))
    course = Course(6, left, took_s)
    assert course.left_s == 10.0 + 30.0 + (10.0 + 90.0 + 30.0) / 3


def test_nothing_is_promised_before_anything_was_measured() -> None:
    course = Course(3, (Turn(CELLS[0], 1),), {}, Turn(CELLS[0], 0), 5.0)
    assert course.left_s is None
    assert "left" not in course.line()


def test_without_a_terminal_there_is_a_line_for_each_cell_measured() -> None:
    out = io.StringIO()
    turns = (Turn(CELLS[0], 1), Turn(CELLS[0], 2))
    with showing(Console(file=out)) as screen:
        for beats in range(5):
            screen.course(Course(3, turns, {}, Turn(CELLS[0], 0), 1.0, Beat(beats, "turns", 1, 9)))
        screen.course(Course(3, turns, {CELLS[0]: [8.0]}))
        screen.line("skipped: because [so]")
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("1 of 3")
    assert lines[2] == "skipped: because [so]"


def test_a_terminal_gets_a_bar() -> None:
    out = io.StringIO()
    with showing(Console(file=out, force_terminal=True, width=100)) as screen:
        course = Course(2, (), {CELLS[0]: [8.0]}, Turn(CELLS[0], 1), 2.0, Beat(1, "turns", 3, 9))
        screen.course(course)
    assert "1 of 2" in out.getvalue()
    assert "turns 3/9" in out.getvalue()


def test_a_library_may_print_what_it_likes() -> None:
    told = '{"stage": "turns", "done": 1, "total": 9}\n[1, 2]\n{"stage": 1}\n{"half'
    assert last_beat(told, 7) == Beat(7, "turns", 1, 9)
    assert last_beat("", 0) == Beat(0)


def test_every_library_is_kept_to_the_cells_threads() -> None:
    told = pinned(Cell("transformers", "tiny.en", threads=3))
    assert {told[name] for name in told if name.endswith("_NUM_THREADS")} == {"3"}
    assert told["HF_HUB_OFFLINE"] == "1"
    assert command("faster-whisper", Path("unused"), None)[1:] == ["-m", "rtvc.bench.cell"]
