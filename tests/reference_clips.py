"""Recordings whose end is known to the sample, and which tell by their length what is said.

No sample of the speech is zero and everything else is, so that whoever counts samples knows where
an utterance begins and ends without listening. Each clip has a length of its own, and ends within
a frame of 20 ms, so that its end is known as soon as that frame has arrived.
"""

import csv
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtvc.audio import write_wav
from rtvc.speech.sentences import sentence
from rtvc.transcript import normalise

RATE_HZ = 24_000
FRAME_SAMPLES = 480
SHORTEST_S = 0.8
MANIFEST = "manifest.csv"


@dataclass(frozen=True, slots=True)
class Take:
    """One clip."""

    text: str
    samples: int


def takes(count: int, seed: int) -> list[Take]:
    """Different texts, different lengths."""
    rng = random.Random(seed)
    texts: dict[str, str] = {}
    while len(texts) < count:
        text = sentence(rng)
        texts.setdefault(normalise(text), text)
    lengths: list[int] = []
    samples = round(SHORTEST_S * RATE_HZ)
    while len(lengths) < count:
        samples += 37
        # Room for silence in the last frame.
        if 0 < samples % FRAME_SAMPLES <= FRAME_SAMPLES - 16:
            lengths.append(samples)
    rng.shuffle(lengths)
    return [Take(text, length) for text, length in zip(texts.values(), lengths, strict=True)]


def sound(samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """As loud as speech, and never zero."""
    signs = rng.choice(np.array([-1.0, 1.0]), samples)
    return (signs * rng.uniform(0.04, 0.06, samples)).astype(np.float32)


def write_clips(folder: Path, count: int, seed: int) -> list[Take]:
    """A folder for `rtvc loadtest --speech` and for the reference server."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, chosen = np.random.default_rng(seed), takes(count, seed)
    with (folder / MANIFEST).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "text", "speech_start_s", "speech_end_s", "samples"])
        for number, take in enumerate(chosen):
            name = f"{number:04d}.wav"
            write_wav(folder / name, sound(take.samples, rng), RATE_HZ)
            rows.writerow([name, take.text, "0", repr(take.samples / RATE_HZ), take.samples])
    return chosen


def read_lengths(folder: Path) -> dict[int, str]:
    """Samples → text."""
    with (folder / MANIFEST).open(encoding="utf-8", newline="") as file:
        return {int(row["samples"]): row["text"] for row in csv.DictReader(file)}
