"""The page of a search: its answer, its curve, its steps; and several searches in one figure."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from rtvc.errors import RecordError
from rtvc.record import Run, RunWriter, StepRow, load_run
from rtvc.report.figures import capacity_figure, strategies_figure
from rtvc.report.page import build_report
from rtvc.report.steps import delay_text, step_rows
from rtvc.report.strategies import curve
from rtvc.slo import DEFAULT, judge, telling_step
from rtvc.summary import during, load_summary, partial_interval, summarize
from tests.synthetic_run import a_connection, a_manifest, a_second, a_turn

STEP_S = 40.0


def a_step(number: int, speakers: int, **more: Any) -> StepRow:
    begin = number * STEP_S
    values: dict[str, Any] = {
        "step": number,
        "speakers": speakers,
        "purpose": "climb",
        "ordered_at_s": begin,
        "measured_from_s": begin + 5,
        "measured_until_s": begin + STEP_S - 1,
        "outcome": "passed",
        "reason": None,
        "binding": None,
        "stopped_early": False,
        "utterances": 100,
        "errors": 0,
        "cut_utterances": 0,
        "delay_p50_s": 0.25,
        "delay_p95_s": 0.3,
        "delay_max_s": 0.4,
        "partial_interval_p50_s": 0.6,
        "trend": None,
        "lag_p99_s": 0.002,
    }
    return StepRow(**{**values, **more})


def missed(number: int, speakers: int, **more: Any) -> StepRow:
    why = {"reason": "transcription delay p95 812 ms, target < 500 ms", "binding": "inference"}
    slow = {"outcome": "failed", "delay_p50_s": 0.6, "delay_p95_s": 0.812, "delay_max_s": 1.1}
    return a_step(number, speakers, **{**slow, **why, **more})


STEPS = (a_step(0, 1), a_step(1, 2), missed(2, 4), a_step(3, 3), a_step(4, 3), missed(5, 4))


def write_search(folder: Path, steps: tuple[StepRow, ...] = STEPS, **manifest: Any) -> Run:
    with RunWriter(folder, a_manifest(**manifest)) as writer:
        for step in steps:
            begin_s = step.measured_from_s or step.ordered_at_s
            writer.append(step, a_second(begin_s + 1, speakers=step.speakers))
            for number in range(step.speakers):
                at_s = step.ordered_at_s + 0.1
                writer.append(a_connection(number, opened_at_s=at_s, closed_at_s=at_s + STEP_S))
            for number in range(step.utterances):
                start = begin_s + 0.3 * number
                delay = step.delay_p50_s if number % 20 else step.delay_p95_s
                writer.append(a_turn(0, number, start=start, transcription_delay_s=delay))
    return load_run(folder)


def page_of(folder: Path) -> str:
    """With plain spaces where lines must not break."""
    return build_report(folder).read_text("utf-8").replace("\xa0", " ")


def test_the_answer_is_the_headline_and_the_title(tmp_path: Path) -> None:
    write_search(tmp_path)
    page = page_of(tmp_path)
    answer = (
        "Holds 3 speakers, not 4: transcription delay p95 812 ms, target &lt; 500 ms; "
        "binding: inference."
    )
    assert f"<h1>{answer}</h1>" in page
    assert f"<title>{answer}</title>" in page
    assert "Capacity found" in page
    assert "6 steps with up to 4 speakers" in page
    assert "From here on: step 5, 3 speakers, passed." in page


def test_the_rest_of_the_page_is_about_the_step_that_held(tmp_path: Path) -> None:
    run = write_search(tmp_path)
    step = telling_step(run.steps)
    assert step == STEPS[4]
    part = during(run, step)
    assert len(part.turns) == 100
    assert len(part.connections) == 3
    page_of(tmp_path)
    summary = load_summary(tmp_path)
    assert summary.utterances.spoken == 100
    assert summary.speakers == 3
    assert summary.connections.concurrent == 3
    assert [each.speakers for each in summary.steps] == [1, 2, 4, 3, 3, 4]
    assert judge(summary, DEFAULT).exit_code == 0
    written = json.loads((tmp_path / "summary.json").read_text("utf-8"))["capacity"]
    assert (written["holds"], written["fails_at"], written["confirmed"]) == (3, 4, True)


def test_a_search_that_found_nothing_tells_of_the_step_that_failed(tmp_path: Path) -> None:
    run = write_search(tmp_path, (missed(0, 1), missed(1, 1)))
    assert telling_step(run.steps) == run.steps[1]
    assert telling_step([]) is None
    page = page_of(tmp_path)
    assert "Does not hold even 1 speaker: " in page
    assert judge(load_summary(tmp_path), DEFAULT).exit_code == 99


def test_the_self_test_model_is_named_in_the_answer(tmp_path: Path) -> None:
    write_search(tmp_path, model="selftest", model_kind="self-test model")
    page_of(tmp_path)
    sentence = judge(load_summary(tmp_path)).sentence
    assert sentence.startswith("On the self-test model: holds 3 speakers, not 4")


def test_a_search_that_was_interrupted_is_not_judged(tmp_path: Path) -> None:
    write_search(tmp_path, STEPS[:3], interrupted=True)
    page = page_of(tmp_path)
    assert "<h1>Interrupted, not judged; so far: holds 2 speakers, not 4: " in page
    assert judge(load_summary(tmp_path), DEFAULT).outcome == "interrupted"


def test_labels_beyond_the_edge_do_not_overlap() -> None:
    far = [missed(number, 100 + number, delay_p95_s=9.0 + number) for number in range(3)]
    drawn = capacity_figure((a_step(9, 1), *far, missed(8, 50, delay_p95_s=7.0)), 0.5)
    assert drawn is not None
    assert re.findall(r">(\d+ s)</text>", drawn.svg) == ["7 s", "9 s"]


def test_every_step_has_its_mark_on_the_curve_and_its_line_in_the_table(tmp_path: Path) -> None:
    void = a_step(6, 3, outcome="void", reason="the <generator> was late")
    never = missed(7, 8, delay_p50_s=None, delay_p95_s=None, delay_max_s=math.inf)
    unheard = missed(8, 16, delay_p50_s=None, delay_p95_s=None, delay_max_s=None, utterances=0)
    steps = (*STEPS, void, never, unheard)
    drawn = capacity_figure(steps, 0.5)
    assert drawn is not None
    kinds = re.findall(r'class="(step-held|cross|step-open)"', drawn.svg)
    assert sorted(kinds) == ["cross"] * 3 + ["step-held"] * 4 + ["step-open"]
    assert "target 500 ms" in drawn.svg
    assert ">holds 2<" in drawn.svg or ">holds 3<" in drawn.svg
    assert ">missing<" in drawn.svg, "what lies beyond the upper edge is named there"
    rows = step_rows(steps)
    assert [row["mark"] for row in rows] == [*"✓✓✗✓✓✗–✗✗"]
    assert rows[2]["why"] == ("transcription delay p95 812 ms, target < 500 ms; binding: inference")
    write_search(tmp_path, steps)
    assert "the &lt;generator&gt; was late" in page_of(tmp_path)


def test_a_page_of_a_search_without_any_delay_has_no_curve(tmp_path: Path) -> None:
    refused = missed(0, 1, delay_p50_s=None, delay_p95_s=None, delay_max_s=None, utterances=0)
    assert capacity_figure([refused], 0.5) is None
    assert capacity_figure([], None) is None
    write_search(tmp_path, (refused, refused))
    assert 'id="capacity"' not in page_of(tmp_path)


def test_the_largest_delay_is_named_where_it_stands_in() -> None:
    assert delay_text(a_step(0, 1)) == "300 ms"
    assert delay_text(a_step(0, 1, delay_p95_s=None)) == "max 400 ms"
    assert delay_text(a_step(0, 1, delay_p95_s=None, delay_max_s=None)) == "–"


def test_several_searches_are_drawn_in_one_figure(tmp_path: Path) -> None:
    slow = (a_step(0, 1, delay_p95_s=0.45), missed(1, 2))
    write_search(tmp_path / "a")
    write_search(tmp_path / "b", slow)
    runs = {"shared": tmp_path / "a", "per-session": tmp_path / "b"}
    svg = strategies_figure(runs, tmp_path / "strategies.png")
    assert svg == tmp_path / "strategies.svg"
    assert (tmp_path / "strategies.png").read_bytes().startswith(b"\x89PNG")
    first = svg.read_text("utf-8")
    assert first.lstrip().startswith("<?xml")
    assert "<dc:date>" not in first, "the same runs give the same file"
    assert curve(load_run(tmp_path / "b")) == [(1, 0.45), (2, 0.812)]
    assert curve(load_run(tmp_path / "a")) == [(1, 0.3), (2, 0.3), (3, 0.3), (4, 0.812)]


@pytest.mark.parametrize(
    ("shown", "first_at_s", "interval"),
    [(0.4, 2.0, 0.4), (None, None, math.inf), (None, 2.0, None), (None, 9.0, math.inf)],
)
def test_text_that_never_showed_while_talking_is_an_infinite_wait(
    shown: float | None, first_at_s: float | None, interval: float | None
) -> None:
    # Speech from 1 s to 3 s, the first word's end at 1.3 s.
    turn = a_turn(start=1.0, partial_interval_s=shown, first_partial_at_s=first_at_s)
    assert partial_interval(turn) == interval


def test_an_interval_is_a_metric_with_its_own_n(tmp_path: Path) -> None:
    with RunWriter(tmp_path, a_manifest()) as writer:
        for number in range(20):
            writer.append(a_turn(0, number, partial_interval_s=0.1 * (number + 1)))
        short = {"first_word_end_at_s": 2.5, "partial_interval_s": None}
        writer.append(a_turn(1, 0, first_partial_at_s=None, **short))
    metric = summarize(load_run(tmp_path)).metrics["partial_interval"]
    assert metric.n == 20
    assert metric.p50 == pytest.approx(1.05)


def test_a_run_whose_rows_are_gone_keeps_its_summary(tmp_path: Path) -> None:
    write_search(tmp_path)
    build_report(tmp_path)
    before = (tmp_path / "summary.json").read_text("utf-8")
    for name in ("connections", "turns", "generator"):
        (tmp_path / f"{name}.csv").unlink()
    with pytest.raises(RecordError, match="left as it is"):
        build_report(tmp_path)
    assert (tmp_path / "summary.json").read_text("utf-8") == before
