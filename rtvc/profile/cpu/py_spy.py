"""Runs py-spy on a server: two samplings at once, CPU time counted beside them, an end for sure.

The first sampling, at the rate asked for, stops the server for each sample and sees the threads
that run. The second, sparse and without stopping anything, also sees those that wait.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from rtvc.clock import Clock
from rtvc.errors import ProfileError
from rtvc.instruments.program import program
from rtvc.profile.cpu.sampling import CpuUse, Sampling, Stack, parse_collapsed

PRESENT_HZ = 5
"""Samples a second of all threads, waiting ones too."""

GRACE_S = 15.0
"""Beyond the seconds asked for: py-spy reads the symbols of large libraries first."""

SETTLE_S = 3.0
"""For py-spy to write what it has after it is told to stop."""

NOTHING_KEPT = "interrupted before there was anything to report: nothing was kept"

_BEHIND = re.compile(r"([\d.]+)(ns|µs|ms|s) behind in sampling")
_ERRORS = re.compile(r"Samples: (\d+) Errors: (\d+)")
_SECONDS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Wish:
    """What to record."""

    pid: int
    """Process."""
    seconds: int = 10
    """Length."""
    rate_hz: int = 50
    """Samples a second."""
    subprocesses: bool = True
    """Its children too."""
    native: bool = False
    """Frames of native libraries too; costs the server more."""
    gil_only: bool = False
    """Only threads that hold the interpreter's lock; costs the server least."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What came of it."""

    running: Sampling
    """Threads on a processor, or holding the lock."""
    present: Sampling | None
    """All threads; None where it was not to be had."""
    window_s: float
    """Length of the stretch in which CPU time was counted."""
    used: Mapping[int, CpuUse]
    """Process → CPU time."""
    behind_s: float | None
    """How late py-spy was at worst; None if it kept up."""
    errors: int
    """Samples that could not be taken."""
    cut: bool
    """py-spy did not end in time and was ended."""
    interrupted: bool = False
    """Somebody ended it before its time."""

    @property
    def names(self) -> dict[int, str]:
        return {pid: use.name for pid, use in self.used.items()}


class Interrupted(ProfileError):
    """Ctrl-C came before there was anything to report."""

    exit_code = 130


def py_spy_executable() -> Path:
    """The one installed with this interpreter, else one on the PATH."""
    # Not resolved: in a virtual environment the interpreter is a link out of it.
    beside = shutil.which("py-spy", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("py-spy")
    if found is None:
        raise ProfileError("expected py-spy beside Python or on the PATH: pip install py-spy")
    return Path(found)


def record(wish: Wish, executable: Path, clock: Clock) -> Recording:
    """Sample a process; whatever happens, py-spy has ended and the process goes on afterwards.

    Raises:
        ProfileError: it cannot be sampled; says why and what helps.
        Interrupted: Ctrl-C came before there was a sample; later ones keep what there is.
    """
    if not psutil.pid_exists(wish.pid):
        raise ProfileError(f"there is no process {wish.pid}")
    with TemporaryDirectory(prefix="rtvc-cpu-") as folder:
        return _Run(wish, executable, clock, Path(folder)).recording()


class _Run:
    """One recording."""

    def __init__(self, wish: Wish, executable: Path, clock: Clock, folder: Path) -> None:
        self._wish = wish
        self._executable = executable
        self._clock = clock
        self._folder = folder
        self._cut = False
        self._interrupted = False

    def recording(self) -> Recording:
        began_s, before = self._clock.now(), _counted(self._family())
        self._sample()
        window_s, after = self._clock.now() - began_s, _counted(self._family())
        running = self._stacks("running")
        if running is None and self._interrupted:
            raise Interrupted(NOTHING_KEPT)
        if running is None:
            raise ProfileError(self._why_not())
        said = self._said("running")
        found, used = _ERRORS.search(said), _used(before, after)
        seconds = min(self._wish.seconds, window_s) if self._interrupted else self._wish.seconds
        return Recording(
            Sampling(running, self._wish.rate_hz, seconds),
            self._present(seconds),
            window_s,
            used,
            behind_s(said),
            0 if found is None else int(found[2]),
            self._cut,
            self._interrupted,
        )

    def _family(self) -> list[psutil.Process]:
        return family(self._wish.pid, subprocesses=self._wish.subprocesses)

    def _sample(self) -> None:
        with _kept_going(self._family), self._started("running") as running:
            if self._wish.gil_only:
                self._wait(running)
                return
            with self._started("present"):
                self._wait(running)

    def _wait(self, running: subprocess.Popen[bytes]) -> None:
        try:
            running.wait(self._wish.seconds + GRACE_S)
        except subprocess.TimeoutExpired:
            self._cut = True
        except KeyboardInterrupt:
            self._interrupted = True

    @contextmanager
    def _started(self, kind: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [str(self._executable), *arguments(self._wish, kind, self._output(kind))]
        with self._log(kind).open("wb") as log:
            # A session of its own: Ctrl-C reaches us alone, and we end py-spy in order.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                _end(process)

    def _output(self, kind: str) -> Path:
        return self._folder / f"{kind}.txt"

    def _log(self, kind: str) -> Path:
        return self._folder / f"{kind}.log"

    def _said(self, kind: str) -> str:
        return self._log(kind).read_text(encoding="utf-8", errors="replace")

    def _stacks(self, kind: str) -> list[Stack] | None:
        """None if py-spy wrote nothing."""
        if not self._output(kind).exists():
            return None
        text = self._output(kind).read_text(encoding="utf-8", errors="replace")
        return parse_collapsed(text, self._wish.pid)

    def _present(self, seconds: float) -> Sampling | None:
        stacks = None if self._wish.gil_only else self._stacks("present")
        # It ends when the first sampling does, at the latest.
        return Sampling(stacks, PRESENT_HZ, seconds) if stacks else None

    def _why_not(self) -> str:
        said = self._said("running")
        if "No python processes found" in said:
            # With children, py-spy tells of each process only that it failed; alone, it says why.
            asked = [str(self._executable), "dump", "--nonblocking", "--pid", str(self._wish.pid)]
            with suppress(subprocess.TimeoutExpired):
                alone = subprocess.run(
                    asked, capture_output=True, timeout=GRACE_S, check=False, text=True
                )
                said = alone.stderr or said
        if self._cut and not said.strip():
            return f"py-spy said nothing for {self._wish.seconds + GRACE_S:.0f} s and was ended"
        running = psutil.pid_exists(self._wish.pid)
        return explained(said, self._wish.pid, running=running, place=Place.here())


def arguments(wish: Wish, kind: str, output: Path) -> list[str]:
    """py-spy's, for one of the two kinds of sampling."""
    rate_hz = wish.rate_hz if kind == "running" else PRESENT_HZ
    given = ["record", "--format", "raw", "--threads", "--output", str(output)]
    given += ["--pid", str(wish.pid), "--duration", str(wish.seconds), "--rate", str(rate_hz)]
    if wish.subprocesses:
        given.append("--subprocesses")
    if kind == "present":
        return [*given, "--idle", "--nonblocking"]
    if wish.native:
        given.append("--native")
    if wish.gil_only:
        given.append("--gil")
    return given


def behind_s(said: str) -> float | None:
    """How late py-spy was at worst, from what it printed; None if it kept up.

    >>> behind_s("1.20s behind in sampling, results may be inaccurate.")
    1.2
    """
    delays = [float(number) * _SECONDS[unit] for number, unit in _BEHIND.findall(said)]
    return max(delays, default=None)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Politely first: told to stop, py-spy lets go of the server and writes what it has."""
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(SETTLE_S)
    finally:
        # A second Ctrl-C, too, leaves no sampler behind.
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def _kept_going(processes: Callable[[], Sequence[psutil.Process]]) -> Iterator[None]:
    """A tracer that is killed can leave what it traced stopped: whatever ran before, runs after."""
    before = processes()
    stood = {process.pid for process in before if _status(process) == psutil.STATUS_STOPPED}
    try:
        yield
    finally:
        resume(each for each in {*before, *processes()} if each.pid not in stood)


def resume(processes: Iterable[psutil.Process]) -> None:
    """Let those that stand still go on; does nothing to the others."""
    for process in processes:
        for _ in range(20):
            status = _status(process)
            if status == psutil.STATUS_STOPPED:
                with suppress(psutil.Error):
                    process.resume()
            elif status != psutil.STATUS_TRACING_STOP:
                break
            time.sleep(0.02)


def _status(process: psutil.Process) -> str | None:
    try:
        return process.status()
    except psutil.Error:
        return None


def family(pid: int, *, subprocesses: bool = True) -> list[psutil.Process]:
    """The process, and its children if asked; empty if it ended."""
    try:
        process = psutil.Process(pid)
        return [process, *(process.children(recursive=True) if subprocesses else ())]
    except psutil.Error:
        return []


def _counted(processes: Iterable[psutil.Process]) -> dict[int, CpuUse]:
    return {process.pid: _count(process) for process in processes}


def _count(process: psutil.Process) -> CpuUse:
    """CPU time since the process began; fields that the system keeps to itself are absent."""
    cpu_s: float | None = None
    threads: dict[str, float] = {}
    with suppress(psutil.Error):
        times = process.cpu_times()
        cpu_s = times.user + times.system
        for thread in process.threads():
            for name in _thread_ids(process.pid, thread.id):
                threads[name] = thread.user_time + thread.system_time
    return CpuUse(program(process), cpu_s, threads)


def _thread_ids(pid: int, thread: int) -> list[str]:
    """A thread of a container has one id here and another inside, and Python knows the latter."""
    names = [str(thread)]
    with suppress(OSError):
        status = Path(f"/proc/{pid}/task/{thread}/status").read_text(encoding="utf-8")
        spaces = re.search(r"^NSpid:\s+(.*)$", status, re.MULTILINE)
        names += spaces[1].split()[-1:] if spaces else []
    return list(dict.fromkeys(names))


def _used(before: Mapping[int, CpuUse], after: Mapping[int, CpuUse]) -> dict[int, CpuUse]:
    """CPU time between two counts; a process that began between them counts from its beginning."""
    return {pid: used_between(before.get(pid), after[pid]) for pid in after}


def used_between(before: CpuUse | None, after: CpuUse) -> CpuUse:
    """
    >>> used_between(CpuUse("x", 1.0, {"7": 0.5}), CpuUse("x", 3.0, {"7": 1.0, "8": 0.25}))
    CpuUse(name='x', cpu_s=2.0, thread_cpu_s={'7': 0.5, '8': 0.25})
    """
    if before is None:
        return after
    if before.cpu_s is None or after.cpu_s is None:
        return CpuUse(after.name, None)
    threads = {
        thread: max(0.0, seconds - before.thread_cpu_s.get(thread, 0.0))
        for thread, seconds in after.thread_cpu_s.items()
    }
    return CpuUse(after.name, max(0.0, after.cpu_s - before.cpu_s), threads)


@dataclass(frozen=True, slots=True)
class Place:
    """What decides how a refusal is lifted."""

    platform: str
    """As in sys.platform."""
    root: bool
    """We run as root."""
    container: bool
    """We run in a container."""
    ptrace_scope: int | None
    """Linux: 0 own processes, 1 own children, 2 root, 3 nobody; None: there is no such rule."""

    @classmethod
    def here(cls) -> "Place":
        scope: int | None = None
        with suppress(OSError, ValueError):
            scope = int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text(encoding="utf-8"))
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        contained = any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv"))
        return cls(sys.platform, root, contained, scope)


def explained(said: str, pid: int, *, running: bool, place: Place) -> str:
    """One line: what went wrong, and what helps."""
    lowered = said.lower()
    if any(word in lowered for word in ("permission denied", "not permitted", "requires root")):
        return f"looking into process {pid} was refused: {advice(place)}"
    if not running or "no such process" in lowered or "check if it is running" in lowered:
        return f"process {pid} ended before it could be sampled"
    if "python version" in lowered or "no python processes found" in lowered:
        return (
            f"process {pid} is not a Python program that py-spy can read, nor is any of its "
            "children: give the pid of the server itself (pgrep -af python)"
        )
    lines = [line.removeprefix("Error: ") for line in said.splitlines() if line.strip()]
    return f"py-spy could not sample process {pid}: {' '.join(lines[:2]) or 'it said nothing'}"


def advice(place: Place) -> str:
    """How to be let in.

    >>> advice(Place("darwin", root=False, container=False, ptrace_scope=None))
    'macOS lets only root look into processes: run it with sudo'
    """
    if place.platform == "darwin":
        if not place.root:
            return "macOS lets only root look into processes: run it with sudo"
        return "macOS protects its own Python: run the server with one from python.org or Homebrew"
    in_docker = (
        "start the container with --cap-add SYS_PTRACE (Kubernetes: securityContext.capabilities."
        "add: [SYS_PTRACE]), or run rtvc profile cpu --container NAME on its host"
    )
    if place.container:
        return in_docker if place.root else f"run it as root, and {in_docker}"
    if place.ptrace_scope == 3:
        return "kernel.yama.ptrace_scope is 3, which forbids it to everyone until the next boot"
    if place.root:
        return f"if the process is in a container, {in_docker}"
    allow = "" if not place.ptrace_scope else ", or sudo sysctl kernel.yama.ptrace_scope=0"
    return f"run it as root (sudo){allow}; in a container, {in_docker}"
