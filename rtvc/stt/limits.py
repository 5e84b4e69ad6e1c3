"""What an engine keeps to where the user leaves it open: by device, by window, by workers. Pure.

The engine asks it, and so does whoever works out beforehand what the engine would do.
"""

from dataclasses import replace

from rtvc.stt.headroom import partial_workers
from rtvc.stt.tickets import Limits

PER_SESSION_THREADS = 4
"""What Whisper's users get by default: CTranslate2 takes four threads, or as many as there are."""

GPU_WORKERS = 2
"""Inferences at once on a GPU: while one is decoded, the next is encoded."""

GPU_BATCH = 16
"""Utterances in one inference on a GPU, until it has been measured."""


def usual_limits(max_batch: int | None, *, full_window: bool, on_gpu: bool) -> Limits:
    """Where `max_batch` is None: on a CPU a batch takes nearly the sum of its jobs, on a GPU hardly
    more than one.

    >>> usual_limits(None, full_window=True, on_gpu=False).max_batch
    1
    """
    if not full_window:
        return Limits(max_batch=max_batch or (GPU_BATCH if on_gpu else 4), mix_kinds=on_gpu)
    # The encoder sees 30 s whatever the length; only the decoder waits for the longest member.
    return Limits(
        max_batch=max_batch or (GPU_BATCH if on_gpu else 1),
        mix_kinds=on_gpu,
        buckets_s=(10.0, 30.0),
    )


def batches_to_try(*, full_window: bool, on_gpu: bool) -> tuple[int, ...]:
    """Sizes beyond 1 that are measured at the start."""
    if on_gpu:
        return (4, 8, 16, 32)
    return (2, 4) if full_window else (2, 4, 8, 16)


def with_room_for_finals(limits: Limits, workers: int) -> Limits:
    """The same with partials held back, so that a final seldom waits for them.

    >>> with_room_for_finals(Limits(max_batch=8), workers=2).max_partial_batch
    4
    """
    chosen = limits.partial_batches
    reserved = partial_workers(workers) if chosen is None else chosen
    limits = replace(limits, partial_batches=reserved)
    if limits.mix_kinds:
        return limits
    # Where batches cost what their jobs cost, a final waits the longer for a larger one.
    return replace(limits, max_partial_batch=max(limits.max_batch // 2, 1))
