"""What is known of the machine: who it is, its place in a group, and the notice it was given."""

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
        """Whether the group is getting rid of it.

        >>> Member("g", "Terminating:Wait", True).ends, Member("g", "Pending", True).ends
        (True, False)
        """
        return self.state.removeprefix("Warmed:").startswith(("Terminating", "Terminated"))


@dataclass(frozen=True, slots=True)
class SpotNotice:
    """EC2 takes a spot instance back."""

    action: str
    """terminate, stop or hibernate."""
    at: datetime
    """Not before."""
