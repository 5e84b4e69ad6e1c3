"""What a running process tells: its descriptors, threads, memory, and limits.

Reading and judging are apart: `read_process` asks the machine, `judge_process` is pure.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from rtvc.errors import UsageError, why
from rtvc.profile.doctor.findings import Finding, Severity

T = TypeVar("T")

FULL = 0.95
"""Share of a limit at which the next caller may fail."""
NEARLY_FULL = 0.8
FEW_DESCRIPTORS = 4096
LARGE_CHILD_BYTES = 300_000_000
"""A child that holds more holds a model, most likely."""
MANY_THREADS = 100
THREADS_PER_CPU = 16

_SYS_PTRACE = 19
"""Bit of CAP_SYS_PTRACE."""
_POOLS = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "KMP_BLOCKTIME",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)
_LIBRARIES = ("libiomp5", "libgomp", "libopenblas", "libmkl")


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """One reading of a process; None: the system does not let us know."""

    pid: int
    """Process id."""
    name: str
    """Program."""
    threads: int | None = None
    """Threads of the operating system."""
    open_files: int | None = None
    """File descriptors."""
    file_limit: int | None = None
    """Descriptors it may have; None also if there is no limit."""
    resident_bytes: int | None = None
    """Memory in RAM, its children's included."""
    memory_limit_bytes: int | None = None
    """Of its control group, else of the machine."""
    children_bytes: tuple[int, ...] = ()
    """Memory of each child, grandchildren too."""
    ptrace_scope: int | None = None
    """0 own processes, 1 own children, 2 root, 3 nobody."""
    may_trace: bool | None = None
    """Whether a profiler started as we were may attach to it."""
    cpus: int | None = None
    """CPUs it may run on."""
    cpu_limit: float | None = None
    """CPUs' worth of time that its control group may use; None: no limit."""
    pools: Mapping[str, str] | None = None
    """Its settings of OpenMP and BLAS; None: its environment may not be read."""
    libraries: tuple[str, ...] = ()
    """Libraries with threads of their own that it has loaded."""


def read_process(pid: int, root: Path = Path("/")) -> ProcessFacts:
    """Ask the system; `root` is where proc and sys are."""
    try:
        process = psutil.Process(pid)
        name = process.name()
    except (psutil.Error, OverflowError, ValueError) as error:
        raise UsageError(f"expected the id of a running process, got {pid}: {why(error)}") from None
    limit = _asked(lambda: process.rlimit(psutil.RLIMIT_NOFILE)[0])
    memory = _asked(lambda: int(process.memory_info().rss))
    children = tuple(_children_bytes(process))
    groups = _groups(pid, root)
    scope = _number(root / "proc/sys/kernel/yama/ptrace_scope")
    environment = _asked(process.environ)
    return ProcessFacts(
        pid=pid,
        name=name,
        threads=_asked(process.num_threads),
        open_files=_asked(process.num_fds),
        file_limit=limit if limit is not None and limit > 0 else None,
        resident_bytes=None if memory is None else memory + sum(children),
        memory_limit_bytes=_memory_limit(groups),
        children_bytes=children,
        ptrace_scope=scope,
        may_trace=_may_trace(process, scope, root),
        cpus=_asked(lambda: len(process.cpu_affinity())),
        cpu_limit=_cpu_limit(groups),
        pools=None if environment is None else _pools(environment),
        libraries=_libraries(root / f"proc/{pid}/maps"),
    )


def _pools(environment: Mapping[str, str]) -> dict[str, str]:
    """Only these: an environment holds secrets."""
    return {name: environment[name] for name in _POOLS if name in environment}


def _asked(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    # The last two are psutil's own, where a platform has no such figure.
    except (psutil.Error, OSError, AttributeError, NotImplementedError):
        return None


def _children_bytes(process: psutil.Process) -> Iterator[int]:
    for child in _asked(lambda: process.children(recursive=True)) or []:
        memory = _asked(child.memory_info)
        if memory is not None:
            yield int(memory.rss)


def _may_trace(process: psutil.Process, scope: int | None, root: Path) -> bool | None:
    if not (root / "proc/self/status").exists():
        return None
    if scope == 3:
        return False
    if _has_capability(root / "proc/self/status"):
        return True
    owner = _asked(lambda: process.uids().real)
    return not scope and owner == os.getuid()


def _has_capability(status: Path) -> bool:
    with suppress(OSError, ValueError):
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> _SYS_PTRACE & 1)
    return False


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _groups(pid: int, root: Path) -> list[Path]:
    """Folders of the control groups around a process, within to without (version 2)."""
    mount = root / "sys/fs/cgroup"
    inside = ""
    with suppress(OSError):
        lines = (root / f"proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
        inside = next((line[3:] for line in lines if line.startswith("0::")), "")
    # ".." leads out of what this container sees.
    parts = [part for part in inside.split("/") if part not in ("", "..")]
    return [mount.joinpath(*parts[:length]) for length in range(len(parts), -1, -1)]


def _cpu_limit(groups: list[Path]) -> float | None:
    limits: list[float] = []
    for group in groups:
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
            if quota != "max":
                limits.append(int(quota) / int(period))
    return min(limits, default=None)


def _memory_limit(groups: list[Path]) -> int | None:
    limits = [limit for group in groups if (limit := _number(group / "memory.max")) is not None]
    machine = _asked(lambda: int(psutil.virtual_memory().total))
    return min([*limits, *([machine] if machine else [])], default=None)


def _libraries(maps: Path) -> tuple[str, ...]:
    try:
        text = maps.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    return tuple(name for name in _LIBRARIES if f"/{name}" in text)


def judge_process(facts: ProcessFacts) -> list[Finding]:
    """What the reading means."""
    return [
        *_descriptors(facts),
        *_thread_count(facts),
        *_memory(facts),
        *_children(facts),
        *_tracing(facts),
        *_cpus(facts),
        *_spinning(facts),
    ]


def _descriptors(facts: ProcessFacts) -> Iterator[Finding]:
    limit, used = facts.file_limit, facts.open_files
    if limit is None:
        return
    if used is not None and used >= NEARLY_FULL * limit:
        severity = _by_share(used / limit)
        yield Finding(
            "descriptors",
            severity,
            "descriptors are running out",
            f"{used} open of {limit} allowed",
        )
    elif limit < FEW_DESCRIPTORS:
        evidence = f"{limit} allowed" + ("" if used is None else f", {used} open")
        yield Finding("descriptor-limit", "note", "few descriptors are allowed", evidence)
    elif used is not None:
        evidence = f"{used} open of {limit} allowed"
        yield Finding("descriptors", "good", "descriptors to spare", evidence)


def _by_share(share: float) -> Severity:
    return "bad" if share >= FULL else "warning"


def _thread_count(facts: ProcessFacts) -> Iterator[Finding]:
    if facts.threads is None or facts.cpus is None:
        return
    evidence = f"{facts.threads} threads on {facts.cpus} CPUs"
    if facts.threads > max(MANY_THREADS, THREADS_PER_CPU * facts.cpus):
        yield Finding("threads", "warning", "many threads", evidence)
    else:
        yield Finding("threads", "good", "few threads", evidence)


def _memory(facts: ProcessFacts) -> Iterator[Finding]:
    used, limit = facts.resident_bytes, facts.memory_limit_bytes
    if used is None or not limit:
        return
    evidence = f"{used / 1e9:.1f} GB of {limit / 1e9:.1f} GB, its children's included"
    if used >= NEARLY_FULL * limit:
        yield Finding("memory", _by_share(used / limit), "memory is running out", evidence)
    else:
        yield Finding("memory", "good", "memory to spare", evidence)


def _children(facts: ProcessFacts) -> Iterator[Finding]:
    large = [size for size in facts.children_bytes if size >= LARGE_CHILD_BYTES]
    if len(large) > 1:
        evidence = ", ".join(f"{size / 1e9:.1f} GB" for size in sorted(large, reverse=True)[:8])
        what = f"{len(large)} large child processes"
        yield Finding("model-processes", "warning", what, evidence)


def _tracing(facts: ProcessFacts) -> Iterator[Finding]:
    scope = "unknown" if facts.ptrace_scope is None else str(facts.ptrace_scope)
    evidence = f"kernel.yama.ptrace_scope={scope}"
    if facts.may_trace is False:
        yield Finding("ptrace", "note", "a profiler may not attach", evidence)
    elif facts.may_trace:
        yield Finding("ptrace", "good", "a profiler may attach", evidence)


def _cpus(facts: ProcessFacts) -> Iterator[Finding]:
    limit, cpus, pools = facts.cpu_limit, facts.cpus, facts.pools
    if limit is None or cpus is None or limit >= cpus:
        return
    threads = (pools or {}).get("OMP_NUM_THREADS", "")
    evidence = f"{limit:g} CPUs allowed by its control group, {cpus} seen"
    if pools is None:
        yield Finding("cpu-limit", "note", "fewer CPUs than it sees", evidence)
    elif not threads.isdigit() or int(threads[:9]) > max(1, limit):
        evidence += f", OMP_NUM_THREADS {threads or 'not set'}"
        what = "thread pools larger than the CPUs it may use"
        yield Finding("cpu-limit", "warning", what, evidence)


def _spinning(facts: ProcessFacts) -> Iterator[Finding]:
    pools, loaded = facts.pools, facts.libraries
    if pools is None or (facts.cpus or 1) < 2:
        return
    policy = pools.get("OMP_WAIT_POLICY", "")
    if policy.lower() == "active":
        evidence = f"OMP_WAIT_POLICY={policy}"
        yield Finding("spinning-threads", "warning", "idle threads spin for ever", evidence)
        return
    loose = []
    if "libiomp5" in loaded and pools.get("KMP_BLOCKTIME") != "0" and policy.lower() != "passive":
        loose.append("libiomp5 without KMP_BLOCKTIME=0")
    if "libopenblas" in loaded and not {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"} & set(pools):
        loose.append("libopenblas without OPENBLAS_NUM_THREADS")
    if loose:
        evidence = ", ".join(loose)
        yield Finding("spinning-threads", "note", "idle threads may spin", evidence)
