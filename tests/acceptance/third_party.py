"""The same scenario against other people's servers and ours, on one model folder.

    python -m tests.acceptance.third_party --whisperlive-python PY --realtimestt-python PY
        [--model-folder FOLDER] [--speakers 1,2,4] [--seconds 60] [--out reports/third_party]

Each PY is the interpreter of an environment in which that server is installed: whisper-live with
what it imports; RealtimeSTT with silero-vad, webrtcvad-wheels, halo, fastapi and uvicorn, whose
distribution holds the multi-user server as `example_fastapi_server`. A server whose interpreter is
missing is skipped by name. Server and load generator share this machine, which should do nothing
else meanwhile. Every case has a fresh server; one that is finished is not run again, so the command
resumes where it stopped. Of each run the manifest and the summary are kept.
"""

import argparse
import contextlib
import json
import math
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import psutil

from rtvc.clock import SystemClock
from rtvc.record import MANIFEST_FILE
from rtvc.slo import shown
from rtvc.summary import SUMMARY_FILE, Metric, Summary, load_summary
from tests.servers import free_port

SELF_TEST = Path(__file__).parents[2] / "rtvc" / "stt" / "selftest"
CASE_FILE = "case.json"
START_S = 180.0
SESSIONS = "16"

WHISPERLIVE_START = """
import sys
from whisper_live.server import TranscriptionServer
TranscriptionServer().run(
    "127.0.0.1", port=int(sys.argv[1]), backend="faster_whisper",
    faster_whisper_custom_model_path=sys.argv[2], single_model=True,
    max_clients=16, max_connection_time=3600,
)
"""
"""As its own command starts it with a model of one's own: one model for all."""


@dataclass(frozen=True)
class Server:
    """A server to be measured."""

    name: str
    """Its row, and the beginning of its folders."""
    package: str
    """Distribution whose version is told."""
    command: Callable[[str, int, Path], list[str]]
    """(python, port, model folder) → how it is started."""
    is_ready: Callable[[int], bool]
    """Whether it takes callers, by its port."""
    path: str
    """Of its endpoint."""
    flags: tuple[str, ...]
    """More of `rtvc loadtest`."""


def _rtvc(python: str, port: int, model: Path) -> list[str]:
    return [
        *(python, "-m", "rtvc", "serve", "--model", str(model), "--port", str(port)),
        *("--max-sessions", SESSIONS),
    ]


def _whisperlive(python: str, port: int, model: Path) -> list[str]:
    return [python, "-c", WHISPERLIVE_START, str(port), str(model)]


def _realtimestt(python: str, port: int, model: Path) -> list[str]:
    return [
        *(python, "-m", "example_fastapi_server.server", "--host", "127.0.0.1"),
        *("--port", str(port), "--model", str(model), "--realtime-model", str(model)),
        *("--device", "cpu", "--language", "en"),
        *("--max-sessions", SESSIONS, "--max-active-speakers", SESSIONS),
    ]


def _says(url: str, field: str, value: object) -> bool:
    with contextlib.suppress(httpx.HTTPError, ValueError):
        return bool(httpx.get(url, timeout=2, trust_env=False).json().get(field) == value)
    return False


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


SERVERS = (
    Server(
        "rtvc",
        "rtvc",
        _rtvc,
        lambda port: _says(f"http://127.0.0.1:{port}/readyz", "state", "ready"),
        "/v1/realtime",
        ("--protocol", "openai-realtime", "--transcription"),
    ),
    Server(
        "whisperlive",
        "whisper-live",
        _whisperlive,
        _listens,
        "/",
        ("--protocol", "whisperlive"),
    ),
    Server(
        "realtimestt",
        "RealtimeSTT",
        _realtimestt,
        lambda port: _says(f"http://127.0.0.1:{port}/health", "ready", True),
        "/ws/transcribe",
        ("--protocol", "realtimestt"),
    ),
)


@dataclass(frozen=True)
class Case:
    """What was run, beside the run's own files."""

    server: str
    """Its name."""
    version: str
    """Of its package."""
    speakers: int
    """At once."""
    model: str
    """Name of the model's folder."""
    start_s: float
    """From starting the process to its being ready."""
    server_cores: float
    """CPU seconds of the server per second of the run, start to end, its children included."""
    exit_code: int
    """Of `rtvc loadtest`."""


@contextlib.contextmanager
def started(
    server: Server, python: str, model: Path, log: Path
) -> Iterator[tuple[int, psutil.Process, float]]:
    """Its port, its process and how long it took to be ready."""
    clock, port = SystemClock(), free_port()
    began_s = clock.now()
    with log.open("wb") as output:
        child = subprocess.Popen(
            server.command(python, port, model), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while not server.is_ready(port):
                if child.poll() is not None or clock.now() > began_s + START_S:
                    raise SystemExit(f"{server.name} did not start: {_tail(log)}")
                time.sleep(0.2)
            yield port, psutil.Process(child.pid), clock.now() - began_s
        finally:
            _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    family = [psutil.Process(child.pid), *_children(child.pid)] if child.poll() is None else []
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(15)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    child.wait()


def _children(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def _tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-15:])


def _cpu_s(process: psutil.Process) -> float:
    total = 0.0
    for each in [process, *_children(process.pid)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system
    return total


def version_of(python: str, package: str) -> str:
    """Of an installed distribution, or of our own tree."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def run_case(
    server: Server, python: str, model: Path, speakers: int, seconds: int, folder: Path
) -> None:
    """One load test against a fresh server; keeps what it says."""
    with tempfile.TemporaryDirectory() as scratch:
        run, log = Path(scratch) / "run", Path(scratch) / "server.log"
        with started(server, python, model, log) as (port, process, start_s):
            used_s = _cpu_s(process)
            code = _loadtest(server, port, speakers, seconds, run)
            used_s = _cpu_s(process) - used_s
        folder.mkdir(parents=True, exist_ok=True)
        for name in (MANIFEST_FILE, SUMMARY_FILE):
            shutil.copy(run / name, folder / name)
        cores = used_s / (load_summary(run).duration_s or 1.0)
        version = version_of(python, server.package)
        case = Case(
            server.name, version, speakers, model.name, round(start_s, 2), round(cores, 2), code
        )
        (folder / CASE_FILE).write_text(json.dumps(asdict(case), indent=2) + "\n", "utf-8")


def _loadtest(server: Server, port: int, speakers: int, seconds: int, run: Path) -> int:
    command = [
        *(sys.executable, "-m", "rtvc", "loadtest", f"ws://127.0.0.1:{port}{server.path}"),
        *("--scenario", "dictation", "--speakers", str(speakers), "--duration", str(seconds)),
        *("--grace", "20", "--seed", "7", "--out", run.name, *server.flags),
    ]
    # From beside it, so that the record names no folder of this machine.
    done = subprocess.run(command, cwd=run.parent, check=False)
    if not (run / SUMMARY_FILE).exists():
        raise SystemExit(f"the load test against {server.name} left no summary")
    return done.returncode


# The table.

HEAD = (
    "server",
    "speakers",
    "utterances",
    "connection, max",
    "first text p50",
    "transcription delay p50",
    "p95",
    "max",
    "finals missing",
    "premature",
    "WER",
    "server cores",
    "generator lag p99",
)


def table(folders: Sequence[Path], skipped: Sequence[str]) -> str:
    """Markdown, one row a case."""
    loaded = [(_case(folder), load_summary(folder)) for folder in folders]
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| {' | '.join(_cells(case, summary))} |" for case, summary in loaded]
    lines += [f"\n{name}: skipped, no interpreter was given." for name in skipped]
    return "\n".join(lines) + "\n"


def _case(folder: Path) -> Case:
    return Case(**json.loads((folder / CASE_FILE).read_text("utf-8")))


def _cells(case: Case, summary: Summary) -> list[str]:
    delay, spoken = summary.metrics["transcription_delay"], summary.utterances
    accuracy, lag_s = summary.accuracy, summary.generator.lag_p99
    share = spoken.premature_share
    return [
        f"{case.server} {case.version}",
        str(case.speakers),
        str(spoken.spoken),
        _seconds(summary.metrics["connection"].max),
        _quantile(summary.metrics["time_to_first_partial"], "p50"),
        _quantile(delay, "p50"),
        _quantile(delay, "p95"),
        _seconds(delay.max_observed),
        str(spoken.finals_missing),
        "not observable" if spoken.cut_utterances is None else shown(share or 0.0, "%"),
        "–" if accuracy.wer is None else shown(accuracy.wer, "%"),
        f"{case.server_cores:.2f}",
        f"{_seconds(lag_s)}{'' if summary.generator.valid else ' (void)'}",
    ]


def _quantile(metric: Metric, name: str) -> str:
    """The largest where the samples do not support it."""
    value: float | None = getattr(metric, name)
    if value is not None or metric.max is None or math.isinf(metric.max):
        return _seconds(metric.max if value is None else value)
    return f"max {_seconds(metric.max)}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else shown(value, "s")


def intro(model: Path, seconds: int) -> str:
    kind = "the self-test model" if model.resolve() == SELF_TEST.resolve() else model.name
    return (
        "# Other people's servers and ours\n\n"
        f"Scenario dictation, transcription, {seconds} s measured, on {kind} (one folder for all), "
        "server and load generator on one machine; each server with its own defaults, spoken to as "
        "its own clients do. WhisperLive's finals come from repetition: see "
        "docs/loadtest/protocols.md.\n\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--whisperlive-python", default=None)
    parser.add_argument("--realtimestt-python", default=None)
    parser.add_argument("--model-folder", type=Path, default=SELF_TEST)
    parser.add_argument("--speakers", default="1,2,4")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("reports/third_party"))
    wanted = parser.parse_args()
    pythons = {
        "rtvc": sys.executable,
        "whisperlive": wanted.whisperlive_python,
        "realtimestt": wanted.realtimestt_python,
    }
    folders = []
    for server in SERVERS:
        python = pythons[server.name]
        for speakers in map(int, wanted.speakers.split(",")):
            folder = wanted.out / f"{server.name}-{speakers}"
            if python is not None and not (folder / CASE_FILE).exists():
                sys.stderr.write(f"{server.name} with {speakers} speakers\n")
                run_case(server, python, wanted.model_folder, speakers, wanted.seconds, folder)
            if (folder / CASE_FILE).exists():
                folders.append(folder)
    skipped = [s.name for s in SERVERS if pythons[s.name] is None]
    wanted.out.mkdir(parents=True, exist_ok=True)
    told = intro(wanted.model_folder, wanted.seconds) + table(folders, skipped)
    (wanted.out / "table.md").write_text(told, "utf-8")
    sys.stdout.write(told)


if __name__ == "__main__":
    main()
