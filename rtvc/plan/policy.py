"""The numbers that decide when a fleet grows and shrinks: one file for Terraform and for here."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rtvc.errors import UsageError, why

FILE = Path("infra/terraform/modules/voice_server/scaling.json")
"""In a checkout."""

PERIODS_S = (10, 30, 60)
"""Of a metric that target tracking accepts."""

HOUR_S = 3600.0

SECONDS = {
    "warm_up_s": (0.0, 24 * HOUR_S),
    "idle_before_unprotected_s": (0.0, 24 * HOUR_S),
    "deregistration_delay_s": (0.0, HOUR_S),
    "hook_timeout_s": (30.0, 2 * HOUR_S),
    "boot_s_assumed": (1.0, 2 * HOUR_S),
}
"""Least and most: of the delay and the hook what AWS takes, of the others what makes sense."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What Terraform sets up, and servers keep to."""

    target_percent: float
    """Sessions, with room for chance, ÷ capacity that the group is kept at, on average."""
    warm_up_s: float
    """After its start an instance counts as coming, not as there; see `settling_s`."""
    metric_period_s: float
    """What is averaged before it is judged; less than 60: a metric of high resolution."""
    idle_before_unprotected_s: float
    """Without a call for so long an instance may be taken away."""
    deregistration_delay_s: float
    """So long the load balancer lets calls of an instance go on that is being taken away."""
    hook_timeout_s: float
    """So long the instance may then stay, unless it says that it is still busy."""
    boot_s_assumed: float
    """From its start to its first call, until somebody has measured it."""

    @property
    def settling_s(self) -> float:
        """What AWS is told of the warm-up: so long one that is ready still counts as coming.

        A lifecycle hook keeps it out of service until it is ready, and AWS counts from then on, so
        Terraform takes off what the boot is assumed to take.
        """
        return max(self.warm_up_s - self.boot_s_assumed, 0.0)


def read_policy(path: Path) -> Policy:
    """What the file says; what else stands in it is Terraform's.

    Raises:
        UsageError: it cannot be read, or a number is missing or cannot be.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"cannot read the policy {path}: {why(error)} (expected the file {FILE.name} of the "
            "Terraform module voice_server)"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path}: expected JSON, but {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected a JSON object, got {type(content).__name__}")
    policy = Policy(**{each.name: _number(path, content, each.name) for each in fields(Policy)})
    check(policy, str(path))
    return policy


def _number(path: Path, content: dict[str, Any], name: str) -> float:
    if name not in content:
        raise UsageError(f"{path}: expected {name} in it")
    value = content[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{path}: expected a number as {name}, got {value!r}")
    return float(value)


def check(policy: Policy, where: str) -> None:
    """Raises UsageError for numbers that AWS or reason refuse."""
    if not 0 < policy.target_percent <= 100:
        raise UsageError(
            f"{where}: expected target_percent above 0 and up to 100, got {policy.target_percent:g}"
        )
    if policy.metric_period_s not in PERIODS_S:
        raise UsageError(
            f"{where}: expected metric_period_s of {', '.join(map(str, PERIODS_S))}, "
            f"got {policy.metric_period_s:g}"
        )
    for name, (least_s, most_s) in SECONDS.items():
        value = getattr(policy, name)
        if not least_s <= value <= most_s:
            raise UsageError(
                f"{where}: expected {least_s:g} to {most_s:g} seconds in {name}, got {value:g}"
            )


def policy_file() -> Path:
    """The checkout's own, wherever it is called from; else the one below the current folder."""
    of_checkout = Path(__file__).resolve().parents[2] / FILE
    return of_checkout if of_checkout.is_file() else FILE
