"""All of it together: an instance in its group, from its first word to its last."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from threading import Event
from typing import Any

import pytest

from rtvc.clock import SystemClock
from rtvc.errors import CloudError
from rtvc.server.cloud import aside, leaving, presence, protecting, stepping_aside
from rtvc.server.cloud.aws import Aws
from rtvc.server.cloud.metadata import Metadata
from rtvc.server.cloud.presence import Presence
from tests.cloud_group import Group, Other
from tests.cloud_world import (
    GROUP,
    INSTANCE_ID,
    REGION,
    TARGET_STATE,
    MetadataService,
    ServerOnIt,
    metadata_service,
)
from tests.servers import free_port

pytest.importorskip("botocore", reason="the extra aws is not installed")

SOON_S = 0.02
ALL = {
    *("Sessions", "Ready", "Aside", "Capacity", "Headroom"),
    *("SessionsPerCapacity", "DemandPerCapacity"),
}


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for long."""
    for name in ("_FIRST_PAUSE_S", "_LONGEST_PAUSE_S", "_HOOK_S"):
        monkeypatch.setattr(presence, name, SOON_S)
    for name in ("_LOOK_S", "_NOT_HELD_S", "_LONGEST_BEAT_S"):
        monkeypatch.setattr(leaving, name, SOON_S)
    monkeypatch.setattr(protecting, "_LOOK_S", SOON_S)
    monkeypatch.setattr(stepping_aside, "LOOK_S", SOON_S)
    monkeypatch.setattr(aside, "NOTICED_S", SOON_S)


@pytest.fixture
def service() -> Iterator[MetadataService]:
    with metadata_service() as running:
        running.texts[TARGET_STATE] = "InService"
        yield running


class Box:
    """A server on an instance."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.server = ServerOnIt(SystemClock(), publish_every_s=1, **settings)
        self.server.settings = self.server.settings.model_copy(update={"publish_every_s": SOON_S})
        self.group = Group()
        self.regions: list[str] = []
        self.refusals = 0
        """Times that boto3 can't be set up."""
        self.reachable = Event()
        """Not set: setting it up takes its time."""
        self.reachable.set()
        self.given_up = asyncio.Event()
        metadata = Metadata(self.server.clock, url)
        self.presence = Presence(self.server.host, metadata, self._connect)

    def _connect(self, region: str) -> Aws:
        self.reachable.wait(20)
        self.regions.append(region)
        if len(self.regions) <= self.refusals:
            raise CloudError("no such profile")
        return Aws(self.group, self.group)

    def sessions(self, number: int) -> None:
        self.server.standing = replace(self.server.standing, sessions=number)

    async def published(self, dimension: str) -> dict[str, float]:
        """The next figures."""
        before = self.group.count("PutMetricData")
        await until(lambda: self.group.count("PutMetricData") > before)
        return self.group.published(dimension)


@pytest.fixture
async def box(service: MetadataService) -> AsyncIterator[Box]:
    made = Box(service.url)
    made.presence.start()
    yield made
    made.given_up.set()
    await made.presence.finish(made.given_up)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 (calls are in threads)
            await asyncio.sleep(0.005)


async def test_it_finds_out_where_it_is(box: Box) -> None:
    assert box.presence.describe() is None
    await until(lambda: box.presence.group is not None)
    assert box.presence.describe() == {
        "provider": "aws",
        "id": INSTANCE_ID,
        "type": "g6.xlarge",
        "zone": "eu-west-1a",
        "region": REGION,
        "group": GROUP,
    }
    assert [identity.instance_id for identity in box.server.known] == [INSTANCE_ID]
    assert box.regions == [REGION]


async def test_its_group_is_told_how_full_it_is(box: Box) -> None:
    await until(lambda: box.presence.group is not None)
    box.server.standing = replace(box.server.standing, sessions=2)
    await box.published("AutoScalingGroupName")
    assert (await box.published("AutoScalingGroupName"))["SessionsPerCapacity"] == 25.0
    assert sum(box.server.failures.values()) == 0


async def test_in_a_larger_group_each_asks_for_less_room(box: Box) -> None:
    await until(lambda: box.presence.group is not None)
    capacity = box.server.standing.capacity or box.server.standing.max_sessions
    box.server.standing = replace(box.server.standing, sessions=4)
    box.group.others = [Other(f"i-0123456789abcdef{n}") for n in range(1, 4)]
    box.group.desired = 4
    expected = 100 * (4 + 1) / capacity
    async with asyncio.timeout(20):
        while (await box.published("AutoScalingGroupName"))["DemandPerCapacity"] != expected:
            pass


async def test_one_too_many_stands_aside_and_ends_when_nobody_is_there(
    service: MetadataService,
) -> None:
    box = Box(service.url, idle_before_unprotected_s=0.0)
    box.group.others = [Other("i-0123456789abcdef1")]
    box.sessions(1)
    box.presence.start()
    await until(lambda: box.server.stood == [False, True])
    # Found out by now: how long the hook keeps it.
    await until(lambda: box.group.count("DescribeLifecycleHooks") >= 2)
    found = await box.published("AutoScalingGroupName")
    assert (found["Aside"], found["SessionsPerCapacity"]) == (1.0, 12.5)
    assert box.group.protected
    assert box.server.left == []
    box.sessions(0)
    await until(lambda: bool(box.server.left))
    assert box.server.left == [590.0]
    assert box.group.state == "Terminating"
    assert box.group.count("TerminateInstanceInAutoScalingGroup") == 1
    # Till the end it says that it stands aside, or somebody would be sent there.
    assert box.server.stood == [False, True]
    box.given_up.set()
    await box.presence.finish(box.given_up)
    assert sum(box.server.failures.values()) == 0


async def test_one_that_is_wanted_again_is_back_and_stays(box: Box) -> None:
    await until(lambda: box.presence.group is not None)
    box.sessions(1)
    box.group.others = [Other("i-0123456789abcdef1")]
    await until(lambda: box.server.stood[-1])
    box.group.desired = 2
    await until(lambda: not box.server.stood[-1])
    assert box.server.stood == [False, True, False]
    assert box.group.protected
    assert box.server.left == []


async def test_nobody_stands_aside_when_nobody_looks_any_more(
    box: Box, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.sessions(1)
    box.group.others = [Other("i-0123456789abcdef1")]
    await until(lambda: box.server.stood[-1])

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as for_now:
        for_now.setattr("rtvc.server.cloud.aside.standing_aside", broken)
        await until(lambda: not box.server.stood[-1])
        await until(lambda: "cloud-group failed, and begins again" in caplog.text)
        assert box.server.standing.state == "ready"
    await until(lambda: box.server.stood[-1])


async def test_the_end_is_told_to_the_server_and_then_let_happen(
    box: Box, service: MetadataService
) -> None:
    # Found out by now: how long the hook keeps it.
    await until(lambda: box.group.count("DescribeLifecycleHooks") >= 2)
    service.texts[TARGET_STATE] = "Terminated"
    await until(lambda: bool(box.server.left))
    assert box.server.left == [590.0]
    box.group.state, box.group.holding = "Terminating:Wait", True
    await until(lambda: box.group.beats > 0)
    async with asyncio.timeout(20):
        await box.presence.finish(box.given_up)
    assert box.group.state == "Terminating:Proceed"
    assert box.group.count("CompleteLifecycleAction") == 1


async def test_who_is_to_end_before_its_group_is_known_still_lets_the_hook_end_it(
    service: MetadataService,
) -> None:
    service.texts[TARGET_STATE] = "Terminated"
    box = Box(service.url)
    box.group.state, box.group.holding = "Terminating:Wait", True
    box.reachable.clear()
    box.presence.start()
    await until(lambda: bool(box.server.left))
    # Empty, so all is over at once, and AWS has not been asked for anything.
    finishing = asyncio.create_task(box.presence.finish(box.given_up))
    await asyncio.sleep(0.1)
    assert not finishing.done()
    box.reachable.set()
    async with asyncio.timeout(20):
        await finishing
    assert box.group.state == "Terminating:Proceed"


@pytest.mark.parametrize("gives_up", [True, False])
async def test_a_group_that_is_not_found_is_not_waited_for_without_end(
    service: MetadataService, monkeypatch: pytest.MonkeyPatch, gives_up: bool
) -> None:
    monkeypatch.setattr(presence, "_FIND_S", 60.0 if gives_up else 0.1)
    service.texts[TARGET_STATE] = "Terminated"
    box = Box(service.url)
    box.reachable.clear()
    box.presence.start()
    await until(lambda: bool(box.server.left))
    if gives_up:
        box.given_up.set()
    async with asyncio.timeout(5):
        await box.presence.finish(box.given_up)
    box.reachable.set()
    assert box.group.asked == []


async def test_that_it_is_to_end_may_be_learnt_from_auto_scaling(box: Box) -> None:
    await until(lambda: box.group.count("DescribeLifecycleHooks") >= 2)
    box.group.state = "Terminating"
    await until(lambda: bool(box.server.left))
    assert box.server.left == [590.0]
    # The group whose hook it is stays known.
    assert box.presence.group == GROUP


async def test_a_detached_instance_goes_on_alone(box: Box, service: MetadataService) -> None:
    await until(lambda: box.presence.group is not None)
    del service.texts[TARGET_STATE]
    box.group.state = None
    await until(lambda: box.presence.group is None)
    await box.published("InstanceId")
    assert await box.published("AutoScalingGroupName") == {}
    assert (await box.published("InstanceId"))["Ready"] == 1.0
    assert box.server.left == []


async def test_on_standby_it_counts_for_nothing_and_ends_nothing(
    box: Box, service: MetadataService
) -> None:
    await until(lambda: box.presence.group is not None)
    for state, names in (("Standby", {"Sessions", "Ready", "Aside"}), ("InService", ALL)):
        service.texts[TARGET_STATE] = state
        async with asyncio.timeout(20):
            while set(await box.published("AutoScalingGroupName")) != names:
                pass
    assert box.server.left == []


async def test_an_instance_without_a_group_asks_auto_scaling_nothing(
    service: MetadataService,
) -> None:
    del service.texts[TARGET_STATE]
    box = Box(service.url)
    box.presence.start()
    for _ in range(3):
        assert (await box.published("InstanceId"))["Sessions"] == 0
    assert {name for name, _ in box.group.asked} == {"PutMetricData"}
    await box.presence.finish(box.given_up)


async def test_a_group_that_is_named_is_not_asked_for(service: MetadataService) -> None:
    box = Box(service.url, group=GROUP)
    box.presence.start()
    await until(lambda: box.group.count("SetInstanceProtection") > 0)
    await until(lambda: box.presence.group == GROUP)
    assert box.group.count("DescribeAutoScalingInstances") == 0
    assert box.group.protected
    await box.presence.finish(box.given_up)


async def test_an_instance_that_was_moved_speaks_for_its_new_group(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    await until(lambda: box.presence.group == GROUP)
    box.group.name = "another"
    await until(lambda: box.presence.group == "another")
    assert caplog.text.count(f"this instance is not in the Auto Scaling group {GROUP}") == 1
    assert box.server.left == []


async def test_a_group_that_is_named_wrongly_is_told_of_and_then_asked_for(
    service: MetadataService, caplog: pytest.LogCaptureFixture
) -> None:
    box = Box(service.url, group="voices")
    box.presence.start()
    await until(lambda: box.presence.group == GROUP)
    assert caplog.text.count("this instance is not in the Auto Scaling group voices") == 1
    await box.presence.finish(box.given_up)


async def test_what_cannot_be_set_up_is_tried_again(service: MetadataService) -> None:
    box = Box(service.url)
    box.refusals = 3
    box.presence.start()
    await until(lambda: box.presence.group is not None)
    assert box.regions == [REGION] * 4
    assert box.server.failures["connect"] == 3
    await box.presence.finish(box.given_up)


async def test_off_ec2_nothing_happens_but_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    box = Box(f"http://127.0.0.1:{free_port()}")
    box.presence.start()
    await until(lambda: box.server.failures["metadata"] >= 3)
    assert box.presence.describe() is None
    async with asyncio.timeout(20):
        await box.presence.finish(box.given_up)
    assert len(caplog.records) == 1
    assert "is this an EC2 instance" in caplog.records[0].getMessage()
    assert box.group.asked == []


async def test_what_nobody_foresaw_ends_nothing(
    box: Box, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await until(lambda: box.presence.group is not None)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as for_now:
        for_now.setattr("rtvc.server.cloud.publishing.figures", broken)
        await until(lambda: "cloud-publishing failed, and begins again" in caplog.text)
        assert "a bug" in caplog.text
        asked = box.group.count("DescribeLifecycleHooks")
        await until(lambda: box.group.count("DescribeLifecycleHooks") > asked)
    assert (await box.published("AutoScalingGroupName"))["Ready"] == 1.0


async def test_a_call_that_hangs_holds_nothing_up(box: Box) -> None:
    await until(lambda: box.presence.group is not None)
    box.group.open.clear()
    await asyncio.sleep(0.1)
    async with asyncio.timeout(5):
        await box.presence.finish(box.given_up)
    box.group.open.set()
