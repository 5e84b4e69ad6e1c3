"""Noise and rooms, made here and seeded; what is said, and when, stays as annotated.

    clip ── in_room ──▶ prepare (rate, level) ── with_noise ──▶ wire

A room's direct sound has no delay and noise is added sample by sample, so neither moves the end
of speech. A noise floor is a loop that also sounds while nobody speaks.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rtvc.audio import FloatArray, float_to_int16, resample, rms
from rtvc.errors import UsageError
from rtvc.speech.corpus import Clip
from rtvc.speech.speaker import SPEECH_LEVEL_DBFS, PreparedClip

DIRECT_TO_REVERBERANT_DB = 3.0
"""Energy of the direct sound to that of the reverberation: about an arm's length away."""

FIRST_REFLECTION_S = 0.004
"""Sound goes 1.4 m further."""

BABBLERS = 6
"""Voices at once from which on single words are no longer made out."""

_SIXTY_DB = float(np.log(1000.0))


def room_response(rt60_s: float, rate_hz: int, rng: np.random.Generator) -> FloatArray:
    """Impulse response of a room: the direct sound, then noise that decays exponentially.

    Its energy falls by 60 dB in `rt60_s`, and there it is cut off.
    """
    samples = max(2, round(rt60_s * rate_hz))
    first = min(samples - 1, max(1, round(FIRST_REFLECTION_S * rate_hz)))
    at_s = np.arange(samples) / rate_hz
    tail = rng.standard_normal(samples) * np.exp(-_SIXTY_DB * at_s / rt60_s)
    tail[:first] = 0.0
    energy = float(np.sum(tail**2))
    response = tail * np.sqrt(10 ** (-DIRECT_TO_REVERBERANT_DB / 10) / max(energy, 1e-12))
    response[0] = 1.0
    result: FloatArray = response.astype(np.float32)
    return result


def in_room(clip: Clip, response: FloatArray) -> Clip:
    """The clip as a microphone in the room hears it; longer by the last of the echo."""
    length = len(clip.audio) + len(response) - 1
    size = 1 << (length - 1).bit_length()
    spectrum = np.fft.rfft(clip.audio, size) * np.fft.rfft(response, size)
    wet = np.fft.irfft(spectrum, size)[:length].astype(np.float32)
    return replace(clip, audio=wet)


def white_noise(samples: int, rng: np.random.Generator) -> FloatArray:
    """RMS 1: the same power in every hertz."""
    return _to_unit(rng.standard_normal(samples))


def pink_noise(samples: int, rng: np.random.Generator) -> FloatArray:
    """RMS 1, seamless when looped: the same power in every octave, as in a quiet room."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    number = np.arange(len(spectrum))
    spectrum[1:] /= np.sqrt(number[1:])
    spectrum[0] = 0.0
    return _to_unit(np.fft.irfft(spectrum, samples))


def babble(
    samples: int, rate_hz: int, talk: Sequence[Clip], rng: np.random.Generator
) -> FloatArray:
    """RMS 1: others talking without a pause, each at a loudness and a moment of its own."""
    if not talk:
        raise UsageError("expected clips of others to make babble of, got none")
    total = np.zeros(samples)
    for _ in range(BABBLERS):
        at = 0
        line = np.zeros(samples)
        # One voice after another until the loop is full: nobody pauses for long.
        for index in rng.permutation(len(talk)):
            piece = _speech_of(talk[index], rate_hz)[: samples - at]
            line[at : at + len(piece)] = piece
            at += len(piece)
            if at >= samples:
                break
        loudness = 10 ** (rng.uniform(-3, 3) / 20)
        total += loudness * np.roll(line, int(rng.integers(samples)))
    return _to_unit(total)


def _speech_of(clip: Clip, rate_hz: int) -> FloatArray:
    audio = resample(clip.audio, clip.rate_hz, rate_hz)
    speech = audio[round(clip.speech_start_s * rate_hz) : round(clip.speech_end_s * rate_hz)]
    return speech / np.float32(max(rms(speech), 1e-6))


def _to_unit(samples: np.ndarray) -> FloatArray:
    level = float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0
    return (samples / max(level, 1e-12)).astype(np.float32)


def noise_floor(
    kind: str,
    snr_db: float,
    samples: int,
    rate_hz: int,
    rng: np.random.Generator,
    talk: Sequence[Clip] = (),
) -> FloatArray:
    """A loop of noise, quieter by `snr_db` than speech is at its usual level."""
    match kind:
        case "white":
            unit = white_noise(samples, rng)
        case "pink":
            unit = pink_noise(samples, rng)
        case "babble":
            unit = babble(samples, rate_hz, talk, rng)
        case _:
            raise UsageError(f"expected noise of white, pink or babble, got {kind!r}")
    return unit * np.float32(10 ** ((SPEECH_LEVEL_DBFS - snr_db) / 20))


def with_noise(
    prepared: PreparedClip, floor: FloatArray, start: int, frame_samples: int
) -> PreparedClip:
    """The clip with the floor added, from sample `start` of the loop on, to the end of a frame.

    So there is no hole in the noise from the clip's last sample to the next frame.
    """
    length = -(-len(prepared.pcm16) // frame_samples) * frame_samples
    heard = np.take(floor, np.arange(start, start + length), mode="wrap")
    heard[: len(prepared.pcm16)] += prepared.pcm16.astype(np.float32) / np.float32(32768)
    return PreparedClip(prepared.clip, prepared.rate_hz, float_to_int16(heard))


def floor_frames(floor: FloatArray, frame_samples: int) -> tuple[bytes, ...]:
    """The loop cut into frames; its length is a whole number of them."""
    rows = float_to_int16(floor).astype("<i2", copy=False).reshape(-1, frame_samples)
    return tuple(row.tobytes() for row in rows)
