"""Rounds in turn, whatever happens to a cell; what was measured is never measured again."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.bench.outcome import OUT_OF_MEMORY
from rtvc.bench.progress import Turn
from rtvc.bench.runner import POLL_S, BenchRunner, Order, schedule, to_measure
from rtvc.bench.spec import Failed, Measures
from rtvc.clock import FakeClock
from rtvc.results.cells import Cell, CellFailure
from rtvc.results.reading import FAILURE_FILE, cell_folder, load_failure, round_path, write_failure
from tests.bench_fakes import Children, FakeScreen, Script

TINY, BASE = Cell("faster-whisper", "tiny.en"), Cell("faster-whisper", "base.en")


def an_order(folder: Path, *, rounds: int = 2, cells: tuple[Cell, ...] = (TINY, BASE)) -> Order:
    return Order(cells, rounds, folder / "bench", folder / "input", folder / "work", Measures())


def a_runner(order: Order, children: Children, screen: FakeScreen | None = None) -> BenchRunner:
    clock = FakeClock()
    return BenchRunner(order, clock, screen or FakeScreen(), start=children, sleep=clock.advance)


def started(children: Children) -> list[tuple[str, int]]:
    return [(spec.cell.model, spec.round) for spec in children.specs]


def failure_of(order: Order, cell: Cell) -> CellFailure:
    return load_failure(cell_folder(order.folder, cell) / FAILURE_FILE)


@given(st.integers(0, 5), st.integers(0, 4))
@settings(deadline=None)
def test_every_cell_has_its_turn_in_every_round(cells: int, rounds: int) -> None:
    some = [Cell("faster-whisper", f"model-{number}") for number in range(cells)]
    turns = schedule(some, rounds)
    assert len(set(turns)) == len(turns) == cells * rounds
    assert [turn.round for turn in turns] == sorted(turn.round for turn in turns)


def test_rounds_are_interleaved(tmp_path: Path) -> None:
    children = Children()
    assert a_runner(an_order(tmp_path), children).run() is False
    assert started(children) == [("tiny.en", 0), ("base.en", 0), ("tiny.en", 1), ("base.en", 1)]
    assert all(child.ended for child in children.started)


def test_what_is_there_is_not_measured_again(tmp_path: Path) -> None:
    order = an_order(tmp_path)
    first = Children(change=lambda spec: Script(interrupt=True) if spec.round else None)
    assert a_runner(order, first).run() is True
    assert [(turn.cell, turn.round) for turn in to_measure(order)] == [(TINY, 1), (BASE, 1)]
    again = Children()
    assert a_runner(order, again).run() is False
    assert started(again) == [("tiny.en", 1), ("base.en", 1)]
    assert to_measure(order) == []


def test_a_process_that_runs_when_somebody_stops_the_bench_is_ended(tmp_path: Path) -> None:
    children = Children({"tiny.en": Script(interrupt=True)})
    assert a_runner(an_order(tmp_path), children).run() is True
    assert [child.ended for child in children.started] == [True]


def test_a_cell_that_fails_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    order, screen = an_order(tmp_path), FakeScreen()
    why = Failed("skipped", "the weights are not here")
    children = Children({"tiny.en": Script(status=1, result=False, failed=why)})
    assert a_runner(order, children, screen).run() is False
    assert started(children) == [("tiny.en", 0), ("base.en", 0), ("base.en", 1)]
    assert failure_of(order, TINY) == CellFailure(TINY, "skipped", "the weights are not here")
    assert [line for line in screen.lines if "the weights are not here" in line]
    assert not (cell_folder(order.folder, BASE) / FAILURE_FILE).exists()


def test_a_process_killed_by_the_system_ran_out_of_memory(tmp_path: Path) -> None:
    order = an_order(tmp_path)
    children = Children({"tiny.en": Script(status=-9, result=False)})
    a_runner(order, children).run()
    assert failure_of(order, TINY).kind == OUT_OF_MEMORY


def test_a_process_that_ends_well_without_a_result_has_failed(tmp_path: Path) -> None:
    order = an_order(tmp_path)
    children = Children({"tiny.en": Script(status=0, result=False, last_words="what?")})
    a_runner(order, children).run()
    assert "what?" in failure_of(order, TINY).reason


def test_a_cell_that_hangs_is_ended(tmp_path: Path) -> None:
    order = an_order(tmp_path)
    children = Children({"tiny.en": Script(polls=-1, silent=True, result=False)})
    assert a_runner(order, children).run() is False
    assert failure_of(order, TINY).kind == "hung"
    assert "turns" in failure_of(order, TINY).reason
    assert children.started[0].ended


def test_a_cell_that_gives_signs_of_life_may_take_as_long_as_it_likes(tmp_path: Path) -> None:
    order = an_order(tmp_path, rounds=1)
    polls = round(3 * order.hang_s / POLL_S)
    children = Children({"tiny.en": Script(polls=polls)})
    a_runner(order, children).run()
    assert to_measure(order) == []


def test_a_failure_after_the_result_costs_neither_it_nor_the_next_rounds(tmp_path: Path) -> None:
    order = an_order(tmp_path)
    why = Failed("failed", "sessions held: it died")
    dies = Script(status=1, result=False, interim=True, failed=why)
    first = (TINY, 0)
    children = Children(change=lambda spec: dies if (spec.cell, spec.round) == first else None)
    a_runner(order, children).run()
    assert to_measure(order) == []
    assert failure_of(order, TINY).reason == "sessions held: it died"


def test_a_round_that_somebody_stopped_is_measured_anew_and_whole(tmp_path: Path) -> None:
    order = an_order(tmp_path)
    children = Children({"tiny.en": Script(interim=True, interrupt=True)})
    assert a_runner(order, children).run() is True
    assert Turn(TINY, 0) in to_measure(order)


def test_a_cell_that_failed_in_an_earlier_run_is_tried_again(tmp_path: Path) -> None:
    order = an_order(tmp_path)
    write_failure(order.folder, CellFailure(TINY, "skipped", "the engine was not installed"))
    a_runner(order, Children()).run()
    assert to_measure(order) == []
    assert not (cell_folder(order.folder, TINY) / FAILURE_FILE).exists()


def test_weights_are_cold_once(tmp_path: Path) -> None:
    batched = Cell("faster-whisper-batched", "tiny.en")
    torch = Cell("transformers", "tiny.en")
    order = an_order(tmp_path, cells=(TINY, batched, BASE, torch))
    children = Children()
    a_runner(order, children).run()
    cold = [(spec.cell, spec.round) for spec in children.specs if spec.cold]
    # The batched engine loads the same folder; transformers has files of its own.
    assert cold == [(TINY, 0), (BASE, 0), (torch, 0)]
    (round_path(order.folder, TINY, 1)).unlink()
    again = Children()
    a_runner(order, again).run()
    assert [spec.cold for spec in again.specs] == [False]


def test_the_screen_is_told_how_far_it_is(tmp_path: Path) -> None:
    order, screen = an_order(tmp_path), FakeScreen()
    a_runner(order, Children(), screen).run()
    done = [course.done for course in screen.courses]
    assert done == sorted(done)
    assert done[-1] == 4
    assert screen.courses[-1].left_s == 0.0
    assert screen.courses[0].left_s is None
    assert Turn(TINY, 0) in {course.now for course in screen.courses}
