"""Speakers held, strategy by strategy: the table and the plot of the engine's issue.

    python -m tests.acceptance.stt [--only NAME]... [--minutes 55] [--out reports/stt]

Transcription sessions at 24 kHz, corpus utterances, 3 s pauses, out of phase, 60 ms of audio a
message, server and load generator on this machine, which should do nothing else meanwhile. Each
case is a capacity search with a run directory of its own; one that is finished is not run again,
and none is begun after `--minutes`, so the command resumes where it stopped. One model per session
with partials flat out is what servers of this kind do today: it is compared with the shared engine
at the tightest of 0.5, 1, 2 and 4 s that it holds with one speaker.
"""

import argparse
import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtvc.clock import Clock, SystemClock
from rtvc.loadtest.speakers.clips import builtin_corpus
from rtvc.record import StepRow, load_run
from rtvc.report.strategies import strategies_figure
from rtvc.stt.models import resolve_model
from rtvc.stt.transcriber import Job, JobKind
from rtvc.stt.whisper import WhisperTranscriber
from rtvc.transcript import wer, word_errors
from tests.acceptance.load import run as load_run_once
from tests.servers import running_server

OBJECTIVES = ("connection_p95<3s", "errors<1%", "premature_finals<2%", "partial_interval_p50<1.5s")
FLAT_OUT = ("--sharing", "per-session", "--partials", "flat-out")
SHORT, FULL = ("--encoder-context", "short"), ("--encoder-context", "full")
TINY = "synthetic:tiny.en"
ROOM = ("--max-sessions", "400", "--admission", "slots")
TARGETS_MS = (500, 1000, 2000, 4000)


@dataclass(frozen=True)
class Case:
    """One strategy, searched for the most speakers it holds."""

    name: str
    """Its folder, and its row."""
    model: str
    """As in `rtvc serve --model`."""
    flags: tuple[str, ...] = ()
    """More of `rtvc serve`."""
    target_ms: int = 500
    """Transcription delay p95."""
    start: int = 1
    """Where the search begins."""
    most: int = 32
    """Where it ends."""
    objectives: tuple[str, ...] = OBJECTIVES
    """What else every step has to meet."""
    generator_first: bool = False
    """Whether the load generator goes first where cores are short, as if it had its own."""


CASES = (
    Case("selftest-short", "selftest", SHORT, start=96, most=160),
    Case("tiny.en-short", TINY, SHORT, start=40, most=96),
    Case("base.en-short", "synthetic:base.en", SHORT, start=15, most=48),
    Case("tiny.en-full-1000ms", TINY, FULL, 1000, start=4, most=16),
)
POOL = Case("tiny.en-full-1000ms-pool-2", TINY, (*FULL, "--sharing", "pool"), 1000, 4, 16)
LONG = (
    Case("small.en-short-1000ms", "synthetic:small.en", SHORT, 1000, start=4, most=16),
    Case("small.en-short", "synthetic:small.en", SHORT, most=16),
    Case("tiny.en-full", TINY, FULL, most=16),
)
"""One or two speakers, of whom a hundred utterances take minutes."""


def per_session(target_ms: int) -> Case:
    """Today's trouble: a model for each session, partials as fast as they go."""
    name = f"tiny.en-full-{target_ms}ms-per-session-flat-out"
    return Case(name, TINY, (*FULL, *FLAT_OUT), target_ms, most=8)


def shared(target_ms: int) -> Case:
    """The shared engine at the same target; one of them is a case of its own."""
    return Case(f"tiny.en-full-{target_ms}ms", TINY, FULL, target_ms, start=4, most=48)


class Bench:
    """Runs what is not there yet, until time is up."""

    def __init__(self, out: Path, minutes: float, clock: Clock) -> None:
        self._out = out
        self._clock = clock
        self._ends_s = clock.now() + 60 * minutes
        self.done: dict[str, Case] = {}
        """Cases with a result."""
        self.out_of_time = False

    def run(self, case: Case) -> int | None:
        """Speakers held; None: not known yet."""
        folder = self._out / case.name
        # Written last: a search that was cut off has a summary, too.
        if not (folder / "engine.json").exists():
            if not self._has_time():
                return None
            shutil.rmtree(folder, ignore_errors=True)
            with running_server(*case.flags, *ROOM, model=case.model) as url:
                search(case, url, folder)
                keep_engine(url, folder)
        if not (folder / "summary.json").exists():
            raise SystemExit(f"{case.name}: expected a summary, the search left none")
        self.done[case.name] = case
        found: dict[str, Any] = json.loads((folder / "summary.json").read_text("utf-8"))
        held: int = found["capacity"]["holds"]
        return held

    def once(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """A measurement other than a search, kept as JSON."""
        file = self._out / f"{name}.json"
        if not file.exists():
            if not self._has_time():
                return None
            text = json.dumps(measure(), indent=1) + "\n"
            file.write_text(text, encoding="utf-8")
        kept: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return kept

    def _has_time(self) -> bool:
        self.out_of_time = self._clock.now() > self._ends_s
        return not self.out_of_time


def search(case: Case, url: str, folder: Path) -> None:
    """One capacity search; what it says goes to stderr."""
    objectives = (f"transcription_delay_p95<{case.target_ms}ms", *case.objectives)
    command = [
        *(("chrt", "--rr", "1") if case.generator_first else ()),
        *(sys.executable, "-m", "rtvc", "loadtest", url, "--find-capacity", "--transcription"),
        *("--scenario", "dictation", "--frame-ms", "60", "--out", str(folder), "--json"),
        *("--start-speakers", str(case.start), "--max-speakers", str(case.most)),
        *(flag for objective in objectives for flag in ("--slo", objective)),
    ]
    print(f"— {case.name}", file=sys.stderr)  # noqa: T201
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)


def keep_engine(url: str, folder: Path) -> None:
    """How the model was arranged, what was tried, and what it takes."""
    with urllib.request.urlopen(f"{url}/v1/models", timeout=10) as answer:
        (folder / "engine.json").write_bytes(answer.read())


def connections(sharing: str) -> dict[str, Any]:
    """Twenty sessions that open at one instant, seven times."""
    flags = ("--speakers", "20", "--connect-storm", "7", "--transcription")
    folder = Path("reports/runs") / f"storm-{sharing}"
    shutil.rmtree(folder, ignore_errors=True)
    with running_server(*FULL, *ROOM, "--sharing", sharing, model=TINY) as url:
        metrics = load_run_once(url, flags, folder)["metrics"]
    return {"sharing": sharing, "connection": metrics["connection"]}


def offline_wer() -> dict[str, Any]:
    """The self-test model over the whole 30 s window, at leisure, on what the speakers say."""
    model = resolve_model("selftest")
    assert model.path is not None
    whisper = WhisperTranscriber(
        model.path, clock=SystemClock(), encoder_context="full", suppress_blank=False
    )
    whisper.load()
    clips = [clip for clips in builtin_corpus(96, 30, 0).deal for clip in clips][:400]
    errors = []
    for clip in clips:
        job = Job("offline", clip.clip_id, JobKind.FINAL, 0, clip.audio, 0.0)
        errors.append(word_errors(clip.text, whisper.transcribe([job])[0].text))
    return {"clips": len(clips), "wer": wer(errors)}


def everything(bench: Bench) -> None:
    """All cases, in order of how much they matter."""
    for case in CASES:
        bench.run(case)
    compare(bench)
    bench.once("connections-shared", lambda: connections("shared"))
    bench.once("connections-pool", lambda: connections("pool"))
    bench.once("offline-wer", offline_wer)
    for case in (POOL, *LONG):
        bench.run(case)


def compare(bench: Bench) -> None:
    """A model for each session, and the shared engine, at the tightest target the former holds."""
    for target_ms in TARGETS_MS:
        held = bench.run(per_session(target_ms))
        if held:
            bench.run(shared(target_ms))
        if held != 0:
            return


def table(out: Path, done: Mapping[str, Case]) -> Iterator[str]:
    """A row a case, in Markdown."""
    yield (
        "| Strategy | Target p95 | Holds | Fails at | Delay p95 there | n | Premature | WER "
        "| Workers × threads × batch | Memory |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name, case in done.items():
        summary = json.loads((out / name / "summary.json").read_text("utf-8"))
        found, run = summary["capacity"], load_run(out / name)
        best = best_step(run.steps, found["holds"])
        delay = best.delay_p95_s or best.delay_max_s if best else None
        kind = "p95" if best and best.delay_p95_s else "max"
        share = best.cut_utterances / best.utterances if best else None
        error = summary["accuracy"]["wer"]
        engine = json.loads((out / name / "engine.json").read_text("utf-8"))["data"][0]
        yield (
            f"| {name} | {case.target_ms} ms | {found['holds']} | {found['fails_at'] or '–'} "
            f"| {f'{kind} {1000 * delay:.0f} ms' if delay is not None else '–'} "
            f"| {best.utterances if best else 0} | {f'{share:.1%}' if share is not None else '–'} "
            f"| {f'{error:.1%}' if error is not None else 'not observable'} "
            f"| {engine['workers']} × {engine['threads_per_worker']} × {engine['max_batch']} "
            f"| {(engine['memory_bytes'] or 0) / 1e6:.0f} MB |"
        )


def best_step(steps: list[StepRow], holds: int) -> StepRow | None:
    """The last that passed with so many speakers."""
    held = [step for step in steps if step.speakers == holds and step.outcome == "passed"]
    return held[-1] if held else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="a case; repeatable")
    parser.add_argument("--minutes", type=float, default=50.0)
    parser.add_argument("--out", type=Path, default=Path("reports/stt"))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(chosen.out, chosen.minutes, SystemClock())
    if chosen.only:
        for case in (*CASES, POOL, *LONG):
            if case.name in chosen.only:
                bench.run(case)
    else:
        everything(bench)
    text = "\n".join(table(chosen.out, bench.done)) + "\n"
    (chosen.out / "table.md").write_text(text, encoding="utf-8")
    strategies_figure({name: chosen.out / name for name in bench.done}, chosen.out / "strategies")
    print(text)  # noqa: T201
    if bench.out_of_time:
        sys.exit("time is up: run the command again, it goes on where it stopped")


if __name__ == "__main__":
    main()
