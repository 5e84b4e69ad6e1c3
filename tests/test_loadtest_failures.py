"""Whatever a server does wrong is counted under its own name, and the run ends with a report."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import websocket

from rtvc.failures import MEANINGS, closed_failure, http_failure, meaning
from rtvc.loadtest.wire.naming import (
    broken_failure,
    connect_failure,
    timeout_failure,
    tls_failure,
    upgrade_failure,
)
from rtvc.record import RunWriter, SampleRow, StepRow, load_run
from rtvc.report.page import build_report
from rtvc.summary import load_summary, summarize
from rtvc.summary.outcomes import CUT_OFF_SPEECH
from tests.hostile_servers import DOOR, MODES, write_certificate
from tests.loadtest_runs import ROOT, Done, Serving, finish, loadtest, serving, start_loadtest
from tests.servers import free_port
from tests.synthetic_run import a_connection, a_manifest, a_second, a_turn

HOSTILE = "tests.hostile_servers"
MISSED = 99
BUSY = (3, MISSED)
"""A machine that is busy with other tests may void a run that would have missed its targets."""
SHORT = ("--duration", "3", "--connect-timeout", "2", "--grace", "1.5", "--ramp", "0.5")


def test_every_name_says_what_it_means() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name) for name in MEANINGS)
    assert len(set(MEANINGS.values())) == len(MEANINGS), "no two names mean the same"
    assert set(DOOR) < set(MODES)
    for name in (*DOOR.values(), http_failure(500), closed_failure(1000), closed_failure(None)):
        assert meaning(name) != name


def test_every_name_that_is_counted_has_a_meaning() -> None:
    used: set[str] = set()
    for path in (ROOT / "rtvc" / "loadtest").rglob("*.py"):
        text = path.read_text("utf-8")
        used.update(re.findall(r'counts\["(\w+)"\]', text))
        used.update(re.findall(r'Garbage\(at_s, "(\w+)"\)', text))
        used.update(re.findall(r'TurnedAway\(at_s, "\w+", "(\w+)"', text))
        used.update(re.findall(r'return "(garbage_\w+)"', text))
    assert {"late_finals", "garbage_not_json", "wrong_protocol"} <= used
    assert used <= set(MEANINGS)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (socket.gaierror(-2, "Name or service not known"), "name_not_found"),
        (ConnectionRefusedError(111, "Connection refused"), "server_down"),
        (TimeoutError("timed out"), "tcp_timeout"),
        (OSError(113, "No route to host"), "unreachable"),
    ],
)
def test_how_a_connection_fails_has_a_name(error: OSError, name: str) -> None:
    assert connect_failure(error) == name
    assert name in MEANINGS


def certificate_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (certificate_error(10), "tls_expired"),
        (certificate_error(18), "tls_untrusted"),
        (certificate_error(20), "tls_untrusted"),
        (certificate_error(62), "tls_wrong_host"),
        (certificate_error(64), "tls_wrong_host"),
        (TimeoutError("timed out"), "tls_timeout"),
        (ConnectionResetError(104, "reset"), "tls_failed"),
        (ValueError("server_hostname cannot be empty"), "tls_failed"),
    ],
)
def test_how_tls_fails_has_a_name(error: OSError | ValueError, name: str) -> None:
    assert tls_failure(error) == name
    assert name in MEANINGS


@pytest.mark.parametrize(
    ("error", "opening", "open_"),
    [
        (websocket.WebSocketTimeoutException("late"), "handshake_timeout", "broken_frames"),
        (websocket.WebSocketConnectionClosedException(), "closed_in_handshake", "connection_cut"),
        (ConnectionResetError(104, "reset"), "closed_in_handshake", "connection_cut"),
        (websocket.WebSocketProtocolException("rsv"), "not_websocket", "broken_frames"),
        (websocket.WebSocketPayloadException("utf"), "not_websocket", "broken_frames"),
        (KeyError("?"), "not_websocket", "unknown"),
    ],
)
def test_how_a_websocket_fails_has_a_name(error: Exception, opening: str, open_: str) -> None:
    assert upgrade_failure(error) == opening
    assert broken_failure(error) == open_
    assert {opening, open_} <= set(MEANINGS)


def test_what_took_too_long_is_named_by_what_was_waited_for() -> None:
    steps = [timeout_failure(step, 0) for step in ("tcp", "tls", "upgrade", "ready")]
    assert steps == ["tcp_timeout", "tls_timeout", "handshake_timeout", "no_first_event"]
    assert timeout_failure("ready", 1) == "wrong_protocol"


def a_failure(speaker: int, failure: str | None, outcome: str = "failed") -> object:
    lost = {"connection_s": None, "handshake_s": None, "setup_s": None, "closed_at_s": 2.0}
    return a_connection(speaker, outcome=outcome, reason="why", failure=failure, **lost)


def counted(at_s: float, name: str, value: int) -> SampleRow:
    return SampleRow(at_s, "generator", f"{name}_count", float(value))


def test_a_summary_counts_by_name(tmp_path: Path) -> None:
    with RunWriter(tmp_path, a_manifest()) as writer:
        writer.append(
            a_failure(0, "server_down"),  # type: ignore[arg-type]
            a_failure(1, "server_down"),  # type: ignore[arg-type]
            a_failure(2, None, "refused"),  # type: ignore[arg-type]
            a_connection(3),
            a_turn(3, 0, transcription_delay_s=None, response_latency_s=None, reply_expected=True),
            a_second(),
            counted(1.0, "garbage_not_json", 2),
            counted(2.0, "garbage_not_json", 5),
            SampleRow(2.0, "server", "batch_jobs_count", 9.0),
        )
    found = summarize(load_run(tmp_path)).failures
    assert found == {
        "garbage_not_json": 5,
        "server_down": 2,
        "unknown": 1,
        "no_final": 1,
        "no_reply": 1,
    }
    assert list(found.values()) == sorted(found.values(), reverse=True)
    build_report(tmp_path)
    assert load_summary(tmp_path).failures == found
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "failed · server_down" in page
    assert "a message that is no JSON" in page


def a_step(**more: object) -> StepRow:
    values: dict[str, object] = {name: None for name in StepRow.__dataclass_fields__}
    values |= {"step": 0, "speakers": 1, "purpose": "climb", "ordered_at_s": 0.0}
    values |= {"measured_from_s": 10.0, "measured_until_s": 20.0, "outcome": "passed"}
    values |= {"stopped_early": False, "utterances": 0, "errors": 0, "cut_utterances": 0}
    return StepRow(**{**values, **more})  # type: ignore[arg-type]


def test_a_step_counts_only_what_went_wrong_in_it(tmp_path: Path) -> None:
    with RunWriter(tmp_path, a_manifest()) as writer:
        writer.append(
            a_connection(0),
            *(a_second(float(at_s)) for at_s in range(1, 31)),
            *(counted(float(at_s), "garbage_not_json", at_s) for at_s in range(1, 31)),
            a_step(),
        )
    run = load_run(tmp_path)
    assert summarize(run).failures == {"garbage_not_json": 30}
    assert summarize(run, run.steps[0]).failures == {"garbage_not_json": 11}


def names(done: Done) -> Counter[str | None]:
    return Counter(row.failure for row in done.run.attempts)


def test_the_record_keeps_the_name(tmp_path: Path) -> None:
    with RunWriter(tmp_path, a_manifest()) as writer:
        writer.append(a_connection(0), a_failure(1, "tls_wrong_host"))  # type: ignore[arg-type]
    kept = [row.failure for row in load_run(tmp_path).connections]
    assert kept == [None, "tls_wrong_host"]


@pytest.mark.slow
def test_a_door_that_stays_shut_is_named_for_how(tmp_path: Path) -> None:
    with serving(HOSTILE, *DOOR) as server:
        done = loadtest(
            f"ws://127.0.0.1:{server.port}", tmp_path / "run", "--speakers", str(len(DOOR)), *SHORT
        )
    assert done.code == 1, done.errors
    assert names(done) == Counter(DOOR.values())
    told = done.summary["failures"]
    assert {name: told[name] for name in DOOR.values()} == dict.fromkeys(DOOR.values(), 1)
    assert done.summary["verdict"].startswith("Missed: no speaker could connect")
    outcomes = Counter(row.outcome for row in done.run.attempts)
    assert outcomes == {"failed": len(DOOR) - 2, "refused": 2}
    assert "failed · wrong_protocol" in done.page


@pytest.mark.slow
def test_sessions_that_break_are_named_for_how(tmp_path: Path) -> None:
    modes = ("never-answers", "garbage", "crashes", "stops")
    with serving(HOSTILE, *modes) as server:
        url = f"ws://127.0.0.1:{server.port}"
        done = loadtest(url, tmp_path / "run", "--speakers", "4", *SHORT)
    assert done.code in BUSY, done.errors
    assert names(done) == {None: 2, "connection_cut": 1, "closed_1012": 1}
    told = done.summary["failures"]
    assert told["connection_cut"] == told["closed_1012"] == 1
    garbage = {name: told[f"garbage_{name}"] for name in ("not_json", "not_object", "no_type")}
    assert min(garbage.values()) > 0
    assert told["garbage_fields"] > 0
    assert told["no_final"] == sum(turn.final_at_s is None for turn in done.run.turns) > 0
    assert "closed by the server with 1012: restarting" in done.page


@pytest.mark.slow
def test_a_server_that_is_down_is_counted_and_reported(tmp_path: Path) -> None:
    url = f"ws://127.0.0.1:{free_port()}"
    done = loadtest(url, tmp_path / "run", "--speakers", "2", *SHORT)
    assert done.code == 1
    assert names(done) == {"server_down": 2}
    assert done.summary["failures"] == {"server_down": 2}
    assert "no connection: Connection refused" in done.summary["verdict"]
    assert f"no server answers at {url.replace('ws', 'http')}/readyz" in done.errors
    assert "failed · server_down" in done.page


@pytest.mark.slow
def test_a_stranger_is_counted_and_reported_where_no_protocol_was_named(tmp_path: Path) -> None:
    with serving(HOSTILE, "later") as server:
        done = loadtest(
            *(f"ws://127.0.0.1:{server.port}", tmp_path / "run", "--speakers", "1"),
            *("--protocol", "auto", *SHORT),
        )
    assert done.code == 1
    assert names(done) == {"refused_1013": 1}
    assert "speaks a known protocol" in done.errors
    assert "refused · refused_1013" in done.page


@pytest.mark.slow
def test_a_name_that_leads_nowhere_is_not_a_server_that_is_down(tmp_path: Path) -> None:
    done = loadtest("ws://nobody.invalid:8000", tmp_path / "run", "--speakers", "1", *SHORT)
    assert done.code == 1
    assert names(done) == {"name_not_found": 1}


def until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    pytest.fail("it never came to that")


def lines_in(path: Path) -> int:
    return path.read_text("utf-8").count("\n") if path.exists() else 0


@pytest.mark.slow
def test_a_server_that_dies_is_lost_and_what_was_measured_stays(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with serving("tests.sink_server", "--delay", "0.1") as server:
        process = start_loadtest(
            *(f"ws://127.0.0.1:{server.port}", folder, "--speakers", "2", "--duration", "60"),
        )
        until(lambda: lines_in(folder / "turns.csv") >= 3)
        server.process.kill()
        done = finish(process, folder)
    assert done.code in BUSY, done.errors
    assert names(done) == {"connection_cut": 2}
    assert done.summary["failures"]["connection_cut"] == 2
    if done.code == MISSED:
        assert "2 of 2 sessions lost" in done.summary["verdict"]
    answered = [turn for turn in done.run.turns if turn.final_at_s is not None]
    assert len(answered) >= 2
    assert not done.run.cut_off


@pytest.mark.slow
def test_what_was_being_said_when_the_server_hung_up_is_told(tmp_path: Path) -> None:
    """That is 2 s after each call's begin; who speaks by then goes on for 40 s."""
    with serving("tests.sink_server", "--mode", "shut-down") as server:
        done = loadtest(
            *(f"ws://127.0.0.1:{server.port}", tmp_path / "run", "--speakers", "6"),
            *("--scenario", "long-monologue", "--duration", "6", "--ramp", "0.5"),
        )
    ended = {row.closed_at_s: row for row in done.run.attempts}
    cut_off = [row for row in done.run.samples if row.name == CUT_OFF_SPEECH]
    assert cut_off
    for row in cut_off:
        session = ended[row.at_s]
        assert session.outcome == "lost"
        assert 0 < row.value < row.at_s - session.opened_at_s


def over_tls(
    tmp_path: Path, files: tuple[Path, Path] | None, *, trusted: bool, mode: str = "never-answers"
) -> Done:
    """Two speakers at a wss:// server; without files it speaks no TLS."""
    tls = ("--tls", ",".join(map(str, files))) if files else ()
    environment = {"SSL_CERT_FILE": str(files[0])} if files and trusted else {}
    with serving(HOSTILE, mode, *tls) as server:
        return loadtest(
            *(f"wss://127.0.0.1:{server.port}", tmp_path / "run", "--speakers", "2", *SHORT),
            environment=environment,
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trusted", "host", "until_days", "name"),
    [
        (False, "127.0.0.1", 30, "tls_untrusted"),
        (True, "elsewhere.test", 30, "tls_wrong_host"),
        (True, "127.0.0.1", -1, "tls_expired"),
    ],
)
def test_a_certificate_is_named_for_what_is_wrong_with_it(
    tmp_path: Path, trusted: bool, host: str, until_days: int, name: str
) -> None:
    files = write_certificate(tmp_path / "tls", host, from_days=-3, until_days=until_days)
    done = over_tls(tmp_path, files, trusted=trusted)
    assert done.code == 1
    assert names(done) == {name: 2}
    assert done.summary["failures"] == {name: 2}
    assert f"failed · {name}" in done.page
    reasons = [row.reason or "" for row in done.run.attempts]
    assert all(reason.endswith(": --insecure accepts it") for reason in reasons)


@pytest.mark.slow
def test_a_server_without_tls_is_named(tmp_path: Path) -> None:
    with serving(HOSTILE, "never-answers", "--blunt") as server:
        done = loadtest(
            f"wss://127.0.0.1:{server.port}", tmp_path / "run", "--speakers", "2", *SHORT
        )
    assert done.code == 1
    assert names(done) == {"tls_not_spoken": 2}


@pytest.mark.slow
def test_a_server_that_waits_where_tls_should_begin_is_named(tmp_path: Path) -> None:
    done = over_tls(tmp_path, None, trusted=False)
    assert done.code == 1
    assert names(done) == {"tls_timeout": 2}


def told_again(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rtvc", "report", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def speaking(server: Serving, folder: Path) -> subprocess.Popen[str]:
    """A long run of two speakers that has measured something."""
    url = f"ws://127.0.0.1:{server.port}"
    process = start_loadtest(url, folder, "--speakers", "2", "--duration", "120")
    until(lambda: lines_in(folder / "turns.csv") >= 3)
    return process


@pytest.mark.slow
def test_a_killed_generator_leaves_what_it_measured_and_a_report(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with serving("tests.sink_server", "--delay", "0.1") as server:
        process = speaking(server, folder)
        before = load_run(folder)
        os.kill(before.generator[-1].process, signal.SIGKILL)
        done = finish(process, folder)
    assert done.code == 1
    assert "ended with status -9; what it had measured is kept" in done.errors
    run = done.run
    assert run.cut_off
    assert run.turns[: len(before.turns)] == before.turns
    assert len(run.attempts) == 2
    assert done.summary["cut_off"] is True
    assert done.summary["utterances"]["spoken"] == len(run.turns)
    assert "The run was cut off before its end" in done.page


@pytest.mark.slow
def test_a_killed_command_leaves_a_run_that_a_report_can_be_made_of(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with serving("tests.sink_server", "--delay", "0.1") as server:
        process = speaking(server, folder)
        process.kill()
        finish(process, folder)
        # The generator notices that it is alone, and ends in order.
        until(lambda: not load_run(folder).cut_off)
    assert not (folder / "report.html").exists()
    again = told_again(folder)
    assert again.returncode in (0, 3, 99), again.stderr
    assert (folder / "report.html").exists()
    assert load_summary(folder).utterances.spoken == len(load_run(folder).turns) >= 2
