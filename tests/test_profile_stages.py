"""Shares add up to the delay, hidden work does not, and what is unexplained is shown."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from rtvc.cli import build_app
from rtvc.clock import FakeClock
from rtvc.errors import RecordError, RtvcError, UsageError
from rtvc.instruments.stages import Segment
from rtvc.profile.stages.breakdown import (
    UNACCOUNTED,
    Breakdown,
    SegmentTimes,
    TurnTime,
    breakdown,
    to_json,
)
from rtvc.profile.stages.live import DELAY, STAGE, live_breakdown
from rtvc.profile.stages.waterfall import drawn, waterfall
from rtvc.record import Run, RunWriter, ServerTurnRow, TurnRow, load_run
from tests.synthetic_run import a_manifest, a_turn, server_turn, write_run


def segments(turn: TurnRow, *parts: tuple[str, float, float, bool]) -> list[ServerTurnRow]:
    """(name, start, duration, hidden) of a turn's transcript."""
    ids = (turn.session_id or "", turn.item_id or "")
    return [
        ServerTurnRow(*ids, "transcript", name, start_s, duration_s, hidden)
        for name, start_s, duration_s, hidden in parts
    ]


def a_run(folder: Path, *rows: TurnRow | ServerTurnRow) -> Run:
    with RunWriter(folder, a_manifest(), FakeClock()) as writer:
        writer.append(*rows)
    return load_run(folder)


def policy_turns(n: int = 12) -> list[TurnRow | ServerTurnRow]:
    """Half of each delay is endpoint_wait, a quarter decode, a tenth is not explained."""
    rows: list[TurnRow | ServerTurnRow] = []
    for number in range(n):
        turn = a_turn(number, transcription_delay_s=0.4, response_latency_s=None)
        rows.append(turn)
        rows += segments(
            turn,
            ("vad_delay", 0.0, 0.06, False),
            ("endpoint_wait", 0.06, 0.2, False),
            ("decode", 0.26, 0.1, False),
            ("decode", 0.1, 0.16, True),
        )
    return rows


def row(found: Breakdown, name: str, *, hidden: bool = False) -> SegmentTimes:
    (one,) = [one for one in found.delays[0].rows if (one.name, one.hidden) == (name, hidden)]
    return one


def test_the_sentence_names_what_most_of_the_delay_is(tmp_path: Path) -> None:
    found = breakdown(a_run(tmp_path, *policy_turns()))
    assert found.sentence == (
        "Half of the transcription delay is endpoint_wait (policy), 25 % decode (compute): "
        "200 ms of 400 ms in the mean, n=12."
    )


def test_what_no_segment_explains_has_a_row_of_its_own(tmp_path: Path) -> None:
    found = breakdown(a_run(tmp_path, *policy_turns()))
    left = row(found, UNACCOUNTED)
    assert left.mean_s == pytest.approx(0.04)
    assert left.share == pytest.approx(0.1)
    assert found.delays[0].outside_s == pytest.approx(0.04)
    assert found.delays[0].explained == 0.0, "40 ms of 400 ms is more than 10 ms or 5 %"
    assert found.delays[0].felt_rows[-1] is left


def test_hidden_work_is_shown_and_does_not_count(tmp_path: Path) -> None:
    found = breakdown(a_run(tmp_path, *policy_turns()))
    hidden = row(found, "decode", hidden=True)
    assert hidden.mean_s == pytest.approx(0.16)
    assert hidden.share is None
    assert row(found, "decode").mean_s == pytest.approx(0.1)


def test_quantiles_that_few_turns_do_not_support_are_left_out(tmp_path: Path) -> None:
    found = breakdown(a_run(tmp_path, *policy_turns(12)))
    wait = row(found, "endpoint_wait")
    assert (wait.n, wait.p50_s, wait.p95_s, wait.max_s) == (12, 0.2, None, 0.2)
    assert breakdown(a_run(tmp_path / "few", *policy_turns(5))).delays[0].p50_s is None


def test_a_gap_between_the_servers_segments_is_unaccounted_too(tmp_path: Path) -> None:
    turn = a_turn(transcription_delay_s=0.5, response_latency_s=None)
    parts = segments(turn, ("vad_delay", 0.0, 0.1, False), ("emit", 0.4, 0.1, False))
    found = breakdown(a_run(tmp_path, turn, *parts))
    assert row(found, UNACCOUNTED).mean_s == pytest.approx(0.3)
    assert found.delays[0].outside_s == pytest.approx(0.0)


def test_a_turn_is_explained_within_ten_milliseconds_or_five_percent(tmp_path: Path) -> None:
    rows: list[TurnRow | ServerTurnRow] = []
    for number, (delay_s, timed_s) in enumerate([(0.1, 0.09), (0.1, 0.089), (1, 0.95), (1, 1.06)]):
        turn = a_turn(number, transcription_delay_s=delay_s, response_latency_s=None)
        rows += [turn, *segments(turn, ("decode", 0.0, timed_s, False))]
    assert breakdown(a_run(tmp_path, *rows)).delays[0].explained == 0.5


def test_warm_up_and_lost_finals_and_strangers_are_left_out_and_counted(tmp_path: Path) -> None:
    warm = a_turn(0, warm_up=True, transcription_delay_s=9.0)
    lost = a_turn(1, transcription_delay_s=None)
    kept = a_turn(2, transcription_delay_s=0.3)
    strange = a_turn(3, 7)
    rows = [part for turn in (warm, lost, kept, strange) for part in server_turn(turn, 0.3, None)]
    found = breakdown(a_run(tmp_path, warm, lost, kept, *rows))
    assert [(delay.n, delay.max_s) for delay in found.delays] == [(1, 0.3)]
    assert found.notes == (
        "left out: 1 turn of the warm-up",
        "left out: 1 turn without a final transcript",
        "left out: 1 turn of an utterance that went on, or not of this run",
    )


def test_without_the_clients_turns_the_servers_own_account_is_shown(tmp_path: Path) -> None:
    found = breakdown(a_run(tmp_path, *server_turn(a_turn(), 0.3, None)))
    (delay,) = found.delays
    assert (delay.joined, delay.outside_s, delay.explained) == (False, None, None)
    assert delay.mean_s == pytest.approx(0.3)
    assert found.sentence.endswith("in the mean, by the server's own account, n=1.")


def test_a_run_whose_server_sends_no_times_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"expected server times in .*, but its server sent none"):
        breakdown(a_run(tmp_path, a_turn()))


def test_a_run_of_warm_up_only_is_told(tmp_path: Path) -> None:
    turn = a_turn(warm_up=True)
    with pytest.raises(RecordError, match="expected turns after the warm-up"):
        breakdown(a_run(tmp_path, turn, *server_turn(turn, 0.3, None)))


delays = st.floats(0.05, 3.0)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(delays, delays, delays), min_size=1, max_size=20))
def test_felt_segments_and_unaccounted_add_up_to_the_mean_delay(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[float, float, float]]
) -> None:
    rows: list[TurnRow | ServerTurnRow] = []
    for number, (delay_s, timed_s, rest_s) in enumerate(turns):
        latency_s = delay_s + rest_s
        turn = a_turn(number, transcription_delay_s=delay_s, response_latency_s=latency_s)
        rows += [turn, *server_turn(turn, timed_s, timed_s + rest_s)]
    found = breakdown(a_run(tmp_path_factory.mktemp("run"), *rows))
    assert [delay.stage for delay in found.delays] == ["transcript", "reply"]
    for delay in found.delays:
        assert sum(one.mean_s for one in delay.felt_rows) == pytest.approx(delay.mean_s)
        assert sum(one.share or 0.0 for one in delay.felt_rows) == pytest.approx(1.0)
    json.dumps(to_json(found), allow_nan=False)


def test_the_slowest_turns_come_first(tmp_path: Path) -> None:
    found = breakdown(write_run(tmp_path), slowest=3)
    slowest = found.delays[0].slowest
    assert len(slowest) == 3
    assert [turn.delay_s for turn in slowest] == sorted(
        (turn.delay_s for turn in slowest), reverse=True
    )
    assert slowest[0].delay_s == found.delays[0].max_s
    assert breakdown(load_run(tmp_path), slowest=0).delays[0].slowest == ()


def a_turn_time(delay_s: float = 1.0) -> TurnTime:
    felt = (Segment("vad_delay", 0.0, 0.2), Segment("endpoint_wait", 0.2, 0.6))
    return TurnTime("s", "i", 3, 4, delay_s, felt, (Segment("decode", 0.2, 0.2),))


def test_a_waterfall_is_drawn_on_one_axis() -> None:
    lines = [line.plain for line in waterfall(a_turn_time(), 127)]
    assert lines[0] == "speaker 3, utterance 4: 1 s"
    assert [line.split()[0] for line in lines[1:]] == [
        "unaccounted",
        "vad_delay",
        "endpoint_wait",
        "decode",
    ]
    bars = [(line.find("█"), line.count("█")) for line in lines[1:4]]
    assert bars == [(17, 20), (37, 20), (57, 60)], "one hundred characters are the second"
    assert (lines[4].find("░"), lines[4].count("░")) == (57, 20)
    assert lines[3].endswith(" 600 ms")


@settings(deadline=None)
@given(st.floats(-0.5, 5.0), st.integers(20, 200))
def test_a_waterfall_never_leaves_its_width(delay_s: float, width: int) -> None:
    for line in waterfall(a_turn_time(delay_s), width)[1:]:
        bar = line.plain[17:]
        assert 1 <= bar.count("█") + bar.count("░") <= max(10, width - 27)


def printed(found: Breakdown, width: int = 100) -> str:
    console = Console(width=width, soft_wrap=True, highlight=False)
    with console.capture() as captured:
        console.print(drawn(found, width))
    return captured.get()


def test_what_is_printed_begins_with_the_sentence(tmp_path: Path) -> None:
    said = printed(breakdown(a_run(tmp_path, *policy_turns()), slowest=1))
    assert said.startswith("Half of the transcription delay is endpoint_wait (policy)")
    assert "transcription delay: mean 400 ms, p50 400 ms, max 400 ms, n=12" in said
    assert "at most 10 ms or 5 % on 0 % of turns" in said
    assert "slowest turns, to the transcript" in said


@pytest.mark.parametrize("width", [80, 100])
def test_no_figure_is_cut_off(tmp_path: Path, width: int) -> None:
    said = printed(breakdown(write_run(tmp_path)), width)
    assert "…" not in said
    rows = [line for line in said.splitlines() if line.startswith(("endpoint_wait", "decode"))]
    assert len(rows) == 5, "of a transcript two and its hidden work, of a reply two"
    assert max(map(len, rows)) <= width


def run_cli(*arguments: str) -> Any:
    words = ["profile", "stages", *arguments]
    return CliRunner().invoke(build_app(words), words, catch_exceptions=True)


def test_the_command_prints_json_and_writes_a_trace(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    path = tmp_path / "trace.json"
    done = run_cli(str(tmp_path / "run"), "--json", "--trace", str(path), "--slowest", "2")
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert [delay["stage"] for delay in said["delays"]] == ["transcript", "reply"]
    assert len(said["delays"][0]["slowest"]) == 2
    names = {event["name"] for event in json.loads(path.read_text("utf-8"))["traceEvents"]}
    assert {"endpoint_wait", "utterance", "process_name"} <= names


EXPOSITION = """\
# TYPE rtvc_transcription_delay_seconds histogram
rtvc_transcription_delay_seconds_bucket{le="0.3"} 60
rtvc_transcription_delay_seconds_bucket{le="0.5"} 99
rtvc_transcription_delay_seconds_bucket{le="+Inf"} 100
rtvc_transcription_delay_seconds_sum 30
rtvc_transcription_delay_seconds_count 100
# TYPE rtvc_turn_stage_seconds histogram
rtvc_turn_stage_seconds_bucket{stage="endpoint_wait",path="felt",le="0.3"} 100
rtvc_turn_stage_seconds_bucket{stage="endpoint_wait",path="felt",le="+Inf"} 100
rtvc_turn_stage_seconds_sum{stage="endpoint_wait",path="felt"} 20
rtvc_turn_stage_seconds_count{stage="endpoint_wait",path="felt"} 100
rtvc_turn_stage_seconds_bucket{stage="decode",path="felt",le="+Inf"} 20
rtvc_turn_stage_seconds_sum{stage="decode",path="felt"} 9
rtvc_turn_stage_seconds_count{stage="decode",path="felt"} 20
rtvc_turn_stage_seconds_sum{stage="decode",path="hidden"} 5
rtvc_turn_stage_seconds_count{stage="decode",path="hidden"} 80
rtvc_turn_stage_seconds_bucket{stage="decode",path="hidden",le="+Inf"} 80
rtvc_turn_stage_seconds_sum{stage="llm_ttft",path="felt"} 50
rtvc_turn_stage_seconds_count{stage="llm_ttft",path="felt"} 100
# TYPE other_seconds gauge
other_seconds 7
"""


def test_a_run_of_our_server_in_which_no_turn_was_finished_says_so(tmp_path: Path) -> None:
    ours = a_manifest(server={"version": "1.0", "max_sessions": 8})
    lost = a_turn(transcription_delay_s=None, response_latency_s=None)
    for folder, manifest, rows, said in (
        ("nobody", ours, (), "no turn was finished in"),
        ("lost", ours, (lost,), "no turn was finished in"),
        ("odd", ours, (a_turn(),), "its server sent none"),
        ("theirs", a_manifest(), (lost,), "its server sent none"),
    ):
        with RunWriter(tmp_path / folder, manifest, FakeClock()) as writer:
            writer.append(*rows)
        with pytest.raises(RecordError, match=said):
            breakdown(load_run(tmp_path / folder))


def test_a_servers_histograms_are_taken_apart() -> None:
    found = live_breakdown(EXPOSITION)
    (delay,) = found.delays
    assert (delay.n, delay.mean_s, delay.p50_s, delay.p95_s) == (100, 0.3, 0.3, 0.5)
    assert found.sentence.startswith("Two thirds of the transcription delay is endpoint_wait")
    assert [(one.name, one.hidden) for one in delay.rows] == [
        ("endpoint_wait", False),
        ("decode", False),
        (UNACCOUNTED, False),
        ("decode", True),
    ]
    decode = row(found, "decode")
    assert (decode.n, decode.mean_s, decode.share) == (20, 0.09, 0.3)
    assert row(found, UNACCOUNTED).mean_s == pytest.approx(0.01)
    assert "by the server's own account" in printed(found)
    json.dumps(to_json(found), allow_nan=False)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("# TYPE up gauge\nup 1\n", "expected rtvc_transcription_delay_seconds among"),
        (EXPOSITION.replace("count 100", "count 0", 1), "no turn has ended"),
        ("<html>", "expected metrics in Prometheus's text format"),
    ],
)
def test_what_tells_nothing_of_turns_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(RtvcError, match=complaint):
        live_breakdown(text)


def test_a_server_keeps_no_turns_to_trace(tmp_path: Path) -> None:
    done = run_cli("ws://127.0.0.1:9/", "--trace", str(tmp_path / "t.json"))
    assert isinstance(done.exception, UsageError)
    assert "keeps none" in str(done.exception)


def test_a_server_that_is_not_there_is_told() -> None:
    done = run_cli("http://127.0.0.1:9")
    assert isinstance(done.exception, RtvcError)
    assert "no server answers at http://127.0.0.1:9/metrics" in str(done.exception)


@pytest.mark.slow
def test_our_server_exports_what_is_read_here(server_url: str) -> None:
    answer = httpx.get(f"{server_url}/metrics")
    assert answer.status_code == 200
    asked = re.findall(
        r"^(rtvc_(?:transcription_delay|turn_stage)_seconds_count)", answer.text, re.M
    )
    assert {DELAY + "_count", STAGE + "_count"} == set(asked)
    (labels,) = re.findall(STAGE + r"_count\{(.*endpoint_wait.*)\}", answer.text)
    assert set(labels.split(",")) == {'stage="endpoint_wait"', 'path="felt"'}
