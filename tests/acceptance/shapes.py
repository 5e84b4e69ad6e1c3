"""What an engine on a CPU keeps for each shape of its input: memory, and what that memory is worth.

    python -m tests.acceptance.shapes [--rounds 3] [--out FILE]

oneDNN compiles convolutions for each length of audio and each number of jobs in a batch, and keeps
the latest 1024 (ONEDNN_PRIMITIVE_CACHE_CAPACITY). Batches of one to four jobs of 0.5 to 4 s come at
random, the same for all, in one row after all lengths were warmed up. Each measurement is a process
of its own, in turn; time is that of the processor, of the last part of the inferences, once most
shapes were there. "late" is what memory grew by in that part.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from rtvc.clock import SystemClock
from rtvc.config import child_environment
from rtvc.stt.environment import engine_environment
from rtvc.stt.models import resolve_model
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, Job, JobKind
from rtvc.stt.whisper import WhisperTranscriber
from tests.acceptance.allocator import tell

CASES = (("selftest", 1000), ("synthetic:tiny.en", 250))
"""Model (short contexts) and inferences."""
KEPT = ("1024", "1024, warmed up", "128", "0")
"""Primitives at most; the first is oneDNN's default."""
WARMED_UP = ", warmed up"
LONGEST_S = 4.0
MEASURED = 0.4
"""The last share of the inferences is timed."""
CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def here(model: str, count: int, warm_up: str) -> dict[str, float]:
    """CPU seconds of an inference, and resident memory before, on the way and after, here."""
    found = resolve_model(model, encoder_context="short")
    assert found.path is not None
    whisper = WhisperTranscriber(
        found.path,
        clock=SystemClock(),
        encoder_context="short",
        headroom_s=found.headroom_s,
        least_context_s=found.least_context_s,
        suppress_blank=found.suppress_blank,
    )
    whisper.load()
    whisper.warm_up(lambda _progress, _detail: None)
    process, rng = psutil.Process(), np.random.default_rng(1)
    before_bytes = midway_bytes = process.memory_info().rss
    begun_s, timed = 0.0, round(MEASURED * count)
    if warm_up:
        left_out = whisper.warm_up_lengths(LONGEST_S, lambda _progress, _detail: None)
        assert not left_out, "there was no time for all lengths"
    for number in range(count):
        if number == count - timed:
            midway_bytes = process.memory_info().rss
            begun_s = time.process_time()
        jobs, seconds = int(rng.integers(1, 5)), rng.uniform(0.5, LONGEST_S)
        audio = rng.normal(0, 0.05, round(seconds * SAMPLE_RATE_HZ)).astype(np.float32)
        whisper.transcribe([Job("a", "a", JobKind.FINAL, 0, audio, 0.0, language="en")] * jobs)
    return {
        "cpu_s": (time.process_time() - begun_s) / timed,
        "before_bytes": before_bytes,
        "midway_bytes": midway_bytes,
        "after_bytes": process.memory_info().rss,
    }


def elsewhere(model: str, count: int, kept: str) -> dict[str, float]:
    """The same in a fresh process that is told what an engine is told."""
    most, warm_up, _ = kept.partition(WARMED_UP)
    done = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.shapes", "--case", model, str(count), warm_up],
        env=child_environment(**engine_environment(), **{CAPACITY: most}),
        stdout=subprocess.PIPE,
        check=True,
    )
    told: dict[str, float] = json.loads(done.stdout)
    return told


def row(model: str, count: int, rounds: int) -> dict[str, Any]:
    """Of one model: each capacity beside the default one, pair by pair."""
    runs = [{kept: elsewhere(model, count, kept) for kept in KEPT} for _ in range(rounds)]
    told: dict[str, Any] = {"model": model, "inferences": count, "kept": {}}
    for kept in KEPT:
        ratios = [one[kept]["cpu_s"] / one[KEPT[0]]["cpu_s"] for one in runs]
        mib, late = (
            [(one[kept]["after_bytes"] - one[kept][since]) / 2**20 for one in runs]
            for since in ("before_bytes", "midway_bytes")
        )
        told["kept"][kept] = {
            "time_ratios": [round(ratio, 3) for ratio in ratios],
            "time_ratio_median": round(statistics.median(ratios), 3),
            "grown_mib_median": round(statistics.median(mib), 1),
            "late_mib_median": round(statistics.median(late), 1),
        }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.case:
        model, count, warm_up = chosen.case
        print(json.dumps(here(model, int(count), warm_up)))  # noqa: T201
        return
    rows = [row(model, count, chosen.rounds) for model, count in CASES]
    tell(rows, chosen.out)


if __name__ == "__main__":
    main()
