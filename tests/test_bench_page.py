"""The page and the terminal's table of a bench: well formed, self-contained, honest."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from rtvc.errors import RecordError, UsageError
from rtvc.report.bench_figures import SMALLEST, apart, clipped, radius
from rtvc.report.bench_page import build_bench_report, read_bench
from rtvc.report.bench_tables import failure_rows, mark
from rtvc.report.bench_terminal import bench_panel
from rtvc.report.command import report
from rtvc.results.bench_file import load_bench_summary
from rtvc.results.cells import Batch, Cell, CellFailure, Heard, Memory, Quiet, RoundResult
from rtvc.results.targets import Targets
from rtvc.results.yardstick import summarize_bench
from tests.bench_run import (
    MEDIUM,
    SKIPPED,
    SMALL,
    TINY,
    a_bench,
    a_round,
    a_turn,
    usual_rounds,
    write_bench_run,
)
from tests.synthetic_run import write_run
from tests.test_report import Page


def page_of(folder: Path, results: list[RoundResult] | None = None, **more: Any) -> Page:
    """Read like a browser would; what is left of `more` is the manifest's."""
    asked = {name: more.pop(name) for name in ("targets", "with_text") if name in more}
    failures = more.pop("failures", (SKIPPED,))
    write_bench_run(folder, results, failures, **more)
    return Page(build_bench_report(folder, **asked).read_text("utf-8"))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_bench_run(tmp_path_factory.mktemp("usual"))
    build_bench_report(folder, targets=Targets(0.5, 0.2))
    return folder


@pytest.fixture(scope="module")
def page(usual: Path) -> Page:
    return Page((usual / "report.html").read_text("utf-8"))


# The page.


def test_the_page_is_well_formed_and_needs_no_network(page: Page) -> None:
    assert page.open == []
    assert page.addresses == []
    assert "script" not in page.tags


def test_the_answer_comes_first_and_can_be_pasted(page: Page) -> None:
    sentence = "small.en int8 beam 1: 4.1× faster than medium.en beam 3, VAD filter"
    assert 0 <= page.text.index(sentence) < page.text.index("Cell by cell")
    assert "rtvc serve --model small.en --device cpu --compute-type int8" in page.text


def test_every_cell_is_a_row_and_every_failure_says_why(page: Page) -> None:
    table = page.text[page.text.index("Cell by cell") :]
    for name in ("medium.en beam 3, VAD filter", "small.en int8 beam 1"):
        assert name in table
    assert "synthetic:tiny.en int8 beam 1 synthetic weights" in table
    assert SKIPPED.reason in table
    assert "18.2 %" in table
    assert "+9.1 points" in table


def test_accuracy_of_synthetic_weights_is_unknown_and_not_nothing(page: Page) -> None:
    row = page.text[page.text.index("synthetic:tiny.en int8 beam 1") :]
    assert "unknown" in row[:200]
    assert "nothing: their delays are real" in page.text


def test_what_was_misheard_is_shown_unless_it_was_somebodys(tmp_path: Path) -> None:
    shown = page_of(tmp_path / "a", targets=Targets(0.5, 0.2))
    assert "mumble" in shown.text
    assert "Thank you." in shown.text
    hidden = page_of(tmp_path / "b", targets=Targets(0.5, 0.2), corpus="recordings")
    assert "mumble" not in hidden.text
    assert "Thank you." not in hidden.text
    assert "Texts are left out" in hidden.text
    asked = page_of(tmp_path / "c", targets=Targets(0.5, 0.2), corpus="recordings", with_text=True)
    assert "mumble" in asked.text


def test_names_and_texts_are_escaped(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    cell = Cell("faster-whisper", hostile)
    results = [
        a_round(cell, heard=(a_turn(0, wrong=1, text=hostile), a_turn(1)), quiet=()),
        a_round(SMALL, quiet=(Quiet(hostile, 1.0, hostile),)),
    ]
    failure = CellFailure(Cell("x", hostile), "failed", hostile)
    made = page_of(tmp_path, results, failures=(failure,), targets=Targets(9.0, None))
    assert "script" not in made.tags
    assert made.text.count(hostile) >= 3


def test_figures_are_well_formed_and_lie_beside_the_page(usual: Path) -> None:
    files = sorted((usual / "figures").glob("*.svg"))
    assert [file.stem for file in files] == ["delays", "trade-off"]
    for file in files:
        assert ET.fromstring(file.read_text("utf-8")).tag.endswith("svg")
        assert ".cell-bar" in file.read_text("utf-8"), "its colours are inside"


def test_only_cells_with_words_are_in_the_picture_of_both(usual: Path) -> None:
    drawn = (usual / "figures" / "trade-off.svg").read_text("utf-8")
    assert len(re.findall(r'<circle[^>]*class="cell ', drawn)) == 2
    assert len(re.findall(r'class="cell chosen"', drawn)) == 1
    assert len(re.findall(r'class="cell yardstick"', drawn)) == 1
    assert "tiny" not in drawn
    assert "tiny" in (usual / "figures" / "delays.svg").read_text("utf-8")


def test_figures_as_png(tmp_path: Path) -> None:
    write_bench_run(tmp_path)
    build_bench_report(tmp_path, png=True)
    for name in ("delays", "trade-off"):
        assert (tmp_path / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_synthetic_weights_alone_make_no_picture_of_both(tmp_path: Path) -> None:
    made = page_of(tmp_path, [a_round(TINY), a_round(replace(TINY, beam=3))])
    assert "Delay against word errors" not in made.text
    assert "What was understood" not in made.text
    assert "largest model" in made.text


def test_a_bench_in_which_everything_failed_is_a_page(tmp_path: Path) -> None:
    made = page_of(tmp_path, [])
    assert "Nothing was measured." in made.text
    assert "Nothing measured" in made.text
    assert SKIPPED.reason in made.text


def test_a_round_with_nothing_in_it_is_a_page(tmp_path: Path) -> None:
    bare = RoundResult(SMALL, 0, "whisper", 1.0, False, 0.0)
    made = page_of(tmp_path, [bare], failures=())
    assert "small.en int8 beam 1" in made.text
    assert read_bench(tmp_path).exit_code == 3


def test_the_figures_stand_in_a_file(usual: Path) -> None:
    summary = load_bench_summary(usual)
    assert [one.cell for one in summary.cells] == [TINY, SMALL, MEDIUM]
    assert summary.failures == (SKIPPED,)


def test_targets_of_the_run_are_those_of_the_page(tmp_path: Path) -> None:
    write_bench_run(tmp_path / "a", targets=("delay_p95<2s",))
    assert read_bench(tmp_path / "a").recommendation.cell == MEDIUM.key
    write_bench_run(tmp_path / "b", targets=("as fast as can be",))
    with pytest.raises(RecordError, match=r"b: targets: expected a target"):
        read_bench(tmp_path / "b")


def test_what_was_wrong_with_the_speech_is_told(tmp_path: Path) -> None:
    noted = page_of(tmp_path / "a", settings={"input_notes": ["a.wav: left out: <silent>"]})
    assert "What it listened to a.wav: left out: <silent>" in noted.text
    assert "What it listened to" not in page_of(tmp_path / "b").text


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_bench_run(tmp_path)
    (tmp_path / "report.html").mkdir()
    with pytest.raises(RecordError, match=r"cannot write .*report\.html"):
        build_bench_report(tmp_path)


heard = st.builds(
    Heard,
    clip=st.sampled_from(["a", "b", "c"]),
    condition=st.sampled_from(["clean", "babble 10 dB"]),
    audio_s=st.floats(0, 2000),
    delay_s=st.just(0.0) | st.floats(1e-6, 1000),
    text=st.text(max_size=20),
    reference=st.none() | st.text(max_size=20),
    language=st.sampled_from(["en", "de", "ja"]),
)
results = st.builds(
    RoundResult,
    cell=st.sampled_from([SMALL, MEDIUM, TINY]),
    round=st.integers(0, 3),
    model_kind=st.sampled_from(["whisper", "synthetic weights", "self-test model"]),
    load_s=st.floats(0, 100),
    load_is_cold=st.booleans(),
    warm_up_s=st.floats(0, 100),
    heard=st.lists(heard, max_size=4).map(tuple),
    batches=st.lists(
        st.builds(
            Batch,
            jobs=st.integers(1, 32),
            audio_s=st.floats(0, 30),
            seconds=st.just(0.0) | st.floats(1e-6, 30),
            workers=st.integers(1, 2),
        ),
        max_size=3,
    ).map(tuple),
    memory=st.builds(Memory, host_peak=st.none() | st.integers(0, 10**12)),
)


@given(st.lists(results, max_size=5), st.none() | st.floats(0.01, 9))
@settings(deadline=None, max_examples=30)
def test_whatever_was_measured_there_is_a_page(
    tmp_path_factory: pytest.TempPathFactory, found: list[RoundResult], delay_s: float | None
) -> None:
    folder = tmp_path_factory.mktemp("any")
    made = page_of(folder, found, targets=Targets(delay_s))
    assert made.open == []
    assert "Definitions" in made.text
    for figure in (folder / "figures").glob("*.svg"):
        ET.fromstring(figure.read_text("utf-8"))


# Parts of figures and tables.


@given(st.lists(st.floats(-1e4, 1e4), max_size=12), st.floats(0.1, 50))
def test_names_keep_their_distance_and_their_order(places: list[float], gap: float) -> None:
    moved = apart(places, gap)
    assert all(after >= before for before, after in zip(places, moved, strict=True))
    ordered = sorted(moved)
    gaps = [high - low for low, high in pairwise(ordered)]
    assert all(distance >= gap - 1e-6 for distance in gaps)


@given(st.text(max_size=100))
def test_a_name_beside_a_bar_has_its_beginning_and_its_end(name: str) -> None:
    short = clipped(name)
    assert len(short) <= 43
    if short != name:
        head, _, tail = short.partition("…") if "…" not in name else (name, "", name)
        assert name.startswith(head)
        assert name.endswith(tail)


def test_the_area_of_a_circle_grows_with_memory() -> None:
    cells = summarize_bench(a_bench()).cells
    sizes = {one.cell: radius(one, cells) for one in cells}
    assert sizes[MEDIUM] > sizes[SMALL] > sizes[TINY] >= SMALLEST
    assert (sizes[SMALL] / sizes[MEDIUM]) ** 2 == pytest.approx(500 / 1800)
    unknown = replace(cells[0], footprint=replace(cells[0].footprint, host_peak_bytes=None))
    assert radius(unknown, cells) == SMALLEST


def test_what_went_wrong_stands_before_what_was_never_to_be_expected() -> None:
    kinds = ("unsupported", "skipped", "failed", "out of memory", "hung")
    failures = [
        CellFailure(replace(SMALL, beam=number), kind, "why")
        for number, kind in enumerate(kinds, 1)
    ]
    rows = failure_rows(summarize_bench(a_bench([], failures)))
    assert [row["kind"] for row in rows] == list(reversed(kinds))


def test_each_cell_has_the_mark_of_what_it_is(usual: Path) -> None:
    found = read_bench(usual, targets=Targets(0.5, 0.2))
    marks = {
        one.cell: mark(one, found.summary, found.recommendation).sign for one in found.summary.cells
    }
    assert marks == {SMALL: "✓", MEDIUM: "=", TINY: ""}
    missed = read_bench(usual, targets=Targets(0.001))
    signs = [mark(one, missed.summary, missed.recommendation).sign for one in missed.summary.cells]
    assert signs.count("?") == 1
    assert "✓" not in signs


# In a terminal.


def printed(folder: Path, width: int = 120, **more: Any) -> str:
    console = Console(width=width, highlight=False, no_color=True, soft_wrap=True)
    with console.capture() as captured:
        console.print(bench_panel(read_bench(folder, **more), width))
    return captured.get()


def test_the_table_in_a_terminal_ends_with_what_to_run(usual: Path) -> None:
    lines = printed(usual, targets=Targets(0.5, 0.2)).rstrip().splitlines()
    assert lines[-1].strip().startswith("rtvc serve --model small.en --device cpu")
    assert any("tiny.en" in line and "unknown" in line for line in lines)
    assert any(line.startswith("✓ ") and "18.2 %" in line and "4.1×" in line for line in lines)
    assert any(SKIPPED.reason in line for line in lines)


def test_the_command_is_never_broken(usual: Path) -> None:
    command = read_bench(usual, targets=Targets(0.5, 0.2)).recommendation.serve
    assert f"  {command}\n" in printed(usual, 60, targets=Targets(0.5, 0.2))


def test_of_many_failures_some_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    failures = [CellFailure(replace(SMALL, beam=n), "skipped", f"why {n}") for n in range(1, 13)]
    said = printed(write_bench_run(tmp_path, usual_rounds(), failures))
    assert len(re.findall(r"why \d", said)) == 8
    assert "and 4 more without a result" in said


# rtvc report.


def exit_code(*arguments: Path, **more: Any) -> int:
    with pytest.raises(typer.Exit) as ended:
        report(list(arguments), **more)
    return ended.value.exit_code


def test_report_takes_benches_and_runs_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = write_bench_run(tmp_path / "bench")
    assert exit_code(bench) == 0
    write_run(tmp_path / "run")
    assert exit_code(bench, tmp_path / "run") == 99, "of the worst of them"
    said = capsys.readouterr().out
    assert f"report: {bench / 'report.html'}" in said
    assert f"report: {tmp_path / 'run' / 'report.html'}" in said
    assert (bench / "figures" / "delays.png").exists()


def test_a_bench_is_judged_anew_by_other_targets(tmp_path: Path) -> None:
    bench = write_bench_run(tmp_path)
    assert exit_code(bench, slo=["delay_p95<1ms"]) == 99
    assert exit_code(bench, slo=["delay_p95<1s", "wer<20%"]) == 0
    with pytest.raises(UsageError, match="expected a target"):
        report([bench], slo=["transcription_delay_p95<1s"])
    assert exit_code(write_bench_run(tmp_path / "none", [])) == 3


def test_a_bench_beside_a_folder_that_is_none_is_left_as_it_is(tmp_path: Path) -> None:
    bench = write_bench_run(tmp_path / "bench")
    with pytest.raises(RecordError, match="other"):
        report([bench, tmp_path / "other"])
    assert not (bench / "report.html").exists()
