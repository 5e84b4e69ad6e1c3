"""What answers calls: instances, and how they come and go. Records only."""

from dataclasses import dataclass
from typing import Literal

from rtvc.plan.balancing import Balancing
from rtvc.plan.target_tracking import LOWER

ScaleIn = Literal["aside", "idle", "drain"]
"""How an instance goes. "aside": as many as are too many get no more calls, and go when they are
empty. "idle": whichever happens to be empty goes. "drain": any is taken at once and gets no more
calls; those that outlast the deregistration delay are cut."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is there beside the policy."""

    capacity: int
    """Sessions that an instance holds."""
    boot_s: float
    """From its start to its first call."""
    least: int = 2
    """Instances at any time."""
    most: int = 100
    """Instances at any time."""
    balancing: Balancing = "least"
    """Where a call goes."""
    retries: int = 0
    """Other instances that a call is offered to that met a full one."""
    nodes: int = 1
    """Parts of a load balancer that counts, each of which knows only the calls that it gave."""
    scale_in: ScaleIn = "aside"
    """How an instance goes."""
    low: float = LOWER
    """Part of the target below which AWS takes instances away."""
    low_by_period: bool = False
    """Whether AWS then looks at each period of the metric, and not at whole minutes."""
    heard_late_s: float = 0.0
    """Until AWS has done as a figure says."""
    by_wanted: bool = False
    """Whether AWS computes with the number wanted, and not with that of the instances there are."""
    room: bool = True
    """Whether the figure has room for chance in it (`rtvc.demand`), or sessions alone."""
    aside_says: bool = True
    """Whether an instance that stands aside goes on to publish its figure."""
    aside_refuses: bool = False
    """Whether an instance that stands aside refuses callers before the balancer has noticed."""
    ends_when_empty: bool = False
    """Whether an instance that is taken away and has no call goes at once; users say that AWS waits
    for the deregistration delay."""
