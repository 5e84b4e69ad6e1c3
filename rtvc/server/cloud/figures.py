"""What the group is told of a server; pure.

EC2 Auto Scaling has a group of n instances grow to n × average ÷ target. The average is
CloudWatch's, over all that was published under the group's name; n counts the instances that are in
service and warm. It follows `DemandPerCapacity`: sessions and room for chance (`rtvc.demand`).
Who is not counted must not be averaged either:

- A server that is still loading holds nobody. Published, its 0 % would say that the group has room,
  just while callers are refused and it was launched for that.
- A server that is draining, or whose engine has failed, takes nobody. Its sessions end where they
  are, so nobody needs room for them elsewhere, and it is about to leave n (or it is back within
  moments). As it empties, its share would fall to 0 % and hide that the others fill up; 100 %
  instead would launch a machine for each one that stops.

- An instance on standby, or in a warm pool, is out of n and gets no callers.

They publish how many people they hold, and that they are not ready, and nothing that is averaged.
While an engine's process is replaced its sessions live on and it is back in seconds: it counts.

A server that stands aside counts as well, though /readyz says no: it is in service, so it is in n,
and it is ready again as soon as the group wants it. Without its share, which falls, the average
would be that of the others; multiplied with an n that has it in, it asks for more than there is
use for, and the group would grow and shrink by turns.

A server that refuses callers is full, whatever its capacity says: a machine that turns out weaker
than the one which was measured makes the group grow all the same.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from rtvc.demand import demand

Unit = Literal["Count", "Percent", "Seconds", "None"]

STANDBY = "standby"
"""A state beside those of /readyz: the server is ready, and its group leaves it out."""
_ABLE = frozenset(("ready", "aside"))
"""States of /readyz in which nothing is amiss."""
_COUNTS = _ABLE | {"restarting"}
"""States of /readyz in which a server is part of what the group holds."""
_FULL_PERCENT = 100.0
_HIGH_RESOLUTION_S = 1
"""CloudWatch's word for a metric that is kept by the second; the other is 60."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a server stands."""

    state: str
    """As /readyz has it, or `STANDBY`."""
    sessions: int
    """People in it."""
    max_sessions: int
    """Slots."""
    capacity: int | None = None
    """Sessions that a load test found the machine to hold; None: as many as there are slots."""
    headroom: float | None = None
    """Sessions that would still keep to the delay target; None: unknown."""
    closed: bool = False
    """Whether one session more would be refused."""
    boot_to_ready_s: float | None = None
    """From the launch of the instance until it was ready; None: not known, or not of this boot."""
    servers: int = 1
    """In service in its group, itself among them; 1: in none, or not known so far."""

    @property
    def holds(self) -> int:
        """Sessions: never more than there are slots."""
        return self.max_sessions if self.capacity is None else min(self.capacity, self.max_sessions)


@dataclass(frozen=True, slots=True)
class Figure:
    """One value."""

    name: str
    """Of the metric."""
    value: float
    """Now."""
    unit: Unit
    """CloudWatch's."""


def figures(standing: Standing) -> list[Figure]:
    """All that is published of it now.

    >>> [figure.name for figure in figures(Standing("loading", 0, 8))]
    ['Sessions', 'Ready', 'Aside']
    """
    found = [
        Figure("Sessions", standing.sessions, "Count"),
        Figure("Ready", float(standing.state in _ABLE), "None"),
        Figure("Aside", float(standing.state == "aside"), "Count"),
    ]
    if standing.state in _COUNTS:
        found += [
            Figure("Capacity", standing.holds, "Count"),
            Figure("Headroom", _headroom(standing), "Count"),
            Figure("SessionsPerCapacity", _percent(standing.sessions, standing), "Percent"),
            Figure("DemandPerCapacity", _percent(_demand(standing), standing), "Percent"),
        ]
    if standing.boot_to_ready_s is not None:
        found.append(Figure("BootToReady", standing.boot_to_ready_s, "Seconds"))
    return found


def _headroom(standing: Standing) -> int:
    """Callers who would find a place. An empty server takes one, whatever it thinks of itself."""
    if standing.closed or standing.state == "aside":
        return 0
    left = standing.holds - standing.sessions
    if standing.headroom is not None:
        left = min(left, math.floor(standing.headroom))
    return max(left, 0 if standing.sessions else 1)


def _demand(standing: Standing) -> float:
    return demand(standing.sessions, standing.servers)


def _percent(of: float, standing: Standing) -> float:
    """Of what it holds. May be more than 100: there can be more slots than that."""
    percent = 100 * of / standing.holds
    return max(percent, _FULL_PERCENT) if standing.closed else percent


def metric_data(
    found: Iterable[Figure], *, instance_id: str, group: str | None
) -> list[dict[str, Any]]:
    """As CloudWatch's PutMetricData wants it: each figure for the group, and for the instance.

    The first set has no other dimension, so that its average is one over instances.
    """
    dimensions = [("AutoScalingGroupName", group), ("InstanceId", instance_id)]
    return [
        {
            "MetricName": figure.name,
            "Dimensions": [{"Name": name, "Value": value}],
            "Value": float(figure.value),
            "Unit": figure.unit,
            "StorageResolution": _HIGH_RESOLUTION_S,
        }
        for name, value in dimensions
        if value is not None
        for figure in found
    ]
