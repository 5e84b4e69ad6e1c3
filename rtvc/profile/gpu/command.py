"""`rtvc profile gpu`."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from rtvc.clock import Clock, SystemClock
from rtvc.duration import parse_positive_duration
from rtvc.errors import RtvcError, UsageError
from rtvc.instruments.gpu import BUSY, GpuSample, NoGpu, open_gpus
from rtvc.profile.gpu.history import (
    LEAST_INTERVAL_S,
    RULE,
    GpuHistory,
    RowFile,
    Sampler,
    readings,
    row_of,
)
from rtvc.profile.gpu.view import reading_line, screen
from rtvc.profile.interrupts import terminable

LINE_EVERY_S = 5.0
"""Where there is no terminal."""

INTERRUPTED = 130

Samples = tuple[GpuSample, ...]
Show = Callable[[Samples], None]


def _option(name: str, text: str, **more: Any) -> Any:
    return typer.Option(name, help=text.replace("[", r"\["), show_default=False, **more)


def gpu(
    interval: Annotated[
        float, _option("--interval", "Between two readings [0.5]", metavar="SECONDS")
    ] = 0.5,
    duration: Annotated[
        str | None,
        _option("--duration", "End by itself after 90, 90s, 2m [at Ctrl-C]", metavar="TIME"),
    ] = None,
    out: Annotated[
        Path | None,
        _option("--out", "Keep every reading: FILE.csv or FILE.parquet", metavar="FILE"),
    ] = None,
    as_json: Annotated[
        bool, _option("--json", "Only JSON on stdout: the reading of --once, else the summary")
    ] = False,
    once: Annotated[bool, _option("--once", "One reading, and end")] = False,
) -> None:
    """Watch the GPUs: use, memory by process, power, energy, clocks, throttling, temperature.

    GPU busy is the share of a sample period in which any kernel ran: one small stream of Whisper
    can show 90 %. It is not how full the GPU is; read it with power, clocks and queues.

    Exit code: 0, 1 without a GPU, 130 if interrupted before --duration; rows are kept.
    """
    duration_s = _duration_s(interval, duration, once=once)
    opened = open_gpus(SystemClock())
    if isinstance(opened, NoGpu):
        raise RtvcError(f"no GPU to watch: {opened.reason}")
    with opened, terminable():
        watch = _Watch(opened, SystemClock(), out, as_json=as_json)
        raise typer.Exit(watch.run(interval, duration_s, once=once))


def _duration_s(interval_s: float, duration: str | None, *, once: bool) -> float | None:
    """Checked; one reading takes no time, and None is until Ctrl-C."""
    if interval_s < LEAST_INTERVAL_S:
        raise UsageError(
            f"expected --interval of {LEAST_INTERVAL_S} s or more (NVML itself averages over "
            f"1/6 to 1 s), got {interval_s}"
        )
    if duration is None:
        return 0.0 if once else None
    if once:
        raise UsageError(f"expected no --duration with --once, got {duration}")
    return parse_positive_duration(duration, "--duration")


class _Watch:
    """One watch from the command line."""

    def __init__(self, sampler: Sampler, clock: Clock, out: Path | None, *, as_json: bool) -> None:
        self._sampler = sampler
        self._clock = clock
        self._as_json = as_json
        self._history = GpuHistory()
        self._file = None if out is None else RowFile(out)
        self._begun_s = clock.now()
        self._started_at = clock.utc().isoformat(timespec="milliseconds")
        self._console = Console(soft_wrap=True, highlight=False)
        self._told_s: float | None = None
        self._latest: Samples = ()

    def run(self, interval_s: float, duration_s: float | None, *, once: bool) -> int:
        """The exit code."""
        interrupted = False
        try:
            with self._showing(once=once) as show:
                self._read_all(interval_s, duration_s, show)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            if self._file is not None:
                self._file.close()
        self._conclude(once=once)
        # Without a duration, Ctrl-C is how a watch ends.
        return INTERRUPTED if interrupted and duration_s is not None else 0

    def _read_all(self, interval_s: float, duration_s: float | None, show: Show) -> None:
        every = readings(self._sampler, self._clock, interval_s=interval_s, duration_s=duration_s)
        for samples in every:
            self._history.add(samples)
            self._latest = samples
            if self._file is not None:
                self._file.append(
                    row_of(sample, self._begun_s, self._started_at) for sample in samples
                )
            show(samples)

    @contextmanager
    def _showing(self, *, once: bool) -> Iterator[Show]:
        if self._as_json or once:
            yield lambda samples: None
        elif self._console.is_terminal:
            with Live(console=self._console, auto_refresh=False, transient=True) as live:
                yield lambda samples: live.update(screen(self._history), refresh=True)
        else:
            yield self._tell

    def _tell(self, samples: Samples) -> None:
        now_s = self._clock.now()
        if self._told_s is not None and now_s - self._told_s < LINE_EVERY_S:
            return
        self._told_s = now_s
        for sample in samples:
            typer.echo(reading_line(sample, sample.at_s - self._begun_s))
        # A pipe's reader wants them now.
        sys.stdout.flush()

    def _conclude(self, *, once: bool) -> None:
        if self._as_json:
            typer.echo(json.dumps(self._json(once=once), indent=2))
        else:
            self._console.print(screen(self._history))
        if self._file is not None:
            rows, path = self._file.rows, self._file.path
            typer.echo(f"{rows} rows: {path}", err=self._as_json)

    def _json(self, *, once: bool) -> dict[str, Any]:
        about = {"started_at": self._started_at, "gpu_busy": BUSY, "model_holders": RULE}
        if once:
            found = [
                _one(row_of(one, self._begun_s, self._started_at), one) for one in self._latest
            ]
            return {**about, "gpus": found}
        return {**about, "gpus": [asdict(device.summary()) for device in self._history.devices]}


def _one(row: dict[str, Any], sample: GpuSample) -> dict[str, Any]:
    """A reading for a machine: lists stay lists."""
    del row["started_at"]
    processes = sample.processes
    return {
        **row,
        "throttle_reasons": sample.throttle_reasons,
        "processes": None if processes is None else [asdict(process) for process in processes],
    }
