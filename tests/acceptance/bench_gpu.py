"""The grid that needs a CUDA device: every size with random weights, by type, beam and batch.

    python -m tests.acceptance.bench_gpu [--out reports/gpu] [--rehearse] [FLAGS OF rtvc bench …]

Two benches under the GPU's name, each going on where it was cut off: `bench`, every size and
setting, for speed and memory; and `held`, some settings of each size, with the sessions that the
engine alone holds. Without a CUDA device it says so and ends with 0. `--rehearse` runs both small,
on the CPU, to see that they work; its figures go to a folder of their own and mean nothing.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from rtvc.clock import SystemClock
from rtvc.instruments.gpu import NoGpu, open_gpus

SIZES = (
    "tiny.en,base.en,small.en,medium.en,distil-small.en,distil-medium.en,distil-large-v2,"
    "distil-large-v3,large-v3,large-v3-turbo"
)
"""Of random weights."""

ALL = "--synthetic --device cuda --rounds 2 --clips 12 --condition clean --long 2m --streaming 3"
GRID = f"{ALL} --model {SIZES} --compute-type float16,int8_float16 --beam 1,3 --batch 1,8,32"
"""Speed and memory of everything; random weights make no use of noise."""

HELD = f"{ALL} --model {SIZES} --compute-type float16 --batch 1,16 --preset seed-baseline"
"""Sessions held: minutes a cell."""

REHEARSED = "--synthetic --device cpu --rounds 1 --clips 3 --condition clean --long-files 0"
OK = (0, 99)
"""Exit codes of a bench that measured something."""


def gpu_name() -> str | None:
    """Product, fit for a folder's name; None: there is no device."""
    found = open_gpus(SystemClock())
    if isinstance(found, NoGpu):
        return None
    with found as gpus:
        name = gpus.sample()[0].name or "gpu"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def benches(*, rehearsed: bool) -> dict[str, str]:
    """Name → flags."""
    if rehearsed:
        small = f"{REHEARSED} --model tiny.en --batch 1,2 --most-at-once 2 --streaming 1"
        return {"bench": f"{small} --no-held"}
    return {"bench": f"{GRID} --most-at-once 32 --no-held", "held": f"{HELD} --most-at-once 16"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("reports/gpu"))
    parser.add_argument("--rehearse", action="store_true")
    chosen, more = parser.parse_known_args()
    name = "rehearsal" if chosen.rehearse else gpu_name()
    if name is None:
        sys.stderr.write("no CUDA device here: the grid that needs one was not measured\n")
        return 0
    worst = 0
    for part, flags in benches(rehearsed=chosen.rehearse).items():
        folder = chosen.out / name / part
        command = [sys.executable, "-m", "rtvc", "bench", *flags.split(), *more]
        done = subprocess.run([*command, "--out", str(folder)], check=False)
        worst = max(worst, 0 if done.returncode in OK else done.returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
