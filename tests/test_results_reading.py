"""The files of a bench run: what is written comes back, what is not whole is told."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import RecordError
from rtvc.results.cells import Cell, CellFailure, Heard
from rtvc.results.reading import (
    is_bench,
    load_bench,
    load_round,
    round_path,
    write_failure,
    write_round,
)
from tests.bench_run import SKIPPED, SMALL, TINY, a_round, a_turn, write_bench_run
from tests.synthetic_run import write_run

texts = st.text(max_size=30)
finite = st.floats(0, 1e6, allow_nan=False)
cells = st.builds(
    Cell,
    engine=st.sampled_from(["faster-whisper", "transformers"]),
    model=st.text("abc./: -_1", min_size=1, max_size=12),
    beam=st.integers(1, 9),
    vad_filter=st.booleans(),
)
heard = st.builds(
    Heard,
    clip=texts,
    condition=texts,
    audio_s=finite,
    delay_s=finite,
    text=texts,
    reference=st.none() | texts,
    guards=st.lists(texts, max_size=2).map(tuple),
)


@settings(deadline=None, max_examples=50)
@given(cells, st.lists(heard, max_size=4), st.none() | finite, st.integers(0, 12))
def test_what_was_measured_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    cell: Cell,
    turns: list[Heard],
    energy_j: float | None,
    number: int,
) -> None:
    folder = tmp_path_factory.mktemp("bench")
    written = a_round(cell, number, heard=tuple(turns), energy_j=energy_j)
    path = write_round(folder, written)
    assert path == round_path(folder, cell, number)
    assert load_round(path) == written


def test_a_bench_is_read_by_cell_and_by_round(tmp_path: Path) -> None:
    results = [*(a_round(SMALL, number) for number in (10, 2, 0)), a_round(TINY, 1)]
    run = load_bench(write_bench_run(tmp_path, results))
    assert [(result.cell, result.round) for result in run.rounds] == [
        (SMALL, 0),
        (SMALL, 2),
        (SMALL, 10),
        (TINY, 1),
    ]
    assert run.cells == [SMALL, TINY]
    assert [result.round for result in run.of(SMALL)] == [0, 2, 10]
    assert run.failures == [SKIPPED]
    assert is_bench(tmp_path)


def test_a_later_failure_replaces_an_earlier_one(tmp_path: Path) -> None:
    write_bench_run(tmp_path, [])
    again = replace(SKIPPED, kind="failed", reason="it broke")
    write_failure(tmp_path, again)
    assert load_bench(tmp_path).failures == [again]


def test_half_a_character_does_not_end_a_bench(tmp_path: Path) -> None:
    broken = a_round(heard=(a_turn(text="caf\ud83d"),))
    kept = load_round(write_round(tmp_path, broken))
    assert kept.heard[0].text == "caf?"


def test_a_draft_that_was_being_written_is_no_round(tmp_path: Path) -> None:
    write_bench_run(tmp_path, [a_round(SMALL, 0)])
    draft = round_path(tmp_path, SMALL, 1)
    draft.with_name(draft.name + ".part").write_text("{")
    assert len(load_bench(tmp_path).rounds) == 1


def test_a_bench_without_a_result_is_one(tmp_path: Path) -> None:
    run = load_bench(write_bench_run(tmp_path, []))
    assert (run.rounds, run.cells) == ([], [])


def changed(path: Path, **fields: object) -> Path:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return path


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"schema": 2}, "expected schema version 1, got 2"),
        ({"load_s": "soon"}, "load_s"),
        ({"heard": [{"clip": "a"}]}, r"heard\.0\."),
    ],
)
def test_what_cannot_be_understood_names_the_file(
    tmp_path: Path, fields: dict[str, object], said: str
) -> None:
    path = changed(write_round(tmp_path, a_round()), **fields)
    with pytest.raises(RecordError, match=said) as error:
        load_round(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_no_json_names_itself(tmp_path: Path) -> None:
    write_bench_run(tmp_path, [a_round()])
    path = round_path(tmp_path, SMALL, 0)
    path.write_text('{"cell": {')
    with pytest.raises(RecordError, match=r"round-0\.json"):
        load_bench(tmp_path)


def test_a_field_that_a_later_version_added_is_left_out(tmp_path: Path) -> None:
    path = changed(write_round(tmp_path, a_round()), colour="blue")
    assert load_round(path) == a_round()


def test_a_run_of_a_load_test_is_no_bench(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert not is_bench(tmp_path)
    with pytest.raises(RecordError, match="this is no bench run"):
        load_bench(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cells").write_text("in the way")
    tries: list[Callable[[], object]] = [
        lambda: write_round(tmp_path, a_round()),
        lambda: _fail(tmp_path),
    ]
    for write in tries:
        with pytest.raises(RecordError, match="cannot write"):
            write()


def _fail(folder: Path) -> Path:
    return write_failure(folder, CellFailure(SMALL, "failed", "it broke"))
