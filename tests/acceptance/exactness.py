"""Is what is measured what there was? `rtvc loadtest` against a server whose delays are known.

    python -m tests.acceptance.exactness [--out FOLDER] [--only NAME …] [--again] [--short]

Each case is one run of the real command against `tests.reference_server`, which notes for every
utterance how long its answer really took. Both sides are compared utterance by utterance and at
p50, p95 and p99: within 2 % or 3 ms, plus the generator's own lag at that quantile. A case that
was measured is not measured again, so a run that was cut off goes on where it was. It needs the
machine for itself: some 12 minutes on two cores.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from rtvc.errors import RtvcError
from rtvc.record import Run, this_machine
from rtvc.stats import quantile, supports
from rtvc.summary.health import merged_lag
from tests.loadtest_runs import Done, loadtest, serving
from tests.reference_clips import write_clips

QUANTILES = (0.5, 0.95, 0.99)
SHARE = 0.02
"""Of what was recorded: that far off is exact."""
SLACK_S = 0.003
"""Or so many seconds, whichever is more."""
EARLY_S = 0.002
"""A timer may fire, and a frame leave, so much before it is due."""

FOLDER = Path("reports/exactness")
RESULT, TABLE = "exactness.json", "table.md"

SCENARIO = """\
like = "dictation"

[behaviour]
pause_s = [0.4, 1.2]
start_within_s = 2.0
"""
"""Nobody waits for an answer, so a server that stalls makes nobody ask less."""

WARM_UP_S = 4.0


@dataclass(frozen=True, slots=True)
class Case:
    """One run."""

    name: str
    """Of the case."""
    about: str
    """What it shows."""
    server: tuple[str, ...]
    """Arguments of the reference server."""
    speakers: int = 40
    """Concurrent simulated speakers."""
    duration_s: float = 60.0
    """Seconds of measuring."""
    frozen: bool = False
    """Whether the server itself is blind now and then, so that only the pace at which the audio
    came tells how long an answer took."""


CASES = (
    Case("10 ms", "known delay", ("--delay", "0.01")),
    Case("100 ms", "known delay", ("--delay", "0.1")),
    Case("500 ms", "known delay", ("--delay", "0.5")),
    Case("2000 ms", "known delay; the next utterance begins before the answer", ("--delay", "2")),
    Case("log-normal", "median 200 ms, drawn anew each time", ("--delay", "lognormal:0.2:0.8")),
    Case("100 ms, 120 speakers", "known delay under load", ("--delay", "0.1"), speakers=120),
    Case(
        "stalls",
        "100 ms, and every 9 s no answers for 1 to 3 s",
        ("--delay", "0.1", "--stall-every", "9", "--stall", "1:3"),
        duration_s=90.0,
    ),
    Case(
        "freezes",
        "100 ms, and every 9 s the server stands still for 1 to 3 s",
        ("--delay", "0.1", "--stall-every", "9", "--stall", "1:3", "--freeze"),
        duration_s=90.0,
        frozen=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One utterance, as both sides saw it."""

    item_id: str
    """Joins the two."""
    measured_s: float
    """Transcription delay, by the load test."""
    noted_s: float
    """The same by the server: from the arrival of the last of the speech."""
    paced_s: float
    """The same by the pace of the stream: includes what the server slept through."""
    stalled: bool
    """Whether its answer was due while the server gave none."""
    texts_agree: bool
    """Whether the words belong to it, on both sides."""


def pairs_of(run: Run, notes: dict[str, Any]) -> list[Pair]:
    """Each utterance that was measured, warm-up left out, with what the server knows of it."""
    noted = {note["item_id"]: note for note in notes["utterances"]}
    return [
        Pair(
            item_id=turn.item_id,
            measured_s=turn.transcription_delay_s,
            noted_s=_waited_s(note) + note["rest_s"],
            paced_s=note["written_at_s"] - note["spoken_at_s"],
            stalled=_is_stalled(note, notes["stalls"]),
            texts_agree=turn.text == turn.heard == note["said"] == note["sent"],
        )
        for turn in run.turns
        if not turn.warm_up
        and turn.item_id is not None
        and turn.transcription_delay_s is not None
        and (note := noted.get(turn.item_id)) is not None
        and note["written_at_s"] is not None
    ]


def _waited_s(note: dict[str, Any]) -> float:
    return float(note["written_at_s"] - note["arrived_at_s"])


def _is_stalled(note: dict[str, Any], stalls: Iterable[Sequence[float]]) -> bool:
    due_s = note["spoken_at_s"] + note["rest_s"] + note["delay_s"]
    return any(from_s <= due_s < until_s for from_s, until_s in stalls)


def strays(run: Run, notes: dict[str, Any]) -> list[str]:
    """Items of which only one side knows, or that one side has twice."""
    ours = sorted(turn.item_id or "none" for turn in run.turns)
    theirs = sorted(note["item_id"] for note in notes["utterances"] if note["written_at_s"])
    if ours == theirs:
        return []
    return sorted(set(ours) ^ set(theirs)) or ["something came twice"]


def compared(
    pairs: Sequence[Pair], lag_s: float | None, q: float, *, frozen: bool
) -> dict[str, Any]:
    """One quantile: what was measured, what was recorded, and whether they agree."""
    measured_s = quantile([pair.measured_s for pair in pairs], q)
    recorded = [pair.paced_s if frozen else pair.noted_s for pair in pairs]
    recorded_s = quantile(recorded, q)
    if measured_s is None or recorded_s is None or lag_s is None:
        return {"q": q, "exact": False}
    off_s = measured_s - recorded_s
    allowed_s = max(SHARE * recorded_s, SLACK_S) + lag_s
    return {
        "q": q,
        "supported": supports(len(pairs), q),
        "measured_s": measured_s,
        "recorded_s": recorded_s,
        "off_s": off_s,
        "lag_s": lag_s,
        "allowed_s": allowed_s,
        "exact": abs(off_s) <= allowed_s,
        "noted_s": quantile([pair.noted_s for pair in pairs], q),
    }


def result_of(case: Case, done: Done, notes: dict[str, Any]) -> dict[str, Any]:
    """All that is said of a case."""
    run, summary = done.run, done.summary
    pairs, lag = pairs_of(run, notes), merged_lag(run)
    rows = [compared(pairs, lag.quantile(q), q, frozen=case.frozen) for q in QUANTILES]
    off = [p.measured_s - (p.paced_s if case.frozen else p.noted_s) for p in pairs]
    stalled = [pair for pair in pairs if pair.stalled]
    missed = [p for p in stalled if p.measured_s < p.paced_s - EARLY_S]
    astray = strays(run, notes)
    exact = all(row["exact"] for row in rows) and not astray and not missed
    return {
        **asdict(case),
        "n": len(pairs),
        "strays": astray[:10],
        "wrong_words": sum(not pair.texts_agree for pair in pairs),
        "finals_missing": summary["utterances"]["finals_missing"],
        "quantiles": rows,
        "off_s": {str(q): quantile(off, q) for q in (0.0, 0.5, 0.99, 1.0)},
        "stalls": len(notes["stalls"]),
        "stalled_utterances": len(stalled),
        "stalled_and_missed": len(missed),
        "generator": summary["generator"],
        "exit_code": done.code,
        "exact": bool(pairs) and exact and not any(not pair.texts_agree for pair in pairs),
    }


def measure(case: Case, clips: Path, folder: Path) -> dict[str, Any]:
    """One run of the real command."""
    scenario = folder / "scenario.toml"
    scenario.write_text(SCENARIO, "utf-8")
    with serving("tests.reference_server", "--clips", str(clips), *case.server) as server:
        done = loadtest(
            *(f"ws://127.0.0.1:{server.port}", folder / "run", "--transcription"),
            *("--speech", str(clips), "--scenario", str(scenario), "--keep-text"),
            *("--speakers", str(case.speakers), "--duration", f"{case.duration_s:g}"),
            *("--warm-up", f"{WARM_UP_S:g}", "--ramp", "2"),
        )
        if done.code not in (0, 3, 99):
            raise RtvcError(f"{case.name}: the load test ended with {done.code}: {done.errors}")
        notes = httpx.get(f"{server.http}/notes", timeout=60, trust_env=False).json()
    return result_of(case, done, notes)


def table(results: Sequence[dict[str, Any]], machine: str) -> str:
    """Markdown, a line a quantile."""
    lines = [
        "# Is what is measured what there was?",
        "",
        f"`python -m tests.acceptance.exactness` on {machine}. *Recorded* is what the reference",
        "server noted of the same utterances; *allowed* is 2 % of it or 3 ms, plus the generator's",
        "lag at that quantile. Every utterance is paired by its item id.",
        "",
        "| case | speakers | n | quantile | recorded | measured | off | allowed | exact |",
        "|---|---:|---:|---|---:|---:|---:|---:|---|",
    ]
    for result in results:
        lines += [_line(result, row) for row in result["quantiles"] if "off_s" in row]
    lines += ["", *(_stalls(result) for result in results if result["stalls"])]
    return "\n".join([*lines, ""])


def _line(result: dict[str, Any], row: dict[str, Any]) -> str:
    off = f"{1000 * row['off_s']:+.2f}".replace("-", "−")
    cells = [result["name"], str(result["speakers"]), f"{result['n']:,}", f"p{100 * row['q']:g}"]
    cells += [f"{1000 * row[name]:.1f} ms" for name in ("recorded_s", "measured_s")]
    cells += [f"{off} ms", f"{1000 * row['allowed_s']:.1f} ms"]
    few = "" if row["supported"] else " (few)"
    return f"| {' | '.join([*cells, ('yes' if row['exact'] else '**no**') + few])} |"


def _stalls(result: dict[str, Any]) -> str:
    worst = result["quantiles"][-1]
    slept = ""
    if result["frozen"]:
        slept = (
            f" By its own notes alone, which begin when it wakes, the server's p99 would be "
            f"{1000 * worst['noted_s']:.0f} ms instead of {1000 * worst['recorded_s']:.0f} ms."
        )
    return (
        f"- {result['name']}: {result['stalls']} stalls; {result['stalled_utterances']} utterances "
        f"were due in one, and {result['stalled_and_missed']} of them were measured shorter than "
        f"they were.{slept}"
    )


def _known(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def _save(folder: Path, found: dict[str, Any]) -> None:
    machine = this_machine()
    shown = f"{machine.cpu}, {machine.cores} cores"
    ordered = [found[case.name] for case in CASES if case.name in found]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (folder / TABLE).write_text(table(ordered, shown), "utf-8")


def _told(result: dict[str, Any]) -> str:
    off = ", ".join(f"{1000 * row.get('off_s', float('nan')):+.2f}" for row in result["quantiles"])
    health = "" if result["generator"]["valid"] else f" (void: {result['generator']['reason']})"
    verdict = "exact" if result["exact"] else "NOT EXACT"
    return f"{result['name']}: {verdict}, n={result['n']}, off by {off} ms{health}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES])
    parser.add_argument("--again", action="store_true", help="measure what was measured, too")
    parser.add_argument("--short", action="store_true", help="8 speakers, 10 s: to try it out")
    chosen = parser.parse_args()
    found = _known(chosen.out / RESULT)
    for case in CASES:
        wanted = not chosen.only or case.name in chosen.only
        if not wanted or (case.name in found and not chosen.again):
            continue
        result = attempt(_shortened(case) if chosen.short else case)
        # What a starved generator measured proves nothing: it is measured again next time.
        if result is not None and result["generator"]["valid"]:
            found[case.name] = result
            _save(chosen.out, found)
    exact = [name for name, result in found.items() if result["exact"]]
    return 0 if len(exact) == len(CASES) else 1


def attempt(case: Case) -> dict[str, Any] | None:
    """None if it could not be measured; the others may."""
    folder = Path(tempfile.mkdtemp(prefix="rtvc-exactness-"))
    try:
        write_clips(folder / "clips", 2 * case.speakers, seed=7)
        result = measure(case, folder / "clips", folder)
    except RtvcError as error:
        sys.stdout.write(f"{error}\n")
        return None
    finally:
        shutil.rmtree(folder)
    sys.stdout.write(_told(result))
    sys.stdout.flush()
    return result


def _shortened(case: Case) -> Case:
    return Case(case.name, case.about, case.server, 8, 20.0 if case.frozen else 10.0, case.frozen)


if __name__ == "__main__":
    raise SystemExit(main())
