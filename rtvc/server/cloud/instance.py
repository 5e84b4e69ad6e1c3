"""What is known of the machine: who it is, its group, and the notice it was given."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Identity:
    """An EC2 instance."""

    instance_id: str
    """Such as i-0123456789abcdef0."""
    type: str
    """Such as g6.xlarge."""
    zone: str
    """Such as eu-west-1a."""
    region: str
    """Such as eu-west-1."""
    launched_at: datetime | None = None
    """When EC2 launched it, to the second; None: it does not say."""

    def to_wire(self, group: str | None) -> dict[str, Any]:
        """As /readyz shows it; `group` None: it is in none, or in none that is known."""
        return {
            "provider": "aws",
            "id": self.instance_id,
            "type": self.type,
            "zone": self.zone,
            "region": self.region,
            "group": group,
        }


@dataclass(frozen=True, slots=True)
class Member:
    """An instance as EC2 Auto Scaling has it."""

    group: str
    """Its Auto Scaling group."""
    state: str
    """Of its life, such as InService or Terminating:Wait."""
    protected: bool
    """Whether a scale-in leaves it alone."""

    @property
    def ends(self) -> bool:
        """Whether the group is getting rid of it."""
        return _ends(self.state)


@dataclass(frozen=True, slots=True)
class Listed:
    """One of a group's instances, as EC2 Auto Scaling lists them."""

    instance_id: str
    """Such as i-0123456789abcdef0."""
    zone: str
    """Such as eu-west-1a."""
    state: str
    """As `Member.state`."""
    protected: bool
    """Whether a scale-in leaves it alone."""
    healthy: bool = True
    """Whether it passes the group's health check; if not, the group replaces it."""

    @property
    def ends(self) -> bool:
        """Whether the group is getting rid of it."""
        return _ends(self.state)


def _ends(state: str) -> bool:
    """
    >>> _ends("Terminating:Wait"), _ends("Warmed:Terminated"), _ends("Pending")
    (True, True, False)
    """
    return state.removeprefix("Warmed:").startswith(("Terminating", "Terminated"))


@dataclass(frozen=True, slots=True)
class Roster:
    """A group."""

    desired: int
    """Instances that it should have."""
    instances: tuple[Listed, ...] = ()
    """Those that it has, on their way in and out as well."""

    def find(self, instance_id: str) -> Listed | None:
        """None: it is not in the group."""
        return next((one for one in self.instances if one.instance_id == instance_id), None)


@dataclass(frozen=True, slots=True)
class SpotNotice:
    """EC2 takes a spot instance back."""

    action: str
    """terminate, stop or hibernate."""
    at: datetime
    """Not before."""
