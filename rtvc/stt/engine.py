"""From a model's name to an engine: what to run, with which limits, and who shares it."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from rtvc.clock import Clock
from rtvc.errors import ModelError
from rtvc.stt.calibration import Wish, wish
from rtvc.stt.ladder import Partials, rules_for
from rtvc.stt.limits import GPU_WORKERS, PER_SESSION_THREADS, batches_to_try, usual_limits
from rtvc.stt.models import ResolvedModel, WantedContext, cuda_device_count, resolve_model
from rtvc.stt.pocketsphinx import PocketSphinxTranscriber
from rtvc.stt.preflight import check_resolved
from rtvc.stt.process_engine import EnginePlan, ProcessEngine
from rtvc.stt.scripted import ScriptedTranscriber
from rtvc.stt.sharing import PerSessionEngine, PoolEngine
from rtvc.stt.tickets import Limits
from rtvc.stt.transcriber import Engine, ReportProgress, Transcriber
from rtvc.stt.whisper import WhisperTranscriber


def build_engine(
    model: str | None,
    *,
    device: str = "auto",
    compute_type: str = "auto",
    beam_size: int = 1,
    workers: int | None = None,
    threads_per_worker: int | None = None,
    max_batch: int | None = None,
    warm_up_audio_s: float = 0.0,
    sharing: str = "shared",
    pool_size: int = 2,
    encoder_context: WantedContext = "auto",
    delay_target_s: float = 0.5,
    partials: Partials = "adaptive",
    partial_interval_s: float = 0.4,
    change_plan: Callable[[EnginePlan], EnginePlan] | None = None,
    clock: Clock,
) -> Engine:
    """An engine for the named model; finding, loading and every error of it wait for `start`.

    `change_plan` has the last word on what is run; `partials` and their interval say what there
    is to give up under overload. Audio of each length up to `warm_up_audio_s` is inferred by an
    engine's first process before it is ready; not by engines that a session brings.
    """
    if sharing == "pool":
        workers = workers or max(_cpus() // pool_size, 1)
        threads_per_worker = threads_per_worker or 1
    elif sharing == "per-session":
        workers, max_batch = workers or 1, max_batch or 1
        threads_per_worker = threads_per_worker or min(_cpus(), PER_SESSION_THREADS)
        warm_up_audio_s = 0.0  # each caller would wait for it

    def prepare(report: ReportProgress) -> EnginePlan:
        settings = _Settings(
            device,
            compute_type,
            beam_size,
            workers,
            threads_per_worker,
            max_batch,
            warm_up_audio_s,
            clock,
        )
        found = resolve_model(model, device=device, encoder_context=encoder_context, report=report)
        check_resolved(found)
        plan = _plan(found, settings)
        return plan if change_plan is None else change_plan(plan)

    def make() -> Engine:
        return ProcessEngine(
            prepare,
            clock=clock,
            model=model or "default",
            delay_target_s=delay_target_s,
            rules=rules_for(
                # A session that would bring its own engine is not refused for the others'.
                partials,
                partial_interval_s,
                may_refuse=sharing != "per-session",
            ),
        )

    match sharing:
        case "pool":
            return PoolEngine([make() for _ in range(pool_size)])
        case "per-session":
            return PerSessionEngine(make)
        case _:
            return make()


@dataclass(frozen=True, slots=True)
class _Settings:
    """What the user asked of the engine; None: chosen to suit the device."""

    device: str
    compute_type: str
    beam_size: int
    workers: int | None
    threads_per_worker: int | None
    max_batch: int | None
    warm_up_audio_s: float
    clock: Clock


def _plan(model: ResolvedModel, settings: _Settings) -> EnginePlan:
    match model.kind:
        case "pocketsphinx":
            transcriber: Transcriber = PocketSphinxTranscriber(clock=settings.clock)
            return _plain_plan(model, transcriber)
        case "scripted":
            return _plain_plan(model, ScriptedTranscriber())
        case _:
            return _whisper_plan(model, settings)


def _plain_plan(model: ResolvedModel, transcriber: Transcriber) -> EnginePlan:
    limits = Limits(max_batch=1)
    return EnginePlan(transcriber, model.name, model.kind, limits=limits, notice=model.notice)


def _whisper_plan(model: ResolvedModel, settings: _Settings) -> EnginePlan:
    if model.path is None:
        raise ModelError(f'expected a folder for model "{model.name}", got none')
    on_gpu = settings.device == "cuda" or (settings.device == "auto" and cuda_device_count() > 0)
    threads = settings.threads_per_worker or 1
    workers = settings.workers or (GPU_WORKERS if on_gpu else max(_cpus() // threads, 1))
    limits = usual_limits(
        settings.max_batch, full_window=model.encoder_context == "full", on_gpu=on_gpu
    )
    transcriber = WhisperTranscriber(
        model.path,
        clock=settings.clock,
        device=settings.device,
        compute_type=settings.compute_type,
        encoder_context=model.encoder_context,
        headroom_s=model.headroom_s,
        least_context_s=model.least_context_s,
        beam_size=settings.beam_size,
        workers=workers,
        threads_per_worker=threads,
        max_batch=limits.max_batch,
        suppress_blank=model.suppress_blank,
    )
    device = "cuda" if on_gpu else "cpu"
    return EnginePlan(
        transcriber,
        model.name,
        model.kind,
        device,
        workers,
        threads,
        limits,
        model.notice,
        _wish(model, settings, on_gpu=on_gpu),
        settings.warm_up_audio_s,
    )


def _wish(model: ResolvedModel, settings: _Settings, *, on_gpu: bool) -> Wish | None:
    """What to find out by measuring; a GPU's threads do not matter."""
    workers, threads = settings.workers, settings.threads_per_worker
    if on_gpu:
        workers, threads = workers or GPU_WORKERS, threads or 1
    return wish(
        _cpus(),
        workers=workers,
        threads_per_worker=threads,
        max_batch=settings.max_batch,
        batches=batches_to_try(full_window=model.encoder_context == "full", on_gpu=on_gpu),
    )


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
