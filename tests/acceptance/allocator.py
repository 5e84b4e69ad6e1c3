"""What it is worth to an inference that freed memory is kept: with and without, in turn.

    python -m tests.acceptance.allocator [--rounds 3] [--out FILE]

Each measurement is a process of its own, as the setting is read when a process starts: two workers
of one thread, one spoken sentence (3.9 s), the fastest of six batches.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from rtvc.clock import SystemClock
from rtvc.config import child_environment
from rtvc.speech.synthesis import Synthesizer
from rtvc.stt.arranging import SENTENCE
from rtvc.stt.environment import KEEP_MEMORY, KEPT_MEMORY
from rtvc.stt.models import resolve_model
from rtvc.stt.transcriber import Job, JobKind
from rtvc.stt.whisper import WhisperTranscriber

CASES = (
    ("selftest", "short", 1),
    ("selftest", "short", 2),
    ("synthetic:tiny.en", "short", 1),
    ("synthetic:tiny.en", "short", 4),
    ("synthetic:tiny.en", "full", 1),
    ("synthetic:base.en", "full", 1),
)
"""Model, encoder context, jobs in a batch."""
WORKERS = 2


def batch_s(model: str, context: Any, jobs: int) -> float:
    """Seconds of one batch while both workers are busy: here, in this process."""
    clock = SystemClock()
    found = resolve_model(model, encoder_context=context)
    assert found.path is not None
    whisper = WhisperTranscriber(
        found.path,
        clock=clock,
        encoder_context=found.encoder_context,
        headroom_s=found.headroom_s,
        least_context_s=found.least_context_s,
        workers=WORKERS,
        max_batch=jobs,
        suppress_blank=found.suppress_blank,
    )
    whisper.load()
    audio = Synthesizer().say(SENTENCE).audio.astype(np.float32)
    batch = [Job("a", "a", JobKind.FINAL, 0, audio, 0.0, language="en")] * jobs
    times_s = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for _ in range(6):
            began_s = clock.now()
            list(pool.map(whisper.transcribe, [batch] * WORKERS))
            times_s.append(clock.now() - began_s)
    return min(times_s)


def elsewhere(case: tuple[str, str, int], *, keep: bool) -> float:
    """The same in a fresh process."""
    told = {KEEP_MEMORY: KEPT_MEMORY} if keep else {}
    arguments = [*map(str, case)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.allocator", "--case", *arguments],
        env=child_environment(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", **told),
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(done.stdout)


def tell(rows: Sequence[Mapping[str, Any]], out: Path | None) -> None:
    """What was measured, and on how many cores: into a file, and to whoever waits."""
    text = json.dumps({"cpus": os.cpu_count(), "rows": rows}, indent=1) + "\n"
    if out:
        out.write_text(text, encoding="utf-8")
    print(text)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.case:
        model, context, jobs = chosen.case
        print(batch_s(model, context, int(jobs)))  # noqa: T201
        return
    rows = []
    for case in CASES:
        pairs = [
            (elsewhere(case, keep=False), elsewhere(case, keep=True)) for _ in range(chosen.rounds)
        ]
        ratio = statistics.median(with_it / without for without, with_it in pairs)
        rows.append({"case": case, "seconds": pairs, "ratio_median": round(ratio, 3)})
    tell(rows, chosen.out)


if __name__ == "__main__":
    main()
