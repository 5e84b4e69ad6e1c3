"""The engine by itself, in this process: how much of the model's speed is left, and who waits.

    OPENBLAS_NUM_THREADS=1 python -m tests.acceptance.engine [--model selftest] [--out FILE]

1. Share of raw throughput: the same utterances, all as finals, as fast as they go: through
   CTranslate2 by hand (features included, the same workers and threads, the best of several batch
   sizes) and through the engine with its scheduler and process, taken in turn. (Without the
   variable, the threads of the linear algebra library spin beside the model in this process, and
   the share flatters the engine.)
2. Partials against finals: finals arrive at a quarter of what the engine can do, partials at the
   same rate and at three times that, in turn: p95 of a final from asked to answered.
"""

import argparse
import asyncio
import itertools
import json
import random
import statistics
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_ctranslate2_storage

from rtvc.clock import SystemClock
from rtvc.speech.corpus import builtin_clips
from rtvc.stats import quantile
from rtvc.stt.engine import build_engine
from rtvc.stt.models import resolve_model
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray, Engine, EngineStatus, Job, JobKind

IN_FLIGHT = 48
clock = SystemClock()


def jobs(clips: Sequence[AudioArray], kind: JobKind) -> Iterator[Job]:
    """Utterances for ever, each of a session of its own."""
    for number in itertools.count():
        audio = clips[number % len(clips)]
        if kind is JobKind.PARTIAL:
            audio = audio[: round(len(audio) * 0.6)]
        name = f"{kind}-{number}"
        yield Job(name, name, kind, 1, audio, clock.now())


async def engine_rate(engine: Engine, clips: Sequence[AudioArray], seconds: float) -> float:
    """Utterances a second, with the engine never idle."""
    source, done = jobs(clips, JobKind.FINAL), 0
    ends_s = clock.now() + seconds

    async def worker() -> None:
        nonlocal done
        while clock.now() < ends_s:
            await engine.transcribe(next(source))
            done += clock.now() < ends_s

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return done / seconds


class ByHand:
    """CTranslate2 as one would call it without rtvc: features, encode, generate."""

    def __init__(self, path: Path, status: EngineStatus, context: str) -> None:
        self._whisper = WhisperModel(
            str(path),
            device=status.device,
            compute_type=status.compute_type or "default",
            cpu_threads=status.threads_per_worker,
            num_workers=status.workers,
        )
        tokenizer = Tokenizer(self._whisper.hf_tokenizer, False)
        self._prompt = [tokenizer.sot, tokenizer.no_timestamps]
        self._full = context == "full"
        self._synthetic = status.model_kind == "synthetic weights"
        self._eot = tokenizer.eot

    def transcribe(self, clips: Sequence[AudioArray]) -> None:
        mels = [self._whisper.feature_extractor(clip) for clip in clips]
        # As much room as the model is given by rtvc: half a second more, two at least.
        longest = max(mel.shape[1] for mel in mels)
        frames = 3000 if self._full else max((longest + 50) // 2 * 2, 200)
        padded = np.stack(
            [np.pad(mel[:, :frames], ((0, 0), (0, max(0, frames - mel.shape[1])))) for mel in mels]
        )
        encoded = self._whisper.model.encode(get_ctranslate2_storage(padded))
        longest_s = max(len(clip) for clip in clips) / SAMPLE_RATE_HZ
        # CTranslate2 decodes half of max_length; random weights never say that they are done.
        tokens = round(4 * longest_s) if self._synthetic else 80
        self._whisper.model.generate(
            encoded,
            [self._prompt] * len(mels),
            beam_size=1,
            max_length=2 * tokens,
            suppress_blank=False,
            suppress_tokens=[self._eot] if self._synthetic else [],
        )


def raw_rate(
    raw: ByHand, clips: Sequence[AudioArray], seconds: float, workers: int, batch: int
) -> float:
    """Utterances a second of the model alone: `workers` threads, batches of like length."""
    ordered = sorted(clips, key=len)
    batches = [ordered[at : at + batch] for at in range(0, len(ordered), batch)]
    random.Random(4).shuffle(batches)
    source = itertools.cycle(batches)
    ends_s, counts = clock.now() + seconds, [0] * workers
    lock = threading.Lock()

    def work(worker: int) -> None:
        while clock.now() < ends_s:
            with lock:
                taken = next(source)
            raw.transcribe(taken)
            if clock.now() < ends_s:
                counts[worker] += len(taken)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


async def finals_p95_s(
    engine: Engine,
    clips: Sequence[AudioArray],
    finals_per_s: float,
    partials_per_s: float,
    seconds: float,
) -> tuple[float, int]:
    """p95 of a final, asked → answered, beside a stream of partials; and how many finals."""
    waits: list[float] = []
    running: set[asyncio.Task[None]] = set()

    async def final(job: Job) -> None:
        await engine.transcribe(job)
        waits.append(clock.now() - job.enqueued_at_s)

    async def partial(job: Job) -> None:
        await engine.transcribe(job)

    async def stream(kind: JobKind, per_s: float, seed: int) -> None:
        source, rng, begun_s, at_s = jobs(clips, kind), random.Random(seed), clock.now(), 0.0
        while at_s < seconds:
            at_s += rng.expovariate(per_s)
            await asyncio.sleep(max(0.0, begun_s + at_s - clock.now()))
            job = next(source)
            task = asyncio.create_task(final(job) if kind is JobKind.FINAL else partial(job))
            running.add(task)
            task.add_done_callback(running.discard)

    await asyncio.gather(
        stream(JobKind.FINAL, finals_per_s, 1), stream(JobKind.PARTIAL, partials_per_s, 2)
    )
    await asyncio.gather(*running)
    p95 = quantile(waits, 0.95)
    assert p95 is not None
    return p95, len(waits)


async def measure(model: str, seconds: float, rounds: int, **settings: Any) -> dict[str, Any]:
    """Both measurements; see the module text."""
    clips = [clip.audio for clip in builtin_clips(96, seed=31)]
    engine = build_engine(model, clock=clock, **settings)
    await engine.start()
    status = engine.status
    batch = getattr(status, "max_batch", None) or settings.get("max_batch") or 4
    resolved = resolve_model(model)
    assert resolved.path is not None
    raw = ByHand(resolved.path, status, resolved.encoder_context)
    sizes = sorted({1, 2, 4, 8, batch})
    raw_rate(raw, clips, 1.0, status.workers, batch)
    pairs, raw_by_batch = [], []
    for _ in range(rounds):
        by_hand = [raw_rate(raw, clips, seconds, status.workers, size) for size in sizes]
        pairs.append((await engine_rate(engine, clips, seconds), max(by_hand)))
        raw_by_batch.append([round(rate, 1) for rate in by_hand])
    rate = statistics.median(engine_side for engine_side, _ in pairs)
    loads = []
    for _ in range(rounds):
        once = await finals_p95_s(engine, clips, rate / 4, rate / 6, seconds)
        thrice = await finals_p95_s(engine, clips, rate / 4, rate / 2, seconds)
        loads.append((once, thrice))
    await engine.close()
    return {
        "model": status.model,
        "model_kind": status.model_kind,
        "workers": status.workers,
        "threads_per_worker": status.threads_per_worker,
        "max_batch": batch,
        "engine_per_s": [round(pair[0], 1) for pair in pairs],
        "raw_per_s": [round(pair[1], 1) for pair in pairs],
        "raw_batches": sizes,
        "raw_per_s_by_batch": raw_by_batch,
        "share_of_raw_median": round(statistics.median(a / b for a, b in pairs), 3),
        "finals_p95_ms_partials_x1": [round(once[0] * 1000, 1) for once, _ in loads],
        "finals_p95_ms_partials_x3": [round(thrice[0] * 1000, 1) for _, thrice in loads],
        "finals_n": sum(once[1] + thrice[1] for once, thrice in loads),
        "finals_p95_ratio_median": round(
            statistics.median(thrice[0] / once[0] for once, thrice in loads), 3
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="selftest")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    result = asyncio.run(measure(chosen.model, chosen.seconds, chosen.rounds))
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
