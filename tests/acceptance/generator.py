"""How many speakers one load generator plays on schedule, and what each costs.

    python -m tests.acceptance.generator [--minutes 30] [--out reports/generator]

Against a server that reads and answers nothing (tests/drain_server.py), so that only the
generator is measured:

1. One core: generator, its command and everything it starts on one CPU, the server on the other.
   24 kHz (OpenAI Realtime) and 16 kHz (RealtimeSTT), 20 ms a message, more and more speakers.
2. Two cores, `--processes 2`: the same with 60 ms and with 20 ms a message; the server takes its
   share of the same two cores.

A number is held if, over the whole run with its ramp, the 99th percentile of lag is below 10 ms and
no frame left more than 20 ms late. One that is not held is tried once more; of two tries that
differ both are told. CPU is read from outside while everybody speaks, memory at its end. Every
run is a file under OUT/raw; the command resumes after the last one, and begins none after
`--minutes`. The machine should do nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

from rtvc.clock import SystemClock
from rtvc.loadtest.wire.transport import Frames
from rtvc.loadtest.wire.wires import WIRES
from rtvc.record import load_run, this_machine
from rtvc.stats import Histogram
from tests.acceptance.generator_figure import draw
from tests.acceptance.overhead import Bench

ROOT = Path(__file__).parents[2]

SECONDS = 20
LAG_P99_S = 0.010
ARRIVALS_PER_S = 40.0
SETTLE_S = 3.0
PATIENCE_S = 240.0

clock = SystemClock()


@dataclass(frozen=True)
class Ladder:
    """More and more speakers, until they are not held."""

    name: str
    protocol: str
    frame_ms: int
    processes: int
    rungs: tuple[int, ...]
    target: int | None
    """Speakers that must be held; None: the most that are is found out."""

    @property
    def title(self) -> str:
        rate_khz = WIRES[self.protocol].rate_hz // 1000
        cores = "one core" if self.processes == 1 else f"{self.processes} processes, two cores"
        return f"{rate_khz} kHz, {self.frame_ms} ms, {cores}"


LADDERS = (
    Ladder(
        "one-core-24k-20ms",
        *("openai-realtime", 20, 1, (10, 50, 100, 200, 300, 400, 450, 500, 550, 600), 200),
    ),
    Ladder(
        "one-core-16k-20ms",
        *("realtimestt", 20, 1, (50, 200, 300, 400, 500, 600), 200),
    ),
    Ladder(
        "two-cores-24k-60ms",
        *("openai-realtime", 60, 2, (200, 600, 1000, 1400, 1800), 1000),
    ),
    Ladder(
        "two-cores-24k-20ms",
        *("openai-realtime", 20, 2, (200, 400, 500, 600, 700, 800, 900, 1000), None),
    ),
)


@contextmanager
def drained(cpus: Sequence[int] | None) -> Iterator[int]:
    """Port of a server that reads, on its own CPU where there is one for it."""
    command = [sys.executable, "-m", "tests.drain_server"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if cpus:
            os.sched_setaffinity(process.pid, cpus)
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def notes(port: int) -> dict[str, float]:
    found: dict[str, float] = httpx.get(f"http://127.0.0.1:{port}/notes", timeout=10).json()
    return found


def measure(ladder: Ladder, speakers: int, seconds: int) -> dict[str, Any]:
    """One run."""
    alone = ladder.processes == 1
    cpus = sorted(os.sched_getaffinity(0))
    ramp_s = max(2.0, speakers / ARRIVALS_PER_S)
    with tempfile.TemporaryDirectory() as folder, drained(cpus[1:2] if alone else None) as port:
        run_dir = Path(folder) / "run"
        command = [
            *(sys.executable, "-m", "rtvc", "loadtest", f"ws://127.0.0.1:{port}"),
            *("--protocol", ladder.protocol, "--frame-ms", str(ladder.frame_ms)),
            *("--speakers", str(speakers), "--processes", str(ladder.processes)),
            *("--ramp", f"{ramp_s:g}", "--warm-up", f"{ramp_s:g}", "--duration", str(seconds)),
            *("--scenario", "dictation", "--grace", "3", "--out", str(run_dir), "--json"),
            *(("--transcription",) if ladder.protocol == "openai-realtime" else ()),
        ]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            if alone:
                os.sched_setaffinity(process.pid, cpus[:1])
            use = _watch(process, port, speakers, seconds)
            _, said = process.communicate(timeout=PATIENCE_S)
        if not (run_dir / "run.json").exists():
            raise SystemExit(f"{speakers} speakers: the load test ended: {said.strip()[-400:]}")
        return {**_of_run(run_dir, ladder, notes(port)), **use, "speakers": speakers}


def _watch(
    process: "subprocess.Popen[str]", port: int, speakers: int, seconds: int
) -> dict[str, float | None]:
    """CPU and memory of the generators while everybody speaks."""
    deadline_s = clock.now() + PATIENCE_S
    while process.poll() is None and notes(port)["open"] < speakers:
        if clock.now() > deadline_s:
            return {}
        time.sleep(0.5)
    time.sleep(SETTLE_S)
    with suppress(psutil.NoSuchProcess):
        generators = psutil.Process(process.pid).children(recursive=True)
        before_s, at_s, sink_s = _cpu_s(generators), clock.now(), notes(port)["cpu_s"]
        time.sleep(max(1.0, seconds - 3 * SETTLE_S))
        used_s, sink_used_s = _cpu_s(generators) - before_s, notes(port)["cpu_s"] - sink_s
        took_s = clock.now() - at_s
        return {
            "cpu_ms_per_speech_s": 1000 * used_s / took_s / speakers,
            "cpu_ratio": used_s / took_s,
            "sink_cpu_ratio": sink_used_s / took_s,
            "memory_bytes": sum(each.memory_info().rss for each in generators),
        }
    return {}


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _of_run(folder: Path, ladder: Ladder, received: dict[str, float]) -> dict[str, Any]:
    run = load_run(folder)
    lags = Histogram()
    for row in run.generator:
        lags.merge(Histogram.parse(row.lag_histogram))
    frames = sum(row.frames for row in run.generator)
    late = sum(row.late_frames for row in run.generator)
    p50_s, p99_s = lags.quantile(0.5), lags.quantile(0.99)
    connected = sum(row.outcome == "ok" for row in run.attempts)
    return {
        "connected": connected,
        "frames": frames,
        "late_frames": late,
        "lag_p50_ms": None if p50_s is None else 1000 * p50_s,
        "lag_p99_ms": None if p99_s is None else 1000 * p99_s,
        "lag_max_ms": 1000 * max((row.lag_max_s for row in run.generator), default=0.0),
        "received_share": received["received_bytes"] / max(1, frames * _frame_bytes(ladder)),
        "held": p99_s is not None and p99_s < LAG_P99_S and late == 0,
    }


def _frame_bytes(ladder: Ladder) -> int:
    """Of a message on the wire: each is as long as the other."""
    wire = WIRES[ladder.protocol]
    assert wire.append is not None
    samples = round(wire.rate_hz * ladder.frame_ms / 1000)
    return len(Frames(wire.append).ready(bytes(2 * samples)).format())


def climb(bench: Bench, ladder: Ladder, seconds: int) -> None:
    """Rung by rung; one that is not held is tried once more, and is the last if it is not then."""
    for speakers in ladder.rungs:
        tries = []
        for attempt in range(2):
            name = f"{ladder.name}-{speakers:04}-{attempt}"
            bench.once(name, partial(measure, ladder, speakers, seconds))
            found = bench.kept(name)
            if found is None:
                return
            tries.append(found)
            if found["held"]:
                break
        if not any(found["held"] for found in tries):
            return


# What came of it.


def runs_of(bench: Bench, ladder: Ladder) -> dict[int, list[dict[str, Any]]]:
    """Tries by number of speakers."""
    found: dict[int, list[dict[str, Any]]] = {}
    for speakers in ladder.rungs:
        names = [f"{ladder.name}-{speakers:04}-{attempt}" for attempt in range(2)]
        tries = [kept for name in names if (kept := bench.kept(name)) is not None]
        if tries:
            found[speakers] = tries
    return found


def most_held(runs: dict[int, list[dict[str, Any]]]) -> int | None:
    held = [speakers for speakers, tries in runs.items() if any(each["held"] for each in tries)]
    return max(held, default=None)


def memory_per_speaker_bytes(runs: dict[int, list[dict[str, Any]]]) -> float | None:
    """Between the fewest and the most speakers: what one more takes."""
    known = {n: tries[-1].get("memory_bytes") for n, tries in runs.items()}
    points = [(n, float(size)) for n, size in known.items() if size]
    if len(points) < 2:
        return None
    (few, small), (many, large) = points[0], points[-1]
    return (large - small) / (many - few)


def table(bench: Bench) -> str:
    lines = [
        "| Framing | Speakers | Lag p50 | Lag p99 | Lag max | Late frames | CPU a speaker "
        "| Memory | Server's CPU | Held |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for ladder in LADDERS:
        for tries in runs_of(bench, ladder).values():
            lines += [_line(ladder, found) for found in tries]
    lines.append("")
    lines += [_said(ladder, runs_of(bench, ladder)) for ladder in LADDERS]
    return "\n".join(lines) + "\n"


def _line(ladder: Ladder, found: dict[str, Any]) -> str:
    cells = [
        ladder.title,
        str(found["speakers"]),
        *(f"{found[name]:.2f} ms" for name in ("lag_p50_ms", "lag_p99_ms", "lag_max_ms")),
        f"{found['late_frames']} of {found['frames']}",
        _shown(found.get("cpu_ms_per_speech_s"), 1, "ms/s", 2),
        _shown(found.get("memory_bytes"), 2**20, "MiB", 0),
        _shown(found.get("sink_cpu_ratio"), 0.01, "%", 0),
        "yes" if found["held"] else "no",
    ]
    return f"| {' | '.join(cells)} |"


def _shown(value: float | None, unit: float, name: str, digits: int) -> str:
    return "–" if value is None else f"{value / unit:.{digits}f} {name}"


def _said(ladder: Ladder, runs: dict[int, list[dict[str, Any]]]) -> str:
    most, memory = most_held(runs), memory_per_speaker_bytes(runs)
    if most is None:
        return f"- {ladder.title}: not measured"
    beyond = [speakers for speakers in runs if speakers > most]
    limit = f", not {beyond[0]}" if beyond else " (the most that was tried)"
    wanted = "" if ladder.target is None else f"; wanted {ladder.target}"
    verdict = _verdict(ladder, most, bool(beyond))
    room = "" if memory is None else f"; {memory / 1024:.0f} KiB of memory for one more speaker"
    return f"- {ladder.title}: holds {most}{limit}{wanted}{verdict}{room}"


def _verdict(ladder: Ladder, most: int, beyond: bool) -> str:
    if ladder.target is None:
        return ""
    if most >= ladder.target:
        return ", met"
    return ", missed" if beyond else ", not tried yet"


def write(bench: Bench, out: Path, seconds: int) -> str:
    machine = this_machine()
    result = {
        "machine": {"cpu": machine.cpu, "cores": machine.cores, "python": machine.python},
        "seconds_a_run": seconds,
        "ladders": [
            {
                "name": ladder.name,
                "title": ladder.title,
                "target": ladder.target,
                "holds": most_held(runs_of(bench, ladder)),
                "bytes_a_speaker": memory_per_speaker_bytes(runs_of(bench, ladder)),
                "runs": [each for tries in runs_of(bench, ladder).values() for each in tries],
            }
            for ladder in LADDERS
        ],
    }
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    (out / "generator.json").write_text(text, encoding="utf-8")
    told = table(bench)
    (out / "table.md").write_text(told, encoding="utf-8")
    draw({ladder.title: runs_of(bench, ladder) for ladder in LADDERS}, out / "cost")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=Path("reports/generator"))
    parser.add_argument("--seconds", type=int, default=SECONDS, help="measured, of each run")
    parser.add_argument("--only", help="name of one ladder")
    chosen = parser.parse_args()
    bench = Bench(chosen.out, chosen.minutes, clock)
    for ladder in LADDERS:
        if chosen.only in (None, ladder.name):
            climb(bench, ladder, chosen.seconds)
    print(write(bench, chosen.out, chosen.seconds))  # noqa: T201
    if bench.out_of_time:
        sys.exit("time is up: run the command again, it goes on where it stopped")


if __name__ == "__main__":
    main()
