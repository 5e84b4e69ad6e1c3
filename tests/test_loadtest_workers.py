"""Master and workers, for real, on Locust's own distributed mode over loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import psutil
import pytest

from rtvc.clock import FakeClock
from rtvc.errors import RtvcError
from rtvc.loadtest.scale.worker import find_master
from rtvc.record import load_run
from tests.servers import free_port, sink
from tests.test_loadtest_run import ROOT, finish, loadtest, told, until

pytestmark = pytest.mark.slow


def worker(port: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "rtvc", "loadtest", "--worker", "--join", f"127.0.0.1:{port}"]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def locust_of(process: "subprocess.Popen[str]") -> psutil.Process:
    (child,) = psutil.Process(process.pid).children()
    return child


@pytest.mark.timeout(180)
def test_two_workers_are_one_run(tmp_path: Path) -> None:
    folder, meeting = tmp_path / "run", free_port()
    with sink("--delay", "0.3") as port:
        flags = ("--speakers", "5", "--duration", "6", "--expect-workers", "2")
        master = loadtest(port, folder, *flags, "--master", "--bind-port", str(meeting))
        workers = [worker(meeting) for _ in range(2)]
        code, out, err = finish(master)
        ends = [finish(each) for each in workers]
        notes = httpx.get(f"http://127.0.0.1:{port}/notes").json()
    assert code in (0, 3, 99), err
    assert "waiting for workers" in err
    assert [end[0] for end in ends] == [0, 0], [end[2] for end in ends]
    run = load_run(folder)
    assert sorted(row.speaker for row in run.attempts) == [0, 1, 2, 3, 4]
    assert {row.outcome for row in run.attempts} == {"ok"}
    assert notes["frames"] == sum(row.frames for row in run.generator), "all of it was shipped"
    assert len(run.turns) == len(notes["utterances"]) >= 5
    assert not run.manifest.lost_generators
    who = run.manifest.settings["generators"]
    assert [each["part"] for each in who] == [0, 1]
    assert all(0 <= each["start_within_s"] < 5 for each in who)
    assert json.loads(out)["connections"]["ok"] == 5


@pytest.mark.timeout(180)
def test_a_worker_that_dies_is_survived_and_named(tmp_path: Path) -> None:
    folder, meeting = tmp_path / "run", free_port()
    with sink("--delay", "0.3") as port:
        flags = ("--speakers", "4", "--duration", "25", "--expect-workers", "2")
        master = loadtest(port, folder, *flags, "--master", "--bind-port", str(meeting))
        workers = [worker(meeting) for _ in range(2)]
        until(lambda: told(folder) >= 4)
        os.kill(locust_of(workers[1]).pid, signal.SIGKILL)
        _, _, complaint = finish(workers[1])
        code, out, err = finish(master)
        survivor = finish(workers[0])
    assert code == 3, err
    assert "rtvc: the worker ended" in complaint
    assert survivor[0] == 0, survivor[2]
    verdict = json.loads(out)["verdict"]
    assert verdict.startswith("Void: worker ")
    assert "was not heard of for 10 s" in verdict
    run = load_run(folder)
    assert len(run.manifest.lost_generators) == 1
    assert {turn.speaker % 2 for turn in run.turns} == {0, 1}, "its rows stay"
    assert (folder / "report.html").exists()


@pytest.mark.timeout(120)
def test_an_interrupted_master_keeps_what_its_workers_measured(tmp_path: Path) -> None:
    folder, meeting = tmp_path / "run", free_port()
    with sink("--delay", "0.3") as port:
        flags = ("--speakers", "2", "--duration", "120", "--expect-workers", "1")
        master = loadtest(port, folder, *flags, "--master", "--bind-port", str(meeting))
        helper = worker(meeting)
        until(lambda: told(folder) >= 2)
        master.send_signal(signal.SIGINT)
        code, out, err = finish(master)
        helped = finish(helper)
        notes = httpx.get(f"http://127.0.0.1:{port}/notes").json()
    assert code == 130, err
    assert helped[0] == 0, helped[2]
    run = load_run(folder)
    assert sum(row.frames for row in run.generator) == notes["frames"]
    assert json.loads(out)["verdict"].startswith("Interrupted after ")


@pytest.mark.timeout(120)
def test_a_master_without_workers_gives_up_and_says_so(tmp_path: Path) -> None:
    folder, meeting = tmp_path / "run", free_port()
    with sink() as port:
        flags = ("--speakers", "2", "--master", "--bind-port", str(meeting))
        patience = ("--expect-workers", "2", "--expect-workers-max-wait", "2")
        code, out, err = finish(loadtest(port, folder, *flags, *patience))
    assert (code, out) == (1, "")
    assert "rtvc: the load test did not start: 0 of 2 workers came within 2 s" in err


def test_nobody_at_the_other_end() -> None:
    clock = FakeClock()
    with pytest.raises(RtvcError, match="no master answers at 127\\.0\\.0\\.1:9 within 3 s"):
        find_master("127.0.0.1", 9, clock=clock, sleep=clock.advance, patience_s=3.0)


@pytest.mark.timeout(120)
def test_somebody_else_at_the_other_end() -> None:
    """Something listens there that is no master."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        taken: list[socket.socket] = []

        def listen() -> None:
            try:
                while True:
                    taken.append(door.accept()[0])
            except OSError:
                return

        threading.Thread(target=listen, daemon=True).start()
        code, _, err = finish(worker(door.getsockname()[1]))
        for each in taken:
            each.close()
    assert code == 1
    assert "but no master of rtvc" in err
