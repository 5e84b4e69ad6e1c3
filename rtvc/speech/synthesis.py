"""espeak-ng: text in, samples and word times out.

The library and its voices come with the `espeakng-loader` wheel; nothing else is needed.
"""

import _ctypes  # the only way to unload a library
import ctypes
import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import Any

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

from rtvc.audio import FloatArray, resample
from rtvc.errors import ReplyError, UsageError

ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp")
"""Languages the self-test model was trained on; "en" is espeak-ng's British English."""

# fmt: off
VARIANTS = (
    "", "m1", "m2", "m3", "m4", "m6", "m7", "m8", "f1", "f2", "f3", "f5", "Alex", "Alicia",
    "Andy", "Annie", "Denis", "Gene", "Lee", "Michael", "Mike", "adam", "belinda", "caleb",
    "david", "linda", "max", "paul", "quincy", "rob", "robert", "steph", "victor",
)
# fmt: on
"""Speaker variants the self-test model was trained on; "" is the accent's own voice."""

VOICES = tuple(f"{a}+{v}" if v else a for a in ACCENTS for v in VARIANTS)
"""Voices known good: understood by the self-test model."""

AUDIBLE = 0.002
"""Smallest magnitude that counts as sound, of a full scale of 1 (-54 dBFS)."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word as written (with a comma or full stop that follows it) and when it is spoken."""

    text: str
    """As written."""
    start_s: float
    """Seconds from the first sample."""
    end_s: float
    """Seconds from the first sample: the last audible sample before the next word."""


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """What was synthesised for one text; everything is empty when nothing is to be heard."""

    audio: FloatArray
    """Mono samples, shape (samples,)."""
    rate_hz: int
    """Hertz."""
    words: tuple[Word, ...]
    """In the order spoken."""
    speech_start_s: float
    """Seconds: the first audible sample (magnitude above `AUDIBLE`)."""
    speech_end_s: float
    """Seconds: just after the last audible sample."""


# Names and numbers of espeak-ng's speak_lib.h.
_SYNCHRONOUS, _DO_NOT_EXIT, _UTF8 = 2, 0x8000, 1
_EVENT_LIST_END, _EVENT_WORD = 0, 1
_PARAMETER_RATE, _PARAMETER_PITCH, _PARAMETER_RANGE = 1, 3, 4


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)

_lock = Lock()
"""The library keeps one global state: one call at a time in a process."""


class _Espeak:
    """The one library of this process; call its methods with `_lock` held."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        data_path = espeakng_loader.get_data_path().encode()
        self.rate_hz: int = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, data_path, _DO_NOT_EXIT
        )
        if self.rate_hz <= 0:
            raise ReplyError(f"expected espeak-ng to start, got status {self.rate_hz}")
        self._pieces: list[NDArray[np.int16]] = []
        self._word_starts: list[tuple[int, int]] = []
        # C keeps only the address: the callback must live as long as the library.
        self._callback = _Callback(self._on_audio)
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._voice: str | None = None

    def _on_audio(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            # An array type of ctypes is kept for ever, one for each length: bytes have no such.
            piece = ctypes.string_at(samples, count * np.dtype(np.int16).itemsize)
            self._pieces.append(np.frombuffer(piece, np.int16))
        index = 0
        while events[index].type != _EVENT_LIST_END:
            if events[index].type == _EVENT_WORD:
                self._word_starts.append((events[index].text_position - 1, events[index].sample))
            index += 1
        return 0

    def set_voice(self, voice: str) -> bool:
        if voice == self._voice:
            return True
        known: bool = self._library.espeak_SetVoiceByName(voice.encode(errors="replace")) == 0
        self._voice = voice if known else None
        return known

    def set_manner(self, words_per_minute: int, pitch: int, pitch_range: int) -> None:
        self._library.espeak_SetParameter(_PARAMETER_RATE, words_per_minute, 0)
        self._library.espeak_SetParameter(_PARAMETER_PITCH, pitch, 0)
        self._library.espeak_SetParameter(_PARAMETER_RANGE, pitch_range, 0)

    def synthesize(self, text: str) -> tuple[FloatArray, list[tuple[int, int]]]:
        """Samples at `rate_hz`, and (character, sample) at which words begin."""
        self._pieces, self._word_starts = [], []
        data = text.encode() + b"\0"
        status = self._library.espeak_Synth(data, len(data), 0, 1, 0, _UTF8, None, None)
        if status != 0:
            raise ReplyError(f"expected espeak-ng to speak, got status {status}")
        pcm = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
        return pcm.astype(np.float32) / np.float32(32768.0), self._word_starts

    def phonemes(self, text: str) -> str:
        """Names of the phonemes, each followed by "_" but the last."""
        call = self._library.espeak_TextToPhonemes
        call.restype = ctypes.c_char_p
        call.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
        rest = ctypes.c_char_p(text.encode())
        clauses = []
        while rest.value:
            clauses.append(call(ctypes.byref(rest), _UTF8, ord("_") << 8).decode())
        return "_".join(clauses)

    def unload(self) -> None:
        self._library.espeak_Terminate()
        _ctypes.dlclose(self._library._handle)


_loaded: list[_Espeak] = []


def _espeak(*, fresh: bool = False) -> _Espeak:
    """The library; `fresh` loads it anew.

    espeak-ng's oscillators go on where the last text left them, and no call of its own sets them
    back, so only a fresh library speaks a text the same way each time.
    """
    if _loaded and fresh:
        _loaded.pop().unload()
    if not _loaded:
        _loaded.append(_Espeak())
    return _loaded[0]


class Synthesizer:
    """espeak-ng's voices; any thread may call, one at a time is served.

    If `reproducible`, the same request gives the same samples, for 4 ms more; otherwise they differ
    by what cannot be heard. (The variant "caleb" whispers, with noise that is never the same.)
    """

    def __init__(self, *, reproducible: bool = False) -> None:
        self._reproducible = reproducible

    def has_voice(self, name: str) -> bool:
        with _lock:
            return _espeak().set_voice(name)

    def phonemes(self, text: str, voice: str = "en-us") -> list[str]:
        """espeak-ng's names of the phonemes that `say` would speak, stress marks included.

        >>> Synthesizer().phonemes("hello")
        ['h', '@', 'l', "'oU"]
        """
        with _lock:
            espeak = _espeak()
            _select(espeak, voice)
            return espeak.phonemes(_speakable(text)).replace("_", " ").split()

    def say(
        self,
        text: str,
        voice: str = "en-us",
        words_per_minute: int = 170,
        pitch: int = 50,
        pitch_range: int = 50,
        rate_hz: int = 16_000,
    ) -> Speech:
        """Speak any text; characters that nobody can say are skipped.

        `words_per_minute` is held to 80–450, `pitch` and `pitch_range` to 0–99.

        Raises:
            UsageError: there is no such voice.
        """
        spoken = _speakable(text)
        if not spoken:
            return _nothing(rate_hz)
        with _lock:
            espeak = _espeak(fresh=self._reproducible)
            _select(espeak, voice)
            espeak.set_manner(
                _within(words_per_minute, 80, 450),
                _within(pitch, 0, 99),
                _within(pitch_range, 0, 99),
            )
            raw, starts = espeak.synthesize(spoken)
            raw_hz = espeak.rate_hz
        starts_s = [(character, sample / raw_hz) for character, sample in starts]
        audio = np.clip(resample(raw, raw_hz, rate_hz), -1.0, 1.0)
        return _timed(spoken, audio, rate_hz, starts_s)


def _select(espeak: _Espeak, voice: str) -> None:
    if not espeak.set_voice(voice):
        raise UsageError(f"expected an espeak-ng voice such as 'en-us+f3', got {voice!r}")


def _within(value: float, low: int, high: int) -> int:
    return max(low, min(high, round(value)))


def _speakable(text: str) -> str:
    """Without invisible characters (espeak-ng obeys some control characters), spaces single."""
    replaced = {"Cc": " ", "Cs": " ", "Cn": " ", "Co": " ", "Cf": ""}
    return " ".join("".join(replaced.get(unicodedata.category(c), c) for c in text).split())


def _nothing(rate_hz: int) -> Speech:
    return Speech(np.zeros(0, np.float32), rate_hz, (), 0.0, 0.0)


def _timed(text: str, audio: FloatArray, rate_hz: int, starts_s: list[tuple[int, float]]) -> Speech:
    loud = np.flatnonzero(np.abs(audio) > AUDIBLE)
    if not len(loud):
        return _nothing(rate_hz)
    first_s, last_s = int(loud[0]) / rate_hz, (int(loud[-1]) + 1) / rate_hz
    words = []
    for tokens, start_s, next_s in _groups(text, starts_s, last_s):
        begin, end = np.searchsorted(loud, (round(start_s * rate_hz), round(next_s * rate_hz)))
        end_s = (int(loud[end - 1]) + 1) / rate_hz if end > begin else next_s
        words += _share(tokens, start_s, min(end_s, next_s))
    return Speech(audio, rate_hz, tuple(words), first_s, last_s)


def _groups(
    text: str, starts_s: list[tuple[int, float]], last_s: float
) -> list[tuple[list[str], float, float]]:
    """Words that espeak-ng speaks as one unit ("of the"), their start, and the next one's."""
    tokens = list(re.finditer(r"\S+", text))
    offsets = [token.start() for token in tokens]
    first: dict[int, float] = {}
    for character, start_s in starts_s:
        first.setdefault(max(bisect_right(offsets, character) - 1, 0), start_s)
    known = sorted(first)
    # Words before the first one that has a start, if any, join it.
    bounds = [0, *known[1:], len(tokens)]
    rising = np.minimum(np.maximum.accumulate([first[k] for k in known] or [0.0]), last_s)
    times = [*rising.tolist(), last_s]
    return [
        ([token.group() for token in tokens[low:high]], start_s, next_s)
        for (low, high), (start_s, next_s) in zip(pairwise(bounds), pairwise(times), strict=True)
    ]


def _share(tokens: list[str], start_s: float, end_s: float) -> list[Word]:
    """The time of a unit, shared out by length."""
    total, before, words = sum(map(len, tokens)), 0, []
    for token in tokens:
        after = before + len(token)
        begin_s = start_s + (end_s - start_s) * before / total
        words.append(Word(token, begin_s, start_s + (end_s - start_s) * after / total))
        before = after
    return words
