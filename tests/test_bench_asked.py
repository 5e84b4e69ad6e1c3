"""What a bench is asked for is checked before anything is measured."""

import stat
from pathlib import Path

import pytest

from rtvc.bench.asked import check_pythons, check_yardstick, known_language
from rtvc.bench.grid import Here, Wish, grid
from rtvc.errors import UsageError
from rtvc.results.yardstick import SEED_BASELINE

ROWS = grid(Wish(("synthetic:tiny.en", "pocketsphinx"), beams=(1, 3)), Here({"cpu": frozenset()}))


@pytest.mark.parametrize("language", ["german", "xx", ""])
def test_a_language_that_whisper_does_not_know_is_refused(language: str) -> None:
    with pytest.raises(UsageError, match="expected an ISO-639-1 language"):
        known_language(language)


@pytest.mark.parametrize("wanted", [None, SEED_BASELINE, ROWS.cells[0].key, "PocketSphinx"])
def test_a_row_to_compare_with_may_be_named_either_way(wanted: str | None) -> None:
    check_yardstick(wanted, ROWS)


def test_a_row_that_there_is_not_is_told_with_some_that_there_are() -> None:
    with pytest.raises(UsageError, match=r'such as "synthetic:tiny.en beam 1".* got "tiny"'):
        check_yardstick("tiny", ROWS)


def test_an_interpreter_has_to_be_one(tmp_path: Path) -> None:
    python = tmp_path / "python"
    with pytest.raises(UsageError, match="no file that can be run"):
        check_pythons({"whisperx": python})
    python.write_text("#!/bin/sh\n")
    python.chmod(stat.S_IRUSR)
    with pytest.raises(UsageError, match="no file that can be run"):
        check_pythons({"whisperx": python})
    python.chmod(stat.S_IRWXU)
    check_pythons({"whisperx": python})


def test_pocketsphinx_is_measured_wherever_the_others_run() -> None:
    rows = grid(Wish(("pocketsphinx",), devices=("cuda",)), Here({"cuda": frozenset()}))
    assert [cell.device for cell in rows.cells] == ["cpu"]
    assert rows.unsupported == ()
