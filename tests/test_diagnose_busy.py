"""A diagnosis on a machine that others use, of runs cut short, and of next to no turns."""

import json
import math
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from rtvc.cli import build_app
from rtvc.clock import SystemClock
from rtvc.errors import RecordError, RtvcError
from rtvc.profile.diagnose.causes import NEGLIGIBLE_S, NEGLIGIBLE_SHARE, judge
from rtvc.profile.diagnose.comparison import compare
from rtvc.profile.diagnose.crowd import CROWD_FILE, Crowd, read_crowd, write_crowd
from rtvc.profile.diagnose.evidence import Evidence, Neighbour
from rtvc.profile.diagnose.finding import Cause, Finding
from rtvc.profile.diagnose.notes import notes_on
from rtvc.profile.diagnose.procedure import Order, Procedure
from rtvc.profile.diagnose.reading import read_evidence, write_plan
from rtvc.profile.diagnose.series import Readings
from rtvc.profile.diagnose.text import lines, markdown, proof_line, to_json
from rtvc.profile.diagnose.verdict import Diagnosis, diagnosis_of
from rtvc.record import SampleRow
from tests.diagnosis_evidence import (
    HOST,
    WORLDS,
    Value,
    contended,
    each,
    failing,
    late_generator,
    phase,
    same,
    starved,
)
from tests.servers import free_port
from tests.test_diagnose import write_diagnosis, write_phase

CROWDED = {"host_cpu_ratio": 0.97, "other_cpu_cores": 1.8, "server_cpu_cores": 1.9}
"""Others hold 45 % of four CPUs."""


def invoke(*arguments: str) -> Result:
    app = build_app(["profile", "diagnose"])
    return CliRunner().invoke(app, ["profile", "diagnose", *arguments])


def the(diagnosis: Diagnosis, cause: Cause) -> Finding:
    return next(one for one in diagnosis.findings if one.cause is cause)


def text_of(diagnosis: Diagnosis) -> str:
    return "\n".join(line for line, _ in lines(diagnosis))


# What others can explain.


@settings(deadline=None, max_examples=40)
@given(
    others=st.floats(0.9, 3.6),
    queue_s=st.floats(0.0, 9.0),
    encode_s=st.floats(0.0, 2.0),
)
def test_others_explain_no_more_of_a_delay_than_they_take_of_the_cpus(
    others: float, queue_s: float, encode_s: float
) -> None:
    host = {"host_cpu_ratio": 0.97, "other_cpu_cores": others, "server_cpu_cores": 3.8 - others}
    evidence = same(felt={"queue_wait": queue_s, "encode": encode_s}, host=host, service=0.5)
    for finding in judge(evidence).named:
        if finding.cause is Cause.DEVICE_CONTENTION:
            assert finding.share_s <= others / 4 * (queue_s + encode_s) + 1e-6


def copies_on_a_busy_machine() -> Evidence:
    """One speaker is served in 0.35 s under the same load of others; four wait for their copies."""
    engines = {name: {"rtvc_engine_processes": count} for name, count in ENGINES.items()}
    felt = {"one": {"encode": 0.02}, "two": {"encode": 2.0}, "many": {"encode": 8.0}}
    connection_s = {"one": 1.0, "two": 2.0, "many": 4.0}
    phases = [
        phase(
            name,
            felt=felt[name],
            connection_s=connection_s[name],
            host=CROWDED,
            server=engines[name],
            service=0.5,
        )
        for name in ENGINES
    ]
    return Evidence(phases)


ENGINES = {"one": 1.0, "two": 2.0, "many": 4.0}


def test_copies_of_a_model_come_before_others_on_the_device() -> None:
    diagnosis = diagnosis_of(copies_on_a_busy_machine())
    assert diagnosis.causes[0] is Cause.MODEL_PER_SESSION
    assert the(diagnosis, Cause.MODEL_PER_SESSION).share_s == pytest.approx(7.98)
    others = [one.share_s for one in diagnosis.findings if one.cause is Cause.DEVICE_CONTENTION]
    assert sum(others) <= 0.45 * (8.0 - 7.98) + 1e-6


def test_partials_that_starve_finals_come_before_others_on_the_device() -> None:
    phases = [
        replace(one, host=other.host)
        for one, other in zip(starved().phases, same(host=CROWDED).phases, strict=True)
    ]
    diagnosis = diagnosis_of(Evidence(phases))
    assert diagnosis.causes[0] is Cause.PARTIALS_STARVING_FINALS
    own_s = the(diagnosis, Cause.PARTIALS_STARVING_FINALS).share_s
    others = [one.share_s for one in diagnosis.findings if one.cause is Cause.DEVICE_CONTENTION]
    assert all(share_s <= 0.45 * (0.9 - own_s) + 0.02 for share_s in others)


def test_what_one_speaker_feels_of_others_is_theirs_whatever_many_make_of_it() -> None:
    """The same load of others costs one speaker 0.6 s; copies cost four of them the rest."""
    crowded = contended()
    many = replace(copies_on_a_busy_machine().many, host=crowded.many.host)
    diagnosis = diagnosis_of(Evidence([crowded.phases[0], many]))
    assert the(diagnosis, Cause.DEVICE_CONTENTION).share_s == pytest.approx(0.6 * 3.2 / 4, rel=0.01)


def test_what_the_server_cannot_tell_of_while_it_is_silent_accuses_no_child() -> None:
    """Loading takes all CPUs and /metrics answers only afterwards: nobody else was there."""
    own: dict[str, Value] = {
        'rtvc_process_cpu_seconds_total{process="server"}': lambda second: 0.2 * second,
        'rtvc_process_cpu_seconds_total{process="engine"}': lambda second: 0.4 * second,
    }
    host: dict[str, Value] = {
        **HOST,
        "server_processes": 3.0,
        "server_cpu_cores": lambda second: 3.9 if second < 12 else 0.6,
    }
    whole = phase("one", host=host, server=own)
    assert whole.children_cores > 1
    told = [
        SampleRow(at_s, "server", name, value)
        for name in whole.server.names()
        for at_s, value in whole.server.readings_of(name)
        if at_s >= 12
    ]
    silent = replace(whole, server=Readings(told))
    assert silent.children_cores == pytest.approx(0.0, abs=0.02)
    engines_only = phase("one", host={**host, "server_processes": 2.0}, server=own)
    assert engines_only.children_cores == 0.0


# What nobody feels.

TAKEN = {"other_cpu_cores": 3.0, "host_cpu_ratio": 0.99}


def test_others_that_nobody_feels_are_a_note_and_the_server_is_healthy() -> None:
    diagnosis = diagnosis_of(same(host=TAKEN))
    assert diagnosis.causes == [Cause.HEALTHY]
    assert diagnosis.exit_code == 0
    assert any("device-contention is there, and not felt" in note for note in diagnosis.notes)
    assert any("3 of 4" in note for note in diagnosis.notes)


def test_others_that_nobody_feels_do_not_come_before_a_slow_language_model() -> None:
    diagnosis = diagnosis_of(same(host=TAKEN, reply={"llm_ttft": 2.0}))
    assert diagnosis.causes == [Cause.SLOW_LLM]
    assert diagnosis.sentence.startswith("Replies take")
    assert any("device-contention" in note for note in diagnosis.notes)


@pytest.mark.parametrize("cause", list(Cause))
def test_what_is_named_first_is_worth_it_or_costs_more_than_time(cause: Cause) -> None:
    found = judge(WORLDS[cause]())
    for finding in found.named:
        worth = finding.share_s >= max(NEGLIGIBLE_S, NEGLIGIBLE_SHARE * finding.of_s)
        fault = finding.cause in (
            Cause.ENGINE_FAILING,
            Cause.MEMORY_EXHAUSTION,
            Cause.BLOCKED_EVENT_LOOP,
            Cause.GENERATOR_SATURATED,
        )
        assert worth or fault
        assert " 0 ms" not in diagnosis_of(WORLDS[cause]()).sentence


# What cannot be told apart.


def test_a_slow_model_on_a_busy_machine_is_not_told_from_the_machine() -> None:
    slow = same(felt={"encode": 0.232, "decode": 0.209, "queue_wait": 0.1}, host=CROWDED)
    diagnosis = diagnosis_of(slow)
    assert diagnosis.causes[:2] == [Cause.DEVICE_CONTENTION, Cause.INFERENCE_SATURATED]
    assert diagnosis.indistinct
    assert diagnosis.exit_code == 3
    assert diagnosis.sentence.startswith("Undecided: transcripts take")
    assert "cannot be told apart" in diagnosis.sentence
    assert any("looks the same" in n or "look the same" in n for n in diagnosis.findings[0].notes)


def test_others_that_hold_most_of_the_machine_are_told_for_sure() -> None:
    host = {"host_cpu_ratio": 0.99, "other_cpu_cores": 3.5, "server_cpu_cores": 0.4}
    diagnosis = diagnosis_of(same(felt={"encode": 0.5}, host=host, service=0.6))
    assert diagnosis.causes == [Cause.DEVICE_CONTENTION]
    assert diagnosis.exit_code == 99


# Words.


def test_several_causes_make_one_sentence() -> None:
    felt = {"felt": {"endpoint_wait": 0.9, "turn_model": 0.5}}
    two = diagnosis_of(Evidence([phase("many", **felt)])).sentence  # type: ignore[arg-type]
    assert two == (
        "Transcripts take 1.5 s, 600 ms of it because the turn policy waits out a long silence, "
        "and 500 ms because the turn model's answer is waited for."
    )
    other = diagnosis_of(same(felt={"endpoint_wait": 0.9}, reply={"llm_ttft": 2.0})).sentence
    assert "; and " not in other
    assert "; transcripts take" in other


def test_shares_that_overlap_say_so() -> None:
    evidence = same(felt={"endpoint_wait": 0.9})
    found = judge(evidence)
    twice = replace(found, named=(found.named[0], replace(found.named[0], share_s=1.0)))
    assert any("overlap" in note for note in notes_on(evidence, twice))
    assert not any("overlap" in note for note in notes_on(evidence, found))


def test_cpus_are_told_of_how_many_and_who_has_them() -> None:
    neighbour = Neighbour("train", 4711, 1.75)
    phases = [replace(one, neighbours=(neighbour,)) for one in contended().phases]
    finding = the(diagnosis_of(Evidence(phases)), Cause.DEVICE_CONTENTION)
    assert proof_line(finding.proof[0]).startswith("CPUs used by others: 3.2 of 4 (limit 0.8)")
    assert "most of it by train (4711) 1.8 CPUs" in finding.notes


def test_a_restart_may_be_a_deadline() -> None:
    finding = the(diagnosis_of(failing()), Cause.ENGINE_FAILING)
    assert any("missed deadline" in note and "server's output" in note for note in finding.notes)


# Little or nothing measured.


def test_transcripts_that_never_came_are_told_first_and_no_gain_is_made_up() -> None:
    restarts: dict[str, Value] = {"rtvc_engine_restarts_total": lambda second: second // 6}
    lost = phase("many", missing_between=(0.0, 99.0), server=restarts)
    diagnosis = diagnosis_of(Evidence([lost]))
    turns = len(lost.judged)
    assert diagnosis.sentence.startswith(f"{turns} of {turns} transcripts never came with 4")
    assert "gain: no time, but answers that are lost" in text_of(diagnosis)
    assert "0 ms of" not in text_of(diagnosis)
    assert "0 of 0" not in text_of(diagnosis)


def test_the_headline_is_of_the_phase_in_which_nothing_came() -> None:
    """The only delays known are those of one speaker, and fine."""
    evidence = Evidence([phase("one"), phase("many", missing_between=(0.0, 99.0))])
    assert evidence.felt_worst.name == "many"
    assert "transcripts never came with 4 speaking" in diagnosis_of(evidence).sentence


def test_few_turns_are_told_and_many_are_not() -> None:
    notes = diagnosis_of(same()).notes
    assert "few turns: one (4), two (8); below 10 a phase, means are rough figures" in notes
    assert not diagnosis_of(Evidence([phase("many")])).notes


# Interrupted.


@pytest.mark.parametrize("cause", list(Cause))
def test_nothing_that_was_interrupted_is_judged(cause: Cause) -> None:
    diagnosis = diagnosis_of(replace(WORLDS[cause](), interrupted=True))
    assert not diagnosis.healthy
    assert diagnosis.exit_code == 3
    assert diagnosis.sentence.startswith("Interrupted, and so not judged. So far: ")
    assert to_json(diagnosis)["interrupted"] is True


def test_a_folder_in_which_a_planned_phase_is_missing_is_not_healthy(tmp_path: Path) -> None:
    write_phase(tmp_path / "one", 1, duration_s=20.0)
    assert not read_evidence(tmp_path).interrupted
    write_plan(tmp_path, [("one", 1)])
    assert not read_evidence(tmp_path).interrupted
    write_plan(tmp_path, [("one", 1), ("two", 2)])
    result = invoke(str(tmp_path))
    assert result.exit_code == 3
    assert "Healthy" not in result.stdout
    assert result.stdout.startswith("Interrupted")


@pytest.mark.parametrize(("planned_s", "judged"), [(20.0, False), (None, True)])
def test_a_run_that_was_stopped_before_its_time_is_not_healthy(
    tmp_path: Path, planned_s: float | None, judged: bool
) -> None:
    """One that was to run until it is stopped, is whole."""
    folder = write_phase(tmp_path / "run", 1, interrupted=True, planned_duration_s=planned_s)
    assert read_evidence(folder).interrupted is not judged
    assert ("Healthy" in invoke(str(folder)).stdout) is judged


# What transcripts are worth, and what is left.


def test_a_model_that_understands_nothing_is_told() -> None:
    phases = [replace(one, word_error_rate=0.8) for one in same().phases]
    diagnosis = diagnosis_of(Evidence(phases))
    assert any("word error rate is 80 %" in note for note in diagnosis.notes)
    better = [replace(one, word_error_rate=0.3) for one in same().phases]
    assert not any("word error" in note for note in diagnosis_of(Evidence(better)).notes)


def test_word_errors_are_read_from_the_finals_that_came(tmp_path: Path) -> None:
    folder = write_phase(tmp_path / "run", 1)
    assert read_evidence(folder).phases[0].word_error_rate == 0.0
    meaningless = write_phase(tmp_path / "other", 1, model_kind="synthetic weights")
    assert read_evidence(meaningless).phases[0].word_error_rate is None


def test_what_no_cause_explains_is_told_with_what_a_turn_consists_of() -> None:
    diagnosis = diagnosis_of(same(felt={"endpoint_wait": 0.9, "a_stage_of_theirs": 0.2}))
    (rest,) = [note for note in diagnosis.notes if note.startswith("the rest of")]
    assert "no cause named: 595 ms of 1.2 s (many)" in rest
    assert "endpoint_wait 900 ms, a_stage_of_theirs 200 ms" in rest
    assert not any("no cause named" in note for note in diagnosis_of(same()).notes)


# Before and after.


def test_of_a_cause_that_is_still_there_no_gain_is_claimed() -> None:
    both = diagnosis_of(same(felt={"endpoint_wait": 0.9, "turn_model": 0.5}))
    one_left = diagnosis_of(same(felt={"endpoint_wait": 0.7}))
    found = compare(both, one_left)
    assert found.gone == [Cause.TURN_DETECTOR]
    assert found.remaining == [Cause.ENDPOINT_WAIT]
    assert found.expected_s is None
    assert found.came is False
    assert "The first cause, endpoint-wait, is still there" in found.sentence
    assert "Gone: turn-detector; still there: endpoint-wait." in found.sentence


def test_of_a_cause_that_is_gone_the_gain_is_told() -> None:
    before = diagnosis_of(same(felt={"endpoint_wait": 0.9}))
    found = compare(before, diagnosis_of(same()))
    assert found.came is True
    assert found.sentence.endswith("Gone: endpoint-wait.")
    fresh = compare(before, diagnosis_of(same(felt={"turn_model": 0.6})))
    assert "new: turn-detector" in fresh.sentence


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (late_generator(), "void"),
        (replace(same(), interrupted=True), "interrupted"),
        (each(many={"felt": {"a_segment_of_theirs": 2.0}}), "undecided"),
    ],
)
def test_nothing_is_claimed_of_a_second_measurement_that_proves_nothing(
    after: Evidence, said: str
) -> None:
    before = diagnosis_of(same(felt={"endpoint_wait": 0.9}))
    found = compare(before, diagnosis_of(after))
    assert found.came is None
    assert found.expected_s is None
    assert said in found.sentence
    assert "gain" not in found.sentence
    assert "Nothing follows" in markdown(diagnosis_of(after), found)


# The command.


def test_a_dead_server_is_told_before_anything_is_said_to_begin(tmp_path: Path) -> None:
    told: list[str] = []
    order = Order(f"http://127.0.0.1:{free_port()}", tmp_path / "out")
    with pytest.raises(RtvcError, match="no server answers"):
        Procedure(order, SystemClock(), told.append).run()
    assert told == []
    assert not (tmp_path / "out").exists()


def test_piped_lines_are_neither_padded_nor_cut(tmp_path: Path) -> None:
    folder = write_diagnosis(tmp_path, felt={"endpoint_wait": 1.0, "turn_model": 0.6})
    told = invoke(str(folder)).stdout.splitlines()
    assert [line for line in told if line != line.rstrip()] == []
    assert any(line.endswith("it is a policy: no compute hides in it") for line in told)
    assert any(len(line) > 120 for line in told)


def test_a_run_that_was_only_read_stays_as_it_is(tmp_path: Path) -> None:
    folder = write_phase(tmp_path / "run", 1, felt={"endpoint_wait": 1.0})
    before = sorted(path.name for path in folder.iterdir())
    assert invoke(str(folder)).exit_code == 99
    assert sorted(path.name for path in folder.iterdir()) == before
    invoke(str(folder), "--out", str(tmp_path / "said"))
    assert (tmp_path / "said" / "diagnosis.json").exists()


# Who else is there.


def test_whoever_uses_the_cpus_is_found_by_name_and_number(tmp_path: Path) -> None:
    secret = "while True: pass  # a-password"
    child = subprocess.Popen([sys.executable, "-c", secret])
    crowd, without = Crowd(SystemClock()), Crowd(SystemClock())
    try:
        found: list[int] = []
        for _ in range(200):
            crowd.read(frozenset())
            without.read(frozenset({child.pid}))
            found = [one.pid for one in crowd.top()]
            if child.pid in found:
                break
            threading.Event().wait(0.05)
        assert child.pid in found
        assert child.pid not in [one.pid for one in without.top()]
    finally:
        child.kill()
        child.wait()
    write_crowd(tmp_path, crowd.top())
    kept = (tmp_path / CROWD_FILE).read_text()
    assert "a-password" not in kept
    assert {name for row in json.loads(kept) for name in row} == {"name", "pid", "cpus"}
    assert len(read_crowd(tmp_path)) <= 3
    assert all(math.isfinite(one.cpus) for one in read_crowd(tmp_path))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert read_crowd(tmp_path) == ()
    (tmp_path / CROWD_FILE).write_text('{"a": 1}')
    with pytest.raises(RecordError, match=r"others\.json"):
        read_crowd(tmp_path)
