"""What a bench listens to, on disk: made once, so that every cell's process hears the same.

A text file names the clips; beside it each clip's samples, as any numpy reads them.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from rtvc.bench.clips import BenchClip, BenchInput
from rtvc.errors import RecordError, why

CLIPS_FILE = "clips.json"
"""Names the clips of each kind, in order."""

KINDS = ("short", "long", "quiet")
"""Fields of `BenchInput` that hold clips."""

_ABOUT = tuple(field.name for field in fields(BenchClip) if field.name != "audio_16k")


def save_input(folder: Path, found: BenchInput) -> None:
    """Write everything into a folder of its own.

    Raises:
        RecordError: there is no room, or no right to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        listed = {kind: _saved(folder, kind, getattr(found, kind)) for kind in KINDS}
        content = {**listed, "notes": found.notes}
        (folder / CLIPS_FILE).write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    except OSError as error:
        raise RecordError(f"cannot hand the clips over in {folder}: {why(error)}") from error


def _saved(folder: Path, kind: str, clips: list[BenchClip]) -> list[dict[str, Any]]:
    rows = []
    for number, clip in enumerate(clips):
        file = f"{kind}-{number:04d}.npy"
        np.save(folder / file, clip.audio_16k.astype(np.float32, copy=False))
        rows.append({"file": file, **{name: getattr(clip, name) for name in _ABOUT}})
    return rows


def load_input(folder: Path) -> BenchInput:
    """The same clips again, every sample as it was.

    Raises:
        RecordError: there is nothing, or it is not whole.
    """
    try:
        content = json.loads((folder / CLIPS_FILE).read_bytes())
        clips = {kind: [_loaded(folder, row) for row in content[kind]] for kind in KINDS}
        return BenchInput(notes=list(content["notes"]), **clips)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"expected the clips of a bench in {folder}, got: {error}") from error


def _loaded(folder: Path, row: dict[str, Any]) -> BenchClip:
    about = {name: row[name] for name in _ABOUT}
    if about["words_end_s"] is not None:
        about["words_end_s"] = tuple(about["words_end_s"])
    return BenchClip(audio_16k=np.load(folder / row["file"], allow_pickle=False), **about)
