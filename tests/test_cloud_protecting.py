"""Scale-in protection, against a group that answers as EC2 Auto Scaling does."""

from dataclasses import replace

import pytest

from rtvc.server.cloud.aws import Aws
from rtvc.server.cloud.calls import Calls
from rtvc.server.cloud.protecting import Protecting
from tests.cloud_group import Group, refused
from tests.cloud_world import GROUP, INSTANCE_ID, ServerOnIt

pytest.importorskip("botocore", reason="the extra aws is not installed")

IDLE_S = 300.0
ASKED = "SetInstanceProtection"


class Box:
    """A server in a group."""

    def __init__(self, *, protected: bool | None = True) -> None:
        self.server = ServerOnIt(idle_before_unprotected_s=IDLE_S)
        self.group = Group()
        self.group.protected = bool(protected)
        self.spare = True
        """Whether the group can do without the instance."""
        self.protecting = Protecting(
            self.server.host,
            Aws(self.group, self.group),
            Calls(self.server.failures),
            INSTANCE_ID,
            GROUP,
            protected=protected,
            spare=lambda: self.spare,
        )

    def sessions(self, number: int) -> None:
        self.server.standing = replace(self.server.standing, sessions=number)

    async def look(self, after_s: float = 0.0) -> str:
        self.server.advance(after_s)
        return await self.protecting.look()

    @property
    def wishes(self) -> list[bool]:
        return [request["ProtectedFromScaleIn"] for request in self.group.requests(ASKED)]


async def test_protection_follows_the_callers() -> None:
    box = Box()
    for sessions, after_s, protected in (
        (0, 0, True),
        (1, 1000, True),
        (0, 1, True),
        (0, IDLE_S - 2, True),
        (0, 2, False),
        (0, 1000, False),
        (1, 1, True),
        (0, 1, True),
    ):
        box.sessions(sessions)
        assert await box.look(after_s) == "stays"
        assert box.group.protected is protected
    # And nothing was asked for twice.
    assert box.wishes == [False, True]
    assert box.group.requests(ASKED)[0] == {
        "AutoScalingGroupName": GROUP,
        "InstanceIds": [INSTANCE_ID],
        "ProtectedFromScaleIn": False,
    }


async def test_an_instance_that_is_needed_stays_protected_though_it_is_empty() -> None:
    box = Box()
    box.spare = False
    for _ in range(10):
        assert await box.look(IDLE_S) == "stays"
    assert box.wishes == []
    box.spare = True
    await box.look()
    box.spare = False
    await box.look(1)
    assert box.wishes == [False, True]
    assert box.group.protected


async def test_standing_aside_counts_as_being_able() -> None:
    box = Box()
    box.server.standing = replace(box.server.standing, state="aside")
    await box.look(IDLE_S)
    assert box.wishes == [False]


async def test_a_server_that_failed_is_given_free_until_it_works_again() -> None:
    """So that a scale-in takes what is broken, and not the one that still works."""
    box = Box()
    box.spare = False
    box.server.standing = replace(box.server.standing, state="failed", sessions=1)
    await box.look(IDLE_S)
    assert box.wishes == []
    box.sessions(0)
    await box.look(IDLE_S - 1)
    assert box.wishes == []
    await box.look(1)
    assert box.wishes == [False]
    box.server.standing = replace(box.server.standing, state="ready")
    await box.look(1)
    assert box.wishes == [False, True]


async def test_while_the_engine_is_replaced_the_instance_is_in_use() -> None:
    box = Box()
    box.server.standing = replace(box.server.standing, state="restarting")
    await box.look(IDLE_S)
    assert box.wishes == []


async def test_what_nobody_knows_is_made_sure_of() -> None:
    box = Box(protected=None)
    await box.look()
    await box.look(1)
    assert box.wishes == [True]
    assert box.group.protected


async def test_an_answer_that_is_lost_is_asked_for_again() -> None:
    box = Box(protected=None)
    box.group.troubles[ASKED] = [refused(ASKED, "Throttling") for _ in range(3)]
    for _ in range(200):
        assert await box.look(1) == "stays"
    assert box.wishes == [True] * 4
    assert box.server.failures["set_instance_protection"] == 3


async def test_a_caller_who_comes_while_it_fails_is_protected_at_once() -> None:
    box = Box()
    box.group.troubles[ASKED] = [refused(ASKED, "Throttling")]
    await box.look(IDLE_S)
    box.sessions(1)
    await box.look()
    assert box.wishes == [False, True]
    assert box.group.protected


async def test_an_instance_that_is_not_in_service_yet_is_asked_for_later() -> None:
    box = Box(protected=None)
    box.group.state = "Pending:Wait"
    assert await box.look() == "stays"
    box.group.state = "InService"
    for _ in range(60):
        assert await box.look(1) == "stays"
    assert box.wishes == [True, True]
    assert not box.server.failures["set_instance_protection"]


@pytest.mark.parametrize("state", ["Terminating", "Terminating:Wait", "Warmed:Terminating"])
async def test_that_it_is_to_end_is_noticed_by_who_wants_to_protect_it(state: str) -> None:
    box = Box()
    box.sessions(0)
    await box.look(IDLE_S)
    box.group.state = state
    box.sessions(1)
    assert await box.look(1) == "ends"
    assert await box.protecting.run() == "ends"


async def test_one_that_was_detached_is_let_go_of() -> None:
    box = Box(protected=None)
    box.group.state = None
    assert await box.protecting.run() == "gone"


async def test_one_that_is_in_another_group_is_let_go_of() -> None:
    box = Box(protected=None)
    box.group.name = "another"
    assert await box.protecting.run() == "gone"


async def test_a_state_that_cannot_be_asked_for_is_asked_for_later() -> None:
    box = Box(protected=None)
    box.group.state = "Terminating:Wait"
    lost = refused("DescribeAutoScalingInstances", "AccessDenied")
    box.group.troubles["DescribeAutoScalingInstances"] = [lost]
    assert await box.look() == "stays"
    assert await box.look() == "stays"
    assert await box.look(60) == "ends"
    assert box.server.failures["describe_auto_scaling_instances"] == 1
