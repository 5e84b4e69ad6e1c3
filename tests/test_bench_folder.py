"""A bench's folder: new, gone on with, or refused; what is asked for, checked before anything."""

from dataclasses import replace
from pathlib import Path

import pytest

from rtvc.bench.asked import (
    OWN_ENVIRONMENT,
    Asked,
    as_synthetic,
    check_models,
    check_pythons,
    find_weights,
    numbers,
    pairs,
    switches,
)
from rtvc.bench.command import bench
from rtvc.bench.folder import check_folder, claim, finish, machine_state, note_failures
from rtvc.bench.grid import Grid, Wish
from rtvc.clock import FakeClock
from rtvc.errors import ModelError, UsageError
from rtvc.record import Manifest, load_manifest, new_manifest
from rtvc.results.cells import Cell, CellFailure, RoundResult
from rtvc.results.reading import load_bench, write_round
from rtvc.stt import models
from tests.synthetic_run import MACHINE

SETTINGS = {"cells": ["a"], "listening": {"clips": 3}, "measures": {"batch_runs": 3}}
TINY, BASE = Cell("faster-whisper", "tiny.en"), Cell("faster-whisper", "base.en")


def a_manifest(**settings: object) -> Manifest:
    return new_manifest(
        ["rtvc", "bench"],
        FakeClock(1_795_000_000),
        machine=MACHINE,
        settings={**SETTINGS, **settings},
        corpus="synthetic",
        corpus_hash="abc",
    )


def a_result(cell: Cell, number: int = 0) -> RoundResult:
    return RoundResult(cell, number, "whisper", 1.0, load_is_cold=True, warm_up_s=1.0)


def test_a_new_folder_becomes_a_bench_without_results(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "bench"
    assert check_folder(folder, SETTINGS, "abc") is False
    claimed = claim(folder, a_manifest(), resumed=False)
    assert claimed.path == folder.resolve()
    assert load_bench(folder).rounds == []
    assert load_manifest(folder).duration_s is None


def test_a_bench_that_was_stopped_is_gone_on_with(tmp_path: Path) -> None:
    claim(tmp_path, a_manifest(), resumed=False)
    finish(tmp_path, 10.0, interrupted=True)
    assert load_manifest(tmp_path).interrupted
    assert check_folder(tmp_path, SETTINGS, "abc") is True
    claim(tmp_path, a_manifest(cells=["b", "a"]), resumed=True)
    before = load_manifest(tmp_path)
    assert not before.interrupted
    assert before.settings["cells"] == ["a", "b"]
    finish(tmp_path, 5.0, interrupted=False)
    assert load_manifest(tmp_path).duration_s == 15.0


def test_a_bench_of_other_clips_or_measures_is_not_gone_on_with(tmp_path: Path) -> None:
    claim(tmp_path, a_manifest(), resumed=False)
    with pytest.raises(UsageError, match="the clips"):
        check_folder(tmp_path, SETTINGS, "other")
    with pytest.raises(UsageError, match="measures"):
        check_folder(tmp_path, {**SETTINGS, "measures": {"batch_runs": 4}}, "abc")


def test_a_bench_of_another_machine_is_not_gone_on_with(tmp_path: Path) -> None:
    claim(tmp_path, a_manifest(), resumed=False)
    assert check_folder(tmp_path, SETTINGS, "abc", replace(MACHINE, python="3.99"))
    with pytest.raises(UsageError, match="on the machine it began on"):
        check_folder(tmp_path, SETTINGS, "abc", replace(MACHINE, cores=MACHINE.cores + 1))


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        check_folder(tmp_path, SETTINGS, "abc")


def test_rows_without_a_result_are_noted_and_never_over_one(tmp_path: Path) -> None:
    claim(tmp_path, a_manifest(), resumed=False)
    write_round(tmp_path, a_result(TINY))
    note_failures(tmp_path, (CellFailure(TINY, "skipped", "x"), CellFailure(BASE, "skipped", "y")))
    assert [failure.cell for failure in load_bench(tmp_path).failures] == [BASE]


def test_the_state_of_the_machine_is_told_or_absent() -> None:
    state = machine_state()
    assert set(state) == {"load_average", "governor"}
    assert state["governor"] is None or isinstance(state["governor"], str)


# What is asked for


def nobody(progress: float, detail: str) -> None:
    """Takes reports that nobody reads."""


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_cached", lambda entry: None)


@pytest.mark.usefixtures("empty_cache")
def test_weights_that_are_not_here_cost_their_rows_only() -> None:
    selftest = Cell("faster-whisper", "selftest", context="short")
    unsupported = CellFailure(BASE, "unsupported", "because")
    found = find_weights(Grid((TINY, selftest), (unsupported,)), {}, nobody, pull=False)
    assert found.cells == (selftest,)
    assert found.failures[0] == unsupported
    assert (found.failures[1].cell, found.failures[1].kind) == (TINY, "skipped")
    assert "--pull" in found.failures[1].reason
    assert set(found.weights) == {"selftest"}


@pytest.mark.usefixtures("empty_cache")
def test_whisperx_needs_an_interpreter_of_its_own() -> None:
    cell = Cell("whisperx", "selftest", vad_filter=True)
    without = find_weights(Grid((cell,)), {}, nobody, pull=False)
    assert [failure.reason for failure in without.failures] == [OWN_ENVIRONMENT]
    given = find_weights(Grid((cell,)), {"whisperx": Path("python")}, nobody, pull=False)
    assert given.cells == (cell,)


def test_engines_with_files_of_their_own_look_for_them_themselves() -> None:
    cells = (Cell("transformers", "tiny.en"), Cell("pocketsphinx", "pocketsphinx"))
    assert find_weights(Grid(cells), {}, nobody, pull=False).cells == cells


def test_a_name_that_is_no_model_is_refused_at_once(tmp_path: Path) -> None:
    check_models(["tiny.en", "turbo", "selftest", "pocketsphinx", "synthetic:tiny.en"])
    check_models([str(tmp_path)])
    for wrong in ("tinny.en", "synthetic:enormous", "scripted"):
        with pytest.raises(ModelError, match=wrong):
            check_models([wrong])


def test_synthetic_weights_stand_for_what_has_a_shape() -> None:
    names = ("tiny.en", "selftest", "large")
    assert [as_synthetic(name) for name in names] == [
        "synthetic:tiny.en",
        "selftest",
        "synthetic:large-v3",
    ]


def test_interpreters_are_checked_before_anything_is_measured(tmp_path: Path) -> None:
    python = tmp_path / "python"
    with pytest.raises(UsageError, match="found no file"):
        check_pythons({"whisperx": python})
    python.touch(mode=0o700)
    check_pythons(pairs([f"whisperx={python}"], "--engine-python"))
    with pytest.raises(UsageError, match="whisper-x"):
        check_pythons({"whisper-x": python})
    with pytest.raises(UsageError, match="NAME=PATH"):
        pairs(["whisperx"], "--engine-python")


def test_lists_that_are_none_name_their_flag() -> None:
    assert numbers(["1", "8"], "--beam") == (1, 8)
    assert switches(["off", "on"], "--vad-filter") == (False, True)
    with pytest.raises(UsageError, match="--beam"):
        numbers(["wide"], "--beam")
    with pytest.raises(UsageError, match="--vad-filter"):
        switches(["true"], "--vad-filter")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"preset": "fast"}, "seed-baseline"),
        ({"rounds": 0}, "--rounds"),
        ({"streaming": -1}, "--streaming"),
        ({"model": ["selftest"], "target": ["speed<3"]}, "delay_p95"),
        ({"model": ["selftest"], "beam": ["x"]}, "--beam"),
        ({"model": ["selftest"], "long": "soon"}, "--long"),
    ],
)
def test_wrong_flags_are_refused_before_anything_is_made(
    flags: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        bench(**flags, out=tmp_path / "bench")  # type: ignore[arg-type]
    assert not (tmp_path / "bench").exists()


def test_what_is_asked_for_has_usual_values() -> None:
    asked = Asked(Wish(("tiny.en",)))
    assert asked.rounds == 3
    assert asked.targets.delay_p95_s == 0.5
