"""What is asked of EC2 Auto Scaling and CloudWatch, by boto3 (extra `aws`). Blocks: for threads."""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rtvc.errors import CloudError, CloudTrouble, UsageError, why
from rtvc.server.cloud.instance import Listed, Member, Roster

HOOK = "drain"
"""The lifecycle hook that keeps an instance which is to end until its sessions are over."""
_TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
_CONNECT_S = 3.0
_ANSWER_S = 5.0

_TROUBLES: dict[str, CloudTrouble] = {
    "AccessDenied": "denied",
    "AccessDeniedException": "denied",
    "UnauthorizedOperation": "denied",
    "AuthFailure": "credentials",
    "ExpiredToken": "credentials",
    "ExpiredTokenException": "credentials",
    "InvalidClientTokenId": "credentials",
    "SignatureDoesNotMatch": "credentials",
    "UnrecognizedClientException": "credentials",
    "RequestLimitExceeded": "throttled",
    "ResourceContention": "throttled",
    "ScalingActivityInProgress": "throttled",
    "Throttling": "throttled",
    "ThrottlingException": "throttled",
    "TooManyRequestsException": "throttled",
}
"""By AWS's code."""
_SAYINGS: dict[str, CloudTrouble] = {
    "is not in InService": "not_in_service",
    "is not part of Auto Scaling group": "not_in_service",
    "No managed instance found": "not_in_service",
    "No active Lifecycle Action found": "no_action",
}
"""What all have the code ValidationError, by a part of the message."""


class AutoScalingClient(Protocol):
    """As much of boto3's as is needed; arguments are named as in AWS's API."""

    def describe_auto_scaling_instances(self, **request: Any) -> Mapping[str, Any]:
        """Which groups instances are in."""

    def describe_auto_scaling_groups(self, **request: Any) -> Mapping[str, Any]:
        """How many instances groups want, and those that they have."""

    def describe_lifecycle_hooks(self, **request: Any) -> Mapping[str, Any]:
        """What keeps instances of a group from ending at once."""

    def set_instance_protection(self, **request: Any) -> Mapping[str, Any]:
        """Whether a scale-in leaves instances alone."""

    def terminate_instance_in_auto_scaling_group(self, **request: Any) -> Mapping[str, Any]:
        """The end of an instance, by way of its lifecycle hook."""

    def record_lifecycle_action_heartbeat(self, **request: Any) -> Mapping[str, Any]:
        """More time."""

    def complete_lifecycle_action(self, **request: Any) -> Mapping[str, Any]:
        """No more time is needed."""


class CloudWatchClient(Protocol):
    """As much of boto3's as is needed."""

    def put_metric_data(self, **request: Any) -> Mapping[str, Any]:
        """Publish."""


class Aws:
    """Every call may raise `CloudError`.

    `_CONNECT_S` and `_ANSWER_S` bound what is waited for at a time, and not a call as a whole.
    """

    def __init__(self, autoscaling: AutoScalingClient, cloudwatch: CloudWatchClient) -> None:
        self._autoscaling = autoscaling
        self._cloudwatch = cloudwatch

    def publish(self, namespace: str, data: Sequence[Mapping[str, Any]]) -> None:
        """Put figures into CloudWatch, as of now."""
        with _explained("PutMetricData"):
            self._cloudwatch.put_metric_data(Namespace=namespace, MetricData=list(data))

    def member(self, instance_id: str) -> Member | None:
        """The instance's place in its group; None: it is in none."""
        with _explained("DescribeAutoScalingInstances"):
            told = self._autoscaling.describe_auto_scaling_instances(InstanceIds=[instance_id])
        for one in told.get("AutoScalingInstances", ()):
            if one["InstanceId"] == instance_id:
                name, state = one["AutoScalingGroupName"], one["LifecycleState"]
                return Member(name, state, bool(one["ProtectedFromScaleIn"]))
        return None

    def roster(self, group: str) -> Roster:
        """Who is in the group and how many should be; of a group that there is none of, nobody."""
        with _explained("DescribeAutoScalingGroups"):
            told = self._autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])
        for one in told.get("AutoScalingGroups", ()):
            if one["AutoScalingGroupName"] == group:
                listed = tuple(_listed(instance) for instance in one.get("Instances", ()))
                return Roster(int(one["DesiredCapacity"]), listed)
        return Roster(0)

    def terminate(self, instance_id: str) -> bool:
        """Have its group end the instance, and go on wanting as many as before.

        Whether it was done; False: it is in no group any more.
        """
        call = "TerminateInstanceInAutoScalingGroup"
        with _answered("not_in_service") as answer, _explained(call):
            self._autoscaling.terminate_instance_in_auto_scaling_group(
                InstanceId=instance_id, ShouldDecrementDesiredCapacity=False
            )
        return answer.yes

    def protect(self, group: str, instance_id: str, *, on: bool) -> bool:
        """Whether it was done; False: the instance is not in service, or not any more."""
        with _answered("not_in_service") as answer, _explained("SetInstanceProtection"):
            self._autoscaling.set_instance_protection(
                AutoScalingGroupName=group, InstanceIds=[instance_id], ProtectedFromScaleIn=on
            )
        return answer.yes

    def hook_timeout_s(self, group: str) -> float | None:
        """How long the hook keeps an instance that does not ask for more; None: there is none."""
        with _explained("DescribeLifecycleHooks"):
            told = self._autoscaling.describe_lifecycle_hooks(AutoScalingGroupName=group)
        for hook in told.get("LifecycleHooks", ()):
            if (hook["LifecycleHookName"], hook["LifecycleTransition"]) == (HOOK, _TERMINATING):
                return float(hook["HeartbeatTimeout"])
        return None

    def heartbeat(self, group: str, instance_id: str) -> bool:
        """Begin the hook's time anew; False: it does not keep the instance, not yet or no more."""
        with _answered("no_action") as answer, _explained("RecordLifecycleActionHeartbeat"):
            self._autoscaling.record_lifecycle_action_heartbeat(
                AutoScalingGroupName=group, LifecycleHookName=HOOK, InstanceId=instance_id
            )
        return answer.yes

    def complete(self, group: str, instance_id: str) -> bool:
        """Let the instance end; False as in `heartbeat`."""
        with _answered("no_action") as answer, _explained("CompleteLifecycleAction"):
            self._autoscaling.complete_lifecycle_action(
                AutoScalingGroupName=group,
                LifecycleHookName=HOOK,
                LifecycleActionResult="CONTINUE",
                InstanceId=instance_id,
            )
        return answer.yes


def check_boto3() -> None:
    """
    Raises:
        UsageError: boto3 is not installed.
    """
    if importlib.util.find_spec("boto3") is None:
        raise UsageError("--cloud aws needs boto3, which is not installed: pip install 'rtvc[aws]'")


def connect(region: str) -> Aws:
    """AWS in that region, with the instance's role or whatever credentials boto3 finds.

    Raises:
        CloudError: boto3 can't be set up.
    """
    import boto3
    from botocore.config import Config

    # Tried again by whoever knows whether it is still wanted.
    config = Config(
        connect_timeout=_CONNECT_S, read_timeout=_ANSWER_S, retries={"total_max_attempts": 1}
    )
    with _explained("boto3"):
        session = boto3.session.Session(region_name=region)
        autoscaling = session.client("autoscaling", config=config)
        return Aws(autoscaling, session.client("cloudwatch", config=config))


def _listed(told: Mapping[str, Any]) -> Listed:
    return Listed(
        instance_id=told["InstanceId"],
        zone=told["AvailabilityZone"],
        state=told["LifecycleState"],
        protected=bool(told["ProtectedFromScaleIn"]),
        healthy=told["HealthStatus"] != "Unhealthy",
    )


class _Answer:
    """Of a question whose no is an error to AWS."""

    def __init__(self) -> None:
        self.yes = True


@contextmanager
def _answered(no: CloudTrouble) -> Iterator[_Answer]:
    answer = _Answer()
    try:
        yield answer
    except CloudError as error:
        if error.trouble != no:
            raise
        answer.yes = False


@contextmanager
def _explained(call: str) -> Iterator[None]:
    """What boto3 raises, as a CloudError."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        code, message = str(told.get("Code", "")), str(told.get("Message", ""))
        said = " ".join(f"{call}: {code}: {message}".split())
        raise CloudError(said, trouble=_refusal(code, message)) from None
    except Exception as error:  # noqa: BLE001 (whatever it is, the server goes on)
        raise CloudError(f"{call}: {why(error)}", trouble=_failure(error)) from None


def _refusal(code: str, message: str) -> CloudTrouble:
    """
    >>> _refusal("Throttling", "Rate exceeded"), _refusal("InternalFailure", "")
    ('throttled', 'other')
    >>> _refusal("ValidationError", "The instance i-1 is not in InService or Standby.")
    'not_in_service'
    """
    for part, trouble in _SAYINGS.items():
        if part in message:
            return trouble
    return _TROUBLES.get(code, "other")


def _failure(error: Exception) -> CloudTrouble:
    """Of what never got an answer."""
    from botocore import exceptions

    keyless = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
    )
    if isinstance(error, keyless):
        return "credentials"
    unreached = (exceptions.ConnectionError, exceptions.HTTPClientError)
    return "unreachable" if isinstance(error, unreached) else "other"
