"""An EC2 instance for tests: its metadata service, its Auto Scaling group, and the server on it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from rtvc.clock import Clock, FakeClock
from rtvc.config import CloudSettings
from rtvc.server.cloud.figures import Standing
from rtvc.server.cloud.host import Host
from rtvc.server.cloud.instance import Identity

INSTANCE_ID = "i-0123456789abcdef0"
GROUP = "voice"
REGION = "eu-west-1"
EMULATED_REGION = "us-east-1"
"""Where moto knows of images."""
TARGET_STATE = "meta-data/autoscaling/target-lifecycle-state"
SPOT = "meta-data/spot/instance-action"
REBALANCE = "meta-data/events/recommendations/rebalance"
DOCUMENT = "dynamic/instance-identity/document"


def document(**changes: object) -> str:
    """As EC2 writes it, some of it."""
    told: dict[str, object] = {
        "accountId": "123456789012",
        "architecture": "x86_64",
        "availabilityZone": "eu-west-1a",
        "imageId": "ami-0123456789abcdef0",
        "instanceId": INSTANCE_ID,
        "instanceType": "g6.xlarge",
        "pendingTime": "2026-01-31T08:00:00Z",
        "privateIp": "10.0.0.7",
        "region": REGION,
        "version": "2017-09-30",
    }
    return json.dumps({**told, **changes})


@dataclass
class MetadataService:
    """What a running one says; as EC2's does, it answers nothing without a token of its own."""

    url: str
    texts: dict[str, str] = field(default_factory=lambda: {DOCUMENT: document()})
    """By path; whatever else is asked for is not there."""
    tokens: set[str] = field(default_factory=set)
    """Good ones."""
    made: int = 0
    """Tokens so far."""
    asked: list[str] = field(default_factory=list)
    """Paths that were asked for with a good token."""
    status: int = 200
    """Of every answer, if it is another."""
    open: Event = field(default_factory=Event)
    """Not set: it reads a request and does not answer."""

    def token(self, life_s: str | None) -> str | None:
        if life_s is None or not life_s.isdigit() or not 1 <= int(life_s) <= 21_600:
            return None
        self.made += 1
        self.tokens.add(f"token-{self.made}")
        return f"token-{self.made}"


@contextmanager
def metadata_service() -> Iterator[MetadataService]:
    """On a port of its own, until the end."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            life_s = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
            if self.path != "/latest/api/token":
                self._answer(404, "")
                return
            token = service.token(life_s)
            self._answer(400 if token is None else 200, token or "")

        def do_GET(self) -> None:
            if self.headers.get("X-aws-ec2-metadata-token") not in service.tokens:
                self._answer(401, "")
                return
            path = self.path.removeprefix("/latest/")
            service.asked.append(path)
            found = service.texts.get(path)
            self._answer(404 if found is None else 200, found or "")

        def _answer(self, status: int, text: str) -> None:
            service.open.wait(20)
            body = text.encode()
            self.send_response(status if service.status == 200 else service.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service = MetadataService(f"http://127.0.0.1:{server.server_address[1]}")
    service.open.set()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.open.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


@cache
def _service(name: str) -> Any:
    from botocore.session import Session

    return Session().get_service_model(name)


def _held_against(service: str, operation: str, part: str, value: Mapping[str, Any]) -> None:
    """Raises what boto3 would: the value is not as AWS's own description has it."""
    from botocore.validate import validate_parameters

    shape = getattr(_service(service).operation_model(operation), part)
    validate_parameters(dict(value), shape)


class Group:
    """An Auto Scaling group of one instance, and CloudWatch beside it.

    Stands in for both of boto3's clients: requests and answers are held against botocore's own
    description of the services, and errors are worded as AWS words them.
    """

    def __init__(self) -> None:
        self.state: str | None = "InService"
        """Of the instance; None: it is in no group."""
        self.protected = True
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
            "AutoScalingGroupName": GROUP,
            "AvailabilityZone": "eu-west-1a",
            "LifecycleState": self.state,
            "HealthStatus": "HEALTHY",
            "ProtectedFromScaleIn": self.protected,
        }
        there = self.state is not None and INSTANCE_ID in request.get("InstanceIds", [INSTANCE_ID])
        told = {"AutoScalingInstances": [found] if there else []}
        return self._give("autoscaling", "DescribeAutoScalingInstances", told)

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
        if self.state is None:
            said = f"The instance {INSTANCE_ID} is not part of Auto Scaling group {GROUP}."
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


def a_group_of_one(**client: str) -> str:
    """Made at an emulator: launched protected, with the hook; the id of its instance.

    `client`: more for boto3's clients, such as the emulator's address.
    """
    import boto3

    session = boto3.session.Session(region_name=EMULATED_REGION)
    images = session.client("ec2", **client).describe_images(Owners=["amazon"])["Images"]
    groups = session.client("autoscaling", **client)
    groups.create_launch_configuration(
        LaunchConfigurationName=GROUP, ImageId=images[0]["ImageId"], InstanceType="t3.micro"
    )
    groups.create_auto_scaling_group(
        AutoScalingGroupName=GROUP,
        LaunchConfigurationName=GROUP,
        MinSize=1,
        MaxSize=1,
        AvailabilityZones=[f"{EMULATED_REGION}a"],
        NewInstancesProtectedFromScaleIn=True,
    )
    groups.put_lifecycle_hook(
        LifecycleHookName="drain",
        AutoScalingGroupName=GROUP,
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
        HeartbeatTimeout=600,
    )
    (found,) = groups.describe_auto_scaling_instances()["AutoScalingInstances"]
    return str(found["InstanceId"])


class ServerOnIt:
    """The server: its state is the test's to set."""

    def __init__(self, clock: Clock | None = None, **settings: Any) -> None:
        self.clock = clock or FakeClock(1000.0)
        self.settings = CloudSettings.model_validate({"provider": "aws", **settings})
        self.standing = Standing("ready", 0, 8)
        self.left: list[float] = []
        """Deadlines that it was told."""
        self.known: list[Identity] = []
        self.failures: Counter[str] = Counter()

    @property
    def host(self) -> Host:
        return Host(
            clock=self.clock,
            settings=lambda: self.settings,
            standing=lambda: self.standing,
            shutdown_s=lambda: 30.0,
            known=self.known.append,
            leave=self.left.append,
            failures=self.failures,
        )

    def advance(self, seconds: float) -> None:
        assert isinstance(self.clock, FakeClock)
        self.clock.advance(seconds)
