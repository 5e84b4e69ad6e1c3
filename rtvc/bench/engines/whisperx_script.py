"""One cell of whisperx, measured by an interpreter that has whisperx, numpy and nothing of rtvc.

    PYTHON whisperx_script.py SPEC.json

It stands by itself: it is copied to an empty folder and run there. What it is told, and what it
writes, has the form that the other cells' processes have. whisperx cuts every recording by voice
activity and transcribes the pieces in batches; it is made for long files, and has no streaming.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import resource
import sys
import threading
from pathlib import Path
from time import perf_counter  # noqa: TID251  there is no rtvc.clock where this runs
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    Row = dict[str, Any]
    Clips = list[tuple[Row, np.ndarray]]

SCHEMA = 1
HOST_EVERY_S = 0.02
PACKAGES = ("whisperx", "faster-whisper", "ctranslate2", "torch")
INSTALL = "install it into the environment named by --engine-python: pip install whisperx"
NO_MEMORY = ("out of memory", "bad_alloc", "cannot allocate", "can't allocate", "alloc_failed")
WINDOW_S = 30.0
CARD_FILE = "synthetic.json"
SYNTHETIC = "synthetic weights"
NO_TEXT = "Synthetic weights know no words."
SMALLER = "a smaller model, a smaller batch or int8 takes less"


def tell(stage: str, done: int = 0, total: int = 1) -> None:
    """A sign of life, a line of JSON."""
    sys.stdout.write(json.dumps({"stage": stage, "done": done, "total": total}) + "\n")
    sys.stdout.flush()


def write(file: str, content: Row) -> None:
    """Whole or not at all."""
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(content, indent=1), "utf-8")
    draft.replace(path)


class Memory:
    """Looks at what this process has in memory, in a thread of its own."""

    def __init__(self) -> None:
        self.before = self.peak = self.resident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def resident(self) -> int | None:
        """Bytes; None where the system does not say."""
        try:
            pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        except (OSError, ValueError, IndexError):
            return None
        return pages * resource.getpagesize()

    def end(self) -> Row:
        self._over.set()
        self._thread.join()
        return {
            "host_before": self.before,
            "host_peak": self.peak,
            "device_before": None,
            "device_peak": None,
        }

    def _look(self) -> None:
        while not self._over.wait(HOST_EVERY_S):
            now = self.resident()
            if now is not None:
                self.peak = max(self.peak or 0, now)


class Cell:
    """whisperx with one model."""

    def __init__(self, spec: Row) -> None:
        self.spec = spec
        self.cell: Row = spec["cell"]
        self.model: Any = None
        self.tokens_per_s = tokens_per_s(spec["weights"])
        self.model_kind = "whisper" if self.tokens_per_s is None else SYNTHETIC

    def load(self, whisperx: Any) -> float:
        """Seconds to load the weights and what finds speech."""
        cell = self.cell
        compute = cell["compute_type"]
        if compute == "auto":
            compute = "float16" if cell["device"] == "cuda" else "int8"
        began_s = perf_counter()
        self.model = whisperx.load_model(
            self.spec["weights"] or cell["model"],
            cell["device"],
            compute_type=compute,
            asr_options={"beam_size": cell["beam"]},
            threads=cell["threads"],
        )
        return perf_counter() - began_s

    def hear(self, audio: np.ndarray, language: str) -> tuple[str, float]:
        """The text, and the seconds it took."""
        if self.tokens_per_s is not None:
            # Random weights end no text by themselves; CTranslate2 decodes half of what it may.
            tokens = round(min(len(audio) / 16_000, WINDOW_S) * self.tokens_per_s)
            self.model.model.max_length = 2 * tokens + 2
        began_s = perf_counter()
        found = self.model.transcribe(audio, batch_size=self.cell["batch"], language=language)
        text = " ".join(segment["text"].strip() for segment in found["segments"]).strip()
        seconds = perf_counter() - began_s
        return (text if self.tokens_per_s is None or not text else NO_TEXT), seconds


def tokens_per_s(weights: str | None) -> float | None:
    """What a second of audio costs in tokens, of weights that know no words; None: these do."""
    card = Path(weights or "") / CARD_FILE
    if weights is None or not card.exists():
        return None
    return float(json.loads(card.read_bytes())["tokens_per_s"])


def clips_of(folder: str, kind: str) -> Clips:
    """What is known of each clip, with its samples."""
    listed = json.loads((Path(folder) / "clips.json").read_bytes())[kind]
    return [(row, np.load(Path(folder) / row["file"], allow_pickle=False)) for row in listed]


def heard(cell: Cell, stage: str, clips: Clips) -> Iterator[tuple[Row, float, str, float]]:
    """Rows of one kind of clips: what every kind has in common."""
    for done, (row, audio) in enumerate(clips):
        tell(stage, done, len(clips))
        text, seconds = cell.hear(audio, row["language"])
        yield row, len(audio) / 16_000, text, seconds


def short_rows(cell: Cell, clips: Clips) -> list[Row]:
    return [
        {
            "clip": row["name"],
            "condition": row["condition"],
            "audio_s": audio_s,
            "delay_s": seconds,
            "text": text,
            "reference": row["reference"],
            "language": row["language"],
            "guards": [],
        }
        for row, audio_s, text, seconds in heard(cell, "turns", clips)
    ]


def long_rows(cell: Cell, clips: Clips) -> list[Row]:
    return [
        {
            "clip": row["name"],
            "audio_s": audio_s,
            "seconds": seconds,
            "text": text,
            "reference": row["reference"],
            "language": row["language"],
        }
        for row, audio_s, text, seconds in heard(cell, "long files", clips)
    ]


def quiet_rows(cell: Cell, clips: Clips) -> list[Row]:
    return [
        {"kind": row["condition"], "audio_s": audio_s, "text": text}
        for row, audio_s, text, _ in heard(cell, "quiet", clips)
    ]


def batch_rows(cell: Cell, clips: Clips, runs: int) -> list[Row]:
    """One turn at a time: whisperx takes no more of them."""
    if not clips:
        return []
    row, audio = sorted(clips, key=lambda clip: len(clip[1]))[len(clips) // 2]
    times_s = [cell.hear(audio, row["language"])[1] for _ in range(runs)]
    audio_s = len(audio) / 16_000
    return [{"jobs": 1, "audio_s": audio_s, "seconds": each, "workers": 1} for each in times_s]


def warmed_up(cell: Cell, clips: Clips) -> float:
    """Seconds of the first inference."""
    tell("warming up")
    return sum((cell.hear(audio, row["language"])[1] for row, audio in clips[:1]), 0.0)


def versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def measured(spec: Row, whisperx: Any) -> Row:
    """Everything that the other engines' cells measure, as far as whisperx has it."""
    short, long, quiet = (clips_of(spec["input"], kind) for kind in ("short", "long", "quiet"))
    cell, memory = Cell(spec), Memory()
    tell("loading")
    load_s = cell.load(whisperx)
    warm_up_s = warmed_up(cell, short or long)
    began_s, cpu_s = perf_counter(), sum(os.times()[:2])
    result: Row = {
        "cell": spec["cell"],
        "round": spec["round"],
        "model_kind": cell.model_kind,
        "load_s": load_s,
        "load_is_cold": spec["cold"],
        "warm_up_s": warm_up_s,
        "heard": short_rows(cell, short),
        "long": long_rows(cell, long),
        "quiet": quiet_rows(cell, quiet),
        "batches": batch_rows(cell, short, spec["measures"]["batch_runs"]),
    }
    result["measured_s"] = perf_counter() - began_s
    result["cpu_s"] = sum(os.times()[:2]) - cpu_s
    return {**result, "memory": memory.end(), "packages": versions(), "schema": SCHEMA}


def failure(error: BaseException) -> Row:
    """Kind and reason, as the other cells' processes say them."""
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ImportError):
        return {"kind": "skipped", "reason": f"expected whisperx, but {said}; {INSTALL}"}
    if isinstance(error, MemoryError) or any(words in said.lower() for words in NO_MEMORY):
        return {"kind": "out of memory", "reason": f"{said}; {SMALLER}"}
    return {"kind": "failed", "reason": f"{type(error).__name__}: {said}"}


def main(path: str) -> None:
    spec = json.loads(Path(path).read_bytes())
    try:
        tell("preparing")
        whisperx = importlib.import_module("whisperx")
        write(spec["result_file"], measured(spec, whisperx))
    except BaseException as error:
        write(spec["failure_file"], failure(error))
        raise


if __name__ == "__main__":
    main(sys.argv[1])
