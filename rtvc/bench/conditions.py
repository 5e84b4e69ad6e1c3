"""What clips are heard in: clean, in noise, in a room; and audio in which nobody speaks. Seeded.

clean   room:0.4   white:20   pink:10   babble:10   babble:10+room:0.4
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from rtvc.audio import FloatArray, pcm16_to_float
from rtvc.bench.clips import CLEAN, RATE_HZ, BenchClip
from rtvc.errors import UsageError
from rtvc.speech.acoustics import in_room, noise_floor, room_response, with_noise
from rtvc.speech.corpus import Clip, builtin_clips
from rtvc.speech.scenario import Acoustics
from rtvc.speech.speaker import SPEECH_LEVEL_DBFS, prepare

NOISES = ("white", "pink", "babble")
"""As `rtvc.speech.acoustics` makes them."""

USUAL_SNR_DB = 10.0
"""Of a noise that is asked for by its kind alone: a busy café, near the microphone."""

USUAL_RT60_S = 0.4
"""Of a room that is asked for without a time: a furnished office."""

NOISE_LOOP_S = 8.0
"""Length of a loop of noise; clips begin anywhere in it."""

TALKERS = 12
"""Clips that babble is made of."""

QUIET_KINDS = ("silence", "white", "pink", "hum", "clicks")
"""What is heard where nobody speaks."""

QUIET_BELOW_SPEECH_DB = 20.0
"""By how much it is quieter than speech would be: no engine takes it for digital silence."""

_GRAMMAR = "clean, room:SECONDS, white:DECIBELS, pink:DECIBELS, babble:DECIBELS or NOISE+room"
_HUM_HZ = ((50.0, 1.0), (100.0, 0.5), (150.0, 0.25), (250.0, 0.1))
"""A ventilator's or a mains transformer's tones, each with its part."""
_CLICK_S = 0.012
_CLICKS_EVERY_S = (0.12, 0.6)


@dataclass(frozen=True, slots=True)
class Condition:
    """What is added to a clip."""

    name: str
    """For a person, such as "babble 10 dB, room 0.4 s"."""
    acoustics: Acoustics
    """Noise and room; neither: clean."""

    @property
    def clean(self) -> bool:
        """Whether nothing is added."""
        return self.acoustics.noise is None and self.acoustics.rt60_s is None


def parse_condition(text: str) -> Condition:
    """What a flag asks for.

    >>> parse_condition("babble:10+room").name, parse_condition("clean").name
    ('babble 10 dB, room 0.4 s', 'clean')

    Raises:
        UsageError: it is nothing that can be heard; says what can.
    """
    noise: str | None = None
    rt60_s: float | None = None
    snr_db = USUAL_SNR_DB
    for part in text.strip().lower().split("+"):
        kind, _, amount = part.strip().partition(":")
        if kind == "room" and rt60_s is None:
            rt60_s = _number(amount, USUAL_RT60_S, text)
        elif kind in NOISES and noise is None:
            noise, snr_db = kind, _number(amount, USUAL_SNR_DB, text)
        elif kind != CLEAN or amount or "+" in text:
            raise UsageError(f"expected a condition such as {_GRAMMAR}, got {text!r}")
    acoustics = Acoustics(noise, snr_db, rt60_s)
    return Condition(_name(acoustics), acoustics)


def _number(amount: str, usual: float, text: str) -> float:
    try:
        return float(amount.removesuffix("db").removesuffix("s")) if amount else usual
    except ValueError as error:
        raise UsageError(f"expected a number in the condition {text!r}, got {amount!r}") from error


def _name(acoustics: Acoustics) -> str:
    parts = []
    if acoustics.noise is not None:
        parts.append(f"{acoustics.noise} {acoustics.snr_db:g} dB")
    if acoustics.rt60_s is not None:
        parts.append(f"room {acoustics.rt60_s:g} s")
    return ", ".join(parts) or CLEAN


def heard_in(clip: Clip, name: str, condition: Condition, language: str, seed: int) -> BenchClip:
    """The clip as a microphone in such a place hears it, its speech at the usual level."""
    rng = _rng(seed, name, condition.name)
    acoustics = condition.acoustics
    placed = clip
    if acoustics.rt60_s is not None:
        placed = in_room(clip, room_response(acoustics.rt60_s, clip.rate_hz, rng))
    prepared = prepare(placed, RATE_HZ)
    if acoustics.noise is not None:
        floor = _loop(acoustics.noise, acoustics.snr_db, seed)
        prepared = with_noise(prepared, floor, int(rng.integers(len(floor))), 1)
    words = None if clip.words is None else tuple(word.end_s for word in clip.words)
    return BenchClip(
        name=name,
        audio_16k=pcm16_to_float(prepared.pcm16.astype("<i2").tobytes()),
        reference=clip.text,
        language=language,
        condition=condition.name,
        words_end_s=words,
        speech_start_s=clip.speech_start_s,
        speech_end_s=clip.speech_end_s,
    )


def in_conditions(
    clips: Sequence[tuple[BenchClip, Clip]], conditions: Sequence[Condition], seed: int
) -> list[BenchClip]:
    """Every clip in every condition, one condition after the other.

    Each clip comes as it is, for clean, and as what everything else is made of.
    """
    heard: list[BenchClip] = []
    for condition in conditions:
        for as_it_is, clip in clips:
            if condition.clean:
                heard.append(as_it_is)
                continue
            noisy = heard_in(clip, as_it_is.name, condition, as_it_is.language, seed)
            heard.append(replace(noisy, reference=as_it_is.reference))
    return heard


@lru_cache(maxsize=16)
def _loop(kind: str, snr_db: float, seed: int) -> FloatArray:
    talk = builtin_clips(TALKERS, seed + 77_003) if kind == "babble" else ()
    samples = round(NOISE_LOOP_S * RATE_HZ)
    return noise_floor(kind, snr_db, samples, RATE_HZ, _rng(seed, kind, "loop"), talk)


def quiet_clips(
    quiet_s: float, seed: int, language: str = "en", kinds: Sequence[str] = QUIET_KINDS
) -> list[BenchClip]:
    """So many seconds of each kind of quiet; what is said in it is known: nothing.

    Raises:
        UsageError: there is no such kind.
    """
    unknown = [kind for kind in kinds if kind not in _QUIET]
    if unknown:
        raise UsageError(f"expected quiet of {', '.join(_QUIET)}, got {unknown[0]!r}")
    samples = round(quiet_s * RATE_HZ)
    return [
        BenchClip(
            name=f"quiet-{kind}",
            audio_16k=_levelled(_QUIET[kind](samples, _rng(seed, kind, "quiet"))),
            reference="",
            language=language,
            condition=kind,
        )
        for kind in kinds
    ]


def _levelled(audio: FloatArray) -> FloatArray:
    """At the level of quiet; digital silence stays what it is."""
    level = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if len(audio) else 0.0
    wanted = 10 ** ((SPEECH_LEVEL_DBFS - QUIET_BELOW_SPEECH_DB) / 20)
    return audio if level == 0 else np.clip(audio * np.float32(wanted / level), -1.0, 1.0)


def _silence(samples: int, rng: np.random.Generator) -> FloatArray:
    return np.zeros(samples, np.float32)


def _noise(kind: str) -> Callable[[int, np.random.Generator], FloatArray]:
    return lambda samples, rng: noise_floor(kind, 0.0, samples, RATE_HZ, rng)


def _hum(samples: int, rng: np.random.Generator) -> FloatArray:
    at_s = np.arange(samples) / RATE_HZ
    tones = [part * np.sin(2 * np.pi * (hertz * at_s + rng.uniform())) for hertz, part in _HUM_HZ]
    hum: FloatArray = np.sum(tones, axis=0).astype(np.float32)
    return hum


def _clicks(samples: int, rng: np.random.Generator) -> FloatArray:
    """Somebody types: short bursts of noise that die away."""
    audio = np.zeros(samples, np.float32)
    length = round(_CLICK_S * RATE_HZ)
    fading = np.exp(-np.arange(length) / (length / 5)).astype(np.float32)
    at = 0
    while True:
        at += round(rng.uniform(*_CLICKS_EVERY_S) * RATE_HZ)
        if at + length > samples:
            return audio
        burst = rng.standard_normal(length).astype(np.float32) * np.float32(rng.uniform(0.3, 1))
        audio[at : at + length] += burst * fading


_QUIET: dict[str, Callable[[int, np.random.Generator], FloatArray]] = {
    "silence": _silence,
    "white": _noise("white"),
    "pink": _noise("pink"),
    "hum": _hum,
    "clicks": _clicks,
}


def _rng(seed: int, *what: str) -> np.random.Generator:
    """The same for the same words, whatever else is asked for."""
    name = "/".join((str(seed), *what))
    return np.random.default_rng(random.Random(name).getrandbits(64))
