"""A day of an EC2 Auto Scaling group, call by call, under the policy that Terraform sets up. Pure.

    calls ─▶ balancer ─▶ instances ── demand ÷ capacity ──▶ target tracking ─▶ instances wanted
                             ▲                                                        │
                             └──────── start · stand aside · take away ───────────────┘

Time is virtual: a day takes a second or some. docs/autoscaling.md says what of AWS's part is
documented and what is assumed.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from itertools import count

from rtvc.demand import demand
from rtvc.plan.balancing import Balancer
from rtvc.plan.clairvoyant import within_the_day
from rtvc.plan.day import DAY_S, LEAD_S, Call
from rtvc.plan.policy import Policy
from rtvc.plan.scaling_fleet import Fleet
from rtvc.plan.scaling_instance import Instance, Tally, number_of
from rtvc.plan.target_tracking import MINUTE_S, Group, TargetTracking
from rtvc.surplus import standing_aside

TICK_S = 10
"""Servers publish, alarms are looked at, instances come and go."""

LOOKED_S = 30
"""Servers ask for the group's size so often: so long after it was told to be smaller, all know."""

SEEN_LATE_S = LOOKED_S + 20
"""The load balancer asks for their health twice in 20 s: so long, who stands aside gets calls."""

SHUT_LATE_S = 2 * LOOKED_S
"""The look after that has a server let in nobody, and its next one has the group end it."""

NOBODY: frozenset[int] = frozenset()


class Scaling:
    """The group, the balancer, and the policy that moves them."""

    def __init__(self, fleet: Fleet, policy: Policy, wanted: int) -> None:
        self._fleet, self._policy = fleet, policy
        self.tally = Tally()
        nodes = fleet.nodes if fleet.balancing == "least" else 1
        self._balancer = Balancer[Instance](fleet.balancing, fleet.capacity, fleet.retries, nodes)
        self._tracking = TargetTracking(
            policy.target_percent,
            period_s=policy.metric_period_s,
            sample_s=TICK_S,
            least=fleet.least,
            most=fleet.most,
            wanted=wanted,
            low=fleet.low,
            low_period_s=policy.metric_period_s if fleet.low_by_period else MINUTE_S,
        )
        late = 1 + int(fleet.heard_late_s // TICK_S)
        self._heard: deque[float | None] = deque([None] * late, late)
        self._group: dict[int, Instance] = {}
        self._leaving: list[Instance] = []
        self._numbers = count()
        self._ends: list[tuple[float, int, Instance, int]] = []
        self._unserved_since_s: list[float] = []
        ticks = 1 + SEEN_LATE_S // TICK_S
        self._named: deque[frozenset[int]] = deque([NOBODY] * ticks, ticks)
        self._aside = NOBODY
        self._asked: tuple[object, ...] = ()
        self._answer = NOBODY
        # Nobody waits for the first ones: they have been there for long.
        self._start(wanted, -LEAD_S - fleet.boot_s - TICK_S)
        self._get_ready(-LEAD_S, settling_s=0.0)

    # Calls.

    def arrive(self, call: Call) -> None:
        """Somebody calls; whoever hung up before has made room."""
        self._end_calls(call.at_s)
        self.tally.calls += call.at_s >= 0
        instance = self._taken()
        if instance is not None:
            instance.empty_from_s = math.inf
            ends = (call.at_s + call.length_s, len(self.tally.served), instance)
            heapq.heappush(self._ends, (*ends, self._balancer.node))
            self.tally.served.append(call)
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
        self._balancer.give_back(instance, self._balancer.node)
        return None

    def _end_calls(self, now_s: float) -> None:
        while self._ends and self._ends[0][0] <= now_s:
            at_s, _, instance, node = heapq.heappop(self._ends)
            if instance.calls == 0:
                # Scale-in ended it before.
                continue
            self._balancer.give_back(instance, node)
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
        self._get_ready(now_s, self._policy.settling_s)
        self._end_instances(now_s)
        self._heard.append(self._percent())
        wanted = self._tracking.sample(self._heard[0], self._as_seen(now_s))
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

    def _get_ready(self, now_s: float, settling_s: float) -> None:
        for instance in self._group.values():
            if not instance.ready and now_s - instance.from_s >= self._fleet.boot_s:
                instance.ready, instance.empty_from_s = True, now_s
                instance.settled_from_s = now_s + settling_s
                if instance.number not in self._aside:
                    self._balancer.open(instance)
                    self._serve_whoever_waits(now_s)

    def _percent(self) -> float | None:
        """Of all that say something, on average."""
        ready = [instance for instance in self._group.values() if instance.ready]
        calls = [each.calls for each in ready if each.open or self._fleet.aside_says]
        if not calls:
            return None
        asked = sum(demand(n, len(ready)) for n in calls) if self._fleet.room else sum(calls)
        return 100 * asked / (len(calls) * self._fleet.capacity)

    def _as_seen(self, now_s: float) -> Group:
        warming = sum(now_s < each.settled_from_s for each in self._group.values())
        if self._fleet.by_wanted:
            return Group(settled=self._tracking.wanted - warming, warming=warming)
        settled = len(self._group) - warming
        return Group(settled=settled, warming=warming, leaving=len(self._leaving))

    # Scale-in.

    def _chosen(self, surplus: int, now_s: float) -> list[Instance]:
        """Who is taken away now."""
        if self._fleet.scale_in == "drain":
            return list(self._group.values())[: max(surplus, 0)]
        if self._fleet.scale_in == "idle":
            return self._empty(now_s)[: max(surplus, 0)]
        self._stand_aside(surplus, now_s)
        # Its server has the group end it at the look after the one that found it given free.
        both = self._free(self._aside & self._named[-1], now_s - LOOKED_S)
        return [self._group[number] for number in both[: max(surplus, 0)]]

    def _empty(self, now_s: float) -> list[Instance]:
        """Those without a call for long enough."""
        idle_s = self._policy.idle_before_unprotected_s
        return [each for each in self._group.values() if now_s - each.empty_from_s >= idle_s]

    def _free(self, aside: Iterable[int], now_s: float) -> list[int]:
        """Those of them that are not protected any more."""
        idle_s = self._policy.idle_before_unprotected_s
        return [n for n in sorted(aside) if self._group[n].free_from_s(idle_s) <= now_s]

    def _stand_aside(self, surplus: int, now_s: float) -> None:
        """Who is too many is named at once; what follows is seen a while later."""
        self._named.append(self._too_many(now_s) if surplus > 0 else NOBODY)
        aside = self._named[0].intersection(self._group)
        for number in sorted(aside - self._aside):
            self._group[number].shut_from_s = now_s + SHUT_LATE_S - SEEN_LATE_S
            if self._group[number].open:
                self._balancer.close(self._group[number])
        for number in sorted((self._aside - aside).intersection(self._group)):
            self._group[number].shut_from_s = math.inf
            if self._group[number].ready:
                self._balancer.open(self._group[number])
                self._serve_whoever_waits(now_s)
        self._aside = aside

    def _too_many(self, now_s: float) -> frozenset[int]:
        """As the servers of those in service work it out; only who stands aside is given free."""
        idle = self._free(self._aside.intersection(self._group), now_s)
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
            self._cut(instance, now_s)
            self._pay(instance, now_s)

    def _cut(self, instance: Instance, now_s: float) -> None:
        """Whoever still talks there has talked until now."""
        if not instance.calls:
            return
        self.tally.cut += instance.calls
        instance.calls = 0
        for _, number, whose, _ in self._ends:
            if whose is instance:
                call = self.tally.served[number]
                self.tally.served[number] = replace(call, length_s=now_s - call.at_s)

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
