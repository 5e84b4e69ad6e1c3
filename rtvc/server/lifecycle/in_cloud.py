"""Joins a server with the cloud that it runs in, where it was told of one."""

import asyncio
from collections.abc import Callable

from rtvc.server.cloud.figures import Standing
from rtvc.server.cloud.host import Host
from rtvc.server.cloud.presence import Presence
from rtvc.server.room import closed, headroom
from rtvc.server.services import Services


def join_cloud(services: Services, leave: Callable[[float], None]) -> None:
    """Tell the cloud of the server from now on; `leave` is told when the machine is to end, with
    the seconds that sessions have.
    """
    if services.settings.cloud.provider == "none":
        return
    boot = services.metrics.boot
    services.cloud = Presence(
        Host(
            clock=services.clock,
            settings=lambda: services.settings.cloud,
            standing=lambda: standing(services),
            shutdown_s=lambda: services.settings.serve.shutdown_s,
            known=lambda identity: boot.launched(identity.launched_at),
            aside=services.readiness.set_aside,
            leave=leave,
            failures=services.metrics.cloud_failures,
        )
    )
    services.cloud.start()


async def leave_cloud(services: Services, given_up: asyncio.Event) -> None:
    """All sessions are over. If the machine is to end, it may now; `given_up` set: nobody waits
    until it was heard.
    """
    if services.cloud is not None:
        await services.cloud.finish(given_up)


def standing(services: Services) -> Standing:
    """How the server stands now."""
    admission = services.admission
    return Standing(
        state=services.readiness.state,
        sessions=admission.sessions,
        max_sessions=admission.max_sessions,
        capacity=services.settings.cloud.capacity,
        headroom=headroom(services),
        closed=closed(services),
        boot_to_ready_s=services.metrics.boot.instance_s,
    )
