"""A day of an EC2 Auto Scaling group, call by call, under the policy that Terraform sets up. Pure.

    calls ─▶ balancer ─▶ instances ─ sessions ÷ capacity ─▶ target tracking ─▶ instances wanted
                             ▲                                                        │
                             └──────── start · stand aside · take away ───────────────┘

Time is virtual: a day takes a second or some. docs/autoscaling.md says what of AWS's part is
documented and what is assumed.
"""

import heapq
import math
from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from itertools import count

from rtvc.plan.balancing import Balancer, Target
from rtvc.plan.clairvoyant import Span, within_the_day
from rtvc.plan.day import DAY_S, LEAD_S, Call
from rtvc.plan.policy import Policy
from rtvc.plan.scaling_fleet import Fleet
from rtvc.plan.target_tracking import Group, TargetTracking
from rtvc.surplus import Member, standing_aside

TICK_S = 10
"""Servers publish, alarms are looked at, instances come and go."""

LOOKED_S = 30
"""Servers ask for the group's size so often: so long after it was told to be smaller, all know."""

SEEN_LATE_S = LOOKED_S + 20
"""The load balancer asks for their health twice in 20 s: so long, who stands aside gets calls."""

ZONES = 3
"""Of the group, one after the other."""

NOBODY: frozenset[int] = frozenset()


@dataclass(slots=True)
class Tally:
    """What came of it, within the day."""

    calls: int = 0
    """That came."""
    refused_at_s: list[float] = field(default_factory=list)
    """Instants at which nobody had room."""
    waits_s: list[float] = field(default_factory=list)
    """After which somebody had, for each of these; infinite: not that day."""
    cut: int = 0
    """Calls that scale-in ended."""
    served: list[Call] = field(default_factory=list)
    """Calls that were not refused, those from before the day as well."""
    spans: list[Span] = field(default_factory=list)
    """When each instance was paid."""
    wanted: list[int] = field(default_factory=list)
    """At each tick."""
    aside: list[int] = field(default_factory=list)
    """Instances that get no more calls, at each tick."""


@dataclass(slots=True, eq=False)
class Instance(Target):
    """One of the group."""

    from_s: float = 0.0
    """It was started."""
    ready: bool = False
    """Whether it can hold calls."""
    empty_from_s: float = math.inf
    """Since then it has had no call; infinite: it has one, or is not ready."""
    ends_s: float = math.inf
    """It is being taken away, until then; infinite: it is not."""

    def member(self, idle: Container[int]) -> Member:
        """As all others see it; `idle`: numbers of those that are not protected."""
        protected = self.number not in idle
        return Member(f"i-{self.number:06d}", protected, zone=str(self.number % ZONES))


def number_of(name: str) -> int:
    """
    >>> number_of(Instance(7).member(idle=()).name)
    7
    """
    return int(name.removeprefix("i-"))


class Scaling:
    """The group, the balancer, and the policy that moves them."""

    def __init__(self, fleet: Fleet, policy: Policy, wanted: int) -> None:
        self._fleet, self._policy = fleet, policy
        self.tally = Tally()
        self._balancer = Balancer[Instance](fleet.balancing, fleet.capacity, fleet.retries)
        self._tracking = TargetTracking(
            policy.target_percent,
            period_s=policy.metric_period_s,
            sample_s=TICK_S,
            least=fleet.least,
            most=fleet.most,
            wanted=wanted,
        )
        self._group: dict[int, Instance] = {}
        self._leaving: list[Instance] = []
        self._numbers = count()
        self._ends: list[tuple[float, int, Instance]] = []
        self._order = count()
        self._unserved_since_s: list[float] = []
        ticks = 1 + SEEN_LATE_S // TICK_S
        self._named: deque[frozenset[int]] = deque([NOBODY] * ticks, ticks)
        self._aside = NOBODY
        self._asked: tuple[object, ...] = ()
        self._answer = NOBODY
        # Nobody waits for the first ones: they have been there for long.
        self._start(wanted, -LEAD_S - max(fleet.boot_s, policy.warm_up_s))
        self._get_ready(-LEAD_S)

    # Calls.

    def arrive(self, call: Call) -> None:
        """Somebody calls; whoever hung up before has made room."""
        self._end_calls(call.at_s)
        self.tally.calls += call.at_s >= 0
        instance = self._taken()
        if instance is not None:
            instance.empty_from_s = math.inf
            self.tally.served.append(call)
            heapq.heappush(self._ends, (call.at_s + call.length_s, next(self._order), instance))
        elif call.at_s >= 0:
            self.tally.refused_at_s.append(call.at_s)
            self._unserved_since_s.append(call.at_s)

    def _taken(self) -> Instance | None:
        """Where the call goes; None: nobody takes it."""
        instance = self._balancer.take()
        if instance is None or not self._fleet.aside_refuses:
            return instance
        knows_for_ticks = (SEEN_LATE_S - LOOKED_S) // TICK_S
        if instance.number not in self._named[knows_for_ticks]:
            return instance
        self._balancer.give_back(instance)
        return None

    def _end_calls(self, now_s: float) -> None:
        while self._ends and self._ends[0][0] <= now_s:
            at_s, _, instance = heapq.heappop(self._ends)
            if instance.calls == 0:
                # Scale-in ended it before.
                continue
            self._balancer.give_back(instance)
            if instance.calls == 0:
                instance.empty_from_s = at_s
            self._serve_whoever_waits(at_s)

    def _serve_whoever_waits(self, now_s: float) -> None:
        """They were refused; now they would have found room."""
        if self._unserved_since_s and self._balancer.has_room:
            self.tally.waits_s += [now_s - since_s for since_s in self._unserved_since_s]
            self._unserved_since_s.clear()

    # The group.

    def tick(self, now_s: float) -> None:
        """Everything that is looked at every few seconds."""
        self._end_calls(now_s)
        self._get_ready(now_s)
        self._end_instances(now_s)
        wanted = self._tracking.sample(self._percent(), self._as_seen(now_s))
        self._start(wanted - len(self._group), now_s)
        surplus = len(self._group) - wanted
        for instance in self._chosen(surplus, now_s):
            self._take_away(instance, now_s)
        if now_s >= 0:
            self.tally.wanted.append(wanted)
            self.tally.aside.append(len(self._aside))

    def _start(self, more: int, now_s: float) -> None:
        for _ in range(more):
            instance = Instance(next(self._numbers), from_s=now_s)
            self._group[instance.number] = instance

    def _get_ready(self, now_s: float) -> None:
        for instance in self._group.values():
            if not instance.ready and now_s - instance.from_s >= self._fleet.boot_s:
                instance.ready, instance.empty_from_s = True, now_s
                if instance.number not in self._aside:
                    self._balancer.open(instance)
                    self._serve_whoever_waits(now_s)

    def _percent(self) -> float | None:
        """Of all that say something, on average."""
        calls = [
            instance.calls
            for instance in self._group.values()
            if instance.open or (instance.ready and self._fleet.aside_says)
        ]
        return 100 * sum(calls) / (len(calls) * self._fleet.capacity) if calls else None

    def _as_seen(self, now_s: float) -> Group:
        warm_up_s = self._policy.warm_up_s
        warming = sum(now_s - each.from_s < warm_up_s for each in self._group.values())
        there = self._tracking.wanted if self._fleet.by_wanted else len(self._group)
        return Group(settled=there - warming, warming=warming)

    # Scale-in.

    def _chosen(self, surplus: int, now_s: float) -> list[Instance]:
        """Who is taken away now."""
        if self._fleet.scale_in == "drain":
            return list(self._group.values())[: max(surplus, 0)]
        if self._fleet.scale_in == "idle":
            return self._unprotected(self._group, now_s)[: max(surplus, 0)]
        self._stand_aside(surplus, now_s)
        both = self._aside & self._named[-1]
        return self._unprotected(both, now_s)[: max(surplus, 0)]

    def _unprotected(self, numbers: Iterable[int], now_s: float) -> list[Instance]:
        """Those without a call for long enough."""
        idle_s = self._policy.idle_before_unprotected_s
        some = [self._group[number] for number in sorted(numbers)]
        return [each for each in some if now_s - each.empty_from_s >= idle_s]

    def _stand_aside(self, surplus: int, now_s: float) -> None:
        """Who is too many is named at once; what follows is seen a while later."""
        self._named.append(self._too_many(now_s) if surplus > 0 else NOBODY)
        aside = self._named[0].intersection(self._group)
        for number in sorted(aside - self._aside):
            if self._group[number].open:
                self._balancer.close(self._group[number])
        for number in sorted((self._aside - aside).intersection(self._group)):
            if self._group[number].ready:
                self._balancer.open(self._group[number])
                self._serve_whoever_waits(now_s)
        self._aside = aside

    def _too_many(self, now_s: float) -> frozenset[int]:
        """As the servers of those in service work it out; only who stands aside is given free."""
        aside = self._aside.intersection(self._group)
        idle = [each.number for each in self._unprotected(aside, now_s)]
        there = tuple(each.number for each in self._group.values() if each.ready)
        asked = (self._tracking.wanted, tuple(idle), there)
        if asked != self._asked:
            members = [self._group[number].member(idle) for number in there]
            names = standing_aside(members, self._tracking.wanted)
            self._asked, self._answer = asked, frozenset(map(number_of, names))
        return self._answer

    def _take_away(self, instance: Instance, now_s: float) -> None:
        """No longer of the group, but paid until the load balancer lets go of it."""
        del self._group[instance.number]
        if instance.open:
            self._balancer.close(instance)
        instance.ends_s = now_s + self._policy.deregistration_delay_s
        self._leaving.append(instance)

    def _end_instances(self, now_s: float) -> None:
        for instance in [each for each in self._leaving if self._is_over(each, now_s)]:
            self._leaving.remove(instance)
            self.tally.cut += instance.calls
            instance.calls = 0
            self._pay(instance, now_s)

    def _is_over(self, instance: Instance, now_s: float) -> bool:
        early = self._fleet.ends_when_empty and instance.calls == 0
        return early or now_s >= instance.ends_s

    def _pay(self, instance: Instance, until_s: float) -> None:
        span = within_the_day(instance.from_s, until_s)
        if span is not None:
            self.tally.spans.append(span)

    def end(self) -> Tally:
        """The day is over."""
        for instance in [*self._group.values(), *self._leaving]:
            self._pay(instance, DAY_S)
        self.tally.waits_s += [math.inf] * len(self._unserved_since_s)
        return self.tally


def run_day(calls: Iterable[Call], fleet: Fleet, policy: Policy, wanted: int) -> Tally:
    """The day of these calls; `wanted`: instances when they begin."""
    scaling = Scaling(fleet, policy, wanted)
    tick_s = -LEAD_S
    for call in calls:
        while tick_s <= call.at_s:
            scaling.tick(tick_s)
            tick_s += TICK_S
        scaling.arrive(call)
    while tick_s < DAY_S:
        scaling.tick(tick_s)
        tick_s += TICK_S
    return scaling.end()
