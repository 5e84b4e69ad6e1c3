"""An hour at 80 % of what the server holds, callers coming and going: does anything creep up?

    python -m tests.acceptance.soak --search 50,60,70,80
    python -m tests.acceptance.soak --capacity 60 [--minutes 60] [--out reports/soak]
    python -m tests.acceptance.soak --capacity reports/capacity/selftest-shared

What it holds is searched with callers who come and go, too: of N on average there are sometimes a
third more, and a server that holds N who stay is then past its limit.

One server stays up all the while. What is made once is made at first: on a CPU the engine's
libraries compile code for each number of inferences at once and each length of audio, and keep it
(oneDNN's primitive cache); some of these are met only once in half an hour. So the server is told
to warm up all lengths that its callers may say (--warm-up-audio-s), and a rush of more callers than
it holds brings the rest. Then the load comes in segments of callers at random, each for up to two
minutes: nearly all of them dictate, as in a search for the capacity, and a few are answered, so
that nothing of a server is left out. Each segment has callers of its own, but the last has those of
the first again, as their delays are compared. Each segment that is done is kept: a run that is cut
off is judged by what it has, and the next one begins a life of its own. Memory of the server and of
its engine, threads and descriptors are sampled every 5 s. The longest life is judged: see
tests/acceptance/steadiness.py.
"""

import argparse
import csv
import json
import math
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from rtvc.clock import SystemClock
from tests.acceptance.soak_figure import draw
from tests.acceptance.soak_judge import (
    FIELDS,
    STOLEN,
    judged,
    length_s,
    longest,
    samples,
    table,
    turns,
)
from tests.acceptance.watched import Watched, watched_server, write_json

SHARE = 0.8
SAMPLE_S = 5.0
RUSH, RUSH_S = 1.5, 300.0
"""Callers of the rush ÷ capacity, and how long it takes."""
AS_IN_A_SEARCH = ["--transcription", "--frame-ms", "60"]
"""How tests/acceptance/capacity.py loads the server."""
SEARCHED_S = 180.0
"""Of each number of callers in a search for the capacity."""
SERVED = ["--max-sessions", "400", "--warm-up-audio-s", "8"]
ANSWERED = 4
"""Of the speakers, so many hold a conversation."""
SCENARIO = """about = "an hour of callers who come and go"
duration_s = 600.0

[behaviour]
pause_s = [3.0, 3.0]

[arrivals]
kind = "open"
stay_s = [30.0, 120.0]
"""
LONGEST_STAY_S = 120.0
"""Until then a segment fills up, as nobody was there before it; that much is added to it."""


class Sampler(threading.Thread):
    """Writes a row every few seconds, each kept as it is written."""

    def __init__(self, server: Watched, file: Path) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._file = file
        self._over = threading.Event()
        self._clock = SystemClock()
        self.begun_s = self._clock.now()

    def run(self) -> None:
        with self._file.open("w", encoding="utf-8", newline="") as sink:
            rows = csv.DictWriter(sink, [*FIELDS, STOLEN])
            rows.writeheader()
            psutil.cpu_times_percent()  # each call tells of the time since the one before
            while not self._over.wait(SAMPLE_S):
                at_s = self._clock.now() - self.begun_s
                try:
                    row = asdict(self._server.vitals())
                    sessions = self._server.sessions()["count"]
                except (OSError, psutil.Error):
                    continue
                stolen_ratio = getattr(psutil.cpu_times_percent(), "steal", 0.0) / 100
                told = {"sessions": sessions, STOLEN: round(stolen_ratio, 4)}
                rows.writerow({"at_s": round(at_s, 1), **row, **told})
                sink.flush()

    def end(self) -> None:
        self._over.set()
        self.join()


def seeds(minutes: float, segment_s: float) -> list[int]:
    """Who calls in each segment; who calls in the first calls in the last again.

    >>> seeds(60, 600), seeds(12, 600)
    ([0, 1, 2, 3, 0], [0, 0])
    """
    count = max(2, round(60 * minutes / (segment_s + _fill_up_s(segment_s))))
    return [*range(count - 1), 0]


def _fill_up_s(segment_s: float) -> float:
    return min(LONGEST_STAY_S, segment_s / 5)


def rush(server: Watched, life: Path, args: Any) -> None:
    """More callers than it holds; nothing of what they see is judged."""
    count = round(RUSH * args.capacity)
    times = ("--duration", f"{min(RUSH_S, args.segment_seconds):g}", "--warm-up", "1")
    load(server, {life / "rush": (count, ["--scenario", "dictation", *times, *args.load_args])})


def segment(server: Watched, life: Path, number: int, seed: int, args: Any) -> list[Path]:
    """Two load tests at once; what they say of their targets is not what is judged here."""
    speakers = speakers_of(args.capacity)
    answered = min(ANSWERED, speakers - 1)
    common = [*_coming_and_going(args, args.segment_seconds), "--seed", str(seed)]
    loads = {
        life / f"segment-{number}": (speakers - answered, [*common, *args.load_args]),
        life / f"segment-{number}-answered": (answered, common),
    }
    return load(server, loads)


def search(args: argparse.Namespace) -> None:
    """What each number of callers on average, who come and go, sees of its targets."""
    folder = args.out / "search"
    folder.mkdir(parents=True, exist_ok=True)
    with watched_server(folder / "server.log", args.serve_args, args.model) as server:
        for count in args.search:
            run = folder / str(count)
            load(server, {run: (count, [*_coming_and_going(args, SEARCHED_S), *args.load_args])})
            told = json.loads((run / "summary.json").read_text("utf-8"))
            p95_ms = 1000 * told["metrics"]["transcription_delay"]["p95"]
            missing = told["utterances"]["finals_missing"]
            print(f"{count}: delay p95 {p95_ms:.0f} ms, {missing} finals missing")  # noqa: T201


def _coming_and_going(args: argparse.Namespace, length_s: float) -> list[str]:
    """Flags of a load test; whose first callers fill it up and are not judged."""
    (args.out / "soak.toml").write_text(SCENARIO, encoding="utf-8")
    times = ("--duration", f"{length_s:g}", "--warm-up", f"{_fill_up_s(length_s):g}")
    return ["--scenario", str(args.out / "soak.toml"), *times]


def speakers_of(capacity: int) -> int:
    """On the line, on average."""
    return max(1, math.floor(SHARE * capacity))


def load(server: Watched, loads: Mapping[Path, tuple[int, Sequence[str]]]) -> list[Path]:
    """Load tests at once: speakers and flags by the folder."""
    running = {
        folder: subprocess.Popen(
            [
                *(sys.executable, "-m", "rtvc", "loadtest", server.url, "--json"),
                *("--speakers", str(count), *flags, "--out", str(folder)),
            ],
            stdout=subprocess.DEVNULL,
        )
        for folder, (count, flags) in loads.items()
        if count
    }
    try:
        while any(one.poll() is None for one in running.values()):
            time.sleep(1)
            for folder, one in running.items():
                if one.poll() not in (None, 0, 3, 99):
                    raise SystemExit(f"{folder.name}: the load test ended with {one.poll()}")
    finally:
        for one in running.values():
            one.terminate()
            one.wait()
    return list(running)


def run(args: argparse.Namespace) -> None:
    """One life of the server."""
    clock = SystemClock()
    life = args.out / f"life-{1 + len(list(args.out.glob('life-*')))}"
    life.mkdir()
    with watched_server(life / "server.log", args.serve_args, args.model) as server:
        if "were not warmed up" in (life / "server.log").read_text("utf-8"):
            raise SystemExit("expected a server with all lengths warmed up: see its server.log")
        sampler = Sampler(server, life / "samples.csv")
        sampler.start()
        try:
            rush(server, life, args)
            for number, seed in enumerate(seeds(args.minutes, args.segment_seconds)):
                from_s = clock.now() - sampler.begun_s
                for folder in segment(server, life, number, seed, args):
                    write_json(folder / "soak.json", {"from_s": round(from_s, 1)})
        finally:
            sampler.end()
            troubles = server.troubles()
            restarts = server.sessions()["engine_restarts"] if server.alive else None
            told = {"alive": server.alive, "troubles": troubles, "engine_restarts": restarts}
            write_json(life / "life.json", told)


def capacity(text: str) -> int:
    """A number, or the run directory of a search."""
    if text.isdigit():
        return int(text)
    held = json.loads((Path(text) / "summary.json").read_text("utf-8"))["capacity"]["holds"]
    return int(held)


def numbers(text: str) -> list[int]:
    """Numbers of callers.

    >>> numbers("50,60")
    [50, 60]
    """
    return [int(each) for each in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--capacity", type=capacity, help="N, or a run directory")
    wanted.add_argument("--search", type=numbers, help="try these numbers of callers, no soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--segment-seconds", type=float, default=600.0)
    parser.add_argument("--model", default="selftest")
    parser.add_argument("--serve-args", type=shlex.split, default=SERVED)
    parser.add_argument("--load-args", type=shlex.split, default=AS_IN_A_SEARCH)
    parser.add_argument("--judge-only", action="store_true", help="what is there; run nothing")
    parser.add_argument("--out", type=Path, default=Path("reports/soak"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.search:
        search(args)
        return
    try:
        if not args.judge_only:
            run(args)
    finally:
        life = longest(list(args.out.glob("life-*")))
        found = judged(life) if life and length_s(life) else None
        if found and life:
            found |= {"capacity": args.capacity, "speakers": speakers_of(args.capacity)}
            write_json(args.out / "soak.json", found)
            (args.out / "soak.md").write_text(table(found), encoding="utf-8")
            draw(samples(life), turns(life)[0], args.out / "soak")
            print(table(found))  # noqa: T201
    raise SystemExit(0 if found and found["kept"] else 99)


if __name__ == "__main__":
    main()
