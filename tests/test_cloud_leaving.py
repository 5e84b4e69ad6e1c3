"""The end of an instance: seen in time, told to the server, held up and let happen."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from rtvc.clock import FakeClock, SystemClock
from rtvc.server.cloud import leaving
from rtvc.server.cloud.aws import Aws
from rtvc.server.cloud.calls import Calls
from rtvc.server.cloud.ending import LATE_S, MARGIN_S
from rtvc.server.cloud.leaving import Leaving
from rtvc.server.cloud.metadata import Metadata
from tests.cloud_group import Group, refused
from tests.cloud_world import (
    GROUP,
    INSTANCE_ID,
    REBALANCE,
    SPOT,
    TARGET_STATE,
    MetadataService,
    ServerOnIt,
    metadata_service,
)

pytest.importorskip("botocore", reason="the extra aws is not installed")

BEAT, COMPLETE = "RecordLifecycleActionHeartbeat", "CompleteLifecycleAction"


@dataclass
class Box:
    """An instance that may be told to end."""

    server: ServerOnIt
    service: MetadataService
    group: Group
    leaving: Leaving

    @property
    def aws(self) -> Aws:
        return Aws(self.group, self.group)


@pytest.fixture
def service() -> Iterator[MetadataService]:
    with metadata_service() as running:
        yield running


@pytest.fixture
async def box(service: MetadataService) -> AsyncIterator[Box]:
    async with opened(ServerOnIt(), service) as made:
        yield made


@pytest.fixture
async def live(service: MetadataService, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Box]:
    """Time passes by itself, and quickly."""
    for name in ("_NOT_HELD_S", "_LONGEST_BEAT_S", "_FIRST_PAUSE_S", "_LONGEST_PAUSE_S"):
        monkeypatch.setattr(leaving, name, 0.01)
    async with opened(ServerOnIt(SystemClock()), service) as made:
        yield made


@asynccontextmanager
async def opened(server: ServerOnIt, service: MetadataService) -> AsyncIterator[Box]:
    """In its group, whose hook keeps it for ten minutes."""
    metadata = Metadata(server.clock, service.url)
    made = Leaving(server.host, metadata, Calls(server.failures), INSTANCE_ID)
    made.group, made.hook_s, made.hooked = GROUP, 600.0, True
    yield Box(server, service, Group(), made)
    await metadata.close()


def notice(at_s: float) -> str:
    """EC2's, of an instant on the fake clock."""
    at = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f'{{"action": "terminate", "time": "{at}"}}'


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 (calls are in threads)
            await asyncio.sleep(0.005)


async def over(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


# The signs.


@pytest.mark.parametrize("state", [None, "InService", "Standby", "Detached"])
async def test_while_nothing_ends_the_server_is_told_nothing(box: Box, state: str | None) -> None:
    if state is not None:
        box.service.texts[TARGET_STATE] = state
    for _ in range(3):
        await box.leaving.look()
        box.server.advance(5)
    assert box.server.left == []


async def test_the_server_is_told_once_how_long_sessions_have(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    box.service.texts[TARGET_STATE] = "Terminated"
    for _ in range(5):
        await box.leaving.look()
        box.server.advance(5)
    assert box.server.left == [600 - MARGIN_S]
    (record,) = caplog.records
    assert "those that are open have 590 s" in record.getMessage()


async def test_without_a_hook_it_is_as_after_sigterm(box: Box) -> None:
    box.leaving.hook_s, box.leaving.hooked = None, False
    box.service.texts[TARGET_STATE] = "Terminated"
    await box.leaving.look()
    assert box.server.left == [30.0]


async def test_all_is_over_before_the_load_balancer_cuts_what_is_left(box: Box) -> None:
    update = {"deregistration_delay_s": 300.0}
    box.server.settings = box.server.settings.model_copy(update=update)
    box.service.texts[TARGET_STATE] = "Terminated"
    await box.leaving.look()
    assert box.server.left == [300 - MARGIN_S - LATE_S]


async def test_a_spot_notice_gives_what_is_left_of_two_minutes(box: Box) -> None:
    box.service.texts[SPOT] = notice(1000 + 97)
    await box.leaving.look()
    box.server.advance(5)
    await box.leaving.look()
    assert box.server.left == [97 - MARGIN_S]


class SetLater(FakeClock):
    """A wall clock that somebody sets."""

    by_s = 0.0

    def utc(self) -> datetime:
        return super().utc() + timedelta(seconds=self.by_s)


async def test_a_wall_clock_that_is_set_meanwhile_cuts_nobody_off(service: MetadataService) -> None:
    clock = SetLater(1000.0)
    async with opened(ServerOnIt(clock), service) as box:
        service.texts[SPOT] = notice(1000 + 120)
        await box.leaving.look()
        clock.by_s = 3600.0
        for status in (200, 500, 200):
            service.status = status
            await box.leaving.look()
        assert box.server.left == [110.0]
        # Another notice is another matter.
        service.texts[SPOT] = notice(4600 + 60)
        await box.leaving.look()
        assert box.server.left == [110.0, 60 - MARGIN_S]


async def test_a_spot_notice_shortens_what_a_hook_had_given(box: Box) -> None:
    box.service.texts[TARGET_STATE] = "Terminated"
    await box.leaving.look()
    box.server.advance(50)
    box.service.texts[SPOT] = notice(1050 + 120)
    await box.leaving.look()
    assert box.server.left == [590.0, 110.0]


async def test_what_auto_scaling_said_counts_without_any_metadata(box: Box) -> None:
    box.service.status = 500
    await box.leaving.look()
    assert box.server.left == []
    box.leaving.terminating()
    await box.leaving.look()
    assert box.server.left == [590.0]
    assert box.server.failures["metadata"] == 6


async def test_metadata_that_fails_for_a_moment_changes_nothing(
    service: MetadataService, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[bool] = []
    server = ServerOnIt()
    metadata = Metadata(server.clock, service.url)
    on_standby = Leaving(
        server.host, metadata, Calls(server.failures), INSTANCE_ID, on_uncounted=told.append
    )
    service.texts |= {TARGET_STATE: "Standby", REBALANCE: "{}"}
    for status in (200, 503, 200):
        service.status = status
        await on_standby.look()
    del service.texts[TARGET_STATE]
    await on_standby.look()
    await metadata.close()
    assert told == [True, True, True, False]
    assert caplog.text.count("expects to take this spot instance back") == 1


async def test_a_broken_answer_hides_no_other_sign(box: Box) -> None:
    box.service.texts |= {SPOT: "<html>", TARGET_STATE: "Terminated"}
    await box.leaving.look()
    assert box.server.left == [590.0]


async def test_advice_to_rebalance_is_told_once_and_changes_nothing(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    box.service.texts[REBALANCE] = '{"noticeTime": "2026-01-31T08:00:00Z"}'
    for _ in range(3):
        await box.leaving.look()
    assert box.server.left == []
    assert len(caplog.records) == 1


# The hook.


async def test_the_hook_is_held_from_when_it_has_the_instance_on(live: Box) -> None:
    holding = asyncio.create_task(live.leaving.hold(live.aws))
    await asyncio.sleep(0.05)
    assert live.group.count(BEAT) == 0
    live.leaving.terminating()
    # The load balancer has not let go of it so far, which is no failure.
    await until(lambda: live.group.count(BEAT) >= 3)
    assert live.group.beats == 0
    live.group.holding = True
    await until(lambda: live.group.beats >= 3)
    await over(holding)
    assert live.server.failures["record_lifecycle_action_heartbeat"] == 0
    assert live.group.requests(BEAT)[0] == {
        "AutoScalingGroupName": GROUP,
        "LifecycleHookName": "drain",
        "InstanceId": INSTANCE_ID,
    }


async def test_a_beat_that_fails_is_made_up_for(live: Box) -> None:
    live.group.holding = True
    live.group.troubles[BEAT] = [refused(BEAT, "Throttling") for _ in range(3)]
    live.leaving.terminating()
    holding = asyncio.create_task(live.leaving.hold(live.aws))
    await until(lambda: live.group.beats >= 2)
    await over(holding)
    assert live.server.failures["record_lifecycle_action_heartbeat"] == 3


async def test_where_there_is_no_hook_none_is_held_nor_completed(live: Box) -> None:
    live.leaving.hook_s, live.leaving.hooked = None, False
    live.leaving.terminating()
    holding = asyncio.create_task(live.leaving.hold(live.aws))
    await asyncio.sleep(0.1)
    await over(holding)
    assert not await live.leaving.complete(live.aws, asyncio.Event())
    assert live.group.asked == []


async def test_an_instance_that_stays_completes_nothing(live: Box) -> None:
    live.group.holding = True
    assert not await live.leaving.complete(live.aws, asyncio.Event())
    assert live.group.asked == []


async def test_the_instance_is_let_go_once_the_hook_has_it(live: Box) -> None:
    live.leaving.terminating()
    live.group.troubles[COMPLETE] = [refused(COMPLETE, "Throttling")]
    completing = asyncio.create_task(live.leaving.complete(live.aws, asyncio.Event()))
    await until(lambda: live.group.count(COMPLETE) >= 4)
    assert not completing.done()
    live.group.holding = True
    async with asyncio.timeout(20):
        assert await completing
    assert live.group.state == "Terminating:Proceed"
    assert live.group.requests(COMPLETE)[0] == {
        "AutoScalingGroupName": GROUP,
        "LifecycleHookName": "drain",
        "LifecycleActionResult": "CONTINUE",
        "InstanceId": INSTANCE_ID,
    }
    assert live.server.failures["complete_lifecycle_action"] == 1


async def test_who_wants_the_process_gone_gets_one_attempt_and_no_wait(live: Box) -> None:
    given_up = asyncio.Event()
    given_up.set()
    live.leaving.terminating()
    async with asyncio.timeout(20):
        assert not await live.leaving.complete(live.aws, given_up)
    assert live.group.count(COMPLETE) == 1
    live.group.holding = True
    assert await live.leaving.complete(live.aws, given_up)


async def test_who_wants_the_process_gone_does_not_wait_for_a_call_that_hangs(
    live: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "_LAST_WORD_S", 0.05)
    live.leaving.terminating()
    live.group.open.clear()
    given_up = asyncio.Event()
    completing = asyncio.create_task(live.leaving.complete(live.aws, given_up))
    await asyncio.sleep(0.2)
    assert not completing.done()
    given_up.set()
    async with asyncio.timeout(5):
        assert not await completing
    live.group.open.set()


async def test_it_is_not_waited_for_without_end(live: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "WAIT_S", 0.1)
    live.leaving.terminating()
    async with asyncio.timeout(20):
        assert not await live.leaving.complete(live.aws, asyncio.Event())
    assert live.group.count(COMPLETE) >= 2
