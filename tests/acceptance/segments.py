"""Do the segments of a turn add up to what the client felt?

    python -m tests.acceptance.segments [--out reports/segments] [--load NAME]...

One server (self-test model) after another, each with a load of its own; of every turn told outside
the warm-up the sum of its segments is held against the felt delay. A turn is explained if at most
10 ms or 5 % of the delay is left over. Resumable: a load whose file exists is not run again.
"""

import argparse
import json
import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rtvc.record import Run, TurnRow, load_run
from rtvc.stats import quantile, supports
from tests.acceptance.load import run as load_run_once
from tests.servers import running_server

LEFT_OVER_S = 0.010
LEFT_OVER_SHARE = 0.05
SHARE = 0.99
"""Of the turns that have to be explained."""


@dataclass(frozen=True)
class Load:
    """How many speak, and how long."""

    name: str
    """Its file, and its row."""
    flags: tuple[str, ...]
    """Of `rtvc loadtest`."""


DICTATION = ("--transcription", "--scenario", "dictation", "--frame-ms", "60")
LOADS = (
    Load("conversation-3", ("--speakers", "3", "--duration", "240")),
    Load("dictation-10", ("--speakers", "10", "--duration", "120", *DICTATION)),
    Load("dictation-60", ("--speakers", "60", "--duration", "60", *DICTATION)),
)


@dataclass(frozen=True)
class Explained:
    """How well one stage of the turns of a load is explained."""

    load: str
    """Its name."""
    stage: str
    """"transcript" or "reply"."""
    turns: int
    """Turns with segments and a felt delay."""
    explained: float
    """Share of them, 0 to 1."""
    left_over_p50_s: float | None
    """Median of what is left over, sign dropped; None if n is too small."""
    left_over_max_s: float
    """Largest of it."""
    transport_p50_s: float | None
    """Median of the segment that is what the client saw beyond the server."""
    transport_p99_s: float | None
    """99th percentile of it; None if n is too small."""
    without_segments: int
    """Turns with a felt delay whose segments never came."""


def felt_s(turn: TurnRow, stage: str) -> float | None:
    return turn.transcription_delay_s if stage == "transcript" else turn.response_latency_s


def explained(load: str, run: Run, stage: str) -> Explained | None:
    """None if no turn got that far."""
    told = {(t.session_id, t.item_id): t for t in run.turns if not t.warm_up}
    sums: dict[tuple[str | None, str | None], float] = defaultdict(float)
    transport: list[float] = []
    for row in run.server_turns:
        key = (row.session_id, row.item_id)
        if row.stage != stage or row.hidden or key not in told:
            continue
        sums[key] += row.duration_s
        if row.segment == "transport":
            transport.append(row.duration_s)
    felt = {key: s for key, turn in told.items() if (s := felt_s(turn, stage)) is not None}
    left = [(abs(felt[key] - sums[key]), felt[key]) for key in sums if key in felt]
    if not left:
        return None
    well = sum(gap <= max(LEFT_OVER_S, LEFT_OVER_SHARE * delay) for gap, delay in left)
    gaps = [gap for gap, _ in left]
    return Explained(
        load=load,
        stage=stage,
        turns=len(left),
        explained=well / len(left),
        left_over_p50_s=quantile(gaps, 0.5) if supports(len(gaps), 0.5) else None,
        left_over_max_s=max(gaps, default=math.nan),
        transport_p50_s=quantile(transport, 0.5) if supports(len(transport), 0.5) else None,
        transport_p99_s=quantile(transport, 0.99) if supports(len(transport), 0.99) else None,
        without_segments=len(felt.keys() - sums.keys()),
    )


def measured(load: Load) -> list[Explained]:
    with TemporaryDirectory() as folder, running_server("--max-sessions", "100") as url:
        out = Path(folder) / "run"
        load_run_once(url, load.flags, out)
        run = load_run(out)
    found = (explained(load.name, run, stage) for stage in ("transcript", "reply"))
    return [one for one in found if one is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("reports/segments"))
    parser.add_argument("--load", action="append", choices=[load.name for load in LOADS])
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    short = False
    for load in LOADS:
        if chosen.load and load.name not in chosen.load:
            continue
        path = chosen.out / f"{load.name}.json"
        if not path.exists():
            rows = [asdict(one) for one in measured(load)]
            path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        for row in json.loads(path.read_text("utf-8")):
            short = short or row["explained"] < SHARE
            print(json.dumps(row))  # noqa: T201
    raise SystemExit(99 if short else 0)


if __name__ == "__main__":
    main()
