"""`rtvc fleet simulate`."""

import json
import math
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.console import Console
from rich.text import Text

from rtvc.clock import Clock, SystemClock
from rtvc.errors import UsageError
from rtvc.invocation import invocation
from rtvc.plan.autoscaling import Scene
from rtvc.plan.balancing import Balancing
from rtvc.plan.day import Spike
from rtvc.plan.flags import pairs, share
from rtvc.plan.fleet_run import Order, day_of, make_fleet_run
from rtvc.plan.policy import policy_file, read_policy
from rtvc.plan.scaling_fleet import Fleet, ScaleIn
from rtvc.plan.target_tracking import LOWER
from rtvc.plan.tfvars import capacity_given
from rtvc.record import Manifest, new_manifest
from rtvc.record.files import write_json
from rtvc.record.manifest import MANIFEST_FILE
from rtvc.report.autoscaling_page import write_fleet_report
from rtvc.report.autoscaling_terminal import fleet_panel
from rtvc.report.terminal import terminal_width
from rtvc.results.autoscaling import FleetRun, is_fleet, to_json, write_fleet

MISSED_EXIT = 99
"""A day is not as it should be."""

MOST_DAYS = 100

ROOM = 1.5
"""Times the instances of the busiest moment there may be, unless another number is given."""

UNSEEN = 140
"""Characters of a line where there is no terminal: no row is broken."""


def _flag(name: str, text: str, **more: Any) -> Any:
    # Brackets hold defaults here, not markup.
    return typer.Option(name, help=text.replace("[", r"\["), show_default=False, **more)


_DAY = "The day"
_FLEET = "The fleet"


def simulate(
    capacity: Annotated[
        str,
        _flag(
            "--capacity",
            "Sessions on an instance: a number, a file of rtvc fleet vars, or the folder of a "
            "rtvc loadtest --find-capacity",
            metavar="N|FILE|RUN",
        ),
    ],
    policy: Annotated[
        Path | None,
        _flag("--policy", "scaling.json of the Terraform module [the checkout's]", metavar="FILE"),
    ] = None,
    instances: Annotated[
        int,
        _flag(
            "--instances",
            "That the busiest moment takes [60]",
            rich_help_panel=_DAY,
            min=1,
            max=1000,
        ),
    ] = 60,
    call_minutes: Annotated[
        float,
        _flag("--call-minutes", "Length of a call [5]", rich_help_panel=_DAY, min=0.1, max=60),
    ] = 5.0,
    spike: Annotated[
        list[str] | None,
        _flag(
            "--spike",
            "More calls at once, as a part of the busiest moment's, such as 17:30=20%; repeatable",
            metavar="TIME=PART",
            rich_help_panel=_DAY,
        ),
    ] = None,
    days: Annotated[
        int, _flag("--days", "How many, each drawn anew [1]", min=1, max=MOST_DAYS)
    ] = 1,
    seed: Annotated[int, _flag("--seed", "Of the first day [0]")] = 0,
    boot_s: Annotated[
        float | None,
        _flag(
            "--boot-s",
            "From the start of an instance to its first call [boot_s_assumed of the policy]",
            rich_help_panel=_FLEET,
            min=0,
            max=3600,
        ),
    ] = None,
    least: Annotated[
        int, _flag("--least", "Instances at any time [2]", rich_help_panel=_FLEET, min=1)
    ] = 2,
    most: Annotated[
        int | None,
        _flag("--most", "Instances at any time [1.5 × --instances]", rich_help_panel=_FLEET, min=1),
    ] = None,
    balancing: Annotated[
        str,
        _flag(
            "--balancing",
            "Where a call goes: least, round-robin, fullest [least]",
            metavar="HOW",
            rich_help_panel=_FLEET,
        ),
    ] = "least",
    retries: Annotated[
        int,
        _flag(
            "--retries",
            "Other instances that a call is offered to that met a full one; of round-robin [0]",
            rich_help_panel=_FLEET,
            min=0,
            max=100,
        ),
    ] = 0,
    scale_in: Annotated[
        str,
        _flag(
            "--scale-in",
            "How an instance goes: aside, idle, drain [aside]",
            metavar="HOW",
            rich_help_panel=_FLEET,
        ),
    ] = "aside",
    low: Annotated[
        str,
        _flag(
            "--low",
            "Part of the target below which AWS takes instances away; its low alarm says which "
            f"[{LOWER:.0%}]",
            metavar="PART",
            rich_help_panel=_FLEET,
        ),
    ] = f"{LOWER:.0%}",
    compare: Annotated[
        bool, _flag("--compare", "Also the first day as it would be otherwise")
    ] = False,
    out: Annotated[
        Path | None, _flag("--out", "Folder [reports/runs/<time>-fleet]", metavar="DIR")
    ] = None,
    as_json: Annotated[bool, _flag("--json", "Only JSON on stdout")] = False,
) -> None:
    """Simulate a day of an EC2 Auto Scaling group, call by call, under the policy of Terraform.

    Says how many callers are refused, whether scale-in cuts a call, and how many more
    instance-hours are paid than somebody would who knew every call beforehand.

    Exit code: 0, 2 wrong usage, 99 if more than 0.1 % are refused, a call is cut, or more than 1.35
    times as much is paid.
    """
    numbers = read_policy(policy or policy_file())
    holds, source = capacity_given(capacity)
    ceiling = math.ceil(ROOM * instances) if most is None else most
    if ceiling < least:
        raise UsageError(f"expected --most of {least} (--least) or more, got {ceiling}")
    fleet = Fleet(
        capacity=holds,
        boot_s=numbers.boot_s_assumed if boot_s is None else boot_s,
        least=least,
        most=ceiling,
        balancing=cast(Balancing, _one_of(balancing, get_args(Balancing), "--balancing")),
        retries=retries,
        scale_in=cast(ScaleIn, _one_of(scale_in, get_args(ScaleIn), "--scale-in")),
        low=share(low, "--low", all_of_it=True),
    )
    day = day_of(instances, holds, call_s=60 * call_minutes, spikes=spikes(spike or ()))
    order = Order(
        Scene(day, fleet, numbers),
        seeds=tuple(range(seed, seed + days)),
        capacity_from=source,
        compare=compare,
    )
    raise typer.Exit(_run(order, out, SystemClock(), as_json=as_json))


def _one_of(text: str, known: Sequence[str], flag: str) -> str:
    if text not in known:
        raise UsageError(f"expected {flag} {', '.join(known)}, got {text!r}")
    return text


def spikes(texts: Sequence[str]) -> tuple[Spike, ...]:
    """TIME=PART, repeatable.

    >>> [spike.at_s / 3600 for spike in spikes(["17:30=20%"])]
    [17.5]

    Raises:
        UsageError: one is not.
    """
    found = []
    for at, part in pairs(texts, "--spike", "PART").items():
        clock = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", at)
        if clock is None:
            raise UsageError(f"expected --spike TIME=PART with a time such as 17:30, got {at!r}")
        at_s = 3600.0 * int(clock[1]) + 60.0 * int(clock[2])
        found.append(Spike(at_s, share(part, "--spike", all_of_it=True)))
    return tuple(found)


def _run(order: Order, out: Path | None, clock: Clock, *, as_json: bool) -> int:
    folder = _free(out or default_folder(clock.utc()))
    manifest = new_manifest(invocation(), clock)
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, UNSEEN)
    status = console.status(Text("simulating"))

    def told(name: str, seed: int) -> None:
        status.update(Text(f"{name}, day {seed}"))

    with ExitStack() as shown:
        if console.is_terminal and not as_json:
            shown.enter_context(status)
        found = make_fleet_run(order, clock, told)
    page = keep(folder, found, manifest)
    if as_json:
        typer.echo(json.dumps(to_json(found), indent=2, allow_nan=False))
    else:
        console.print(fleet_panel(found, terminal_width(console)))
        console.print(f"report: {page}", markup=False)
    return 0 if found.met else MISSED_EXIT


def _free(folder: Path) -> Path:
    """What somebody measured must not be overwritten by what is only worked out."""
    if (folder / MANIFEST_FILE).exists() and not is_fleet(folder):
        raise UsageError(f"{folder} holds a run: expected --out to be another folder")
    return folder


def keep(folder: Path, found: FleetRun, manifest: Manifest) -> Path:
    """Write the folder of a simulated fleet; returns the page's path.

    Raises:
        RecordError: it cannot be written.
    """
    write_fleet(folder, found)
    write_json(folder / MANIFEST_FILE, asdict(manifest))
    return write_fleet_report(folder, found, manifest, png=True)


def default_folder(now: datetime) -> Path:
    """
    >>> default_folder(datetime(2026, 1, 2, 3, 4, 5)).as_posix()
    'reports/runs/20260102T030405Z-fleet'
    """
    return Path("reports/runs") / f"{now:%Y%m%dT%H%M%SZ}-fleet"
