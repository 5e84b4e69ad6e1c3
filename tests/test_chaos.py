"""What is said of a fault: pure figures from made-up rows, the run's files, and its page."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rtvc.chaos.command import Chaotic
from rtvc.chaos.course import Setting
from rtvc.chaos.evidence import COUNTERS, GAUGES, Seen, between
from rtvc.chaos.judge import IN_A_ROW, TARGET_S, Rows, judge, rows_lost, why_void
from rtvc.chaos.plan import FAULTS, MOMENT_S, START_S, Schedule, chosen
from rtvc.cli import main
from rtvc.clock import FakeClock
from rtvc.errors import RecordError, UsageError
from rtvc.record import ConnectionRow, RunWriter, TurnRow
from rtvc.report.chaos_page import build_chaos_report
from rtvc.report.chaos_terminal import chaos_panel, fault_line
from rtvc.results.chaos import (
    KIND,
    SCHEMA,
    Chaos,
    Fault,
    Span,
    is_chaos,
    load_chaos,
    load_fault,
    write_chaos,
    write_fault,
)
from rtvc.server.faults.inject import parse, parse_windows
from tests.test_cli import one_line
from tests.test_record import a_manifest

BEGIN_S, END_S = 20.0, 25.0


def a_turn(
    speaker: int, number: int, end_at_s: float, delay_s: float | None, **more: Any
) -> TurnRow:
    final_at_s = None if delay_s is None else end_at_s + delay_s
    blank = dict.fromkeys(TurnRow.__dataclass_fields__)
    values: dict[str, Any] = {
        **blank,
        "speaker": speaker,
        "session_id": f"s{speaker}",
        "utterance": number,
        "kind": "utterance",
        "voice": "v",
        "text": "turn on the lights",
        "speech_start_at_s": end_at_s - 2,
        "first_word_end_at_s": end_at_s - 1.7,
        "speech_end_at_s": end_at_s,
        "final_at_s": final_at_s,
        "transcription_delay_s": delay_s,
        "finals": 1,
        "premature_finals": 0,
        "reply_expected": False,
        "interrupted_reply": False,
        "reference_words": 4,
        "cross_talk_words": 0,
        "warm_up": False,
    }
    return TurnRow(**{**values, **more})


def a_connection(speaker: int, outcome: str = "ok", closed_at_s: float = 50.0) -> ConnectionRow:
    code = 1001 if outcome == "lost" else 1000
    return ConnectionRow(
        speaker, f"s{speaker}", 0.0, 0.01, 0.01, 0.02, outcome, None, code, closed_at_s
    )


def some_rows(*more: TurnRow, outcome: str = "ok", closed_at_s: float = 50.0) -> Rows:
    """Two speakers, a turn every four seconds, all of them prompt."""
    turns = [a_turn(n % 2, n // 2, 2.0 + 2 * n, 0.2) for n in range(18)]
    numbered = [replace(turn, utterance=9 + n) for n, turn in enumerate(more)]
    connections = (a_connection(0, outcome, closed_at_s), a_connection(1))
    return Rows((*turns, *numbered), connections)


def felt(rows: Rows, *, ends_sessions: bool = False) -> Any:
    return judge(rows, BEGIN_S, END_S, ends_sessions=ends_sessions)


def test_a_fault_that_nobody_felt() -> None:
    found = felt(some_rows())
    assert (found.before.turns, found.during.turns, found.after.turns) == (9, 3, 6)
    assert (found.before.delay_s, found.before.delay_name) == (pytest.approx(0.2), "max")
    assert found.limit_s == TARGET_S
    assert found.recovery_s == 0.0
    assert found.recovery_n == 6
    assert (found.finals_lost, found.cross_words, found.sessions_ended, found.rows_lost) == (0,) * 4
    assert why_void(found, None) is None
    assert a_fault(found).status == "passed"


def test_one_lost_final_fails() -> None:
    for at_s in (10.0, 22.0, 30.0):
        found = felt(some_rows(a_turn(0, 0, at_s, None)))
        assert found.finals_lost == 1
        fault = a_fault(found)
        assert fault.status == "failed"
        assert "1 finals lost" in fault.failures
        assert a_run(fault).exit_code == 99
    # A lost final is lost, also where the rest proves nothing.
    assert replace(fault, valid=False).status == "failed"


def test_a_foreign_word_fails() -> None:
    found = felt(some_rows(a_turn(1, 0, 22.0, 0.2, cross_talk_words=2)))
    assert found.cross_words == 2
    assert a_fault(found).failures == ["2 words in the wrong session"]


def test_what_was_said_before_its_session_was_ended_must_be_there() -> None:
    lost = {"outcome": "lost", "closed_at_s": 23.0}
    early = felt(some_rows(a_turn(0, 0, 22.9, None), **lost), ends_sessions=True)  # type: ignore[arg-type]
    late = felt(some_rows(a_turn(0, 0, 23.1, None), **lost), ends_sessions=True)  # type: ignore[arg-type]
    assert (early.finals_lost, late.finals_lost) == (1, 0)
    assert early.sessions_ended == late.sessions_ended == 1
    assert replace(a_fault(late), ended_by_fault=True).status == "passed"
    # A fault that is to end no session has no such excuse.
    unmeant = felt(some_rows(a_turn(0, 0, 23.1, None), **lost))  # type: ignore[arg-type]
    assert unmeant.finals_lost == 1
    assert "1 sessions ended" in a_fault(unmeant).failures


@pytest.mark.parametrize(
    ("closed_at_s", "code"), [(BEGIN_S - 5, 1001), (END_S + 5, 1001), (23.0, 1006), (23.0, None)]
)
def test_what_a_stop_does_not_explain_is_not_excused(closed_at_s: float, code: int | None) -> None:
    rows = some_rows(a_turn(0, 0, closed_at_s + 0.1, None), outcome="lost", closed_at_s=closed_at_s)
    first, second = rows.connections
    rows = Rows(rows.turns, (replace(first, close_code=code), second))
    fault = a_fault(felt(rows, ends_sessions=True), ended_by_fault=True)
    assert fault.status == "failed"
    assert fault.failures[:2] == ["1 finals lost", "1 sessions ended"]


def test_a_final_without_a_word_of_a_sentence_is_lost() -> None:
    found = felt(some_rows(a_turn(0, 0, 22.0, 0.2, heard="")))
    assert (found.finals_lost, found.during.finals_missing) == (1, 1)
    found = felt(some_rows(a_turn(0, 0, 22.0, 0.2, heard="", text="Yes.", reference_words=1)))
    assert found.finals_lost == 0


def test_recovery_is_the_last_trouble_before_it_was_well_again() -> None:
    late = [a_turn(0, 0, END_S + 0.5, 3.0), a_turn(1, 0, END_S + 1.5, 4.0)]
    found = felt(some_rows(*late))
    assert found.recovery_s == pytest.approx(5.5)
    # A reply that never came is trouble too.
    silent = a_turn(0, 0, END_S + 0.5, 0.2, reply_expected=True)
    assert felt(some_rows(silent)).recovery_s == pytest.approx(0.7)
    answered = replace(silent, response_latency_s=1.0, reply_first_audio_at_s=END_S + 1.5)
    assert felt(some_rows(answered)).recovery_s == 0.0


def test_what_never_gets_well_is_told() -> None:
    ending = [a_turn(0, n, END_S + 0.5 + n / 10, 3.0) for n in range(100)]
    found = felt(some_rows(*ending))
    assert found.recovery_s is None
    assert a_fault(found).failures == ["not recovered"]
    assert found.after.delay_name == "p95"


def test_one_and_a_half_times_as_long_as_before_is_well_again() -> None:
    slow = Rows(
        tuple(replace(t, transcription_delay_s=0.6) for t in some_rows().turns),
        some_rows().connections,
    )
    assert felt(slow).limit_s == pytest.approx(0.9)


def test_rows_that_are_missing_between_others_are_counted() -> None:
    turns = some_rows().turns
    assert rows_lost(turns) == 0
    assert rows_lost(turns[:4] + turns[5:]) == 1
    assert "1 rows" in a_fault(felt(Rows(turns[:4] + turns[5:], ()))).failures[0]


def test_too_few_turns_or_a_tired_generator_prove_nothing() -> None:
    few = Rows(some_rows().turns[: IN_A_ROW - 1], ())
    assert "before the fault" in str(why_void(felt(few), None))
    assert "lag" in str(why_void(felt(some_rows()), "lag p99 of 80 ms"))
    fault = a_fault(felt(some_rows()), valid=False, why_void="a reason")
    assert fault.status == "void"
    assert a_run(fault).exit_code == 3
    assert replace(fault, recovery_s=None).status == "void"
    # Sessions that were ended are no matter of how well the generator kept up.
    assert replace(fault, recovery_s=None, sessions_ended=4).status == "failed"
    assert a_run().exit_code == 3


def test_those_who_come_again_are_others_at_a_later_time() -> None:
    rows = some_rows()
    both = rows.plus(rows.later(100.0))
    assert {turn.speaker for turn in both.turns} == {0, 1, 2, 3}
    assert max(turn.final_at_s or 0 for turn in both.turns) == pytest.approx(136.2)
    assert both.connections[2].closed_at_s == 150.0
    assert rows_lost(both.turns) == 0


# The plan.


def test_every_fault_has_a_name_of_its_own_and_is_one_that_the_server_knows() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    for fault in FAULTS:
        schedule = Schedule()
        written = fault.inject(schedule.window(fault))
        assert (written is not None) == (fault.deed == "inject")
        if written is not None:
            (window,) = parse_windows([written]).values()
            assert parse([written])
            assert window.begin_s == START_S + schedule.calm_s
            assert window.length_s == (fault.length_s or MOMENT_S)


def test_what_there_is_not_is_refused() -> None:
    assert [fault.name for fault in chosen(["sigterm", "llm-down"])] == ["llm-down", "sigterm"]
    assert chosen([]) == FAULTS
    with pytest.raises(UsageError, match="did you mean engine-crash"):
        chosen(["engine-crush"])


@pytest.mark.slow
def test_the_command_refuses_what_there_is_not() -> None:
    assert "engine-hang" in one_line("chaos", "--only", "earthquake")


# Evidence.


def test_counters_are_told_apart_from_those_that_there_are_not() -> None:
    before = Seen(True, {"rtvc_engine_restarts_total": 2.0})
    after = Seen(True, {"rtvc_engine_restarts_total": 3.0}, {"rtvc_breaker_open": 0.0})
    found = between(before, after)
    assert found["rtvc_engine_restarts_total"] == 1.0
    assert found["rtvc_breaker_open"] == 0.0
    assert found["rtvc_apologies_total"] is None
    assert set(found) == {*COUNTERS, *GAUGES}
    # Another process began to count at 0.
    again = Seen(True, {"rtvc_engine_restarts_total": 1.0})
    assert between(after, again)["rtvc_engine_restarts_total"] == 1.0


# The files.


def a_span(**more: Any) -> Span:
    values: dict[str, Any] = {
        "turns": 5,
        "finals_missing": 0,
        "replies_expected": 4,
        "replies_missing": 0,
        "delay_s": 0.3,
        "delay_name": "max",
        "delay_max_s": 0.3,
    }
    return Span(**{**values, **more})


def a_fault(found: Any = None, **more: Any) -> Fault:
    found = felt(some_rows()) if found is None else found
    values = {name: getattr(found, name) for name in found.__dataclass_fields__}
    told = {"name": "llm-down", "done": "gone", "ended_by_fault": False}
    return Fault(**{**told, **values, **more})


def a_run(*faults: Fault) -> Chaos:
    return Chaos(SCHEMA, KIND, "2026-01-01T00:00:00+00:00", "selftest", 4, faults)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    during = a_span(delay_s=math.inf, delay_max_s=math.inf, finals_missing=1)
    one = a_fault(during=during, recovery_s=None, evidence={"a_total": 1.0, "b_total": None})
    chaos = a_run(one, a_fault(name="half-open", notes=("60 came",)))
    with RunWriter(tmp_path, a_manifest()):
        assert not is_chaos(tmp_path)
    write_chaos(tmp_path, chaos)
    assert is_chaos(tmp_path)
    assert load_chaos(tmp_path) == chaos
    told = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert told["exit_code"] == 99
    assert told["verdicts"]["half-open"] == {"status": "passed", "failures": []}
    rows = (tmp_path / "faults.csv").read_text("utf-8").splitlines()
    assert len(rows) == 3
    assert "during_delay_s" in rows[0]
    page = build_chaos_report(tmp_path).read_text("utf-8")
    for part in ("llm-down", "not recovered", "∞", "60 came", "a_total 1"):
        assert part in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "| half-open |" in (tmp_path / "chaos.md").read_text("utf-8")


def test_replies_that_are_missing_are_told_in_the_terminal_too() -> None:
    one = a_fault(before=a_span(replies_missing=1), during=a_span(replies_missing=3))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(chaos_panel(a_run(one)))
    assert "1 + 3 + 0" in console.export_text()
    assert "replies missing 1 + 3 + 0" in fault_line(one)


def test_a_copy_for_strangers_has_its_page_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with RunWriter(folder, a_manifest()):
        pass
    write_chaos(folder, a_run(a_fault()))
    build_chaos_report(folder)
    with pytest.raises(SystemExit) as ended:
        main(["redact", str(folder)])
    assert ended.value.code == 0
    copy = tmp_path / "run-redacted"
    assert "llm-down" in (copy / "report.html").read_text("utf-8")
    assert "| llm-down |" in (copy / "chaos.md").read_text("utf-8")


def test_a_fault_that_is_done_is_known(tmp_path: Path) -> None:
    assert load_fault(tmp_path) is None
    write_fault(tmp_path, a_fault())
    assert load_fault(tmp_path) == a_fault()
    (tmp_path / "fault.json").write_text('{"schema": 1, "name": 3}', "utf-8")
    with pytest.raises(RecordError, match=r"fault\.json"):
        load_fault(tmp_path)


def test_what_is_done_is_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setting = Setting("selftest", 4, Schedule())
    (fault,) = chosen(["llm-down"])
    folder = tmp_path / "run"
    Chaotic(folder, setting, FakeClock())._manifest()
    (folder / "faults" / "llm-down").mkdir(parents=True)
    write_fault(folder / "faults" / "llm-down", a_fault())
    # It would start a server otherwise, which takes longer than this test may.
    assert Chaotic(folder, setting, FakeClock()).run([fault]) == 0
    assert "no final lost" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UsageError, match="speakers = 4"):
        Chaotic(folder, replace(setting, speakers=5), FakeClock()).run([fault])
    with pytest.raises(UsageError, match="expected an empty folder"):
        Chaotic(tmp_path, setting, FakeClock()).run([fault])
