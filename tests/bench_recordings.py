"""Recordings for a bench, made here: as loud as speech, with quiet before and after it."""

from pathlib import Path

import numpy as np
import soundfile

from rtvc.audio import FloatArray


def voice(seconds: float, rate_hz: int = 16_000) -> FloatArray:
    """A tone, as loud as speech, in the middle three fifths."""
    at_s = np.arange(round(seconds * rate_hz)) / rate_hz
    spoken = (at_s > 0.2 * seconds) & (at_s < 0.8 * seconds)
    return np.where(spoken, 0.1 * np.sin(2 * np.pi * 300 * at_s), 0.0).astype(np.float32)


def put(
    folder: Path,
    name: str,
    audio: FloatArray,
    text: str | None = "open the door",
    *,
    rate_hz: int = 16_000,
    kind: str = "PCM_16",
) -> None:
    """A recording in a folder, its text beside it; None: no text."""
    soundfile.write(str(folder / name), audio, rate_hz, kind)
    if text is not None:
        (folder / name).with_suffix(".txt").write_text(text, "utf-8")
