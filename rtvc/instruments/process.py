"""What this process and its children use of the machine: CPU, memory, threads, open files."""

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import psutil

T = TypeVar("T")
Number = TypeVar("Number", int, float)

_Key = tuple[int, float]
"""Process id and start time: an id alone is used again."""


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """One reading of one process; None: the system does not let us know."""

    pid: int
    """Process id."""
    started_at_s: float
    """Seconds since the epoch; with the id it names the process for good."""
    cpu_s: float | None
    """Seconds of CPU since its start, in user and kernel mode, without its children's."""
    resident_bytes: int | None
    """Memory in RAM, shared pages included."""
    threads: int | None
    """Threads of the operating system."""
    open_files: int | None
    """File descriptors: files, sockets and pipes."""


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What all processes of one role use together; None: nobody could be asked."""

    processes: int
    """Processes alive."""
    cpu_s: float | None
    """Seconds of CPU, what ended processes were last seen with included: it never goes down."""
    resident_bytes: int | None
    """Memory in RAM; pages that processes share count once for each."""
    threads: int | None
    """Threads of the operating system."""
    open_files: int | None
    """File descriptors: files, sockets and pipes."""


def sample_process(pid: int) -> ProcessSample | None:
    """A reading; None: there is no such process, or none any more, or no file can be opened."""
    try:
        return _sampled(psutil.Process(pid))
    except (psutil.NoSuchProcess, OSError):
        return None


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ProcessSampler:
    """Samples a process and its children by role; blocks for some milliseconds, so not for a loop.

    Safe to call from several threads.
    """

    def __init__(
        self, own_role: str, child_roles: Mapping[str, str], *, pid: int | None = None
    ) -> None:
        """`child_roles`: a word of a child's command line → its role; other children are left out.

        `pid` None: this process.
        """
        self._pid = os.getpid() if pid is None else pid
        self._own_role = own_role
        self._child_roles = dict(child_roles)
        self._known: dict[_Key, str] = {}
        self._cpu_s: dict[_Key, float] = {}
        self._ended_cpu_s: dict[str, float] = {}
        self._sampling = threading.Lock()

    def sample(self) -> dict[str, ProcessUse]:
        """What each role uses now."""
        with self._sampling:
            found = self._find()
            self._remember(found)
            return {role: self._use(role, samples) for role, samples in found.items()}

    def _find(self) -> dict[str, list[ProcessSample]]:
        roles = (self._own_role, *self._child_roles.values())
        found: dict[str, list[ProcessSample]] = {role: [] for role in roles}
        try:
            own = psutil.Process(self._pid)
            children = own.children()
        except (psutil.Error, OSError):
            # The latter where no file can be opened: a scrape says what it still can.
            return found
        _add(found[self._own_role], own)
        for child in children:
            role = self._role(child)
            if role is not None:
                _add(found[role], child)
        return found

    def _role(self, child: psutil.Process) -> str | None:
        """A role is kept; without one the child is looked at again, as a new one still has the
        command line of its parent for a moment.
        """
        try:
            key = (child.pid, child.create_time())
            role = self._known.get(key) or self._role_of(child.cmdline())
        except (psutil.Error, OSError):
            return None
        if role is not None:
            self._known[key] = role
        return role

    def _role_of(self, command: Iterable[str]) -> str | None:
        words = set(command)
        return next((role for word, role in self._child_roles.items() if word in words), None)

    def _remember(self, found: Mapping[str, Iterable[ProcessSample]]) -> None:
        """Keep the CPU time of whoever has ended since the last time."""
        alive = {(s.pid, s.started_at_s): s for samples in found.values() for s in samples}
        for key in [key for key in self._cpu_s if key not in alive]:
            role = self._known.get(key, self._own_role)
            self._ended_cpu_s[role] = self._ended_cpu_s.get(role, 0.0) + self._cpu_s.pop(key)
        self._known = {key: role for key, role in self._known.items() if key in alive}
        for key, sample in alive.items():
            if sample.cpu_s is not None:
                self._cpu_s[key] = sample.cpu_s

    def _use(self, role: str, samples: list[ProcessSample]) -> ProcessUse:
        cpu_s = total([sample.cpu_s for sample in samples])
        ended_s = self._ended_cpu_s.get(role)
        if not samples:
            cpu_s = ended_s
        elif cpu_s is not None:
            cpu_s += ended_s or 0.0
        return ProcessUse(
            processes=len(samples),
            cpu_s=cpu_s,
            resident_bytes=total([sample.resident_bytes for sample in samples]),
            threads=total([sample.threads for sample in samples]),
            open_files=total([sample.open_files for sample in samples]),
        )


def total(values: Iterable[Number | None]) -> Number | None:
    """The sum; None where a part of it is unknown, or where there is nothing to add up.

    >>> total([1, 2]), total([1, None]), total([])
    (3, None, None)
    """
    known: list[Number] = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return sum(known[1:], known[0]) if known else None


def _add(samples: list[ProcessSample], process: psutil.Process) -> None:
    """A process may end while it is looked at, and files may be all in use."""
    try:
        samples.append(_sampled(process))
    except (psutil.NoSuchProcess, OSError):
        return


def _sampled(process: psutil.Process) -> ProcessSample:
    with process.oneshot():
        cpu = _allowed(process.cpu_times)
        memory = _allowed(process.memory_info)
        return ProcessSample(
            pid=process.pid,
            started_at_s=process.create_time(),
            cpu_s=None if cpu is None else cpu.user + cpu.system,
            resident_bytes=None if memory is None else int(memory.rss),
            threads=_allowed(process.num_threads),
            open_files=_allowed(process.num_fds),
        )


def _allowed(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except psutil.AccessDenied:
        return None
