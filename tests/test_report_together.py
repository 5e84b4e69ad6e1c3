"""Several searches on one page: what it says, and what it refuses."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from rtvc.errors import RecordError
from rtvc.record import RunWriter, StepRow
from rtvc.report.together import (
    build_together,
    curves,
    differences,
    load_series,
    row_of,
    sentence,
)
from tests.synthetic_run import a_manifest
from tests.test_report_steps import a_step

PASSED = a_step(0, 4, utterances=120, delay_p95_s=0.4)


def failed(speakers: int, delay_s: float) -> StepRow:
    return replace(
        PASSED,
        step=1,
        speakers=speakers,
        outcome="failed",
        reason="transcription delay p95 too long",
        binding="inference",
        delay_p95_s=delay_s,
    )


def search(folder: Path, *steps: StepRow, commit: str = "abc") -> Path:
    targets = ("transcription_delay_p95<500ms",)
    told = replace(a_manifest(targets=targets), commit=commit)
    with RunWriter(folder, told) as writer:
        writer.append(*steps)
    return folder


@pytest.fixture
def two(tmp_path: Path) -> dict[str, Path]:
    return {
        "shared": search(tmp_path / "shared", PASSED, failed(8, 0.9)),
        "per-session": search(tmp_path / "per", replace(PASSED, speakers=1), failed(2, 3.0)),
    }


def test_the_most_is_said_first(two: dict[str, Path]) -> None:
    turned = dict(reversed(two.items()))
    assert sentence(load_series(turned)) == "shared holds 4, per-session holds 1."


def test_a_row_says_where_it_gives_way_and_why(two: dict[str, Path]) -> None:
    row = row_of(load_series(two)[0], 0)
    assert (row["holds"], row["missed"], row["n"]) == (4, 8, "120")
    assert row["delay"] == "400 ms"
    assert row["why"] == "transcription delay p95 too long; binding: inference"


def test_every_search_has_a_curve_and_every_step_a_mark(two: dict[str, Path]) -> None:
    markup = curves(load_series(two)) or ""
    assert len(re.findall(r"<polyline", markup)) == 2
    assert len(re.findall(r"<circle", markup)) == 2
    assert len(re.findall(r'class="strategy-cross', markup)) == 2


def test_what_else_differs_is_told(two: dict[str, Path], tmp_path: Path) -> None:
    assert differences(load_series(two)) == []
    other = search(tmp_path / "other", PASSED, commit="def")
    assert differences(load_series({**two, "other": other})) == ["2 commits of rtvc"]


def test_the_page_opens_offline_and_names_all(two: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "together.html"
    assert build_together(two, out) == "shared holds 4, per-session holds 1."
    page = out.read_text("utf-8")
    assert "shared" in page
    assert "per-session" in page
    assert not re.findall(r"(?:src|href)=[\"']?https?:", page)


def test_a_run_without_steps_is_refused(two: dict[str, Path], tmp_path: Path) -> None:
    plain = search(tmp_path / "plain")
    with pytest.raises(RecordError, match="expected a search"):
        build_together({**two, "plain": plain}, tmp_path / "page.html")
