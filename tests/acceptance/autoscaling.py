"""Days of a fleet from 2 to 60 instances: under the policy that Terraform sets up, and otherwise.

    python -m tests.acceptance.autoscaling [--capacities 10,30] [--days 5] [--seed 1000]
                                           [--out FOLDER]

For each capacity a folder as `rtvc fleet simulate --compare` leaves it, its days judged; then, with
the first capacity, other targets and periods, and spikes. Nothing is measured, all of it is
simulated, and the same seeds give the same figures; two or three minutes on two cores.

The policy's numbers were chosen on days 0 to 9. It is judged on days that nobody had looked at.
Where AWS promises nothing, the first of them is simulated both ways; that decides nothing, but
stands in the table.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rtvc.clock import SystemClock
from rtvc.plan.autoscaling import Scene, live, unsaid
from rtvc.plan.day import Spike
from rtvc.plan.fleet_run import Order, day_of, make_fleet_run
from rtvc.plan.policy import policy_file, read_policy
from rtvc.plan.scaling_fleet import Fleet
from rtvc.plan.simulate_command import keep
from rtvc.record import new_manifest
from rtvc.record.files import write_json
from rtvc.report.autoscaling_wording import COLUMNS, cells, label, share
from rtvc.results.autoscaling import (
    REFUSED_AT_MOST,
    TIMES_AT_MOST,
    DayRow,
    FleetRun,
    worst,
)
from tests.acceptance.autoscaling_figure import draw

INSTANCES = 60
"""That the busiest moment takes."""

LEAST = 2
"""Instances of the group at any time, and about what the night takes."""

JUDGED_FROM = 1000
"""The first of the days that are judged: the numbers were chosen on 0 to 9."""

TARGETS = (60, 65, 70, 75, 80, 85, 87, 90, 95)
PERIODS_S = (10, 60)
SPIKES = (0.05, 0.1, 0.2, 0.3, 0.5)
SPIKE_AT_S = 15 * 3600.0

ENCLOSED = 0.02
"""Between what is needed at least and what is enough, as a part of it."""


def scene(capacity: int) -> Scene:
    """As Terraform sets it up."""
    policy = read_policy(policy_file())
    fleet = Fleet(capacity, policy.boot_s_assumed, least=LEAST, most=round(1.5 * INSTANCES))
    return Scene(day_of(INSTANCES, capacity), fleet, policy)


def promises(run: FleetRun) -> dict[str, bool]:
    """What must be so of every day, each with whether it is."""
    refused, cut, times = worst(run.days)
    gap = [day.packed_s / day.bound_s - 1 for day in run.days if day.packed_s is not None]
    return {
        f"at most {share(REFUSED_AT_MOST)} of the callers are refused": refused <= REFUSED_AT_MOST,
        "no call is cut by scale-in": cut == 0,
        f"instance-hours at most {TIMES_AT_MOST:g} × the least possible": times <= TIMES_AT_MOST,
        f"from {LEAST} instances to {INSTANCES} or more": all(
            day.least == LEAST and day.most >= INSTANCES for day in run.days
        ),
        f"the optimum is known to {share(ENCLOSED)}": bool(gap) and max(gap) <= ENCLOSED,
    }


def sweep(first: Scene, seed: int, told: Any) -> list[dict[str, Any]]:
    """Other targets and periods, on one day."""
    found = []
    for period_s in PERIODS_S:
        for target in TARGETS:
            policy = replace(first.policy, target_percent=target, metric_period_s=period_s)
            row = live(replace(first, policy=policy), f"target {target} %, {period_s} s", seed).row
            told(row.name)
            found.append({"target_percent": target, "period_s": period_s, **figures(row)})
    return found


def spiked(first: Scene, seed: int, told: Any) -> list[DayRow]:
    """One day, with so many more all at once."""
    found = []
    for part in SPIKES:
        day = replace(first.day, spikes=(Spike(SPIKE_AT_S, part),))
        row = live(replace(first, day=day), f"{share(part)} more within 2 min", seed).row
        told(row.name)
        found.append(row)
    return found


def figures(row: DayRow) -> dict[str, Any]:
    """As they are written down; JSON has no infinity."""
    known = {**asdict(row), "refused_share": row.refused_share, "times": row.times}
    return {name: "inf" if value == math.inf else value for name, value in known.items()}


def rows_table(first: str, rows: Sequence[DayRow]) -> list[str]:
    """In Markdown, one line a day."""
    head = [f"| {first} | {' | '.join(COLUMNS)} |", "|---|" + "--:|" * len(COLUMNS)]
    return [*head, *(f"| {label(row)} | {' | '.join(cells(row))} |" for row in rows)]


def compared(others: Sequence[DayRow]) -> list[str]:
    """What we could do otherwise, and what AWS may do otherwise, each with whether it is good."""
    names = unsaid(scene(1))
    tables = {
        "Otherwise": [row for row in others if row.name not in names],
        "Where AWS promises nothing": [row for row in others if row.name in names],
    }
    lines: list[str] = []
    for first, rows in tables.items():
        if rows:
            lines += [*rows_table(first, rows), ""]
            missed = [row.name for row in rows if not row.met]
            lines += [f"Not as it should be: {'; '.join(missed) or 'none of these'}.", ""]
    return lines


def table(
    runs: Mapping[int, FleetRun], swept: Sequence[Mapping[str, Any]], spikes: Sequence[DayRow]
) -> str:
    """All of it, in Markdown."""
    lines = ["# A fleet from 2 to 60 instances", "", "    make bench-scaling", ""]
    for capacity, run in runs.items():
        lines += [f"## {capacity} sessions on an instance", "", run.sentence, ""]
        lines += [*rows_table("Day", run.days), ""]
        lines += [
            f"- {'yes' if kept else '**no**'}: {name}" for name, kept in promises(run).items()
        ]
        lines += ["", *compared(run.others)]
    lines += ["## Other targets", "", "| Target | metric every | refused | × the least |"]
    lines += ["|--:|--:|--:|--:|"]
    lines += [
        f"| {each['target_percent']} % | {each['period_s']} s | {share(each['refused_share'])} "
        f"| {each['times']:.2f} |"
        for each in swept
    ]
    lines += ["", "## Spikes", "", *rows_table("At 15:00", spikes), ""]
    policy = next(iter(runs.values())).policy
    lines += ["## The policy", "", *(f"- `{name}`: {value:g}" for name, value in policy.items())]
    return "\n".join(lines) + "\n"


def simulated(capacity: int, seeds: range, out: Path, *, compare: bool) -> FleetRun:
    """Days of one capacity, with the folder that they leave."""
    clock = SystemClock()
    command = ["rtvc", "fleet", "simulate", "--capacity", str(capacity)]
    command += ["--days", str(len(seeds)), "--seed", str(seeds[0])]
    manifest = new_manifest([*command, *(["--compare"] if compare else [])], clock)
    order = Order(scene(capacity), seeds=tuple(seeds), compare=compare)
    run = make_fleet_run(order, clock, lambda name, seed: _say(f"{capacity}: {name}, day {seed}"))
    keep(out / f"capacity-{capacity}", run, manifest)
    return run


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 (whoever waits sees how far it is)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capacities", default="10,30")
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--seed", type=int, default=JUDGED_FROM)
    parser.add_argument("--out", type=Path, default=Path("reports/autoscaling"))
    chosen = parser.parse_args()
    capacities = [int(part) for part in chosen.capacities.split(",")]
    seeds = range(chosen.seed, chosen.seed + chosen.days)
    runs = {
        capacity: simulated(capacity, seeds, chosen.out, compare=capacity == capacities[0])
        for capacity in capacities
    }
    first = scene(capacities[0])
    swept, spikes = sweep(first, seeds[0], _say), spiked(first, seeds[0], _say)
    text = table(runs, swept, spikes)
    (chosen.out / "table.md").write_text(text, encoding="utf-8")
    told = {
        "days": {str(n): [figures(day) for day in run.days] for n, run in runs.items()},
        "promises": {str(n): promises(run) for n, run in runs.items()},
        "others": [figures(row) for run in runs.values() for row in run.others],
        "targets": swept,
        "spikes": [figures(row) for row in spikes],
    }
    write_json(chosen.out / "autoscaling.json", told)
    draw(swept, first.policy.target_percent, chosen.out / "targets")
    _say(text)
    kept = all(all(promises(run).values()) for run in runs.values())
    raise SystemExit(0 if kept else 99)


if __name__ == "__main__":
    main()
