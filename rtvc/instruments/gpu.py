"""What the GPUs do, read through NVML as nvidia-smi reads it; a reading never raises.

What NVML does not or may not tell is None. Devices are told apart by UUID: NVML numbers them in the
order of the PCI bus, CUDA only those that CUDA_VISIBLE_DEVICES leaves, the fastest first.

In a container that does not share the host's process numbers (docker's --pid=host) NVML lists no
process, or lists the host's numbers. What a process here holds is unknown then; what there is
instead is `memory_above_baseline_bytes`: by how much the memory used on the device, by whomever,
has risen since the sampler's first reading.
"""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rtvc.clock import Clock
from rtvc.config import interface
from rtvc.instruments.cuda_order import cuda_order
from rtvc.instruments.gpu_processes import GpuProcess, NameOf, process_name

BUSY = "share of NVML's sample period (1/6 to 1 s) in which any kernel ran; not how full the GPU is"
"""What "GPU busy" means."""

THROTTLE_REASONS: Mapping[int, str] = {
    0x1: "idle",
    0x2: "application clocks set",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal slowdown (software)",
    0x40: "thermal slowdown (hardware)",
    0x80: "power brake",
    0x100: "display clocks set",
    0x200: "board limit",
    0x400: "reliability limit",
}
"""NVML's bits, why a clock is not at its maximum → its name."""

HARMLESS_REASONS = frozenset({"idle", "application clocks set", "display clocks set"})
"""Nothing to do, or somebody's setting: not throttling."""

_NOT_AVAILABLE = (0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)
"""NVML_VALUE_NOT_AVAILABLE, of either width."""

_UNLISTED_BYTES = 200_000_000
"""More than this used with no process listed: processes are hidden from us."""

_RESERVED_BYTES = 800_000_000
"""What older drivers count as used though it is their own."""


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One reading of one device; None is what NVML does not or may not tell."""

    at_s: float
    """When, on the sampler's clock."""
    index: int
    """NVML's number of the device, in the order of the PCI bus."""
    uuid: str | None
    """Tells the device apart, whatever numbers it."""
    name: str | None
    """Product."""
    cuda_index: int | None
    """Number a CUDA program started here gives it; None: hidden from CUDA, or not to be known."""
    mig: bool | None
    """Whether it is split into instances (MIG): use and processes are theirs, and not read."""
    busy_ratio: float | None
    """0 to 1: see BUSY."""
    memory_busy_ratio: float | None
    """0 to 1: share of the sample period in which device memory was read or written."""
    memory_total_bytes: int | None
    """Device memory."""
    memory_used_bytes: int | None
    """Of it in use, by whomever; freed memory that an allocator keeps counts as used."""
    memory_above_baseline_bytes: int | None
    """`memory_used_bytes` less that of the sampler's first reading; of all processes together."""
    power_w: float | None
    """Watts drawn."""
    power_limit_w: float | None
    """Watts at which the driver holds back."""
    energy_counter_j: float | None
    """Joules since the driver was loaded."""
    sm_clock_mhz: int | None
    """Clock of the multiprocessors."""
    sm_clock_max_mhz: int | None
    """Highest it can be."""
    memory_clock_mhz: int | None
    """Clock of the memory."""
    throttle_reasons: tuple[str, ...] | None
    """Why a clock is not at its maximum, by name; empty: it is."""
    temperature_c: int | None
    """Degrees Celsius."""
    pcie_generation: int | None
    """Of the link at this moment; an idle device lowers it."""
    pcie_lanes: int | None
    """Of the link at this moment."""
    processes: tuple[GpuProcess, ...] | None
    """Those with memory on the device, the largest first; None: hidden, see `trouble`."""
    trouble: str | None
    """Why figures are missing, beyond a device that does not have them; None: nothing to say."""

    @property
    def throttled_by(self) -> tuple[str, ...]:
        """The reasons that cost speed; empty also if unknown."""
        known = self.throttle_reasons or ()
        return tuple(reason for reason in known if reason not in HARMLESS_REASONS)


@dataclass(frozen=True, slots=True)
class NoGpu:
    """There is no device to read."""

    reason: str
    """One line: why, and what helps."""


@dataclass(frozen=True, slots=True)
class _Device:
    """What does not change."""

    index: int
    handle: Any
    """NVML's; None if it gave none."""
    uuid: str | None
    name: str | None
    mig: bool | None
    sm_clock_max_mhz: int | None
    trouble: str | None


def open_gpus(
    clock: Clock, nvml: Any = None, *, name_of: NameOf = process_name
) -> "GpuSampler | NoGpu":
    """A sampler of all devices, or why there is none; `nvml` is pynvml, or what stands in for it.

    Close the sampler when done.
    """
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return NoGpu("nvidia-ml-py is not installed: pip install nvidia-ml-py")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return NoGpu(_why_not(nvml, error))
    try:
        count = int(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError as error:
        nvml.nvmlShutdown()
        return NoGpu(_why_not(nvml, error))
    if not count:
        nvml.nvmlShutdown()
        return NoGpu("the NVIDIA driver is here, but sees no device")
    return GpuSampler(nvml, clock, count, name_of=name_of)


def _why_not(nvml: Any, error: Any) -> str:
    known = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
            "no NVIDIA driver is here (libnvidia-ml.so.1 is missing); a container needs --gpus all"
        ),
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: (
            "the NVIDIA driver is installed, but not loaded; nvidia-smi says why"
        ),
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
            "the NVIDIA driver was updated under a running kernel: its library and its module "
            "differ; reboot"
        ),
        nvml.NVML_ERROR_NO_PERMISSION: "the NVIDIA driver lets this user read nothing",
    }
    return known.get(error.value) or f"the NVIDIA driver says: {error}"


class GpuSampler:
    """Reads all devices; made by `open_gpus`."""

    def __init__(self, nvml: Any, clock: Clock, count: int, *, name_of: NameOf) -> None:
        self._nvml = nvml
        self._clock = clock
        self._name_of = name_of
        self._names: dict[int, str | None] = {}
        self._baseline_bytes: dict[int, int] = {}
        self._devices = [self._device(index) for index in range(count)]
        self._cuda = cuda_order(
            [(device.uuid or "", device.name or "") for device in self._devices],
            interface("CUDA_VISIBLE_DEVICES"),
            interface("CUDA_DEVICE_ORDER"),
        )

    def __enter__(self) -> "GpuSampler":
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of NVML; call it once."""
        self._nvml.nvmlShutdown()

    def sample(self) -> tuple[GpuSample, ...]:
        """A reading of every device."""
        return tuple(self._sample(device) for device in self._devices)

    def _device(self, index: int) -> _Device:
        query = _Query(self._nvml, index)
        handle = query.ask("nvmlDeviceGetHandleByIndex")
        about = _Query(self._nvml, handle)
        mig = about.ask("nvmlDeviceGetMigMode")
        return _Device(
            index=index,
            handle=handle,
            uuid=about.text("nvmlDeviceGetUUID"),
            name=about.text("nvmlDeviceGetName"),
            mig=None if mig is None else bool(mig[0]),
            sm_clock_max_mhz=about.number(
                "nvmlDeviceGetMaxClockInfo", argument=self._nvml.NVML_CLOCK_SM
            ),
            trouble=f"NVML gives no access: {query.refusal}" if query.refusal else None,
        )

    def _sample(self, device: _Device) -> GpuSample:
        query = _Query(self._nvml, device.handle)
        nvml = self._nvml
        use = query.ask("nvmlDeviceGetUtilizationRates")
        memory, exact = self._memory(query)
        used = _field(memory, "used")
        processes, hidden = self._processes(query, used, exact=exact)
        power_w = query.number("nvmlDeviceGetPowerUsage", scale=1e-3)
        return GpuSample(
            at_s=self._clock.now(),
            index=device.index,
            uuid=device.uuid,
            name=device.name,
            cuda_index=self._cuda_index(device),
            mig=device.mig,
            busy_ratio=_ratio(_field(use, "gpu")),
            memory_busy_ratio=_ratio(_field(use, "memory")),
            memory_total_bytes=_field(memory, "total"),
            memory_used_bytes=used,
            memory_above_baseline_bytes=self._above_baseline(device, used),
            power_w=power_w,
            power_limit_w=query.number("nvmlDeviceGetEnforcedPowerLimit", scale=1e-3),
            energy_counter_j=query.number("nvmlDeviceGetTotalEnergyConsumption", scale=1e-3),
            sm_clock_mhz=query.number("nvmlDeviceGetClockInfo", argument=nvml.NVML_CLOCK_SM),
            sm_clock_max_mhz=device.sm_clock_max_mhz,
            memory_clock_mhz=query.number("nvmlDeviceGetClockInfo", argument=nvml.NVML_CLOCK_MEM),
            throttle_reasons=_reasons(
                query.number(
                    "nvmlDeviceGetCurrentClocksEventReasons",
                    "nvmlDeviceGetCurrentClocksThrottleReasons",
                )
            ),
            temperature_c=query.number(
                "nvmlDeviceGetTemperatureV",
                "nvmlDeviceGetTemperature",
                argument=nvml.NVML_TEMPERATURE_GPU,
            ),
            pcie_generation=query.number("nvmlDeviceGetCurrPcieLinkGeneration"),
            pcie_lanes=query.number("nvmlDeviceGetCurrPcieLinkWidth"),
            processes=processes,
            trouble=device.trouble or query.trouble or hidden,
        )

    def _memory(self, query: "_Query") -> tuple[Any, bool]:
        """What NVML says of the memory, and whether the driver's own share is told apart."""
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        if version is not None:
            memory = query.ask("nvmlDeviceGetMemoryInfo", argument=version)
            if memory is not None:
                return memory, True
        return query.ask("nvmlDeviceGetMemoryInfo"), False

    def _above_baseline(self, device: _Device, used_bytes: int | None) -> int | None:
        if used_bytes is None:
            return None
        return used_bytes - self._baseline_bytes.setdefault(device.index, used_bytes)

    def _cuda_index(self, device: _Device) -> int | None:
        if self._cuda is None or device.uuid not in self._cuda:
            return None
        return self._cuda.index(device.uuid)

    def _processes(
        self, query: "_Query", used_bytes: int | None, *, exact: bool
    ) -> tuple[tuple[GpuProcess, ...] | None, str | None]:
        """The processes, or None; and why they are not to be taken at face value."""
        compute = query.ask("nvmlDeviceGetComputeRunningProcesses")
        if compute is None:
            return None, "NVML does not list processes here"
        graphics = query.ask("nvmlDeviceGetGraphicsRunningProcesses") or ()
        limit_bytes = _UNLISTED_BYTES if exact else _UNLISTED_BYTES + _RESERVED_BYTES
        if not compute and not graphics and (used_bytes or 0) > limit_bytes:
            return None, (
                f"{(used_bytes or 0) / 1e6:.0f} MB are used, but NVML lists no process, "
                "as in a container without --pid=host"
            )
        held = _merged([*compute, *graphics])
        self._names = {pid: self._names.get(pid) or self._name_of(pid) for pid in held}
        found = [GpuProcess(pid, self._names[pid], held[pid]) for pid in held]
        found.sort(key=lambda process: (-(process.memory_bytes or 0), process.pid))
        foreign = any(process.name is None for process in found)
        return tuple(found), _FOREIGN if foreign else None


_FOREIGN = "process numbers are the host's, as in a container without --pid=host"


class _Query:
    """Questions about one device in one reading; what NVML does not tell is None."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self.trouble: str | None = None
        """The first error that no ordinary device gives, such as one that fell off the bus."""
        self.refusal: str | None = None
        """The first error, of whatever kind."""

    def ask(self, *functions: str, argument: Any = None) -> Any:
        """The answer of the first function that has one; the newest comes first."""
        if self._handle is None:
            return None
        arguments = (self._handle,) if argument is None else (self._handle, argument)
        for name in functions:
            function = getattr(self._nvml, name, None)
            if function is None:
                continue
            try:
                return function(*arguments)
            except self._nvml.NVMLError as error:
                self._note(error)
        return None

    def number(self, *functions: str, argument: Any = None, scale: float | None = None) -> Any:
        """A number, times `scale`."""
        value = _known(self.ask(*functions, argument=argument))
        return value if value is None or scale is None else value * scale

    def text(self, function: str) -> str | None:
        value = self.ask(function)
        return value.decode(errors="replace") if isinstance(value, bytes) else value

    def _note(self, error: Any) -> None:
        self.refusal = self.refusal or str(error)
        ordinary = (
            self._nvml.NVML_ERROR_NOT_SUPPORTED,
            self._nvml.NVML_ERROR_NO_PERMISSION,
            self._nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            self._nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
            self._nvml.NVML_ERROR_INVALID_ARGUMENT,
            self._nvml.NVML_ERROR_NO_DATA,
        )
        if error.value not in ordinary:
            self.trouble = self.trouble or f"NVML says: {error}"


def _known(value: Any) -> Any:
    return None if value is None or value in _NOT_AVAILABLE else value


def _field(found: Any, name: str) -> int | None:
    value: int | None = _known(getattr(found, name, None))
    return value


def _ratio(percent: int | None) -> float | None:
    return None if percent is None else percent / 100


def _reasons(bits: int | None) -> tuple[str, ...] | None:
    """
    >>> _reasons(0x44), _reasons(0), _reasons(None), _reasons(0x1000)
    (('power cap', 'thermal slowdown (hardware)'), (), None, ('reason 0x1000',))
    """
    if bits is None:
        return None
    single = [1 << place for place in range(bits.bit_length()) if bits >> place & 1]
    return tuple(THROTTLE_REASONS.get(bit, f"reason {bit:#x}") for bit in single)


def _merged(listed: Iterable[Any]) -> dict[int, int | None]:
    """Bytes by process; one that both computes and draws is listed twice."""
    held: dict[int, int | None] = {}
    for process in listed:
        memory = _field(process, "usedGpuMemory")
        before = held.get(process.pid)
        held[process.pid] = memory if before is None else max(before, memory or 0)
    return held
