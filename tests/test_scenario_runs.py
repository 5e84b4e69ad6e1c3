"""Scenarios as a whole: silence, a bad line and callers who come and go, against a known server."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from rtvc.record import Run, load_run
from tests.servers import sink

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def ran(port: int, folder: Path, *arguments: str) -> tuple[int, dict[str, Any], Run]:
    command = [
        *(sys.executable, "-m", "rtvc", "loadtest", f"ws://127.0.0.1:{port}"),
        *("--protocol", "openai-realtime", "--out", str(folder), "--json", *arguments),
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), load_run(folder)


def test_silence_stays_empty(tmp_path: Path) -> None:
    with sink() as port:
        code, summary, run = ran(
            port, tmp_path / "run", "--scenario", "silence", "--speakers", "2", "--duration", "3"
        )
    assert summary["accuracy"]["hallucinated_finals"] == 0
    assert code in (0, 3), "met, or void on a busy machine"
    assert not run.turns
    assert sum(row.frames for row in run.generator) > 200, "the room was heard all the time"
    assert run.manifest.settings["scenario_fields"]["acoustics"]["noise"] == "pink"


def test_what_is_made_up_in_silence_is_counted_and_judged(tmp_path: Path) -> None:
    with sink("--mode", "hallucinate", "--no-replies") as port:
        code, summary, run = ran(
            port, tmp_path / "run", "--scenario", "silence", "--speakers", "2", "--duration", "4"
        )
    finals = summary["accuracy"]["hallucinated_finals"]
    assert finals >= 2
    assert summary["accuracy"]["hallucinated_words"] == 3 * finals, "“something else entirely”"
    assert code in (99, 3)
    if code == 99:
        assert f"hallucinated finals {finals}, target = 0" in summary["verdict"]
    assert not run.turns
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "words heard while nothing was said" in page
    log = (tmp_path / "run" / "generator.log").read_text("utf-8")
    assert "had said nothing, and 'something else entirely' was heard" in log


def test_a_long_way_is_part_of_the_delay_and_not_the_generators_lag(tmp_path: Path) -> None:
    scenario = tmp_path / "far.toml"
    scenario.write_text(
        "[behaviour]\nwait_for_reply = false\npause_s = [1, 1]\n[network]\nrtt_ms = 1200", "utf-8"
    )
    with sink("--no-replies") as port:
        _, summary, run = ran(
            port,
            tmp_path / "run",
            *("--scenario", str(scenario), "--speakers", "2", "--duration", "9"),
            "--transcription",
        )
        notes: dict[str, Any] = httpx.get(f"http://127.0.0.1:{port}/notes").json()
    assert summary["scenario"] == "far"
    waits_s = [u["final_s"] - u["last_loud_s"] for u in notes["utterances"] if u["final_s"]]
    delays_s = [t.transcription_delay_s for t in run.turns if t.transcription_delay_s is not None]
    assert len(delays_s) >= 3
    on_the_way_s = statistics.median(delays_s) - statistics.median(waits_s)
    assert on_the_way_s == pytest.approx(1.2, abs=0.2), "half of it each way"
    assert (summary["generator"]["lag_p99"] or 0.0) < 0.3, "what is on its way is not late"


def test_callers_come_and_go(tmp_path: Path) -> None:
    scenario = tmp_path / "calls.toml"
    scenario.write_text(
        "[behaviour]\nwait_for_reply = false\npause_s = [0.5, 0.5]\nstart_within_s = 0\n"
        '[arrivals]\nkind = "open"\nper_minute = 60\nstay_s = [1, 2]',
        "utf-8",
    )
    with sink("--no-replies") as port:
        _, summary, run = ran(
            port,
            tmp_path / "run",
            *("--scenario", str(scenario), "--duration", "10", "--warm-up", "0", "--seed", "2"),
            "--transcription",
        )
    came_s = sorted(row.opened_at_s for row in run.attempts)
    assert summary["speakers"] == len(came_s) >= 5
    assert summary["connections"]["ok"] == len(came_s)
    assert summary["connections"]["concurrent"] < len(came_s), "the first had left by then"
    assert came_s[0] < came_s[-1] <= 10.5
