"""Watching GPUs: every figure that NVML withholds is absent, and none of its errors ends a watch.

NVML is tests/nvml_fake.py here; what a real device says is looked at by tests/test_gpu.py.
"""

import csv
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.cli import main
from rtvc.clock import FakeClock
from rtvc.config import child_environment
from rtvc.errors import RecordError, UsageError
from rtvc.instruments.gpu import (
    GpuProcess,
    GpuSample,
    GpuSampler,
    NoGpu,
    cuda_order,
    open_gpus,
    process_name,
)
from rtvc.profile.gpu.history import (
    COLUMNS,
    GpuHistory,
    RowFile,
    holds_model,
    model_holders,
    readings,
    row_of,
)
from rtvc.profile.gpu.view import describe, reading_line, sparkline
from rtvc.stt.models import cuda_device_count
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


# Over time


def watched(gpu: FakeGpu, count: int, interval_s: float = 0.5) -> GpuHistory:
    clock = FakeClock(100.0)
    sampler = sampler_of(gpu, clock=clock)
    history = GpuHistory()
    for _ in range(count):
        history.add(sampler.sample())
        clock.advance(interval_s)
    return history


def test_peak_energy_and_throttling_add_up() -> None:
    gpu = FakeGpu(
        used_bytes=[1 * 10**9, 6 * 10**9, 2 * 10**9],
        power_mw=[100_000, 300_000, 200_000],
        reasons=[0x4, 0x4, 0x4 | 0x20, 0x1],
        busy_percent=[0, 100, 50],
    )
    summary = watched(gpu, 4).devices[0].summary()
    assert (summary.readings, summary.seconds) == (4, 1.5)
    assert summary.memory_used_bytes is not None
    assert summary.memory_used_bytes.most == 6 * 10**9
    assert summary.memory_above_baseline_peak_bytes == 5 * 10**9
    # Trapezia: (100 + 300) / 2 and (300 + 200) / 2 and 200 W, half a second each.
    assert summary.energy_j == pytest.approx(325.0)
    assert summary.energy_from == "power"
    expected_s = {"power cap": 1.0, "thermal slowdown (software)": 0.5}
    assert summary.throttled_s == pytest.approx(expected_s)
    assert summary.busy_ratio is not None
    assert (summary.busy_ratio.mean, summary.busy_ratio.most) == (0.5, 1.0)


def test_the_devices_own_counter_is_the_better_energy() -> None:
    summary = watched(FakeGpu(energy_mj=[1_000, 2_000, 91_000]), 3).devices[0].summary()
    assert summary.energy_j == pytest.approx(90.0)
    assert summary.energy_from == "counter"


def test_power_that_was_not_readable_is_not_integrated() -> None:
    gpu = FakeGpu(power_mw=[100_000, 100_000, NvmlError(NOT_SUPPORTED), 100_000])
    assert watched(gpu, 4).devices[0].summary().energy_j == pytest.approx(50.0)
    summary = watched(FakeGpu(power_mw=None, reasons=None), 4).devices[0].summary()
    assert (summary.energy_j, summary.energy_from, summary.power_w) == (None, None, None)
    assert summary.throttled_s is None


def test_a_process_is_kept_with_its_peak_after_it_is_gone() -> None:
    gpu = FakeGpu(compute=[((4242, 300), (4243, 10**9)), ((4242, 900),), ((4242, 100),)])
    history = watched(gpu, 3)
    peaks = history.devices[0].processes()
    assert [(one.name, one.peak_bytes, one.seen_s) for one in peaks] == [
        ("ollama", 10**9, 0.0),
        ("python -m rtvc", 900, 1.0),
    ]
    lines = dict(describe(history.devices[0]))
    assert lines["processes"] == "0 processes hold a model, at most 1 at once"


@given(values=st.lists(st.none() | st.floats(0, 300), max_size=80), width=st.integers(1, 50))
@settings(deadline=None)
def test_a_sparkline_is_as_long_as_its_values_and_never_wider(
    values: list[float | None], width: int
) -> None:
    line = sparkline(values, 100.0, width)
    assert len(line) == min(len(values), width)
    assert [mark == " " for mark in line] == [value is None for value in values[-width:]]


@given(
    interval_s=st.floats(0.1, 5),
    duration_s=st.floats(0.1, 60),
    costs_s=st.lists(st.floats(0, 3), min_size=1, max_size=5),
)
@settings(deadline=None, max_examples=50)
def test_readings_keep_their_distance_and_end(
    interval_s: float, duration_s: float, costs_s: list[float]
) -> None:
    clock = FakeClock(7.0)
    instants: list[float] = []

    class Slow:
        def sample(self) -> tuple[GpuSample, ...]:
            instants.append(clock.now())
            clock.advance(costs_s[len(instants) % len(costs_s)])
            return ()

    for _ in readings(
        Slow(), clock, interval_s=interval_s, duration_s=duration_s, sleep=clock.advance
    ):
        pass
    gaps = [after - before for before, after in pairwise(instants)]
    assert all(gap >= interval_s - 1e-6 for gap in gaps)
    assert all(gap <= max(interval_s, *costs_s) + interval_s + 1e-6 for gap in gaps)
    assert instants[0] == 7.0
    assert instants[-1] <= 7.0 + duration_s + 1e-6


# Rows


def rows_in(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_rows_are_in_the_file_before_it_is_closed(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "gpu.csv")
    sample = sample_of(FakeGpu(power_mw=None, reasons=0))
    file.append([row_of(sample, 0.0, "2026-01-01T00:00:00+00:00")])
    (row,) = rows_in(tmp_path / "gpu.csv")
    file.close()
    assert list(row) == list(COLUMNS)
    assert (row["busy_ratio"], row["power_w"], row["model_holders"]) == ("0.4", "", "1")
    assert json.loads(row["processes"]) == [
        {"pid": 4242, "name": "python -m rtvc", "memory_bytes": 900_000_000}
    ]


def test_a_parquet_file_keeps_unknown_apart_from_none(tmp_path: Path) -> None:
    import pyarrow.parquet

    path = tmp_path / "gpu.parquet"
    file = RowFile(path)
    for gpu in (FakeGpu(reasons=0, name='a "b", c\nd'), FakeGpu(reasons=None, power_mw=None)):
        file.append([row_of(sample_of(gpu), 0.0, "now")])
    assert len(rows_in(tmp_path / "gpu.parquet.csv")) == 2
    file.close()
    table = pyarrow.parquet.read_table(path)
    assert [table[name].to_pylist() for name in ("throttle_reasons", "power_w", "name")] == [
        ["", None],
        [70.0, None],
        ['a "b", c d', "Fake T4"],
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["gpu.parquet"]


def test_a_file_is_new_and_of_a_known_kind(tmp_path: Path) -> None:
    (tmp_path / "old.csv").touch()
    for name, said in (("old.csv", "exists"), ("gpu.txt", "ends in .csv or .parquet")):
        with pytest.raises(UsageError, match=said):
            RowFile(tmp_path / name)
    with pytest.raises(RecordError, match="No such file"):
        RowFile(tmp_path / "nowhere" / "gpu.csv")


# The command


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """In place of the module pynvml."""
    fake = FakeNvml([FakeGpu(used_bytes=[10**9, 3 * 10**9, 2 * 10**9])])
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def rtvc(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["profile", "gpu", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_one_reading_as_json(nvml: FakeNvml, capsys: pytest.CaptureFixture[str]) -> None:
    assert rtvc("--once", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert "not how full" in told["gpu_busy"]
    assert "200 MB" in told["model_holders"]
    (gpu,) = told["gpus"]
    assert (gpu["busy_ratio"], gpu["throttle_reasons"], gpu["model_holders"]) == (0.4, [], 1)
    assert gpu["processes"] == [{"pid": 4242, "name": None, "memory_bytes": 900_000_000}]
    assert nvml.open == 0


def test_it_ends_by_itself_and_says_what_it_saw(
    nvml: FakeNvml, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "gpu.csv"
    assert rtvc("--interval", "0.1", "--duration", "0.35", "--out", str(file)) == 0
    out = capsys.readouterr().out
    assert out.startswith("0.0 s · GPU 0 · busy 40 %")
    for said in ("peak 3.00 GB", "2000 MB above the first reading", "1 process holds a model"):
        assert said in out
    assert f"{len(rows_in(file))} rows: {file}" in out
    assert 2 <= len(rows_in(file)) <= 4


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--duration", "60"), 130)])
def test_ctrl_c_keeps_all_rows(
    nvml: FakeNvml,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    flags: tuple[str, ...],
    code: int,
) -> None:
    nvml.gpus[0].power_mw = [70_000, 71_000, 72_000, KeyboardInterrupt()]
    file = tmp_path / "gpu.parquet"
    assert rtvc("--interval", "0.1", "--json", "--out", str(file), *flags) == code
    (gpu,) = json.loads(capsys.readouterr().out)["gpus"]
    assert (gpu["readings"], gpu["power_w"]["most"], gpu["energy_from"]) == (3, 72.0, "power")
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(file)["power_w"].to_pylist() == [70.0, 71.0, 72.0]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--interval", "0.05"), "0.1 s or more"),
        (("--duration", "0"), "a positive --duration"),
        (("--once", "--duration", "3"), "no --duration with --once"),
        (("--out", "gpu.txt"), ".csv or .parquet"),
    ],
)
def test_mistakes_are_one_line(
    nvml: FakeNvml, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    assert rtvc(*flags) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert said in told.err


@pytest.mark.slow
@pytest.mark.skipif(cuda_device_count() > 0, reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rtvc", "profile", "gpu"],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("rtvc: no GPU to watch: ")
    assert done.stderr.count("\n") == 1
