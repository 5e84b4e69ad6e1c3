"""Stands in for the module pynvml: devices with scripted values and errors.

A value may be a list: one answer a call, the last one for ever. An exception among the answers is
raised. A function whose value is None answers "not supported", as NVML does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

NOT_AVAILABLE = 0xFFFF_FFFF_FFFF_FFFF


class NvmlError(Exception):
    """As in pynvml: carries the code in `value`."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return {3: "Not Supported", 4: "Insufficient Permissions", 15: "GPU is lost"}.get(
            self.value, f"NVML Error with code {self.value}"
        )


INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED = 2, 3, 4, 9
LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND, GPU_IS_LOST, MISMATCH, UNKNOWN = 12, 13, 15, 18, 999


@dataclass
class FakeGpu:
    """One device; in NVML's own units."""

    uuid: Any = "GPU-aaaa"
    name: Any = "Fake T4"
    busy_percent: Any = 40
    memory_busy_percent: Any = 10
    total_bytes: Any = 16_000_000_000
    used_bytes: Any = 1_000_000_000
    power_mw: Any = 70_000
    limit_mw: Any = 75_000
    energy_mj: Any = None
    sm_mhz: Any = 1200
    sm_max_mhz: Any = 1590
    memory_mhz: Any = 5000
    reasons: Any = 0
    celsius: Any = 50
    pcie_generation: Any = 3
    pcie_lanes: Any = 16
    mig: Any = None
    compute: Any = ((4242, 900_000_000),)
    """(process, bytes) or a list of such tuples."""
    graphics: Any = ()
    handle: Any = None
    """An error instead of a handle."""


@dataclass
class FakeNvml:
    """The module; `init` is an error of nvmlInit, or None."""

    gpus: Sequence[FakeGpu] = field(default_factory=lambda: [FakeGpu()])
    init: Exception | None = None
    count: Exception | None = None
    memory_v2: bool = True
    """Whether the driver tells its own share of the memory apart (from 510 on)."""
    open: int = 0
    """nvmlInit less nvmlShutdown."""

    NVMLError = NvmlError
    NVML_ERROR_INVALID_ARGUMENT = INVALID_ARGUMENT
    NVML_ERROR_NOT_SUPPORTED = NOT_SUPPORTED
    NVML_ERROR_NO_PERMISSION = NO_PERMISSION
    NVML_ERROR_DRIVER_NOT_LOADED = DRIVER_NOT_LOADED
    NVML_ERROR_LIBRARY_NOT_FOUND = LIBRARY_NOT_FOUND
    NVML_ERROR_FUNCTION_NOT_FOUND = FUNCTION_NOT_FOUND
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = MISMATCH
    NVML_ERROR_NO_DATA = 21
    NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    nvmlMemory_v2 = 0x2000028  # noqa: N815 (NVML's name)

    def nvmlInit(self) -> None:  # noqa: N802 (NVML's name)
        if self.init is not None:
            raise self.init
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if self.count is not None:
            raise self.count
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:  # noqa: N802
        gpu = self.gpus[index]
        if gpu.handle is not None:
            raise gpu.handle
        return gpu

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> Any:  # noqa: N802
        return answer(gpu, "uuid")

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> Any:  # noqa: N802
        return answer(gpu, "name")

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> list[int]:  # noqa: N802
        return [int(answer(gpu, "mig"))] * 2

    def nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> SimpleNamespace:  # noqa: N802
        busy, memory = answer(gpu, "busy_percent"), answer(gpu, "memory_busy_percent")
        return SimpleNamespace(gpu=busy, memory=memory)

    def nvmlDeviceGetMemoryInfo(  # noqa: N802
        self, gpu: FakeGpu, version: int | None = None
    ) -> SimpleNamespace:
        if version is not None and not self.memory_v2:
            raise NvmlError(FUNCTION_NOT_FOUND)
        total, used = answer(gpu, "total_bytes"), answer(gpu, "used_bytes")
        return SimpleNamespace(total=total, used=used)

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> Any:  # noqa: N802
        return answer(gpu, "power_mw")

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu: FakeGpu) -> Any:  # noqa: N802
        return answer(gpu, "limit_mw")

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu) -> Any:  # noqa: N802
        return answer(gpu, "energy_mj")

    def nvmlDeviceGetClockInfo(self, gpu: FakeGpu, clock: int) -> Any:  # noqa: N802
        return answer(gpu, {1: "sm_mhz", 2: "memory_mhz"}[clock])

    def nvmlDeviceGetMaxClockInfo(self, gpu: FakeGpu, clock: int) -> Any:  # noqa: N802
        return answer(gpu, {1: "sm_max_mhz"}[clock])

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: FakeGpu) -> Any:  # noqa: N802
        return answer(gpu, "reasons")

    def nvmlDeviceGetTemperature(self, gpu: FakeGpu, sensor: int) -> Any:  # noqa: N802
        assert sensor == self.NVML_TEMPERATURE_GPU
        return answer(gpu, "celsius")

    def nvmlDeviceGetCurrPcieLinkGeneration(self, gpu: FakeGpu) -> Any:  # noqa: N802
        return answer(gpu, "pcie_generation")

    def nvmlDeviceGetCurrPcieLinkWidth(self, gpu: FakeGpu) -> Any:  # noqa: N802
        return answer(gpu, "pcie_lanes")

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> list[Any]:  # noqa: N802
        return _processes(answer(gpu, "compute"))

    def nvmlDeviceGetGraphicsRunningProcesses(self, gpu: FakeGpu) -> list[Any]:  # noqa: N802
        return _processes(answer(gpu, "graphics"))


def answer(gpu: FakeGpu, name: str) -> Any:
    """The next scripted value."""
    value = getattr(gpu, name)
    if isinstance(value, list):
        value = value.pop(0) if len(value) > 1 else value[0]
    if value is None:
        raise NvmlError(NOT_SUPPORTED)
    if isinstance(value, BaseException):
        raise value
    return value


def _processes(listed: Sequence[tuple[int, int | None]]) -> list[Any]:
    return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in listed]
