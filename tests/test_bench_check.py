"""`make bench-check`: what it runs again, and what it says of two benches."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rtvc.record import complete_manifest
from tests.acceptance.bench_check import DIFFERENT, again, compare, to_measure_in
from tests.bench_run import SMALL, a_bench_manifest, a_round, turns, usual_rounds, write_bench_run


@pytest.mark.parametrize("given", ["--out old", "--out=old"])
def test_the_command_is_the_same_but_for_its_folder(given: str) -> None:
    command = f"rtvc bench --model tiny.en,small.en {given} --rounds 3"
    found = again(replace(a_bench_manifest(), command=command), Path("new"))
    assert found == ["bench", "--model", "tiny.en,small.en", "--rounds", "3", "--out", "new"]


def test_only_a_bench_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "check"
    assert to_measure_in(folder) == folder
    write_bench_run(folder)
    assert to_measure_in(folder) == tmp_path / "check-2"
    complete_manifest(folder, interrupted=True)
    assert to_measure_in(folder) == folder
    complete_manifest(folder, interrupted=False, duration_s=None)
    assert to_measure_in(folder) == folder


def test_the_same_again_is_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = write_bench_run(tmp_path / "a")
    slower = [
        replace(
            result,
            heard=tuple(replace(turn, delay_s=1.5 * turn.delay_s) for turn in result.heard),
        )
        for result in usual_rounds()
    ]
    after = write_bench_run(tmp_path / "b", slower)
    assert compare(before, after, tmp_path / "out", 0.1) == 0
    said = capsys.readouterr().out
    assert "took 1.50 times as long" in said
    assert said.count("as it was") == 3
    assert (tmp_path / "out" / "repeat.md").read_text("utf-8") in said


def test_what_changed_is_told_and_judged(tmp_path: Path) -> None:
    before = write_bench_run(tmp_path / "a")
    others = [result for result in usual_rounds() if result.cell != SMALL]
    changed = [*others, a_round(SMALL, heard=turns(0.3, 2))]
    after = write_bench_run(tmp_path / "b", changed)
    assert compare(before, after, tmp_path, 0.1) == DIFFERENT
    written = json.loads((tmp_path / "repeat.json").read_text("utf-8"))
    assert len(written["problems"]) == 1
    assert written["problems"][0].startswith("small.en int8 beam 1: ")
    assert written["largest_drift"] == pytest.approx(0.5)
