"""How a server would arrange a model: the rules and the calibration of the engine itself, fed with
fitted times in place of a stopwatch. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from rtvc.clock import FakeClock
from rtvc.plan.processor import Box
from rtvc.plan.service import ServiceTimes
from rtvc.stt.calibration import RUNS, SLOW_S, Calibration, Wish, calibrate, wish
from rtvc.stt.headroom import BatchCost
from rtvc.stt.limits import (
    GPU_WORKERS,
    PER_SESSION_THREADS,
    batches_to_try,
    usual_limits,
    with_room_for_finals,
)
from rtvc.stt.tickets import Limits

Sharing = Literal["shared", "pool", "per-session"]

CALIBRATION_AUDIO_S = 3.86
"""Seconds of the sentence that the engine measures itself with."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user settled of it; None: as the server would by itself."""

    sharing: Sharing = "shared"
    """Who shares a model."""
    pool: int = 2
    """Engines of a pool."""
    workers: int | None = None
    """Inferences at once, of each engine."""
    threads: int | None = None
    """CPU threads of one inference."""
    max_batch: int | None = None
    """Utterances in one inference."""
    gpus: int = 1
    """GPUs, each with its share of the engines; 1 where there is none."""

    @property
    def name(self) -> str:
        """
        >>> Wanted("pool", pool=3).name
        'pool:3'
        """
        return f"pool:{self.pool}" if self.sharing == "pool" else self.sharing


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How it is run."""

    sharing: Sharing
    """Who shares a model."""
    engines: int
    """Engines; with one a session: 1, and as many as there are sessions."""
    workers: int
    """Inferences at once, of each engine."""
    threads: int
    """CPU threads of one inference."""
    limits: Limits
    """Of each engine's scheduler."""
    prior: BatchCost | None = None
    """What the engine takes a batch to cost until it has seen some; None: it was not measured."""


@dataclass(frozen=True, slots=True)
class Model:
    """What decides how a model is arranged."""

    times: Mapping[int, ServiceTimes]
    """By CPU threads of one inference; at least one."""
    device: str
    """"cpu" or "cuda"."""
    full_window: bool
    """Whether the encoder sees 30 s whatever the length."""
    one_by_one: bool = False
    """Whether it knows neither batches nor several inferences at once, such as PocketSphinx."""

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def measured_threads(self, wanted: int) -> int:
        """Threads that were measured, as many as wanted or the nearest to it; on a GPU any."""
        return min(self.times, key=lambda threads: (abs(threads - wanted), threads))


def arrange(model: Model, wanted: Wanted, cores: int) -> Arrangement:
    """As `rtvc serve` would arrange it on a machine of so many cores."""
    engines = _engines(wanted)
    if model.one_by_one:
        limits = with_room_for_finals(Limits(max_batch=1), 1)
        return Arrangement(wanted.sharing, engines, 1, model.measured_threads(1), limits)
    workers, threads, max_batch = _settled(wanted, cores)
    limits = usual_limits(max_batch, full_window=model.full_window, on_gpu=model.on_gpu)
    found = _calibrated(model, workers, threads, max_batch, cores)
    if found is not None:
        workers, threads = found.workers, found.threads_per_worker
        limits = replace(limits, max_batch=found.max_batch, deep_batch=found.deep_batch)
    # Where all of it was settled by the user, nothing is measured.
    chosen_threads = threads or 1
    usual = GPU_WORKERS if model.on_gpu else max(cores // chosen_threads, 1)
    chosen_workers = workers or usual
    return Arrangement(
        wanted.sharing,
        engines,
        chosen_workers,
        chosen_threads,
        with_room_for_finals(limits, chosen_workers),
        None if found is None else found.cost,
    )


def _engines(wanted: Wanted) -> int:
    """One server runs on each GPU."""
    if wanted.sharing == "per-session":
        return 1
    return wanted.gpus * (wanted.pool if wanted.sharing == "pool" else 1)


def _settled(wanted: Wanted, cores: int) -> tuple[int | None, int | None, int | None]:
    """Workers, threads and batch before anything is measured, as `build_engine` has them."""
    workers, threads, max_batch = wanted.workers, wanted.threads, wanted.max_batch
    if wanted.sharing == "pool":
        return workers or max(cores // wanted.pool, 1), threads or 1, max_batch
    if wanted.sharing == "per-session":
        return workers or 1, threads or min(cores, PER_SESSION_THREADS), max_batch or 1
    return workers, threads, max_batch


def _calibrated(
    model: Model, workers: int | None, threads: int | None, max_batch: int | None, cores: int
) -> Calibration | None:
    """What the engine would find by measuring itself; None: there is nothing left to find."""
    if model.on_gpu:
        workers, threads = workers or GPU_WORKERS, threads or 1
    asked = wish(
        cores,
        workers=workers,
        threads_per_worker=threads,
        max_batch=max_batch,
        batches=batches_to_try(full_window=model.full_window, on_gpu=model.on_gpu),
    )
    if asked is None:
        return None
    clock = FakeClock()

    def measure(workers: int, threads: int, batch: int) -> float:
        times = model.times[model.measured_threads(threads)]
        box = Box(model.device, cores, times.cores(threads), times.contention)
        seconds = times.mean_s(batch, CALIBRATION_AUDIO_S) * box.slowdown(workers)
        clock.advance(seconds * (RUNS if seconds < SLOW_S else 1))
        return seconds

    return calibrate(measure, _only_measured(model, asked), clock)


def _only_measured(model: Model, asked: Wish) -> Wish:
    """Without arrangements of whose threads nothing is known, if any is left without them."""
    if model.on_gpu:
        return asked
    known = tuple(pair for pair in asked.arrangements if pair[1] in model.times)
    return replace(asked, arrangements=known or asked.arrangements[:1])
