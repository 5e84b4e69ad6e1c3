"""The folder of a bench: a new one, or one that goes on where it was stopped."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rtvc.clock import Clock
from rtvc.errors import UsageError, why
from rtvc.instruments.gpu import NoGpu, open_gpus
from rtvc.record import (
    MANIFEST_FILE,
    Machine,
    Manifest,
    RunWriter,
    complete_manifest,
    load_manifest,
)
from rtvc.results.cells import CellFailure
from rtvc.results.reading import CELLS_FOLDER, cell_folder, is_bench, write_failure

MUST_AGREE = ("listening", "measures")
"""Settings that a bench that goes on must share with the one before: else its rounds differ."""

GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
"""How Linux chooses the clock of the processor."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A folder to measure into."""

    path: Path
    """Absolute."""
    resumed: bool
    """Whether something was measured before."""


def default_folder(now: datetime) -> Path:
    """
    >>> default_folder(datetime(2026, 1, 2, 3, 4, 5)).as_posix()
    'reports/runs/20260102T030405Z-bench'
    """
    return Path("reports/runs") / f"{now:%Y%m%dT%H%M%SZ}-bench"


def check_folder(
    folder: Path, settings: Mapping[str, Any], digest: str, machine: Machine | None = None
) -> bool:
    """Whether a bench goes on there; False: a new one begins.

    Raises:
        UsageError: there is something else in it, or a bench of other clips, measures or another
            machine.
        RecordError: its manifest cannot be read.
    """
    try:
        taken = next(folder.iterdir(), None) if folder.exists() else None
    except OSError as error:
        raise UsageError(f"cannot use {folder} as a bench's folder: {why(error)}") from None
    if taken is None:
        return False
    if not (folder / MANIFEST_FILE).exists() or not is_bench(folder):
        raise UsageError(
            f"expected an empty folder, or a bench to go on with, but {folder} has {taken.name}"
        )
    before = load_manifest(folder)
    if machine is not None and _what(machine) != _what(before.machine):
        raise UsageError(
            f"expected to go on with the bench in {folder} on the machine it began on "
            f"({before.machine.cpu}, {before.machine.cores} cores); name another folder"
        )
    _check_same(folder, before, settings, digest)
    return True


def _what(machine: Machine) -> tuple[str, int, tuple[str, ...]]:
    """What decides how fast it is, as far as that is known."""
    return machine.cpu, machine.cores, machine.gpus


def _check_same(folder: Path, before: Manifest, settings: Mapping[str, Any], digest: str) -> None:
    different = [name for name in MUST_AGREE if before.settings.get(name) != settings[name]]
    if before.corpus_hash != digest:
        different.append("the clips")
    if different:
        raise UsageError(
            f"expected to go on with the bench in {folder}, but it differs in "
            f"{', '.join(different)}; name another folder, or give the same flags"
        )


def claim(folder: Path, manifest: Manifest, *, resumed: bool) -> Claimed:
    """Write the manifest of a new bench, or bring that of an old one up to date.

    Raises:
        RecordError: nothing can be written there.
    """
    if resumed:
        before = load_manifest(folder)
        cells = [*before.settings.get("cells", []), *manifest.settings["cells"]]
        settings = {**manifest.settings, "cells": list(dict.fromkeys(cells))}
        complete_manifest(
            folder,
            settings=settings,
            targets=manifest.targets,
            command=manifest.command,
            interrupted=False,
        )
    else:
        # It notes its length when it is closed, which is too early: `finish` knows better.
        with RunWriter(folder, replace(manifest, duration_s=None)):
            (folder / CELLS_FOLDER).mkdir(exist_ok=True)
        complete_manifest(folder, duration_s=None)
    return Claimed(folder.resolve(), resumed)


def finish(folder: Path, seconds: float, *, interrupted: bool) -> None:
    """Note how long it took, in all, and whether it was stopped."""
    before_s = load_manifest(folder).duration_s or 0.0
    complete_manifest(folder, duration_s=before_s + seconds, interrupted=interrupted)


def note_failures(folder: Path, failures: tuple[CellFailure, ...]) -> None:
    """Rows without a result; one that was measured before keeps its rounds, and its rounds only."""
    for failure in failures:
        if not any(cell_folder(folder, failure.cell).glob("round-*.json")):
            write_failure(folder, failure)


def machine_state() -> dict[str, Any]:
    """What else was going on, and how the processor's clock is governed; None: unknown."""
    try:
        governor = GOVERNOR.read_text("ascii").strip()
    except OSError:
        governor = None
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"load_average": load, "governor": governor}


def gpu_names(clock: Clock) -> tuple[str, ...]:
    """Products; empty where there are none."""
    found = open_gpus(clock)
    if isinstance(found, NoGpu):
        return ()
    with found as gpus:
        return tuple(sample.name for sample in gpus.sample() if sample.name is not None)
