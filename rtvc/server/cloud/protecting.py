"""Protects the instance from a scale-in, unless nobody is on the line and nobody will be."""

import asyncio
from collections.abc import Callable
from typing import Literal

from rtvc.errors import CloudError
from rtvc.server.cloud.aws import Aws
from rtvc.server.cloud.backoff import Backoff
from rtvc.server.cloud.calls import Calls
from rtvc.server.cloud.host import Host
from rtvc.server.cloud.protection import Protection

_LOOK_S = 1.0
"""An instance that was given free and is wanted again is protected after so long."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0

_FAILED = "failed"
"""The state in which it can take nobody. Of all that a scale-in may take it costs least."""
_SETTLED = ("ready", "aside", _FAILED)
"""States in which nobody on the line means that nobody needs it."""

Place = Literal["stays", "ends", "gone"]
"""Of the instance in its group: there, there and about to end, or there no more."""


class Protecting:
    """One instance, for as long as it is in its group."""

    def __init__(
        self,
        host: Host,
        aws: Aws,
        calls: Calls,
        instance_id: str,
        group: str,
        *,
        protected: bool | None,
        spare: Callable[[], bool],
    ) -> None:
        """`protected` None: nobody knows whether it is. `spare`: whether the group can do without
        the instance, and nobody comes to it any more.
        """
        self._host = host
        self._aws = aws
        self._calls = calls
        self._instance_id = instance_id
        self._group = group
        self._spare = spare
        self._protection = Protection(host.clock.now(), protected=protected)
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)

    async def run(self) -> Place:
        """Until there is nothing to protect it from."""
        while True:
            place = await self.look()
            if place != "stays":
                return place
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> Place:
        """Ask for what is wanted now, if it is not so already."""
        standing = self._host.standing()
        wish = self._protection.wish(
            self._host.clock.now(),
            sessions=standing.sessions,
            settled=standing.state in _SETTLED,
            spare=self._spare() or standing.state == _FAILED,
            idle_s=self._host.settings().idle_before_unprotected_s,
        )
        if wish is None:
            return "stays"
        try:
            return await self._ask(wish)
        except CloudError:
            return self._later(wish)

    async def _ask(self, wish: bool) -> Place:
        group, instance_id = self._group, self._instance_id
        in_service = await self._calls.make(
            "set_instance_protection", lambda: self._aws.protect(group, instance_id, on=wish)
        )
        if in_service:
            self._backoff.worked()
            self._protection.done(wish)
            return "stays"
        # Not yet, or not any more.
        member = await self._calls.make(
            "describe_auto_scaling_instances", lambda: self._aws.member(instance_id)
        )
        if member is None or member.group != self._group:
            return "gone"
        return "ends" if member.ends else self._later(wish)

    def _later(self, wish: bool) -> Place:
        self._protection.failed(wish, self._host.clock.now(), self._backoff.failed())
        return "stays"
