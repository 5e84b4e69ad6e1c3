"""Synthetic examples: text -> espeak speech -> augmentation -> Whisper log-mel features on disk.

    python -m tools.selftest.data --out cache --n 64000 --workers 2

Each shard is `shard_XX.feat` (float16 frames x 80, back to back) and `shard_XX.jsonl` (one line
per example: frame count and timed words). Everything is seeded by (seed, shard).
"""

import argparse
import json
import multiprocessing
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor

from rtvc.audio import FloatArray, rms
from rtvc.clock import SystemClock
from rtvc.speech.sentences import Split, sentence
from rtvc.speech.synthesis import ACCENTS, VOICES, Synthesizer, Word

RATE_HZ = 16_000
# Never used for training: four speaker variants, and one whole accent.
HELD_OUT_VOICES = (
    *(f"{accent}+{v}" for accent in ACCENTS for v in ("m5", "f4", "Andrea", "shelby")),
    *("en-us-nyc", "en-us-nyc+m1", "en-us-nyc+f2", "en-us-nyc+m5"),
)


@dataclass(frozen=True)
class Recipe:
    """What kind of examples to make; the defaults are the training mix."""

    split: Split = "train"
    """Sentences that are trained on, or those held out."""
    voices: tuple[str, ...] = VOICES
    """Drawn from uniformly."""
    random_share: float = 0.30
    """Texts of random words."""
    truncated_share: float = 0.25
    """Examples cut off inside their last utterance, as partial audio is."""
    silence_share: float = 0.05
    """Examples without speech."""
    several_share: float = 0.08
    """Examples of several utterances with gaps."""
    noise_share: float = 0.6
    """Examples with noise."""
    snr_db: tuple[float, float] = (10.0, 40.0)
    """Decibel, speech over noise."""
    reverb_share: float = 0.25
    """Examples in a small room."""
    band_limit_share: float = 0.15
    """Examples through a telephone."""
    max_lead_s: float = 1.0
    """Longest silence before the first word."""


@dataclass(frozen=True)
class Example:
    """What the model hears, and what it should write."""

    audio: FloatArray
    """16 kHz."""
    segments: list[list[Word]]
    """One list per utterance; none for silence."""
    lead_s: float
    """Audio before the first word."""
    voice: str = ""
    """Empty for silence."""
    truncated: bool = False
    """Whether it was cut off."""

    @property
    def text(self) -> str:
        return " ".join(word.text for segment in self.segments for word in segment)


def coloured_noise(samples: int, exponent: float, rng: np.random.Generator) -> FloatArray:
    """Unit-RMS noise whose power falls as 1/f**exponent (0 white, 1 pink, 2 brown)."""
    size = 1 << max(10, int(np.ceil(np.log2(max(samples, 2)))))
    bins = size // 2 + 1
    shape = np.maximum(np.arange(bins), 20 * size / RATE_HZ) ** (-exponent / 2)
    spectrum = (rng.standard_normal(bins) + 1j * rng.standard_normal(bins)) * shape
    return unit_rms(np.fft.irfft(spectrum, size)[:samples])


def unit_rms(audio: np.ndarray) -> FloatArray:
    """The same sound at an RMS of 1."""
    return (audio / (rms(audio) + 1e-9)).astype(np.float32)


def hum(samples: int, rng: np.random.Generator) -> FloatArray:
    """Mains hum with a few harmonics, unit RMS."""
    at_s = np.arange(samples) / RATE_HZ
    base_hz = rng.choice([50.0, 60.0])
    tones = [
        rng.random() / k * np.sin(2 * np.pi * base_hz * k * at_s + rng.random() * 6.28)
        for k in range(1, 6)
    ]
    return unit_rms(np.sum(tones, axis=0))


def reverberate(audio: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Light synthetic room: direct path plus an exponentially decaying noise tail."""
    samples = int(RATE_HZ * rng.uniform(0.08, 0.35))
    tail = rng.standard_normal(samples) * np.exp(-6.9 * np.arange(samples) / samples)
    tail *= rng.uniform(0.1, 0.6) / np.sqrt(np.sum(tail**2))
    tail[: int(0.002 * RATE_HZ)] = 0
    tail[0] = 1.0
    size = 1 << int(np.ceil(np.log2(len(audio) + samples)))
    wet = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(tail, size), size)
    return wet[: len(audio)].astype(np.float32)


def band_limit(audio: FloatArray, low_hz: float, high_hz: float) -> FloatArray:
    """Telephone-like band-pass."""
    size = 1 << int(np.ceil(np.log2(max(len(audio), 2))))
    spectrum = np.fft.rfft(audio, size)
    hertz = np.fft.rfftfreq(size, 1 / RATE_HZ)
    spectrum[(hertz < low_hz) | (hertz > high_hz)] = 0
    return np.fft.irfft(spectrum, size)[: len(audio)].astype(np.float32)


def silence(rng: np.random.Generator, seconds: float) -> FloatArray:
    """Audio without speech: digital silence, faint hiss, louder coloured noise, hum or clicks."""
    samples = int(seconds * RATE_HZ)
    kind = rng.integers(6)
    if kind == 0:
        return np.zeros(samples, np.float32)
    level = 10 ** rng.uniform(-4.5, -0.7)
    if kind == 1:
        return (hum(samples, rng) * level).astype(np.float32)
    audio = coloured_noise(samples, rng.uniform(0, 2), rng) * level
    if kind == 2:  # fades in and out
        audio *= np.interp(np.arange(samples), np.linspace(0, samples, 6), rng.random(6))
    if kind == 3:  # clicks and thumps
        for _ in range(rng.integers(1, 6)):
            at, width = int(rng.integers(0, samples)), int(rng.integers(20, 1600))
            burst = rng.standard_normal(width) * np.exp(-5 * np.arange(width) / width)
            audio[at : at + width] += (burst * rng.uniform(0.02, 0.4))[: samples - at]
    return np.clip(audio, -1, 1).astype(np.float32)


@dataclass(frozen=True)
class Manner:
    """How one example is spoken."""

    voice: str
    """espeak-ng's name."""
    words_per_minute: int
    """Speed."""
    pitch: int
    """0 to 99."""
    pitch_range: int
    """0 to 99."""


def later(words: list[Word], by_s: float) -> list[Word]:
    """The same words, moved in time."""
    return [Word(word.text, word.start_s + by_s, word.end_s + by_s) for word in words]


class Maker:
    """Makes examples."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.recipe = recipe
        self.rng = np.random.default_rng(seed)
        self.text_rng = random.Random(seed)
        self.synthesizer = Synthesizer(reproducible=True)
        self._recent: list[FloatArray] = []  # for babble

    def make(self) -> Example:
        if self.rng.random() < self.recipe.silence_share:
            return self._silence()
        manner = self._manner()
        audio, words = self._utterance(manner)
        segments = [words]
        truncated = self._happens(self.recipe.truncated_share)
        if self._happens(self.recipe.several_share):
            audio, segments = self._several(audio, segments, manner)
        if truncated:
            audio, segments = self._truncate(audio, segments)
        lead_s = 0.0
        if self.rng.random() < 0.9:
            lead_s = float(min(self.recipe.max_lead_s, self.rng.exponential(0.25)))
        audio = self._recorded(audio, lead_s, truncated)
        return Example(
            audio, [later(words, lead_s) for words in segments], lead_s, manner.voice, truncated
        )

    def _happens(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def _silence(self) -> Example:
        long = self._happens(0.08)
        seconds = self.rng.uniform(8, 30) if long else self.rng.uniform(0.3, 5)
        return Example(silence(self.rng, seconds), [], 0.0)

    def _manner(self) -> Manner:
        return Manner(
            voice=str(self.rng.choice(self.recipe.voices)),
            words_per_minute=int(self.rng.integers(120, 211)),
            pitch=int(self.rng.integers(30, 76)),
            pitch_range=int(self.rng.integers(35, 66)),
        )

    def _utterance(self, manner: Manner) -> tuple[FloatArray, list[Word]]:
        text = sentence(self.text_rng, self.recipe.split, self.recipe.random_share)
        speech = self.synthesizer.say(
            text, manner.voice, manner.words_per_minute, manner.pitch, manner.pitch_range, RATE_HZ
        )
        audio = speech.audio[: int((speech.speech_end_s + 0.05) * RATE_HZ)]
        self._recent = [*self._recent, audio][-12:]
        return audio, list(speech.words)

    def _several(
        self, audio: FloatArray, segments: list[list[Word]], manner: Manner
    ) -> tuple[FloatArray, list[list[Word]]]:
        for _ in range(int(self.rng.integers(1, 5))):
            gap = int(self.rng.uniform(0.25, 2.0) * RATE_HZ)
            more, words = self._utterance(manner)
            if len(audio) + gap + len(more) > 27 * RATE_HZ:
                break
            segments = [*segments, later(words, (len(audio) + gap) / RATE_HZ)]
            audio = np.concatenate([audio, np.zeros(gap, np.float32), more])
        return audio, segments

    def _recorded(self, audio: FloatArray, lead_s: float, truncated: bool) -> FloatArray:
        """In a room, with silence around it, noise, a telephone, at some level."""
        recipe, rng = self.recipe, self.rng
        trail_s = rng.uniform(0, 0.15) if truncated else min(2.0, rng.exponential(0.35))
        if self._happens(recipe.reverb_share):
            audio = reverberate(np.pad(audio, (0, 0 if truncated else 2400)), rng)
        speech_level = rms(audio) + 1e-6
        audio = np.pad(audio, (int(lead_s * RATE_HZ), int(trail_s * RATE_HZ)))
        if self._happens(recipe.noise_share):
            gain = speech_level * 10 ** (-rng.uniform(*recipe.snr_db) / 20)
            audio = audio + self._noise(len(audio)) * gain
        if self._happens(recipe.band_limit_share):
            low_hz = float(rng.choice([0.0, 150.0, 300.0]))
            audio = band_limit(audio, low_hz, rng.uniform(3300, 4000))
        peak = 10 ** rng.uniform(-1.6, -0.03)
        return (audio * (peak / (np.abs(audio).max() + 1e-6))).astype(np.float32)

    def _truncate(
        self, audio: FloatArray, segments: list[list[Word]]
    ) -> tuple[FloatArray, list[list[Word]]]:
        """Cut inside the last utterance; keep the words that are complete at the cut."""
        last = segments[-1]
        first_end_s = last[0].end_s
        earliest_s = min(first_end_s + 0.02, last[-1].end_s - 0.01)
        if self._happens(0.15):  # now and then only a piece of the first word is heard
            earliest_s = last[0].start_s + 0.4 * (first_end_s - last[0].start_s)
        cut_s = self.rng.uniform(earliest_s, last[-1].end_s)
        kept = [word for word in last if word.end_s <= cut_s + 0.03]
        if kept and len(kept) < len(last):  # a mark is heard only by the pause after it
            word = kept[-1]
            kept[-1] = Word(word.text.rstrip(".,?"), word.start_s, word.end_s)
        return audio[: int(cut_s * RATE_HZ)], segments[:-1] + ([kept] if kept else [])

    def _noise(self, samples: int) -> FloatArray:
        kind = self.rng.random()
        if kind < 0.12 and len(self._recent) > 4:  # babble from earlier utterances
            babble = np.zeros(samples, np.float32)
            for index in self.rng.choice(len(self._recent), 4, replace=False):
                voice = np.roll(self._recent[index], int(self.rng.integers(8000)))
                babble += np.resize(voice, samples)
            return unit_rms(babble)
        if kind < 0.18:
            return hum(samples, self.rng)
        return coloured_noise(samples, float(self.rng.uniform(0, 2)), self.rng)


def write_shard(job: tuple[Path, int, int, int]) -> str:
    """Write one shard of training examples: (folder, number, examples, seed)."""
    folder, number, count, seed = job
    maker = Maker(Recipe(), seed * 1000 + number)
    extractor = FeatureExtractor()
    name = f"shard_{number:02d}"
    with (
        (folder / f"{name}.feat").open("wb") as features,
        (folder / f"{name}.jsonl").open("w") as lines,
    ):
        for _ in range(count):
            example = maker.make()
            mel = extractor(example.audio).T.astype(np.float16)
            features.write(np.ascontiguousarray(mel).tobytes())
            lines.write(json.dumps(described(example, len(mel))) + "\n")
    (folder / f"{name}.done").touch()
    return name


def described(example: Example, frames: int) -> dict[str, object]:
    """One line of a shard."""
    return {
        "n": frames,
        "lead": round(example.lead_s, 3),
        "voice": example.voice,
        "cut": int(example.truncated),
        "segs": [
            [[word.text, round(word.start_s, 3), round(word.end_s, 3)] for word in words]
            for words in example.segments
        ],
    }


def main() -> None:
    """Write all shards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("cache"))
    parser.add_argument("--n", type=int, default=64000, help="examples")
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--first", type=int, default=0, help="number of the first shard")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(exist_ok=True)
    jobs = [
        (args.out, args.first + k, args.n // args.shards, args.seed) for k in range(args.shards)
    ]
    clock = SystemClock()
    start_s = clock.now()
    with multiprocessing.get_context("spawn").Pool(args.workers, maxtasksperchild=1) as pool:
        for name in pool.imap_unordered(write_shard, jobs):
            print(f"{clock.now() - start_s:6.0f}s {name}", flush=True)


if __name__ == "__main__":
    main()
