"""Speakers held, strategy by strategy: the table and the plot of the engine's issue.

    python -m tests.acceptance.stt [--only NAME]... [--out reports/stt]

Transcription sessions at 24 kHz, corpus utterances, 3 s pauses, out of phase, 60 ms of audio a
message, server and load generator on this machine. Each case is a capacity search with a run
directory of its own; one that is finished is not run again, so the command resumes where it
stopped. A case that compares with another is judged at the tightest target that both hold with
one speaker.
"""

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtvc.report.strategies import strategies_figure
from tests.servers import running_server

OBJECTIVES = ("connection_p95<3s", "errors<1%", "premature_finals<2%", "partial_interval_p50<1.5s")
FLAT_OUT = ("--sharing", "per-session", "--partials", "flat-out")


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


SHORT, FULL = ("--encoder-context", "short"), ("--encoder-context", "full")
CASES = (
    Case("selftest-short", "selftest", SHORT, start=64, most=160),
    Case("tiny.en-short", "synthetic:tiny.en", SHORT, start=16, most=96),
    Case("base.en-short", "synthetic:base.en", SHORT, start=8, most=48),
    Case("small.en-short", "synthetic:small.en", SHORT, start=2, most=16),
    Case("tiny.en-full", "synthetic:tiny.en", FULL),
    Case("tiny.en-full-1s", "synthetic:tiny.en", FULL, target_ms=1000),
    Case("tiny.en-full-pool-2", "synthetic:tiny.en", (*FULL, "--sharing", "pool"), 1000),
    *(
        Case(
            f"tiny.en-full-per-session-{ms}ms", "synthetic:tiny.en", (*FULL, *FLAT_OUT), ms, most=8
        )
        for ms in (500, 1000, 2000, 4000)
    ),
    *(Case(f"tiny.en-full-{ms}ms", "synthetic:tiny.en", FULL, ms) for ms in (2000, 4000)),
)


def run(case: Case, folder: Path) -> dict[str, Any]:
    """Search one case, unless its answer is there already."""
    summary = folder / "summary.json"
    if not summary.exists():
        shutil.rmtree(folder, ignore_errors=True)
        with running_server(
            *case.flags, "--max-sessions", "400", "--admission", "slots", model=case.model
        ) as url:
            search(case, url, folder)
    found: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
    return found


def search(case: Case, url: str, folder: Path) -> None:
    """One capacity search; what it says goes to stderr."""
    objectives = (f"transcription_delay_p95<{case.target_ms}ms", *OBJECTIVES)
    command = [
        *(sys.executable, "-m", "rtvc", "loadtest", url, "--find-capacity", "--transcription"),
        *("--scenario", "dictation", "--frame-ms", "60", "--out", str(folder), "--json"),
        *("--start-speakers", str(case.start), "--max-speakers", str(case.most)),
        *(flag for objective in objectives for flag in ("--slo", objective)),
    ]
    print(f"— {case.name}", file=sys.stderr)  # noqa: T201
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="a case; repeatable")
    parser.add_argument("--out", type=Path, default=Path("reports/stt"))
    chosen = parser.parse_args()
    wanted = [case for case in CASES if not chosen.only or case.name in chosen.only]
    table = {}
    for case in wanted:
        found = run(case, chosen.out / case.name)
        table[case.name] = {"target_ms": case.target_ms, "capacity": found.get("capacity")}
        text = json.dumps(table, indent=1) + "\n"
        (chosen.out / "table.json").write_text(text, encoding="utf-8")
    done = {case.name: chosen.out / case.name for case in wanted}
    strategies_figure(done, chosen.out / "strategies")
    print(json.dumps(table, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
