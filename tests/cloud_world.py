"""An EC2 instance for tests: its metadata service, and the server on it."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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


def a_group_of(size: int, **client: str) -> str:
    """Made at an emulator: launched protected, with the hook; the id of the instance that stands
    aside before the others.

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
        MaxSize=size,
        DesiredCapacity=size,
        AvailabilityZones=[f"{EMULATED_REGION}a"],
        NewInstancesProtectedFromScaleIn=True,
    )
    groups.put_lifecycle_hook(
        LifecycleHookName="drain",
        AutoScalingGroupName=GROUP,
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
        HeartbeatTimeout=600,
    )
    found = groups.describe_auto_scaling_instances()["AutoScalingInstances"]
    return min(str(each["InstanceId"]) for each in found)


class ServerOnIt:
    """The server: its state is the test's to set."""

    def __init__(self, clock: Clock | None = None, **settings: Any) -> None:
        self.clock = clock or FakeClock(1000.0)
        self.settings = CloudSettings.model_validate({"provider": "aws", **settings})
        self.standing = Standing("ready", 0, 8)
        self.left: list[float] = []
        """Deadlines that it was told."""
        self.known: list[Identity] = []
        self.stood: list[bool] = [False]
        """Whether aside, one after the other, as it was told."""
        self.failures: Counter[str] = Counter()

    @property
    def host(self) -> Host:
        return Host(
            clock=self.clock,
            settings=lambda: self.settings,
            standing=lambda: self.standing,
            shutdown_s=lambda: 30.0,
            known=self.known.append,
            aside=self._stand,
            leave=self.left.append,
            failures=self.failures,
        )

    def _stand(self, aside: bool) -> None:
        if aside is self.stood[-1]:
            return
        self.stood.append(aside)
        state = self.standing.state
        if state in ("ready", "aside"):
            state = "aside" if aside else "ready"
        self.standing = replace(self.standing, state=state)

    def advance(self, seconds: float) -> None:
        assert isinstance(self.clock, FakeClock)
        self.clock.advance(seconds)
