"""The view of a run that goes on: what is told, in the space there is."""

import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from rtvc.clock import FakeClock
from rtvc.loadtest.live_view import STARTING, LiveView, lines, watching
from rtvc.loadtest.plan import Wish, make_spec
from rtvc.loadtest.progress import RECENT_SECONDS, Glance, RunSoFar, by_second, glance
from rtvc.loadtest.spec import LoadSpec, Order
from rtvc.record import Row, RunWriter, StepRow, append_rows
from rtvc.slo import DEFAULT
from tests.synthetic_run import a_connection, a_manifest, a_second, a_turn


def a_spec(folder: Path, **more: Any) -> LoadSpec:
    return make_spec(Wish(url="http://127.0.0.1:9", **more), folder / "run", folder)


def writer(folder: Path) -> RunWriter:
    return RunWriter(folder / "run", a_manifest(), FakeClock())


def seen(folder: Path, rows: Iterable[Row], **more: Any) -> Glance:
    with writer(folder) as run:
        run.append(*rows)
    spec = a_spec(folder, **more)
    return glance(RunSoFar(folder / "run").read(), spec, DEFAULT, spec.speakers)


def told(found: Glance, width: int = 110, height: int = 24, current: str = "") -> list[str]:
    return [line.plain for line in lines(found, current, width, height)]


def a_step(number: int, speakers: int, outcome: str, until_s: float) -> StepRow:
    return StepRow(
        step=number,
        speakers=speakers,
        purpose="climb",
        ordered_at_s=0.0,
        measured_from_s=0.0,
        measured_until_s=until_s,
        outcome=outcome,
        reason=None,
        binding=None,
        stopped_early=False,
        utterances=20,
        errors=0,
        cut_utterances=0,
        delay_p50_s=0.3,
        delay_p95_s=None,
        delay_max_s=0.4,
        partial_interval_p50_s=None,
        trend=None,
        lag_p99_s=0.001,
    )


def test_speakers_utterances_errors_and_what_is_left(tmp_path: Path) -> None:
    turns = [a_turn(0, number) for number in range(9)]
    lost = a_turn(1, 0, transcription_delay_s=None)
    rows: list[Row] = [a_connection(), a_connection(1), *turns, lost, a_second(20.0)]
    found = told(seen(tmp_path, rows, speakers=6, duration_s=60.0, warm_up_s=5.0))
    assert found[0] == "4 of 6 speakers · 2 connections · 10 utterances · 1 error"
    assert found[1].endswith(" 45 s left")
    assert found[1].count("━") == 30


def test_every_target_has_its_mark_its_value_and_n(tmp_path: Path) -> None:
    slow = [a_turn(0, number, transcription_delay_s=0.8) for number in range(120)]
    found = told(seen(tmp_path, [a_connection(), *slow, a_second(20.0)]))
    marks = [" ".join(line.split()) for line in found[2:5]]
    assert marks[0] == "✓ connection p95 max 20 ms < 3 s n=1 connections"
    assert marks[1] == "✗ transcription delay p95 800 ms < 500 ms n=120"
    assert marks[2].startswith("✓ errors 0 % < 1 % n=")


def test_what_has_no_samples_yet_is_not_failed(tmp_path: Path) -> None:
    found = told(seen(tmp_path, [a_second(1.0)]))
    assert [line[0] for line in found[2:5]] == ["…", "…", "…"]
    assert "warming up" in found[1]


def test_delays_and_lag_are_drawn_with_their_latest_value(tmp_path: Path) -> None:
    turns = [a_turn(0, number, start=number * 5.0) for number in range(4)]
    late = a_turn(1, 0, start=16.0, transcription_delay_s=0.9)
    rows: list[Row] = [*turns, late, *(a_second(float(at)) for at in range(1, 21))]
    found = told(seen(tmp_path, rows))
    (delay,) = [line for line in found if line.startswith("delay")]
    assert "900 ms, largest 900 ms in 60 s" in delay
    assert any(block in delay for block in "▁▂▃▄▅▆▇█")
    (lag,) = [line for line in found if line.startswith("lag")]
    assert lag.endswith("1.2 ms generator, CPU 12 %")


def test_a_search_tells_its_step_and_what_its_steps_say(tmp_path: Path) -> None:
    with writer(tmp_path) as run:
        before = [a_turn(0, 0, start=3.0, transcription_delay_s=4.0)]
        run.append(*before, a_turn(0, 1, start=52.0), a_second(60.0))
    append_rows(tmp_path / "run", a_step(0, 4, "passed", 20.0), a_step(1, 8, "failed", 50.0))
    spec = a_spec(tmp_path, find_capacity=True, speakers=64)
    Order(2, 6, 0.0).save(spec.order_file)
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=20)
    console.print(LiveView(spec, DEFAULT).drawn("step 3: 6 speakers: 1 utterance", 100, 20))
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "so far holds 4, not 8, after 2 steps" in written
    assert "step 3: 6 speakers: 1 utterance" in written
    assert "4 of 6 speakers" in written
    # The step under way is judged by its own utterances.
    found = glance(RunSoFar(tmp_path / "run").read(), spec, DEFAULT, 6)
    (delay,) = [v for v in found.verdicts if v.objective.metric == "transcription_delay"]
    assert (delay.n, delay.status) == (1, "passed")


def test_a_storm_counts_connections(tmp_path: Path) -> None:
    manifest = a_manifest(settings={"scenario": "connect-storm"})
    with RunWriter(tmp_path / "run", manifest, FakeClock()) as run:
        run.append(a_connection(), a_connection(1, outcome="failed"), a_second(2.0))
    spec = a_spec(tmp_path, storm_rounds=2, speakers=5)
    found = told(glance(RunSoFar(tmp_path / "run").read(), spec, DEFAULT, 5))
    assert found[0] == "1 connection · 1 error"
    assert not any(line.startswith("delay") for line in found)


def test_rows_are_read_once_and_added(tmp_path: Path) -> None:
    with writer(tmp_path) as run:
        so_far = RunSoFar(tmp_path / "run")
        run.append(a_turn(), a_second(1.0))
        assert len(so_far.read().turns) == 1
        run.append(a_turn(0, 1), a_second(2.0))
        assert len(so_far.read().turns) == 2
        assert len(so_far.read().turns) == 2


def test_before_the_first_row_the_line_stands_alone(tmp_path: Path) -> None:
    view = LiveView(a_spec(tmp_path), DEFAULT)
    console = Console(file=io.StringIO(), width=80)
    console.print(view.drawn("starting", 80, 24))
    assert console.file.getvalue() == "starting\n"  # type: ignore[attr-defined]


def test_without_a_terminal_there_are_plain_lines(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=40)
    with watching(console, a_spec(tmp_path), DEFAULT) as say:
        say("12 s · 3 speakers · 27 utterances · transcription delay p50 310 ms")
    assert console.file.getvalue() == (  # type: ignore[attr-defined]
        "12 s · 3 speakers · 27 utterances · transcription delay p50 310 ms\n"
    )


def test_a_terminal_is_left_clean_and_keeps_what_is_printed(tmp_path: Path) -> None:
    with writer(tmp_path) as run:
        run.append(a_connection(), a_turn(), a_second(20.0))
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=20)
    with watching(console, a_spec(tmp_path), DEFAULT) as say:
        say("20 s · 4 speakers")
        say("generator 2 was lost after 12 s")
        console.print("✓ 4 speakers: held", highlight=False)
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert STARTING in written
    assert "✓ 4 speakers: held" in written
    assert "4 of 10 speakers" in written
    assert "generator 2 was lost after 12 s" in written
    assert "20 s · 4 speakers" not in written
    # Lines above are erased when it ends.
    assert written.rstrip().endswith("\x1b[2K")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("height", [2, 5, 10, 40])
def test_it_fits(tmp_path: Path, width: int, height: int) -> None:
    found = seen(tmp_path, [a_connection(), a_turn(), a_second(20.0)])
    drawn = lines(found, "step 3: 6 speakers: 1 utterance", width, height)
    assert 1 <= len(drawn) <= max(1, height - 1)
    assert all(line.cell_len <= width for line in drawn)


readings = st.lists(st.tuples(st.floats(0, 200), st.floats(0, 9) | st.just(math.inf)))


@given(readings, st.floats(0, 200))
@settings(deadline=None)
def test_each_second_keeps_its_largest_reading(
    points: list[tuple[float, float]], now_s: float
) -> None:
    drawn = by_second(points, now_s)
    assert len(drawn) == RECENT_SECONDS
    first = math.ceil(now_s) - RECENT_SECONDS
    for place, value in enumerate(drawn):
        inside = [y for at, y in points if first + place <= at < first + place + 1]
        assert value == max(inside, default=None)
