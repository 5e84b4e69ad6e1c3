"""Figures from rows: what counts, what does not, and when a run is void."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import RecordError
from rtvc.record import ConnectionRow, GeneratorRow, Run, ServerTurnRow, TurnRow
from rtvc.summary import Summary, load_summary, summarize, to_json, write_summary
from tests.synthetic_run import a_connection, a_manifest, a_second, a_turn, server_turn, write_run


def a_run(
    *,
    connections: list[ConnectionRow] | None = None,
    turns: list[TurnRow] | None = None,
    server_turns: list[ServerTurnRow] | None = None,
    generator: list[GeneratorRow] | None = None,
    **manifest: Any,
) -> Run:
    return Run(
        folder=Path("nowhere"),
        manifest=a_manifest(**manifest),
        connections=[a_connection()] if connections is None else connections,
        turns=turns or [],
        server_turns=server_turns or [],
        samples=[],
        generator=[a_second()] if generator is None else generator,
    )


def test_an_empty_run_has_no_figures_and_no_zeros() -> None:
    summary = summarize(a_run(connections=[], generator=[]))
    assert summary.metrics["transcription_delay"].max is None
    assert summary.metrics["transcription_delay"].n == 0
    assert summary.accuracy.wer is None
    assert summary.errors.rate is None
    assert summary.utterances.premature_share is None
    assert summary.duration_s is None
    assert summary.stacks == []


def test_quantiles_are_of_raw_samples_and_only_where_supported() -> None:
    delays = [0.001 * i for i in range(1, 101)]
    turns = [a_turn(0, i, transcription_delay_s=delay) for i, delay in enumerate(delays)]
    metric = summarize(a_run(turns=turns)).metrics["transcription_delay"]
    assert metric.n == 100
    assert metric.p95 == pytest.approx(0.09505)
    assert metric.p99 is None
    assert metric.max == pytest.approx(0.1)
    assert metric.p95_low is not None
    assert metric.p95_high is not None
    assert metric.p95_low < 0.095 < metric.p95_high


def test_losing_finals_cannot_improve_the_delay() -> None:
    turns = [a_turn(0, i, transcription_delay_s=None if i < 10 else 0.1) for i in range(100)]
    summary = summarize(a_run(turns=turns))
    metric = summary.metrics["transcription_delay"]
    assert (metric.n, metric.missing, metric.p50, metric.p95) == (100, 10, 0.1, math.inf)
    assert metric.max_observed == 0.1
    assert summary.utterances.finals_missing == 10


def test_an_early_final_is_kept_negative_and_a_delay_of_zero_is_a_delay() -> None:
    turns = [a_turn(0, 0, transcription_delay_s=-0.2), a_turn(0, 1, transcription_delay_s=0.0)]
    metric = summarize(a_run(turns=turns)).metrics["transcription_delay"]
    assert metric.missing == 0
    assert metric.mean == pytest.approx(-0.1)


def test_a_missing_reply_counts_only_where_one_was_expected() -> None:
    turns = [
        a_turn(0, 0, response_latency_s=0.8),
        a_turn(0, 1, response_latency_s=None, reply_expected=True),
        a_turn(0, 2, response_latency_s=None, reply_expected=False),
    ]
    summary = summarize(a_run(turns=turns))
    metric = summary.metrics["response_latency"]
    assert (metric.n, metric.missing, metric.max) == (2, 1, math.inf)
    assert summary.utterances.replies_missing == 1
    assert summary.utterances.replies_expected == 2


def test_warm_up_is_left_out_everywhere() -> None:
    warm = a_turn(0, 0, warm_up=True, transcription_delay_s=9.0, substitutions=8)
    kept = a_turn(0, 1)
    rows = server_turn(warm, 8.9, None) + server_turn(kept, 0.29, None)
    summary = summarize(a_run(turns=[warm, kept], server_turns=rows))
    assert summary.utterances.warm_up == 1
    assert summary.utterances.spoken == 1
    assert summary.metrics["transcription_delay"].max == 0.3
    assert summary.accuracy.wer == 0
    assert {segment.n for segment in summary.segments} == {1}


def test_refused_failed_and_lost_are_counted_apart_and_all_are_errors() -> None:
    outcomes = ["ok", "ok", "refused", "failed", "lost"]
    rows = [
        a_connection(i, outcome=outcome, connection_s=0.02 if outcome in ("ok", "lost") else None)
        for i, outcome in enumerate(outcomes)
    ]
    turns = [a_turn(0, i) for i in range(5)]
    summary = summarize(a_run(connections=rows, turns=turns))
    counted = summary.connections
    assert (counted.ok, counted.refused, counted.failed, counted.lost) == (2, 1, 1, 1)
    assert summary.errors.count == 3
    assert summary.errors.attempts == 5 + 5 + 5
    assert summary.metrics["connection"].n == 3
    assert summary.metrics["connection"].missing == 2


def test_an_attempt_written_as_it_opens_and_as_it_ends_is_one() -> None:
    opened = a_connection(0, outcome="ok", close_code=None, closed_at_s=None)
    ended = a_connection(0, outcome="lost", reason="1011", closed_at_s=9.0)
    summary = summarize(a_run(connections=[opened, a_connection(1), ended]))
    assert summary.connections.attempts == 2
    assert summary.connections.lost == 1
    assert summary.metrics["connection"].n == 2


def test_concurrent_sessions_are_those_open_at_once() -> None:
    rows = [
        a_connection(0, opened_at_s=0.0, closed_at_s=10.0),
        a_connection(1, opened_at_s=5.0, closed_at_s=15.0),
        a_connection(2, opened_at_s=11.0, closed_at_s=None),
        a_connection(3, opened_at_s=5.0, connection_s=None, outcome="refused"),
    ]
    summary = summarize(a_run(connections=rows))
    assert summary.connections.concurrent == 2
    assert summary.speakers == 4


def test_word_errors_are_pooled_not_averaged() -> None:
    turns = [
        a_turn(0, 0, reference_words=2, substitutions=1),
        a_turn(0, 1, reference_words=18, deletions=1, insertions=2),
    ]
    accuracy = summarize(a_run(turns=turns)).accuracy
    assert (accuracy.substitutions, accuracy.deletions, accuracy.insertions) == (1, 1, 2)
    assert accuracy.wer == pytest.approx(4 / 20)


def test_a_missing_final_loses_all_its_words() -> None:
    none: dict[str, Any] = {"substitutions": None, "deletions": None, "insertions": None}
    turns = [
        a_turn(0, 0, reference_words=8, transcription_delay_s=None, **none),
        a_turn(0, 1, reference_words=8, **none),  # a final without text: not observable
        a_turn(0, 2, reference_words=8),
    ]
    accuracy = summarize(a_run(turns=turns)).accuracy
    assert (accuracy.utterances, accuracy.unscored) == (2, 1)
    assert accuracy.wer == pytest.approx(8 / 16)


def test_premature_finals_and_cross_talk_are_counted() -> None:
    turns = [
        a_turn(0, 0, premature_finals=2),
        a_turn(0, 1, cross_talk_words=3),
        a_turn(0, 2),
        a_turn(0, 3, kind="interruption", interrupted_reply=True, barge_in_latency_s=0.2),
    ]
    summary = summarize(a_run(turns=turns))
    assert summary.utterances.premature_finals == 2
    assert summary.utterances.premature_share == pytest.approx(1 / 4)
    assert summary.accuracy.cross_talk_words == 3
    assert summary.accuracy.cross_talk_turns == 1
    assert summary.utterances.interruptions == 1
    assert summary.metrics["barge_in_latency"].n == 1


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([a_second()], None),
        ([a_second(lag_histogram="199:100")], None),  # 20.0 ms: exactly one frame
        ([a_second(lag_histogram="2:98 200:2")], "20.1 ms late at p99"),
        ([a_second(lag_histogram="2:150 900:1")], None),  # one late frame in 151 is under 1 %
        ([a_second(cpu_ratio=0.95)], "95 % of a core"),
        ([a_second(cpu_ratio=1.0), *[a_second(cpu_ratio=0.1)] * 40], None),  # start-up
        ([a_second(process=1), a_second(process=2, cpu_ratio=0.99)], "99 % of a core"),
        ([a_second(cpu_ratio=None)], None),
        ([], "no record of its own lag"),
    ],
)
def test_a_saturated_generator_voids_the_run(rows: list[GeneratorRow], reason: str | None) -> None:
    generator = summarize(a_run(generator=rows)).generator
    assert generator.valid is (reason is None)
    assert (reason or "") in (generator.reason or "")


def test_lag_of_processes_and_seconds_adds_up() -> None:
    rows = [a_second(1, process=1, lag_histogram="1:10"), a_second(1, lag_histogram="1:5 3:5")]
    metric = summarize(a_run(generator=rows)).metrics["generator_lag"]
    assert metric.n == 20
    assert metric.p50 == pytest.approx(0.0002)
    assert metric.max == pytest.approx(0.0004)


def test_a_broken_histogram_is_named() -> None:
    with pytest.raises(RecordError, match=r"at 1\.0 s: expected"):
        summarize(a_run(generator=[a_second(lag_histogram="x")]))


@given(st.lists(st.floats(0.05, 2), min_size=1, max_size=250))
@settings(deadline=None, max_examples=40)
def test_segments_of_a_stack_sum_to_a_length_that_occurred(delays: list[float]) -> None:
    turns = [a_turn(0, i, transcription_delay_s=delay) for i, delay in enumerate(delays)]
    rows = [
        row
        for turn, delay in zip(turns, delays, strict=True)
        for row in server_turn(turn, delay, None)
    ]
    stacks = summarize(a_run(turns=turns, server_turns=rows)).stacks
    assert [stack.label for stack in stacks] == ["p50", "p95" if len(delays) >= 100 else "max"]
    for stack in stacks:
        assert math.fsum(stack.segments.values()) == pytest.approx(stack.total_s)
        assert min(delays) - 1e-9 <= stack.total_s <= max(delays) + 1e-9
        assert list(stack.segments)[:3] == ["vad_delay", "endpoint_wait", "queue_wait"]
    assert stacks[0].total_s <= stacks[1].total_s + 1e-9


def test_hidden_work_is_shown_apart() -> None:
    turn = a_turn()
    summary = summarize(a_run(turns=[turn], server_turns=server_turn(turn, 1.0, None)))
    hidden = [segment for segment in summary.segments if segment.hidden]
    assert [segment.name for segment in hidden] == ["decode"]
    assert summary.stacks[0].hidden == {"decode": pytest.approx(0.2)}
    assert summary.stacks[0].total_s == pytest.approx(1.0)


def test_waits_are_told_from_work() -> None:
    turn = a_turn()
    segments = summarize(a_run(turns=[turn], server_turns=server_turn(turn, 0.3, 0.8))).segments
    waits = {segment.name for segment in segments if segment.wait}
    assert {"endpoint_wait", "queue_wait"} <= waits
    assert not {"encode", "decode", "llm_ttft"} & waits


def test_a_run_cut_off_lasts_until_its_last_record() -> None:
    run = a_run(turns=[a_turn(0, 0, start=3.0)], generator=[a_second(4.0)])
    assert run.cut_off
    assert summarize(run).duration_s == pytest.approx(5.3)


def test_the_self_test_model_is_named() -> None:
    assert summarize(a_run(model="selftest", model_kind="self-test model")).self_test
    assert not summarize(a_run()).self_test


def test_a_summary_survives_its_file(tmp_path: Path) -> None:
    summary = summarize(write_run(tmp_path))
    assert summary.metrics["transcription_delay"].max == math.inf
    write_summary(tmp_path, summary)
    assert load_summary(tmp_path) == summary


def test_a_summary_is_plain_json(tmp_path: Path) -> None:
    text = json.dumps(to_json(summarize(write_run(tmp_path))), allow_nan=False)
    assert '"max": "inf"' in text


def test_a_summary_of_another_version_is_refused(tmp_path: Path) -> None:
    summary: Summary = replace(summarize(a_run()), schema_version=2)
    write_summary(tmp_path, summary)
    with pytest.raises(RecordError, match="expected schema version 1, got 2"):
        load_summary(tmp_path)


def test_a_broken_summary_says_where(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"schema_version": 1}')
    with pytest.raises(RecordError, match="started_at: Field required"):
        load_summary(tmp_path)
