"""`make bench-check`: what it runs again, and what it says of two benches."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rtvc.cli import main
from rtvc.record import complete_manifest, load_manifest
from rtvc.report.bench_repeat import compare_folders
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


# rtvc compare


def called(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["compare", *arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_compare_takes_two_benches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, same = (str(write_bench_run(tmp_path / name)) for name in "ab")
    others = [result for result in usual_rounds() if result.cell != SMALL]
    changed = [*others, a_round(SMALL, heard=turns(0.3, 2))]
    after = str(write_bench_run(tmp_path / "c", changed))
    assert called(before, same, "--fail-on", "regression") == 0
    assert "as it was" in capsys.readouterr().out
    assert called(before, after) == 0
    capsys.readouterr()
    assert called(before, after, "--fail-on", "regression", "--json") == DIFFERENT
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 1


def test_compare_refuses_benches_that_heard_different_clips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = write_bench_run(tmp_path / "a", corpus_hash="1234")
    after = write_bench_run(tmp_path / "b", corpus_hash="5678")
    assert called(str(before), str(after)) == 2
    err = capsys.readouterr().err
    for fact in ("heard the same clips", "1234", "5678", "--speech"):
        assert fact in err


def test_compare_says_when_the_machine_is_another(tmp_path: Path) -> None:
    before = write_bench_run(tmp_path / "a")
    there = replace(load_manifest(before).machine, cpu="Another", cores=96, gpus=("NVIDIA L4",))
    after = write_bench_run(tmp_path / "b", machine=there)
    assert "another machine's" not in compare_folders(before, before)[0]
    assert "another machine's" in compare_folders(before, after)[0]


@pytest.mark.parametrize("flag", ["--threshold", "--out"])
def test_compare_refuses_what_says_nothing_of_benches(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(write_bench_run(tmp_path / "a"))
    assert called(folder, folder, flag, "5%") == 2
    assert "two load tests" in capsys.readouterr().err
