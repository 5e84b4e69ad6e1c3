"""Reading GPUs: every figure that NVML withholds is absent, and none of its errors ends a watch.

NVML is tests/nvml_fake.py here; what a real device says is looked at by tests/test_gpu.py.
"""

import subprocess
import sys
from typing import Any

import pytest

from rtvc.clock import FakeClock
from rtvc.instruments.cuda_order import cuda_order
from rtvc.instruments.gpu import GpuSample, GpuSampler, NoGpu, open_gpus
from rtvc.instruments.gpu_processes import GpuProcess, process_name
from rtvc.profile.gpu.history import (
    holds_model,
    model_holders,
)
from rtvc.profile.gpu.view import reading_line
from tests.nvml_fake import (
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    LIBRARY_NOT_FOUND,
    MISMATCH,
    NO_PERMISSION,
    NOT_AVAILABLE,
    NOT_SUPPORTED,
    UNKNOWN,
    FakeGpu,
    FakeNvml,
    NvmlError,
)

NAMES = {4242: "python -m rtvc", 4243: "ollama"}
FIGURES = (
    "busy_ratio",
    "memory_busy_ratio",
    "memory_total_bytes",
    "memory_used_bytes",
    "power_w",
    "power_limit_w",
    "energy_counter_j",
    "sm_clock_mhz",
    "sm_clock_max_mhz",
    "memory_clock_mhz",
    "throttle_reasons",
    "temperature_c",
    "pcie_generation",
    "pcie_lanes",
    "processes",
)
READABLE = {"energy_mj": 5_000_000}


def sampler_of(*gpus: FakeGpu, clock: FakeClock | None = None, **nvml: Any) -> GpuSampler:
    opened = open_gpus(clock or FakeClock(), FakeNvml(gpus, **nvml), name_of=NAMES.get)
    assert isinstance(opened, GpuSampler)
    return opened


def sample_of(gpu: FakeGpu, **nvml: Any) -> GpuSample:
    (sample,) = sampler_of(gpu, **nvml).sample()
    return sample


def no_cuda_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)


# One reading


def test_a_reading_is_in_the_units_of_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    no_cuda_settings(monkeypatch)
    sample = sample_of(FakeGpu(reasons=0x4 | 0x40, mig=0, **READABLE))
    assert (sample.index, sample.uuid, sample.name, sample.mig) == (0, "GPU-aaaa", "Fake T4", False)
    assert (sample.busy_ratio, sample.memory_busy_ratio) == (0.4, 0.1)
    assert (sample.memory_used_bytes, sample.memory_total_bytes) == (10**9, 16 * 10**9)
    assert (sample.power_w, sample.power_limit_w, sample.energy_counter_j) == (70.0, 75.0, 5000.0)
    assert (sample.sm_clock_mhz, sample.sm_clock_max_mhz, sample.memory_clock_mhz) == (
        1200,
        1590,
        5000,
    )
    assert sample.throttled_by == ("power cap", "thermal slowdown (hardware)")
    assert (sample.temperature_c, sample.pcie_generation, sample.pcie_lanes) == (50, 3, 16)
    assert sample.processes == (GpuProcess(4242, "python -m rtvc", 900_000_000),)
    assert (sample.cuda_index, sample.trouble) == (0, None)


def test_having_nothing_to_do_is_not_throttling() -> None:
    sample = sample_of(FakeGpu(reasons=0x1 | 0x2))
    assert sample.throttle_reasons == ("idle", "application clocks set")
    assert sample.throttled_by == ()


@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION])
def test_what_nvml_withholds_is_absent_figure_by_figure(code: int) -> None:
    refusal = NvmlError(code)
    bare = FakeGpu(
        **dict.fromkeys(
            (
                *("uuid", "name", "busy_percent", "total_bytes", "power_mw", "limit_mw"),
                *("energy_mj", "sm_mhz", "sm_max_mhz", "memory_mhz", "reasons", "celsius"),
                *("pcie_generation", "pcie_lanes", "mig", "compute", "graphics"),
            ),
            refusal,
        )
    )
    sample = sample_of(bare)
    assert {name: getattr(sample, name) for name in FIGURES} == dict.fromkeys(FIGURES)
    assert sample.trouble == "NVML does not list processes here"
    assert "GPU 0" in reading_line(sample, 0.0)


@pytest.mark.parametrize(
    ("setting", "figure"),
    [
        ("power_mw", "power_w"),
        ("sm_mhz", "sm_clock_mhz"),
        ("energy_mj", "energy_counter_j"),
        ("busy_percent", "busy_ratio"),
        ("used_bytes", "memory_used_bytes"),
        ("celsius", "temperature_c"),
    ],
)
@pytest.mark.parametrize("none", [0xFFFF_FFFF, NOT_AVAILABLE])
def test_the_number_that_means_unknown_is_no_figure(setting: str, figure: str, none: int) -> None:
    sample = sample_of(FakeGpu(**{**READABLE, setting: none}))
    assert getattr(sample, figure) is None
    others = [name for name in FIGURES if name != figure]
    assert all(getattr(sample, name) is not None for name in others)


def test_a_device_that_fell_off_the_bus_is_named_and_ends_nothing() -> None:
    lost = NvmlError(GPU_IS_LOST)
    sampler = sampler_of(
        FakeGpu(busy_percent=[40, lost], used_bytes=[10**9, lost], compute=[((4242, 1),), lost]),
        FakeGpu(uuid="GPU-bbbb"),
    )
    assert [sample.trouble for sample in sampler.sample()] == [None, None]
    first, second = sampler.sample()
    assert (first.busy_ratio, first.memory_used_bytes, first.processes) == (None, None, None)
    assert first.trouble == "NVML says: GPU is lost"
    assert (second.busy_ratio, second.trouble) == (0.4, None)


def test_a_device_without_a_handle_is_listed() -> None:
    sample = sample_of(FakeGpu(handle=NvmlError(NO_PERMISSION)))
    assert (sample.index, sample.uuid, sample.busy_ratio) == (0, None, None)
    assert sample.trouble == "NVML gives no access: Insufficient Permissions"


def test_the_rise_above_the_first_reading_is_kept_by_device() -> None:
    sampler = sampler_of(
        FakeGpu(used_bytes=[1000, 5000, 700]), FakeGpu(uuid="GPU-b", used_bytes=[10, 10, 30])
    )
    rises = [[sample.memory_above_baseline_bytes for sample in sampler.sample()] for _ in range(3)]
    assert rises == [[0, 0], [4000, 0], [-300, 20]]


# Processes


def test_processes_that_compute_and_draw_are_listed_once() -> None:
    gpu = FakeGpu(compute=((4243, 300), (4242, 500)), graphics=((4243, 700),))
    assert sample_of(gpu).processes == (
        GpuProcess(4243, "ollama", 700),
        GpuProcess(4242, "python -m rtvc", 500),
    )


def test_numbers_of_the_host_are_said_to_be_so() -> None:
    sample = sample_of(FakeGpu(compute=((99, 10**9), (4242, None))))
    assert sample.processes == (
        GpuProcess(99, None, 10**9),
        GpuProcess(4242, "python -m rtvc", None),
    )
    assert sample.trouble is not None
    assert "the host's" in sample.trouble
    assert "--pid=host" in sample.trouble


@pytest.mark.parametrize(
    ("used_bytes", "memory_v2", "hidden"),
    [
        (300_000_000, True, True),
        (100_000_000, True, False),
        # An older driver counts what it keeps for itself as used.
        (900_000_000, False, False),
        (1_100_000_000, False, True),
    ],
)
def test_an_empty_list_beside_used_memory_hides_processes(
    used_bytes: int, memory_v2: bool, hidden: bool
) -> None:
    sample = sample_of(FakeGpu(used_bytes=used_bytes, compute=()), memory_v2=memory_v2)
    assert sample.processes == (None if hidden else ())
    assert ("--pid=host" in (sample.trouble or "")) is hidden
    assert model_holders(sample) == (None if hidden else 0)


def test_a_process_that_uses_no_gpu_is_another_than_nvml_means() -> None:
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as child:
        assert process_name(child.pid) is None
        child.communicate("\n")
    assert process_name(2**22 + 1) is None


@pytest.mark.parametrize(
    ("compute", "holders"),
    [
        (((4242, 200_000_000),), 0),
        (((4242, 200_000_001), (4243, 5 * 10**9), (7, 10)), 2),
        (((4242, 10**9), (4243, None)), None),
    ],
)
def test_more_than_200_mb_hold_a_model(
    compute: tuple[tuple[int, int | None], ...], holders: int | None
) -> None:
    assert model_holders(sample_of(FakeGpu(compute=compute))) == holders
    assert not holds_model(GpuProcess(1, None, None))


# Which device is which


@pytest.mark.parametrize(
    ("visible", "order", "expected"),
    [
        (None, None, None),
        (None, "PCI_BUS_ID", ("GPU-a1", "GPU-a2", "GPU-b")),
        ("2,0", "PCI_BUS_ID", ("GPU-b", "GPU-a1")),
        ("2,0", None, None),
        ("GPU-b,GPU-a2", None, ("GPU-b", "GPU-a2")),
        ("GPU-b,GPU-a,GPU-a1", None, ("GPU-b",)),
        ("GPU-b,GPU-b", None, ("GPU-b",)),
        ("0,7,1", "PCI_BUS_ID", ("GPU-a1",)),
        ("", None, ()),
        ("-1", "PCI_BUS_ID", ()),
        ("MIG-1234", None, None),
    ],
)
def test_devices_are_mapped_by_uuid(
    visible: str | None, order: str | None, expected: tuple[str, ...] | None
) -> None:
    devices = [("GPU-a1", "A100"), ("GPU-a2", "A100"), ("GPU-b", "H100")]
    assert cuda_order(devices, visible, order) == expected


def test_a_reading_says_which_number_cuda_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    no_cuda_settings(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    first, second = sampler_of(FakeGpu(), FakeGpu(uuid="GPU-bbbb")).sample()
    assert (first.cuda_index, second.cuda_index) == (None, 0)


# None at all


@pytest.mark.parametrize(
    ("nvml", "said"),
    [
        (FakeNvml(init=NvmlError(LIBRARY_NOT_FOUND)), "no NVIDIA driver"),
        (FakeNvml(init=NvmlError(DRIVER_NOT_LOADED)), "not loaded"),
        (FakeNvml(init=NvmlError(MISMATCH)), "reboot"),
        (FakeNvml(init=NvmlError(NO_PERMISSION)), "lets this user read nothing"),
        (FakeNvml(count=NvmlError(UNKNOWN)), "code 999"),
        (FakeNvml(gpus=()), "sees no device"),
    ],
)
def test_no_gpu_is_an_answer_and_says_why(nvml: FakeNvml, said: str) -> None:
    opened = open_gpus(FakeClock(), nvml)
    assert isinstance(opened, NoGpu)
    assert said in opened.reason
    assert nvml.open == 0


def test_nvml_is_let_go_of() -> None:
    nvml = FakeNvml()
    opened = open_gpus(FakeClock(), nvml, name_of=NAMES.get)
    assert isinstance(opened, GpuSampler)
    with opened:
        assert nvml.open == 1
    assert nvml.open == 0
