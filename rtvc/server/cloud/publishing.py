"""Tells CloudWatch how full the server is, again and again."""

import asyncio
from dataclasses import replace

from rtvc.errors import CloudError
from rtvc.server.cloud.aws import Aws
from rtvc.server.cloud.backoff import Backoff
from rtvc.server.cloud.calls import Calls
from rtvc.server.cloud.figures import STANDBY, figures, metric_data
from rtvc.server.cloud.host import Host

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 120.0


class Publishing:
    """What is not taken is not sent later: the next figures are newer."""

    def __init__(self, host: Host, aws: Aws, calls: Calls, instance_id: str) -> None:
        self.group: str | None = None
        """Told as well, once it is known."""
        self.uncounted = False
        """Whether the group leaves the instance out: on standby, in a warm pool, or detached."""
        self.servers = 1
        """In service in the group, as was seen last."""
        self._host = host
        self._aws = aws
        self._calls = calls
        self._instance_id = instance_id
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._boot_told: set[str | None] = set()

    async def run(self) -> None:
        """Until cancelled."""
        clock, due_s = self._host.clock, self._host.clock.now()
        while True:
            pause_s = await self.once()
            due_s = max(due_s + self._host.settings().publish_every_s, clock.now() + pause_s)
            await asyncio.sleep(due_s - clock.now())

    async def once(self) -> float:
        """Publish now; returns how long to wait at least until the next time."""
        standing, group = replace(self._host.standing(), servers=self.servers), self.group
        if self.uncounted:
            standing = replace(standing, state=STANDBY)
        if group in self._boot_told:
            standing = replace(standing, boot_to_ready_s=None)
        namespace = self._host.settings().namespace
        data = metric_data(figures(standing), instance_id=self._instance_id, group=group)
        try:
            await self._calls.make("put_metric_data", lambda: self._aws.publish(namespace, data))
        except CloudError:
            return self._backoff.failed()
        self._backoff.worked()
        if standing.boot_to_ready_s is not None:
            self._boot_told |= {None, group}
        return 0.0
