"""Objectives in k6's spelling, in files, and those that end a run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import UsageError
from rtvc.loadtest.search.abort import what_ends
from rtvc.record import Run
from rtvc.slo import (
    DEFAULT,
    Objective,
    evaluate,
    goodput_text,
    judge,
    load_objectives,
    parse_objective,
    parse_objectives,
    utterance_targets,
)
from rtvc.summary import METRICS, QUANTILES, Summary, summarize
from tests.synthetic_run import a_connection, a_manifest, a_second, a_turn


@pytest.mark.parametrize(
    ("k6", "ours"),
    [
        ("transcription_delay: p(95)<500ms", "transcription_delay_p95<500ms"),
        ("transcription_delay: p(95)<500", "transcription_delay_p95<500ms"),
        ("transcription_delay:p( 99.9 ) <= 2s", "transcription_delay_p99.9<=2s"),
        ("connection: avg<200", "connection_mean<200ms"),
        ("connection: med<200", "connection_p50<200ms"),
        ("response_latency: max < 3s", "response_latency_max<3s"),
        ("partial_interval: min > 10", "partial_interval_min>10ms"),
        ("errors: rate<0.01", "errors<1%"),
        ("errors: rate < 1%", "errors<1%"),
        ("cross_talk: count===0", "cross_talk==0"),
        ("cross_talk: count!=3", "cross_talk!=3"),
        ("goodput: rate>0.95", "goodput>95%"),
    ],
)
def test_k6s_spelling_means_the_same(k6: str, ours: str) -> None:
    assert parse_objective(k6) == parse_objective(ours)


@given(st.sampled_from(METRICS), st.sampled_from(sorted(QUANTILES)), st.integers(1, 99_999))
@settings(deadline=None, max_examples=40)
def test_every_quantile_can_be_written_both_ways(metric: str, name: str, ms: int) -> None:
    ours = parse_objective(f"{metric}_{name}<{ms}ms")
    assert parse_objective(f"{metric}: p({name[1:]})<{ms}") == ours
    assert ours.tolerated_share == pytest.approx(1 - QUANTILES[name])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latency: p(95)<500", "expected one of connection, transcription_delay"),
        ("transcription_delay: p(42)<500", "p(95), p(98), p(99), p(99.9), min, med, max, avg for"),
        ("transcription_delay: rate<0.1", "for transcription_delay, got 'rate'"),
        ("transcription_delay: p95<500", "for transcription_delay, got 'p95'"),
        ("errors: count<3", "expected rate for errors, got 'count'"),
        ("errors: rate<5", "expected a share such as 1% or 0.01"),
        ("cross_talk: rate<1", "expected count for cross_talk, got 'rate'"),
        ("transcription_delay: p(95)<5%", "expected ms or s for transcription_delay"),
        ("transcription_delay: p(95)", "expected an objective such as"),
        ("errors<1% abort_on_fail delay=soon", "expected a delay in 'errors<1%"),
        ("errors<1% delay=30s", "expected an objective such as"),
    ],
)
def test_what_is_wrong_with_it_is_said(text: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_objective(text)
    assert expected in str(caught.value)
    assert text[:12] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "after_s"),
    [
        ("errors<1% abort_on_fail", 0.0),
        ("errors<1% abort_on_fail delay=90s", 90.0),
        ("errors: rate<0.01 abortOnFail delayAbortEval=1m30s", 90.0),
    ],
)
def test_an_objective_may_end_a_run(text: str, after_s: float) -> None:
    found = parse_objective(text)
    assert (found.abort_on_fail, found.abort_after_s) == (True, after_s)
    assert parse_objective(str(found)) == found
    assert replace(found, abort_on_fail=False, abort_after_s=0.0) == parse_objective("errors<1%")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "slo.toml"
    path.write_text(text, "utf-8")
    return path


def test_a_file_in_both_spellings(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        [slo]
        objectives = [
            "connection_p95<3s",
            { objective = "transcription_delay_p95<500ms", abort_on_fail = true, delay = "30s" },
        ]
        [slo.thresholds]
        response_latency = ["p(95)<1500", { threshold = "p(99)<3s", abortOnFail = true }]
        errors = "rate<0.01"
        """,
    )
    assert [str(objective) for objective in parse_objectives([str(path)])] == [
        "connection_p95<3s",
        "transcription_delay_p95<0.5s abort_on_fail delay=30s",
        "response_latency_p95<1.5s",
        "response_latency_p99<3s abort_on_fail",
        "errors<1%",
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[slo]\nobjective = 'errors<1%'", "expected objectives or thresholds in .* 'objective'"),
        ("[slo]\nthresholds = 3", "by metric, got 3"),
        ("[slo.thresholds]\nlatency = 'p(95)<1'", "expected one of connection"),
        ("[slo]\nobjectives = [{ objective = 'errors<1%', stop = true }]", "got 'stop'"),
        ("[slo]\nobjectives = [{ abort_on_fail = true }]", "expected { objective"),
        ("[slo]\nobjectives = [{ objective = 'errors<1%', delay = '3s' }]", "only with true"),
        ("[slo]\nobjectives = [{ objective = 'errors<1%', abort_on_fail = 1 }]", "true or false"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_the_place(
    tmp_path: Path, content: str, complaint: str
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UsageError, match=complaint) as caught:
        load_objectives(path)
    assert str(path) in str(caught.value)


def a_run(delays: Sequence[float | None], speakers: int = 2, **manifest: Any) -> Run:
    shown: dict[str, Any] = {"duration_s": 60.0, "settings": {"warm_up_s": 0.0}}
    return Run(
        folder=Path("nowhere"),
        manifest=a_manifest(**{**shown, **manifest}),
        connections=[a_connection(i, connection_s=0.03) for i in range(speakers)],
        turns=[
            a_turn(i % speakers, i, transcription_delay_s=delay, response_latency_s=0.8)
            for i, delay in enumerate(delays)
        ],
        server_turns=[],
        samples=[],
        generator=[a_second(40.0)],
    )


def summary_of(delays: Sequence[float | None], *texts: str, **more: Any) -> Summary:
    targets = utterance_targets(parse_objectives(texts))
    return summarize(a_run(delays, **more), targets=targets)


def test_rare_quantiles_are_judged_where_they_are_supported() -> None:
    summary = summary_of([0.1] * 90 + [0.7] * 10)
    (p75, p98, low) = evaluate(
        map(
            parse_objective,
            (
                "transcription_delay: p(75)<500",
                "transcription_delay: p(98)<500",
                "transcription_delay: min<50",
            ),
        ),
        summary,
    )
    assert (p75.status, p75.measured, p75.judged) == ("passed", 0.1, "p75")
    # 100 utterances do not support p98, but ten of them beyond it are no chance.
    assert (p98.status, p98.judged) == ("failed", "at least")
    assert (low.status, low.measured) == ("failed", 0.1)
    assert summary.metrics["transcription_delay"].more.keys() == {"p75", "p80"}


def test_goodput_counts_what_met_every_target() -> None:
    summary = summary_of([0.1] * 6 + [0.6, None], "transcription_delay_p95<500ms")
    found = summary.goodput
    assert found is not None
    assert (found.utterances, found.good, found.share) == (8, 6, 0.75)
    assert (found.throughput_per_s, found.goodput_per_s) == (7 / 60, 6 / 60)
    # The slow one was the first speaker's, the lost one the second's.
    assert (found.speakers, found.good_speakers, found.speakers_share) == (2, 0, 0.0)
    assert goodput_text(found) == (
        "goodput 75 %: 6 of 8 utterances in time, 0.1 of 0.117 a second; 0 of 2 speakers throughout"
    )


def test_a_reply_that_never_came_and_a_slow_connection_are_not_good() -> None:
    run = a_run([0.1] * 4)
    run.turns[1] = replace(run.turns[1], response_latency_s=None)
    run.connections[0] = replace(run.connections[0], connection_s=9.0)
    found = summarize(run, targets=utterance_targets(DEFAULT)).goodput
    assert found is not None
    assert (found.good, found.good_speakers) == (3, 0)
    hidden = replace(run, manifest=replace(run.manifest, not_observable=("connection",)))
    seen = summarize(hidden, targets=utterance_targets(DEFAULT)).goodput
    assert seen is not None
    assert seen.good_speakers == 1


def test_goodput_can_be_an_objective() -> None:
    texts = ("transcription_delay_p50<500ms", "goodput>80%", "good_speakers>=50%")
    summary = summary_of([0.1] * 17 + [0.9, 0.1, 0.9], *texts)
    verdicts = evaluate(parse_objectives(texts), summary)
    assert [verdict.status for verdict in verdicts] == ["passed", "passed", "passed"]
    assert [verdict.n for verdict in verdicts] == [20, 20, 2]
    unknown = evaluate(parse_objectives(["goodput>80%"]), replace(summary, goodput=None))
    assert unknown[0].status == "no data"


@given(
    st.lists(st.one_of(st.none(), st.floats(0.0, 2.0)), min_size=1, max_size=30),
    st.floats(0.1, 1.5),
)
@settings(deadline=None, max_examples=40)
def test_goodput_never_exceeds_throughput(delays: list[float | None], target_s: float) -> None:
    found = summary_of(delays, f"transcription_delay_p95<{target_s:.3f}s").goodput
    assert found is not None
    assert found.good <= found.utterances
    assert (found.goodput_per_s or 0.0) <= (found.throughput_per_s or 0.0)
    assert found.good_speakers <= found.speakers
    if found.good == found.utterances:
        assert found.good_speakers == len({i % 2 for i in range(len(delays))})


def test_a_run_is_ended_by_what_is_missed_once_its_delay_is_over() -> None:
    run = a_run([0.9] * 20)
    urgent = parse_objectives(["transcription_delay_p95<500ms abort_on_fail delay=40s"])
    assert what_ends(run, urgent, warm_up_s=0.0) == (
        "transcription delay ≥ 900 ms, n=20 (target p95 < 500 ms)"
    )
    assert what_ends(run, urgent, warm_up_s=1.0) is None, "only 39 s were measured"
    assert what_ends(a_run([0.1] * 20), urgent, warm_up_s=0.0) is None
    assert what_ends(a_run([]), urgent, warm_up_s=0.0) is None, "nothing was said yet"


def test_a_run_that_was_ended_so_is_missed_whatever_came_later() -> None:
    aborted: dict[str, Any] = {
        "aborted": "transcription delay p95 812 ms (target < 500 ms)",
        "planned_duration_s": 60.0,
        "duration_s": 34.0,
    }
    judgement = judge(summarize(a_run([0.9] * 120, **aborted)))
    assert (judgement.outcome, judgement.exit_code) == ("missed", 99)
    assert judgement.sentence == (
        "Aborted after 34 of 60 s with 2 speakers: transcription delay p95 900 ms, target < 500 ms."
    )
    better = judge(summarize(a_run([0.1] * 120, **aborted)))
    assert better.outcome == "missed"
    assert "p95 812 ms (target < 500 ms)" in better.sentence


def test_an_upper_bound_on_a_time_is_a_target_for_each_utterance() -> None:
    texts = [
        *("connection_p95<3s", "transcription_delay_p50<=1s", "response_latency_p95>1ms"),
        *("errors<1%", "generator_lag_p99<20ms", "goodput>90%"),
    ]
    found: tuple[Objective, ...] = utterance_targets(parse_objectives(texts))
    assert [objective.metric for objective in found] == ["connection", "transcription_delay"]
