"""Sees that the instance is to end, has the server drained, and keeps the machine until it is."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rtvc.errors import CloudError
from rtvc.server.cloud.aws import HOOK, Aws
from rtvc.server.cloud.backoff import Backoff
from rtvc.server.cloud.calls import Calls, first_of
from rtvc.server.cloud.ending import Departure, Leave, Signs, Times, ends, leave, uncounted
from rtvc.server.cloud.host import Host
from rtvc.server.cloud.instance import SpotNotice
from rtvc.server.cloud.metadata import Metadata

_log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK_S = 5.0
"""As AWS advises for spot notices."""
_NOT_HELD_S = 5.0
"""The load balancer has not let go of the instance yet; the hook comes after that."""
_BEATS = 3
"""In the hook's time."""
_LONGEST_BEAT_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
WAIT_S = 3_900.0
"""For the hook, when all sessions are over: a load balancer may take an hour to let go."""
_LAST_WORD_S = 5.0
"""For a call that is under way when somebody wants the process gone."""


class Leaving:
    """From the first sign to the word that the instance may end."""

    def __init__(
        self,
        host: Host,
        metadata: Metadata,
        calls: Calls,
        instance_id: str,
        on_uncounted: Callable[[bool], None] = lambda uncounted: None,
    ) -> None:
        """`on_uncounted` is told whether the group leaves the instance out of its count."""
        self.group: str | None = None
        """Whose hook it is; None: there is no group, or none is known."""
        self.hook_s: float | None = None
        """How long the hook keeps the instance; None: there is none, or nothing is known of it."""
        self.hooked = True
        """Whether there may be a hook."""
        self._host = host
        self._metadata = metadata
        self._calls = calls
        self._instance_id = instance_id
        self._on_uncounted = on_uncounted
        self._departure = Departure()
        self._target_state: str | None = None
        self._spot: SpotNotice | None = None
        self._terminating = False
        self._advised = False
        self._leaving = asyncio.Event()

    @property
    def nameless(self) -> bool:
        """Whether its group ends it, and nobody has found out so far which one that is."""
        return self._leaving.is_set() and ends(self._target_state) and self.group is None

    # Before.

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Ask the instance's metadata, and do as it says."""
        metadata, before = self._metadata, self._target_state
        self._target_state = await self._asked("target state", metadata.target_state, before)
        seen = self._spot
        self._spot = await self._asked("spot notice", metadata.spot_notice, seen)
        # A notice is measured by the wall clock, and only once: that may be set meanwhile.
        news = None if self._spot == seen else self._spot
        self._judge(Signs(self._target_state, news, self._terminating))
        self._on_uncounted(uncounted(self._target_state))
        advice = metadata.rebalance_recommended
        self._tell_advice(await self._asked("advice to rebalance", advice, self._advised))

    async def _asked(self, about: str, question: Callable[[], Awaitable[T]], otherwise: T) -> T:
        """`otherwise` where there is no answer."""
        try:
            with self._calls.counted("metadata", about):
                return await question()
        except CloudError:
            return otherwise

    def terminating(self) -> None:
        """EC2 Auto Scaling said that it is getting rid of the instance."""
        self._terminating = True
        self._judge(Signs(terminating=True))

    def _tell_advice(self, advised: bool) -> None:
        """A group with Capacity Rebalancing launches another instance and ends this one when that
        is there; without, most such instances live on. Either way there is nothing to do yet.
        """
        if advised and not self._advised:
            _log.warning("EC2 expects to take this spot instance back before long")
        self._advised = advised

    def _judge(self, signs: Signs) -> None:
        clock, delay_s = self._host.clock, self._host.settings().deregistration_delay_s
        found = leave(signs, clock.utc(), Times(self.hook_s, delay_s, self._host.shutdown_s()))
        if found is not None and self._departure.sooner(clock.now(), found.deadline_s):
            self._leave(found)

    def _leave(self, found: Leave) -> None:
        _log.warning(
            "%s: no new sessions; those that are open have %.0f s", found.why, found.deadline_s
        )
        self._leaving.set()
        self._host.leave(found.deadline_s)

    # Meanwhile.

    async def hold(self, aws: Aws) -> None:
        """Once it leaves, have the hook keep the instance; until cancelled."""
        await self._leaving.wait()
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while True:
            pause_s = await self._beat(aws, backoff)
            await asyncio.sleep(pause_s)

    async def _beat(self, aws: Aws, backoff: Backoff) -> float:
        """Returns the pause until the next one."""
        group = self.group
        if group is None or not self.hooked:
            return _NOT_HELD_S
        try:
            held = await self._calls.make(
                "record_lifecycle_action_heartbeat",
                lambda: aws.heartbeat(group, self._instance_id),
            )
        except CloudError:
            return backoff.failed()
        backoff.worked()
        if not held:
            return _NOT_HELD_S
        return min((self.hook_s or _LONGEST_BEAT_S) / _BEATS, _LONGEST_BEAT_S)

    # Afterwards.

    async def complete(self, aws: Aws, given_up: asyncio.Event) -> bool:
        """All sessions are over: have the hook let the instance end; whether it did.

        It is tried once at least, and then until the hook has the instance, or somebody wants the
        process gone at once (`given_up`), or it has taken too long.
        """
        group = self.group
        if not self._leaving.is_set() or group is None or not self.hooked:
            return False
        completing = self._until_complete(aws, group, given_up)
        return await first_of(completing, _out_of_patience(given_up))

    async def _until_complete(self, aws: Aws, group: str, given_up: asyncio.Event) -> bool:
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        until_s = self._host.clock.now() + WAIT_S
        while True:
            pause_s = await self._complete_once(aws, group, backoff)
            if pause_s is None:
                _log.warning("all sessions are over: the hook %s lets this instance end", HOOK)
                return True
            if self._host.clock.now() + pause_s > until_s or await is_set(given_up, pause_s):
                return False

    async def _complete_once(self, aws: Aws, group: str, backoff: Backoff) -> float | None:
        """The pause until the next attempt; None: it is done."""
        try:
            done = await self._calls.make(
                "complete_lifecycle_action", lambda: aws.complete(group, self._instance_id)
            )
        except CloudError:
            return backoff.failed()
        return None if done else _NOT_HELD_S


async def _out_of_patience(given_up: asyncio.Event) -> bool:
    """False, once nobody waits any more for a call that hangs."""
    await given_up.wait()
    await asyncio.sleep(_LAST_WORD_S)
    return False


async def is_set(event: asyncio.Event, within_s: float) -> bool:
    """Whether it is set by then."""
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
