"""`rtvc serve --cloud aws` as a user runs it, on an instance and in a group that are emulated."""

import asyncio
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from rtvc.clock import SystemClock
from rtvc.server.cloud.aside import LOOK_S
from rtvc.server.cloud.metadata import ENDPOINT
from tests.cloud_world import (
    DOCUMENT,
    EMULATED_REGION,
    GROUP,
    TARGET_STATE,
    MetadataService,
    a_group_of,
    document,
    metadata_service,
)
from tests.realtime_peer import session, silence, speech
from tests.test_reload_server import Server, finished, serving

moto_server = pytest.importorskip("moto.server", reason="moto and its server are not installed")

pytestmark = [pytest.mark.model, pytest.mark.slow]

SETTINGS = """
[serve]
max_sessions = 8
shutdown_s = 0.5
[cloud]
provider = "aws"
capacity = 4
publish_every_s = 1
idle_before_unprotected_s = 1
"""

FIGURES = {
    *((name, "InstanceId") for name in ("Sessions", "Ready", "Aside", "Capacity", "Headroom")),
    *((name, "AutoScalingGroupName") for name in ("Sessions", "Ready", "Aside", "Capacity")),
    ("Headroom", "AutoScalingGroupName"),
    ("SessionsPerCapacity", "AutoScalingGroupName"),
    ("SessionsPerCapacity", "InstanceId"),
    ("DemandPerCapacity", "AutoScalingGroupName"),
    ("DemandPerCapacity", "InstanceId"),
    ("BootToReady", "AutoScalingGroupName"),
}


@dataclass
class Ec2:
    """The instance, its group, and the environment of a server there."""

    service: MetadataService
    instance_id: str
    url: str
    """Of the emulator."""
    environment: dict[str, str]

    def client(self, name: str) -> Any:
        import boto3

        return boto3.client(
            name,
            region_name=EMULATED_REGION,
            endpoint_url=self.url,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    @property
    def protected(self) -> bool:
        told = self.client("autoscaling").describe_auto_scaling_instances(
            InstanceIds=[self.instance_id]
        )
        return bool(told["AutoScalingInstances"][0]["ProtectedFromScaleIn"])

    def want(self, instances: int) -> None:
        """Of the two that the group has; as both are protected, both stay."""
        self.client("autoscaling").set_desired_capacity(
            AutoScalingGroupName=GROUP, DesiredCapacity=instances
        )

    def published(self) -> set[tuple[str, str]]:
        """Names of metrics, each with that of its dimension."""
        told = self.client("cloudwatch").list_metrics(Namespace="rtvc")["Metrics"]
        return {(one["MetricName"], one["Dimensions"][0]["Name"]) for one in told}


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ec2]:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    emulator = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    emulator.start()
    host, port = emulator.get_host_and_port()
    url = f"http://{host}:{port}"
    try:
        httpx.post(f"{url}/moto-api/reset", trust_env=False).raise_for_status()
        instance_id = a_group_of(2, endpoint_url=url)
        launched_at = SystemClock().utc() - timedelta(seconds=60)
        with metadata_service() as service:
            service.texts[TARGET_STATE] = "InService"
            service.texts[DOCUMENT] = document(
                instanceId=instance_id,
                region=EMULATED_REGION,
                availabilityZone=f"{EMULATED_REGION}a",
                pendingTime=_written(launched_at),
            )
            environment = {
                **os.environ,  # noqa: TID251 (a user's environment)
                ENDPOINT: service.url,
                "AWS_ENDPOINT_URL": url,
            }
            yield Ec2(service, instance_id, url, environment)
    finally:
        emulator.stop()


def _written(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 (what others do)
            await asyncio.sleep(0.05)


async def instance(server: Server) -> dict[str, Any]:
    """As /readyz names it, once its group is known."""
    async with asyncio.timeout(30):
        while True:
            told: dict[str, Any] | None = (await server.get("/readyz")).json()["instance"]
            if told is not None and told["group"] is not None:
                return told
            await asyncio.sleep(0.05)


async def test_a_server_lives_and_leaves_with_its_instance(ec2: Ec2, tmp_path: Path) -> None:
    with serving(tmp_path, SETTINGS, env=ec2.environment) as server:
        told = await instance(server)
        assert (told["id"], told["group"]) == (ec2.instance_id, GROUP)
        async with session(server.url) as peer:
            await until(lambda: ec2.published() >= FIGURES)
            assert ec2.protected
            figures = (await server.get("/metrics")).text
            boot = re.search(r'rtvc_boot_to_ready_seconds{since="instance"} (\S+)', figures)
            # It was launched a minute before the server began.
            assert boot is not None
            assert float(boot[1]) > 60
            assert 'rtvc_cloud_failures_total{call="put_metric_data"} 0' in figures
            ec2.service.texts[TARGET_STATE] = "Terminated"
            assert await finished(peer) == 1001
        # The emulator has no lifecycle actions, so there is no end to the hook.
        await server.until_logged("complete_lifecycle_action failed")
        assert server.child.poll() is None
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0


async def test_a_service_manager_hears_of_a_stop_that_was_asked_for_only(
    ec2: Ec2, tmp_path: Path
) -> None:
    """systemd kills who says so after TimeoutStopSec, and a drain may take longer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)

        def heard() -> set[bytes]:
            found = set()
            while True:
                try:
                    found.add(manager.recv(1000))
                except BlockingIOError:
                    return found

        environment = {**ec2.environment, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        with serving(tmp_path, SETTINGS, env=environment) as server:
            await instance(server)
            ec2.service.texts[TARGET_STATE] = "Terminated"
            await server.until_logged("complete_lifecycle_action failed")
            assert heard() == {b"READY=1"}
            server.signal(signal.SIGTERM)
            assert await server.ended() == 0
            assert heard() == {b"STOPPING=1"}


async def until_it_says(server: Server, state: str) -> httpx.Response:
    """It looks at its group every half minute."""
    async with asyncio.timeout(LOOK_S + 20):
        while True:
            told = await server.get("/readyz")
            if told.json()["state"] == state:
                return told
            await asyncio.sleep(0.1)


async def test_a_server_too_many_stands_aside_until_it_is_wanted(ec2: Ec2, tmp_path: Path) -> None:
    with serving(tmp_path, SETTINGS, env=ec2.environment) as server:
        await instance(server)
        async with session(server.url) as peer:
            ec2.want(1)
            assert (await until_it_says(server, "aside")).status_code == 503
            assert "rtvc_aside 1" in (await server.get("/metrics")).text
            # A load balancer that has not noticed yet goes on sending callers.
            async with session(server.url) as late:
                ec2.want(2)
                assert (await until_it_says(server, "ready")).status_code == 200
                for talker in (peer, late):
                    await talker.speak(np.concatenate([speech("the lights.").audio, silence(1.0)]))
                    completed = "conversation.item.input_audio_transcription.completed"
                    await talker.until(completed)
        # It has been empty for longer than a second by now, and is needed all the same.
        await asyncio.sleep(2)
        assert ec2.protected
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0


async def test_a_signal_ends_what_the_hook_would_have_waited_for(ec2: Ec2, tmp_path: Path) -> None:
    with serving(tmp_path, SETTINGS, env=ec2.environment) as server:
        await instance(server)
        async with session(server.url) as talker:
            long = np.concatenate([silence(0.3), speech("turn on the lights and " * 20).audio])
            speaking = asyncio.create_task(talker.speak(long))
            await talker.until("input_audio_buffer.speech_started")
            ec2.service.texts[TARGET_STATE] = "Terminated"
            await server.until_logged("those that are open have 590 s")
            server.signal(signal.SIGTERM)
            assert await finished(talker) == 1001
            with pytest.raises(ConnectionClosed):
                await speaking
            assert talker.transcripts()
        assert await server.ended() == 0
