"""Objectives: what may be written, what is judged, and what a run's verdict says."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import UsageError
from rtvc.record import Run
from rtvc.slo import (
    AGGREGATES,
    COMPARISONS,
    COUNTS,
    DEFAULT,
    SHARES,
    Judgement,
    Objective,
    evaluate,
    judge,
    load_objectives,
    parse_objective,
    parse_objectives,
    shown,
)
from rtvc.summary import METRICS, Summary, summarize
from tests.synthetic_run import a_connection, a_manifest, a_second, a_turn

REPOSITORY = Path(__file__).parents[1]


def a_summary(
    delays: Sequence[float | None], *, speakers: int = 10, lag: str = "2:100", **manifest: Any
) -> Summary:
    run = Run(
        folder=Path("nowhere"),
        manifest=a_manifest(**manifest),
        connections=[a_connection(i, connection_s=0.031) for i in range(speakers)],
        turns=[a_turn(0, i, transcription_delay_s=delay) for i, delay in enumerate(delays)],
        server_turns=[],
        samples=[],
        generator=[a_second(lag_histogram=lag)],
    )
    return summarize(run)


def status_of(text: str, summary: Summary) -> str:
    (verdict,) = evaluate([parse_objective(text)], summary)
    return verdict.status


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "transcription_delay_p95<500ms",
            Objective("transcription_delay", "p95", "<", 0.5, "s"),
        ),
        ("connection_p95 <= 3s", Objective("connection", "p95", "<=", 3.0, "s")),
        ("response_latency_avg<1.5s", Objective("response_latency", "mean", "<", 1.5, "s")),
        ("generator_lag_max<=20ms", Objective("generator_lag", "max", "<=", 0.02, "s")),
        ("errors<1%", Objective("errors", None, "<", 0.01, "%")),
        ("wer<0.1", Objective("wer", None, "<", 0.1, "%")),
        ("premature_finals<2%", Objective("premature_finals", None, "<", 0.02, "%")),
        ("cross_talk==0", Objective("cross_talk", None, "==", 0.0, "")),
    ],
)
def test_objectives_are_read(text: str, expected: Objective) -> None:
    assert parse_objective(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latency_p95<1s", "transcription_delay_…"),
        ("transcription_delay<500ms", "transcription_delay_p95"),
        ("transcription_delay_p42<500ms", "expected one of connection_…"),
        ("transcription_dely_p95<500ms", "did you mean transcription_delay_p95?"),
        ("premature_final<2%", "did you mean premature_finals?"),
        ("transcription_delay_p95<500", "expected ms or s"),
        ("transcription_delay_p95<5%", "expected ms or s"),
        ("errors<1s", "expected % for errors"),
        ("errors<5", "1% or 0.01"),
        ("cross_talk==0%", "a plain number"),
        ("errors=1%", "one of < <= > >= =="),
        ("errors<", "a number"),
        ("", "expected an objective such as"),
        ("errors<1%; rm", "expected an objective such as"),
    ],
)
def test_what_cannot_be_read_says_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(UsageError, match="expected") as caught:
        parse_objective(text)
    assert expected in str(caught.value)
    assert repr(text) in str(caught.value)


timed = st.builds(
    Objective,
    st.sampled_from(METRICS),
    st.sampled_from([name for name in AGGREGATES if name not in ("avg", "med")]),
    st.sampled_from(sorted(COMPARISONS)),
    st.integers(0, 100_000).map(lambda ms: ms / 1000),
    st.just("s"),
)
shares = st.builds(
    Objective,
    st.sampled_from(sorted(SHARES)),
    st.none(),
    st.sampled_from(sorted(COMPARISONS)),
    st.integers(0, 1000).map(lambda permille: permille / 10 / 100),
    st.just("%"),
)
counted = st.builds(
    Objective,
    st.sampled_from(sorted(COUNTS)),
    st.none(),
    st.sampled_from(sorted(COMPARISONS)),
    st.integers(0, 99).map(float),
    st.just(""),
)


@given(timed | shares | counted)
@settings(deadline=None)
def test_what_is_written_is_read_back(objective: Objective) -> None:
    assert parse_objective(str(objective)) == objective


@given(st.text(max_size=40))
@settings(deadline=None)
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        parse_objective(text)
    except UsageError:
        return
    assert any(sign in text for sign in COMPARISONS)


def test_the_defaults() -> None:
    texts = ["connection_p95<3s", "transcription_delay_p95<0.5s", "errors<1%"]
    assert [str(objective) for objective in DEFAULT] == texts
    assert parse_objectives([]) == DEFAULT


@pytest.mark.parametrize("name", ["nowhere/slo.toml", "slo.tml"])
def test_a_file_that_is_not_there_is_told_as_such(name: str) -> None:
    with pytest.raises(UsageError, match=f"cannot read objectives from {name}: No such file"):
        parse_objectives([name])


def test_objectives_of_the_repository_are_read() -> None:
    found = load_objectives(REPOSITORY / "reports" / "slo.toml")
    assert set(DEFAULT) <= set(found)
    assert "premature_finals" in {objective.metric for objective in found}


def test_objectives_come_from_flags_and_files(tmp_path: Path) -> None:
    path = tmp_path / "slo.toml"
    path.write_text('[slo]\nobjectives = ["errors<1%", "wer<10%"]\n')
    found = parse_objectives([str(path), "cross_talk==0"])
    assert [objective.metric for objective in found] == ["errors", "wer", "cross_talk"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[slo", "expected TOML"),
        ("x = 1", r"expected \[slo\]"),
        ("slo = 1", r"expected \[slo\]"),
        ("[slo]\nobjectives = []", r"expected \[slo\]"),
        ("[slo]\nobjectives = [1]", "expected an objective such as"),
    ],
)
def test_a_broken_file_says_what_was_expected(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "slo.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=complaint):
        load_objectives(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml"):
        load_objectives(tmp_path / "none.toml")


def test_met() -> None:
    judgement = judge(a_summary([0.291] * 120))
    assert judgement.exit_code == 0
    assert judgement.sentence == (
        "10 speakers held: transcription delay p95 291 ms, target < 500 ms."
    )


def test_missed_names_only_what_missed() -> None:
    judgement = judge(a_summary([0.8] * 120, speakers=1))
    assert judgement.exit_code == 99
    assert judgement.sentence == (
        "Missed with 1 speaker: transcription delay p95 800 ms, target < 500 ms."
    )


def test_too_few_samples_are_not_judged_by_a_quantile() -> None:
    judgement = judge(a_summary([0.1] * 11 + [0.812]))
    assert [verdict.status for verdict in judgement.verdicts] == ["passed", "undecided", "passed"]
    assert judgement.exit_code == 3
    assert judgement.sentence == (
        "Undecided, too few samples with 10 speakers: "
        "transcription delay max 812 ms (n=12), target < 500 ms."
    )


def test_a_pass_for_want_of_samples_says_so() -> None:
    judgement = judge(a_summary([0.322] * 7, speakers=3))
    assert judgement.sentence == (
        "3 speakers held: transcription delay max 322 ms (n=7), target < 500 ms."
    )
    assert [verdict.few for verdict in judgement.verdicts] == [True, True, False]


@pytest.mark.parametrize(
    ("delays", "text", "status"),
    [
        # 2 of 2 beyond p95: a chance of 0.25 %; 1 of 1: 5 %; 2 of 12: 12 %; 4 of 12: 0.2 %.
        ([0.9] * 2, "transcription_delay_p95<500ms", "failed"),
        ([0.9] * 1, "transcription_delay_p95<500ms", "undecided"),
        ([0.1] * 10 + [0.9] * 2, "transcription_delay_p95<500ms", "undecided"),
        ([0.1] * 8 + [0.9] * 4, "transcription_delay_p95<500ms", "failed"),
        # A chance of exactly 1 % is not less than 1 %.
        ([0.9] * 1, "transcription_delay_p99<500ms", "undecided"),
        ([0.9] * 6, "transcription_delay_p50<500ms", "undecided"),
        ([0.9] * 7, "transcription_delay_p50<500ms", "failed"),
        ([0.1] * 8 + [None] * 4, "transcription_delay_p95<500ms", "failed"),
    ],
)
def test_a_clear_miss_needs_no_quantile(delays: list[float | None], text: str, status: str) -> None:
    assert status_of(text, a_summary(delays)) == status


def test_a_clear_miss_is_told_as_a_bound() -> None:
    judgement = judge(a_summary([0.1] * 8 + [0.7, 0.8, 0.9, 0.95]))
    assert judgement.outcome == "missed"
    assert judgement.sentence == (
        "Missed with 10 speakers: transcription delay p95 ≥ 700 ms (n=12), target < 500 ms."
    )


def with_connections(rows: list[Any], turns: Sequence[Any] = (), **manifest: Any) -> Summary:
    run = Run(
        folder=Path("nowhere"),
        manifest=a_manifest(**manifest),
        connections=rows,
        turns=list(turns),
        server_turns=[],
        samples=[],
        generator=[a_second(frames=0, lag_histogram="")] if not turns else [a_second()],
    )
    return summarize(run)


def test_an_interrupted_run_is_not_judged() -> None:
    planned: dict[str, Any] = {"planned_duration_s": 30.0, "settings": {"warm_up_s": 1.0}}
    summary = a_summary([0.1] * 7, interrupted=True, duration_s=9.0, **planned)
    judgement = judge(summary)
    assert (judgement.outcome, judgement.exit_code) == ("interrupted", 3)
    assert judgement.sentence == "Interrupted after 8 of 30 s: not judged."
    assert summary.cut_off
    nothing = judge(a_summary([], interrupted=True, duration_s=0.5, **planned))
    assert nothing.sentence == "Interrupted before anything was measured: not judged."


def test_a_server_that_says_no_to_everyone_is_quoted() -> None:
    failed: dict[str, Any] = {"connection_s": None, "outcome": "failed", "reason": "HTTP 403"}
    summary = with_connections([a_connection(i, **failed) for i in range(3)])
    judgement = judge(summary)
    assert summary.generator.valid, "the generator had nothing to send"
    assert judgement.outcome == "missed"
    assert judgement.sentence == (
        "Missed: no speaker could connect: ws://127.0.0.1:8000/v1/realtime answered HTTP 403."
    )


def test_what_was_said_most_comes_first_and_what_to_do_about_a_missing_key() -> None:
    said = [*["HTTP 401: no_key"] * 3, *["HTTP 429"] * 2, "HTTP 503"]
    failed: dict[str, Any] = {"connection_s": None, "outcome": "failed"}
    rows = [a_connection(i, reason=reason, **failed) for i, reason in enumerate(said)]
    assert judge(with_connections(rows)).sentence == (
        "Missed: no speaker could connect: ws://127.0.0.1:8000/v1/realtime answered "
        "HTTP 401: no_key (see --api-key-file) (3 times; HTTP 429: 2 and 1 more)."
    )


def test_sessions_lost_are_the_cause() -> None:
    lost: dict[str, Any] = {"outcome": "lost", "reason": "closed by the server with 1012"}
    summary = with_connections([a_connection(i, **lost) for i in range(2)], [a_turn()])
    judgement = judge(summary)
    assert judgement.exit_code == 99
    assert judgement.sentence == (
        "Missed with 2 speakers: 2 of 2 sessions lost: closed by the server with 1012 "
        "(errors 50 %, target < 1 %)."
    )
    only_delay = judge(summary, parse_objectives(["transcription_delay_p95<500ms"]))
    assert only_delay.exit_code == 99
    assert "1012" in only_delay.sentence


def test_replies_missing_are_named_with_what_the_server_said() -> None:
    silent = [a_turn(0, i, response_latency_s=None, reply_expected=True) for i in range(2)]
    summary = with_connections([a_connection(reason="quota exceeded")], silent)
    assert judge(summary).sentence == (
        "Missed with 1 speaker: 2 of 2 replies missing; server said: quota exceeded "
        "(errors 40 %, target < 1 %)."
    )


def test_a_connect_storm_is_told_in_connections() -> None:
    rows = [a_connection(i % 10, opened_at_s=float(i), connection_s=0.18) for i in range(100)]
    summary = with_connections(rows, settings={"scenario": "connect-storm"})
    judgement = judge(
        replace(summary, generator=replace(summary.generator, valid=True)),
        parse_objectives(["connection_p95<3s", "errors<1%"]),
    )
    assert judgement.sentence == "100 connections, 10 at once: p95 180 ms, target < 3 s."


def test_a_maximum_within_the_target_passes() -> None:
    assert status_of("transcription_delay_p95<500ms", a_summary([0.1] * 12)) == "passed"


def test_lower_bounds_are_decided_by_a_maximum_below_them_only() -> None:
    few = a_summary([0.1] * 12)
    assert status_of("transcription_delay_p95>500ms", few) == "failed"
    assert status_of("transcription_delay_p95>50ms", few) == "undecided"
    assert status_of("transcription_delay_p95==100ms", few) == "undecided"


def test_no_samples_fail_as_no_data() -> None:
    judgement = judge(a_summary([], speakers=0))
    assert {verdict.status for verdict in judgement.verdicts} == {"no data"}
    assert judgement.exit_code == 99
    assert "no data for transcription delay p95, target < 500 ms" in judgement.sentence


def test_counts_of_nothing_are_no_data() -> None:
    assert status_of("cross_talk==0", a_summary([])) == "no data"
    assert status_of("cross_talk==0", a_summary([0.1])) == "passed"


def test_missing_finals_miss_the_target() -> None:
    judgement = judge(a_summary([0.1] * 90 + [None] * 10))
    assert judgement.exit_code == 99
    assert "10 of 100 finals missing (errors 4.76 %, target < 1 %)" in judgement.sentence


def test_a_void_run_is_void_whatever_it_measured() -> None:
    judgement = judge(a_summary([0.9] * 120, lag="2:50 400:50"))
    assert judgement.outcome == "void"
    assert judgement.exit_code == 3
    assert judgement.sentence == (
        "Void: the load generator sent its frames 40.1 ms late at p99 (limit 20 ms), "
        "so nothing follows about the server."
    )


def test_the_self_test_model_is_named_in_every_verdict() -> None:
    kind: dict[str, Any] = {"model": "selftest", "model_kind": "self-test model"}
    for delays in ([0.1] * 120, [0.9] * 120, [*[0.1] * 11, 0.9]):
        sentence = judge(a_summary(delays, **kind)).sentence
        assert "the self-test model" in sentence


def test_rounding_never_lands_on_the_target() -> None:
    judgement: Judgement = judge(a_summary([0.4996] * 120))
    assert judgement.outcome == "met"
    assert "p95 499.6 ms, target < 500 ms" in judgement.sentence
    assert "p95 500.2 ms" in judge(a_summary([0.5002] * 120)).sentence
    assert "p95 500 ms, target < 500 ms" in judge(a_summary([0.5] * 120)).sentence


@given(st.lists(st.floats(0.01, 2), min_size=1, max_size=150), st.integers(10, 2000))
@settings(deadline=None, max_examples=40)
def test_a_looser_target_never_turns_a_pass_into_a_miss(
    delays: list[float], target_ms: int
) -> None:
    summary = a_summary(delays)
    rank = {"passed": 2, "undecided": 1, "failed": 0}
    tight = rank[status_of(f"transcription_delay_p95<{target_ms}ms", summary)]
    loose = rank[status_of(f"transcription_delay_p95<{target_ms + 50}ms", summary)]
    assert loose >= tight


def test_every_name_can_be_judged() -> None:
    summary = a_summary([0.1] * 12)
    texts = [f"{metric}_{aggregate}<9s" for metric in METRICS for aggregate in AGGREGATES]
    texts += [f"{name}<=100%" for name in SHARES] + [f"{name}==0" for name in COUNTS]
    verdicts = evaluate(map(parse_objective, texts), summary)
    assert len(verdicts) == len(texts)
    assert all(verdict.status in ("passed", "no data") for verdict in verdicts)


def test_shares_are_judged_with_their_n() -> None:
    summary = a_summary([0.1] * 50)
    cut = replace(summary, utterances=replace(summary.utterances, premature_share=0.04))
    (verdict,) = evaluate([parse_objective("premature_finals<2%")], cut)
    assert (verdict.status, verdict.n, verdict.measured_text) == ("failed", 50, "4 %")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0004, "s", "0.4 ms"),
        (0.0311, "s", "31.1 ms"),
        (0.2914, "s", "291 ms"),
        (1.5, "s", "1.5 s"),
        (120.0, "s", "120 s"),
        (-0.2, "s", "−200 ms"),
        (math.inf, "s", "missing"),
        (0.0, "%", "0 %"),
        (0.0116, "%", "1.16 %"),
        (1.0, "%", "100 %"),
        (3.0, "", "3"),
    ],
)
def test_values_are_shown_as_people_read_them(value: float, unit: Any, text: str) -> None:
    assert shown(value, unit) == text
