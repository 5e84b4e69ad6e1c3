"""The machine beside a phase: whose CPU, whose memory, how far away, once a second."""

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TextIO
from urllib.parse import urlsplit

import psutil

from rtvc.clock import Clock
from rtvc.instruments.gpu import GpuSample, GpuSampler, NoGpu, open_gpus
from rtvc.instruments.process import ProcessSample, sample_process, usable_cpus
from rtvc.profile.cpu.target import host_and_port
from rtvc.profile.diagnose.crowd import Crowd, write_crowd
from rtvc.profile.diagnose.reading import HOST_COLUMNS
from rtvc.profile.target import http_address

EVERY_S = 1.0
LOOK_EVERY_S = 4.0
"""Everybody who runs: a look takes a hundredth of a second."""
TIMEOUT_S = 2.0
"""A round trip that takes longer is written down as this."""

Figures = dict[str, float]


class Family:
    """A process with all its descendants, from reading to reading."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._cpu_s: dict[tuple[int, float], float] = {}
        self.members: frozenset[int] = frozenset()
        """Ids at the last reading."""

    def read(self, without: frozenset[int] = frozenset()) -> tuple[list[ProcessSample], float]:
        """Who is alive, and CPU seconds used since the last reading; some belong to others."""
        pids = [pid for pid in self._pids() if pid not in without]
        found = [sample for pid in pids if (sample := sample_process(pid)) is not None]
        used_s, known = 0.0, dict[tuple[int, float], float]()
        for sample in found:
            if sample.cpu_s is None:
                continue
            key = (sample.pid, sample.started_at_s)
            # The first reading of all only says where to count from.
            used_s += sample.cpu_s - self._cpu_s.get(key, 0.0 if self._cpu_s else sample.cpu_s)
            known[key] = sample.cpu_s
        self._cpu_s = known
        self.members = frozenset(sample.pid for sample in found)
        return found, max(0.0, used_s)

    def _pids(self) -> list[int]:
        try:
            process = psutil.Process(self.pid)
            return [self.pid, *(child.pid for child in process.children(recursive=True))]
        except psutil.Error:
            return []


@dataclass
class Cpus:
    """Those this process may use: how busy they were since the last reading."""

    usable: frozenset[int] = field(default_factory=lambda: _usable())
    """Their numbers."""
    _last: tuple[float, float] | None = None

    def busy_ratio(self) -> float | None:
        """0 to 1; None at the first reading."""
        busy_s = total_s = 0.0
        for number, times in enumerate(psutil.cpu_times(percpu=True)):
            if number in self.usable:
                idle_s = times.idle + getattr(times, "iowait", 0.0)
                # What a guest system used is in user time already.
                guest_s = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
                total_s += sum(times) - guest_s
                busy_s += sum(times) - guest_s - idle_s
        last, self._last = self._last, (busy_s, total_s)
        if last is None or total_s <= last[1]:
            return None
        return min(1.0, max(0.0, (busy_s - last[0]) / (total_s - last[1])))


def _usable() -> frozenset[int]:
    with suppress(AttributeError, psutil.Error):
        return frozenset(psutil.Process().cpu_affinity() or ())
    return frozenset(range(usable_cpus()))


class RoundTrips:
    """How long the server takes to answer nothing, over one connection; and to accept one."""

    def __init__(self, url: str, clock: Clock, *, insecure: bool = False) -> None:
        self._address = host_and_port(url)
        self._secure = urlsplit(http_address(url, "/")).scheme == "https"
        self._insecure = insecure
        self._clock = clock
        self._path = "/healthz"
        self._connection: http.client.HTTPConnection | None = None

    def http_s(self) -> float | None:
        """Seconds; None: a connection had to be made first, or there is no answer."""
        fresh = self._connection is None
        begun_s = self._clock.now()
        try:
            self._ask()
        except TimeoutError:
            self.close()
            return TIMEOUT_S
        except (OSError, http.client.HTTPException):
            self.close()
            return None
        return None if fresh else self._clock.now() - begun_s

    def _ask(self) -> None:
        if self._connection is None:
            self._connection = self._open()
        self._connection.request("GET", self._path)
        answer = self._connection.getresponse()
        answer.read(1 << 16)
        if answer.status == http.client.NOT_FOUND:
            self._path = "/"

    def _open(self) -> http.client.HTTPConnection:
        if not self._secure:
            return http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
        trust = ssl.create_default_context()
        if self._insecure:
            trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection(*self._address, timeout=TIMEOUT_S, context=trust)

    def tcp_s(self) -> float | None:
        begun_s = self._clock.now()
        try:
            with socket.create_connection(self._address, timeout=TIMEOUT_S):
                return self._clock.now() - begun_s
        except TimeoutError:
            return TIMEOUT_S
        except OSError:
            return None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Machine:
    """All readings of one instant."""

    def __init__(
        self, clock: Clock, trips: RoundTrips, server_pid: int | None, generator_pid: int
    ) -> None:
        self._clock = clock
        self._trips = trips
        self._cpus = Cpus()
        self._server = None if server_pid is None else Family(server_pid)
        self._generator = Family(generator_pid)
        gpus = open_gpus(clock)
        self._gpus: GpuSampler | None = None if isinstance(gpus, NoGpu) else gpus
        self._last_s: float | None = None
        self.crowd = Crowd(clock)
        """Who else is there."""

    def close(self) -> None:
        self._trips.close()
        if self._gpus is not None:
            self._gpus.close()

    def look_around(self) -> None:
        """Take note of who else uses the CPUs."""
        own = frozenset[int]() if self._server is None else self._server.members
        self.crowd.read(own | self._generator.members)

    def read(self) -> tuple[Figures, Figures]:
        """Of the host, and of its GPUs."""
        now_s = self._clock.now()
        passed_s = None if self._last_s is None else now_s - self._last_s
        self._last_s = now_s
        host: dict[str, float | None] = {
            "host_cpus": len(self._cpus.usable),
            "host_cpu_ratio": self._cpus.busy_ratio(),
            "host_memory_available_bytes": psutil.virtual_memory().available,
            "host_swap_used_bytes": psutil.swap_memory().used,
            **self._shares(passed_s),
            "http_round_trip_s": self._trips.http_s(),
            "tcp_connect_s": self._trips.tcp_s(),
        }
        busy = host["host_cpu_ratio"]
        if busy is not None and passed_s is not None:
            known = sum(host.get(f"{who}_cpu_cores") or 0.0 for who in ("server", "generator"))
            host["other_cpu_cores"] = max(0.0, busy * len(self._cpus.usable) - known)
        return _told(host), self._gpu_figures()

    def _shares(self, passed_s: float | None) -> Mapping[str, float | None]:
        figures: dict[str, float | None] = {}
        if self._server is not None:
            alive, server_s = self._server.read()
            if alive:
                figures |= _of_server(alive)
                figures["server_cpu_cores"] = server_s / passed_s if passed_s else None
        # A server that was started from here descends from here, too.
        own = frozenset[int]() if self._server is None else self._server.members
        used_s = self._generator.read(own)[1]
        figures["generator_cpu_cores"] = used_s / passed_s if passed_s else None
        return figures

    def _gpu_figures(self) -> Figures:
        if self._gpus is None:
            return {}
        own = frozenset() if self._server is None else self._server.members
        figures: Figures = {}
        for sample in self._gpus.sample():
            told = _told(_of_gpu(sample, own))
            figures |= {f"gpu{sample.index}_{name}": value for name, value in told.items()}
        return figures


def _told(figures: Mapping[str, float | None]) -> Figures:
    return {name: float(value) for name, value in figures.items() if value is not None}


def _of_server(alive: list[ProcessSample]) -> dict[str, float | None]:
    def total(of: Callable[[ProcessSample], int | None]) -> float | None:
        known = [value for sample in alive if (value := of(sample)) is not None]
        return float(sum(known)) if known else None

    return {
        "server_memory_bytes": total(lambda one: one.resident_bytes),
        "server_processes": float(len(alive)),
        "server_threads": total(lambda one: one.threads),
        "server_open_files": total(lambda one: one.open_files),
    }


def _of_gpu(sample: GpuSample, own: frozenset[int]) -> dict[str, float | None]:
    def hertz(megahertz: int | None) -> float | None:
        return None if megahertz is None else megahertz * 1e6

    throttled = None if sample.throttle_reasons is None else float(bool(sample.throttled_by))
    return {
        "utilisation_ratio": sample.busy_ratio,
        "memory_used_bytes": sample.memory_used_bytes,
        "memory_total_bytes": sample.memory_total_bytes,
        "other_memory_bytes": _others_bytes(sample, own),
        "sm_clock_hz": hertz(sample.sm_clock_mhz),
        "max_sm_clock_hz": hertz(sample.sm_clock_max_mhz),
        "throttled": throttled,
        "temperature_c": sample.temperature_c,
    }


def _others_bytes(sample: GpuSample, own: frozenset[int]) -> float | None:
    """None where the server is not known, or a process listed has a number of another world."""
    processes = sample.processes
    if processes is None or not own or any(one.name is None for one in processes):
        return None
    return sum(one.memory_bytes or 0.0 for one in processes if one.pid not in own)


class HostFile:
    """Writes `host.csv`: quoted as samples.csv, flushed at every reading."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8", newline="")
        self._file.write(",".join(HOST_COLUMNS) + "\n")

    def append(self, at_s: float, source: str, figures: Figures) -> None:
        for name, value in figures.items():
            self._file.write(f'{at_s!r},"{source}","{name}",{value!r}\n')
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class HostWatch:
    """A thread that samples while a phase runs; writes from the phase's begin on."""

    def __init__(self, machine: Machine, clock: Clock) -> None:
        self._machine = machine
        self._clock = clock
        self._ended = threading.Event()
        self._guard = threading.Lock()
        self._file: HostFile | None = None
        self._folder = Path()
        self._zero_s = 0.0
        self._thread = threading.Thread(target=self._watch, name="host", daemon=True)

    def __enter__(self) -> "HostWatch":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(5 * TIMEOUT_S)
        with self._guard:
            if self._file is not None:
                self._file.close()
                self._file = None
                write_crowd(self._folder, self._machine.crowd.top())
        self._machine.close()

    def begin(self, path: Path) -> None:
        """The phase has begun; it has a folder now."""
        with self._guard:
            if self._file is None:
                self._zero_s = self._clock.now()
                self._file = HostFile(path)
                self._folder = path.parent

    @property
    def begun(self) -> bool:
        return self._file is not None

    def _watch(self) -> None:
        next_s = look_s = self._clock.now()
        while not self._ended.is_set():
            now_s = self._clock.now()
            host, gpus = self._machine.read()
            with self._guard:
                if self._file is not None and now_s >= self._zero_s:
                    self._file.append(now_s - self._zero_s, "host", host)
                    self._file.append(now_s - self._zero_s, "gpu", gpus)
            if self.begun and now_s >= look_s:
                self._machine.look_around()
                look_s = now_s + LOOK_EVERY_S
            next_s = max(next_s + EVERY_S, self._clock.now())
            self._ended.wait(next_s - self._clock.now())
