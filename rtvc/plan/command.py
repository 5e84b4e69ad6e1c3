"""`rtvc plan`: its flags."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from rtvc.clock import Clock, SystemClock
from rtvc.errors import UsageError
from rtvc.invocation import invocation
from rtvc.plan import flags
from rtvc.plan.capacity import Aim
from rtvc.plan.fleet import Routing, check
from rtvc.plan.fleet_rows import HERE, Market
from rtvc.plan.instances import Catalogue, load_instances
from rtvc.plan.making import Order, make_plan
from rtvc.plan.progress import Progress
from rtvc.plan.sources import chosen, load_sources
from rtvc.plan.talk import talk_of
from rtvc.plan.variants import SESSION_CORES, Choices, World
from rtvc.record import Manifest, new_manifest
from rtvc.record.files import write_json
from rtvc.record.manifest import MANIFEST_FILE
from rtvc.report.plan_page import write_plan_report
from rtvc.report.plan_terminal import plan_panel
from rtvc.report.terminal import terminal_width
from rtvc.results.plan import Demand, Plan, is_plan, to_json, write_plan
from rtvc.speech.scenario import load_scenario

OFF_EXIT = 99
"""Predictions were not near what was measured."""

SCENARIO = "dictation"

UNSEEN = 140
"""Characters of a line where there is no terminal: no row is broken."""


def _flag(name: str, text: str, **more: Any) -> Any:
    # Brackets hold defaults here, not markup.
    return typer.Option(name, help=text.replace("[", r"\["), show_default=False, **more)


_FLEET = "Fleet"
_WHAT_IF = "What if (lists: every combination is simulated)"


def plan(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Folders of benches, or of runs against rtvc serve"),
    ],
    model: Annotated[
        str | None, _flag("--model", "Models to plan for [all]", rich_help_panel=_WHAT_IF)
    ] = None,
    sharing: Annotated[
        str,
        _flag("--sharing", "shared, pool:K, per-session [shared]", rich_help_panel=_WHAT_IF),
    ] = "shared",
    workers: Annotated[
        str, _flag("--workers", "Inferences at once [auto]", rich_help_panel=_WHAT_IF)
    ] = flags.AUTO,
    threads: Annotated[
        str,
        _flag("--threads-per-worker", "CPU threads of one [auto]", rich_help_panel=_WHAT_IF),
    ] = flags.AUTO,
    batch: Annotated[
        str, _flag("--max-batch", "Utterances in one [auto]", rich_help_panel=_WHAT_IF)
    ] = flags.AUTO,
    partials: Annotated[
        str, _flag("--partials", "adaptive, flat-out, off [adaptive]", rich_help_panel=_WHAT_IF)
    ] = "adaptive",
    partial_interval_ms: Annotated[
        str,
        _flag("--partial-interval-ms", "Audio between two [400]", rich_help_panel=_WHAT_IF),
    ] = "400",
    silence_ms: Annotated[
        str, _flag("--silence-ms", "Silence that ends a turn [auto]", rich_help_panel=_WHAT_IF)
    ] = flags.AUTO,
    gpus: Annotated[
        str, _flag("--gpus", "GPUs of one machine [1]", rich_help_panel=_WHAT_IF)
    ] = "1",
    delay_ms: Annotated[
        float, _flag("--delay-ms", "Transcription delay p95 to keep [500]", metavar="MS", min=50)
    ] = 500.0,
    partials_every_ms: Annotated[
        float, _flag("--texts-every-ms", "Median time between texts to keep [1500]", min=50)
    ] = 1500.0,
    scenario: Annotated[
        str, _flag("--scenario", "What people do: a scenario of rtvc loadtest [dictation]")
    ] = SCENARIO,
    cores: Annotated[
        int | None, _flag("--cores", "Of the machine [as it was measured on]", min=1, max=4096)
    ] = None,
    session_cpu: Annotated[
        float,
        _flag(
            "--session-cpu", "Cores each of 100 sessions takes beside its inferences", min=0, max=1
        ),
    ] = SESSION_CORES,
    beside_cpu: Annotated[
        float,
        _flag(
            "--beside-cpu", "Cores a load generator there takes for each of 100 [0]", min=0, max=1
        ),
    ] = 0.0,
    frame_ms: Annotated[
        float, _flag("--frame-ms", "Audio in a message of a client [20]", min=1, max=1000)
    ] = 20.0,
    users: Annotated[
        int | None,
        _flag("--users", "How many instances, and at what price", rich_help_panel=_FLEET, min=1),
    ] = None,
    refused: Annotated[
        str,
        _flag("--refused", "Part of the calls that may be [1%]", rich_help_panel=_FLEET),
    ] = "1%",
    calls_per_day: Annotated[
        float, _flag("--calls-per-day", "Of one user [1]", rich_help_panel=_FLEET)
    ] = 1.0,
    call_minutes: Annotated[
        float, _flag("--call-minutes", "Length of a call [5]", rich_help_panel=_FLEET)
    ] = 5.0,
    busy_hour: Annotated[
        str,
        _flag("--busy-hour", "Part of a day's calls in it [15%]", rich_help_panel=_FLEET),
    ] = "15%",
    routing: Annotated[
        str,
        _flag("--routing", "pooled (to whoever has room) or random [pooled]", metavar="HOW"),
    ] = "pooled",
    instance: Annotated[
        str | None, _flag("--instance", "Only these [all]", rich_help_panel=_FLEET)
    ] = None,
    instances: Annotated[
        Path | None,
        _flag("--instances", "TOML file of instances and prices", rich_help_panel=_FLEET),
    ] = None,
    price: Annotated[
        list[str] | None,
        _flag(
            "--price",
            f'Dollars an hour, NAME=USD ("{HERE}" for the one measured); repeatable',
            rich_help_panel=_FLEET,
        ),
    ] = None,
    speed: Annotated[
        list[str] | None,
        _flag(
            "--speed",
            "Times as fast as what was measured, NAME=TIMES; repeatable [by data sheet]",
            rich_help_panel=_FLEET,
        ),
    ] = None,
    beside: Annotated[
        list[str] | None,
        _flag("--beside", "NAME=RUN: a search for the capacity of that combination; repeatable"),
    ] = None,
    seed: Annotated[int, _flag("--seed", "Of all that is drawn [0]")] = 0,
    out: Annotated[
        Path | None, _flag("--out", "Folder [reports/runs/<time>-plan]", metavar="DIR")
    ] = None,
    as_json: Annotated[bool, _flag("--json", "Only JSON on stdout")] = False,
) -> None:
    """Predict what a server would hold, and how many instances so many users take.

    Simulates people, sessions and the server's own scheduler event by event, with inferences that
    take as long as a bench, or a run against rtvc serve, measured. What it assumes is printed.

    Exit code: 0, 2 wrong usage, 99 with --beside if a prediction is not within 15 % or one speaker
    of what was measured.
    """
    catalogue = load_instances(instances)
    sources, left_out = load_sources(runs)
    choices = _choices(
        sharing=sharing,
        workers=workers,
        threads=threads,
        batch=batch,
        partials=partials,
        interval=partial_interval_ms,
        silence=silence_ms,
        gpus=gpus,
    )
    aim = Aim(delay_ms / 1000, partials_every_ms / 1000)
    talk = replace(talk_of(load_scenario(scenario), seed=seed), message_s=frame_ms / 1000)
    world = World(
        talk, aim, cores=cores, session_cores=session_cpu, beside_cores=beside_cpu, seed=seed
    )
    market = None
    if users is not None:
        hour = flags.share(busy_hour, "--busy-hour", all_of_it=True)
        market = _market(
            catalogue,
            Demand(users, calls_per_day, 60 * call_minutes, hour),
            refused=flags.share(refused, "--refused"),
            routing=_routing(routing),
            only=flags.listed(instance or ""),
            prices=price or (),
            speeds=speed or (),
            seed=seed,
        )
    models = flags.listed(model or "")
    order = Order(
        sources=tuple(chosen(sources, models)),
        choices=choices,
        world=world,
        scenario=scenario,
        catalogue=catalogue,
        market=market,
        beside=flags.folders(beside or (), "--beside"),
        left_out=tuple(left_out),
    )
    raise typer.Exit(_run(order, out, SystemClock(), as_json=as_json))


def _choices(
    *,
    sharing: str,
    workers: str,
    threads: str,
    batch: str,
    partials: str,
    interval: str,
    silence: str,
    gpus: str,
) -> Choices:
    return Choices(
        sharings=flags.parse_each(sharing, "--sharing", flags.sharing),
        workers=flags.parse_each(workers, "--workers", flags.whole_or_auto),
        threads=flags.parse_each(threads, "--threads-per-worker", flags.whole_or_auto),
        batches=flags.parse_each(batch, "--max-batch", flags.whole_or_auto),
        partials=flags.parse_each(partials, "--partials", flags.partials),
        intervals_s=flags.parse_each(interval, "--partial-interval-ms", flags.interval_s),
        silences_s=flags.parse_each(silence, "--silence-ms", flags.silence_s),
        gpus=flags.parse_each(gpus, "--gpus", flags.whole),
    )


def _routing(text: str) -> Routing:
    if text == "pooled":
        return "pooled"
    if text == "random":
        return "random"
    raise UsageError(f"expected --routing pooled or random, got {text!r}")


def _market(
    catalogue: Catalogue,
    demand: Demand,
    *,
    refused: float,
    routing: Routing,
    only: Sequence[str],
    prices: Sequence[str],
    speeds: Sequence[str],
    seed: int,
) -> Market:
    """What was asked about fleets, checked."""
    check(demand)
    wanted = catalogue.only(only)
    names = [each.name for each in wanted.instances]
    usd = flags.numbers(prices, "--price", "USD", [*names, HERE])
    times = flags.numbers(speeds, "--speed", "TIMES", names)
    return Market(demand, wanted.priced(usd), refused, routing, times, usd.get(HERE), seed=seed)


def _run(order: Order, out: Path | None, clock: Clock, *, as_json: bool) -> int:
    folder = _free(out or default_folder(clock.utc()))
    manifest = new_manifest(invocation(), clock)
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, UNSEEN)
    with Progress(console, shown=console.is_terminal and not as_json) as progress:
        found = make_plan(order, clock, progress.told)
    page = keep(folder, found, manifest)
    if as_json:
        typer.echo(json.dumps(to_json(found), indent=2, allow_nan=False))
    else:
        console.print(plan_panel(found, terminal_width(console)))
        console.print(f"report: {page}", markup=False)
    return OFF_EXIT if found.agrees is False else 0


def _free(folder: Path) -> Path:
    """What somebody measured must not be overwritten by what is only worked out."""
    if (folder / MANIFEST_FILE).exists() and not is_plan(folder):
        raise UsageError(f"{folder} holds a run: expected --out to be another folder")
    return folder


def keep(folder: Path, found: Plan, manifest: Manifest) -> Path:
    """Write the folder of a plan; returns the page's path.

    Raises:
        RecordError: it cannot be written.
    """
    write_plan(folder, found)
    write_json(folder / MANIFEST_FILE, asdict(manifest))
    return write_plan_report(folder, found, manifest, png=True)


def default_folder(now: datetime) -> Path:
    """
    >>> default_folder(datetime(2026, 1, 2, 3, 4, 5)).as_posix()
    'reports/runs/20260102T030405Z-plan'
    """
    return Path("reports/runs") / f"{now:%Y%m%dT%H%M%SZ}-plan"
