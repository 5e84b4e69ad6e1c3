"""Watching GPUs over time: history, rows, and the command."""

import csv
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.cli import main
from rtvc.clock import FakeClock
from rtvc.config import child_environment
from rtvc.errors import RecordError, UsageError
from rtvc.instruments.gpu import GpuSample
from rtvc.profile.gpu.history import (
    COLUMNS,
    GpuHistory,
    RowFile,
    readings,
    row_of,
)
from rtvc.profile.gpu.view import describe, sparkline
from rtvc.stt.models import cuda_device_count
from tests.nvml_fake import (
    NOT_SUPPORTED,
    FakeGpu,
    FakeNvml,
    NvmlError,
)
from tests.test_instruments_gpu import sample_of, sampler_of

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


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--duration", "1m"), 130)])
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
        (("--duration", "0"), "expected --duration of more than 0 s"),
        (("--duration", "soon"), "expected --duration such as 90"),
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
