"""A neighbour on the GPU, as a language model and a synthesizer would be: busy all the time.

    python -m tests.acceptance.neighbour [--device cuda] [--size large-v3-turbo]

It decodes 64 tokens at batch 4 after each encoding, for ever: long rows of small, memory-bound
kernels as of a language model, between larger ones as of a synthesizer. The weights are random;
nothing beyond what rtvc needs has to be installed. Prints "ready" and then calls a second.
"""

import argparse
import sys

import numpy as np

from rtvc.clock import SystemClock
from rtvc.stt.synthetic import dimensions_of, synthesized, vocabulary

BATCH = 4
TOKENS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", default="large-v3-turbo")
    chosen = parser.parse_args()
    import ctranslate2
    from faster_whisper.transcribe import get_ctranslate2_storage

    folder = synthesized(chosen.size, lambda progress, detail: None)
    compute_type = "float16" if chosen.device == "cuda" else "int8"
    model = ctranslate2.models.Whisper(
        str(folder), device=chosen.device, compute_type=compute_type, intra_threads=1
    )
    tokens = vocabulary(dimensions_of(chosen.size))
    prompt = [tokens.index("<|startoftranscript|>"), tokens.index("<|notimestamps|>")]
    shape = (BATCH, dimensions_of(chosen.size).mel_bins, 3000)
    features = get_ctranslate2_storage(np.zeros(shape, np.float32))
    clock = SystemClock()
    while True:
        begun_s = clock.now()
        encoded = model.encode(features)
        model.generate(encoded, [prompt] * BATCH, beam_size=1, max_length=2 * TOKENS)
        sys.stdout.write(f"ready: {1 / (clock.now() - begun_s):.2f} calls a second\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
