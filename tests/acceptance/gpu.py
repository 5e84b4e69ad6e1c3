"""Everything that needs a CUDA device, in one command that goes on where it was cut off.

    python -m tests.acceptance.gpu [--out reports/gpu] [--again] [--rehearse]

1. The tests marked gpu.
2. `rtvc profile gpu` beside a busy synthetic Whisper: what it must be able to read, and its cost.
3. `rtvc profile diagnose` of a server by itself, and of one whose device a neighbour keeps busy:
   the first must not be told of contention, the second must.
4. For synthetic small.en and medium.en as float16, alone and beside a busy neighbour: what raw
   CTranslate2 does at each batch size, what the engine does when saturated with finals, the batches
   it forms, and how many speakers the server holds at a transcription delay p95 below 500 ms.
5. The grid of `rtvc bench` with synthetic weights, and a plan of it in which other GPUs are
   marked as extrapolated.

Each step writes a file of its own under the GPU's name and is left out when that file is of the
same sources. Without a CUDA device it says so and ends with 0. `--rehearse` runs the steps small,
on the CPU, to see that they work; its figures go to a folder of their own and mean nothing.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtvc.clock import SystemClock
from rtvc.instruments.gpu import GpuSampler, NoGpu, open_gpus
from rtvc.profile.gpu.history import MODEL_BYTES, DeviceSummary, GpuHistory, readings
from rtvc.speech.corpus import builtin_clips
from rtvc.stt.engine import build_engine
from rtvc.stt.models import cuda_device_count
from rtvc.stt.synthetic import TOKENS_PER_S, dimensions_of, synthesized, vocabulary
from rtvc.stt.transcriber import Job, JobKind
from tests.acceptance import gpu_bench
from tests.servers import running_server

CLIP_S = 3.0
"""Length of an utterance of the raw figures: that of the corpus, about."""
IN_FLIGHT = 96
CONTENTION = "device-contention"
clock = SystemClock()


@dataclass(frozen=True, slots=True)
class Bench:
    """What is run, and how long."""

    device: str = "cuda"
    compute_type: str = "float16"
    sizes: tuple[str, ...] = ("small.en", "medium.en")
    batches: tuple[int, ...] = (1, 4, 8, 16, 32)
    seconds: float = 8.0
    neighbour_size: str = "large-v3-turbo"
    most_speakers: int = 400
    step_s: int = 30
    diagnosed_speakers: int = 16


REHEARSAL = Bench("cpu", "int8", ("tiny.en",), (1, 2), 2.0, "tiny.en", 2, 10, 2)


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


# Steps


def gpu_tests() -> dict[str, Any]:
    """The tests marked gpu."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    return {"exit_code": done.returncode, "said": lines[-1] if lines else done.stderr[-300:]}


def profile_gpu(bench: Bench) -> dict[str, Any]:
    """What `rtvc profile gpu` reads while a synthetic Whisper keeps the device busy."""
    opened = open_gpus(clock)
    if isinstance(opened, NoGpu):
        return {"exit_code": int(bench.device == "cuda"), "no_gpu": opened.reason}
    history = GpuHistory()
    with opened:
        history.add(opened.sample())
        with neighbour(bench), tempfile.TemporaryDirectory() as folder:
            watched = watch_by_command(bench, Path(folder) / "rows.parquet")
            seconds = bench.seconds
            for samples in readings(opened, clock, interval_s=0.5, duration_s=seconds):
                history.add(samples)
            costs_ms = sorted(cost_ms(opened) for _ in range(100))
    # The one that the neighbour is on.
    busiest = max(
        (device.summary() for device in history.devices),
        key=lambda device: device.memory_above_baseline_peak_bytes or 0,
    )
    missing = missing_figures(busiest)
    return {
        "exit_code": int(bool(missing) or watched["exit_code"] != 0 or not watched["rows"]),
        "missing": missing,
        "processes": "listed" if busiest.processes else "hidden; the device's rise is offered",
        "reading_ms": {"p50": costs_ms[50], "p99": costs_ms[98]},
        "by_command": watched,
        "summary": asdict(busiest),
    }


def cost_ms(sampler: GpuSampler) -> float:
    """Of one reading of all devices."""
    begun_s = clock.now()
    sampler.sample()
    return round(1000 * (clock.now() - begun_s), 3)


def watch_by_command(bench: Bench, file: Path) -> dict[str, Any]:
    """The verb as a person calls it."""
    import pyarrow.parquet

    command = [sys.executable, "-m", "rtvc", "profile", "gpu", "--json", "--out", str(file)]
    command += ["--duration", str(bench.seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = pyarrow.parquet.read_table(file).num_rows if file.exists() else 0
    return {"exit_code": done.returncode, "rows": rows, "said": done.stderr[-300:]}


def missing_figures(device: DeviceSummary) -> list[str]:
    """What was to be readable of a busy device, and was not."""
    busy, rise = device.busy_ratio, device.memory_above_baseline_peak_bytes or 0
    readable = {
        "busy": busy is not None and busy.most > 0,
        "memory": rise > MODEL_BYTES,
        "power": device.power_w is not None and device.power_w.most > 0,
        "energy": (device.energy_j or 0) > 0,
        # In a container of its own processes NVML lists none: then it has to be said.
        "processes": bool(device.processes) or device.trouble is not None,
    }
    return [name for name, found in readable.items() if not found]


def diagnoses(bench: Bench) -> dict[str, Any]:
    """What is said of a server by itself, and of one that shares its device."""
    model = f"synthetic:{bench.sizes[0]}"
    flags = ("--device", bench.device, "--compute-type", bench.compute_type)
    alone = diagnosed(bench, model, *flags)
    with neighbour(bench):
        beside = diagnosed(bench, model, *flags)
    wrong = (CONTENTION in alone["causes"]) + (beside["causes"][:1] != [CONTENTION])
    return {"exit_code": int(wrong > 0), "alone": alone, "beside_a_neighbour": beside}


def diagnosed(bench: Bench, model: str, *flags: str) -> dict[str, Any]:
    """The causes that are named, the first first, and the sentence."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(*flags, "--admission", "slots", model=model) as url,
    ):
        command = [sys.executable, "-m", "rtvc", "profile", "diagnose", url, "--json"]
        command += ["--speakers", str(bench.diagnosed_speakers), "--out", f"{folder}/diagnosis"]
        command += ["--duration", f"{bench.step_s}s"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        told = json.loads(done.stdout)
    except ValueError:
        return {"exit_code": done.returncode, "causes": [], "said": done.stderr[-300:]}
    causes = [finding["cause"] for finding in told["findings"]]
    return {"exit_code": done.returncode, "causes": causes, "sentence": told["sentence"]}


def bench_size(bench: Bench, size: str, *, beside_neighbour: bool) -> dict[str, Any]:
    """All figures of one size."""
    synthesized(size, lambda progress, detail: None)
    with neighbour(bench) if beside_neighbour else contextlib.nullcontext():
        raw = {batch: raw_rate(bench, size, batch) for batch in bench.batches}
        saturated = asyncio.run(engine_rate(bench, size))
        held = capacity(bench, size)
    best = max(raw.values())
    return {
        "raw_utterances_per_s_by_batch": raw,
        **saturated,
        "share_of_best_raw": round(saturated["engine_utterances_per_s"] / best, 3),
        "capacity": held,
    }


def raw_rate(bench: Bench, size: str, batch: int) -> float:
    """Utterances a second of CTranslate2 alone, features left out, full window."""
    import ctranslate2
    from faster_whisper.transcribe import get_ctranslate2_storage

    folder = synthesized(size, lambda progress, detail: None)
    model = ctranslate2.models.Whisper(
        str(folder), device=bench.device, compute_type=bench.compute_type, intra_threads=1
    )
    tokens = vocabulary(dimensions_of(size))
    prompt = [tokens.index("<|startoftranscript|>"), tokens.index("<|notimestamps|>")]
    shape = (batch, dimensions_of(size).mel_bins, 3000)
    features = np.random.default_rng(0).normal(0, 0.5, shape).astype(np.float32)

    def call() -> None:
        encoded = model.encode(get_ctranslate2_storage(features))
        most = 2 * round(CLIP_S * TOKENS_PER_S)
        model.generate(encoded, [prompt] * batch, beam_size=1, max_length=most)

    call()
    begun_s, calls = clock.now(), 0
    while clock.now() - begun_s < bench.seconds or not calls:
        call()
        calls += 1
    return round(batch * calls / (clock.now() - begun_s), 2)


async def engine_rate(bench: Bench, size: str) -> dict[str, Any]:
    """The engine with more finals than it can do: their rate, and the batches formed."""
    engine = build_engine(
        f"synthetic:{size}", device=bench.device, compute_type=bench.compute_type, clock=clock
    )
    await engine.start()
    clips = [clip.audio for clip in builtin_clips(48, seed=11)]
    numbers, batches = itertools.count(), Counter[int]()
    ends_s = clock.now() + bench.seconds

    async def keep_asking() -> None:
        while clock.now() < ends_s:
            number = next(numbers)
            audio = clips[number % len(clips)]
            job = Job(f"s{number}", "1", JobKind.FINAL, 1, audio, clock.now(), language="en")
            answer = await engine.transcribe(job)
            if answer is not None and clock.now() < ends_s:
                batches[answer.batch_size] += 1

    await asyncio.gather(*(keep_asking() for _ in range(IN_FLIGHT)))
    status = engine.status
    await engine.close()
    return {
        "device": status.device,
        "compute_type": status.compute_type,
        "workers": status.workers,
        "engine_utterances_per_s": round(sum(batches.values()) / bench.seconds, 2),
        "utterances_by_batch_size": dict(sorted(batches.items())),
        "mean_utterance_s": round(sum(map(len, clips)) / len(clips) / 16_000, 2),
    }


def capacity(bench: Bench, size: str) -> dict[str, Any]:
    """Speakers held by the server, as the load test finds them."""
    flags = ["--model", f"synthetic:{size}", "--device", bench.device]
    flags += ["--compute-type", bench.compute_type, "--max-sessions", "2000"]
    with running_server(*flags) as url, tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "rtvc", "loadtest", url, "--find-capacity", "--json"]
        command += ["--transcription", "--scenario", "dictation"]
        command += ["--max-speakers", str(bench.most_speakers)]
        command += ["--step-duration", str(bench.step_s), "--out", str(Path(folder) / "run")]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        found = {}
    kept = ("verdict", "capacity", "steps", "connections", "generator", "utterances")
    return {"exit_code": done.returncode, **{key: found[key] for key in kept if key in found}}


@contextlib.contextmanager
def neighbour(bench: Bench) -> Iterator[None]:
    """A process that keeps the device busy."""
    command = [sys.executable, "-m", "tests.acceptance.neighbour"]
    command += ["--device", bench.device, "--size", bench.neighbour_size]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            if not child.stdout.readline().startswith("ready"):
                raise SystemExit("the neighbour did not start")
            with tempfile.TemporaryFile("w") as rest:
                # Its pipe must not fill up.
                copying = subprocess.Popen(["cat"], stdin=child.stdout, stdout=rest)
                yield
                child.terminate()
                copying.wait(10)
        finally:
            child.terminate()


# Which steps are outstanding


def steps(bench: Bench, folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """By name, in order; `folder` is for what is more than figures."""
    found: dict[str, Callable[[], dict[str, Any]]] = {
        "tests": gpu_tests,
        "profile-gpu": lambda: profile_gpu(bench),
        "diagnose": lambda: diagnoses(bench),
    }
    for size in bench.sizes:
        for busy in (False, True):
            name = f"{size}-{'beside-a-neighbour' if busy else 'alone'}"
            found[name] = lambda size=size, busy=busy: bench_size(  # type: ignore[misc]
                bench, size, beside_neighbour=busy
            )
    grid = gpu_bench.REHEARSAL if bench.device == "cpu" else gpu_bench.Grid()
    found["bench-and-plan"] = lambda: gpu_bench.bench_and_plan(grid, folder)
    return found


def sources() -> str:
    """The tree of rtvc's sources that figures are of; changed files count."""
    command = ["git", "rev-parse", "HEAD:rtvc"]
    tree = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "rtvc"], check=False)
    return f"{tree}-dirty" if changed.returncode else tree


def is_done(file: Path, of: str) -> bool:
    try:
        return bool(json.loads(file.read_text("utf-8"))["sources"] == of)
    except (OSError, ValueError, KeyError):
        return False


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    found = {
        "gpu": str(pynvml.nvmlDeviceGetName(handle)),
        "driver": str(pynvml.nvmlSystemGetDriverVersion()),
        "gpu_memory_mb": round(memory.total / 1e6),
    }
    pynvml.nvmlShutdown()
    return found


def run(bench: Bench, folder: Path, about: dict[str, Any], *, again: bool) -> int:
    """All outstanding steps; the number of those that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    of, failed = sources(), 0
    for name, step in steps(bench, folder).items():
        file = folder / f"{name}.json"
        if is_done(file, of) and not again:
            say(f"{name}: done before")
            continue
        say(f"{name}: running")
        begun_s = clock.now()
        result = step()
        failed += result.get("exit_code", 0) not in (0, 5)
        told = {"sources": of, **about, "took_s": round(clock.now() - begun_s, 1), **result}
        file.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
        say(f"{name}: {json.dumps(result)[:300]}")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("reports/gpu"))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--rehearse", action="store_true")
    chosen = parser.parse_args()
    if chosen.rehearse:
        with tempfile.TemporaryDirectory() as folder:
            raise SystemExit(run(REHEARSAL, Path(folder), {"gpu": None}, again=True))
    if not cuda_device_count():
        say("no CUDA device: no GPU check was run")
        return
    about = machine()
    name = re.sub(r"[^a-z0-9]+", "-", about["gpu"].lower()).strip("-")
    raise SystemExit(min(run(Bench(), chosen.out / name, about, again=chosen.again), 1))


if __name__ == "__main__":
    main()
