"""The contract of voice activity detection: 32 ms frames in, the probability of speech out."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = 512
"""Samples of one VAD frame: 32 ms at 16 kHz."""


class VoiceActivityDetector(Protocol):
    """One per session: it remembers what it heard."""

    def probabilities(self, frames: NDArray[np.float32]) -> list[float]:
        """Probability of speech for each of `frames`, shape (count, 512), in order."""


class ScriptedVad:
    """Speech is what is louder than a level: for tests and instant pipelines."""

    def __init__(self, level: float = 0.01) -> None:
        self.level = level

    def probabilities(self, frames: NDArray[np.float32]) -> list[float]:
        return [1.0 if loud else 0.0 for loud in np.abs(frames).max(axis=1) >= self.level]
