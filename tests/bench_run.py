"""Bench runs made up, as `rtvc bench` would write them: for tests of what reads them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rtvc.record import Manifest, RunWriter
from rtvc.results.cells import (
    Batch,
    Cell,
    CellFailure,
    Heard,
    Held,
    LongFile,
    Memory,
    Quiet,
    RoundResult,
    Streamed,
)
from rtvc.results.reading import BenchRun, write_failure, write_round
from tests.synthetic_run import a_manifest

MIB = 2**20

MEDIUM = Cell("faster-whisper", "medium.en", beam=3, vad_filter=True)
SMALL = Cell("faster-whisper", "small.en", compute_type="int8")
TINY = Cell("faster-whisper", "synthetic:tiny.en", compute_type="int8")

SAID = "turn on the green light near the window please my friend"
"""Eleven words."""


def a_turn(number: int = 0, delay_s: float = 0.2, wrong: int = 0, **more: Any) -> Heard:
    """A clean turn of 1.5, 3.5 or 6.5 s; its last `wrong` words are misheard."""
    words = SAID.split()
    heard = words[: len(words) - wrong] + ["mumble"] * wrong
    values: dict[str, Any] = {
        "clip": f"clip-{number}",
        "condition": "clean",
        "audio_s": (1.5, 3.5, 6.5)[number % 3],
        "delay_s": delay_s,
        "text": " ".join(heard),
        "reference": SAID,
    }
    return Heard(**{**values, **more})


def turns(delay_s: float = 0.2, wrong: int = 0, count: int = 12) -> tuple[Heard, ...]:
    """So many turns, each a little slower than the one before."""
    return tuple(a_turn(n, delay_s * (1 + n / 100), wrong) for n in range(count))


def a_streamed(number: int = 0, **more: Any) -> Streamed:
    values: dict[str, Any] = {
        "clip": f"clip-{number}",
        "audio_s": 3.0,
        "final_delay_s": 0.3,
        "word_latency_s": (0.6, 0.8, 1.0),
        "corrections": 2,
        "partials": 5,
        "last_partial": "turn on the green",
        "text": SAID,
        "reference": SAID,
    }
    return Streamed(**{**values, **more})


def a_round(cell: Cell = SMALL, number: int = 0, **more: Any) -> RoundResult:
    """Everything measured once."""
    kind = "synthetic weights" if cell.model.startswith("synthetic:") else "whisper"
    values: dict[str, Any] = {
        "cell": cell,
        "round": number,
        "model_kind": kind,
        "load_s": 2.0 if number == 0 else 0.5,
        "load_is_cold": number == 0,
        "warm_up_s": 0.4,
        "heard": turns(),
        "long": (LongFile("monologue", 120.0, 10.0, SAID, SAID),),
        "streamed": (a_streamed(0), a_streamed(1)),
        "quiet": (Quiet("silence", 10.0, ""), Quiet("pink", 10.0, "Thank you.")),
        "batches": (Batch(1, 3.0, 0.2), Batch(1, 3.0, 0.22), Batch(4, 3.0, 0.5)),
        "held": Held(14, 16, 0.5, 0.42, 120) if number == 0 else None,
        "memory": Memory(100 * MIB, 500 * MIB),
        "measured_s": 60.0,
        "cpu_s": 90.0,
        "packages": {"ctranslate2": "4.6.0"},
    }
    return RoundResult(**{**values, **more})


def rounds(cell: Cell, count: int = 3, **more: Any) -> list[RoundResult]:
    return [a_round(cell, number, **more) for number in range(count)]


def usual_rounds() -> list[RoundResult]:
    """Two models with words and one without."""
    slow: dict[str, Any] = {"heard": turns(0.82, 1), "memory": Memory(100 * MIB, 1800 * MIB)}
    held = Held(3, 4, 0.5, 0.45, 120)
    first, *later = rounds(MEDIUM, **slow)
    return [
        replace(first, held=held),
        *later,
        *rounds(SMALL, heard=turns(0.2, 2)),
        *rounds(TINY, heard=turns(0.04), memory=Memory(80 * MIB, 180 * MIB)),
    ]


SKIPPED = CellFailure(
    Cell("faster-whisper", "large-v3"),
    "skipped",
    "the weights are not here: rtvc models pull large-v3",
)


def a_bench_manifest(**more: Any) -> Manifest:
    known: dict[str, Any] = {
        "url": None,
        "protocol": None,
        "model": None,
        "model_kind": None,
        "settings": {"synthetic": False},
    }
    return a_manifest(**{**known, **more})


def a_bench(
    results: Sequence[RoundResult] | None = None,
    failures: Iterable[CellFailure] = (),
    **manifest: Any,
) -> BenchRun:
    """A bench run that lies in no folder."""
    found = usual_rounds() if results is None else results
    ordered = sorted(found, key=lambda result: (result.cell, result.round))
    return BenchRun(a_bench_manifest(**manifest), ordered, list(failures))


def write_bench_run(
    folder: Path,
    results: Sequence[RoundResult] | None = None,
    failures: Iterable[CellFailure] = (SKIPPED,),
    **manifest: Any,
) -> Path:
    """A folder as `rtvc bench` leaves it."""
    with RunWriter(folder, a_bench_manifest(**manifest)):
        pass
    for result in usual_rounds() if results is None else results:
        write_round(folder, result)
    for failure in failures:
        write_failure(folder, failure)
    return folder
