"""What a cell's process takes while it measures: memory at its peak, processor time, energy."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psutil

from rtvc.clock import Clock
from rtvc.instruments.gpu import GpuSample, NoGpu, open_gpus
from rtvc.results.cells import Memory

HOST_EVERY_S = 0.02
"""Between two looks at the process: it costs some 30 µs."""

DEVICE_EVERY = 10
"""So many looks at the process to one at the device: that costs milliseconds."""

ReadDevice = Callable[[], GpuSample | None]
"""A reading of the device the cell runs on; None: it tells nothing."""


def nothing_to_read() -> GpuSample | None:
    """Of a device without a meter."""
    return None


@contextmanager
def device_reader(device: str, clock: Clock) -> Iterator[ReadDevice]:
    """Opens NVML for a cell that runs on a GPU; for any other there is nothing to read."""
    found = open_gpus(clock) if device == "cuda" else NoGpu("the cell runs on the CPU")
    if isinstance(found, NoGpu):
        yield nothing_to_read
        return
    with found as gpus:
        yield lambda: first_cuda(gpus.sample())


def first_cuda(samples: Sequence[GpuSample]) -> GpuSample | None:
    """The device that a process takes which names none; None: it cannot be known."""
    first = [sample for sample in samples if sample.cuda_index == 0]
    if first:
        return first[0]
    return samples[0] if len(samples) == 1 else None


class MemoryWatch:
    """Looks at memory again and again, in a thread of its own, from entering to leaving."""

    def __init__(
        self,
        read_device: ReadDevice,
        resident: Callable[[], int | None] | None = None,
    ) -> None:
        """`resident`: bytes this process has in memory; None: as the system says."""
        self._read_device = read_device
        self._resident = resident or resident_bytes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory", daemon=True)
        self._host: list[int] = []
        self._device: list[int] = []

    def __enter__(self) -> "MemoryWatch":
        self._look_at_host()
        self._look_at_device()
        self._thread.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._over.set()
        self._thread.join()
        self._look_at_host()
        self._look_at_device()

    @property
    def memory(self) -> Memory:
        """What was seen so far; before: the first look."""
        return Memory(
            host_before=self._host[0] if self._host else None,
            host_peak=max(self._host, default=None),
            device_before=self._device[0] if self._device else None,
            device_peak=max(self._device, default=None),
        )

    def _look(self) -> None:
        looks = 0
        while not self._over.wait(HOST_EVERY_S):
            looks += 1
            self._look_at_host()
            if looks % DEVICE_EVERY == 0:
                self._look_at_device()

    def _look_at_host(self) -> None:
        _note(self._host, self._resident())

    def _look_at_device(self) -> None:
        sample = self._read_device()
        _note(self._device, None if sample is None else sample.memory_used_bytes)


def _note(seen: list[int], found: int | None) -> None:
    """The first and the largest are all that is asked for."""
    if found is None:
        return
    if len(seen) < 2:
        seen.append(found)
    else:
        seen[1] = max(seen[1], found)


def resident_bytes() -> int | None:
    """Of this process."""
    try:
        return int(psutil.Process().memory_info().rss)
    except psutil.Error:
        return None


def cpu_seconds() -> float:
    """Of this process so far, in user and kernel mode."""
    times = psutil.Process().cpu_times()
    return float(times.user + times.system)


def energy_joules(read_device: ReadDevice) -> float | None:
    """Counter of the device since its driver was loaded; None: it has none."""
    sample = read_device()
    return None if sample is None else sample.energy_counter_j


def spent(before: float | None, after: float | None) -> float | None:
    """
    >>> spent(10.0, 12.5), spent(None, 12.5), spent(10.0, None)
    (2.5, None, None)
    """
    return None if before is None or after is None else after - before
