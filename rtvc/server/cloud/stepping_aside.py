"""Has the server stand aside while its group has more instances than it wants."""

import asyncio
import logging
from collections.abc import Callable

from rtvc.errors import CloudError
from rtvc.server.cloud.aside import LOOK_S, Aside, in_service
from rtvc.server.cloud.aws import Aws
from rtvc.server.cloud.backoff import Backoff
from rtvc.server.cloud.calls import Calls
from rtvc.server.cloud.host import Host
from rtvc.server.cloud.protecting import Place

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = LOOK_S, 2 * LOOK_S


class SteppingAside:
    """One instance, for as long as it is in its group."""

    def __init__(
        self,
        host: Host,
        aws: Aws,
        calls: Calls,
        instance_id: str,
        group: str,
        counted: Callable[[int], None] = lambda _servers: None,
    ) -> None:
        """`counted`: hears at each look how many servers the group has in service."""
        self.pause_s = LOOK_S
        """Until the next look."""
        self._host = host
        self._aws = aws
        self._calls = calls
        self._instance_id = instance_id
        self._group = group
        self._counted = counted
        self._aside = Aside(instance_id)
        self._told = False
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)

    @property
    def left_alone(self) -> bool:
        """Whether nobody is sent to the server any more, and it stays for its sessions only."""
        return self._aside.left_alone(self._host.clock.now())

    async def run(self) -> Place:
        """Until it is in the group no more, or about to end."""
        while True:
            place = await self.look()
            if place != "stays":
                return place
            await asyncio.sleep(self.pause_s)

    async def look(self) -> Place:
        """Ask how the group is, and do as that says."""
        try:
            place = await self._see()
        except CloudError:
            self._aside.unseen(self._host.clock.now())
            self._tell()
            self.pause_s = self._backoff.failed()
            return "stays"
        self._backoff.worked()
        self.pause_s = LOOK_S
        return place

    async def _see(self) -> Place:
        roster = await self._calls.make(
            "describe_auto_scaling_groups", lambda: self._aws.roster(self._group)
        )
        own = roster.find(self._instance_id)
        if own is not None and own.ends:
            return "ends"
        if own is None and not await self._is_member():
            return "gone"
        self._counted(len(in_service(roster)))
        self._aside.seen(self._host.clock.now(), roster)
        self._tell()
        now_s, sessions = self._host.clock.now(), self._host.standing().sessions
        return await self._go() if self._aside.goes(now_s, roster, sessions=sessions) else "stays"

    async def _is_member(self) -> bool:
        """One in a warm pool is, and is not listed; one that was moved to another group is not."""
        member = await self._calls.make(
            "describe_auto_scaling_instances", lambda: self._aws.member(self._instance_id)
        )
        return member is not None and member.group == self._group

    def _tell(self) -> None:
        """The server, and who reads its log."""
        stood, self._told = self._told, self._aside.stands
        self._host.aside(self._told)
        if self._told and not stood:
            _log.warning("the group has more instances than it wants: this one stands aside")
        elif stood and not self._told:
            _log.warning("this instance stands aside no more")

    async def _go(self) -> Place:
        """End; a group that wants more by now launches another, as it goes on wanting as many."""
        done = await self._calls.make(
            "terminate_instance_in_auto_scaling_group",
            lambda: self._aws.terminate(self._instance_id),
        )
        if not done:
            # Somebody else was quicker; the next look, or the metadata, says what came of it.
            return "stays"
        _log.warning("standing aside and empty: the group ends this instance")
        return "ends"
