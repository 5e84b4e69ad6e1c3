"""The bench's grid on a GPU, and what a plan makes of it for the GPUs that can be rented.

Part of `make gpu-checks`. The bench goes on where it stopped; other GPUs than this one are
extrapolated in the plan, and it must say so.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtvc.results.plan import Plan, is_plan, load_plan

USERS = 10_000
"""Whom the plan is made for."""


@dataclass(frozen=True, slots=True)
class Grid:
    """What is benched: every combination."""

    device: str = "cuda"
    models: tuple[str, ...] = (
        *("tiny.en", "base.en", "small.en", "medium.en"),
        *("distil-small.en", "distil-medium.en", "distil-large-v3", "large-v3"),
    )
    compute_types: tuple[str, ...] = ("float16", "int8_float16")
    beams: tuple[int, ...] = (1, 3)
    batches: tuple[int, ...] = (1, 8, 32)
    most_at_once: int = 32
    clips: int = 24


REHEARSAL = Grid("cpu", ("tiny.en",), ("int8",), (1,), (1,), 2, 3)


def bench_and_plan(grid: Grid, folder: Path) -> dict[str, Any]:
    """Both, each in a folder of its own; nothing failed if every GPU but this one is marked."""
    bench, plan = folder / "bench", folder / "plan"
    benched = subprocess.run(bench_command(grid, bench), stdout=subprocess.DEVNULL, check=False)
    if benched.returncode not in (0, 99):
        return {"exit_code": benched.returncode, "said": "the bench did not end well"}
    planned = subprocess.run(plan_command(bench, plan), stdout=subprocess.DEVNULL, check=False)
    if planned.returncode or not is_plan(plan):
        return {"exit_code": planned.returncode or 1, "said": "no plan could be made"}
    found = load_plan(plan)
    return {"exit_code": int(not honest(found, grid.device)), **told(found)}


def bench_command(grid: Grid, folder: Path) -> list[str]:
    """Speed alone: synthetic weights understand nothing."""
    lists = {
        "--model": grid.models,
        "--compute-type": grid.compute_types,
        "--beam": grid.beams,
        "--batch": grid.batches,
    }
    command = [sys.executable, "-m", "rtvc", "bench", "--synthetic", "--device", grid.device]
    for flag, values in lists.items():
        command += [flag, ",".join(map(str, values))]
    command += ["--rounds", "1", "--no-held", "--condition", "clean", "--out", str(folder)]
    command += ["--clips", str(grid.clips), "--most-at-once", str(grid.most_at_once)]
    return [*command, "--long", "1m"]


def plan_command(bench: Path, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "rtvc", "plan", str(bench), "--users", str(USERS)]
    return [*command, "--out", str(folder)]


def honest(plan: Plan, device: str) -> bool:
    """Whether each kind of instance says what its speed is; from a CPU nothing may be said."""
    rented = [row for row in plan.fleet if row.gpu is not None and row.basis != "measured"]
    if device == "cpu":
        return all(row.speed is None for row in rented)
    return bool(rented) and all(row.basis == "extrapolated" for row in rented)


def told(plan: Plan) -> dict[str, Any]:
    """In short; the folders hold the rest."""
    return {
        "sentence": plan.sentence,
        "holds": {variant.name: variant.holds for variant in plan.variants},
        "fleet": {
            row.instance: [row.basis, row.sessions_each, row.instances, row.fleet_usd_per_hour]
            for row in plan.fleet
        },
    }
