"""A run that a verb is pointed at."""

from pathlib import Path

from rtvc.errors import RecordError
from rtvc.record import MANIFEST_FILE, Run, load_run

PHASES = ("many", "two", "one")
"""Folders of a diagnosis, each a run; the most telling first."""


def recorded(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        RecordError: there is none; of a diagnosis it says where its runs are.
    """
    phases = [folder / name for name in PHASES if (folder / name / MANIFEST_FILE).exists()]
    if phases and not (folder / MANIFEST_FILE).exists():
        raise RecordError(f"{folder} is a diagnosis, which holds several runs: try {phases[0]}")
    return load_run(folder)
