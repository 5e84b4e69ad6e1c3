"""What a bench listens to."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from rtvc.audio import FloatArray, float_to_pcm16

RATE_HZ = 16_000
"""Of all audio here."""

CLEAN = "clean"
"""Condition of a clip to which nothing was added."""


@dataclass(frozen=True, slots=True, eq=False)
class BenchClip:
    """One stretch of audio, with what is known of it."""

    name: str
    """Names what is said: the same in every condition, and in no other clip."""
    audio_16k: FloatArray = field(repr=False)
    """16 kHz mono, shape (samples,)."""
    reference: str | None
    """What is said; empty: nobody speaks; None: unknown."""
    language: str
    """ISO-639-1 of what is said."""
    condition: str
    """"clean", or the noise and room it is heard in; of quiet audio, what is heard instead."""
    words_end_s: tuple[float, ...] | None = None
    """Seconds at which each word of the reference ends; None for recordings."""
    speech_start_s: float = 0.0
    """Seconds: where speech begins; as for the next, of quiet audio the file's own bounds."""
    speech_end_s: float | None = None
    """Seconds: the true end of speech; None: where the file ends."""

    @property
    def audio_s(self) -> float:
        return len(self.audio_16k) / RATE_HZ

    @property
    def end_s(self) -> float:
        """Seconds at which the last word ends."""
        return self.audio_s if self.speech_end_s is None else self.speech_end_s


@dataclass(frozen=True, slots=True)
class BenchInput:
    """All that a cell listens to; the same for every cell."""

    short: list[BenchClip]
    """Turns, each given to the engine by itself."""
    long: list[BenchClip]
    """Recordings that do not fit into one window of the model."""
    quiet: list[BenchClip]
    """Audio in which nobody speaks; its condition says what is heard instead."""
    notes: list[str]
    """One line for a person about each thing that is not as it might be thought to be."""

    @property
    def digest(self) -> str:
        """Sixteen hex digits that differ when a sample, a text or an annotation does."""
        told = hashlib.sha256()
        for clip in self._all():
            about = (clip.name, clip.reference, clip.language, clip.condition, clip.words_end_s)
            told.update(repr((about, clip.speech_start_s, clip.speech_end_s)).encode())
            told.update(float_to_pcm16(clip.audio_16k))
        return told.hexdigest()[:16]

    def _all(self) -> Iterator[BenchClip]:
        yield from self.short
        yield from self.long
        yield from self.quiet
