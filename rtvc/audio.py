"""Samples: PCM16 and G.711 bytes, resampling, files.

Inside rtvc audio is mono float32 in [-1, 1], shape (samples,); bytes are little-endian.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, gcd
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import ArrayLike, NDArray

from rtvc.errors import AudioError, why

FloatArray = NDArray[np.float32]
"""Mono samples in [-1, 1], shape (samples,)."""

_PCM16_SCALE = 32768.0


def pcm16_to_float(pcm16: bytes) -> FloatArray:
    """Samples of little-endian PCM16 bytes.

    >>> pcm16_to_float(b"\\x00\\x00\\x00\\x80\\x00\\x40").tolist()
    [0.0, -1.0, 0.5]

    Raises:
        AudioError: half a sample is left over.
    """
    if len(pcm16) % 2:
        raise AudioError(f"expected whole 16-bit samples, got {len(pcm16)} bytes")
    return np.frombuffer(pcm16, dtype="<i2").astype(np.float32) / np.float32(_PCM16_SCALE)


def float_to_int16(samples: ArrayLike) -> NDArray[np.int16]:
    """16-bit samples; what lies outside [-1, 1] is clipped."""
    scaled = np.rint(np.asarray(samples, dtype=np.float32) * np.float32(_PCM16_SCALE))
    clipped: NDArray[np.int16] = np.clip(scaled, -32768, 32767).astype(np.int16)
    return clipped


def float_to_pcm16(samples: ArrayLike) -> bytes:
    """Little-endian PCM16 bytes; what lies outside [-1, 1] is clipped.

    >>> float_to_pcm16([0.5, 2.0]).hex()
    '0040ff7f'
    """
    return float_to_int16(samples).astype("<i2", copy=False).tobytes()


@dataclass(frozen=True, slots=True)
class _Companding:
    """A G.711 law as tables: byte → sample, and sample → nearest byte."""

    decoded: FloatArray
    """Sample of each of the 256 bytes."""
    thresholds: FloatArray
    """Midpoints between neighbouring distinct samples, rising."""
    codes: NDArray[np.uint8]
    """Byte of each interval between thresholds."""

    def decode(self, encoded: bytes) -> FloatArray:
        return self.decoded[np.frombuffer(encoded, dtype=np.uint8)]

    def encode(self, samples: ArrayLike) -> bytes:
        interval = np.searchsorted(self.thresholds, np.asarray(samples, dtype=np.float32))
        return self.codes[interval].tobytes()


def _companding(decoded: NDArray[np.int64]) -> _Companding:
    scaled = (decoded / _PCM16_SCALE).astype(np.float32)
    values, codes = np.unique(scaled, return_index=True)
    thresholds = ((values[1:] + values[:-1]) / 2).astype(np.float32)
    return _Companding(scaled, thresholds, codes.astype(np.uint8))


def _ulaw_table() -> _Companding:
    inverted = ~np.arange(256) & 0xFF
    exponent, mantissa = (inverted >> 4) & 7, inverted & 15
    magnitude = (((mantissa << 3) + 132) << exponent) - 132
    return _companding(np.where(inverted & 0x80, -magnitude, magnitude))


def _alaw_table() -> _Companding:
    toggled = np.arange(256) ^ 0x55
    exponent, mantissa = (toggled >> 4) & 7, toggled & 15
    step = (mantissa << 4) + 8
    magnitude = np.where(exponent == 0, step, (step + 256) << np.maximum(exponent - 1, 0))
    return _companding(np.where(toggled & 0x80, magnitude, -magnitude))


_ULAW, _ALAW = _ulaw_table(), _alaw_table()


def ulaw_decode(encoded: bytes) -> FloatArray:
    """Samples of G.711 mu-law bytes."""
    return _ULAW.decode(encoded)


def ulaw_encode(samples: ArrayLike) -> bytes:
    """G.711 mu-law bytes nearest to the samples."""
    return _ULAW.encode(samples)


def alaw_decode(encoded: bytes) -> FloatArray:
    """Samples of G.711 A-law bytes."""
    return _ALAW.decode(encoded)


def alaw_encode(samples: ArrayLike) -> bytes:
    """G.711 A-law bytes nearest to the samples."""
    return _ALAW.encode(samples)


@dataclass(frozen=True, slots=True)
class _FilterBank:
    """A low-pass filter for one pair of rates, laid out so that a block is one matrix product."""

    up: int
    """Output samples per `down` input samples, lowest terms."""
    down: int
    """Input samples per `up` output samples, lowest terms."""
    reach: int
    """Input samples the filter looks back and ahead."""
    inputs: int
    """Input samples a block moves on."""
    outputs: int
    """Output samples of a block."""
    matrix: FloatArray
    """Shape (reach + inputs + reach, outputs)."""


# A transition from 7 to 8 kHz (at 16 kHz) and 80 dB of stop band need a reach of 40 samples of the
# lower rate, by Kaiser's formula. soxr's own qualities hold back 20 to 80 ms, or ("QQ") do not
# filter at all.
_REACH_SAMPLES = 40
_KAISER_BETA = 7.86
_CUTOFF_RATIO = 0.9375
_OUTPUTS_PER_BLOCK = 32


@lru_cache(maxsize=64)
def _filter_bank(from_hz: int, to_hz: int) -> _FilterBank:
    common = gcd(from_hz, to_hz)
    up, down = to_hz // common, from_hz // common
    lower_hz = min(from_hz, to_hz)
    reach = ceil(_REACH_SAMPLES * from_hz / lower_hz)
    repeats = max(1, _OUTPUTS_PER_BLOCK // up)
    inputs, outputs = down * repeats, up * repeats
    at = np.arange(-reach, inputs + reach)[:, None]
    distance = at - np.arange(outputs)[None, :] * (down / up)
    window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(0.0, 1 - (distance / reach) ** 2)))
    taps = np.sinc(distance * _CUTOFF_RATIO * lower_hz / from_hz) * window
    taps[np.abs(distance) >= reach] = 0.0
    matrix = (taps / taps.sum(axis=0)).astype(np.float32)
    return _FilterBank(up, down, reach, inputs, outputs, matrix)


class Resampler:
    """Streaming resampler: output sample m lies at m / to_hz, and comes 2.5 ms late (16 kHz).

    However the input is cut into pieces, the output is the same in total.

    >>> resampler = Resampler(48_000, 16_000)
    >>> len(resampler.feed(np.zeros(480, np.float32))) + len(resampler.flush())
    160
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        _check_rates(from_hz, to_hz)
        self._bank = None if from_hz == to_hz else _filter_bank(from_hz, to_hz)
        self.delay_s = self._bank.reach / from_hz if self._bank else 0.0
        self._reset()

    def _reset(self) -> None:
        reach = self._bank.reach if self._bank else 0
        self._pending = np.zeros(reach, np.float32)
        self._fed = 0
        self._returned = 0

    def feed(self, samples: FloatArray) -> FloatArray:
        """All output that the samples so far decide."""
        samples = np.asarray(samples, dtype=np.float32)
        if self._bank is None:
            return samples
        self._fed += len(samples)
        self._pending = np.concatenate([self._pending, samples])
        decided = (self._fed - self._bank.reach) * self._bank.up // self._bank.down + 1
        return self._take(max(0, decided - self._returned))

    def flush(self) -> FloatArray:
        """The tail; afterwards the resampler is as new."""
        if self._bank is None:
            return np.zeros(0, np.float32)
        bank = self._bank
        total = (2 * self._fed * bank.up + bank.down) // (2 * bank.down)
        tail = self._take(max(0, total - self._returned))
        self._reset()
        return tail

    def _take(self, count: int) -> FloatArray:
        """The next `count` outputs; inputs not there yet weigh nothing in them."""
        assert self._bank is not None
        bank = self._bank
        offset = self._returned % bank.outputs
        blocks = -(-(offset + count) // bank.outputs)
        rows, columns = bank.matrix.shape
        span = blocks * bank.inputs + rows - bank.inputs
        padded = self._pending
        if len(padded) < span:
            padded = np.concatenate([padded, np.zeros(span - len(padded), np.float32)])
        stride = padded.itemsize
        windows = np.lib.stride_tricks.as_strided(
            padded, (blocks, rows), (bank.inputs * stride, stride), writeable=False
        )
        out: FloatArray = (windows @ bank.matrix).reshape(blocks * columns)
        self._returned += count
        done_blocks = (offset + count) // bank.outputs
        self._pending = self._pending[done_blocks * bank.inputs :]
        return out[offset : offset + count]


def _check_rates(from_hz: int, to_hz: int) -> None:
    if from_hz <= 0 or to_hz <= 0:
        raise AudioError(f"expected sample rates above 0 Hz, got {from_hz} and {to_hz}")


def resample(samples: FloatArray, from_hz: int, to_hz: int) -> FloatArray:
    """The whole signal at another rate, length round(samples × to_hz / from_hz).

    >>> len(resample(np.zeros(22_050, np.float32), 22_050, 16_000))
    16000
    """
    _check_rates(from_hz, to_hz)
    samples = np.asarray(samples, dtype=np.float32)
    if from_hz == to_hz or len(samples) == 0:
        return samples
    length = round(len(samples) * to_hz / from_hz)
    resampled = np.asarray(soxr.resample(samples, from_hz, to_hz, quality="HQ"), np.float32)
    return np.pad(resampled[:length], (0, max(0, length - len(resampled))))


def read_audio(path: Path | str) -> tuple[FloatArray, int]:
    """Samples and rate (Hz) of a WAV, FLAC, Ogg or MP3 file; channels are averaged.

    Raises:
        AudioError: the file cannot be read; its name is in the message.
    """
    try:
        samples, rate_hz = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"expected a readable audio file, got {path}: {why(error)}") from error
    return np.ascontiguousarray(samples.mean(axis=1), dtype=np.float32), int(rate_hz)


def write_wav(path: Path | str, samples: ArrayLike, rate_hz: int) -> None:
    """A 16-bit mono WAV file.

    Raises:
        AudioError: the file cannot be written; its name is in the message.
    """
    try:
        soundfile.write(str(path), float_to_int16(samples), rate_hz, "PCM_16", format="WAV")
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"expected a writable path, got {path}: {why(error)}") from error


def rms(samples: ArrayLike) -> float:
    """Root mean square; of no samples, 0.

    >>> rms([0.5, -0.5])
    0.5
    """
    array = np.asarray(samples, dtype=np.float64)
    return float(np.sqrt(np.mean(array**2))) if array.size else 0.0
