"""Does a bench of this machine still say what the committed one says? `make bench-check`.

    python -m tests.acceptance.bench_check [--against FOLDER] [--make] [--tolerance 10]

The baseline's own command is run again into a new folder, and both are compared cell by cell: each
cell's delay beside that of the cells in the middle, so that a machine which is slower as a whole
today changes nothing; the order of the cells; word errors. Exit 0 if all is as it was, 99 if not,
2 without a baseline for this machine. `--against` compares a bench that was measured already,
`--make` measures the baseline. The machine should do nothing else. What was cut off goes on.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from rtvc.bench.folder import gpu_names
from rtvc.clock import SystemClock
from rtvc.record import Machine, Manifest, load_manifest, this_machine
from rtvc.report.bench_repeat import repeat_json, repeat_table
from rtvc.results.reading import is_bench, load_bench
from rtvc.results.repeat import TOLERANCE, compare_benches
from rtvc.results.yardstick import summarize_bench

BASELINES = Path("reports/baseline")
FRESH = Path("reports/runs/bench-check")
"""Where the baseline's command is run again."""

FLAGS = (
    *("--model", "selftest,pocketsphinx,synthetic:tiny.en"),
    *("--compute-type", "int8,float32", "--beam", "1,3", "--rounds", "5"),
    *("--clips", "12", "--condition", "clean", "--long", "1m", "--no-held"),
    *("--streaming", "0", "--most-at-once", "2", "--threads", "1"),
)
"""Of a baseline that `--make` measures; on one thread, for on two the self-test model was measured
38 % apart from one bench to the next."""

DIFFERENT, WITHOUT = 99, 2
"""Exit codes."""


def machine_name(machine: Machine) -> str:
    """Folder of a machine's baselines: its GPUs, or its processor, and how many.

    >>> machine_name(Machine("Intel(R) Xeon(R) Gold 6330 CPU @ 2.00GHz", 2, 0, "", ""))
    'intel-xeon-gold-6330-2-cores'
    >>> machine_name(Machine("", 8, 0, "", "", ("NVIDIA H100 80GB HBM3",)))
    'nvidia-h100-80gb-hbm3-1'
    """
    if machine.gpus:
        return f"{_slug(machine.gpus[0])}-{len(machine.gpus)}"
    cores = f"{machine.cores} core{'' if machine.cores == 1 else 's'}"
    return _slug(f"{machine.cpu.partition('@')[0]} {cores}")


def _slug(text: str) -> str:
    plain = re.sub(r"\((?:r|tm)\)|\bcpu\b", " ", text.casefold())
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def again(manifest: Manifest, out: Path) -> list[str]:
    """The arguments of the baseline's command, into another folder."""
    arguments = shlex.split(manifest.command)[1:]
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip or argument.startswith("--out="):
            skip = False
        elif argument == "--out":
            skip = True
        else:
            kept.append(argument)
    return [*kept, "--out", str(out)]


def to_measure_in(folder: Path) -> Path:
    """The folder itself if it is new or was cut off, else the next one with a number."""
    for number in count(1):
        chosen = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        if not is_bench(chosen):
            return chosen
        manifest = load_manifest(chosen)
        if manifest.interrupted or manifest.duration_s is None:
            return chosen
    raise AssertionError("there is no last number")


def measure(arguments: Sequence[str]) -> None:
    """Run `rtvc` in a process of its own; a bench that recommends nothing was measured too."""
    code = subprocess.run([sys.executable, "-m", "rtvc", *arguments], check=False).returncode
    if code not in (0, DIFFERENT):
        sys.exit(f"rtvc {shlex.join(arguments)} ended with {code}: run the command again to go on")


# What came of it.


def compare(baseline: Path, fresh: Path, out: Path, tolerance: float) -> int:
    """Write repeat.md and repeat.json, print the table; returns the exit code."""
    before, after = load_bench(baseline), load_bench(fresh)
    found = compare_benches(summarize_bench(before), summarize_bench(after), tolerance)
    written = repeat_table(found, before.manifest, after.manifest)
    out.mkdir(parents=True, exist_ok=True)
    (out / "repeat.md").write_text(written, "utf-8")
    content = repeat_json(found, before.manifest, after.manifest)
    (out / "repeat.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(written)  # noqa: T201
    return DIFFERENT if found.problems else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--baseline", type=Path, help="folder of a bench [this machine's]")
    parser.add_argument("--against", type=Path, help="a bench to compare, instead of measuring")
    parser.add_argument("--fresh", type=Path, default=FRESH, help="where to measure")
    parser.add_argument("--tolerance", type=float, default=100 * TOLERANCE, help="percent")
    parser.add_argument("--make", action="store_true", help="measure the baseline")
    chosen = parser.parse_args()
    folder = BASELINES / machine_name(this_machine(gpu_names(SystemClock())))
    baseline = chosen.baseline or folder / "bench"
    if chosen.make:
        measure(["bench", *FLAGS, "--out", str(baseline)])
        return
    if not is_bench(baseline):
        print(  # noqa: T201
            f"no baseline for this machine (expected {baseline}): make one with --make",
            file=sys.stderr,
        )
        sys.exit(WITHOUT)
    fresh = chosen.against
    if fresh is None:
        fresh = to_measure_in(chosen.fresh)
        measure(again(load_manifest(baseline), fresh))
    sys.exit(compare(baseline, fresh, baseline.parent, chosen.tolerance / 100))


if __name__ == "__main__":
    main()
