"""Days of a fleet, simulated, beside the fewest instances that anybody could have paid. Pure."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from rtvc.demand import demand
from rtvc.plan.clairvoyant import Paid, lower_bound, packed
from rtvc.plan.day import DAY_S, LEAD_S, Day, calls
from rtvc.plan.policy import Policy
from rtvc.plan.scaling import TICK_S, run_day
from rtvc.plan.scaling_fleet import Fleet
from rtvc.plan.scaling_instance import Tally
from rtvc.results.autoscaling import DayRow, Moment

EVERY_S = 300.0
"""Length of a moment."""

AS_SET_UP = "as set up"

Told = Callable[[str, int], None]
"""Hears of a day's name and seed before it is simulated."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Who calls, what answers, and by which numbers it grows."""

    day: Day
    """Who calls."""
    fleet: Fleet
    """What there is."""
    policy: Policy
    """When it grows and shrinks."""

    @property
    def wanted_at_first(self) -> int:
        """Instances that the policy keeps for as many calls as come when all begins."""
        at_once = round(self.day.share_at(-LEAD_S) * self.day.peak_calls)
        asked = demand(at_once, 1) if self.fleet.room else at_once
        held = self.fleet.capacity * self.policy.target_percent / 100
        return min(max(math.ceil(asked / held), self.fleet.least), self.fleet.most)


@dataclass(frozen=True, slots=True)
class Lived:
    """A day that was simulated."""

    row: DayRow
    """In figures."""
    tally: Tally
    """Call by call."""
    bound: Paid
    """The fewest instances."""


def live(scene: Scene, name: str, seed: int, *, pack: bool = False) -> Lived:
    """Simulate one day; `pack`: also what somebody would pay who knew it and could not do magic.

    Raises:
        UsageError: no service has such a day.
    """
    tally = run_day(calls(scene.day, seed), scene.fleet, scene.policy, scene.wanted_at_first)
    capacity, boot_s = scene.fleet.capacity, scene.fleet.boot_s
    bound = lower_bound(tally.served, capacity, boot_s)
    known = packed(tally.served, capacity, boot_s) if pack else None
    row = DayRow(
        name=name,
        seed=seed,
        calls=tally.calls,
        refused=len(tally.refused_at_s),
        cut=tally.cut,
        instance_s=Paid(tuple(tally.spans)).instance_s,
        bound_s=bound.instance_s,
        packed_s=None if known is None else known.instance_s,
        most=max(tally.wanted),
        least=min(tally.wanted),
        wait_p50_s=median(tally.waits_s) if tally.waits_s else None,
        wait_max_s=max(tally.waits_s, default=None),
    )
    return Lived(row, tally, bound)


def moments(lived: Lived, every_s: float = EVERY_S) -> tuple[Moment, ...]:
    """The day in stretches."""
    tally = lived.tally
    there = Paid(tuple(tally.spans)).counts(every_s)
    fewest = lived.bound.counts(every_s)
    at_once = Paid(tuple((c.at_s, c.at_s + c.length_s) for c in tally.served)).counts(every_s)
    taken = _by_stretch((call.at_s for call in tally.served), every_s)
    refused = _by_stretch(tally.refused_at_s, every_s)
    ticks = int(every_s // TICK_S)
    return tuple(
        Moment(
            at_s=number * every_s,
            arrivals=taken[number] + refused[number],
            refused=refused[number],
            calls=at_once[number],
            instances=there[number],
            wanted=tally.wanted[number * ticks],
            aside=tally.aside[number * ticks],
            optimum=fewest[number],
        )
        for number in range(int(DAY_S // every_s))
    )


def _by_stretch(instants_s: Iterable[float], every_s: float) -> list[int]:
    counts = [0] * int(DAY_S // every_s)
    for at_s in instants_s:
        if 0 <= at_s < DAY_S:
            counts[int(at_s // every_s)] += 1
    return counts


# As it would be otherwise.


def otherwise(scene: Scene) -> dict[str, Scene]:
    """By name: the same day with one thing changed, or with what belongs together."""
    fleet, policy = scene.fleet, scene.policy

    def there(**changes: Any) -> Scene:
        return replace(scene, fleet=replace(fleet, **changes))

    hour = replace(policy, deregistration_delay_s=3600.0)
    any_goes = replace(fleet, scale_in="drain")
    return {
        "a balancer that packs": there(balancing="fullest"),
        "round robin": there(balancing="round-robin"),
        "round robin, three more tried": there(balancing="round-robin", retries=3),
        "protected while there are calls, nothing else": there(scale_in="idle"),
        "the same with a balancer that packs": there(scale_in="idle", balancing="fullest"),
        "any instance goes": replace(scene, fleet=any_goes),
        "any instance goes, an hour's delay": replace(scene, fleet=any_goes, policy=hour),
        "the same, gone when empty": replace(
            scene, fleet=replace(any_goes, ends_when_empty=True), policy=hour
        ),
        "an hour's delay": replace(scene, policy=hour),
        "sessions alone are published": there(room=False),
        "who stands aside is not averaged": there(aside_says=False),
        "who stands aside refuses at once": there(aside_refuses=True),
        "a metric by the minute": replace(scene, policy=replace(policy, metric_period_s=60)),
        "no time to settle": replace(
            scene, policy=replace(policy, warm_up_s=policy.boot_s_assumed)
        ),
        "a boot of 1 min": there(boot_s=60.0),
        "a boot of 6 min": there(boot_s=360.0),
        **unsaid(scene),
    }


def unsaid(scene: Scene) -> dict[str, Scene]:
    """By name: the same day where AWS does otherwise than is assumed, and promises neither."""

    def aws(**does: Any) -> Scene:
        return replace(scene, fleet=replace(scene.fleet, **does))

    return {
        "AWS: fewer below 70 % of the target": aws(low=0.7),
        "AWS: the low alarm looks at each period": aws(low_by_period=True),
        "AWS: done as a figure says 30 s later": aws(heard_late_s=30.0),
        "AWS: goes by the number wanted": aws(by_wanted=True),
        "AWS: three nodes balance, each by itself": aws(nodes=3),
        "AWS: gone when empty": aws(ends_when_empty=True),
    }


def rows(
    scenes: dict[str, Scene], seeds: Sequence[int], told: Told = lambda _name, _seed: None
) -> list[DayRow]:
    """Each of them on each day."""
    found = []
    for name, scene in scenes.items():
        for seed in seeds:
            told(name, seed)
            found.append(live(scene, name, seed).row)
    return found
