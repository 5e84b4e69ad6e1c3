"""What tests of the plan share: made-up service times, a bench on disk, a source of it."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rtvc.clock import FakeClock
from rtvc.plan.arrangement import Model
from rtvc.plan.service import ServiceTimes
from rtvc.plan.sources import Source
from rtvc.plan.talk import Talk
from rtvc.record import Machine, new_manifest
from rtvc.record.files import write_json
from rtvc.record.manifest import MANIFEST_FILE
from rtvc.results.cells import Batch, Cell, Heard, Memory, RoundResult
from rtvc.results.reading import write_round
from rtvc.stt.headroom import BatchCost

TALK = Talk(speech_s=(1.5, 2.0, 2.5, 3.0), pause_s=(2.0, 4.0))
"""Short turns, and nobody replies."""

CPU = Machine("a processor", 2, 8 * 2**30, "Linux", "3.11")
GPU = Machine("a processor", 8, 32 * 2**30, "Linux", "3.11", ("NVIDIA L4",))


def times(base_s: float, each_s: float, *, scatter: Sequence[float] = (1.0,)) -> ServiceTimes:
    """Of utterances of 3.5 s, however long they are."""
    return ServiceTimes(BatchCost(base_s, each_s), ratios=tuple(scatter), most_jobs=4)


def source(
    base_s: float = 0.02,
    each_s: float = 0.08,
    *,
    device: str = "cpu",
    gpu: str | None = None,
    memory_bytes: int | None = None,
    kind: str = "whisper",
) -> Source:
    """One and two threads measured; two are half as long again as fast."""
    by_threads = {1: times(base_s, each_s), 2: times(base_s / 1.5, each_s / 1.5)}
    return Source(
        name="tiny.en beam 1",
        model_name="tiny.en",
        model_kind=kind,
        model=Model(by_threads, device, full_window=True),
        cores=2,
        gpu=gpu,
        load_s=0.5,
        memory_bytes=memory_bytes,
        host_bytes=2**30,
        serve_flags=("--model", "tiny.en"),
        folder="bench",
    )


def round_result(
    cell: Cell, number: int = 0, base_s: float = 0.02, each_s: float = 0.08
) -> RoundResult:
    """Batches of one, two and four, and turns of one to six seconds that grow with their length."""
    sizes = (1, 2, 4)
    return RoundResult(
        cell,
        number,
        "whisper",
        load_s=0.4 + number / 10,
        load_is_cold=number == 0,
        warm_up_s=0.1,
        heard=tuple(
            Heard(f"clip-{n}", "clean", float(n), 0.05 + 0.01 * n, "yes", "yes")
            for n in (1, 2, 3, 4, 5, 6) * 2
        ),
        batches=tuple(Batch(n, 3.5, base_s + n * each_s) for n in sizes),
        memory=Memory(host_before=50 * 2**20, host_peak=250 * 2**20),
    )


def write_bench(
    folder: Path, cells: Sequence[Cell], *, rounds: int = 2, machine: Machine = CPU
) -> Path:
    """A bench run as `rtvc bench` leaves it; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = new_manifest(["rtvc", "bench"], FakeClock(), machine=machine)
    write_json(folder / MANIFEST_FILE, asdict(manifest))
    for cell in cells:
        for number in range(rounds):
            write_round(folder, round_result(cell, number))
    return folder
