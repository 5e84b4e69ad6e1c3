"""What the harness of a bench costs beside calling CTranslate2 directly; at most 3 % is allowed.

    OPENBLAS_NUM_THREADS=1 python -m tests.acceptance.bench_cost [--out FILE] [--pairs N]

The same turns go through a bench's measuring, its memory watch running, and through features,
encoder and decoder called by hand. Either is a process of its own, as a cell is: of two tiny models
in one process the one that was loaded first is 11 % slower, whoever calls it. They come in pairs,
and which of a pair comes first changes, so that what slows the machine slows both. Of each turn the
typical (median) time of either is taken; the cost is the median over turns of their ratio, less 1.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_ctranslate2_storage, pad_or_trim

from rtvc.bench.clips import BenchClip, BenchInput
from rtvc.bench.engines.contract import Setup
from rtvc.bench.engines.making import make_engine
from rtvc.bench.engines.weights import weights_of
from rtvc.bench.input import gather
from rtvc.bench.measuring import Measuring
from rtvc.bench.spec import Measures
from rtvc.bench.usage import MemoryWatch, nothing_to_read
from rtvc.clock import Clock, SystemClock
from rtvc.results.cells import Cell
from rtvc.stats import quantile
from rtvc.stt.models import resolve_model
from rtvc.stt.synthetic import TOKENS_PER_S

ALLOWED = 0.03
"""Of the time that the model takes."""

TURNS = 9
"""Three of each class of length."""

SIZES = ("tiny.en", "base.en")
"""Synthetic weights, unless others are named."""

CLOCK = SystemClock()

Hear = Callable[[BenchClip], float]
"""Transcribes a turn; the seconds that took."""


def by_the_harness(cell: Cell, clock: Clock) -> Hear:
    """As a cell's process measures a turn."""
    engine = make_engine(Setup(cell, clock))
    engine.prepare()
    engine.load()

    def hear(clip: BenchClip) -> float:
        heard = BenchInput([clip], [], [], [])
        (turn,) = Measuring(engine, heard, Measures(), clock, lambda *said: None).short()
        return turn.delay_s

    return hear


def by_hand(cell: Cell, clock: Clock) -> Hear:
    """Features, encoder, decoder, and nothing else."""
    whisper = WhisperModel(
        str(weights_of(cell).path),
        device="cpu",
        compute_type=cell.compute_type,
        cpu_threads=cell.threads,
    )
    tokenizer = Tokenizer(whisper.hf_tokenizer, False)
    prompt = [tokenizer.sot, tokenizer.no_timestamps]

    def hear(clip: BenchClip) -> float:
        tokens = round(clip.audio_s * TOKENS_PER_S)
        began_s = clock.now()
        mel = pad_or_trim(whisper.feature_extractor(clip.audio_16k)[:, :3000])
        encoded = whisper.model.encode(get_ctranslate2_storage(mel[None]))
        whisper.model.generate(
            encoded,
            [prompt],
            beam_size=cell.beam,
            # CTranslate2 decodes half of it.
            max_length=max(2 * tokens, len(prompt) + tokens),
        )
        return clock.now() - began_s

    return hear


WAYS: dict[str, Callable[[Cell, Clock], Hear]] = {"harness": by_the_harness, "hand": by_hand}
"""By the names that a process is told."""


def timed(way: str, size: str, runs: int) -> list[list[float]]:
    """Seconds of each turn, run by run; the first run is warm-up."""
    resolve_model(f"synthetic:{size}")
    clips = gather(clips=TURNS, conditions=("clean",), long_files=0, quiet_s=0).short
    with MemoryWatch(nothing_to_read):
        hear = WAYS[way](Cell("faster-whisper", f"synthetic:{size}", compute_type="int8"), CLOCK)
        rounds = [[hear(clip) for clip in clips] for _ in range(runs + 1)]
    return [list(turn) for turn in zip(*rounds[1:], strict=True)]


def in_a_process(way: str, size: str, runs: int) -> list[list[float]]:
    """The same in a fresh one."""
    command = [sys.executable, "-m", "tests.acceptance.bench_cost", "--way", way]
    done = subprocess.run(
        [*command, "--size", size, "--runs", str(runs)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def cost(size: str, pairs: int, runs: int) -> dict[str, Any]:
    """Of a bench of that size of model."""
    found: dict[str, list[list[list[float]]]] = {way: [] for way in WAYS}
    for pair in range(pairs):
        for way in [*WAYS][:: 1 if pair % 2 else -1]:
            found[way].append(in_a_process(way, size, runs))
    of_pairs = [
        share([harness], [hand])
        for harness, hand in zip(found["harness"], found["hand"], strict=True)
    ]
    return {
        "model": f"synthetic:{size}",
        "turns": TURNS,
        "pairs": pairs,
        "runs": runs,
        "cost": share(found["harness"], found["hand"]),
        "of_each_pair": of_pairs,
    }


def share(ours: Sequence[list[list[float]]], theirs: Sequence[list[list[float]]]) -> float:
    """Part by which turns take longer with us; each side: processes, turns, seconds.

    >>> round(share([[[1.1, 1.1], [2.2]]], [[[1.0, 9.0, 1.0], [2.0]]]), 3)
    0.1
    """
    ratios = [
        typical([process[turn] for process in ours])
        / typical([process[turn] for process in theirs])
        for turn in range(len(ours[0]))
    ]
    return (quantile(ratios, 0.5) or 0.0) - 1


def typical(seconds: Sequence[list[float]]) -> float:
    """The median over all processes."""
    return quantile([each for process in seconds for each in process], 0.5) or 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pairs", type=int, default=4, help="of processes, of each size")
    parser.add_argument("--runs", type=int, default=3, help="of each turn in a process")
    parser.add_argument("--size", choices=SIZES, action="append")
    parser.add_argument("--way", choices=[*WAYS], help="time one way, in this process")
    chosen = parser.parse_args()
    sizes = chosen.size or SIZES
    if chosen.way:
        print(json.dumps(timed(chosen.way, sizes[0], chosen.runs)))  # noqa: T201
        return 0
    rows = [cost(size, chosen.pairs, chosen.runs) for size in sizes]
    text = json.dumps({"allowed": ALLOWED, "rows": rows}, indent=1) + "\n"
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8")
    print(text)  # noqa: T201
    return 0 if all(row["cost"] <= ALLOWED for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
