"""Why a cell has no result, told in one line; what a process takes while it measures."""

import threading

import pytest

from rtvc.bench.outcome import FAILED, HUNG, OUT_OF_MEMORY, SKIPPED, of_error, of_exit, of_silence
from rtvc.bench.usage import MemoryWatch, device_reader, energy_joules, first_cuda, nothing_to_read
from rtvc.clock import FakeClock
from rtvc.errors import MissingEngineError, ModelError
from rtvc.instruments.gpu import GpuSample, GpuSampler, open_gpus
from rtvc.results.cells import Memory
from tests.nvml_fake import FakeGpu, FakeNvml


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA failed with error out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        ModelError("expected a Whisper model in /m, got: std::bad_alloc"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_too_little_memory_is_told_from_other_errors(error: Exception) -> None:
    found = of_error(error, "loading")
    assert found.kind == OUT_OF_MEMORY
    assert "smaller" in found.reason
    assert "\n" not in found.reason


def test_what_is_not_here_is_skipped_and_what_will_not_load_has_failed() -> None:
    missing = MissingEngineError("expected torch to be installed; pip install 'rtvc[torch]'")
    assert of_error(missing, "preparing").kind == SKIPPED
    assert "pip install" in of_error(missing, "preparing").reason
    assert of_error(ModelError("no int8 here"), "loading").kind == FAILED
    assert of_error(ValueError("bad\nshape"), "turns").reason == "turns: ValueError: bad shape"


def test_an_end_without_words_still_says_something() -> None:
    assert of_exit(-9, "").kind == OUT_OF_MEMORY
    assert of_exit(-6, "terminate called after throwing 'std::bad_alloc'").kind == OUT_OF_MEMORY
    assert of_exit(-11, "").reason == "its process ended with SIGSEGV: it said nothing"
    assert of_exit(1, "ValueError: no").reason == "its process ended with status 1: ValueError: no"
    assert of_silence(901.4, "turns").kind == HUNG
    assert "901 s while turns" in of_silence(901.4, "turns").reason


# Memory and energy


def samplers(*gpus: FakeGpu) -> GpuSampler:
    found = open_gpus(FakeClock(), FakeNvml(list(gpus)), name_of=lambda pid: "x")
    assert isinstance(found, GpuSampler)
    return found


def test_the_peak_is_what_was_most_and_before_is_what_was_first() -> None:
    readings = iter([100, 300, 200])
    last_read = threading.Event()

    def resident() -> int | None:
        found = next(readings, None)
        if found is None:
            last_read.set()
        return 150 if found is None else found

    with MemoryWatch(nothing_to_read, resident) as watch:
        assert last_read.wait(10)
    assert watch.memory == Memory(host_before=100, host_peak=300)


def test_what_the_device_holds_is_read_where_it_can_be() -> None:
    gpu = FakeGpu(used_bytes=[1_000, 5_000, 2_000])
    with samplers(gpu) as gpus, MemoryWatch(lambda: first_cuda(gpus.sample()), lambda: None) as w:
        pass
    assert w.memory.device_before == 1_000
    assert w.memory.device_peak == 5_000
    assert w.memory.host_before is None


def test_a_cell_on_the_cpu_asks_no_device() -> None:
    with device_reader("cpu", FakeClock()) as read:
        assert read() is None
        assert energy_joules(read) is None


def test_energy_is_the_devices_own_count() -> None:
    with samplers(FakeGpu(energy_mj=[2_500, 4_000])) as gpus:

        def read() -> GpuSample | None:
            return first_cuda(gpus.sample())

        assert energy_joules(read) == pytest.approx(2.5)
        assert energy_joules(read) == pytest.approx(4.0)


def test_of_several_devices_the_first_for_cuda_is_read() -> None:
    two = samplers(FakeGpu(uuid="GPU-a", used_bytes=1), FakeGpu(uuid="GPU-b", used_bytes=2))
    with two as gpus:
        found = first_cuda(gpus.sample())
    assert found is not None
    assert found.memory_used_bytes == 1
    assert first_cuda(()) is None
