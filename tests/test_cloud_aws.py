"""What is asked of AWS: boto3's own clients, against its description of AWS and against moto."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rtvc.errors import CloudError, UsageError
from rtvc.server.cloud.aside import too_many
from rtvc.server.cloud.aws import HOOK, Aws, check_boto3, connect
from rtvc.server.cloud.figures import Standing, figures, metric_data
from rtvc.server.cloud.instance import Listed, Member, Roster
from tests.cloud_group import NOT_FOUND
from tests.cloud_world import EMULATED_REGION, GROUP, INSTANCE_ID, a_group_of
from tests.servers import free_port

boto3 = pytest.importorskip("boto3", reason="the extra aws is not installed")
stub = pytest.importorskip("botocore.stub")

REGION = EMULATED_REGION


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of nobody; and none of the user's are found."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


# Against botocore's description of the services.


class Stubbed:
    """The clients that `connect` makes, with answers of the test's; requests have to match."""

    def __init__(self) -> None:
        self.autoscaling = boto3.client("autoscaling", region_name=REGION)
        self.cloudwatch = boto3.client("cloudwatch", region_name=REGION)
        self.groups = stub.Stubber(self.autoscaling)
        self.metrics = stub.Stubber(self.cloudwatch)
        self.aws = Aws(self.autoscaling, self.cloudwatch)

    @contextmanager
    def answering(self) -> Iterator[Aws]:
        with self.groups, self.metrics:
            yield self.aws
            self.groups.assert_no_pending_responses()
            self.metrics.assert_no_pending_responses()


@pytest.fixture
def stubbed() -> Stubbed:
    return Stubbed()


def instance(**changes: Any) -> dict[str, Any]:
    told = {
        "InstanceId": INSTANCE_ID,
        "AutoScalingGroupName": GROUP,
        "AvailabilityZone": "us-east-1a",
        "LifecycleState": "Terminating:Wait",
        "HealthStatus": "HEALTHY",
        "ProtectedFromScaleIn": True,
    }
    return {**told, **changes}


def test_the_place_of_an_instance(stubbed: Stubbed) -> None:
    asked = {"InstanceIds": [INSTANCE_ID]}
    told = {"AutoScalingInstances": [instance()]}
    stubbed.groups.add_response("describe_auto_scaling_instances", told, asked)
    nothing: dict[str, Any] = {"AutoScalingInstances": []}
    stubbed.groups.add_response("describe_auto_scaling_instances", nothing, asked)
    with stubbed.answering() as aws:
        assert aws.member(INSTANCE_ID) == Member(GROUP, "Terminating:Wait", protected=True)
        assert aws.member(INSTANCE_ID) is None


def test_who_is_in_a_group_and_how_many_it_wants(stubbed: Stubbed) -> None:
    asked = {"AutoScalingGroupNames": [GROUP]}
    named = instance()
    del named["AutoScalingGroupName"]
    found = {
        "AutoScalingGroupName": GROUP,
        "MinSize": 1,
        "MaxSize": 9,
        "DesiredCapacity": 3,
        "DefaultCooldown": 300,
        "AvailabilityZones": ["us-east-1a"],
        "HealthCheckType": "EC2",
        "CreatedTime": datetime(2026, 1, 31, tzinfo=UTC),
    }
    for groups in ([{**found, "Instances": [named]}], [found], []):
        told = {"AutoScalingGroups": groups}
        stubbed.groups.add_response("describe_auto_scaling_groups", told, asked)
    own = Listed(INSTANCE_ID, "us-east-1a", "Terminating:Wait", protected=True)
    with stubbed.answering() as aws:
        assert aws.roster(GROUP) == Roster(3, (own,))
        assert aws.roster(GROUP) == Roster(3)
        assert aws.roster(GROUP) == Roster(0)
    assert own.ends
    assert Roster(3, (own,)).find(INSTANCE_ID) == own
    assert Roster(3, (own,)).find("i-1") is None


def test_every_request_is_one_that_aws_knows(stubbed: Stubbed) -> None:
    action = {
        "AutoScalingGroupName": GROUP,
        "LifecycleHookName": HOOK,
        "InstanceId": INSTANCE_ID,
    }
    protection = {"AutoScalingGroupName": GROUP, "InstanceIds": [INSTANCE_ID]}
    data = metric_data(figures(Standing("ready", 1, 8)), instance_id=INSTANCE_ID, group=GROUP)
    groups = stubbed.groups
    on, done = {"ProtectedFromScaleIn": True}, {"LifecycleActionResult": "CONTINUE"}
    groups.add_response("set_instance_protection", {}, {**protection, **on})
    groups.add_response("record_lifecycle_action_heartbeat", {}, action)
    groups.add_response("complete_lifecycle_action", {}, {**action, **done})
    end = {"InstanceId": INSTANCE_ID, "ShouldDecrementDesiredCapacity": False}
    groups.add_response("terminate_instance_in_auto_scaling_group", {}, end)
    stubbed.metrics.add_response("put_metric_data", {}, {"Namespace": "rtvc", "MetricData": data})
    with stubbed.answering() as aws:
        assert aws.protect(GROUP, INSTANCE_ID, on=True)
        assert aws.heartbeat(GROUP, INSTANCE_ID)
        assert aws.complete(GROUP, INSTANCE_ID)
        assert aws.terminate(INSTANCE_ID)
        aws.publish("rtvc", data)


def hook(name: str, transition: str, timeout_s: int) -> dict[str, Any]:
    return {
        "LifecycleHookName": name,
        "AutoScalingGroupName": GROUP,
        "LifecycleTransition": f"autoscaling:EC2_INSTANCE_{transition}",
        "HeartbeatTimeout": timeout_s,
    }


@pytest.mark.parametrize(
    ("hooks", "expected"),
    [
        ([], None),
        ([hook("drain", "TERMINATING", 900)], 900.0),
        ([hook("drain", "LAUNCHING", 900), hook("other", "TERMINATING", 60)], None),
        ([hook("other", "TERMINATING", 60), hook("drain", "TERMINATING", 900)], 900.0),
    ],
)
def test_how_long_the_hook_keeps_an_instance(
    stubbed: Stubbed, hooks: list[dict[str, Any]], expected: float | None
) -> None:
    asked = {"AutoScalingGroupName": GROUP}
    stubbed.groups.add_response("describe_lifecycle_hooks", {"LifecycleHooks": hooks}, asked)
    with stubbed.answering() as aws:
        assert aws.hook_timeout_s(GROUP) == expected


def test_a_no_of_awss_is_an_answer_where_it_is_one(stubbed: Stubbed) -> None:
    groups, wrong = stubbed.groups, "ValidationError"
    said = f"The instance {INSTANCE_ID} is not in InService or EnteringStandby or Standby."
    groups.add_client_error("set_instance_protection", wrong, said)
    said = f"The instance {INSTANCE_ID} is not part of Auto Scaling group {GROUP}."
    groups.add_client_error("set_instance_protection", wrong, said)
    said = f"No active Lifecycle Action found with instance ID {INSTANCE_ID}"
    groups.add_client_error("record_lifecycle_action_heartbeat", wrong, said)
    groups.add_client_error("complete_lifecycle_action", wrong, said)
    said = f"{NOT_FOUND} {INSTANCE_ID}"
    groups.add_client_error("terminate_instance_in_auto_scaling_group", wrong, said)
    with stubbed.answering() as aws:
        assert not aws.protect(GROUP, INSTANCE_ID, on=True)
        assert not aws.protect(GROUP, INSTANCE_ID, on=True)
        assert not aws.heartbeat(GROUP, INSTANCE_ID)
        assert not aws.complete(GROUP, INSTANCE_ID)
        assert not aws.terminate(INSTANCE_ID)


@pytest.mark.parametrize(
    ("code", "said", "trouble"),
    [
        ("AccessDenied", "User: x is not authorized", "denied"),
        ("Throttling", "Rate exceeded", "throttled"),
        ("ResourceContention", "busy", "throttled"),
        ("ScalingActivityInProgress", "busy", "throttled"),
        ("ExpiredToken", "The security token is expired", "credentials"),
        ("ValidationError", "AutoScalingGroup name not found", "other"),
        ("InternalFailure", "", "other"),
    ],
)
def test_what_goes_wrong_has_its_kind(stubbed: Stubbed, code: str, said: str, trouble: str) -> None:
    stubbed.groups.add_client_error("set_instance_protection", code, said)
    stubbed.groups.add_client_error("complete_lifecycle_action", code, said)
    with stubbed.answering() as aws:
        with pytest.raises(CloudError) as protecting:
            aws.protect(GROUP, INSTANCE_ID, on=True)
        with pytest.raises(CloudError) as completing:
            aws.complete(GROUP, INSTANCE_ID)
    assert protecting.value.trouble == completing.value.trouble == trouble
    assert str(protecting.value).startswith(f"SetInstanceProtection: {code}")


def test_an_answer_of_the_wrong_kind_is_no_answer(stubbed: Stubbed) -> None:
    """That there is no lifecycle action says nothing of protection."""
    said = f"No active Lifecycle Action found with instance ID {INSTANCE_ID}"
    stubbed.groups.add_client_error("set_instance_protection", "ValidationError", said)
    with stubbed.answering() as aws, pytest.raises(CloudError, match="No active Lifecycle Action"):
        aws.protect(GROUP, INSTANCE_ID, on=True)


def test_what_boto3_itself_refuses_is_explained(stubbed: Stubbed) -> None:
    # Before anything is sent, or it would be an answer of the stub's.
    with pytest.raises(CloudError, match=r"PutMetricData: .*MetricName") as refused:
        stubbed.aws.publish("rtvc", [{"Value": 1.0}])
    assert refused.value.trouble == "other"


def test_aws_that_is_not_to_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(CloudError, match="DescribeAutoScalingInstances") as raised:
        connect(REGION).member(INSTANCE_ID)
    assert raised.value.trouble == "unreachable"


def test_an_instance_without_a_role(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(CloudError, match="credentials") as raised:
        connect(REGION).member(INSTANCE_ID)
    assert raised.value.trouble == "credentials"


def test_a_profile_that_there_is_none_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(CloudError, match="nobody"):
        connect(REGION)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    check_boto3()
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UsageError, match=r"pip install 'rtvc\[aws\]'"):
        check_boto3()


# Against moto, which has no lifecycle actions.


@pytest.fixture
def emulated() -> Iterator[str]:
    """AWS in this process, with a group of one; the id of its instance."""
    moto = pytest.importorskip("moto", reason="moto is not installed")
    with moto.mock_aws():
        yield a_group_of(2)


def test_protection_is_set_and_cleared(emulated: str) -> None:
    aws = connect(REGION)
    for on in (False, True):
        assert aws.protect(GROUP, emulated, on=on)
        assert aws.member(emulated) == Member(GROUP, "InService", protected=on)
    assert aws.member("i-00000000000000000") is None


def test_a_group_that_wants_fewer_lists_all_until_one_ends_itself(emulated: str) -> None:
    aws = connect(REGION)
    groups = boto3.client("autoscaling", region_name=REGION)
    groups.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=1)
    found = aws.roster(GROUP)
    assert found.desired == 1
    assert [(one.state, one.protected) for one in found.instances] == [("InService", True)] * 2
    assert too_many(found) == {emulated}
    assert aws.terminate(emulated)
    left = aws.roster(GROUP)
    assert (left.desired, len(left.instances), left.find(emulated)) == (1, 1, None)
    assert too_many(left) == frozenset()
    assert aws.roster("another") == Roster(0)


def test_the_hook_is_found(emulated: str) -> None:
    assert connect(REGION).hook_timeout_s(GROUP) == 600.0


def test_figures_arrive_under_the_names_that_scaling_follows(emulated: str) -> None:
    aws = connect(REGION)
    for sessions in (2, 6):
        found = figures(Standing("ready", sessions, 8))
        aws.publish("rtvc", metric_data(found, instance_id=emulated, group=GROUP))
    metrics = boto3.client("cloudwatch", region_name=REGION)
    listed = metrics.list_metrics(Namespace="rtvc", MetricName="SessionsPerCapacity")["Metrics"]
    found_dimensions = [
        [(each["Name"], each["Value"]) for each in one["Dimensions"]] for one in listed
    ]
    assert sorted(found_dimensions) == [
        [("AutoScalingGroupName", GROUP)],
        [("InstanceId", emulated)],
    ]
