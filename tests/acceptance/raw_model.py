"""What CTranslate2 itself can do here, by the tokens that are really decoded.

    OPENBLAS_NUM_THREADS=1 python -m tests.acceptance.raw_model [--out FILE]

Synthetic weights, int8, two workers of one thread, four seconds of context. `max_length` is what is
asked of CTranslate2, which decodes half of it: 15 gives 7 tokens, 30 gives 15, and four seconds of
speech have 15. The last column is the least that an utterance can take: one call, alone.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_ctranslate2_storage

from rtvc.clock import SystemClock
from rtvc.stt.models import resolve_model

WORKERS, FRAMES, RUNS = 2, 400, 6
SIZES = (("tiny.en", 8), ("base.en", 8), ("small.en", 4))
"""Model, and a batch that pays."""


def measure(name: str, batch: int, max_length: int) -> dict[str, Any]:
    """Calls a second with both workers busy, and seconds of one call alone."""
    clock = SystemClock()
    path = resolve_model(f"synthetic:{name}").path
    whisper = WhisperModel(
        str(path), device="cpu", compute_type="int8", cpu_threads=1, num_workers=WORKERS
    )
    tokenizer = Tokenizer(whisper.hf_tokenizer, False)
    prompt = [tokenizer.sot, tokenizer.no_timestamps]
    mels = np.random.default_rng(0).normal(size=(batch, 80, FRAMES)).astype(np.float32)

    def call(_: int) -> int:
        encoded = whisper.model.encode(get_ctranslate2_storage(mels))
        answers = whisper.model.generate(
            encoded,
            [prompt] * batch,
            beam_size=1,
            max_length=max_length,
            suppress_blank=False,
            suppress_tokens=[tokenizer.eot],
        )
        return len(answers[0].sequences_ids[0])

    alone_s, busy_s, tokens = [], [], 0
    with ThreadPoolExecutor(WORKERS) as pool:
        for _ in range(RUNS):
            began_s = clock.now()
            tokens = call(0)
            alone_s.append(clock.now() - began_s)
            began_s = clock.now()
            list(pool.map(call, range(WORKERS)))
            busy_s.append(clock.now() - began_s)
    return {
        "model": name,
        "batch": batch,
        "max_length": max_length,
        "tokens": tokens,
        "utterances_per_s": round(WORKERS * batch / min(busy_s), 2),
        "one_call_alone_ms": round(1000 * min(alone_s), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    rows = [
        measure(name, batch, max_length)
        for name, most in SIZES
        for batch in (1, most)
        for max_length in (15, 30)
    ]
    text = json.dumps(rows, indent=1) + "\n"
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
