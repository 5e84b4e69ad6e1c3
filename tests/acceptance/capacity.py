"""How many speakers the reference server holds here, one engine for all beside one a session.

    python -m tests.acceptance.capacity [--minutes 55] [--out reports/capacity]

Four searches that differ in `--sharing` and the model only, each with a run directory of its own,
and one page of all of them (OUT/together.html). Resumable. Server and load generator share this
machine, which should do nothing else. Synthetic tiny.en is searched at 1 s: over the whole window
one model a session does not hold a single speaker at 500 ms here.
"""

import argparse
import sys
from pathlib import Path

from rtvc.clock import SystemClock
from rtvc.report.together import build_together
from tests.acceptance.stt import TINY, Bench, Case, table

EACH = ("--sharing", "per-session")

CASES = (
    Case("selftest-per-session", "selftest", EACH, start=4, most=160),
    Case("tiny.en-per-session", TINY, EACH, 1000, most=48),
    Case("tiny.en-shared", TINY, (), 1000, start=4, most=48),
    Case("selftest-shared", "selftest", (), start=64, most=160),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=55.0)
    parser.add_argument("--out", type=Path, default=Path("reports/capacity"))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(chosen.out, chosen.minutes, SystemClock())
    for case in CASES:
        bench.run(case)
    text = "\n".join(table(chosen.out, bench.done)) + "\n"
    (chosen.out / "table.md").write_text(text, encoding="utf-8")
    folders = {name: chosen.out / name for name in bench.done}
    if folders:
        text += build_together(folders, chosen.out / "together.html")
    print(text)  # noqa: T201
    if bench.out_of_time:
        sys.exit("time is up: run the command again, it goes on where it stopped")


if __name__ == "__main__":
    main()
