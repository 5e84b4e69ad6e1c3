"""The measurements of `tests.acceptance.overhead`: by hand, saturated, and loaded.

python -m tests.acceptance.overhead_runs URL      asks as a full-screen view would, for ever
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from rtvc.clock import SystemClock
from rtvc.config import load_settings
from rtvc.instruments.otel import open_traces
from rtvc.instruments.recorder import RECORDER
from rtvc.profile.cpu.target import pid_of_url
from rtvc.protocol.realtime import TurnTimings
from rtvc.record import SampleRow, load_run
from rtvc.server.lifecycle.startup import build_services, close, prepare
from rtvc.server.services import Services
from rtvc.server.sessions.listener import Cost
from rtvc.server.sessions.turn_timing import TurnClock
from rtvc.server.web.scrape import Scraper
from rtvc.speech.corpus import builtin_clips
from rtvc.stt.transcriber import AudioArray, Engine, Hypothesis, Job, JobKind
from rtvc.voice.session import SpeechStopped
from tests.acceptance import stage_cost
from tests.servers import free_port, running_server

ROUND_S = 2.0
"""Short: what else the machine does comes and goes in seconds, and must meet both of a pair."""
Instruments = tuple[Services, Scraper]
"""All that is on, and its reader, which a server makes only once."""
IN_FLIGHT = 48
JOBS_A_TURN = 6
"""Of the engine while one utterance is dictated, its partials among them; a loaded run has more
(`jobs_per_turn` of its file), so that what a turn costs is not made small."""
SPY_RATE = 100
ENGINE = ("--workers", "2", "--threads-per-worker", "1", "--max-batch", "4")
ROOM = ("--max-sessions", "400", "--admission", "slots")
PATIENCE_S = 180.0

clock = SystemClock()


# A stage, and the report of a turn.


def a_turn(hypothesis: Hypothesis, asked_at_s: float) -> TurnClock:
    """A turn that ended when its final was there."""
    now_s = clock.now()
    stopped = SpeechStopped(
        "item", 9.0, hypothesis.audio_s, 8.5, 8.52, asked_at_s - 0.07, asked_at_s, now_s
    )
    return TurnClock(stopped, Cost(asked_at_s, now_s, hypothesis), final_at_s=clock.now())


def timed(turn: TurnClock) -> TurnTimings:
    timings = turn.timings("transcript", None, "selftest")
    assert timings is not None
    return timings


def micro_costs(collector: str | None) -> dict[str, Any]:
    """Microseconds each, on the server's event loop."""
    services = make_services(collector)
    hypothesis = Hypothesis("so it goes", 2.0, 0.01, 0.01, 0.02, 0.03, 4, 5)
    steps: dict[str, Callable[[], object]] = {
        "a turn's timings": lambda: timed(a_turn(hypothesis, clock.now() - 0.2)),
        "a turn in the metrics": lambda: services.metrics.turn(timings),
        "an answered job in the metrics": lambda: services.metrics.answered("final", hypothesis),
    }
    if services.traces is not None:
        traces = services.traces
        steps["a turn to the traces"] = lambda: traces.turn("sess", timings)
    timings = timed(a_turn(hypothesis, clock.now() - 0.2))
    found = {name: best_us(step) for name, step in steps.items()}
    if collector is not None:
        found["a turn's trace, on its own thread"] = trace_us(collector, timings)
    asyncio.run(close(services))
    return {"stage": stage_cost.measure(100_000, 9), "turn_us": found}


def trace_us(collector: str, timings: TurnTimings, turns: int = 1000) -> float:
    """CPU of making, encoding and sending one trace, in batches as they come under load."""
    traces = open_traces(collector, clock)
    before_s = cpu_s(psutil.Process())
    for _ in range(turns):
        traces.turn("sess", timings)
    traces.close(60)
    if traces.outcomes["sent"] != turns:
        raise SystemExit(f"the collector took {traces.outcomes} of {turns} traces")
    return round(1e6 * (cpu_s(psutil.Process()) - before_s) / turns, 1)


def best_us(step: Callable[[], object], times: int = 200, rounds: int = 9) -> float:
    """Microseconds of one step: the median round."""
    took = []
    for _ in range(rounds):
        begun_s = clock.now()
        for _ in range(times):
            step()
        took.append(1e6 * (clock.now() - begun_s) / times)
    return round(statistics.median(took), 2)


# Saturated, in this process.


def make_services(collector: str | None) -> Services:
    chosen: dict[str, dict[str, Any]] = {
        "serve": {"otel_endpoint": collector},
        "stt": {"model": "selftest", "workers": 2, "threads_per_worker": 1, "max_batch": 4},
    }
    return build_services(load_settings(chosen, environment={}), clock)


async def saturated(
    collector: str | None, rounds: range, keep: Callable[[int, dict[str, Any]], None]
) -> None:
    """Off, on, and with traces, by turns; what a round found is handed to `keep`."""
    services = make_services(collector)
    clips = [clip.audio for clip in builtin_clips(96, seed=31)]
    try:
        await prepare(services)
        await jobs(services.engine, clips, 4 * ROUND_S, None)
        scraper = Scraper(services)
        for number in rounds:
            bare = replace(services, traces=None)
            order = [("off", None), ("on", (bare, scraper)), ("traced", (services, scraper))]
            order = order[number % 3 :] + order[: number % 3]
            found: dict[str, Any] = {}
            for name, instruments in order if number % 2 == 0 else reversed(order):
                found[name] = await jobs(services.engine, clips, ROUND_S, instruments)
            keep(number, found)
    finally:
        await close(services)


async def jobs(
    engine: Engine, clips: Sequence[AudioArray], seconds: float, on: Instruments | None
) -> dict[str, float]:
    """Jobs a second with the engine never idle, and what each took of the CPUs.

    Every sixth ends a turn. All are finals, so that none makes way for another.
    """
    at_s: list[float] = []
    ends_s = clock.now() + seconds
    instruments = on[0] if on else None

    async def one(number: int) -> None:
        asked_at_s, name = clock.now(), f"job-{number}"
        audio = clips[number % len(clips)]
        hypothesis = await engine.transcribe(Job(name, name, JobKind.FINAL, 1, audio, asked_at_s))
        if instruments is not None and hypothesis is not None:
            instruments.metrics.answered("final", hypothesis)
            if number % JOBS_A_TURN == 0:
                timings = timed(a_turn(hypothesis, asked_at_s))
                instruments.turn_timed(name, timings, replying=False)
        at_s.append(clock.now())

    async def worker(first: int) -> None:
        number = first
        while clock.now() < ends_s:
            if instruments is None:
                await one(number)
            else:
                with RECORDER.stage("transcribe"):
                    await one(number)
            # Each worker comes to each remainder.
            number += IN_FLIGHT + 1

    before_s = cpu_s(psutil.Process())
    async with measured(on):
        await asyncio.gather(*(worker(number) for number in range(IN_FLIGHT)))
    used_s = cpu_s(psutil.Process()) - before_s
    # Between the first and the last that was answered while the engine had work.
    busy = [moment for moment in at_s if moment <= ends_s]
    per_s = (len(busy) - 1) / (busy[-1] - busy[0])
    return {"jobs": len(at_s), "jobs_per_s": per_s, "cpu_ms_per_job": 1e3 * used_s / len(at_s)}


@asynccontextmanager
async def measured(on: Instruments | None) -> AsyncIterator[None]:
    """The probe and a reader beside what is measured; None: neither."""
    beside: list[asyncio.Task[None]] = []
    if on is not None:
        services, scraper = on
        beside.append(asyncio.create_task(services.loop_lag.run()))
        beside.append(asyncio.create_task(scrape_forever(scraper)))
    try:
        yield
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


async def scrape_forever(scraper: Scraper) -> None:
    """Once a second, in the middle of it: a round of whole seconds has one for each."""
    await asyncio.sleep(0.5)
    while True:
        await scraper.text()
        await asyncio.sleep(1.0)


# Loaded, a server of its own.


def load(kind: str, pair: int, speakers: int, seconds: int) -> dict[str, Any]:
    """One alternation: "off", "on", or "spy", which is "on" with py-spy beside."""
    flags = [*ENGINE, *ROOM]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if kind == "off":
            flags.append("--no-instruments")
        else:
            collector = stack.enter_context(collector_beside())
            flags += ["--otel-endpoint", collector] if collector else []
        url = stack.enter_context(running_server(*flags))
        server = psutil.Process(pid_of_url(url))
        if kind != "off":
            stack.enter_context(process_beside("-m", "tests.acceptance.overhead_runs", url))
        before_s, begun_s = cpu_s(server), clock.now()
        spy = start_spy(url, seconds, folder) if kind == "spy" else None
        code = talk(url, speakers, seconds, pair, folder / "run")
        used = {"cpu_s": cpu_s(server) - before_s, "wall_s": clock.now() - begun_s}
        told = {} if spy is None else {"spy": end_spy(spy)}
        result = {"kind": kind, "pair": pair, "speakers": speakers, "code": code, **used, **told}
        return {**result, **figures(folder / "run", used["cpu_s"])}


def talk(url: str, speakers: int, seconds: int, pair: int, folder: Path) -> int:
    command = [
        *(sys.executable, "-m", "rtvc", "loadtest", url, "--transcription", "--json"),
        *("--scenario", "dictation", "--frame-ms", "60", "--speakers", str(speakers)),
        *("--duration", str(seconds), "--seed", str(pair), "--out", str(folder)),
    ]
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, check=False, timeout=seconds + PATIENCE_S
    )
    if done.returncode not in (0, 3, 99):
        raise SystemExit(f"the load test ended with {done.returncode}")
    return done.returncode


def figures(folder: Path, used_s: float) -> dict[str, Any]:
    """Of the run: delays, and what a turn cost the server."""
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    run = load_run(folder)
    delay = summary["metrics"]["transcription_delay"]
    answered = sum(turn.final_at_s is not None for turn in run.turns)
    judged = [turn.transcription_delay_s for turn in run.turns if not turn.warm_up]
    return {
        "void": summary["generator"]["reason"],
        "errors": summary["errors"],
        "n": delay["n"],
        "missing": delay["missing"],
        "delay_p50_s": delay["p50"],
        "delay_p95_s": delay["p95"],
        "turns": answered,
        "cpu_ms_per_turn": 1e3 * used_s / answered if answered else None,
        "timed_turns": len({(row.session_id, row.item_id) for row in run.server_turns}),
        "jobs_per_turn": submitted(run.samples) / answered if answered else None,
        "delays_ms": [round(1e3 * delay_s, 1) for delay_s in judged if delay_s is not None],
    }


def submitted(samples: Sequence[SampleRow]) -> float:
    """Jobs that the engine was asked for in the run; 0 where nothing told of them."""
    name = "rtvc_engine_submitted_jobs_total"
    counts = [row.value for row in samples if row.name == name]
    return max(counts) - min(counts) if counts else 0.0


def cpu_s(process: psutil.Process) -> float:
    """Of a process and its children, since their start."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system
    return total


@contextmanager
def process_beside(*arguments: str) -> Iterator[None]:
    child = subprocess.Popen([sys.executable, *arguments])
    try:
        yield
    finally:
        child.terminate()
        child.wait()


@contextmanager
def collector_beside() -> Iterator[str | None]:
    """The address of a collector that keeps nothing; None: OpenTelemetry is not installed."""
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: F401
    except ImportError:
        yield None
        return
    port = free_port()
    with process_beside("-m", "tests.otlp_receiver", "--port", str(port)):
        yield f"http://127.0.0.1:{port}"


def read_forever(url: str) -> None:
    """What a full-screen view asks for, once a second."""
    with httpx.Client(base_url=url, trust_env=False, timeout=5.0) as client:
        next_s = clock.now()
        while True:
            for path in ("/metrics", "/v1/sessions", "/readyz"):
                with suppress(httpx.HTTPError):
                    client.get(path)
            next_s += 1.0
            time.sleep(max(0.0, next_s - clock.now()))


def start_spy(url: str, seconds: int, folder: Path) -> "subprocess.Popen[str]":
    command = [
        *(sys.executable, "-m", "rtvc", "profile", "cpu", "--url", url, "--json"),
        *("--rate", str(SPY_RATE), "--duration", str(seconds + 10), "--out", str(folder / "spy")),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def end_spy(spy: "subprocess.Popen[str]") -> dict[str, Any]:
    """Its exit code, and what it said if that is not 0."""
    _, said = spy.communicate(timeout=PATIENCE_S)
    return {"code": spy.returncode, "said": said.strip()[-300:] if spy.returncode else None}


if __name__ == "__main__":
    read_forever(sys.argv[1])
