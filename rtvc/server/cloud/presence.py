"""A server on an EC2 instance: who it is, what it tells, and what it is told.

    metadata ── identity ──▶ publishing                       figures, for CloudWatch
        │                    group ──▶ protecting             from scale-in, while it is needed
        │                          └─▶ stepping aside         while the group has too many
        └── signs of the end ─────────▶ leaving ──▶ drain ──▶ the lifecycle hook lets it end

Nothing here holds up the server or ends it: what fails is told, counted and tried again. So is what
nobody foresaw: a mistake in what is published must not cost the drain.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from rtvc.errors import CloudError
from rtvc.server.cloud import aws as boto
from rtvc.server.cloud.aws import Aws
from rtvc.server.cloud.backoff import Backoff
from rtvc.server.cloud.calls import Calls, first_of
from rtvc.server.cloud.host import Host
from rtvc.server.cloud.instance import Identity
from rtvc.server.cloud.leaving import Leaving, is_set
from rtvc.server.cloud.metadata import Metadata
from rtvc.server.cloud.protecting import Place, Protecting
from rtvc.server.cloud.publishing import Publishing
from rtvc.server.cloud.stepping_aside import SteppingAside

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0
_HOOK_S = 300.0
"""Terraform may make the hook after the first instances."""
_FIND_S, _FIND_LOOK_S = 120.0, 0.2
"""For the group of an instance that is to end before anybody knew its name."""


class Presence:
    """One server's, from its start to its end."""

    def __init__(
        self,
        host: Host,
        metadata: Metadata | None = None,
        connect: Callable[[str], Aws] = boto.connect,
    ) -> None:
        """`connect`: AWS in a region."""
        self.identity: Identity | None = None
        """Of the instance; None: not known so far."""
        self.group: str | None = None
        """Its Auto Scaling group; None: it is in none, or in none that is known."""
        self._host = host
        self._metadata = metadata or Metadata(host.clock)
        self._connect = connect
        self._calls = Calls(host.failures)
        self._aws: Aws | None = None
        self._leaving: Leaving | None = None
        self._publishing: Publishing | None = None
        self._gone_from: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._begin(self._live, "cloud")

    def describe(self) -> dict[str, Any] | None:
        """For /readyz; None: nothing is known so far."""
        return None if self.identity is None else self.identity.to_wire(self.group)

    async def finish(self, given_up: asyncio.Event) -> None:
        """All sessions are over. If the instance is to end, wait until the lifecycle hook has let
        it, or `given_up` is set.
        """
        try:
            await self._until_found(given_up)
            await self._end_tasks()
            if self._leaving is not None and self._aws is not None:
                await self._leaving.complete(self._aws, given_up)
        finally:
            await self._metadata.close()

    async def _until_found(self, given_up: asyncio.Event) -> None:
        """Who is to end while it boots is empty at once; its hook has to be completed all the same,
        or the machine is kept for nothing.
        """
        until_s = self._host.clock.now() + _FIND_S
        while self._leaving is not None and self._leaving.nameless:
            if self._host.clock.now() > until_s or await is_set(given_up, _FIND_LOOK_S):
                return

    async def _end_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        task = asyncio.create_task(_kept_up(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # From nothing known to all that is to be done.

    async def _live(self) -> None:
        identity = await self._until_known()
        self.identity = identity
        self._host.known(identity)
        leaving = self._leaving = Leaving(
            self._host, self._metadata, self._calls, identity.instance_id, self._set_uncounted
        )
        self._begin(leaving.run, "cloud-leaving")
        self._begin(lambda: self._talk(leaving, identity), "cloud-aws")

    async def _talk(self, leaving: Leaving, identity: Identity) -> None:
        aws = self._aws = await self._until_connected(identity.region)
        publishing = Publishing(self._host, aws, self._calls, identity.instance_id)
        self._publishing = publishing
        self._begin(publishing.run, "cloud-publishing")
        self._begin(lambda: leaving.hold(aws), "cloud-hook")
        self._begin(lambda: self._belong(aws, identity.instance_id), "cloud-group")

    async def _until_known(self) -> Identity:
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while True:
            try:
                with self._calls.counted("metadata"):
                    return await self._metadata.identity()
            except CloudError:
                await asyncio.sleep(backoff.failed())

    async def _until_connected(self, region: str) -> Aws:
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while True:
            try:
                # In a thread, as importing boto3 takes a while.
                return await self._calls.make("connect", lambda: self._connect(region))
            except CloudError:
                await asyncio.sleep(backoff.failed())

    def _set_uncounted(self, uncounted: bool) -> None:
        if self._publishing is not None:
            self._publishing.uncounted = uncounted

    def _set_servers(self, servers: int) -> None:
        if self._publishing is not None:
            self._publishing.servers = servers

    # The group.

    async def _belong(self, aws: Aws, instance_id: str) -> None:
        """Be in the group, whenever there is one; until the instance is to end."""
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while True:
            found = await self._find_group(aws, instance_id)
            if found is not None and await self._in_group(aws, instance_id, *found):
                return
            await asyncio.sleep(backoff.failed())

    async def _find_group(self, aws: Aws, instance_id: str) -> tuple[str, bool | None] | None:
        """The group, and whether the instance is protected in it, where that is known."""
        named = self._host.settings().group
        if named is not None and named not in self._gone_from:
            return named, None
        try:
            with self._calls.counted("metadata"):
                alone = await self._metadata.target_state() is None
            if alone:
                # So that an instance without a group needs no leave to ask for one.
                return None
            member = await self._calls.make(
                "describe_auto_scaling_instances", lambda: aws.member(instance_id)
            )
        except CloudError:
            return None
        return None if member is None else (member.group, member.protected)

    async def _in_group(
        self, aws: Aws, instance_id: str, group: str, protected: bool | None
    ) -> bool:
        """Until the instance is in it no more (False) or about to end (True)."""
        self._tell_group(group)
        name = "cloud-hook-time"
        follow = _kept_up(lambda: self._follow_hook(aws, group), name)
        following = asyncio.create_task(follow, name=name)
        try:
            place = await self._place(aws, instance_id, group, protected)
        finally:
            following.cancel()
            await asyncio.wait([following])
        if place == "ends" and self._leaving is not None:
            self._leaving.terminating()
            return True
        if group not in self._gone_from:
            _log.warning("this instance is not in the Auto Scaling group %s", group)
        self._gone_from.add(group)
        self._tell_group(None)
        return False

    async def _place(self, aws: Aws, instance_id: str, group: str, protected: bool | None) -> Place:
        """Of the instance in the group, once it does not stay there."""
        stepping = SteppingAside(
            self._host, aws, self._calls, instance_id, group, self._set_servers
        )
        protecting = Protecting(
            *(self._host, aws, self._calls, instance_id, group),
            protected=protected,
            spare=lambda: stepping.left_alone,
        )
        place: Place = "gone"
        try:
            place = await first_of(protecting.run(), stepping.run())
        finally:
            if place != "ends":
                # Nobody looks any more whether it is wanted.
                self._host.aside(False)
        return place

    def _tell_group(self, group: str | None) -> None:
        self.group = group
        if self._publishing is not None:
            self._publishing.group = group
            self._publishing.servers = 1
        if self._leaving is not None:
            self._leaving.group = group

    async def _follow_hook(self, aws: Aws, group: str) -> None:
        """Know how long the lifecycle hook keeps the instance; until cancelled."""
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while True:
            try:
                hook_s = await self._calls.make(
                    "describe_lifecycle_hooks", lambda: aws.hook_timeout_s(group)
                )
            except CloudError:
                await asyncio.sleep(backoff.failed())
                continue
            backoff.worked()
            if self._leaving is not None:
                self._leaving.hook_s, self._leaving.hooked = hook_s, hook_s is not None
            await asyncio.sleep(_HOOK_S)


async def _kept_up(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    """Until it is done; what nobody foresaw has it begin again."""
    backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001 (a mistake of ours; the server goes on)
            _log.exception("%s failed, and begins again", name)
        else:
            return
        await asyncio.sleep(backoff.failed())
