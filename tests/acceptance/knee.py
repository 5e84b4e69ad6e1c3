"""A search for the capacity, live, on a server whose knee is known: three times of three.

    python -m tests.acceptance.knee [--out FOLDER] [--runs N] [--smoke]

The server (`tests.knee_server`) takes the same time for every utterance; how many speakers it
holds is computed by brute force, fed with the lengths of speech and silence that the speakers of
these very runs had. A run that is there is not made again, so it can be cut off and gone on with.
Needs a machine with nothing else to do: some seven minutes a run.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rtvc.record import Run, TurnRow, load_run
from rtvc.stats import quantile
from tests.knee_server import Rhythm, Service, knee, share_beyond

ROOT = Path(__file__).parents[2]
OUT = ROOT / "reports" / "knee"

SERVICE = Service(service_s=0.25, workers=1, hangover_s=0.4)

TARGET_S = 1.3
"""Seconds of delay at p95: two and a half utterances may be waited for."""

SCENARIO = """
like = "dictation"

[behaviour]
pause_s = [0.8, 1.6]
start_within_s = 2.0

[speech]
words = [3, 6]
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    runs: int
    step: str
    start: int
    most: int


FULL = Size(runs=3, step="30", start=4, most=24)
SMOKE = Size(runs=1, step="5", start=8, most=10)


@contextmanager
def knee_server(*, metrics: bool) -> Iterator[int]:
    """Port of a server in a process of its own."""
    command = [sys.executable, "-m", "tests.knee_server"]
    command += ["--service", str(SERVICE.service_s), "--hangover", str(SERVICE.hangover_s)]
    command += ["--metrics"] if metrics else []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def searched(number: int, size: Size, folder: Path) -> dict[str, Any]:
    """One search; every other server tells nothing of itself."""
    scenario = folder / "knee.toml"
    scenario.write_text(SCENARIO, "utf-8")
    metrics, run_dir = number % 2 == 0, folder / f"run-{number}"
    with knee_server(metrics=metrics) as port:
        command = [
            *(sys.executable, "-m", "rtvc", "loadtest", f"ws://127.0.0.1:{port}"),
            *("--find-capacity", "--transcription", "--scenario", str(scenario), "--json"),
            *("--start-speakers", str(size.start), "--max-speakers", str(size.most)),
            *("--step-duration", size.step, "--seed", str(number), "--out", str(run_dir)),
            *("--slo", f"transcription_delay_p95<{TARGET_S}s", "--protocol", "openai-realtime"),
        ]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 3, 99):
        raise SystemExit(f"run {number} ended with {done.returncode}")
    return {"metrics": metrics, **told(json.loads(done.stdout), load_run(run_dir))}


def told(summary: dict[str, Any], run: Run) -> dict[str, Any]:
    """What is kept of a run."""
    return {
        "verdict": summary["verdict"],
        "holds": summary["capacity"]["holds"],
        "fails_at": summary["capacity"]["fails_at"],
        "minutes": round((run.manifest.duration_s or 0.0) / 60, 1),
        "commit": run.manifest.commit,
        "machine": asdict(run.manifest.machine),
        "steps": [_finite(asdict(step)) for step in run.steps],
        "unhindered_s": quantile([t.transcription_delay_s or 0.0 for t in run.turns], 0.05),
        "utterances": [[round(part, 3) for part in pair] for pair in rhythm_of(run.turns)],
    }


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: a final that never came is "inf"."""
    return {name: "inf" if value == math.inf else value for name, value in row.items()}


def rhythm_of(turns: Sequence[TurnRow]) -> list[tuple[float, float]]:
    """Seconds of speech, and of silence until the same speaker spoke again in the same session."""
    ordered = sorted(turns, key=lambda turn: (turn.speaker, turn.speech_start_at_s))
    return [
        (
            before.speech_end_at_s - before.speech_start_at_s,
            after.speech_start_at_s - before.speech_end_at_s,
        )
        for before, after in pairwise(ordered)
        if (before.session_id, before.utterance + 1) == (after.session_id, after.utterance)
    ]


def judged(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The truth by brute force, and how far from it each run was."""
    rhythm = Rhythm([(speech, pause) for run in runs for speech, pause in run["utterances"]])
    # From the end of speech as annotated to the last frame that the server takes for speech.
    unhindered_s = sorted(run["unhindered_s"] for run in runs)[len(runs) // 2]
    beside_s = unhindered_s - SERVICE.hangover_s - SERVICE.service_s
    target_s = TARGET_S - beside_s
    truth = knee(rhythm, SERVICE, target_s)
    shares = {
        n: round(share_beyond(n, rhythm, SERVICE, target_s), 4)
        for n in range(max(1, truth - 2), truth + 4)
    }
    return {
        "knee": truth,
        "share_beyond_target": shares,
        "cycle_s": round(rhythm.cycle_s, 3),
        "beside_s": round(beside_s, 4),
        "within_one": sum(abs(run["holds"] - truth) <= 1 for run in runs),
        "runs": len(runs),
    }


def table(found: dict[str, Any], runs: Sequence[dict[str, Any]]) -> str:
    beyond = ", ".join(f"{n}: {100 * s:.1f} %" for n, s in found["share_beyond_target"].items())
    lines = [
        "# A search for the capacity on a server with a known knee",
        "",
        f"One worker, {1000 * SERVICE.service_s:.0f} ms for every utterance, "
        f"{1000 * SERVICE.hangover_s:.0f} ms of silence end one; an utterance every "
        f"{found['cycle_s']:.2f} s a speaker; target p95 < {TARGET_S} s.",
        "",
        f"By brute force (20,000 utterances a number of speakers) it holds **{found['knee']}** "
        f"speakers. Share of delays beyond the target, by speakers: {beyond}.",
        "",
        f"Within one speaker: **{found['within_one']} of {found['runs']}**.",
        "",
        "| Run | Holds | Not | Steps | Minutes | Verdict |",
        "|---|---|---|---|---|---|",
    ]
    for number, run in enumerate(runs):
        cells = (number, run["holds"], run["fails_at"], len(run["steps"]), run["minutes"])
        lines.append(f"| {' | '.join(map(str, cells))} | {run['verdict']} |")
    commit, machine = runs[0]["commit"], runs[0]["machine"]
    lines += ["", f"{machine['cpu']}, {machine['cores']} cores; commit `{commit}`."]
    return "\n".join([*lines, "", "`python -m tests.acceptance.knee`", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--smoke", action="store_true", help="one short run, to see that it works")
    chosen = parser.parse_args()
    size = SMOKE if chosen.smoke else FULL
    raw = chosen.out / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    kept = [raw / f"run-{number}.json" for number in range(chosen.runs or size.runs)]
    for number, path in enumerate(kept):
        if path.exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            run = searched(number, size, Path(folder))
        path.write_text(json.dumps(run) + "\n", "utf-8")
        print(f"run {number}: {run['verdict']}", file=sys.stderr)  # noqa: T201
    runs = [json.loads(path.read_text("utf-8")) for path in kept]
    found = judged(runs)
    brief = [{k: v for k, v in run.items() if k != "utterances"} for run in runs]
    settings = {"service": asdict(SERVICE), "target_s": TARGET_S, "scenario": SCENARIO.strip()}
    content = {**found, "settings": settings, "searches": brief}
    (chosen.out / "knee.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    (chosen.out / "table.md").write_text(table(found, runs), "utf-8")
    print((chosen.out / "table.md").read_text("utf-8"))  # noqa: T201
    raise SystemExit(0 if found["within_one"] == found["runs"] else 1)


if __name__ == "__main__":
    main()
