"""What a running voice chat tells: its process, the GPU's driver, and its HTTP answers.

Reading and judging are apart: `read_…` asks the machine or the server, `judge_…` is pure.
"""

import ipaddress
import json
import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import psutil

from rtvc.clock import Clock
from rtvc.errors import UsageError, why
from rtvc.profile.doctor.findings import Finding, Severity
from rtvc.profile.target import http_address

T = TypeVar("T")

FULL = 0.95
"""Share of a limit at which the next caller may fail."""
NEARLY_FULL = 0.8
FEW_DESCRIPTORS = 4096
LARGE_CHILD_BYTES = 300_000_000
"""A child that holds more holds a model, most likely."""
MANY_THREADS = 100
THREADS_PER_CPU = 16
SLOW_ANSWER_S = 0.5
ASKED_TIMES = 5
HTTP_TIMEOUT_S = 3.0
CUDA_NEEDED = (12, 0)

HEALTH_PATHS = ("/healthz", "/health")
READY_PATH = "/readyz"
MODELS_PATH = "/v1/models"
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


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What the NVIDIA driver is."""

    driver: str | None = None
    """Version; None: not told."""
    cuda: tuple[int, int] | None = None
    """Newest CUDA it runs; None: not told."""
    devices: tuple[str, ...] = ()
    """Products."""
    absent: str | None = None
    """Why there is none; None: there is one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    """HTTP."""
    body: Any = None
    """Its JSON; None: it was none."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server answered."""

    url: str
    """Scheme, host and port."""
    answers: Mapping[str, Answer]
    """Path → answer."""
    median_s: float | None = None
    """Time of one answer, the middle of several; None: it never answered."""
    trouble: str | None = None
    """Why it did not; None: it did."""
    untrusted: bool = False
    """Its certificate is of nobody that this machine trusts."""


def check_process(pid: int) -> list[Finding]:
    """Read a process and the GPU's driver, and judge both."""
    return [*judge_process(read_process(pid)), *judge_gpu(read_gpu())]


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


def read_gpu(nvml: Any = None) -> GpuFacts:
    """Ask NVML; `nvml` is pynvml, or what stands in for it."""
    if nvml is None:
        try:
            import pynvml
        except ImportError:
            return GpuFacts(absent="nvidia-ml-py is not installed")
        nvml = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return GpuFacts(absent=f"NVML says: {why(error)}")
    try:
        driver = _told(nvml, "nvmlSystemGetDriverVersion")
        number = _told(nvml, "nvmlSystemGetCudaDriverVersion_v2")
        count = _told(nvml, "nvmlDeviceGetCount") or 0
        names = [_device_name(nvml, index) for index in range(count)]
    finally:
        nvml.nvmlShutdown()
    if not names:
        return GpuFacts(absent="the NVIDIA driver is here, but sees no device")
    cuda = (number // 1000, number % 1000 // 10) if isinstance(number, int) else None
    return GpuFacts(_text(driver), cuda, tuple(_text(name) or "unnamed" for name in names))


def _device_name(nvml: Any, index: int) -> Any:
    handle = _told(nvml, "nvmlDeviceGetHandleByIndex", index)
    return None if handle is None else _told(nvml, "nvmlDeviceGetName", handle)


def _text(said: str | bytes | None) -> str | None:
    """Older bindings answer in bytes."""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said


def _told(nvml: Any, function: str, *given: Any) -> Any:
    try:
        return getattr(nvml, function)(*given)
    except nvml.NVMLError:
        return None


def judge_gpu(facts: GpuFacts) -> list[Finding]:
    """What the driver means."""
    if facts.absent is not None:
        return [Finding("no-gpu", "note", "no GPU was found", facts.absent)]
    cuda = "CUDA unknown" if facts.cuda is None else f"CUDA {facts.cuda[0]}.{facts.cuda[1]}"
    devices = ", ".join(facts.devices)
    evidence = f"driver {facts.driver or 'unknown'}, {cuda}: {devices}"
    if facts.cuda is not None and facts.cuda < CUDA_NEEDED:
        return [Finding("gpu-driver", "bad", "the GPU's driver is too old", evidence)]
    return [Finding("gpu-driver", "good", "the GPU's driver is new enough", evidence)]


def check_server(target: str, clock: Clock) -> list[Finding]:
    """Ask a server, and judge what it says."""
    return judge_server(read_server(target, clock))


def read_server(target: str, clock: Clock) -> ServerFacts:
    """Ask for its health and its models; a certificate that nobody vouches for is noted."""
    url = http_address(target, "")
    try:
        return _read_server(url, clock, trust=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if "CERTIFICATE_VERIFY_FAILED" not in str(error):
            return ServerFacts(url, {}, trouble=why(error))
    try:
        return _read_server(url, clock, trust=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return ServerFacts(url, {}, trouble=why(error), untrusted=True)


def _read_server(url: str, clock: Clock, *, trust: bool) -> ServerFacts:
    with httpx.Client(base_url=url, timeout=HTTP_TIMEOUT_S, verify=trust) as client:
        answers = {
            path: _answer(client.get(path)) for path in (*HEALTH_PATHS, READY_PATH, MODELS_PATH)
        }
        # The cheapest thing that it has; a path that is not there costs it as little.
        path = next((p for p in HEALTH_PATHS if answers[p].status == 200), HEALTH_PATHS[0])
        times = []
        for _ in range(ASKED_TIMES):
            asked_s = clock.now()
            client.get(path)
            times.append(clock.now() - asked_s)
    return ServerFacts(url, answers, median_s=statistics.median(times), untrusted=not trust)


def _answer(response: httpx.Response) -> Answer:
    body = None
    with suppress(ValueError, RecursionError):
        body = json.loads(response.content)
    return Answer(response.status_code, body)


def judge_server(facts: ServerFacts) -> list[Finding]:
    """What its answers mean."""
    if facts.trouble is not None:
        evidence = f"{facts.url}: {facts.trouble}"
        return [Finding("no-answer", "bad", "the server does not answer", evidence)]
    return [*_health(facts), *_speed(facts), *_its_models(facts), *_door(facts)]


def _health(facts: ServerFacts) -> Iterator[Finding]:
    statuses = {
        path: answer.status
        for path, answer in facts.answers.items()
        if path in (*HEALTH_PATHS, READY_PATH)
    }
    evidence = ", ".join(f"{path} {status}" for path, status in statuses.items())
    alive = any(statuses.get(path) == 200 for path in HEALTH_PATHS)
    tells = statuses.get(READY_PATH) in (200, 503)
    if not alive and not tells:
        yield Finding("no-health", "warning", "no health endpoint answers", evidence)
    elif not tells:
        what = "it tells that it lives, and not whether it is ready"
        yield Finding("no-health", "note", what, evidence)
    else:
        yield Finding("health", "good", "it tells whether it is ready", evidence)
    yield from _readiness(facts.answers.get(READY_PATH))


def _readiness(answer: Answer | None) -> Iterator[Finding]:
    body = answer.body if answer is not None and isinstance(answer.body, dict) else {}
    if answer is not None and answer.status == 503:
        said = str(body.get("detail") or body.get("state") or "503")
        yield Finding("not-ready", "note", "it is not ready", f"{READY_PATH}: {said}")
    notice = body.get("notice")
    if isinstance(notice, str) and notice:
        yield Finding("notice", "note", "it has something to say of itself", notice)


def _speed(facts: ServerFacts) -> Iterator[Finding]:
    if facts.median_s is None:
        return
    evidence = f"{facts.median_s * 1000:.0f} ms, the middle of {ASKED_TIMES}"
    if facts.median_s > SLOW_ANSWER_S:
        yield Finding("slow-answer", "warning", "its simplest answer takes long", evidence)
    else:
        yield Finding("slow-answer", "good", "it answers at once", evidence)


def _its_models(facts: ServerFacts) -> Iterator[Finding]:
    answer = facts.answers.get(MODELS_PATH)
    body = answer.body if answer is not None and isinstance(answer.body, dict) else {}
    listed = body.get("data")
    for model in listed if isinstance(listed, list) else ():
        if isinstance(model, dict) and "sharing" in model:
            yield from _engine(model)


def _engine(model: Mapping[str, Any]) -> Iterator[Finding]:
    sharing = model["sharing"]
    evidence = f"{MODELS_PATH}: {model.get('id')}, sharing {sharing}"
    if sharing == "per-session":
        yield Finding("per-session-models", "bad", "each session has a model of its own", evidence)
    else:
        yield Finding("models-shared", "good", "sessions share the model", evidence)
    if model.get("calibration_s") is None:
        evidence = f"{MODELS_PATH}: {model.get('id')}, calibration_s absent"
        yield Finding("uncalibrated", "note", "the engine is not calibrated", evidence)


def _door(facts: ServerFacts) -> Iterator[Finding]:
    parts = urlsplit(facts.url)
    if facts.untrusted:
        what = "its certificate is of nobody that this machine trusts"
        yield Finding("tls-untrusted", "note", what, facts.url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        what = "a page from it gets no microphone"
        yield Finding("no-microphone", "warning", what, f"{facts.url}: no TLS")


def is_loopback(host: str) -> bool:
    """Whether browsers take a page from there for a local one.

    >>> is_loopback("localhost"), is_loopback("127.0.0.9"), is_loopback("::1"), is_loopback("box")
    (True, True, True, False)
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
