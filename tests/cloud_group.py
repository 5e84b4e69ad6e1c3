"""An Auto Scaling group for tests, and CloudWatch beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from threading import Event
from typing import Any

from tests.cloud_world import GROUP, INSTANCE_ID

NOT_FOUND = "Instance Id not found - No managed instance found for instance ID"
"""As EC2 Auto Scaling words it."""


@cache
def _service(name: str) -> Any:
    from botocore.session import Session

    return Session().get_service_model(name)


def _held_against(service: str, operation: str, part: str, value: Mapping[str, Any]) -> None:
    """Raises what boto3 would: the value is not as AWS's own description has it."""
    from botocore.validate import validate_parameters

    shape = getattr(_service(service).operation_model(operation), part)
    validate_parameters(dict(value), shape)


@dataclass
class Other:
    """Another instance of the group; its server is not looked at."""

    instance_id: str
    """Such as i-0123456789abcdef1."""
    zone: str = "eu-west-1a"
    """Where it runs."""
    state: str = "InService"
    """Of its life."""
    protected: bool = True
    """Whether a scale-in leaves it alone."""
    health: str = "Healthy"
    """As EC2 finds it."""


class Group:
    """An Auto Scaling group as one of its instances sees it, and CloudWatch beside it.

    Stands in for both of boto3's clients: requests and answers are held against botocore's own
    description of the services, and errors are worded as AWS words them.
    """

    def __init__(self) -> None:
        self.name = GROUP
        """Of the group."""
        self.state: str | None = "InService"
        """Of the instance; None: it is in no group."""
        self.protected = True
        self.desired = 1
        """Instances that it wants."""
        self.others: list[Other] = []
        """Beside the one."""
        self.hook_s: int | None = 600
        """Of the hook `drain`; None: there is none."""
        self.holding = False
        """Whether the hook keeps the instance now."""
        self.beats = 0
        self.asked: list[tuple[str, dict[str, Any]]] = []
        """Operations and requests, failed ones too."""
        self.troubles: dict[str, list[Exception]] = {}
        """By operation, what goes wrong with the next ones."""
        self.open = Event()
        """Not set: calls hang."""
        self.open.set()

    def count(self, operation: str) -> int:
        return sum(name == operation for name, _ in self.asked)

    def requests(self, operation: str) -> list[dict[str, Any]]:
        return [request for name, request in self.asked if name == operation]

    # EC2 Auto Scaling.

    def describe_auto_scaling_instances(self, **request: Any) -> Mapping[str, Any]:
        self._take("autoscaling", "DescribeAutoScalingInstances", request)
        found = {
            "InstanceId": INSTANCE_ID,
            "AutoScalingGroupName": self.name,
            "AvailabilityZone": "eu-west-1a",
            "LifecycleState": self.state,
            "HealthStatus": "HEALTHY",
            "ProtectedFromScaleIn": self.protected,
        }
        there = self.state is not None and INSTANCE_ID in request.get("InstanceIds", [INSTANCE_ID])
        told = {"AutoScalingInstances": [found] if there else []}
        return self._give("autoscaling", "DescribeAutoScalingInstances", told)

    def describe_auto_scaling_groups(self, **request: Any) -> Mapping[str, Any]:
        self._take("autoscaling", "DescribeAutoScalingGroups", request)
        # Who is in a warm pool has a list of its own.
        there = self.state is not None and not self.state.startswith("Warmed:")
        itself = [Other(INSTANCE_ID, state=str(self.state), protected=self.protected)]
        listed = [self._listed(one) for one in [*(itself if there else ()), *self.others]]
        found = {
            "AutoScalingGroupName": self.name,
            "MinSize": 1,
            "MaxSize": 60,
            "DesiredCapacity": self.desired,
            "DefaultCooldown": 300,
            "AvailabilityZones": ["eu-west-1a", "eu-west-1b"],
            "HealthCheckType": "EC2",
            "CreatedTime": datetime(2026, 1, 31, 8, tzinfo=UTC),
            "Instances": listed,
        }
        asked_for = self.name in request.get("AutoScalingGroupNames", [self.name])
        told = {"AutoScalingGroups": [found] if asked_for else []}
        return self._give("autoscaling", "DescribeAutoScalingGroups", told)

    def _listed(self, one: Other) -> dict[str, Any]:
        return {
            "InstanceId": one.instance_id,
            "InstanceType": "g6.xlarge",
            "AvailabilityZone": one.zone,
            "LifecycleState": one.state,
            "HealthStatus": one.health,
            "ProtectedFromScaleIn": one.protected,
        }

    def terminate_instance_in_auto_scaling_group(self, **request: Any) -> Mapping[str, Any]:
        operation = "TerminateInstanceInAutoScalingGroup"
        self._take("autoscaling", operation, request)
        if self.state is None:
            raise refused(operation, "ValidationError", f"{NOT_FOUND} {INSTANCE_ID}")
        self.state = "Terminating"
        self.desired -= request["ShouldDecrementDesiredCapacity"]
        activity = {
            "ActivityId": "1",
            "AutoScalingGroupName": GROUP,
            "Cause": "instance was taken out of service in response to a user request.",
            "StartTime": datetime(2026, 1, 31, 9, tzinfo=UTC),
            "StatusCode": "InProgress",
        }
        return self._give("autoscaling", operation, {"Activity": activity})

    def describe_lifecycle_hooks(self, **request: Any) -> Mapping[str, Any]:
        self._take("autoscaling", "DescribeLifecycleHooks", request)
        hooks = [self._hook("warm", "LAUNCHING", 60)]
        if self.hook_s is not None:
            hooks.append(self._hook("drain", "TERMINATING", self.hook_s))
        return self._give("autoscaling", "DescribeLifecycleHooks", {"LifecycleHooks": hooks})

    def _hook(self, name: str, transition: str, timeout_s: int) -> dict[str, Any]:
        return {
            "LifecycleHookName": name,
            "AutoScalingGroupName": GROUP,
            "LifecycleTransition": f"autoscaling:EC2_INSTANCE_{transition}",
            "HeartbeatTimeout": timeout_s,
            "GlobalTimeout": 100 * timeout_s,
            "DefaultResult": "CONTINUE",
        }

    def set_instance_protection(self, **request: Any) -> Mapping[str, Any]:
        self._take("autoscaling", "SetInstanceProtection", request)
        group = request["AutoScalingGroupName"]
        if self.state is None or group != self.name:
            said = f"The instance {INSTANCE_ID} is not part of Auto Scaling group {group}."
            raise refused("SetInstanceProtection", "ValidationError", said)
        if self.state not in ("InService", "EnteringStandby", "Standby"):
            said = f"The instance {INSTANCE_ID} is not in InService or EnteringStandby or Standby."
            raise refused("SetInstanceProtection", "ValidationError", said)
        self.protected = request["ProtectedFromScaleIn"]
        return {}

    def record_lifecycle_action_heartbeat(self, **request: Any) -> Mapping[str, Any]:
        self._act("RecordLifecycleActionHeartbeat", request)
        self.beats += 1
        return {}

    def complete_lifecycle_action(self, **request: Any) -> Mapping[str, Any]:
        self._act("CompleteLifecycleAction", request)
        self.holding, self.state = False, "Terminating:Proceed"
        return {}

    def _act(self, operation: str, request: dict[str, Any]) -> None:
        self._take("autoscaling", operation, request)
        if not self.holding or request["LifecycleHookName"] != "drain":
            said = f"No active Lifecycle Action found with instance ID {request['InstanceId']}"
            raise refused(operation, "ValidationError", said)

    # CloudWatch.

    def put_metric_data(self, **request: Any) -> Mapping[str, Any]:
        self._take("cloudwatch", "PutMetricData", request)
        return {}

    def published(self, dimension: str) -> dict[str, float]:
        """What the last one said, by name."""
        data = self.requests("PutMetricData")[-1]["MetricData"]
        return {
            one["MetricName"]: one["Value"]
            for one in data
            if [each["Name"] for each in one["Dimensions"]] == [dimension]
        }

    def _take(self, service: str, operation: str, request: dict[str, Any]) -> None:
        self.open.wait(20)
        self.asked.append((operation, request))
        _held_against(service, operation, "input_shape", request)
        if self.troubles.get(operation):
            raise self.troubles[operation].pop(0)

    def _give(self, service: str, operation: str, told: dict[str, Any]) -> Mapping[str, Any]:
        _held_against(service, operation, "output_shape", told)
        return told


def refused(operation: str, code: str, said: str = "no") -> Exception:
    """What boto3 raises when AWS answers with an error."""
    from botocore.exceptions import ClientError

    error: Exception = ClientError({"Error": {"Code": code, "Message": said}}, operation)
    return error
