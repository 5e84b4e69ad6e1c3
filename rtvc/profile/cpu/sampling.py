"""Where the CPU time of a voice server goes, by stage of the pipeline; pure.

Three things are put together, all of the same seconds:

- *running* samples: the stacks of Python threads that were on a processor (py-spy);
- *present* samples, sparser: the stacks of all Python threads, waiting ones too (py-spy --idle);
- the CPU time of every process and thread, as the operating system counts it.

Running samples split the CPU time of the Python threads. Threads of native libraries (CTranslate2
computes on its own) have no stack: their CPU time goes to the stages in which Python threads were
present without running, for these wait for a native library.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rtvc.profile.cpu.rules import COMPUTE, Frame, Stage, stage_of, telling

FEW_SAMPLES = 50
"""Running samples below which shares are rough."""

IDLE_CORES = 0.02
"""Cores below which a server with few samples is idle: of so little, shares say nothing."""

NOTICEABLE = 0.05
"""Threads on average: fewer than this waiting in a stage are noise of sampling."""

_RECORD = re.compile(r'\n(?=process \d+:"|thread \()')
_THREAD = re.compile(r"(?:^|;)thread \(([^)]*)\)(?:: ([^;]*))?(?:;|$)")
_PROCESS = re.compile(r'process (\d+):"')


@dataclass(frozen=True, slots=True)
class Stack:
    """Calls of one thread, seen a number of times."""

    pid: int
    """Process."""
    thread: str
    """The operating system's id of the thread; on macOS the thread library's."""
    thread_name: str
    """As Python names it; may be empty."""
    frames: tuple[Frame, ...]
    """Outermost first; empty for a thread with native calls only."""
    count: int
    """Samples."""


def parse_collapsed(text: str, pid: int) -> list[Stack]:
    """The stacks of py-spy's raw format with `--threads`; `pid` is whose they are if none is named.

    >>> [stack] = parse_collapsed("thread (7): main;run (app.py:3);loads (json/x.py) 2", 1)
    >>> stack.thread, stack.frames[0], stack.count
    ('7', Frame(function='run', file='app.py', line=3), 2)
    """
    # A command line may hold line breaks and semicolons, so a record begins where its head does.
    stacks = (_stack(record, pid) for record in _RECORD.split(text.strip()))
    return [stack for stack in stacks if stack is not None]


def _stack(record: str, pid: int) -> Stack | None:
    calls, _, count = record.strip().rpartition(" ")
    head = _THREAD.search(calls)
    if head is None or not count.isdigit():
        return None
    owners = _PROCESS.findall(calls[: head.start()])
    frames = tuple(_frame(call) for call in calls[head.end() :].split(";") if call)
    owner = int(owners[-1]) if owners else pid
    return Stack(owner, head[1], head[2] or "", frames, int(count))


def _frame(call: str) -> Frame:
    function, opened, place = call.rpartition(" (")
    if not opened or not place.endswith(")"):
        return Frame(call, "")
    file, colon, line = place[:-1].rpartition(":")
    if colon and line.isdigit():
        return Frame(function, file, int(line))
    return Frame(function, place[:-1])


def collapsed(stacks: Iterable[Stack], names: Mapping[int, str]) -> str:
    """The stacks as text again, with names in place of whole command lines: these hold secrets."""
    return "".join(f"{';'.join(_written(stack, names))} {stack.count}\n" for stack in stacks)


def _written(stack: Stack, names: Mapping[int, str]) -> Iterable[str]:
    yield process_title(stack.pid, names)
    yield f"thread {stack.thread} {stack.thread_name}".strip()
    for frame in stack.frames:
        line = "" if frame.line is None else f":{frame.line}"
        yield f"{frame.function} ({frame.file}{line})" if frame.file else frame.function


def process_title(pid: int, names: Mapping[int, str]) -> str:
    """
    >>> process_title(3, {3: "rtvc serve"}), process_title(4, {})
    ('3 rtvc serve', '4')
    """
    return f"{pid} {names.get(pid, '')}".strip().replace(";", ",")


@dataclass(frozen=True, slots=True)
class CpuUse:
    """What the operating system counted for one process while it was sampled."""

    name: str
    """Program, without its arguments."""
    cpu_s: float | None
    """CPU time of all its threads; None where the system does not tell."""
    thread_cpu_s: Mapping[str, float] = field(default_factory=dict)
    """Thread id → CPU time; empty where the system does not tell."""

    def of_samples(self) -> "CpuUse":
        """Without CPU time, so that samples stand for it."""
        return CpuUse(self.name, None)


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage of one process, or of all."""

    cpu_s: float
    """CPU time, of Python and native threads."""
    native_s: float
    """The part of it that native threads used, by inference from who waited for them."""
    samples: int
    """Running samples."""
    threads: float | None
    """Python threads in this stage on average, running or waiting; None: not sampled."""


@dataclass(frozen=True, slots=True)
class ProcessTime:
    """One process."""

    pid: int
    """Process."""
    name: str
    """Program, without its arguments."""
    stages: Mapping[Stage, StageTime]
    """Only stages that were seen; `idle` takes no CPU time."""

    @property
    def cpu_s(self) -> float:
        return sum(stage.cpu_s for stage in self.stages.values())

    @property
    def samples(self) -> int:
        """Of threads that ran."""
        return sum(time.samples for stage, time in self.stages.items() if stage is not Stage.IDLE)


@dataclass(frozen=True, slots=True)
class HotCall:
    """A function in which threads were found, not in what it called; the standard library works for
    its caller, and runners of an event loop or a thread stand for native code."""

    frame: Frame
    """Function and file; without a line."""
    stage: Stage
    """The stage of most of its samples."""
    samples: int
    """Running samples with it innermost."""


@dataclass(frozen=True, slots=True)
class CpuProfile:
    """The result: every process and all together."""

    duration_s: float
    """Length of the stretch in which CPU time was counted."""
    processes: tuple[ProcessTime, ...]
    """Busiest first."""
    hottest: tuple[HotCall, ...]
    """Most samples first."""
    gil_only: bool = False
    """Only threads that held the interpreter's lock were sampled."""

    @property
    def cpu_s(self) -> float:
        return sum(process.cpu_s for process in self.processes)

    @property
    def samples(self) -> int:
        return sum(process.samples for process in self.processes)

    @property
    def stages(self) -> dict[Stage, StageTime]:
        """All processes together, most CPU time first."""
        found = {stage for process in self.processes for stage in process.stages}
        summed = {stage: self._summed(stage) for stage in found}
        return dict(sorted(summed.items(), key=lambda each: (-each[1].cpu_s, each[0])))

    def _summed(self, stage: Stage) -> StageTime:
        each = [process.stages[stage] for process in self.processes if stage in process.stages]
        present = [time.threads for time in each if time.threads is not None]
        return StageTime(
            sum(time.cpu_s for time in each),
            sum(time.native_s for time in each),
            sum(time.samples for time in each),
            sum(present) if present else None,
        )

    def share(self, stage: Stage) -> float | None:
        """Of the CPU time; None if none was used."""
        time = self.stages.get(stage)
        return time.cpu_s / self.cpu_s if self.cpu_s and time is not None else None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one of the two kinds of samples was taken."""

    stacks: Sequence[Stack]
    """What was seen."""
    rate_hz: float
    """Samples a second of every thread."""
    duration_s: float
    """Length."""

    def of(self, pid: int) -> "Sampling":
        stacks = [stack for stack in self.stacks if stack.pid == pid]
        return Sampling(stacks, self.rate_hz, self.duration_s)

    def threads(self, count: float) -> float:
        """Samples as the number of threads on average."""
        return count / (self.rate_hz * self.duration_s)


def attribute(
    running: Sampling,
    present: Sampling | None,
    used: Mapping[int, CpuUse],
    window_s: float,
    *,
    gil_only: bool = False,
) -> CpuProfile:
    """The profile of all processes that were sampled or whose CPU time is known.

    `used` is the CPU time of `window_s`; where it does not tell, running samples stand for it.
    """
    pids = {stack.pid for stack in running.stacks} | set(used)
    uses = {pid: use.of_samples() for pid, use in used.items()} if gil_only else used
    processes = [_Process(pid, running, present, uses.get(pid)).time() for pid in sorted(pids)]
    busiest = sorted(processes, key=lambda process: -process.cpu_s)
    return CpuProfile(window_s, tuple(busiest), hottest(running.stacks), gil_only)


class _Process:
    """Puts together what is known of one process."""

    def __init__(
        self, pid: int, running: Sampling, present: Sampling | None, use: CpuUse | None
    ) -> None:
        self._pid = pid
        self._running = running.of(pid)
        self._present = None if present is None else present.of(pid)
        self._use = CpuUse("", None) if use is None else use
        self._ran = _by_stage(self._running.stacks, running=True)
        self._there = (
            None if self._present is None else _by_stage(self._present.stacks, running=False)
        )

    def time(self) -> ProcessTime:
        python = self._python_s()
        native = _split(self._native_s(sum(python.values())), self._waited_for())
        stages = {
            stage: StageTime(
                python.get(stage, 0.0) + native.get(stage, 0.0),
                native.get(stage, 0.0),
                self._ran[stage],
                self._threads_in(stage),
            )
            for stage in sorted({*self._ran, *python, *native, *(self._there or ())})
        }
        return ProcessTime(self._pid, self._use.name, stages)

    def _threads_in(self, stage: Stage) -> float | None:
        if self._there is None or self._present is None:
            return None
        return self._present.threads(self._there[stage])

    def _python_s(self) -> dict[Stage, float]:
        """Each Python thread's CPU time, shared out by where that thread ran."""
        if self._use.cpu_s is None:
            busy = _busy(self._ran)
            return {stage: count / self._running.rate_hz for stage, count in busy.items()}
        threads = self._threads()
        if not threads:
            # Ids cannot be matched here, or no Python thread was seen: all go by all samples.
            return _split(self._use.cpu_s, _busy(self._ran))
        shares = []
        unseen_s = 0.0
        for thread in threads:
            stacks = [stack for stack in self._running.stacks if stack.thread == thread]
            busy = _busy(_by_stage(stacks, running=True))
            if busy:
                shares.append(_split(self._use.thread_cpu_s[thread], busy))
            else:
                unseen_s += self._use.thread_cpu_s[thread]
        return _sum([*shares, _split(unseen_s, _busy(self._ran))])

    def _threads(self) -> set[str]:
        """Ids of the Python threads whose CPU time is known."""
        present = () if self._present is None else self._present.stacks
        seen = {stack.thread for stack in (*self._running.stacks, *present)}
        return seen & set(self._use.thread_cpu_s)

    def _native_s(self, python_s: float) -> float:
        return 0.0 if self._use.cpu_s is None else max(0.0, self._use.cpu_s - python_s)

    def _waited_for(self) -> dict[Stage, float]:
        """For whom native threads worked: stages with Python threads present but not running.

        Where nobody waited, a thread computes together with its library's: those that ran.
        """
        waiting = {}
        for stage in COMPUTE & set(self._there or ()):
            there = self._threads_in(stage) or 0.0
            idle = there - self._running.threads(self._ran[stage])
            if idle > max(NOTICEABLE, 0.2 * there):
                waiting[stage] = idle
        return waiting or {stage: float(self._ran[stage]) for stage in COMPUTE & set(self._ran)}


def _by_stage(stacks: Iterable[Stack], *, running: bool) -> Counter[Stage]:
    counts: Counter[Stage] = Counter()
    for stack in stacks:
        counts[stage_of(stack.frames, running=running)] += stack.count
    return counts


def _busy(counts: Mapping[Stage, int]) -> dict[Stage, float]:
    return {stage: float(count) for stage, count in counts.items() if stage is not Stage.IDLE}


def _sum(shares: Iterable[Mapping[Stage, float]]) -> dict[Stage, float]:
    total: dict[Stage, float] = {}
    for share in shares:
        for stage, seconds in share.items():
            total[stage] = total.get(stage, 0.0) + seconds
    return total


def _split(total: float, weights: Mapping[Stage, float]) -> dict[Stage, float]:
    """A total shared out in proportion; what nothing claims is `other`.

    >>> _split(4.0, {Stage.VAD: 1, Stage.TTS: 3})[Stage.TTS], _split(2.0, {})
    (3.0, {<Stage.OTHER: 'other'>: 2.0})
    """
    whole = sum(weights.values())
    if total <= 0:
        return {}
    if not whole:
        return {Stage.OTHER: total}
    return {stage: total * weight / whole for stage, weight in weights.items()}


def hottest(stacks: Iterable[Stack], most: int = 8) -> tuple[HotCall, ...]:
    """The functions in which most running samples ended, waits left out."""
    calls: Counter[tuple[str, str]] = Counter()
    stages: dict[tuple[str, str], Counter[Stage]] = {}
    for stack in stacks:
        stage = stage_of(stack.frames)
        if stage is Stage.IDLE or not stack.frames:
            continue
        frame = telling(stack.frames)
        call = (frame.function, frame.file)
        calls[call] += stack.count
        stages.setdefault(call, Counter())[stage] += stack.count
    return tuple(
        HotCall(Frame(*call), stages[call].most_common(1)[0][0], count)
        for call, count in calls.most_common(most)
    )


def is_idle(profile: CpuProfile) -> bool:
    """Whether too little ran to judge by."""
    few = profile.samples < FEW_SAMPLES
    return few and profile.cpu_s <= IDLE_CORES * profile.duration_s


def headline(profile: CpuProfile) -> str:
    """The result in one sentence.

    >>> headline(CpuProfile(10.0, (), ()))
    'idle: 0.00 s of CPU time in 10 s is too little to judge; profile it while people talk to it'
    """
    if is_idle(profile) or not profile.cpu_s:
        spent = f"{profile.cpu_s:.2f} s of CPU time in {profile.duration_s:.0f} s"
        return f"idle: {spent} is too little to judge; profile it while people talk to it"
    stage, time = next(iter(profile.stages.items()))
    kind = "of the time the interpreter's lock was held" if profile.gil_only else "of the CPU time"
    share = f"takes {100 * time.cpu_s / profile.cpu_s:.0f} % {kind}"
    if stage is not Stage.OTHER:
        return f"{stage} {share}"
    where = next((call.frame for call in profile.hottest if call.stage is Stage.OTHER), None)
    named = "" if where is None else f", first of all {where.function} ({where.file})"
    return f"code of no known stage {share}{named}"


def as_json(profile: CpuProfile) -> dict[str, Any]:
    """Everything, for a machine; times in seconds, shares of 1."""
    return {
        "schema_version": 1,
        "headline": headline(profile),
        "duration_s": round(profile.duration_s, 3),
        "gil_only": profile.gil_only,
        "idle": is_idle(profile),
        "cpu_s": round(profile.cpu_s, 3),
        "samples": profile.samples,
        "stages": _stages_json(profile.stages, profile.cpu_s),
        "processes": [
            {
                "pid": process.pid,
                "name": process.name,
                "cpu_s": round(process.cpu_s, 3),
                "samples": process.samples,
                "stages": _stages_json(process.stages, profile.cpu_s),
            }
            for process in profile.processes
        ],
        "hottest": [
            {
                "function": call.frame.function,
                "file": call.frame.file,
                "stage": call.stage,
                "samples": call.samples,
            }
            for call in profile.hottest
        ],
    }


def _stages_json(stages: Mapping[Stage, StageTime], whole_s: float) -> dict[str, Any]:
    return {
        stage: {
            "cpu_s": round(time.cpu_s, 3),
            "share": round(time.cpu_s / whole_s, 4) if whole_s else None,
            "native_s": round(time.native_s, 3),
            "samples": time.samples,
            "threads": None if time.threads is None else round(time.threads, 3),
        }
        for stage, time in stages.items()
    }
