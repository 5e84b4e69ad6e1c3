"""Comparing runs: what may be compared, what is a regression, and what is only chance."""

import json
import math
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rtvc.cli import main
from rtvc.clock import FakeClock
from rtvc.compare.comparable import Bounds, Side, obstacles, warnings
from rtvc.compare.comparison import Comparison, compare
from rtvc.compare.measured import SHARES, TIMED
from rtvc.compare.tolerance import Tolerances, parse_tolerances
from rtvc.errors import UsageError
from rtvc.record import Row, RunWriter
from rtvc.report.compare_command import load_side
from rtvc.report.comparing import name_of, ratio_text, sentence, tone_of, verdict_text
from rtvc.summary import METRICS
from tests.synthetic_run import MACHINE, a_connection, a_manifest, a_second, a_turn, write_run
from tests.test_report import Page


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Lively runs of ten speakers: two of the same kind, one that is half as slow again."""
    folder = tmp_path_factory.mktemp("runs")
    made = {"a": (1, 0.3), "again": (2, 0.3), "slow": (3, 0.45)}
    for name, (seed, delay_s) in made.items():
        write_run(folder / name, speakers=10, seed=seed, typical_delay_s=delay_s)
    return {name: folder / name for name in made}


def compared(before: Path, after: Path, **more: Any) -> Comparison:
    return compare(load_side("A", before), load_side("B", after), **more)


def by_name(found: Comparison) -> dict[str, Any]:
    return {name_of(each): each for each in found.differences}


def written(folder: Path, rows: list[Row], **manifest: Any) -> Path:
    with RunWriter(folder, a_manifest(**manifest), FakeClock()) as writer:
        writer.append(*rows, a_second())
    return folder


def speaking(
    delay_s: float | None, *, speakers: int = 10, each: int = 12, **more: Any
) -> list[Row]:
    rows: list[Row] = [a_connection(who) for who in range(speakers)]
    for who in range(speakers):
        for number in range(each):
            at = None if delay_s is None else delay_s * (1 + 0.01 * number)
            rows.append(a_turn(who, number, transcription_delay_s=at, **more))
    return rows


# What is found.


def test_a_shifted_run_is_found(runs: dict[str, Path]) -> None:
    found = compared(runs["a"], runs["slow"])
    delay = by_name(found)["transcription delay p50"]
    assert delay.regression
    assert delay.verdict == "worse"
    assert delay.clustered
    assert delay.ratio_interval.low < 1.5 < delay.ratio_interval.high
    assert sentence(found).startswith("B is worse than A: transcription delay p")
    assert verdict_text(delay) == "regression (> 10 %)"


def test_a_run_that_is_faster_is_better(runs: dict[str, Path]) -> None:
    found = compared(runs["slow"], runs["a"])
    assert not found.regressions
    assert by_name(found)["transcription delay p50"].verdict == "better"
    assert sentence(found).startswith("B is better than A") or "Better:" in sentence(found)


def test_two_runs_of_the_same_kind_are_no_regression(runs: dict[str, Path]) -> None:
    assert compared(runs["a"], runs["again"]).regressions == []


def test_a_run_against_itself_is_no_regression(runs: dict[str, Path]) -> None:
    for folder in runs.values():
        found = compared(folder, folder)
        assert {each.verdict for each in found.differences} <= {
            "no difference seen",
            "too few samples",
        }
        assert sentence(found).startswith("No difference seen in ")


@given(
    st.lists(st.none() | st.floats(-0.2, 5), min_size=1, max_size=40),
    st.integers(1, 12),
    st.integers(0, 3),
)
@example([None] * 6 + [0.0, 0.0, 1.0, 5e-324], 1, 0)  # a ratio beyond what a number holds
@settings(deadline=None, max_examples=25)
def test_no_run_is_a_regression_of_itself(
    tmp_path_factory: pytest.TempPathFactory,
    delays: list[float | None],
    speakers: int,
    seed: int,
) -> None:
    turns: list[Row] = [
        a_turn(number % speakers, number, transcription_delay_s=delay)
        for number, delay in enumerate(delays)
    ]
    folder = written(tmp_path_factory.mktemp("self"), [*turns, a_connection()])
    found = compared(folder, folder, seed=seed, tolerances=Tolerances(0.0, 0.0))
    assert found.regressions == []
    assert json.dumps(found.to_json(), allow_nan=False)


def test_every_metric_of_a_summary_is_compared() -> None:
    assert {*TIMED, "generator_lag"} == set(METRICS)


def test_which_processes_played_the_speakers_is_no_difference(tmp_path: Path) -> None:
    folders = [
        written(tmp_path / str(pid), [a_turn()], settings={"generators": [{"process": pid}]})
        for pid in (1, 2)
    ]
    found = compared(*folders)
    assert found.obstacles == []
    assert not any("generators" in str(change) for change in found.allowed)


def test_n_stands_on_both_sides(tmp_path: Path) -> None:
    before = written(tmp_path / "a", speaking(0.3, each=12))
    after = written(tmp_path / "b", speaking(0.3, each=6))
    found = by_name(compared(before, after))
    median = found["transcription delay p50"]
    assert (median.n_before, median.n_after) == (120, 60)
    assert "transcription delay p95" not in found


def test_too_few_samples_are_said_and_prove_nothing(tmp_path: Path) -> None:
    before = written(tmp_path / "a", speaking(0.3))
    after = written(tmp_path / "b", speaking(3.0, speakers=1, each=4))
    delay = by_name(compared(before, after))["transcription delay"]
    assert (delay.verdict, delay.regression) == ("too few samples", False)
    assert (delay.n_before, delay.n_after) == (120, 4)


def test_answers_that_do_not_come_any_more_are_a_regression(tmp_path: Path) -> None:
    before = written(tmp_path / "a", speaking(0.3))
    lost = compared(before, written(tmp_path / "b", speaking(None)))
    delay = by_name(lost)["transcription delay p50"]
    assert (delay.regression, delay.ratio) == (True, math.inf)
    assert by_name(lost)["errors"].regression
    nobody = compared(before, written(tmp_path / "c", [a_connection()]))
    gone = by_name(nobody)["transcription delay"]
    assert (gone.verdict, gone.regression) == ("no data", True)
    assert "transcription delay is gone" in sentence(nobody)


def test_a_slower_but_small_delay_is_no_regression(tmp_path: Path) -> None:
    rows = [speaking(0.3, response_latency_s=reply) for reply in (0.010, 0.014, 0.020)]
    folders = [written(tmp_path / str(place), each) for place, each in enumerate(rows)]
    reply = "response latency p50"
    small = by_name(compared(folders[0], folders[1]))[reply]
    assert (small.verdict, small.regression) == ("worse", False)
    assert by_name(compared(folders[0], folders[2]))[reply].regression


def test_words_that_are_lost_are_a_regression_of_the_word_error_rate(tmp_path: Path) -> None:
    before = written(tmp_path / "a", speaking(0.3))
    after = written(tmp_path / "b", speaking(0.3, deletions=2, first_word_lost=True))
    found = compared(before, after)
    wer = by_name(found)["word error rate"]
    assert wer.regression
    assert (wer.before, wer.after) == (0.0, 0.25)
    assert ratio_text(wer) == "+25 points (+25 to +25)"
    assert wer.ratio is None


def test_where_words_mean_nothing_they_are_not_compared(tmp_path: Path) -> None:
    kind = {"model_kind": "synthetic weights"}
    before = written(tmp_path / "a", speaking(0.3), **kind)
    after = written(tmp_path / "b", speaking(0.3, deletions=2), **kind)
    assert "word error rate" not in by_name(compared(before, after))


def test_segments_of_the_server_explain_and_are_not_judged(runs: dict[str, Path]) -> None:
    found = by_name(compared(runs["a"], runs["slow"]))
    wait = found["server: endpoint wait p50"]
    assert (wait.verdict, wait.regression) == ("worse", False)
    assert verdict_text(wait) == "worse"


# Tolerances.


def test_a_regression_must_exceed_its_tolerance(runs: dict[str, Path]) -> None:
    def regressions(*texts: str) -> set[str]:
        wanted = parse_tolerances(texts, TIMED, SHARES, ["p50", "p95", "p99"])
        found = compared(runs["a"], runs["slow"], tolerances=wanted)
        return {name_of(each) for each in found.regressions}

    assert "transcription delay p50" in regressions()
    assert "transcription delay p50" not in regressions("90%")
    assert "transcription delay p50" not in regressions("transcription_delay_p50=90%")
    assert "transcription delay p50" in regressions("90%", "transcription_delay=5%")
    worse = by_name(compared(runs["a"], runs["slow"], tolerances=Tolerances(ratio=0.9)))
    assert tone_of(worse["transcription delay p50"]) == "worse"
    assert verdict_text(worse["transcription delay p50"]) == "worse, within 90 %"


@pytest.mark.parametrize("text", ["fast", "10", "wer=", "speed=5%", "wer=-1%", "=5%"])
def test_a_tolerance_that_is_none_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        parse_tolerances([text], TIMED, SHARES, ["p50"])


# Capacity.


def search(label: str, run: Side, holds: int, fails_at: int | None, speakers: int = 8) -> Side:
    return replace(run, label=label, bounds=Bounds(holds, fails_at, True), speakers=speakers)


def test_capacities_are_compared_by_what_their_bounds_leave_open(runs: dict[str, Path]) -> None:
    run = load_side("A", runs["a"])

    def capacity(old: tuple[int, int | None], new: tuple[int, int | None]) -> Any:
        found = compare(search("A", run, *old), search("B", run, *new))
        return by_name(found)["capacity"]

    assert capacity((8, 9), (6, 7)).regression
    assert not capacity((8, 9), (8, 9)).regression
    assert capacity((8, 9), (8, 9)).verdict == "no difference seen"
    # Of a gap the best is hoped for.
    assert not capacity((8, 9), (6, 9)).regression
    assert capacity((100, 101), (95, 96)).verdict == "worse"
    assert not capacity((100, 101), (95, 96)).regression
    assert capacity((8, 9), (12, 13)).verdict == "better"
    assert capacity((8, 9), (12, None)).verdict == "better"
    assert capacity((0, 1), (0, 1)).verdict == "no difference seen"


def test_delays_of_steps_with_other_numbers_of_speakers_are_not_compared(
    runs: dict[str, Path],
) -> None:
    run = load_side("A", runs["a"])
    apart = compare(search("A", run, 8, 9), search("B", run, 4, 5, speakers=4))
    assert [each.kind for each in apart.differences] == ["capacity"]
    same = compare(search("A", run, 8, 9), search("B", run, 8, 9))
    assert "transcription delay p50" in by_name(same)


def test_a_search_that_found_nothing_is_refused(runs: dict[str, Path]) -> None:
    run = load_side("A", runs["a"])
    void = replace(search("B", run, 0, None), bounds=Bounds(0, None, False))
    assert obstacles(search("A", run, 8, 9), void) == ["B found nothing out: void or undecided"]


# What may be compared.


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"protocol": "whisperlive"}, "different protocol (realtime in A, whisperlive in B)"),
        ({"corpus_hash": "77"}, "different corpus (5b1f0c in A, 77 in B)"),
        (
            {"corpus_hash": "77", "settings": {"duration_s": 90}},
            "different corpus (5b1f0c in A, 77 in B); synthetic speech is made for the length",
        ),
        (
            {"settings": {"scenario_fields": {"pause_s": [1, 2], "network": {"loss": 0.1}}}},
            "different scenario: network.loss (0 in A, 0.1 in B)",
        ),
        ({"model_kind": "self-test model"}, "different kind of model"),
        ({"settings": {"scenario": "dictation"}}, "different scenario (conversation in A"),
        ({"settings": {"speakers": 5}}, "different number of speakers (4 in A, 5 in B)"),
        ({"settings": {"frame_s": 0.06}}, "different length of a frame (not recorded in A, 0.06"),
        ({"settings": {"normaliser": "other"}}, "different normaliser of texts"),
        ({"settings": {"anchors": "other"}}, "different definition of the instants"),
        ({"settings": {"storm_rounds": 3}}, "different kind of run (run in A, connect storm in B)"),
        ({"settings": {"brand_new": {"loss": 0.1}}}, "different brand new"),
        ({"interrupted": True}, "B was interrupted"),
    ],
)
def test_runs_that_measured_something_else_are_refused_with_the_reason(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    fields = {"pause_s": [1, 2], "network": {"loss": 0.0}}
    usual = {
        "speakers": 4,
        "duration_s": 60,
        "scenario": "conversation",
        "scenario_fields": fields,
    }
    before = written(tmp_path / "a", [a_turn()], settings=usual)
    if "settings" in change:
        change = {**change, "settings": {**usual, **change["settings"]}}
    found = compared(before, written(tmp_path / "b", [a_turn()], **{"settings": usual, **change}))
    assert any(obstacle.startswith(reason) for obstacle in found.obstacles), found.obstacles
    assert found.differences == []
    assert sentence(found) == "A and B cannot be compared."


def test_a_void_run_is_refused(tmp_path: Path) -> None:
    before = written(tmp_path / "a", [a_turn()])
    after = written(tmp_path / "b", [a_turn(), a_second(2.0, cpu_ratio=0.99)])
    (reason,) = compared(before, after).obstacles
    assert reason.startswith("B is void: the load generator used 9")


def test_every_reason_is_named(tmp_path: Path) -> None:
    before = written(tmp_path / "a", [a_turn()])
    after = written(tmp_path / "b", [a_turn()], protocol="x", corpus_hash="y", model_kind="z")
    assert len(compared(before, after).obstacles) == 3


def test_what_may_differ_is_told(tmp_path: Path) -> None:
    before = written(tmp_path / "a", [a_turn()], server={"stt": {"workers": 1}, "uptime_s": 3})
    other = replace(MACHINE, cores=64, gpus=())
    after = written(
        tmp_path / "b",
        [a_turn()],
        model="small.en",
        machine=other,
        server={"stt": {"workers": 2}, "uptime_s": 9},
        settings={"speakers": 4, "duration_s": 600, "scenario": "conversation"},
    )
    found = compared(before, after)
    assert found.comparable
    told = [str(change) for change in found.allowed]
    assert "model (base.en in A, small.en in B)" in told
    assert "server's stt.workers (1 in A, 2 in B)" in told
    assert "duration_s (60 in A, 600 in B)" in told
    assert not any("uptime" in change for change in told)
    (warning,) = [each for each in found.warnings if "machines" in each]
    assert "cores (8 in A, 64 in B)" in warning
    assert "GPUs (A GPU in A, none in B)" in warning
    assert not [w for w in warnings(load_side("A", before), load_side("B", before)) if "mach" in w]


# The command.


def rtvc(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["compare", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_regression_fails_only_when_asked_to(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    slower = (str(runs["a"]), str(runs["slow"]))
    assert rtvc(*slower) == 0
    out = capsys.readouterr().out
    assert "✗" in out
    assert "B is worse than A" in out
    assert "n in A | B" in out
    assert rtvc(*slower, "--fail-on", "regression") == 99
    assert rtvc(*slower, "--fail-on", "regression", "--threshold", "95%") == 0
    assert rtvc(slower[0], slower[0], "--fail-on", "regression") == 0


def test_the_comparison_is_json_on_demand(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert rtvc(str(runs["a"]), str(runs["slow"]), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["comparable"] is True
    assert found["regression"] is True
    (median,) = [
        each
        for each in found["differences"]
        if (each["metric"], each["aggregate"]) == ("transcription_delay", "p50")
    ]
    assert median["regression"] is True
    assert median["ratio_interval"]["low"] > 1.1


def test_runs_that_cannot_be_compared_are_wrong_usage(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = written(tmp_path / "b", [a_turn()], corpus_hash="77", protocol="x")
    assert rtvc(str(runs["a"]), str(other)) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "cannot be compared: different protocol" in line
    assert "different corpus (5b1f0c in A, 77 in B)" in line
    assert not (other / "compare.html").exists()
    assert rtvc(str(runs["a"]), str(other), "--json", "--fail-on", "regression") == 2
    assert json.loads(capsys.readouterr().out)["obstacles"]


def test_mistakes_are_named(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(runs["a"])
    assert rtvc(folder, "nowhere") == 2
    assert rtvc(folder, folder, "--fail-on", "speed") == 2
    assert rtvc(folder, folder, "--threshold", "much") == 2
    assert rtvc(folder, folder, "--out", "no/such/folder/page.html") == 2
    err = capsys.readouterr().err
    assert "nowhere" in err
    assert "--fail-on regression, got 'speed'" in err
    assert "'much'" in err
    assert "cannot write no/such/folder/page.html" in err


def test_the_page_of_a_comparison_opens_offline(runs: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "side.html"
    assert rtvc(str(runs["a"]), str(runs["slow"]), "--out", str(path)) == 0
    markup = path.read_text("utf-8")
    page = Page(markup)
    assert page.open == []
    assert page.addresses == []
    assert "http" not in markup.replace("http-equiv", "")
    assert "B is worse than A" in page.text
    assert 'class="series-a"' in markup
    assert 'class="series-b"' in markup
    assert "n=" in page.text


def test_a_page_escapes_what_runs_say(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    before = written(tmp_path / "a", speaking(0.3), model=attack)
    after = written(tmp_path / "b", speaking(0.3), model="x")
    assert rtvc(str(before), str(after)) == 0
    assert "script" not in Page((after / "compare.html").read_text("utf-8")).tags


def test_the_example_workflow_uses_flags_that_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    example = Path(__file__).parents[1] / "docs" / "github-actions-example.yml"
    text = example.read_text("utf-8").replace("\\\n", " ")
    used = re.findall(r"bin/rtvc (\w+)([^\n]*)", text)
    assert {verb for verb, _ in used} == {"serve", "loadtest", "compare"}
    for verb, rest in used:
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        known = capsys.readouterr().out
        for flag in re.findall(r"--[a-z-]+", rest):
            assert flag in known, (verb, flag)
    assert "--fail-on regression" in text
    assert "report.html" in text


def test_a_search_is_compared_by_the_step_that_tells_most(tmp_path: Path) -> None:
    folder = tmp_path / "found"
    shutil.copytree(Path(__file__).parents[1] / "reports/stt/selftest-short", folder)
    side = load_side("A", folder)
    assert side.bounds is not None
    assert side.bounds.holds
    assert asdict(side.bounds)["decided"]
    found = compare(side, replace(side, label="B"))
    assert found.regressions == []
    assert "capacity" in by_name(found)
