"""What an hour's soak is judged by: rows of a life's folder in, promises kept or not out."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from rtvc.record import load_run
from tests.acceptance.steadiness import Slope, is_flat, longer, slope
from tests.acceptance.watched import check_rows

MAX_RATIO = 1.1
"""Delay p95 at the end ÷ at the beginning."""
STRETCH_S = 600.0
"""Beginning and end, compared: so long, or a third of it all."""
WARM_UP_S = 600.0
"""Before memory is judged, or a fifth of it all: the rush, and until the first segment is full."""
FIELDS = ("at_s", "server_bytes", "engine_bytes", "threads", "descriptors", "sessions")
STOLEN = "stolen_ratio"
"""Of the machine's CPU time, what its host gave to others since the last sample. Told, not judged:
who reads that delays rose sees whether the machine was all there."""


def samples(life: Path) -> dict[str, list[float]]:
    """Columns; a row that was being written is left out."""
    with (life / "samples.csv").open(encoding="utf-8", newline="") as source:
        rows = [row for row in csv.DictReader(source) if all(row.get(name) for name in FIELDS)]
    return {name: [float(row[name]) for row in rows] for name in FIELDS}


def stolen(life: Path, from_s: float, to_s: float) -> float | None:
    """Share of the machine's CPU time that its host gave to others; None: not recorded."""
    with (life / "samples.csv").open(encoding="utf-8", newline="") as source:
        rows = [row for row in csv.DictReader(source) if row.get(STOLEN)]
    within = [float(row[STOLEN]) for row in rows if from_s <= float(row["at_s"]) <= to_s]
    return fmean(within) if within else None


def turns(life: Path) -> tuple[list[tuple[float, float]], int, int]:
    """((instant, delay) of each turn, finals lost, turns) outside the warm-ups."""
    told: list[tuple[float, float]] = []
    lost = count = 0
    for folder in sorted(life.glob("segment-*")):
        if not (folder / "soak.json").exists():
            continue
        from_s = json.loads((folder / "soak.json").read_text("utf-8"))["from_s"]
        for turn in load_run(folder).turns:
            if turn.warm_up:
                continue
            count += 1
            if turn.final_at_s is None:
                lost += 1
            elif turn.transcription_delay_s is not None:
                told.append((from_s + turn.speech_end_at_s, turn.transcription_delay_s))
    return sorted(told), lost, count


def judged(life: Path) -> dict[str, Any]:
    """Each promise with whether it is kept."""
    columns = samples(life)
    at_s = columns["at_s"]
    length_s = at_s[-1] - at_s[0] if at_s else 0.0
    from_s = min(WARM_UP_S, length_s / 5)
    first = next((n for n, at in enumerate(at_s) if at - at_s[0] >= from_s), len(at_s))
    bent = {name: slope(at_s[first:], columns[name][first:]) for name in FIELDS[1:]}
    told, lost, count = turns(life)
    stretch_s = min(STRETCH_S, (told[-1][0] - told[0][0]) / 3) if told else 0.0
    begin = [delay for at, delay in told if at <= told[0][0] + stretch_s]
    end = [delay for at, delay in told if at >= told[-1][0] - stretch_s]
    ends = (
        [(told[0][0], told[0][0] + stretch_s), (told[-1][0] - stretch_s, told[-1][0])]
        if told
        else []
    )
    delays = longer(begin, end)
    of_life = json.loads((life / "life.json").read_text("utf-8")) if _ended(life) else {}
    checks = {
        "server memory does not rise": _steady(bent["server_bytes"]),
        "engine memory does not rise": _steady(bent["engine_bytes"]),
        "threads are flat": _flat(bent["threads"]),
        "descriptors are flat": _flat(bent["descriptors"], 4.0),
        f"delay p95 at the end ≤ {MAX_RATIO} × at the beginning": (
            delays is not None and delays.ratio_p95 <= MAX_RATIO
        ),
        "no final is lost": not lost and count > 0,
        "the server lives, its engine was not restarted": (
            bool(of_life.get("alive")) and of_life.get("engine_restarts") == 0
        ),
        "no ERROR and no traceback in its log": of_life.get("troubles") == [],
    }
    return {
        "life": life.name,
        "minutes": round(length_s / 60, 1),
        "samples": len(at_s),
        "warm_up_s": round(from_s, 1),
        "turns": count,
        "finals_lost": lost,
        "slopes_per_hour": {k: None if v is None else asdict(v) for k, v in bent.items()},
        "delays": None if delays is None else asdict(delays),
        "stretch_s": round(stretch_s, 1),
        "stolen_ratios": [stolen(life, *stretch) for stretch in ends],
        "checks": checks,
        "kept": all(checks.values()),
    }


def _ended(life: Path) -> bool:
    return (life / "life.json").exists()


def _steady(bent: Slope | None) -> bool:
    return bent is not None and not bent.rises


def _flat(bent: Slope | None, room: float = 1.0) -> bool:
    return bent is not None and is_flat(bent, room)


def table(found: dict[str, Any]) -> str:
    lines = [
        "| What | Result |",
        "|---|---|",
        f"| Speakers on the line | {found['speakers']} (capacity {found['capacity']}) |",
        f"| Minutes | {found['minutes']} |",
        f"| Turns | {found['turns']:,}, {found['finals_lost']} finals lost |",
    ]
    for name in ("server_bytes", "engine_bytes"):
        bent = found["slopes_per_hour"][name]
        if bent:
            low, mid, high = (bent[key] / 2**20 for key in ("low", "per_hour", "high"))
            lines.append(
                f"| {name.removesuffix('_bytes')} memory | {bent['first'] / 2**20:.0f} → "
                f"{bent['last'] / 2**20:.0f} MiB; {mid:+.1f} MiB/h ({low:+.1f} to {high:+.1f}) |"
            )
    if found["delays"]:
        told = found["delays"]
        lines.append(
            f"| Delay p95 | {told['before_p95_s'] * 1000:.0f} → {told['after_p95_s'] * 1000:.0f} "
            f"ms: × {told['ratio_p95']:.2f} ({told['ratio_low']:.2f} to {told['ratio_high']:.2f}) |"
        )
    shares = [share for share in found["stolen_ratios"] if share is not None]
    if shares:
        lines.append(
            "| CPU time that the host gave to others | "
            f"{' → '.join(f'{100 * share:.1f} %' for share in shares)} |"
        )
    return "\n".join([*lines, *check_rows(found["checks"])]) + "\n"


def length_s(life: Path) -> float:
    at_s = samples(life)["at_s"] if (life / "samples.csv").exists() else []
    return at_s[-1] if at_s else 0.0


def longest(lives: Sequence[Path]) -> Path | None:
    return max(lives, key=length_s, default=None)
