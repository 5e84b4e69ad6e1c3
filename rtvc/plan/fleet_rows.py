"""Which instances, how many, at what price: a row for each kind that can be rented. Pure.

What one instance holds is simulated anew for each kind of GPU, with service times divided by how
many times as fast it is taken to be.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rtvc.plan.capacity import Found, find
from rtvc.plan.erlang import waiting
from rtvc.plan.fleet import Routing, count_calls, instances_for, refused_by
from rtvc.plan.instances import Catalogue, Gpu, Instance
from rtvc.plan.variants import MEMORY_SHARE, Question, Told, World, setup_of
from rtvc.results.plan import Demand, FleetRow, Variant

HERE = "this machine"
"""The one that was measured, beside those that can be rented."""

VCPU_SHARE = 0.7
"""Part of the vCPUs that sessions may take up; the rest is for feeding the GPU."""

SERVER_CORES = 1.0
"""Cores that the sessions of one server process take at most: its interpreter runs on one."""


@dataclass(frozen=True, slots=True)
class Market:
    """What is asked about fleets."""

    demand: Demand
    """Who calls."""
    catalogue: Catalogue
    """What can be rented."""
    refused: float = 0.01
    """Part of the calls that may be refused."""
    routing: Routing = "pooled"
    """Where a call goes."""
    speeds: Mapping[str, float] = field(default_factory=dict)
    """By name of an instance: times as fast as what was measured, as the user knows it."""
    here_usd: float | None = None
    """An hour of the machine that was measured; None: no price is known."""
    count: bool = True
    """Whether the busiest hour is also counted call by call."""
    seed: int = 0
    """Of the calls."""


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast an instance is taken to be."""

    times: float | None
    """As fast as what was measured; None: nothing is known."""
    basis: str
    """"measured", "given", "extrapolated", or why nothing is known."""


def fleet_rows(
    best: Variant,
    question: Question,
    world: World,
    market: Market,
    told: Told = lambda _name, _sessions: None,
) -> tuple[FleetRow, ...]:
    """For the variant that holds most: the cheapest fleet first, those without a price last."""
    per_gpu: dict[tuple[str, float], Found] = {}
    rows = [_here(best, question, market)]
    for instance in market.catalogue.instances:
        speed = speed_of(instance, question, market)
        found = None
        if speed.times is not None:
            key = (instance.gpu, speed.times)
            if key not in per_gpu:
                per_gpu[key] = _on_one_gpu(instance, speed.times, question, world, market, told)
            found = per_gpu[key]
        rows.append(_rented(instance, speed, found, world, market))
    return tuple(sorted(rows, key=_by_price))


def _by_price(row: FleetRow) -> tuple[bool, float]:
    price = row.fleet_usd_per_hour
    return price is None, price or 0.0


def speed_of(instance: Instance, question: Question, market: Market) -> Speed:
    """A ratio that the user gave goes first; from a CPU to a GPU none can be derived."""
    given = market.speeds.get(instance.name)
    if given is not None:
        return Speed(given, "given")
    source = question.source
    if not source.model.on_gpu:
        return Speed(None, "not known: measured on a CPU (bench on a GPU, or give --speed)")
    own = market.catalogue.gpu_called(source.gpu)
    if own is None:
        return Speed(None, f"not known: the data sheet of {source.gpu or 'its GPU'} is not listed")
    gpu = market.catalogue.gpus[instance.gpu]
    if gpu.name == own.name:
        return Speed(1.0, "measured")
    return Speed(gpu.speed_against(own), "extrapolated")


def _on_one_gpu(
    instance: Instance,
    times: float,
    question: Question,
    world: World,
    market: Market,
    told: Told,
) -> Found:
    """What one GPU of this kind holds, whatever else there is in the machine."""
    model = question.source.model
    faster = {threads: each.faster(times) for threads, each in model.times.items()}
    there = replace(
        question,
        source=replace(question.source, model=replace(model, times=faster, device="cuda")),
        wanted=replace(question.wanted, gpus=1),
    )
    # On a GPU the cores of the machine decide nothing of its inferences.
    setup = setup_of(there, replace(world, cores=instance.vcpus))
    limit = _fitting(market.catalogue.gpus[instance.gpu], question, world.limit)
    return find(setup, world.aim, limit=limit, told=lambda n: told(f"one {instance.gpu}", n))


def _fitting(gpu: Gpu, question: Question, limit: int) -> int:
    """Sessions at most, as far as the GPU's memory decides."""
    each = question.source.memory_bytes
    if not each or not question.source.model.on_gpu:
        return limit
    models = int(MEMORY_SHARE * gpu.memory_bytes) // each
    if question.wanted.sharing == "per-session":
        return min(limit, models)
    needed = question.wanted.pool if question.wanted.sharing == "pool" else 1
    return limit if models >= needed else 0


def _rented(
    instance: Instance, speed: Speed, found: Found | None, world: World, market: Market
) -> FleetRow:
    each: int | None = None
    limited_by: str | None = None
    if found is not None:
        each, limited_by = _whole(instance, found, world)
    return _row(
        FleetRow(
            instance=instance.name,
            gpu=instance.gpu,
            gpus=instance.gpus,
            speed=speed.times,
            basis=speed.basis,
            sessions_each=each,
            limited_by=limited_by,
            instances=None,
            refused=None,
            waiting=None,
            simulated_refused=None,
            usd_per_hour=instance.usd_per_hour,
        ),
        market,
    )


def _whole(instance: Instance, found: Found, world: World) -> tuple[int, str]:
    """Sessions of all its GPUs, one server on each, and what limits them."""
    bounds = [
        (instance.gpus * found.holds, "inference" if found.binding else "memory of the GPU"),
    ]
    if world.session_cores > 0:
        servers = instance.gpus * int(SERVER_CORES / world.session_cores)
        bounds += [
            (servers, "one server process"),
            (int(VCPU_SHARE * instance.vcpus / world.session_cores), "vCPUs"),
        ]
    return min(bounds, key=lambda bound: bound[0])


def _here(best: Variant, question: Question, market: Market) -> FleetRow:
    """The instance that was measured, as simulated for the table of variants."""
    source = question.source
    return _row(
        FleetRow(
            instance=HERE,
            gpu=source.gpu,
            gpus=best.gpus if source.model.on_gpu else 0,
            speed=1.0,
            basis="measured",
            sessions_each=best.holds,
            limited_by=best.binding or "nothing that was tried",
            instances=None,
            refused=None,
            waiting=None,
            simulated_refused=None,
            usd_per_hour=market.here_usd,
        ),
        market,
    )


def _row(row: FleetRow, market: Market) -> FleetRow:
    """The same with how many it takes."""
    demand, each = market.demand, row.sessions_each
    if not each:
        return row
    needed = instances_for(demand, each, market.refused, market.routing)
    if needed is None:
        return row
    counted = None
    if market.count:
        counted = count_calls(demand, needed, each, market.routing, seed=market.seed).refused_share
    return replace(
        row,
        instances=needed,
        refused=refused_by(demand, needed, each, market.routing),
        waiting=_waiting(demand, needed, each, market.routing),
        simulated_refused=counted,
    )


def _waiting(demand: Demand, instances: int, each: int, routing: Routing) -> float:
    if routing == "pooled":
        return waiting(instances * each, demand.erlangs)
    return waiting(each, demand.erlangs / instances)
