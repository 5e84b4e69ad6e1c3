"""`rtvc demo`: one command, nothing to prepare, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.model]


def start(folder: Path, *flags: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "rtvc", "demo", *flags],
        cwd=folder,
        env={**os.environ, **environment},  # noqa: TID251 (a user's environment)
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def children_of(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def test_two_speakers_talk_and_a_report_is_left_and_no_process(tmp_path: Path) -> None:
    # Settings of the user's that would keep the demo from working must not reach it.
    (tmp_path / "rtvc.toml").write_text('[serve]\ntls = "self-signed"\nmax_sessions = 1\n')
    demo = start(
        tmp_path,
        *("--duration", "6", "--speakers", "2", "--out", "run"),
        RTVC_STT_MODEL="no-such-model",
        HTTP_PROXY="http://127.0.0.1:9",
        http_proxy="http://127.0.0.1:9",
    )
    seen: dict[int, psutil.Process] = {}
    with demo:
        assert demo.stdout is not None
        said = []
        for line in demo.stdout:
            said.append(line)
            seen |= {child.pid: child for child in children_of(demo.pid)}
    text = "".join(said)
    assert demo.returncode in (0, 3, 99), text  # 3, 99: the machine was busy with other work
    assert "self-test model" in text
    assert "server ready after" in text
    assert "rtvc serve" in text
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert len(seen) >= 2
    _gone, alive = psutil.wait_procs(list(seen.values()), timeout=10)
    assert alive == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_demo_that_is_stopped_takes_its_processes_along(
    tmp_path: Path, number: signal.Signals
) -> None:
    demo = start(tmp_path, "--duration", "300", "--out", "run")
    with demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "server ready" in line:
                break
        time.sleep(2)
        children = children_of(demo.pid)
        demo.send_signal(number)
        demo.stdout.read()
    assert demo.returncode == 130
    assert children
    _gone, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_a_wrong_flag_is_one_line(tmp_path: Path) -> None:
    demo = start(tmp_path, "--duration", "soon")
    said = demo.communicate()[0]
    assert demo.returncode == 2
    assert said.count("\n") == 1
    assert said.startswith("rtvc: Invalid value for '--duration'")
