"""Is it a person, or the reply coming back through the microphone? Pure: audio and times in.

Method. The room, the loudspeaker and the echo suppression of a browser change the phases of a
reply beyond recognition, but its short-time spectrum much less. So the microphone's spectrogram
(32 ms windows every 10 ms, 24 mel bands, logarithmic) is laid over that of the reply at every delay
up to 1.5 s, and the root mean square distance at the best delay, in nepers of power, is the
measure. Before that,

- reverberation is put into the reply's spectrogram, as Lebart's model has it: each band's power
  decays exponentially, so a reverberated spectrogram is the dry one smoothed by an exponential; a
  few reverberation times are tried;
- the unknown gain is fitted, and for the most part the gain of each band too (the frequency
  response of the path); a single gain for each band would explain too much;
- loud cells of the spectrogram weigh more than quiet ones, where noise rules, and a floor of noise
  is put under the reply's spectrogram, too: a low and a high one are tried.

Speech of a person that is louder than the echo fills cells that the reply leaves empty, and the
distance grows.

Sources: spectral distance after Gray and Markel, "Distance measures for speech processing", IEEE
Trans. ASSP 24 (1976); the reverberation model after Lebart, Boucher and Denbigh, "A new method
based on spectral subtraction for speech dereverberation", Acta Acustica 87 (2001). Weights and
thresholds were fitted by measurement on synthetic voices; the tests measure them again.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

MAX_DELAY_S = 1.5
MICROPHONE_S = (0.1, 0.5)
"""Seconds of microphone audio: least that is judged, most that is used."""
KEEP_S = 3.0
"""How long played audio is remembered: the longest delay, the microphone audio, and some."""
MAX_AHEAD_S = 120.0
"""Audio further in the future is not remembered: a bound on memory, 32 kB a second."""

MAX_DISTANCE, MAX_DISTANCE_PER_S = 0.64, 0.8
"""An echo's spectral distance is at most this: so much, and so much for each second of microphone
audio, for a longer stretch is less likely to be matched by chance."""
MAX_GAIN = 4.0
"""An echo is not louder than this, in amplitude, against the reply."""
SILENCE_RMS = 1e-4
USUAL_DELAY_S, USUAL_LEAST, USUAL_KEPT = 0.025, 5, 40
"""Echoes so close in delay are of the same way; so many make it known; so many are remembered."""
USUAL_DELAY_SHARE = 1.35
"""At a known delay the distance may be so many times as large."""

WINDOW_S, HOP_S = 0.032, 0.010
BANDS, LOWEST_HZ, HIGHEST_HZ = 24, 250.0, 6500.0
FLOOR = 1e-4
"""Power below this share of the largest does not count: noise fills it in."""
NOISY_FLOOR = 3e-3
"""The same where the echo barely stands out from the noise of the room."""
BAND_GAIN_SHARE = 0.7
"""How much of a band's own gain is believed (0: one gain for all, 1: each its own)."""
WEIGHT_POWER = 0.3
"""A cell of the spectrogram weighs as its power to this."""
FRAMES_AT_ONCE = 48
"""Keeps the working memory small enough to be reused rather than asked of the system again."""
REVERBERATION_S = (0.3, 0.7)
"""Tried beside none at all."""


@dataclass(frozen=True, slots=True)
class EchoMatch:
    """The place in the reply that explains the microphone best."""

    distance: float
    """Nepers of power, root mean square: 0 is equal; a person's speech is around 1.5."""
    delay_s: float
    """Seconds between playing and hearing."""
    gain: float
    """Amplitude of the microphone against the reply."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Reply audio on the playback timeline."""

    starts_at_s: float
    """When its first sample plays."""
    pcm: NDArray[np.int16]
    """16-bit, to halve the memory of a long reply."""


class EchoGuard:
    """Knows what is being played, and judges what the microphone hears."""

    def __init__(self, rate_hz: int = 16_000) -> None:
        self._rate_hz = rate_hz
        self._stretches: deque[_Stretch] = deque()
        self._ends_at_s = float("-inf")
        self._now_s = float("-inf")
        self._spectrogram = _Spectrogram(rate_hz)
        self._delays_s: deque[float] = deque(maxlen=USUAL_KEPT)

    def reply_audio(self, audio: FloatArray, starts_at_s: float) -> None:
        """Audio that plays from `starts_at_s`, or after all that was given before."""
        starts_at_s = max(starts_at_s, self._ends_at_s)
        self._ends_at_s = starts_at_s + len(audio) / self._rate_hz
        if not len(audio) or starts_at_s - max(self._now_s, self._first_s()) > MAX_AHEAD_S:
            return
        pcm = (np.clip(audio, -1.0, 1.0) * 32767).astype(np.int16)
        self._stretches.append(_Stretch(starts_at_s, pcm))

    def flush(self, now_s: float) -> None:
        """Playback stopped: what was still to come will not be heard; what was played may be."""
        self._forget(now_s)
        kept = [(s, round((now_s - s.starts_at_s) * self._rate_hz)) for s in self._stretches]
        self._stretches = deque(
            _Stretch(s.starts_at_s, s.pcm[:count].copy()) for s, count in kept if count > 0
        )
        self._ends_at_s = min(self._ends_at_s, now_s)

    def playing(self, now_s: float) -> bool:
        """Whether reply audio plays at this instant."""
        self._forget(now_s)
        return any(s.starts_at_s <= now_s < self._end_of(s) for s in self._stretches)

    def is_echo(self, microphone: FloatArray, ends_at_s: float) -> bool:
        """Whether the reply explains all of the microphone audio (the last 200–500 ms).

        A room does not change between two words: a match at the delay of the echoes before it
        needs to be less good than one at any of a hundred and fifty others.
        """
        match = self.match(microphone, ends_at_s)
        if match is None or match.gain > MAX_GAIN:
            return False
        judged_s = min(len(microphone) / self._rate_hz, MICROPHONE_S[1])
        limit = MAX_DISTANCE + MAX_DISTANCE_PER_S * judged_s
        if match.distance <= limit:
            self._delays_s.append(match.delay_s)
            return True
        return self._usual(match.delay_s) and match.distance <= USUAL_DELAY_SHARE * limit

    def _usual(self, delay_s: float) -> bool:
        """Whether most of the latest echoes came with this delay."""
        near = sum(abs(delay_s - other_s) <= USUAL_DELAY_S for other_s in self._delays_s)
        return near >= max(USUAL_LEAST, len(self._delays_s) // 2)

    def match(self, microphone: FloatArray, ends_at_s: float) -> EchoMatch | None:
        """The best explanation; None: nothing was played lately, or there is nothing to explain."""
        self._forget(ends_at_s)
        least, most = (round(s * self._rate_hz) for s in MICROPHONE_S)
        heard = np.asarray(microphone[-most:], dtype=np.float32)
        if len(heard) < least or _rms(heard) < SILENCE_RMS:
            return None
        played = self._played(ends_at_s, len(heard) + round(MAX_DELAY_S * self._rate_hz))
        if _rms(played) < SILENCE_RMS:
            return None
        return self._spectrogram.match(heard, played)

    @property
    def remembered_s(self) -> float:
        """Seconds of audio held in memory."""
        return sum(len(s.pcm) for s in self._stretches) / self._rate_hz

    def _first_s(self) -> float:
        return self._stretches[0].starts_at_s if self._stretches else self._ends_at_s

    def _end_of(self, stretch: _Stretch) -> float:
        return stretch.starts_at_s + len(stretch.pcm) / self._rate_hz

    def _forget(self, now_s: float) -> None:
        self._now_s = max(self._now_s, now_s)
        oldest_s = self._now_s - KEEP_S
        while self._stretches and self._end_of(self._stretches[0]) <= oldest_s:
            self._stretches.popleft()
        if self._stretches and self._stretches[0].starts_at_s < oldest_s - 1.0:
            self._stretches.appendleft(self._trimmed(self._stretches.popleft(), oldest_s))

    def _trimmed(self, stretch: _Stretch, oldest_s: float) -> _Stretch:
        skip = round((oldest_s - stretch.starts_at_s) * self._rate_hz)
        starts_at_s = stretch.starts_at_s + skip / self._rate_hz
        return _Stretch(starts_at_s, stretch.pcm[skip:].copy())

    def _played(self, ends_at_s: float, count: int) -> FloatArray:
        """The `count` samples played up to `ends_at_s`; silence where nothing was played."""
        played = np.zeros(count, np.float32)
        for stretch in self._stretches:
            first = count - round((ends_at_s - stretch.starts_at_s) * self._rate_hz)
            begin, end = max(first, 0), min(first + len(stretch.pcm), count)
            if begin < end:
                played[begin:end] = stretch.pcm[begin - first : end - first]
        return played / np.float32(32767)


class _Spectrogram:
    """Lays one spectrogram over another at every delay.

    No matrix products: the linear algebra library would start threads for them, which costs more
    than it saves, and a server has better use for its cores.
    """

    def __init__(self, rate_hz: int) -> None:
        self._window = round(WINDOW_S * rate_hz)
        self._hop = round(HOP_S * rate_hz)
        self._hop_s = self._hop / rate_hz
        self._taper = np.hanning(self._window + 1)[:-1].astype(np.float32)
        self._first_bins, self._rising = _mel_bands(rate_hz, self._window)

    def match(self, heard: FloatArray, played: FloatArray) -> EchoMatch | None:
        """The best place of `heard` in the longer `played`; both end at the same instant.

        None: one of them has said all it says before its first whole frame.
        """
        heard_power, played_power = self._power(heard), self._power(played)
        if not (heard_power.any() and played_power.any()):
            return None
        floored = heard_power + FLOOR * heard_power.max()
        weights = floored**WEIGHT_POWER
        weights /= weights.sum()
        placing = _Placing(np.log(floored), weights, played_power.shape[1])
        rooms = _reverberated(played_power, self._hop_s)
        candidates = [(played_power, FLOOR), *((room, FLOOR) for room in rooms)]
        candidates.append((rooms[0], NOISY_FLOOR))
        distance, place, gain = min(placing.closest(*candidate) for candidate in candidates)
        frames = played_power.shape[1] - heard_power.shape[1] - place
        return EchoMatch(distance, frames * self._hop_s, float(np.exp(gain / 2)))

    def _power(self, audio: FloatArray) -> FloatArray:
        """Band powers, shape (bands, frames); the last frame ends with the audio."""
        audio = audio[(len(audio) - self._window) % self._hop :]
        frames = np.lib.stride_tricks.sliding_window_view(audio, self._window)[:: self._hop]
        blocks = range(0, len(frames), FRAMES_AT_ONCE)
        powers = [self._band_power(frames[i : i + FRAMES_AT_ONCE]) for i in blocks]
        return np.concatenate(powers, axis=1)

    def _band_power(self, frames: FloatArray) -> FloatArray:
        spectrum = np.fft.rfft(frames * self._taper, axis=1)[:, : len(self._rising)].T
        power = np.ascontiguousarray(spectrum.real**2 + spectrum.imag**2)
        whole = np.add.reduceat(power, self._first_bins)
        rising = np.add.reduceat(power * self._rising[:, None], self._first_bins)
        return np.asarray(rising[:-1] + (whole - rising)[1:], np.float32)


class _Placing:
    """Distances of one microphone spectrogram to all stretches of longer ones.

    The weighted sums over each stretch are correlations along time: FFTs do all at once.
    """

    def __init__(self, mic: FloatArray, weights: FloatArray, frames: int) -> None:
        self._size = _fft_size(frames)
        self._places = frames - mic.shape[1] + 1
        self._weights_f = np.fft.rfft(weights, self._size).conj()
        self._weighted_f = np.fft.rfft(weights * mic, self._size).conj()
        self._band_weights = weights.sum(axis=1)[:, None]
        self._band_sums = (weights * mic).sum(axis=1)[:, None]
        self._square_sum = float((weights * mic**2).sum())

    def closest(self, played: FloatArray, floor: float) -> tuple[float, int, float]:
        """Smallest distance, the frame of `played` it begins at, and the gain (nepers)."""
        reference = np.log(played + np.float32(floor) * played.max())
        reference_f = np.fft.rfft(reference, self._size)
        squares_f = np.fft.rfft(reference**2, self._size)
        mixed_f = self._weights_f * squares_f - 2 * self._weighted_f * reference_f
        mixed = self._correlation(mixed_f.sum(axis=0))
        # Of the difference (microphone - reference): its sum in each band, and of its squares.
        per_band = self._band_sums - self._correlation(self._weights_f * reference_f)
        gain = per_band.sum(axis=0)
        offset = gain + BAND_GAIN_SHARE * (per_band / self._band_weights - gain)
        fitted = (offset * (offset * self._band_weights - 2 * per_band)).sum(axis=0)
        rest = self._square_sum + mixed + fitted
        place = int(np.argmin(rest))
        return float(np.sqrt(max(rest[place], 0.0))), place, float(gain[place])

    def _correlation(self, spectrum: NDArray[np.complexfloating]) -> FloatArray:
        sums = np.fft.irfft(spectrum, self._size)[..., : self._places]
        return sums.astype(np.float32, copy=False)


def _reverberated(power: FloatArray, hop_s: float) -> FloatArray:
    """One for each time: half of the power direct, half as a tail, -60 dB after that time."""
    decay = -hop_s / np.array(REVERBERATION_S, np.float32)[:, None]
    keep = np.float32(1e6) ** decay
    added = (1 - keep) * power.T[:, None, :]
    tails = np.empty_like(added)
    tail = np.zeros_like(added[0])
    for frame, fresh in enumerate(added):
        tail = keep * tail + fresh
        tails[frame] = tail
    return np.asarray(0.5 * power + 0.5 * tails.transpose(1, 2, 0), np.float32, order="C")


def _mel_bands(rate_hz: int, window: int) -> tuple[NDArray[np.intp], FloatArray]:
    """Triangles of equal width in mel, each from the centre below to the centre above.

    The first bin of each stretch between two centres, and each bin's share in the triangle that
    rises there; the rest belongs to the one that falls.
    """
    highest_hz = min(HIGHEST_HZ, 0.45 * rate_hz)
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (LOWEST_HZ, highest_hz))
    edges_hz = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    hz = np.fft.rfftfreq(window, 1 / rate_hz)
    hz = hz[hz < edges_hz[-1]]
    first_bins = np.searchsorted(hz, edges_hz[:-1])
    stretch = np.maximum(np.searchsorted(edges_hz, hz, side="right") - 1, 0)
    rising = (hz - edges_hz[stretch]) / (edges_hz[stretch + 1] - edges_hz[stretch])
    return first_bins, rising.astype(np.float32)


def _fft_size(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _rms(audio: FloatArray) -> float:
    return float(np.sqrt(np.mean(audio**2))) if len(audio) else 0.0
