"""The doctor looks at what runs: a process, the driver of the GPU, a server."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from rtvc.clock import FakeClock, SystemClock
from rtvc.errors import UsageError
from rtvc.profile.doctor.driver import GpuFacts, judge_gpu, read_gpu
from rtvc.profile.doctor.findings import (
    exit_code,
)
from rtvc.profile.doctor.process import ProcessFacts, judge_process, read_process
from rtvc.profile.doctor.server import Answer, ServerFacts, judge_server, read_server
from tests.doctor_folders import Files, kinds
from tests.servers import free_port

# A process

WELL = ProcessFacts(
    pid=1,
    name="python",
    threads=12,
    open_files=40,
    file_limit=65536,
    resident_bytes=2_000_000_000,
    memory_limit_bytes=16_000_000_000,
    children_bytes=(1_500_000_000, 20_000_000),
    ptrace_scope=1,
    may_trace=True,
    cpus=8,
    cpu_limit=None,
    pools={"OMP_NUM_THREADS": "4", "KMP_BLOCKTIME": "0"},
    libraries=("libiomp5", "libopenblas"),
)


def test_a_well_process_is_praised() -> None:
    assert {finding.severity for finding in judge_process(WELL)} == {"good"}


ILL_PROCESSES: list[tuple[dict[str, Any], str, str]] = [
    ({"open_files": 1000, "file_limit": 1024}, "descriptors", "bad"),
    ({"open_files": 900, "file_limit": 1024}, "descriptors", "warning"),
    ({"file_limit": 1024}, "descriptor-limit", "note"),
    ({"threads": 400}, "threads", "warning"),
    ({"resident_bytes": 15_900_000_000}, "memory", "bad"),
    ({"resident_bytes": 13_500_000_000}, "memory", "warning"),
    ({"children_bytes": (2_000_000_000, 2_000_000_000)}, "model-processes", "warning"),
    ({"may_trace": False}, "ptrace", "note"),
    ({"cpu_limit": 2.0}, "cpu-limit", "warning"),
    ({"cpu_limit": 2.0, "pools": {"KMP_BLOCKTIME": "0"}}, "cpu-limit", "warning"),
    ({"cpu_limit": 2.0, "pools": None}, "cpu-limit", "note"),
    ({"pools": {"OMP_WAIT_POLICY": "ACTIVE"}}, "spinning-threads", "warning"),
    ({"pools": {"OMP_NUM_THREADS": "4"}}, "spinning-threads", "note"),
    ({"pools": {"KMP_BLOCKTIME": "0"}}, "spinning-threads", "note"),
]


@pytest.mark.parametrize(("changes", "kind", "severity"), ILL_PROCESSES)
def test_an_ill_process_is_told(changes: dict[str, Any], kind: str, severity: str) -> None:
    findings = judge_process(replace(WELL, **changes))
    assert (kind, severity) in kinds(findings)
    others = {one.id for one in findings if one.severity != "good"} - {kind}
    assert others <= {"spinning-threads"}


def test_what_the_system_does_not_tell_is_not_judged() -> None:
    assert judge_process(ProcessFacts(pid=1, name="x")) == []


def test_this_process_is_read() -> None:
    read = read_process(os.getpid())
    assert read.threads is not None
    assert read.threads >= 1
    assert read.open_files is not None
    assert read.resident_bytes is not None
    assert {one.severity for one in judge_process(read)} <= {"good", "note", "warning"}


def test_a_process_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="expected the id of a running process"):
        read_process(2**22 + 5)


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[Files], Path]:
    def build(files: Files) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return build


def test_limits_of_control_groups_are_read_from_within_to_without(
    machine: Callable[[Files], Path],
) -> None:
    pid = os.getpid()
    root = machine(
        {
            f"proc/{pid}/cgroup": "0::/pod/box\n",
            f"proc/{pid}/maps": "7f00-7f01 r-xp 0 0:0 1 /lib/libiomp5-5f8ee9.so\n",
            "proc/self/status": "Name:\tx\nCapEff:\t0000000000000000\n",
            "proc/sys/kernel/yama/ptrace_scope": "1\n",
            "sys/fs/cgroup/pod/box/cpu.max": "max 100000\n",
            "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/pod/box/memory.max": "1000000\n",
            "sys/fs/cgroup/memory.max": "max\n",
        }
    )
    read = read_process(pid, root)
    assert (read.cpu_limit, read.memory_limit_bytes) == (1.5, 1_000_000)
    assert (read.ptrace_scope, read.may_trace) == (1, False)
    assert read.libraries == ("libiomp5",)


@pytest.mark.parametrize(
    ("capabilities", "scope", "may"),
    [
        ("0000000000080000", 2, True),
        ("0000000000080000", 3, False),
        ("0", 0, True),
        ("0", 1, False),
    ],
)
def test_who_may_attach(
    machine: Callable[[Files], Path], capabilities: str, scope: int, may: bool
) -> None:
    status = {
        "proc/self/status": f"CapEff:\t{capabilities}\n",
        "proc/sys/kernel/yama/ptrace_scope": str(scope),
    }
    assert read_process(os.getpid(), machine(status)).may_trace is may


def test_only_settings_of_thread_pools_are_taken_from_an_environment() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "SECRET": "x"}  # noqa: TID251
    program = [sys.executable, "-c", "print(flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, stdin=pipe, stdout=pipe, env=environment) as child:
        assert child.stdout is not None
        try:
            # Before its first word it may still be us.
            child.stdout.readline()
            pools = read_process(child.pid).pools
        finally:
            child.communicate(b"\n")
    assert pools is not None
    assert pools["OMP_NUM_THREADS"] == "2"
    assert "SECRET" not in pools


# The GPU's driver


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        (GpuFacts(absent="no NVIDIA driver is here"), ("no-gpu", "note")),
        (GpuFacts("470.1", (11, 4), ("Tesla T4",)), ("gpu-driver", "bad")),
        (GpuFacts("580.1", (13, 0), ("L4",)), ("gpu-driver", "good")),
        (GpuFacts(None, None, ("L4",)), ("gpu-driver", "good")),
    ],
)
def test_a_driver_is_judged_by_the_cuda_it_runs(facts: GpuFacts, kind: tuple[str, str]) -> None:
    assert kinds(judge_gpu(facts)) == {kind}


def test_a_machine_says_whether_it_has_a_gpu() -> None:
    read = read_gpu()
    assert (read.absent is None) == bool(read.devices)


# A server


def answers(**changes: Answer) -> dict[str, Answer]:
    engine = {"id": "base.en", "sharing": "shared", "calibration_s": 3.1}
    said = {
        "/healthz": Answer(200, {"status": "ok"}),
        "/health": Answer(404),
        "/readyz": Answer(200, {"state": "ready", "notice": None}),
        "/v1/models": Answer(200, {"data": [engine, {"id": "espeak"}]}),
    }
    return {**said, **{f"/{name.replace('_', '/')}": answer for name, answer in changes.items()}}


def server(url: str = "http://127.0.0.1:8000", median_s: float = 0.004, **changes: Answer) -> Any:
    return ServerFacts(url, answers(**changes), median_s=median_s)


def test_a_well_server_is_praised() -> None:
    findings = judge_server(server())
    assert kinds(findings) == {
        ("health", "good"),
        ("slow-answer", "good"),
        ("models-shared", "good"),
    }


def models(**said: Any) -> Answer:
    return Answer(
        200, {"data": [{"id": "base.en", "sharing": "shared", "calibration_s": 1, **said}]}
    )


ILL_SERVERS: list[tuple[ServerFacts, str, str]] = [
    (ServerFacts("http://x", {}, trouble="refused"), "no-answer", "bad"),
    (server(v1_models=models(sharing="per-session")), "per-session-models", "bad"),
    (server(v1_models=models(calibration_s=None)), "uncalibrated", "note"),
    (server(healthz=Answer(404), readyz=Answer(404)), "no-health", "warning"),
    (server(readyz=Answer(404)), "no-health", "note"),
    (server(readyz=Answer(503, {"detail": "model: 40 %"})), "not-ready", "note"),
    (server(readyz=Answer(200, {"notice": "PocketSphinx stands in"})), "notice", "note"),
    (server(median_s=0.9), "slow-answer", "warning"),
    (server("http://box:8000"), "no-microphone", "warning"),
    (ServerFacts("https://box", answers(), untrusted=True), "tls-untrusted", "note"),
]


@pytest.mark.parametrize(("facts", "kind", "severity"), ILL_SERVERS)
def test_an_ill_server_is_told(facts: ServerFacts, kind: str, severity: str) -> None:
    findings = judge_server(facts)
    assert {one.id for one in findings if one.severity != "good"} == {kind}
    assert (kind, severity) in kinds(findings)


@pytest.mark.parametrize("body", [[], {"data": None}, {"data": [1, None]}, "x", None])
def test_models_in_another_shape_are_nothing(body: Any) -> None:
    findings = judge_server(server(v1_models=Answer(200, body)))
    assert {one.id for one in findings} == {"health", "slow-answer"}


def test_a_port_where_nobody_listens_is_bad() -> None:
    read = read_server(f"ws://127.0.0.1:{free_port()}/ws", FakeClock())
    assert kinds(judge_server(read)) == {("no-answer", "bad")}


@pytest.mark.slow
def test_our_own_server_is_well(server_url: str) -> None:
    httpx.get(f"{server_url}/healthz").raise_for_status()
    findings = judge_server(read_server(server_url, SystemClock()))
    assert ("models-shared", "good") in kinds(findings)
    assert ("health", "good") in kinds(findings)
    assert exit_code(findings) == 0


class Refused(Exception):
    """What the fake drivers raise."""


def refuse(*given: object) -> None:
    raise Refused("not here")


def test_a_driver_that_is_not_there_is_a_note() -> None:
    nvml = SimpleNamespace(NVMLError=Refused, nvmlInit=refuse)
    (found,) = judge_gpu(read_gpu(nvml))
    assert (found.id, found.severity, found.evidence) == ("no-gpu", "note", "NVML says: not here")


def test_a_driver_is_asked_and_let_go() -> None:
    ended: list[bool] = []
    nvml = SimpleNamespace(
        NVMLError=Refused,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: ended.append(True),
        nvmlSystemGetDriverVersion=lambda: b"470.82",
        nvmlSystemGetCudaDriverVersion_v2=lambda: 11040,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: refuse() if handle else "Tesla T4",
    )
    (found,) = judge_gpu(read_gpu(nvml))
    assert (found.id, found.severity) == ("gpu-driver", "bad")
    assert found.evidence == "driver 470.82, CUDA 11.4: Tesla T4, unnamed"
    assert ended == [True]
