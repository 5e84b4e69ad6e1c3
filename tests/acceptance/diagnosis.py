"""Does the diagnosis name the true cause? Simulated servers by the hundred, and real ones.

    python -m tests.acceptance.diagnosis [--simulated] [--live] [--runs 5] [--minutes 55]
        [--out reports/diagnosis] [--keep FOLDER] [--only TEXT]

Simulated: each cause at random strength, load and onset, sound servers, and pairs of causes at
once (`tests.diagnosis_worlds`, written without sight of the rules). Live: each fault of
`rtvc serve --inject` at four strengths, and sound servers. Every case runs once and counts,
whatever is said of it. What is done is not done again: start anew with another `--out`. Raw
records are kept below `--keep`, results and the confusion matrix below `--out`. With neither
`--simulated` nor `--live` only the report is written again.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rtvc.clock import SystemClock
from rtvc.profile.diagnose.verdict import diagnose
from rtvc.record import load_run
from rtvc.summary import summarize
from tests.acceptance.confusion import HEALTHY, Result, write_report
from tests.diagnosis_worlds.cases import FELT, PAIRS, healthy, ill
from tests.diagnosis_worlds.faults import DRAWS, NONE
from tests.diagnosis_worlds.recording import write
from tests.servers import running_server

HEALTHY_RUNS = 20
PAIR_RUNS = 2
LIVE_HEALTHY_RUNS = 4
LIVE_SPEAKERS = 4
LIVE_S = 8
LONG_S = 20
"""Of a phase in which a session must speak several times."""
LIVE_PATIENCE_S = 150
PHASES = ("one", "two", "many")
SMALL_FILES = ("run.json", "summary.json")

_clock = SystemClock()


@dataclass(frozen=True, slots=True)
class Strength:
    """One strength of a fault, live."""

    amount: float | None
    """After `--inject NAME=`; None: it takes none."""
    speakers: int = LIVE_SPEAKERS
    """In the third phase."""
    flags: tuple[str, ...] = ()
    """Further flags of `rtvc serve`."""
    seconds: int = LIVE_S
    """Of each phase."""


@dataclass(frozen=True, slots=True)
class Injected:
    """One fault of `rtvc serve --inject`."""

    cause: str
    """What a diagnosis should call it."""
    strengths: tuple[Strength, ...]
    """Rising."""


def _amounts(*amounts: float) -> tuple[Strength, ...]:
    return tuple(Strength(amount) for amount in amounts)


HEAVY = (
    *("--model", "synthetic:tiny.en", "--workers", "2"),
    *("--threads-per-worker", "1", "--max-batch", "4"),
)
"""Costs what a real model costs: where inferences are over at once, nobody waits in a row."""
MEDIUM = (*HEAVY, "--encoder-context", "short")
"""Costs what two cores can bear: sound with four speakers, and slow enough to be made slower."""


def _medium(*amounts: float) -> tuple[Strength, ...]:
    return tuple(Strength(amount, flags=MEDIUM) for amount in amounts)


LIVE: dict[str, Injected] = {
    "model-per-session": Injected("model-per-session", _amounts(3, 5, 8, 4)),
    "device-contention": Injected("device-contention", _medium(4, 8, 16, 12)),
    "inference-slow": Injected("inference-saturated", _medium(10, 14, 20, 12)),
    "serialised-inference": Injected(
        "serialised-inference", tuple(Strength(None, speakers, HEAVY) for speakers in (4, 6, 8, 5))
    ),
    "audio-backlog": Injected("audio-backlog", _amounts(0.5, 0.7, 1.0, 0.8)),
    "hidden-backlog": Injected("hidden-backlog", _amounts(0.5, 1.0, 2.0, 0.8)),
    "partials-flood": Injected("partials-starving-finals", _medium(13, 10, 16, 14)),
    "turn-model-slow": Injected("turn-detector", _amounts(0.5, 1.0, 1.5, 0.7)),
    "endpoint-wait": Injected("endpoint-wait", _amounts(300, 500, 1000, 400)),
    "blocked-loop": Injected("blocked-event-loop", _amounts(200, 400, 800, 300)),
    "slow-llm": Injected("slow-llm", _amounts(1, 2, 4, 1.5)),
    "slow-tts": Injected("slow-tts", _amounts(0.5, 1, 2, 0.7)),
    "cold-start": Injected(
        "cold-start", tuple(Strength(amount, seconds=LONG_S) for amount in (3, 5, 8, 4))
    ),
    "throttling": Injected("device-throttling", _medium(14, 17, 20, 16)),
    "memory-exhaustion": Injected("memory-exhaustion", _amounts(100, 200, 400, 150)),
    "slow-network": Injected("network", _amounts(100, 150, 300, 120)),
    "engine-crash": Injected("engine-failing", _amounts(6, 4, 2, 5)),
    "engine-hang": Injected("engine-failing", _amounts(12, 8, 4, 6)),
}
"""By name; amounts around and above the usual. The fourth was run once the rules were done."""

SOUND = (Strength(None), Strength(None, flags=MEDIUM))
"""Servers with nothing wrong, by turns."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to do."""

    out: Path
    """Results."""
    keep: Path
    """Raw records."""
    runs: int
    """Simulated, of each cause."""
    jobs: int
    """Simulations at once."""
    until_s: float
    """When to begin nothing more."""
    only: str
    """A part of the names of cases to run."""
    failures: Path | None = field(default=None)
    """Where to list what went wrong, with the folders; None: nowhere."""


# Simulated.


def simulated_cases(runs: int) -> list[tuple[tuple[str, ...], int]]:
    """(causes, number), each cause once before any is run again."""
    cases: list[tuple[tuple[str, ...], int]] = []
    for number in range(max(runs, HEALTHY_RUNS)):
        cases += [((cause,), number) for cause in DRAWS if number < runs]
        cases += [((), number)] if number < HEALTHY_RUNS else []
        cases += [(pair, number) for pair in PAIRS if number < PAIR_RUNS]
    return cases


def case_name(causes: Sequence[str], number: int) -> str:
    return f"{'+'.join(causes) or 'healthy'}-{number}"


def run_simulated(causes: tuple[str, ...], number: int, keep: Path) -> Result:
    """Simulate, unless that was done before, and have it judged."""
    folder = keep / case_name(causes, number)
    told = folder / "case.json"
    if not told.exists():
        _simulate(causes, number, folder)
    about = json.loads(told.read_text("utf-8"))
    result = Result(
        case=folder.name,
        causes=list(causes),
        strength=about["strength"],
        felt=about["felt"],
        folder=folder.name,
    )
    return judged(result, folder)


def _simulate(causes: tuple[str, ...], number: int, folder: Path) -> None:
    case = ill(causes, number) if causes else healthy(number)
    shutil.rmtree(folder, ignore_errors=True)
    write(case.story, folder)
    sound = asdict(NONE)
    wrong = {k: v for k, v in asdict(case.faults).items() if v != sound[k]}
    felt = {c: [round(FELT[c](case.twin), 3), round(FELT[c](case.story), 3)] for c in causes}
    about = {
        "causes": causes,
        "strength": _shown(wrong),
        "felt": felt,
        "world": asdict(case.world),
    }
    (folder / "case.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")


def _shown(wrong: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in wrong.items()
    )


def judged(result: Result, folder: Path) -> Result:
    """What the rules say of a record; that they fail counts against them."""
    try:
        said = diagnose(folder)
    except Exception as error:  # noqa: BLE001 - a verdict that cannot be had is a wrong one
        return replace(result, error=f"{type(error).__name__}: {error}")
    named = [str(cause) for cause in said.causes if str(cause) != HEALTHY]
    return replace(result, named=named, healthy=said.healthy, void=said.void)


def simulate_all(options: Options) -> None:
    out = options.out / "simulated.jsonl"
    done = {result.case for result in load_results(out)}
    todo = [
        (causes, number)
        for causes, number in simulated_cases(options.runs)
        if case_name(causes, number) not in done and options.only in case_name(causes, number)
    ]
    with ProcessPoolExecutor(options.jobs) as pool:
        waiting = [pool.submit(run_simulated, *case, options.keep) for case in todo]
        for future in waiting:
            append_result(out, future.result())


# Live.


def live_cases() -> Iterator[tuple[str, int]]:
    """(fault or "healthy", number of its strength): one strength of each before the next."""
    longest = max(len(injected.strengths) for injected in LIVE.values())
    for number in range(max(longest, LIVE_HEALTHY_RUNS)):
        yield from ((name, number) for name, fault in LIVE.items() if number < len(fault.strengths))
        if number < LIVE_HEALTHY_RUNS:
            yield "healthy", number


def run_live(name: str, number: int, options: Options) -> Result:
    """A server with the fault, its diagnosis from outside, unless that was recorded before."""
    fault = LIVE.get(name)
    folder = options.keep / f"live-{name}-{number}"
    told = folder / "case.json"
    if not told.exists():
        about = _record_live(name, number, folder)
        told.write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    about = json.loads(told.read_text("utf-8"))
    result = Result(
        case=f"{name}-{number}",
        causes=[fault.cause] if fault else [],
        strength=about["strength"],
        felt=_live_felt(folder),
        folder=folder.name,
        seconds=about["seconds"],
    )
    result = result if about["error"] is None else replace(result, error=about["error"])
    result = result if result.error else judged(result, folder)
    _keep_small(folder, options.out / "live" / result.case)
    return result


def _record_live(name: str, number: int, folder: Path) -> dict[str, Any]:
    """Run it; what is to be known of the run."""
    began_s = _clock.now()
    strengths = LIVE[name].strengths if name in LIVE else SOUND
    strength = strengths[number % len(strengths)]
    amount = "" if strength.amount is None else f"={strength.amount:g}"
    inject = ["--inject", f"{name}{amount}", "--admission", "slots"] if name in LIVE else []
    shutil.rmtree(folder, ignore_errors=True)
    with running_server(*inject, *strength.flags) as url:
        ended = diagnose_from_outside(url, folder, strength)
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "strength": f"{amount.lstrip('=') or '-'}, {strength.speakers} speakers",
        "seconds": round(_clock.now() - began_s, 1),
        "error": ended,
    }


def diagnose_from_outside(url: str, folder: Path, strength: Strength) -> str | None:
    """Returns why there is no diagnosis; None: there is one."""
    command = [sys.executable, "-m", "rtvc", "profile", "diagnose", url]
    command += ["--speakers", str(strength.speakers), "--duration", str(strength.seconds)]
    command += ["--out", str(folder), "--json"]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=LIVE_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no diagnosis within {LIVE_PATIENCE_S} s"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "said.json").write_text(ended.stdout, "utf-8")
    (folder / "said.txt").write_text(ended.stderr, "utf-8")
    missing = [phase for phase in PHASES if not (folder / phase / "run.json").exists()]
    if missing:
        return f"exit code {ended.returncode}, no record of {', '.join(missing)}"
    return None


def _live_felt(folder: Path) -> dict[str, list[float]]:
    """Means of what answers came in the last phase, to see how much it hurt."""
    try:
        summary = summarize(load_run(folder / "many"))
    except Exception:  # noqa: BLE001 - there may be none
        return {}
    means = {name: summary.metrics[name].mean for name in ("transcription_delay", "connection")}
    means["response_latency"] = summary.metrics["response_latency"].mean
    return {name: [round(mean, 3)] for name, mean in means.items() if mean is not None}


def _keep_small(folder: Path, aside: Path) -> None:
    """What fits into a repository: the verdict and the summaries, no rows."""
    names = ["diagnosis.json", *(f"{phase}/{name}" for phase in PHASES for name in SMALL_FILES)]
    for name in names:
        if (folder / name).exists():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, aside / name)


def live_all(options: Options) -> None:
    out = options.out / "live.jsonl"
    done = {result.case for result in load_results(out)}
    for name, number in live_cases():
        case = f"{name}-{number}"
        if case in done or options.only not in case:
            continue
        if _clock.now() > options.until_s:
            sys.stderr.write("time is up; run again to go on\n")
            return
        append_result(out, run_live(name, number, options))


# Results.


def load_results(path: Path) -> list[Result]:
    if not path.exists():
        return []
    return [Result(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def append_result(path: Path, result: Result) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(result)) + "\n")
    sign = "right" if result.right else "WRONG"
    sys.stderr.write(f"{sign}  {result.case}: {result.said}\n")


def list_failures(options: Options, results: Sequence[Result]) -> None:
    """For whoever wants to look into them."""
    if options.failures is None:
        return
    lines = ["# Cases that were judged wrong", ""]
    for result in results:
        if not result.right:
            truth = ", ".join(result.causes) or "healthy"
            lines.append(f"- {options.keep / result.folder}: true {truth}; said {result.said}")
            lines.append(f"  {result.strength}; felt {result.felt} {result.error or ''}")
    options.failures.write_text("\n".join(lines) + "\n", "utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulated", action="store_true", help="run the simulated cases")
    parser.add_argument("--live", action="store_true", help="run the live cases")
    parser.add_argument("--runs", type=int, default=5, help="simulated runs of each cause")
    parser.add_argument("--minutes", type=float, default=55.0, help="begin no live case after")
    parser.add_argument("--jobs", type=int, default=1, help="simulations at once")
    parser.add_argument("--out", type=Path, default=Path("reports/diagnosis"))
    parser.add_argument("--keep", type=Path, default=None, help="folder of raw records")
    parser.add_argument("--only", default="", help="a part of the names of cases to run")
    parser.add_argument("--failures", type=Path, default=None, help="file to list failures in")
    return parser.parse_args()


def main() -> int:
    chosen = _arguments()
    keep = chosen.keep or Path(tempfile.mkdtemp(prefix="rtvc-diagnosis-"))
    until_s = _clock.now() + 60 * chosen.minutes
    options = Options(
        chosen.out, keep, chosen.runs, chosen.jobs, until_s, chosen.only, chosen.failures
    )
    if chosen.simulated:
        simulate_all(options)
    if chosen.live:
        live_all(options)
    simulated = load_results(options.out / "simulated.jsonl")
    live = load_results(options.out / "live.jsonl")
    list_failures(options, [*simulated, *live])
    sys.stdout.write(write_report(options.out, simulated, live))
    return 0


if __name__ == "__main__":
    sys.exit(main())
