"""Readiness read from the first text, and figures that a protocol cannot show."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rtvc.record import ConnectionRow, Run, TurnRow
from rtvc.report.page import build_report
from rtvc.report.terminal import verdict_table
from rtvc.slo import judge, parse_objectives
from rtvc.summary import summarize, to_json, with_inferred_ready
from tests.synthetic_run import a_connection, a_manifest, a_second, a_turn, write_run

UNSHOWN = ("barge_in_latency", "premature_finals", "replies_missing", "response_latency")


def run_of(rows: list[ConnectionRow], turns: list[TurnRow], **manifest: Any) -> Run:
    return Run(
        folder=Path("run"),
        manifest=a_manifest(duration_s=60.0, **manifest),
        connections=rows,
        turns=turns,
        server_turns=[],
        samples=[],
        generator=[a_second()],
    )


def silent_start(speaker: int = 0, **more: Any) -> ConnectionRow:
    """A session whose server never said that it was ready."""
    return a_connection(speaker, session_id=None, setup_s=None, connection_s=None, **more)


def heard(speaker: int, utterance: int, first_s: float | None, **more: Any) -> TurnRow:
    """An utterance whose first text came so long after its first word."""
    turn = a_turn(speaker, utterance, time_to_first_partial_s=first_s, **more)
    shown = None if first_s is None else turn.first_word_end_at_s + first_s
    return replace(turn, session_id=None, first_partial_at_s=shown)


def inferred(rows: list[ConnectionRow], turns: list[TurnRow]) -> list[float | None]:
    run = with_inferred_ready(run_of(rows, turns, ready="inferred"))
    return [row.connection_s for row in run.attempts]


def test_what_the_first_text_took_longer_was_the_connection() -> None:
    turns = [heard(0, 0, 1.7), heard(0, 1, 0.4), heard(0, 2, 0.5), heard(0, 3, 0.6)]
    (connection_s,) = inferred([silent_start()], turns)
    assert connection_s == pytest.approx(0.004 + 1.7 - 0.5)
    row = with_inferred_ready(run_of([silent_start()], turns, ready="inferred")).attempts[0]
    assert row.setup_s == pytest.approx(1.2)


def test_a_session_that_was_ready_took_its_handshake() -> None:
    turns = [heard(0, 0, 0.3), heard(0, 1, 0.4), heard(0, 2, 0.5)]
    assert inferred([silent_start()], turns) == [0.004]


def test_the_same_clip_said_again_is_the_best_measure() -> None:
    turns = [
        heard(0, 0, 1.0, text="a"),
        heard(0, 1, 0.1, text="b"),
        heard(0, 2, 0.1, text="b"),
        heard(0, 3, 0.9, text="a"),
    ]
    (connection_s,) = inferred([silent_start()], turns)
    assert connection_s == pytest.approx(0.004 + 0.1)


def test_others_who_are_warm_stand_in_where_a_session_said_only_one_thing() -> None:
    rows = [silent_start(0), silent_start(1)]
    turns = [heard(0, 0, 2.5), heard(1, 0, 0.5), heard(1, 1, 0.5)]
    found = inferred(rows, turns)
    assert found == [pytest.approx(0.004 + 2.0), 0.004]


def test_a_session_that_did_not_hear_its_first_utterance_was_ready_no_sooner_than_its_text() -> (
    None
):
    turns = [heard(0, 0, None), heard(0, 1, 0.8), heard(0, 2, 0.5)]
    (connection_s,) = inferred([silent_start()], turns)
    # The second one's first word ended at 6.3 s.
    assert connection_s == pytest.approx(6.3 + 0.8 - 0.5)


def test_without_text_or_without_a_warm_utterance_nothing_is_known() -> None:
    assert inferred([silent_start()], [heard(0, 0, None), heard(0, 1, None)]) == [None]
    assert inferred([silent_start()], [heard(0, 0, 0.9)]) == [None]
    assert inferred([silent_start()], []) == [None]


def test_each_session_of_a_speaker_has_a_first_utterance_of_its_own() -> None:
    rows = [silent_start(closed_at_s=12.0), silent_start(opened_at_s=20.0)]
    turns = [
        *(heard(0, 0, 0.5), heard(0, 1, 0.5)),
        *(heard(0, 4, 3.5), heard(0, 5, 0.5)),
    ]
    assert inferred(rows, turns) == [0.004, pytest.approx(0.004 + 3.0)]


def test_a_server_that_says_when_it_is_ready_is_believed() -> None:
    run = run_of([a_connection()], [heard(0, 0, 9.0), heard(0, 1, 0.5)], ready="message")
    assert with_inferred_ready(run) is run


def test_sessions_are_counted_from_their_handshake_where_readiness_is_unknown() -> None:
    run = run_of([silent_start(0), silent_start(1)], [], ready="inferred")
    assert summarize(run).connections.concurrent == 2


def test_what_cannot_be_shown_is_absent_and_never_0() -> None:
    run = run_of([a_connection()], [a_turn()], not_observable=UNSHOWN)
    summary = summarize(run)
    assert summary.not_observable == list(UNSHOWN)
    latency = summary.metrics["response_latency"]
    assert (latency.n, latency.missing, latency.p50, latency.max) == (0, 0, None, None)
    spoken = summary.utterances
    assert (spoken.replies_expected, spoken.replies_missing) == (None, None)
    assert (spoken.premature_finals, spoken.premature_share) == (None, None)
    assert summary.metrics["transcription_delay"].n == 1
    shown = json.loads(json.dumps(to_json(summary)))
    assert shown["utterances"]["replies_missing"] is None
    assert shown["not_observable"] == list(UNSHOWN)


def test_an_objective_on_it_is_neither_met_nor_missed() -> None:
    turns = [a_turn(utterance=n) for n in range(30)]
    run = run_of([a_connection()], turns, not_observable=UNSHOWN, protocol="whisperlive")
    asked = ["transcription_delay_p50<5s", "response_latency_p95<1s", "premature_finals<2%"]
    told = judge(summarize(run), parse_objectives(asked))
    assert [verdict.status for verdict in told.verdicts] == [
        "passed",
        "not observable",
        "not observable",
    ]
    assert told.outcome == "undecided"
    assert told.exit_code == 3
    assert "response latency p95 is not observable with whisperlive" in told.sentence
    assert "too few" not in told.sentence
    assert {verdict.measured_text for verdict in told.verdicts[1:]} == {"not observable"}


def test_a_target_that_is_missed_is_missed_whatever_cannot_be_seen() -> None:
    turns = [a_turn(utterance=n) for n in range(30)]
    run = run_of([a_connection()], turns, not_observable=UNSHOWN)
    told = judge(
        summarize(run), parse_objectives(["response_latency_p95<1s", "transcription_delay_p50<1ms"])
    )
    assert (told.outcome, told.exit_code) == ("missed", 99)


def test_the_report_and_the_terminal_say_so(tmp_path: Path) -> None:
    told = {"not_observable": UNSHOWN, "ready": "inferred", "targets": ("response_latency_p95<1s",)}
    write_run(tmp_path / "run", manifest=a_manifest(**told))
    page = build_report(tmp_path / "run").read_text("utf-8")
    assert page.count("not observable") >= 4
    assert "connection, ready (inferred)" in page
    run = run_of([a_connection()], [a_turn()], **told)
    summary = summarize(run)
    drawn = verdict_table(summary, judge(summary, parse_objectives(["response_latency_p95<1s"])))
    console = Console(width=200)
    with console.capture() as captured:
        console.print(drawn)
    assert "not observable" in captured.get()
    assert "ready (inferred)" in captured.get()
    assert "premature" not in captured.get()
