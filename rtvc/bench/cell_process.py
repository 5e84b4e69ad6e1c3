"""The process of one cell: its environment, its signs of life, its end.

It has a session of its own: Ctrl-C reaches us alone, and we end it.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rtvc.bench.spec import CellSpec, save
from rtvc.config import child_environment
from rtvc.results.cells import Cell
from rtvc.stt.environment import engine_environment

WHISPERX = "whisperx"
"""Whose packages clash with ours: its cells run by a script that needs nothing of rtvc."""

SERVED = ("faster-whisper", "faster-whisper-batched")
"""What `rtvc serve` has inferences run by, unless silence is cut out of a turn first."""

SCRIPT = Path(__file__).parent / "engines" / "whisperx_script.py"

TAIL_BYTES = 4000
"""Of a log or of the signs of life: as much as the last lines can be."""


@dataclass(frozen=True, slots=True)
class Beat:
    """The last sign of life."""

    number: int
    """Counts up with what was told."""
    stage: str = ""
    """What goes on; empty: nothing was told yet."""
    done: int = 0
    """Of it."""
    total: int = 0
    """Of it; 0: unknown."""


class Child(Protocol):
    """A cell's process."""

    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""

    def beat(self) -> Beat:
        """Its last sign of life."""

    def end(self) -> None:
        """End it now, if it has not ended."""

    def last_words(self) -> str:
        """The end of its log."""


def pinned(cell: Cell) -> dict[str, str]:
    """Variables that keep every library to the cell's threads, and off the network.

    What `rtvc serve` would run is told what it tells its engines; everything else runs as its
    users find it.

    >>> pinned(Cell("openai-whisper", "tiny.en", threads=2))["OMP_NUM_THREADS"]
    '2'
    >>> pinned(Cell("faster-whisper", "tiny.en", threads=2))["OMP_WAIT_POLICY"]
    'passive'
    """
    counted = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    served = cell.engine in SERVED and not cell.vad_filter
    return {
        **{name: str(cell.threads) for name in counted},
        **(engine_environment() if served else {}),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }


class CellProcess:
    """Started when it is made."""

    def __init__(self, spec: CellSpec, work: Path, log: Path, python: Path | None = None) -> None:
        """`python`: whose packages it runs with; None: ours. `work` is private to the cell."""
        work.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        self._told, self._log = work / "told.jsonl", log
        spec_file = work / "spec.json"
        save(spec_file, spec)
        with self._told.open("wb") as told, log.open("ab") as said:
            self._process = subprocess.Popen(
                [*command(spec.cell.engine, work, python), str(spec_file)],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=said,
                env=child_environment(**pinned(spec.cell)),
                start_new_session=True,
            )

    def status(self) -> int | None:
        return self._process.poll()

    def beat(self) -> Beat:
        return last_beat(_tail(self._told), self._told.stat().st_size)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def last_words(self) -> str:
        lines = [line for line in _tail(self._log).splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


def command(engine: str, work: Path, python: Path | None) -> list[str]:
    """What runs a cell of that engine, but for the file that says what to measure."""
    own = str(python or sys.executable)
    if engine != WHISPERX:
        return [own, "-m", "rtvc.bench.cell"]
    # Beside nothing else: a script finds the modules of its folder before all others.
    alone = work / "whisperx_cell.py"
    shutil.copyfile(SCRIPT, alone)
    return [own, str(alone)]


def last_beat(told: str, size_bytes: int) -> Beat:
    """The last whole line that makes sense; libraries may print what they like between.

    >>> last_beat('{"stage": "turns", "done": 3, "total": 9}\\nhello\\n{"sta', 50)
    Beat(number=50, stage='turns', done=3, total=9)
    """
    for line in reversed(told.splitlines()):
        try:
            found = json.loads(line)
            return Beat(size_bytes, str(found["stage"]), int(found["done"]), int(found["total"]))
        except (ValueError, KeyError, TypeError):
            continue
    return Beat(size_bytes)


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        return file.read().decode("utf-8", errors="replace")
