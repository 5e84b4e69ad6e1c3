"""From a question about a fleet to its days: simulated, compared, in words."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from rtvc.clock import Clock
from rtvc.plan.autoscaling import (
    AS_SET_UP,
    EVERY_S,
    Scene,
    Told,
    live,
    moments,
    otherwise,
    rows,
)
from rtvc.plan.day import Day, Spike
from rtvc.plan.scaling import SEEN_LATE_S, TICK_S
from rtvc.plan.scaling_fleet import Fleet
from rtvc.report.autoscaling_wording import sentence as said
from rtvc.report.autoscaling_wording import share, span
from rtvc.results.autoscaling import FleetRun

FILLED = 0.95
"""Part of the slots of the instances asked for that calls take at the busiest moment, on average:
chance fills the rest."""


@dataclass(frozen=True, slots=True)
class Order:
    """A fleet, as asked about."""

    scene: Scene
    """Who calls, what answers, by which numbers."""
    seeds: tuple[int, ...] = (0,)
    """A day each; at least one."""
    capacity_from: str = "as given"
    """Where the capacity comes from."""
    compare: bool = False
    """Whether the first day is also simulated as it would be otherwise."""


def day_of(
    instances: int,
    capacity: int,
    *,
    call_s: float = 300.0,
    spikes: Sequence[Spike] = (),
) -> Day:
    """A day whose busiest moment takes so many instances.

    >>> day_of(60, 10).peak_calls
    570.0
    """
    return Day(FILLED * instances * capacity, call_s=call_s, spikes=tuple(spikes))


def make_fleet_run(order: Order, clock: Clock, told: Told = lambda _name, _seed: None) -> FleetRun:
    """Simulate every day.

    Raises:
        UsageError: no service has such a day.
    """
    began_s = clock.now()
    scene, first, *more = order.scene, *order.seeds
    told(AS_SET_UP, first)
    lived = live(scene, AS_SET_UP, first, pack=True)
    days = [lived.row, *rows({AS_SET_UP: scene}, more, told)]
    others = rows(otherwise(scene), (first,), told) if order.compare else []
    run = FleetRun(
        sentence="",
        capacity=scene.fleet.capacity,
        capacity_from=order.capacity_from,
        policy=asdict(scene.policy),
        days=tuple(days),
        moments=moments(lived),
        every_s=EVERY_S,
        others=tuple(others),
        assumptions=tuple(assumptions(scene)),
        seconds=clock.now() - began_s,
    )
    return replace(run, sentence=said(run))


BALANCING = {
    "least": "to the instance with the fewest calls",
    "round-robin": "to one instance after the other",
    "fullest": "to the fullest instance that has room, as no load balancer of AWS does",
}

SCALE_IN = {
    "aside": "as many instances as are too many get no more calls, and go when they are empty",
    "idle": "an instance goes when it happens to be empty, and is protected until then",
    "drain": "any instance goes at once; calls that outlast the deregistration delay are cut",
}


def assumptions(scene: Scene) -> list[str]:
    """What all figures rest on, a line each."""
    day, fleet, policy = scene.day, scene.fleet, scene.policy
    lines = [
        f"{day.peak_calls:,.0f} calls at once at the busiest moment, on average; "
        f"{day.call_s / 60:g} min each, lengths {day.lengths}; they come at random (Poisson), more "
        "of them by day than by night",
        *(_spike(spike) for spike in day.spikes),
        f"an instance holds {fleet.capacity:,} calls, {span(fleet.boot_s)} after it was started",
        f"{fleet.least:,} to {fleet.most:,} instances; there are enough of them to be had",
        f"calls go {BALANCING[fleet.balancing]}{_retries(fleet)}; who finds no room is refused and "
        "does not come again",
        SCALE_IN[fleet.scale_in],
        f"servers publish {_figure(fleet)}, every {TICK_S} s",
        f"standing aside is seen by the load balancer after {SEEN_LATE_S} s",
        f"{span(policy.settling_s)} after it is ready an instance counts as there",
        f"a group is told to be larger after 3 periods of {policy.metric_period_s:g} s above the "
        f"target, and smaller after 15 min below {share(fleet.low)} of it, as AWS promises nowhere",
        "AWS goes by the instances that are in service and warm, and waits out the deregistration "
        "delay",
        "the least possible: the calls that were served, known beforehand, moved at will",
    ]
    return [line for line in lines if line]


def _figure(fleet: Fleet) -> str:
    room = ", with the square root of all calls as room for chance," if fleet.room else ""
    return f"their calls{room} in percent of what they hold"


def _retries(fleet: Fleet) -> str:
    return f", and to {fleet.retries} others if it is full" if fleet.retries else ""


def _spike(spike: Spike) -> str:
    hours, minutes = divmod(round(spike.at_s / 60), 60)
    return (
        f"{share(spike.share)} of these calls more from {hours:02d}:{minutes:02d} on, within "
        f"{span(spike.rise_s)} and for {span(spike.stay_s)}"
    )
