"""What the NVIDIA driver is, asked of NVML, and whether it is new enough."""

from dataclasses import dataclass
from typing import Any

from rtvc.errors import why
from rtvc.profile.doctor.findings import Finding

CUDA_NEEDED = (12, 0)


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
