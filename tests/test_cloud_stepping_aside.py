"""Standing aside, in a group that answers as EC2 Auto Scaling does."""

from dataclasses import replace

import pytest

from rtvc.server.cloud.aside import FORGOTTEN_S, LOOK_S
from rtvc.server.cloud.aws import Aws
from rtvc.server.cloud.calls import Calls
from rtvc.server.cloud.protecting import Protecting
from rtvc.server.cloud.stepping_aside import SteppingAside
from tests.cloud_group import NOT_FOUND, Group, Other, refused
from tests.cloud_world import GROUP, INSTANCE_ID, ServerOnIt

pytest.importorskip("botocore", reason="the extra aws is not installed")

IDLE_S = 60.0
LOOKED, PROTECTED = "DescribeAutoScalingGroups", "SetInstanceProtection"
ENDED = "TerminateInstanceInAutoScalingGroup"


class Box:
    """A server in a group of six, which stands aside before the others."""

    def __init__(self, *, desired: int = 5, sessions: int = 0) -> None:
        self.server = ServerOnIt(idle_before_unprotected_s=IDLE_S)
        self.group = Group()
        self.group.desired = desired
        self.group.others = [Other(f"i-0123456789abcdef{n}") for n in range(1, 6)]
        self.sessions(sessions)
        aws, calls = Aws(self.group, self.group), Calls(self.server.failures)
        self.counted: list[int] = []
        """Servers in service, as each look found them."""
        self.stepping = SteppingAside(
            *(self.server.host, aws, calls, INSTANCE_ID, GROUP), self.counted.append
        )
        self.protecting = Protecting(
            *(self.server.host, aws, calls, INSTANCE_ID, GROUP),
            protected=True,
            spare=lambda: self.stepping.left_alone,
        )

    def sessions(self, number: int) -> None:
        self.server.standing = replace(self.server.standing, sessions=number)

    async def look(self, after_s: float = LOOK_S) -> str:
        """At the group, and what follows for the protection."""
        self.server.advance(after_s)
        place = await self.stepping.look()
        return place if place != "stays" else await self.protecting.look()

    async def looks(self, times: int) -> set[str]:
        return {await self.look() for _ in range(times)}

    async def given_free(self) -> None:
        """Look until it is."""
        while self.group.protected:
            await self.look()

    @property
    def stood(self) -> list[bool]:
        """Aside or not, one after the other."""
        return [*self.server.stood]


async def test_a_group_that_has_what_it_wants_is_only_looked_at() -> None:
    box = Box(desired=6)
    assert await box.looks(20) == {"stays"}
    assert box.stood == [False]
    assert box.group.requests(LOOKED)[0] == {"AutoScalingGroupNames": [GROUP]}
    # Empty all the time, and protected all the same: callers may come any moment.
    assert {name for name, _ in box.group.asked} == {LOOKED}
    assert box.stepping.pause_s == LOOK_S


async def test_it_stands_aside_while_it_is_too_many_and_keeps_its_sessions() -> None:
    box = Box(sessions=3)
    assert await box.looks(20) == {"stays"}
    assert box.stood == [False, True]
    assert box.server.standing.state == "aside"
    assert box.group.protected
    assert box.server.left == []
    box.group.desired = 6
    await box.look()
    assert box.stood == [False, True, False]
    assert box.server.standing.state == "ready"
    assert {name for name, _ in box.group.asked} == {LOOKED}


async def test_once_it_is_empty_it_is_given_free_and_then_ended() -> None:
    box = Box(sessions=1)
    await box.looks(5)
    box.sessions(0)
    steps = []
    while (place := await box.look()) == "stays":
        steps.append(box.group.protected)
        assert len(steps) < 10
    assert place == "ends"
    # The last session was seen a look before.
    assert steps == [True, False]
    assert box.group.requests(PROTECTED) == [
        {
            "AutoScalingGroupName": GROUP,
            "InstanceIds": [INSTANCE_ID],
            "ProtectedFromScaleIn": False,
        }
    ]
    assert box.group.requests(ENDED) == [
        {"InstanceId": INSTANCE_ID, "ShouldDecrementDesiredCapacity": False}
    ]
    assert box.group.desired == 5
    # It says so till the end: the server drains from here.
    assert box.stood == [False, True]
    assert sum(box.server.failures.values()) == 0


async def test_whoever_is_wanted_again_is_protected_again_and_not_ended() -> None:
    box = Box()
    await box.given_free()
    box.group.desired = 6
    assert await box.look() == "stays"
    assert box.stood == [False, True, False]
    assert box.group.protected
    assert box.group.count(ENDED) == 0


async def test_who_has_a_caller_after_all_does_not_go() -> None:
    """One who was let in and is only now being counted."""
    box = Box()
    await box.given_free()
    box.sessions(1)
    assert await box.looks(10) == {"stays"}
    assert box.group.protected
    assert box.group.count(ENDED) == 0


async def test_the_group_may_be_quicker() -> None:
    box = Box()
    await box.given_free()
    box.group.state = "Terminating:Wait"
    assert await box.look() == "ends"
    assert box.group.count(ENDED) == 0


async def test_quicker_than_its_list() -> None:
    box = Box()
    await box.given_free()
    said = f"{NOT_FOUND} {INSTANCE_ID}"
    box.group.troubles[ENDED] = [refused(ENDED, "ValidationError", said)]
    assert await box.look() == "stays"
    assert not box.server.failures["terminate_instance_in_auto_scaling_group"]
    assert box.stood == [False, True]


@pytest.mark.parametrize(
    "code", ["Throttling", "ScalingActivityInProgress", "ResourceContention", "AccessDenied"]
)
async def test_an_end_that_is_refused_is_asked_for_again(code: str) -> None:
    box = Box()
    await box.given_free()
    box.group.troubles[ENDED] = [refused(ENDED, code)]
    assert await box.look() == "stays"
    assert box.stood == [False, True]
    assert box.server.failures["terminate_instance_in_auto_scaling_group"] == 1
    assert await box.look() == "ends"


async def test_an_instance_that_could_not_be_ended_and_is_wanted_again_is_back() -> None:
    box = Box()
    await box.given_free()
    box.group.troubles[ENDED] = [refused(ENDED, "AccessDenied")]
    await box.look()
    box.group.desired = 6
    assert await box.look() == "stays"
    assert box.stood == [False, True, False]
    assert box.group.protected


async def test_when_nobody_answers_it_stands_aside_no_longer_than_that_is_believed() -> None:
    box = Box(sessions=1)
    await box.looks(3)
    box.group.troubles[LOOKED] = [refused(LOOKED, "Throttling") for _ in range(9)]
    pauses_s = []
    for _ in range(9):
        assert await box.look(FORGOTTEN_S / 4) == "stays"
        pauses_s.append(box.stepping.pause_s)
        believed = len(pauses_s) < 4
        assert box.stood[-1] is believed
    assert max(pauses_s) > LOOK_S
    assert box.server.failures["describe_auto_scaling_groups"] == 9
    # Nothing is done on what was seen before.
    assert box.group.protected
    await box.look()
    assert box.stood[-1]
    assert not box.stepping.left_alone
    assert box.stepping.pause_s == LOOK_S


async def test_what_it_does_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    box = Box(sessions=1)
    await box.looks(5)
    box.group.desired = 6
    await box.looks(5)
    assert [record.getMessage() for record in caplog.records] == [
        "the group has more instances than it wants: this one stands aside",
        "this instance stands aside no more",
    ]


async def test_one_that_is_loading_is_not_given_free() -> None:
    box = Box()
    box.server.standing = replace(box.server.standing, state="loading")
    assert await box.looks(20) == {"stays"}
    assert box.stood == [False, True]
    assert box.group.protected


async def test_one_that_was_detached_is_let_go_of() -> None:
    box = Box()
    box.group.state = None
    assert await box.stepping.run() == "gone"


async def test_one_that_was_moved_to_another_group_is_let_go_of() -> None:
    box = Box()
    box.group.name = "another"
    assert await box.stepping.run() == "gone"


async def test_one_that_is_not_listed_may_be_in_a_warm_pool() -> None:
    box = Box()
    box.group.state = "Warmed:Running"
    assert await box.look() == "stays"
    assert box.stood == [False]


async def test_it_is_back_when_another_is_found_broken() -> None:
    box = Box(sessions=1)
    await box.looks(3)
    box.group.others[0].health = "Unhealthy"
    await box.look()
    assert box.stood == [False, True, False]


async def test_of_a_group_that_there_is_none_of_nobody_stands_aside() -> None:
    box = Box()
    aws, calls = Aws(box.group, box.group), Calls(box.server.failures)
    other = SteppingAside(box.server.host, aws, calls, INSTANCE_ID, "another")
    assert await other.look() == "gone"
    assert box.stood == [False]


async def test_it_counts_the_servers_that_callers_are_meant_for() -> None:
    box = Box()
    await box.look()
    box.group.others[0].state = "Pending"
    box.group.others[1].state = "Terminating:Wait"
    box.group.others[2].health = "Unhealthy"
    await box.look()
    box.group.troubles[LOOKED] = [refused(LOOKED, "Throttling")]
    await box.look()
    assert box.counted == [6, 3]
