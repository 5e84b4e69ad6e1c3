"""From folders to a verdict, and the measurements that fill them."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import psutil
import pytest
from typer.testing import CliRunner, Result

from rtvc.cli import build_app
from rtvc.clock import SystemClock
from rtvc.errors import RecordError, RtvcError, UsageError
from rtvc.instruments.gpu import GpuSample
from rtvc.instruments.gpu_processes import GpuProcess
from rtvc.profile.diagnose.command import diagnose as diagnose_command
from rtvc.profile.diagnose.comparison import compare
from rtvc.profile.diagnose.crowd import CROWD_FILE
from rtvc.profile.diagnose.finding import Cause
from rtvc.profile.diagnose.host import (
    Cpus,
    Family,
    HostFile,
    HostWatch,
    Machine,
    RoundTrips,
    _of_gpu,
)
from rtvc.profile.diagnose.procedure import Order, Procedure, local_pid, started
from rtvc.profile.diagnose.reading import HOST_FILE, phase_folders, read_evidence
from rtvc.profile.diagnose.text import markdown, to_json
from rtvc.profile.diagnose.verdict import diagnose
from rtvc.record import RunWriter, ServerTurnRow, TurnRow
from rtvc.slo import parse_objectives
from tests.servers import free_port, running_server
from tests.synthetic_run import a_connection, a_manifest, a_turn

SEGMENTS = {"vad_offset": 0.03, "vad_delay": 0.05, "endpoint_wait": 0.25, "transport": 0.005}


def unheard(line: str) -> None:
    """Progress that nobody listens to."""


def invoke(*arguments: str) -> Result:
    app = build_app(["profile", "diagnose"])
    return CliRunner().invoke(app, ["profile", "diagnose", *arguments])


def write_phase(
    folder: Path,
    speakers: int,
    felt: dict[str, float] | None = None,
    url: str = "ws://127.0.0.1:8000/v1/realtime",
    **manifest: object,
) -> Path:
    """A phase of three turns a speaker, alike but for the segments given."""
    segments = {**SEGMENTS, **(felt or {})}
    about = a_manifest(url=url, settings={"speakers": speakers}, **manifest)
    with RunWriter(folder, about) as writer:
        for speaker in range(speakers):
            writer.append(a_connection(speaker))
            for utterance in range(3):
                delay_s = sum(segments.values())
                turn = a_turn(
                    speaker,
                    utterance,
                    transcription_delay_s=delay_s,
                    response_latency_s=delay_s + 0.3,
                )
                writer.append(turn, *server_rows(turn, segments))
    return folder


def server_rows(turn: TurnRow, segments: dict[str, float]) -> list[ServerTurnRow]:
    ids = (turn.session_id or "", turn.item_id or "")
    return [
        ServerTurnRow(*ids, "transcript", name, 0.0, value, False)
        for name, value in segments.items()
    ]


def write_diagnosis(folder: Path, **more: object) -> Path:
    for name, speakers in (("one", 1), ("two", 2), ("many", 4)):
        write_phase(folder / name, speakers, **more)  # type: ignore[arg-type]
    return folder


# Reading.


def test_phases_are_read_in_the_order_in_which_they_were_run(tmp_path: Path) -> None:
    evidence = read_evidence(write_diagnosis(tmp_path))
    assert [(one.name, one.speakers) for one in evidence.phases] == [
        ("one", 1),
        ("two", 2),
        ("many", 4),
    ]
    assert evidence.phases[2].felt("endpoint_wait") == pytest.approx(0.25)


def test_a_single_run_is_a_phase_too(tmp_path: Path) -> None:
    diagnosis = diagnose(write_phase(tmp_path / "run", 3))
    assert diagnosis.causes == [Cause.HEALTHY]
    assert any("one phase only" in gap for gap in diagnosis.unseen)


def test_the_machine_is_read_beside_and_a_row_cut_off_left_out(tmp_path: Path) -> None:
    folder = write_phase(tmp_path / "run", 1)
    (folder / HOST_FILE).write_text(
        'at_s,source,name,value\n1.0,"host","host_cpus",4.0\n2.0,"host","host_cpu_ratio",0.5\n3.0,"ho'
    )
    phase = read_evidence(folder).phases[0]
    assert phase.cpus == 4.0
    assert phase.cpu_ratio == 0.5


@pytest.mark.parametrize(
    "text", ["one,two\n1,2\n", 'at_s,source,name,value\nx,"host","host_cpus",4.0\n']
)
def test_a_machine_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    folder = write_phase(tmp_path / "run", 1)
    (folder / HOST_FILE).write_text(text)
    with pytest.raises(RecordError, match=r"host\.csv"):
        read_evidence(folder)


def test_a_missing_final_is_infinite(tmp_path: Path) -> None:
    folder = write_phase(tmp_path / "run", 1)
    with (folder / "turns.csv").open() as file:
        header, *lines = file.read().splitlines()
    column = header.split(",").index("transcription_delay_s")
    cells = lines[0].split(",")
    cells[column] = ""
    (folder / "turns.csv").write_text("\n".join([header, ",".join(cells), *lines[1:]]) + "\n")
    phase = read_evidence(folder).phases[0]
    assert phase.finals_missing == 1
    assert math.isfinite(phase.delay_s or math.inf)


def test_targets_are_those_asked_for(tmp_path: Path) -> None:
    folder = write_diagnosis(tmp_path, felt={"a_stage_of_theirs": 0.5})
    assert diagnose(folder).exit_code == 3
    assert diagnose(folder, parse_objectives(["transcription_delay_p95<1s"])).exit_code == 0


def test_neither_a_run_nor_a_diagnosis_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"run\.json"):
        phase_folders(tmp_path)
    with pytest.raises(UsageError, match="not there"):
        phase_folders(tmp_path / "nothing")


# Telling.


def test_the_answer_comes_first_and_is_kept_in_both_files(tmp_path: Path) -> None:
    folder = write_diagnosis(tmp_path, felt={"endpoint_wait": 1.0})
    result = invoke(str(folder))
    assert result.exit_code == 99
    assert result.stdout.startswith("Transcripts take 1.08 s, 700 ms of it because the turn policy")
    kept = json.loads((folder / "diagnosis.json").read_text())
    assert kept["causes"] == ["endpoint-wait"]
    assert kept["findings"][0]["share_ms"] == pytest.approx(700)
    assert "**Fix:**" in (folder / "diagnosis.md").read_text()


def test_json_is_all_there_is_on_stdout(tmp_path: Path) -> None:
    result = invoke(str(write_diagnosis(tmp_path)), "--json")
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert said["schema_version"] == 1
    assert said["healthy"] is True
    assert said["folder"] == str(tmp_path)


def test_a_gain_that_came_and_one_that_did_not(tmp_path: Path) -> None:
    slow = diagnose(write_diagnosis(tmp_path / "a", felt={"endpoint_wait": 1.0}))
    quick = diagnose(write_diagnosis(tmp_path / "b"))
    better = compare(slow, quick)
    assert better.came is True
    assert better.gained_s == pytest.approx(0.75)
    assert compare(slow, slow).came is False
    assert compare(quick, slow).came is None
    assert "The gain came" in markdown(quick, better)
    assert to_json(quick, better)["comparison"]["came"] is True


def test_against_an_earlier_diagnosis_says_what_came_of_it(tmp_path: Path) -> None:
    slow = write_diagnosis(tmp_path / "a", felt={"endpoint_wait": 1.0})
    quick = write_diagnosis(tmp_path / "b")
    result = invoke(str(quick), "--against", str(slow))
    assert result.exit_code == 0
    assert "The gain came: 750 ms, expected 700 ms" in result.stdout


# Errors.


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["no-such-folder"], UsageError, "not there"),
        (["ftp://box"], UsageError, "expected a URL"),
        (["http://127.0.0.1:1", "--against", "no-such-folder"], UsageError, "not there"),
        (["http://127.0.0.1:1", "--slo", "nonsense"], UsageError, "nonsense"),
    ],
)
def test_what_cannot_be_diagnosed_is_said(
    tmp_path: Path, arguments: list[str], error: type[RtvcError], said: str
) -> None:
    result = invoke(*arguments, "--out", str(tmp_path / "out"))
    assert isinstance(result.exception, error)
    assert said in str(result.exception)


@pytest.mark.slow
def test_no_server_is_said_as_the_load_test_says_it(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = invoke(url, "--out", str(tmp_path / "out"), "--duration", "5")
    assert isinstance(result.exception, RtvcError)
    assert "no server answers" in str(result.exception)


def test_a_folder_of_another_server_is_not_mixed_with_this_one(tmp_path: Path) -> None:
    folder = write_diagnosis(tmp_path)
    with pytest.raises(UsageError, match="folder of its own"):
        Procedure(Order("ws://127.0.0.1:9999", folder), SystemClock(), unheard).run()


def test_people_speak_as_long_as_was_asked_however_slow_connecting_is(tmp_path: Path) -> None:
    url = "ws://127.0.0.1:8000/v1/realtime"
    with RunWriter(tmp_path / "one", a_manifest(url=url)) as writer:
        writer.append(a_connection(0, connection_s=4.2))
    procedure = Procedure(Order(url, tmp_path, speakers=1, duration_s=8), SystemClock(), unheard)
    assert procedure.seconds == 8
    assert not procedure.run()
    assert procedure.seconds == 8 + 5


def test_phases_that_are_there_are_not_run_again(tmp_path: Path) -> None:
    folder = write_diagnosis(tmp_path)
    told: list[str] = []
    assert not Procedure(Order("ws://127.0.0.1:8000", folder), SystemClock(), told.append).run()
    assert told == ["one: already measured", "two: already measured", "many: already measured"]


@pytest.mark.parametrize(
    ("speakers", "phases"),
    [
        (1, [("one", 1)]),
        (2, [("one", 1), ("two", 2)]),
        (9, [("one", 1), ("two", 2), ("many", 9)]),
    ],
)
def test_no_number_of_speakers_is_tried_twice(
    tmp_path: Path, speakers: int, phases: list[tuple[str, int]]
) -> None:
    assert Order("ws://box", tmp_path, speakers=speakers).phases == phases


@pytest.mark.parametrize("command", ["", "'unclosed", "no-such-program --port 1"])
def test_a_command_that_starts_nothing_is_said(tmp_path: Path, command: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with (
        pytest.raises(UsageError),
        started(command, url, tmp_path / "server.log", SystemClock(), unheard),
    ):
        pass


def test_a_server_that_ends_at_once_is_told_in_its_own_words(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    command = f"{sys.executable} -c 'raise SystemExit(\"no model\")'"
    with (
        pytest.raises(RtvcError, match="no model"),
        started(command, url, tmp_path / "server.log", SystemClock(), unheard),
    ):
        pass


@pytest.mark.slow
def test_a_started_server_is_ready_inside_and_gone_afterwards(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = f"{sys.executable} -m http.server {port} --bind 127.0.0.1"
    with started(command, url, tmp_path / "server.log", SystemClock(), unheard) as pid:
        assert httpx.get(url, trust_env=False).status_code == 200
        assert local_pid(url) == pid
        with (
            pytest.raises(UsageError, match="stop the one"),
            started(command, url, tmp_path / "server.log", SystemClock(), unheard),
        ):
            pass
    assert not psutil.pid_exists(pid)


# The machine.


def test_cpu_time_of_a_family_counts_from_its_first_reading_on() -> None:
    busy = "import subprocess, sys\nwhile True: pass"
    child = subprocess.Popen([sys.executable, "-c", busy])
    try:
        family = Family(child.pid)
        assert family.read()[1] == 0.0
        used_s = 0.0
        for _ in range(200):
            threading.Event().wait(0.02)
            used_s += family.read()[1]
            if used_s > 0.05:
                break
        assert used_s > 0.05
        assert family.members == {child.pid}
    finally:
        child.kill()
        child.wait()
    assert family.read() == ([], 0.0)


def test_a_server_started_from_here_is_not_counted_as_the_load_test() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        family = Family(os.getpid())
        family.read()
        assert child.pid in family.members
        family.read(frozenset({child.pid}))
        assert child.pid not in family.members
    finally:
        child.kill()
        child.wait()


def test_busy_cpus_are_a_share() -> None:
    cpus = Cpus()
    assert cpus.busy_ratio() is None
    threading.Event().wait(0.1)
    ratio = cpus.busy_ratio()
    assert ratio is None or 0 <= ratio <= 1


def test_nobody_there_is_absent_and_not_zero() -> None:
    trips = RoundTrips(f"http://127.0.0.1:{free_port()}", SystemClock())
    assert trips.tcp_s() is None
    assert trips.http_s() is None


def test_the_watch_writes_what_the_reader_reads(tmp_path: Path) -> None:
    clock = SystemClock()
    folder = write_phase(tmp_path / "run", 1)
    trips = RoundTrips(f"http://127.0.0.1:{free_port()}", clock)
    machine = Machine(clock, trips, os.getpid(), os.getpid())
    # Other tests' servers are children of this process.
    family = 1 + len(psutil.Process().children(recursive=True))
    with HostWatch(machine, clock) as watch:
        assert not watch.begun
        watch.begin(folder / HOST_FILE)
        for _ in range(400):
            if "server_cpu_cores" in (folder / HOST_FILE).read_text():
                break
            threading.Event().wait(0.02)
    phase = read_evidence(folder).phases[0]
    assert phase.cpus == float(len(Cpus().usable))
    assert (phase.host.of("server_memory_bytes").mean or 0) > 1e6
    assert phase.host.of("server_processes").minimum == float(family)
    assert not phase.round_trip
    assert len(json.loads((folder / CROWD_FILE).read_text())) <= 3


def test_text_is_quoted_and_numbers_are_not(tmp_path: Path) -> None:
    file = HostFile(tmp_path / "host.csv")
    file.append(1.5, "host", {"host_cpus": 2.0})
    file.close()
    assert (tmp_path / "host.csv").read_text() == (
        'at_s,source,name,value\n1.5,"host","host_cpus",2.0\n'
    )


def gpu(*processes: GpuProcess) -> GpuSample:
    absent = dict.fromkeys(GpuSample.__dataclass_fields__)
    known = {"at_s": 0.0, "index": 0, "busy_ratio": 0.5, "sm_clock_mhz": 1410}
    reasons = {"throttle_reasons": ("thermal slowdown (hardware)",), "processes": processes}
    return GpuSample(**{**absent, **known, **reasons})  # type: ignore[arg-type]


def test_a_gpu_tells_what_others_hold_of_it() -> None:
    ours, theirs = GpuProcess(1, "python", 3_000), GpuProcess(2, "train", 5_000)
    told = _of_gpu(gpu(ours, theirs), frozenset({1}))
    assert told["other_memory_bytes"] == 5_000
    assert told["throttled"] == 1.0
    assert told["sm_clock_hz"] == pytest.approx(1.41e9)
    assert told["max_sm_clock_hz"] is None


def test_process_numbers_of_another_world_accuse_nobody() -> None:
    strange = GpuProcess(4711, None, 5_000)
    assert _of_gpu(gpu(strange), frozenset({1}))["other_memory_bytes"] is None
    assert _of_gpu(gpu(strange), frozenset())["other_memory_bytes"] is None


# For real.


@pytest.mark.slow
@pytest.mark.model
def test_a_healthy_server_is_measured_and_not_accused(tmp_path: Path) -> None:
    if (os.getloadavg()[0] / (os.cpu_count() or 1)) > 0.8:
        pytest.skip("this machine is too busy to say that a server on it is healthy")
    folder = tmp_path / "out"
    with running_server() as url:
        result = invoke(url, "--out", str(folder), "--duration", "8", "--speakers", "2", "--json")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    said = json.loads(result.stdout)
    assert [one["name"] for one in said["phases"]] == ["one", "two"]
    host = read_evidence(folder).phases[1].host
    assert (host.of("server_cpu_cores").mean or 0) > 0
    assert host.of("http_round_trip_s")
    if said["void"]:
        pytest.skip("the load generator was late: this machine is too busy")
    assert said["causes"] == ["healthy"], (folder / "diagnosis.md").read_text()


@pytest.mark.slow
@pytest.mark.model
def test_an_interrupted_diagnosis_keeps_what_was_measured_and_goes_on_later(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with running_server() as url:
        command = [sys.executable, "-m", "rtvc", "profile", "diagnose", url]
        flags = ["--duration", "30", "--speakers", "1", "--out", str(folder)]
        child = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE)
        try:
            for _ in range(600):
                turns = folder / "one" / "turns.csv"
                if turns.exists() and len(turns.read_text().splitlines()) > 1:
                    break
                threading.Event().wait(0.1)
            child.send_signal(signal.SIGTERM)
            said, _ = child.communicate(timeout=90)
        finally:
            child.kill()
            child.wait()
    assert child.returncode == 130
    assert said.startswith(b"Interrupted, and so not judged")
    assert b"Healthy" not in said
    assert b"Healthy" not in invoke(str(folder)).stdout_bytes
    assert (folder / "diagnosis.json").exists()


def test_the_command_is_documented() -> None:
    assert "Exit code" in (diagnose_command.__doc__ or "")
