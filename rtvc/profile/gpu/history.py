"""Watching GPUs over time: peaks, energy, who holds what; rows of it in a file as they come."""

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

from rtvc.clock import Clock
from rtvc.errors import RecordError, UsageError, why
from rtvc.instruments.gpu import GpuSample
from rtvc.instruments.gpu_processes import GpuProcess

LEAST_INTERVAL_S = 0.1
"""NVML itself averages over 1/6 to 1 s: asked more often it repeats itself."""

MODEL_BYTES = 200_000_000
RULE = "a process with more than 200 MB of device memory counts as one that holds a model"
"""How processes that hold a model are told from those that do not."""

HISTORY_READINGS = 600
"""Readings that a sparkline is drawn from: the last 5 minutes by default."""


class Sampler(Protocol):
    """As GpuSampler."""

    def sample(self) -> tuple[GpuSample, ...]:
        """A reading of every device."""


def readings(
    sampler: Sampler,
    clock: Clock,
    *,
    interval_s: float,
    duration_s: float | None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[tuple[GpuSample, ...]]:
    """A reading at once, then one every interval, until `duration_s` is over; None: for ever."""
    begun_s = due_s = clock.now()
    while duration_s is None or due_s <= begun_s + duration_s + 1e-9:
        yield sampler.sample()
        # A reading that took longer than the interval is not made up for.
        due_s = max(due_s + interval_s, clock.now())
        if duration_s is None or due_s <= begun_s + duration_s + 1e-9:
            sleep(max(0.0, due_s - clock.now()))


def holds_model(process: GpuProcess) -> bool:
    """By RULE."""
    return (process.memory_bytes or 0) > MODEL_BYTES


def model_holders(sample: GpuSample) -> int | None:
    """Processes that hold a model, by RULE; None if that is not to be known."""
    known = sample.processes
    if known is None or any(process.memory_bytes is None for process in known):
        return None
    return sum(map(holds_model, known))


# What a device did over time


@dataclass(frozen=True, slots=True)
class Figures:
    """Readings of one figure; absent ones are not among them."""

    n: int
    """Readings that had it."""
    mean: float
    least: float
    most: float


@dataclass(slots=True)
class _Tally:
    """Figures without keeping the readings."""

    n: int = 0
    total: float = 0.0
    least: float = math.inf
    most: float = -math.inf

    def add(self, value: float | None) -> None:
        if value is not None:
            self.n += 1
            self.total += value
            self.least, self.most = min(self.least, value), max(self.most, value)

    def figures(self) -> Figures | None:
        return Figures(self.n, self.total / self.n, self.least, self.most) if self.n else None


@dataclass(frozen=True, slots=True)
class ProcessPeak:
    """What a process held at most."""

    pid: int
    """As NVML lists it."""
    name: str | None
    """None: the number is the host's."""
    peak_bytes: int | None
    """Most device memory it held; None if NVML does not tell."""
    seen_s: float
    """From the first reading it was in to the last."""


@dataclass(frozen=True, slots=True)
class DeviceSummary:
    """One device over the whole watch; None is what was never readable."""

    index: int
    uuid: str | None
    name: str | None
    readings: int
    """How many."""
    seconds: float
    """From the first to the last."""
    busy_ratio: Figures | None
    """0 to 1."""
    memory_total_bytes: int | None
    memory_used_bytes: Figures | None
    """`most` is the peak of the readings; what rose and fell between two is missed."""
    memory_above_baseline_peak_bytes: int | None
    """Most by which it rose above the first reading, by whomever."""
    power_w: Figures | None
    power_limit_w: float | None
    energy_j: float | None
    """Joules; see `energy_from`."""
    energy_from: str | None
    """"counter" (the device's own) or "power" (integrated between readings)."""
    sm_clock_mhz: Figures | None
    sm_clock_max_mhz: int | None
    throttled_s: dict[str, float] | None
    """Seconds by reason, of those that cost speed; None if reasons are not readable."""
    temperature_c: Figures | None
    model_holders: Figures | None
    """Processes holding a model, by RULE."""
    processes: tuple[ProcessPeak, ...]
    """All that were ever listed, the largest first."""
    trouble: str | None
    """The last."""


@dataclass(slots=True)
class DeviceHistory:
    """One device, reading by reading; its memory does not grow with time."""

    first: GpuSample
    last: GpuSample
    recent: deque[GpuSample] = field(default_factory=lambda: deque(maxlen=HISTORY_READINGS))
    """The last readings, for sparklines."""
    readings: int = 0
    busy: _Tally = field(default_factory=_Tally)
    used: _Tally = field(default_factory=_Tally)
    above: _Tally = field(default_factory=_Tally)
    power: _Tally = field(default_factory=_Tally)
    clock: _Tally = field(default_factory=_Tally)
    celsius: _Tally = field(default_factory=_Tally)
    holders: _Tally = field(default_factory=_Tally)
    throttled_s: dict[str, float] | None = None
    integrated_j: float | None = None
    seen: dict[int, tuple[GpuProcess, int | None, float, float]] = field(default_factory=dict)
    """Process → as last listed, peak, first and last instant."""

    @classmethod
    def starting(cls, sample: GpuSample) -> "DeviceHistory":
        history = cls(sample, sample)
        history.add(sample)
        return history

    def add(self, sample: GpuSample) -> None:
        since_s = sample.at_s - self.last.at_s
        self._add_energy(sample, since_s)
        self._add_throttling(sample, since_s)
        for process in sample.processes or ():
            self._add_process(process, sample.at_s)
        self.busy.add(sample.busy_ratio)
        self.used.add(sample.memory_used_bytes)
        self.above.add(sample.memory_above_baseline_bytes)
        self.power.add(sample.power_w)
        self.clock.add(sample.sm_clock_mhz)
        self.celsius.add(sample.temperature_c)
        self.holders.add(model_holders(sample))
        self.recent.append(sample)
        self.readings += 1
        self.last = sample

    def _add_energy(self, sample: GpuSample, since_s: float) -> None:
        before_w, now_w = self.last.power_w, sample.power_w
        if before_w is not None and now_w is not None and since_s > 0:
            self.integrated_j = (self.integrated_j or 0.0) + since_s * (before_w + now_w) / 2

    def _add_throttling(self, sample: GpuSample, since_s: float) -> None:
        if sample.throttle_reasons is None:
            return
        counted = self.throttled_s if self.throttled_s is not None else {}
        for reason in sample.throttled_by:
            counted[reason] = counted.get(reason, 0.0) + since_s
        self.throttled_s = counted

    def _add_process(self, process: GpuProcess, at_s: float) -> None:
        _, peak, first_s, _ = self.seen.get(process.pid, (process, None, at_s, at_s))
        if process.memory_bytes is not None:
            peak = max(peak or 0, process.memory_bytes)
        self.seen[process.pid] = (process, peak, first_s, at_s)

    def energy(self) -> tuple[float | None, str | None]:
        """Joules since the first reading, and what they are from."""
        begun, now = self.first.energy_counter_j, self.last.energy_counter_j
        if begun is not None and now is not None and now >= begun and self.readings > 1:
            return now - begun, "counter"
        return self.integrated_j, None if self.integrated_j is None else "power"

    def processes(self) -> tuple[ProcessPeak, ...]:
        found = [
            ProcessPeak(pid, process.name, peak, last_s - first_s)
            for pid, (process, peak, first_s, last_s) in self.seen.items()
        ]
        return tuple(sorted(found, key=lambda peak: (-(peak.peak_bytes or 0), peak.pid)))

    def summary(self) -> DeviceSummary:
        energy_j, energy_from = self.energy()
        above = self.above.figures()
        return DeviceSummary(
            index=self.last.index,
            uuid=self.last.uuid,
            name=self.last.name,
            readings=self.readings,
            seconds=self.last.at_s - self.first.at_s,
            busy_ratio=self.busy.figures(),
            memory_total_bytes=self.last.memory_total_bytes,
            memory_used_bytes=self.used.figures(),
            memory_above_baseline_peak_bytes=None if above is None else int(above.most),
            power_w=self.power.figures(),
            power_limit_w=self.last.power_limit_w,
            energy_j=energy_j,
            energy_from=energy_from,
            sm_clock_mhz=self.clock.figures(),
            sm_clock_max_mhz=self.last.sm_clock_max_mhz,
            throttled_s=self.throttled_s,
            temperature_c=self.celsius.figures(),
            model_holders=self.holders.figures(),
            processes=self.processes(),
            trouble=self.last.trouble,
        )


class GpuHistory:
    """All devices, told apart by UUID."""

    def __init__(self) -> None:
        self._devices: dict[str | int, DeviceHistory] = {}

    def add(self, samples: Iterable[GpuSample]) -> None:
        for sample in samples:
            key = sample.uuid or sample.index
            if key in self._devices:
                self._devices[key].add(sample)
            else:
                self._devices[key] = DeviceHistory.starting(sample)

    @property
    def devices(self) -> list[DeviceHistory]:
        """In NVML's order."""
        return sorted(self._devices.values(), key=lambda device: device.last.index)


# Rows in a file

COLUMNS: dict[str, type] = {
    "at_s": float,
    "gpu": int,
    "uuid": str,
    "name": str,
    "cuda_index": int,
    "busy_ratio": float,
    "memory_busy_ratio": float,
    "memory_total_bytes": int,
    "memory_used_bytes": int,
    "memory_above_baseline_bytes": int,
    "power_w": float,
    "power_limit_w": float,
    "energy_counter_j": float,
    "sm_clock_mhz": int,
    "sm_clock_max_mhz": int,
    "memory_clock_mhz": int,
    "temperature_c": int,
    "pcie_generation": int,
    "pcie_lanes": int,
    "throttle_reasons": str,
    "model_holders": int,
    "processes": str,
    "trouble": str,
    "started_at": str,
}
"""Of a row: one device at one instant. `at_s` counts from `started_at` (UTC); an empty cell is
unknown; `throttle_reasons` are joined by "; "; `processes` is JSON."""

Row = dict[str, Any]


def row_of(sample: GpuSample, begun_s: float, started_at: str) -> Row:
    """A reading as a row."""
    reasons = sample.throttle_reasons
    found: Row = {name: getattr(sample, name, None) for name in COLUMNS}
    found["at_s"] = round(sample.at_s - begun_s, 4)
    found["gpu"] = sample.index
    found["throttle_reasons"] = None if reasons is None else "; ".join(reasons)
    found["model_holders"] = model_holders(sample)
    found["processes"] = _processes_cell(sample.processes)
    found["started_at"] = started_at
    return found


def _processes_cell(processes: Sequence[GpuProcess] | None) -> str | None:
    if processes is None:
        return None
    listed = [
        {"pid": process.pid, "name": process.name, "memory_bytes": process.memory_bytes}
        for process in processes
    ]
    return json.dumps(listed, ensure_ascii=False)


class RowFile:
    """Rows in a CSV file, each flushed as it comes; a .parquet file is written from them at the
    end, and until then they lie beside it as NAME.parquet.csv."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        if path.suffix not in (".csv", ".parquet"):
            raise UsageError(f"expected a file that ends in .csv or .parquet, got {path.name}")
        self._csv = path if path.suffix == ".csv" else path.with_name(f"{path.name}.csv")
        for file in {path, self._csv}:
            if file.exists():
                raise UsageError(f"expected a new file, but {file} exists: name another")
        self._file = self._opened()
        self._write(",".join(COLUMNS))

    def append(self, rows: Iterable[Row]) -> None:
        """Write and flush."""
        for row in rows:
            self._write(",".join(_cell(row[name], kind) for name, kind in COLUMNS.items()))
            self.rows += 1
        self._guarded(self._file.flush)

    def close(self) -> None:
        """Close; write the Parquet file if that is what was asked for."""
        self._guarded(self._file.close)
        if self._csv != self.path:
            self._guarded(self._write_parquet)

    def _opened(self) -> TextIO:
        opened: TextIO = self._guarded(
            lambda: self._csv.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        )
        return opened

    def _write(self, line: str) -> None:
        self._guarded(lambda: self._file.write(line + "\n"))

    def _guarded(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except OSError as error:
            raise RecordError(f"cannot write to {self.path}: {why(error)}") from None

    def _write_parquet(self) -> None:
        # Loaded here: watching must not cost the import of pyarrow.
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet

        arrow = {str: pyarrow.string(), float: pyarrow.float64(), int: pyarrow.int64()}
        table = pyarrow.csv.read_csv(
            self._csv,
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: arrow[kind] for name, kind in COLUMNS.items()},
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        )
        pyarrow.parquet.write_table(table, self.path)
        self._csv.unlink()


def _cell(value: Any, kind: type) -> str:
    """Text is always quoted and nothing else is, so that an empty cell is None.

    >>> _cell(None, str), _cell("", str), _cell("a b", str), _cell(2, float)
    ('', '""', '"a b"', '2.0')
    """
    if value is None:
        return ""
    if kind is str:
        return '"' + " ".join(str(value).split()).replace('"', '""') + '"'
    return repr(kind(value))
