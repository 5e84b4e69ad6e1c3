"""What the harness of a bench costs beside calling CTranslate2 directly; at most 3 % is allowed.

    OPENBLAS_NUM_THREADS=1 python -m tests.acceptance.bench_cost [--out FILE] [--runs N]

The same turns go through a bench's measuring, its memory watch running, and through features,
encoder and decoder called by hand on a model of its own, in turn: which of them comes first changes
from run to run, so that what slows the machine slows both. Of each turn the typical (median) time
of either is taken; the cost is the median over turns of their ratio, less one.
"""

import argparse
import json
import sys
from collections.abc import Callable
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


def cost(size: str, runs: int) -> dict[str, Any]:
    """Of a bench of that size of model."""
    resolve_model(f"synthetic:{size}")
    clock = SystemClock()
    cell = Cell("faster-whisper", f"synthetic:{size}", compute_type="int8")
    ways = [by_the_harness(cell, clock), by_hand(cell, clock)]
    turns = gather(clips=TURNS, conditions=("clean",), long_files=0, quiet_s=0).short
    took_s: list[list[list[float]]] = [[[] for _ in turns] for _ in ways]
    with MemoryWatch(nothing_to_read):
        for run in range(runs + 1):
            for number, clip in enumerate(turns):
                for way in (0, 1) if run % 2 else (1, 0):
                    seconds = ways[way](clip)
                    if run:
                        took_s[way][number].append(seconds)
    ratios = [
        (quantile(ours, 0.5) or 0.0) / (quantile(theirs, 0.5) or 1.0)
        for ours, theirs in zip(*took_s, strict=True)
    ]
    return {
        "model": cell.model,
        "turns": len(turns),
        "runs": runs,
        "cost": (quantile(ratios, 0.5) or 0.0) - 1,
        "of_each_turn": [ratio - 1 for ratio in ratios],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--size", choices=SIZES, action="append")
    chosen = parser.parse_args()
    rows = [cost(size, chosen.runs) for size in chosen.size or SIZES]
    text = json.dumps({"allowed": ALLOWED, "rows": rows}, indent=1) + "\n"
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8")
    print(text)  # noqa: T201
    return 0 if all(row["cost"] <= ALLOWED for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
