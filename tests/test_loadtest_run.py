"""`rtvc loadtest` as a whole, against a server whose delay is known or whose faults are."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from rtvc.record import Run, load_run
from tests.servers import sink
from tests.sink_server import MIXED

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def loadtest(port: int, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-m", "rtvc", "loadtest", f"ws://127.0.0.1:{port}"),
        *("--protocol", "openai-realtime"),
        *("--out", str(folder), "--warm-up", "0", "--json", *arguments),
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def finish(process: subprocess.Popen[str], within_s: float = 120) -> tuple[int, str, str]:
    with process:
        out, err = process.communicate(timeout=within_s)
    return process.returncode, out, err


def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    for _ in range(int(within_s / 0.1)):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it never came to that")


def told(folder: Path) -> int:
    turns = folder / "turns.csv"
    return turns.read_text("utf-8").count("\n") - 1 if turns.exists() else 0


def last_counts(run: Run) -> dict[str, float]:
    return {row.name: row.value for row in run.samples if row.source == "generator"}


def test_the_delay_measured_is_the_delay_there_was(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with sink("--delay", "0.6") as port:
        code, out, err = finish(loadtest(port, folder, "--speakers", "3", "--duration", "7"))
        notes: dict[str, Any] = httpx.get(f"http://127.0.0.1:{port}/notes").json()
    assert code in (3, 99), err  # 600 ms is beyond the target; a busy machine may void the run
    waits_s = [u["final_s"] - u["last_loud_s"] for u in notes["utterances"]]
    run = load_run(folder)
    delays_s = [turn.transcription_delay_s for turn in run.turns]
    assert len(delays_s) == len(waits_s) >= 3, "every utterance spoken has its row"
    assert None not in delays_s
    # The annotated end of speech lies within a frame or two of the last loud one.
    measured_s = statistics.median([delay for delay in delays_s if delay is not None])
    assert measured_s == pytest.approx(statistics.median(waits_s), abs=0.08)
    assert all(turn.reply_first_audio_at_s is not None for turn in run.turns)
    assert all(turn.finals == 1 and not turn.premature_finals for turn in run.turns)
    assert [row.outcome for row in run.connections] == ["ok"] * 3
    assert len({turn.text for turn in run.turns if turn.speaker == 0} & texts_of(run, 1)) == 0
    summary = json.loads(out)
    assert summary["metrics"]["transcription_delay"]["n"] == len(delays_s)
    assert (folder / "report.html").exists()
    assert notes["frames"] == sum(row.frames for row in run.generator)


def texts_of(run: Run, speaker: int) -> set[str]:
    return {turn.text for turn in run.turns if turn.speaker == speaker}


def test_every_fault_is_counted_under_its_own_name(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with sink("--mode", "mixed") as port:
        speakers = str(len(MIXED))
        limits = ("--connect-timeout", "3", "--grace", "3", "--duration", "5", "--ramp", "2")
        code, _, err = finish(loadtest(port, folder, "--speakers", speakers, *limits))
    assert code in (3, 99), err
    run = load_run(folder)
    assert Counter(row.outcome for row in run.connections) == {
        "ok": 3,
        "refused": 2,
        "failed": 1,
        "lost": 1,
    }
    reasons = {row.outcome: row.reason for row in run.connections}
    assert reasons["failed"] == "the session's first word took longer than 3 s"
    refusals = {row.reason for row in run.connections if row.outcome == "refused"}
    assert refusals == {
        "HTTP 503: server_full: 8 of 8 sessions are taken",
        "closed by the server with 1013: try again later",
    }
    by_speaker: dict[int, set[bool]] = {}
    for turn in run.turns:
        by_speaker.setdefault(turn.speaker, set()).add(turn.final_at_s is None)
    assert {True} in by_speaker.values(), "the speaker that was never answered"
    assert {False} in by_speaker.values(), "the speaker that was answered"
    counts = last_counts(run)
    assert counts["garbage_not_json_count"] == counts["garbage_not_object_count"] > 0
    assert counts["garbage_fields_count"] == counts["garbage_not_json_count"]
    assert (folder / "report.html").exists()


def test_an_interrupted_run_keeps_what_it_measured(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with sink() as port:
        process = loadtest(port, folder, "--speakers", "2", "--duration", "120")
        until(lambda: told(folder) >= 2)
        process.send_signal(signal.SIGINT)
        code, out, _ = finish(process)
    assert code == 130
    run = load_run(folder)
    assert not run.cut_off
    assert all(turn.final_at_s is not None for turn in run.turns), "nothing is held missing"
    summary = json.loads(out)
    assert summary["utterances"]["spoken"] == len(run.turns)
    assert (summary["interrupted"], summary["cut_off"]) == (True, True)
    assert summary["verdict"].startswith("Interrupted after ")
    assert summary["verdict"].endswith(" of 120 s: not judged.")
    assert "✓" not in (folder / "report.html").read_text("utf-8")
    # Once more from the files: the same verdict.
    again = subprocess.run(
        [sys.executable, "-m", "rtvc", "report", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 3
    assert summary["verdict"] in again.stdout


def test_a_killed_generator_leaves_what_it_measured(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with sink() as port:
        process = loadtest(port, folder, "--speakers", "2", "--duration", "120")
        until(lambda: told(folder) >= 2)
        os.kill(load_run(folder).generator[-1].process, signal.SIGKILL)
        code, _, err = finish(process)
    assert code == 1
    assert "ended with status -9" in err
    run = load_run(folder)
    assert run.cut_off
    assert [row.outcome for row in run.connections] == ["ok", "ok"]
    assert len(run.turns) >= 2
    assert (folder / "report.html").exists()


def verdict_of(tmp_path: Path, *arguments: str, mode: str = "answer", path: str = "") -> str:
    """Exit code and verdict of a short run."""
    with sink("--mode", mode) as port:
        command = [
            *(sys.executable, "-m", "rtvc", "loadtest", f"127.0.0.1:{port}{path}"),
            *("--protocol", "openai-realtime"),
            *("--out", str(tmp_path / "run"), "--warm-up", "0", "--json", *arguments),
        ]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
    told = json.loads(done.stdout)["verdict"].replace(f":{port}", ":PORT")
    return f"{done.returncode} {told}"


def test_a_door_that_is_not_there_is_named_and_nobody_else_blamed(tmp_path: Path) -> None:
    assert verdict_of(tmp_path, "--speakers", "2", "--duration", "1", path="/foo") == (
        "1 Missed: no speaker could connect: ws://127.0.0.1:PORT/foo answered HTTP 403."
    )


def test_a_server_that_stops_is_a_miss_with_its_cause(tmp_path: Path) -> None:
    told = verdict_of(tmp_path, "--speakers", "2", "--duration", "8", mode="shut-down")
    assert told.startswith("99 Missed with 2 speakers: ")
    assert "2 of 2 sessions lost: closed by the server with 1012" in told


def test_replies_that_fail_are_named_with_what_the_server_said(tmp_path: Path) -> None:
    told = verdict_of(
        *(tmp_path, "--speakers", "1", "--duration", "4", "--grace", "2"), mode="fail-replies"
    )
    assert told.startswith("99 Missed with 1 speaker: ")
    assert "replies missing; server said: quota exceeded" in told
    assert {path.stem for path in (tmp_path / "run").glob("*.parquet")} >= {"turns", "connections"}


def test_a_connect_storm_is_told_in_connections(tmp_path: Path) -> None:
    told = verdict_of(tmp_path, "--speakers", "4", "--connect-storm", "5")
    assert "20 connections, 4 at once: " in told


def test_without_a_server_a_search_says_so_in_one_line(tmp_path: Path) -> None:
    code, out, err = finish(loadtest(1, tmp_path / "run", "--find-capacity"))
    assert (code, out) == (1, "")
    assert err.strip().startswith("rtvc: no server answers at http://127.0.0.1:1/readyz")
    assert len(err.strip().splitlines()) <= 2
    assert "Errno" not in err
    assert not (tmp_path / "run").exists()
