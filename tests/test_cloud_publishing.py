"""Figures for CloudWatch, whatever becomes of them."""

import asyncio
from dataclasses import replace

import pytest

from rtvc.clock import SystemClock
from rtvc.server.cloud.aws import Aws
from rtvc.server.cloud.calls import Calls
from rtvc.server.cloud.figures import Standing
from rtvc.server.cloud.publishing import Publishing
from tests.cloud_group import Group, refused
from tests.cloud_world import GROUP, INSTANCE_ID, ServerOnIt

pytest.importorskip("botocore", reason="the extra aws is not installed")


class Box:
    """A server that publishes."""

    def __init__(self, server: ServerOnIt | None = None) -> None:
        self.server = server or ServerOnIt(capacity=4)
        self.cloud = Group()
        host = self.server.host
        calls = Calls(host.failures)
        self.publishing = Publishing(host, Aws(self.cloud, self.cloud), calls, INSTANCE_ID)

    @property
    def failures(self) -> int:
        return self.server.failures["put_metric_data"]


async def test_what_is_published_is_how_it_stands_now() -> None:
    box = Box()
    box.publishing.group = GROUP
    for sessions in (1, 3):
        box.server.standing = Standing("ready", sessions, 8, capacity=4)
        assert await box.publishing.once() == 0
        for dimension in ("AutoScalingGroupName", "InstanceId"):
            assert box.cloud.published(dimension) == {
                "Sessions": sessions,
                "Ready": 1.0,
                "Aside": 0.0,
                "Capacity": 4,
                "Headroom": 4 - sessions,
                "SessionsPerCapacity": 25.0 * sessions,
                "DemandPerCapacity": 25.0 * (sessions + sessions**0.5),
            }
    (first, second) = box.cloud.requests("PutMetricData")
    assert first["Namespace"] == second["Namespace"] == "rtvc"


async def test_the_more_servers_there_are_the_less_each_asks_for() -> None:
    box = Box()
    box.server.standing = Standing("ready", 1, 8, capacity=4)
    box.publishing.servers = 4
    await box.publishing.once()
    assert box.cloud.published("InstanceId")["DemandPerCapacity"] == 25.0 * (1 + 0.5)


async def test_settings_that_were_read_again_hold() -> None:
    box = Box()
    await box.publishing.once()
    box.server.settings = box.server.settings.model_copy(update={"namespace": "voice"})
    await box.publishing.once()
    names = [request["Namespace"] for request in box.cloud.requests("PutMetricData")]
    assert names == ["rtvc", "voice"]


async def test_the_boot_is_told_once_and_to_the_group() -> None:
    box = Box()
    box.server.standing = replace(box.server.standing, boot_to_ready_s=95.0)
    await box.publishing.once()
    assert "BootToReady" in box.cloud.published("InstanceId")
    box.publishing.group = GROUP
    box.cloud.troubles["PutMetricData"] = [refused("PutMetricData", "Throttling")]
    await box.publishing.once()
    await box.publishing.once()
    assert box.cloud.published("AutoScalingGroupName")["BootToReady"] == 95.0
    await box.publishing.once()
    assert "BootToReady" not in box.cloud.published("AutoScalingGroupName")
    assert "BootToReady" not in box.cloud.published("InstanceId")


async def test_the_boot_is_told_once_where_there_is_no_group() -> None:
    box = Box()
    box.server.standing = replace(box.server.standing, boot_to_ready_s=95.0)
    await box.publishing.once()
    await box.publishing.once()
    first, second = box.cloud.requests("PutMetricData")
    names = [{one["MetricName"] for one in each["MetricData"]} for each in (first, second)]
    assert names[0] - names[1] == {"BootToReady"}


async def test_failures_are_counted_told_once_and_waited_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    box = Box()
    trouble = refused("PutMetricData", "AccessDenied", "no leave to do that")
    box.cloud.troubles["PutMetricData"] = [trouble] * 6
    pauses_s = [await box.publishing.once() for _ in range(7)]
    assert all(pause_s > 0 for pause_s in pauses_s[:6])
    assert max(pauses_s) > 4 * pauses_s[0]
    assert pauses_s[6] == 0
    assert box.failures == 6
    assert [record.getMessage() for record in caplog.records] == [
        "put_metric_data failed (said once until it works again): "
        "PutMetricData: AccessDenied: no leave to do that",
        "put_metric_data works again",
    ]


async def test_it_goes_on_at_its_pace_and_ends_at_once_though_a_call_hangs() -> None:
    box = Box(ServerOnIt(SystemClock(), publish_every_s=1))
    fast = box.server.settings.model_copy(update={"publish_every_s": 0.01})
    box.server.settings = fast
    running = asyncio.create_task(box.publishing.run())
    async with asyncio.timeout(20):
        while box.cloud.count("PutMetricData") < 5:  # noqa: ASYNC110 (calls are in threads)
            await asyncio.sleep(0.005)
    box.cloud.open.clear()
    await asyncio.sleep(0.05)
    running.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait([running])
    assert running.cancelled()
    box.cloud.open.set()
