"""Whether this instance is to end, and how long its sessions may go on; pure.

EC2 Auto Scaling first takes an instance that is to end from its load balancer. When that has let
go of it (its last connection gone, or the deregistration delay over), the lifecycle hook keeps it
for a while. Its metadata says `Terminated` from the beginning of all that, so that the server
drains while the load balancer waits.
"""

from dataclasses import dataclass
from datetime import datetime

from rtvc.server.cloud.instance import SpotNotice

SPOT_S = 110.0
"""Of the two minutes that EC2 gives a spot instance."""
MARGIN_S = 10.0
"""For the finals of those who still speak at the deadline, and for their close frames."""
LATE_S = 30.0
"""The load balancer may have begun so long before the end was seen, at worst."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What was seen."""

    target_state: str | None = None
    """Where the group leads the instance; None: it is in no group."""
    spot: SpotNotice | None = None
    """EC2 takes it back; None: it has not said so."""
    terminating: bool = False
    """EC2 Auto Scaling said so when it was asked for something else."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The instance is to end."""

    why: str
    """For the log."""
    deadline_s: float
    """From now on, for sessions to finish."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long others leave an instance that is to end."""

    hook_s: float | None
    """The lifecycle hook; None: there is none, or none is known."""
    balancer_s: float | None
    """The load balancer, whose connections it cuts then; None: for as long as they last."""
    otherwise_s: float
    """What sessions have where there is no hook."""

    @property
    def sessions_s(self) -> float:
        """What sessions have.

        >>> Times(600.0, None, 30.0).sessions_s, Times(3600.0, 300.0, 30.0).sessions_s
        (590.0, 260.0)
        """
        deadline_s = self.otherwise_s if self.hook_s is None else self.hook_s - MARGIN_S
        if self.balancer_s is not None:
            deadline_s = min(deadline_s, self.balancer_s - MARGIN_S - LATE_S)
        return max(0.0, deadline_s)


def leave(signs: Signs, utc: datetime, times: Times) -> Leave | None:
    """What the signs say; None: nothing of the sort."""
    found = []
    if signs.spot is not None:
        # Instants of two clocks; both are set by the same service, and seconds will do.
        left_s = (signs.spot.at - utc).total_seconds() - MARGIN_S
        why = f"EC2 takes this spot instance back (to {signs.spot.action} it)"
        found.append(Leave(why, max(0.0, min(left_s, SPOT_S))))
    if signs.terminating or ends(signs.target_state):
        found.append(Leave("the Auto Scaling group ends this instance", times.sessions_s))
    return min(found, key=lambda one: one.deadline_s, default=None)


def uncounted(target_state: str | None) -> bool:
    """Whether the instance lives on, and its group neither counts it nor sends it callers.

    >>> uncounted("Standby"), uncounted("Warmed:Running"), uncounted("InService"), uncounted(None)
    (True, True, False, False)
    """
    if target_state is None:
        return False
    return target_state in ("Standby", "Detached") or target_state.startswith("Warmed:")


def ends(target_state: str | None) -> bool:
    """Whether the group gets rid of the instance.

    >>> ends("Terminated"), ends("Warmed:Terminated"), ends("Standby"), ends(None)
    (True, True, False, False)
    """
    return target_state is not None and target_state.endswith("Terminated")


class Departure:
    """The instant by which the server has to be gone: only ever sooner than was said before.

    >>> departure = Departure()
    >>> departure.sooner(100.0, 60.0), departure.sooner(105.0, 60.0), departure.sooner(110.0, 20.0)
    (True, False, True)
    """

    def __init__(self) -> None:
        self.by_s: float | None = None
        """On the server's clock; None: it stays."""

    def sooner(self, now_s: float, deadline_s: float) -> bool:
        """Whether this is news."""
        by_s = now_s + deadline_s
        if self.by_s is not None and by_s > self.by_s - 1:
            return False
        self.by_s = by_s
        return True
