"""Sampling a real process: py-spy is run, ended, explained, and pointed at the right one."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

from rtvc.cli import main
from rtvc.clock import SystemClock
from rtvc.errors import ProfileError, UsageError
from rtvc.profile.cpu import command as cpu_command
from rtvc.profile.cpu import py_spy
from rtvc.profile.cpu import target as cpu_target
from rtvc.profile.cpu.py_spy import (
    Interrupted,
    Place,
    Wish,
    advice,
    arguments,
    behind_s,
    explained,
    py_spy_executable,
    record,
)
from rtvc.profile.target import NoAnswer

# Running py-spy


def test_the_two_samplings_ask_for_different_things() -> None:
    wish = Wish(5, seconds=3, rate_hz=20, native=True, gil_only=True)
    running = arguments(wish, "running", Path("x"))
    present = arguments(wish, "present", Path("y"))
    assert {"--native", "--gil", "--subprocesses", "--threads"} <= set(running)
    assert running[running.index("--rate") + 1] == "20"
    assert running[running.index("--duration") + 1] == "3"
    assert {"--idle", "--nonblocking"} <= set(present)
    # py-spy refuses native frames without stopping the process.
    assert not {"--native", "--gil"} & set(present)
    assert "--subprocesses" not in arguments(Wish(5, subprocesses=False), "running", Path("x"))


def test_the_worst_delay_of_sampling_is_found() -> None:
    said = "py-spy> 1.20s behind in sampling, results\nx> 350.00ms behind in sampling\n"
    assert behind_s(said) == pytest.approx(1.2)
    assert behind_s("350.00ms behind in sampling") == pytest.approx(0.35)
    assert behind_s("Sampling process 50 times a second") is None


HERE = Place("linux", root=False, container=False, ptrace_scope=1)


@pytest.mark.parametrize(
    ("said", "running", "hint"),
    [
        ("Permission Denied: Try running again with elevated permissions", True, "refused"),
        ("Error: Operation not permitted (os error 1)", True, "refused"),
        ("This program requires root on OSX.", True, "refused"),
        ("Error: Failed to open process - check if it is running.", True, "ended"),
        ("Error: something", False, "ended"),
        ("Error: Failed to find python version from target process", True, "not a Python program"),
        ("Error: No python processes found in process 5 or any of", True, "not a Python program"),
        ("Error: The sky fell\nReason: gravity", True, "The sky fell Reason: gravity"),
        ("", True, "it said nothing"),
    ],
)
def test_what_py_spy_says_is_explained_in_one_line(said: str, running: bool, hint: str) -> None:
    told = explained(said, 5, running=running, place=HERE)
    assert hint in told
    assert "process 5" in told
    assert "\n" not in told


def test_advice_depends_on_the_place() -> None:
    assert "ptrace_scope=0" in advice(HERE)
    assert "ptrace_scope" not in advice(Place("linux", False, False, 0))
    contained = advice(Place("linux", True, True, 1))
    assert "--cap-add SYS_PTRACE" in contained
    assert "root" not in contained
    assert "run it as root" in advice(Place("linux", False, True, 1))
    assert "forbids it to everyone" in advice(Place("linux", True, False, 3))
    assert "Homebrew" in advice(Place("darwin", True, False, None))


def fake_py_spy(folder: Path, script: str) -> Path:
    """A program in py-spy's place; "$OUT" is where it should write."""
    path = folder / "py-spy"
    find = 'while [ "$1" ]; do case "$1" in --output) OUT="$2";; esac; shift; done\n'
    path.write_text(f"#!/bin/sh\n{find}{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@contextmanager
def sleeper(*command: str) -> Iterator[psutil.Process]:
    """A process of ours to look into, ended at the end."""
    with subprocess.Popen(command or ("sleep", "60")) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()


def test_a_sampler_that_hangs_is_ended_and_what_it_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(py_spy, "GRACE_S", 0.0)
    monkeypatch.setattr(py_spy, "SETTLE_S", 0.2)
    with sleeper() as process:
        script = f"trap '' INT; kill -STOP {process.pid}; while true; do sleep 0.05; done"
        with pytest.raises(ProfileError, match="was ended"):
            record(Wish(process.pid, seconds=1), fake_py_spy(tmp_path, script), SystemClock())
        assert process.status() != psutil.STATUS_STOPPED
    left = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    assert not any(str(tmp_path / "py-spy") in command for command in left)


def test_a_process_that_stood_still_before_is_left_so(tmp_path: Path) -> None:
    with sleeper() as process:
        process.send_signal(signal.SIGSTOP)
        while process.status() != psutil.STATUS_STOPPED:
            pass
        spy = fake_py_spy(tmp_path, 'echo "thread (1): main;f (a.py:1) 4" > "$OUT"')
        recording = record(Wish(process.pid, seconds=1), spy, SystemClock())
        assert process.status() == psutil.STATUS_STOPPED
    assert recording.running.stacks[0].count == 4
    assert recording.used[process.pid].name == "sleep"


def test_what_the_sampler_has_when_told_to_stop_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(py_spy, "GRACE_S", 0.0)
    script = (
        'trap \'echo "thread (1): main;f (a.py:1) 4" > "$OUT"; exit 0\' INT\n'
        'echo "1.50s behind in sampling, results may be inaccurate."\n'
        "while true; do sleep 0.05; done"
    )
    with sleeper() as process:
        recording = record(
            Wish(process.pid, seconds=1), fake_py_spy(tmp_path, script), SystemClock()
        )
    assert recording.cut
    assert recording.behind_s == pytest.approx(1.5)
    assert len(recording.running.stacks) == 1


@contextmanager
def ctrl_c_once_begun(folder: Path) -> Iterator[None]:
    """Ctrl-C for us as soon as both samplers have begun."""
    begun = [folder / f"{kind}.txt" for kind in ("running", "present")]

    def press() -> None:
        while not all(file.exists() for file in begun):
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        for file in begun:
            file.touch()
        thread.join()


BEGIN = 'touch "$(dirname "$0")/$(basename "$OUT")"; while true; do sleep 0.05; done'
LASTING = 'trap \'echo "thread (1): main;f (a.py:1) 4" > "$OUT"; exit 0\' INT; ' + BEGIN
EMPTY_HANDED = "trap 'exit 0' INT; " + BEGIN


def test_ctrl_c_reports_what_was_sampled_so_far(tmp_path: Path) -> None:
    with sleeper() as process, ctrl_c_once_begun(tmp_path):
        recording = record(
            Wish(process.pid, seconds=60), fake_py_spy(tmp_path, LASTING), SystemClock()
        )
    assert recording.interrupted
    assert not recording.cut
    assert recording.running.stacks[0].count == 4
    assert recording.running.duration_s < 60
    assert recording.present is not None
    assert recording.present.duration_s == recording.running.duration_s


def test_ctrl_c_before_there_was_anything_says_so(tmp_path: Path) -> None:
    with (
        sleeper() as process,
        ctrl_c_once_begun(tmp_path),
        pytest.raises(Interrupted, match="nothing was kept") as told,
    ):
        record(Wish(process.pid, seconds=60), fake_py_spy(tmp_path, EMPTY_HANDED), SystemClock())
    assert told.value.exit_code == 130


@pytest.mark.parametrize(("script", "kept"), [(LASTING, True), (EMPTY_HANDED, False)])
def test_the_command_interrupted_keeps_its_report_or_leaves_no_folder(
    script: str,
    kept: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spy = fake_py_spy(tmp_path, script)
    monkeypatch.setattr(cpu_command, "py_spy_executable", lambda: spy)
    out = tmp_path / "out"
    with sleeper() as process, ctrl_c_once_begun(tmp_path), pytest.raises(SystemExit) as ended:
        main(["profile", "cpu", "--pid", str(process.pid), "--duration", "60", "--out", str(out)])
    told = capsys.readouterr()
    assert ended.value.code == 130
    assert out.exists() is kept
    if kept:
        assert "interrupted: the figures are of" in told.out
        assert (out / "profile.svg").exists()
    else:
        assert "nothing was kept" in told.err


def test_a_missing_process_is_told() -> None:
    with sleeper() as process:
        pid = process.pid
    with pytest.raises(ProfileError, match=f"no process {pid}"):
        record(Wish(pid), Path("py-spy"), SystemClock())


# Whom to sample


@pytest.mark.parametrize("url", ["", "localhost:none", "tcp://localhost", "http://:80"])
def test_a_url_without_host_or_port_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="expected a URL"):
        cpu_target.host_and_port(url)


def test_a_url_of_this_machine_leads_to_who_listens_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert cpu_target.pid_of_url(f"ws://localhost:{port}/v1/realtime") == os.getpid()
    with pytest.raises(NoAnswer, match=f"no server answers at 127.*nothing listens on port {port}"):
        cpu_target.pid_of_url(f"127.0.0.1:{port}")


def test_another_machine_is_refused() -> None:
    with pytest.raises(UsageError, match="another machine"):
        cpu_target.pid_of_url("wss://192.0.2.1/ws")


def test_a_parent_stands_for_its_workers() -> None:
    with sleeper() as process:
        assert cpu_target.first_of_family({process.pid, os.getpid()}) == os.getpid()


def test_docker_is_asked_for_a_containers_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProfileError, match="expected docker on the PATH"):
        cpu_target.pid_of_container("voice")
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\n[ "$5" = voice ] && echo {os.getpid()}\n', encoding="utf-8")
    docker.chmod(0o755)
    assert cpu_target.pid_of_container("voice") == os.getpid()
    with pytest.raises(UsageError, match="cannot inspect container other"):
        cpu_target.pid_of_container("other")


def test_a_container_that_does_not_run_is_told() -> None:
    with pytest.raises(UsageError, match="is not running"):
        cpu_target.pid_said("voice", 0, "0\n", "")


def test_exactly_one_target_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    for given_ in ([], ["--pid", "1", "--url", "localhost:1"]):
        with pytest.raises(SystemExit) as ended:
            main(["profile", "cpu", *given_])
        assert ended.value.code == 2
        assert "expected one of --pid" in capsys.readouterr().err


@pytest.mark.parametrize("length", ["0.5", "0", "90.5s", "2h", "long"])
def test_a_length_that_py_spy_cannot_count_is_refused(
    length: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["profile", "cpu", "--pid", str(os.getpid()), "--duration", length])
    assert ended.value.code == 2
    assert "expected --duration" in capsys.readouterr().err


# For real

BURN = "import time\ndef {name}(seconds):\n    end = time.process_time() + seconds\n" + (
    "    while time.process_time() < end:\n        sum(range(200))\n"
)

SERVER = """
import time
from faster_whisper.feature_extractor import stft
from silero_vad.utils_vad import get_speech_timestamps
from turndetect import classify
end = time.monotonic() + 40
print("ready", flush=True)
while time.monotonic() < end:
    stft(0.06)
    get_speech_timestamps(0.03)
    classify(0.01)
"""


@contextmanager
def busy_server(folder: Path) -> Iterator[int]:
    """A Python process whose functions are in files named like stages: 60, 30 and 10 %."""
    for name, function in (
        ("faster_whisper/feature_extractor.py", "stft"),
        ("silero_vad/utils_vad.py", "get_speech_timestamps"),
        ("turndetect.py", "classify"),
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(BURN.format(name=function), encoding="utf-8")
        if path.parent != folder:
            (path.parent / "__init__.py").touch()
    (folder / "busy.py").write_text(SERVER, encoding="utf-8")
    command = [sys.executable, str(folder / "busy.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


@pytest.mark.slow
def test_a_real_process_is_sampled_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with busy_server(tmp_path) as pid:
        try:
            wanted = ["--pid", str(pid), "--duration", "2s", "--rate", "100", "--out", str(out)]
            with pytest.raises(SystemExit) as ended:
                main(["profile", "cpu", *wanted, "--json"])
        finally:
            told = capsys.readouterr()
        if "was refused" in told.err:
            pytest.skip(f"py-spy may not look into processes here: {told.err}")
        assert ended.value.code == 0, told.err
        assert psutil.Process(pid).status() in (psutil.STATUS_RUNNING, psutil.STATUS_SLEEPING)
    result = json.loads(told.out)
    shares = {stage: time["share"] for stage, time in result["stages"].items()}
    assert shares["features"] > shares["VAD"] > shares["turn model"] > 0
    assert shares["features"] + shares["VAD"] + shares["turn model"] > 0.9
    assert result["headline"].startswith("features takes")
    assert result["processes"][0]["name"] == "busy.py"
    assert result["stages"]["features"]["threads"] > 0
    assert "busy.py" in (out / "profile.raw.txt").read_text(encoding="utf-8")
    ElementTree.parse(out / "profile.svg")
    scope = json.loads((out / "profile.speedscope.json").read_text(encoding="utf-8"))
    assert scope["profiles"][0]["endValue"] > 0


@pytest.mark.slow
def test_a_process_that_is_not_python_is_told_and_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sleeper() as process, pytest.raises(SystemExit) as ended:
        main(["profile", "cpu", "--pid", str(process.pid), "--out", str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert ended.value.code == 1
    assert not (tmp_path / "out").exists()
    if "was refused" in told:
        pytest.skip(f"py-spy may not look into processes here: {told}")
    assert "not a Python program" in told


def test_the_py_spy_beside_this_interpreter_is_found() -> None:
    assert py_spy_executable().parent == Path(sys.executable).parent
