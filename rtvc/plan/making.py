"""From runs and questions to a plan: every combination simulated, the best one priced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from rtvc.clock import Clock
from rtvc.errors import UsageError
from rtvc.plan.assumptions import assumptions
from rtvc.plan.fleet_rows import Market, fleet_rows
from rtvc.plan.instances import Catalogue
from rtvc.plan.sources import Source, speech_lengths_of
from rtvc.plan.variants import Choices, Question, Told, World, answer, questions
from rtvc.record import Run, load_run
from rtvc.report.plan_wording import sentence
from rtvc.results.plan import FleetRow, Measured, Plan, Variant
from rtvc.slo import capacity, parse_objectives


@dataclass(frozen=True, slots=True)
class Order:
    """A plan, as asked for."""

    sources: tuple[Source, ...]
    """Whose inferences; at least one."""
    choices: Choices
    """What is asked about."""
    world: World
    """What all answers share."""
    scenario: str
    """Name of what people do."""
    catalogue: Catalogue
    """GPUs and instances that are known."""
    market: Market | None = None
    """None: no fleet is asked for."""
    beside: Mapping[str, Path] = field(default_factory=dict)
    """Runs of `loadtest --find-capacity`, by name of the variant they measured."""
    left_out: tuple[str, ...] = ()
    """What of the runs was of no use."""


@dataclass(frozen=True, slots=True)
class _Search:
    """A search for the capacity that a prediction is set beside."""

    measured: Measured
    """What it found."""
    speech_s: tuple[float, ...]
    """Lengths of what its speakers said; empty: its turns are not there."""


def make_plan(order: Order, clock: Clock, told: Told = lambda _name, _sessions: None) -> Plan:
    """Simulate, search, price.

    Raises:
        UsageError: too many combinations, or a run to be set beside one that was not asked about,
            or that is no search for the same.
        RecordError: it is no run.
    """
    began_s = clock.now()
    asked = questions(order.sources, order.choices)
    searches = _searches(order, asked)
    variants: list[Variant] = []
    for question in asked:
        search = searches.get(question.name)
        found = answer(question, _where(question, order, search), told)
        measured = None if search is None else search.measured
        variants.append(replace(found, measured=measured))
    best = max(range(len(asked)), key=lambda number: variants[number].holds)
    market = order.market
    fleet: tuple[FleetRow, ...] = ()
    if market is not None:
        there = _where(asked[best], order)
        fleet = fleet_rows(variants[best], asked[best], there, market, told)
    plan = Plan(
        sentence="",
        sources=tuple(dict.fromkeys(source.folder for source in order.sources)),
        delay_target_s=order.world.aim.delay_s,
        partial_target_s=order.world.aim.partial_interval_s,
        scenario=order.scenario,
        variants=tuple(variants),
        assumptions=(
            *assumptions(asked, order.world, market, order.left_out),
            *_people_of(searches),
        ),
        demand=None if market is None else market.demand,
        refused_target=None if market is None else market.refused,
        fleet=fleet,
        prices=str(order.catalogue.prices) if market is not None else None,
        seed=order.world.seed,
        seconds=clock.now() - began_s,
    )
    return replace(plan, sentence=sentence(plan))


def _where(question: Question, order: Order, search: _Search | None = None) -> World:
    """With the memory of the GPU that the source was measured on, and the people of the search:
    a prediction is compared with what the same people met.
    """
    world = order.world
    gpu = order.catalogue.gpu_called(question.source.gpu)
    if gpu is not None:
        world = replace(world, gpu_bytes=gpu.memory_bytes)
    if search is not None and search.speech_s:
        world = replace(world, talk=replace(world.talk, speech_s=search.speech_s))
    return world


def _people_of(searches: Mapping[str, _Search]) -> tuple[str, ...]:
    return tuple(
        f"{name}: utterances as long as those in {search.measured.folder}, "
        f"{fmean(search.speech_s):.2f} s on average"
        for name, search in searches.items()
        if search.speech_s
    )


def _searches(order: Order, asked: Sequence[Question]) -> dict[str, _Search]:
    by_name = {question.name: question for question in asked}
    found = {}
    for name, folder in order.beside.items():
        if name not in by_name:
            raise UsageError(
                f"expected --beside to name a combination ({'; '.join(by_name)}), got {name!r}"
            )
        run = load_run(folder)
        measured = measured_by(run)
        _check_alike(run, measured, by_name[name], order)
        found[name] = _Search(measured, speech_lengths_of(run))
    return found


def _check_alike(run: Run, measured: Measured, question: Question, order: Order) -> None:
    """A prediction is set beside what was measured of the same, or it proves nothing."""
    pairs = (
        ("target p95", measured.target_s, order.world.aim.delay_s),
        ("model", run.manifest.model, question.source.model_name or None),
        ("scenario", run.manifest.settings.get("scenario"), order.scenario),
    )
    for what, theirs, ours in pairs:
        if theirs is not None and ours is not None and theirs != ours:
            raise UsageError(
                f"{run.folder}: expected a search with the plan's {what} ({ours}), got {theirs}"
            )


def measured_by(run: Run) -> Measured:
    """What a search for the capacity found.

    Raises:
        UsageError: the run was no search.
    """
    if not run.steps:
        raise UsageError(
            f"{run.folder}: expected a run of `rtvc loadtest --find-capacity`, got a run without "
            f"steps: `{run.manifest.command}`"
        )
    said = capacity(run.steps)
    delays = [
        objective.target
        for objective in parse_objectives(run.manifest.targets)
        if objective.metric == "transcription_delay"
    ]
    return Measured(
        folder=run.folder.resolve().name,
        holds=said.holds,
        fails_at=said.fails_at,
        target_s=min(delays, default=None),
    )
