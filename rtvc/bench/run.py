"""One bench from the command line: gather, measure, recommend."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer
from rich.console import Console
from rich.status import Status

from rtvc.bench.asked import (
    Asked,
    Found,
    Listening,
    check_yardstick,
    find_weights,
    what_is_here,
)
from rtvc.bench.cell_process import pinned
from rtvc.bench.clips import BenchInput
from rtvc.bench.folder import (
    check_folder,
    claim,
    default_folder,
    finish,
    gpu_names,
    machine_state,
    note_failures,
)
from rtvc.bench.grid import Grid, grid, seed_baseline, with_preset
from rtvc.bench.handover import save_input
from rtvc.bench.input import gather
from rtvc.bench.progress import showing
from rtvc.bench.runner import HANG_S, BenchRunner, Order, terminable, to_measure
from rtvc.clock import Clock, SystemClock
from rtvc.invocation import invocation
from rtvc.record import Manifest, new_manifest, this_machine
from rtvc.report.bench_page import (
    INPUT_NOTES,
    BenchReport,
    counted,
    read_bench,
    write_bench_report,
)
from rtvc.report.bench_terminal import bench_panel
from rtvc.report.terminal import terminal_width
from rtvc.results.bench_file import bench_json
from rtvc.results.yardstick import SEED_BASELINE, SETTING

INTERRUPTED = 130
"""Exit code of a bench that somebody stopped."""


class Bench:
    """One run, from what is asked for to the exit code."""

    def __init__(self, asked: Asked, out: Path | None, *, as_json: bool) -> None:
        self._asked = asked
        self._out = out
        self._as_json = as_json
        self._clock: Clock = SystemClock()
        self._console = Console(stderr=True)

    def run(self) -> int:
        """The exit code."""
        with TemporaryDirectory(prefix="rtvc-bench-") as work, terminable():
            found, heard = self._prepare()
            folder = self._claim(found, heard)
            note_failures(folder, found.failures)
            order = self._order(found, heard, folder, Path(work))
            save_input(order.input, heard)
            interrupted = self._measure(order)
        return self._tell(folder, interrupted=interrupted)

    def _prepare(self) -> tuple[Found, BenchInput]:
        """All that can go wrong before anything is written."""
        asked = self._asked
        with self._status("looking for the models") as tell:
            rows = self._rows()
            found = find_weights(
                rows, asked.pythons, lambda _, detail: tell(detail), pull=asked.pull
            )
        with self._status("preparing what the cells listen to"):
            heard = _heard(asked.listening)
        for note in heard.notes:
            self._print(f"note: {note}")
        return found, heard

    def _rows(self) -> Grid:
        rows = self._grid()
        check_yardstick(self._asked.yardstick, rows)
        return rows

    def _grid(self) -> Grid:
        asked, here = self._asked, what_is_here()
        rows = grid(asked.grid, here)
        if not asked.preset:
            return rows
        device = "cuda" if "cuda" in asked.grid.devices else "cpu"
        threads = asked.grid.threads[0]
        return with_preset(rows, seed_baseline(device, threads, synthetic=asked.synthetic), here)

    def _claim(self, found: Found, heard: BenchInput) -> Path:
        settings = self._settings(found, heard)
        folder = self._out or default_folder(self._clock.utc())
        manifest = self._manifest(settings, heard)
        resumed = check_folder(folder, settings, heard.digest, manifest.machine)
        claimed = claim(folder, manifest, resumed=resumed)
        if resumed:
            self._print(f"going on with the bench in {folder}")
        return claimed.path

    def _settings(self, found: Found, heard: BenchInput) -> dict[str, Any]:
        asked = self._asked
        keys = [cell.key for cell in found.cells] + [each.cell.key for each in found.failures]
        settings = {
            "cells": keys,
            "rounds": asked.rounds,
            "listening": asdict(asked.listening),
            "measures": asdict(asked.measures),
            "synthetic": asked.synthetic,
            "pinned": sorted({name for cell in found.cells for name in pinned(cell)}),
            "machine_at_start": machine_state(),
            INPUT_NOTES: heard.notes,
            SETTING: asked.yardstick or (SEED_BASELINE if asked.preset else None),
        }
        # As it will be read back, so that it can be compared with what a later run asks for.
        plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        return plain

    def _manifest(self, settings: dict[str, Any], heard: BenchInput) -> Manifest:
        return new_manifest(
            invocation(),
            self._clock,
            machine=this_machine(gpu_names(self._clock)),
            settings=settings,
            targets=self._asked.targets.texts,
            corpus="synthetic" if self._asked.listening.speech is None else "recordings",
            corpus_hash=heard.digest,
        )

    def _order(self, found: Found, heard: BenchInput, folder: Path, work: Path) -> Order:
        asked = self._asked
        return Order(
            cells=found.cells,
            rounds=asked.rounds,
            folder=folder,
            input=work / "input",
            work=work / "cells",
            measures=asked.measures,
            hang_s=asked.hang_s or usual_hang_s(heard),
            pythons=asked.pythons,
            weights=found.weights,
        )

    def _measure(self, order: Order) -> bool:
        """Whether somebody stopped it."""
        began_s, missing = self._clock.now(), len(to_measure(order))
        total = len(order.cells) * order.rounds
        what = f"{counted(len(order.cells), 'cell')} in {counted(order.rounds, 'round')}"
        self._print(f"{missing} of {total} measurements to make: {what}")
        with showing(self._console) as screen:
            interrupted = BenchRunner(order, self._clock, screen).run()
        finish(order.folder, self._clock.now() - began_s, interrupted=interrupted)
        return interrupted

    def _tell(self, folder: Path, *, interrupted: bool) -> int:
        report = read_bench(folder)
        path = write_bench_report(folder, report, png=True)
        if self._as_json:
            typer.echo(json.dumps(_told(report, folder), indent=2, allow_nan=False))
        else:
            console = Console(highlight=False, soft_wrap=True)
            console.print(bench_panel(report, terminal_width(console)))
            console.print(f"report: {path}", markup=False)
        if interrupted:
            self._print(f"interrupted; what was measured is kept: go on with --out {folder}")
            return INTERRUPTED
        return report.exit_code

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def _status(self, first: str) -> Iterator[Callable[[str], None]]:
        """One line that changes on a terminal; elsewhere only what it begins with."""
        if not self._console.is_terminal:
            self._print(first)
            yield lambda text: None
            return
        with Status(first, console=self._console) as status:
            yield status.update


def usual_hang_s(heard: BenchInput) -> float:
    """Ten times what is heard in one piece is enough for anything that is of use."""
    longest_s = max((clip.audio_s for clip in (*heard.long, *heard.short)), default=0.0)
    return max(HANG_S, 10 * longest_s)


def _heard(listening: Listening) -> BenchInput:
    return gather(
        clips=listening.clips,
        conditions=listening.conditions,
        speech=listening.speech,
        language=listening.language,
        long_files=listening.long_files,
        long_s=listening.long_s,
        quiet_s=listening.quiet_s,
        quiet_kinds=listening.quiet_kinds,
        seed=listening.seed,
    )


def _told(report: BenchReport, folder: Path) -> dict[str, Any]:
    content = bench_json(report.summary, report.recommendation, report.targets)
    return {**content, "folder": str(folder)}
