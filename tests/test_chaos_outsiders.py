"""Uninvited clients do what their names say to a server, which outlives them."""

import asyncio
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from rtvc.chaos.deeds import ACTS
from rtvc.chaos.limits import Limits, no_more_descriptors
from rtvc.chaos.outsiders import HALF_OPEN, READERS, VANISHING, Outsiders, stay_half_open
from rtvc.stt.process import resident_bytes


class Host:
    """A server that counts what becomes of its sessions."""

    def __init__(self) -> None:
        self.came = 0
        self.messages = 0
        self.codes: list[int | None] = []
        self.url = ""

    async def receive(self, session: ServerConnection) -> None:
        self.came += 1
        try:
            async for _ in session:
                self.messages += 1
        except ConnectionClosed as closed:
            self.codes.append(closed.rcvd.code if closed.rcvd else None)
        else:
            self.codes.append(session.close_code)


@asynccontextmanager
async def hosting() -> AsyncIterator[Host]:
    host = Host()
    async with serve(host.receive, "127.0.0.1", 0) as server:
        (listening,) = server.sockets
        host.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        yield host


async def at_it(outsiders: Outsiders, seconds: float) -> None:
    await asyncio.to_thread(outsiders.begin)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(outsiders.end)


@pytest.mark.slow
async def test_those_who_vanish_say_no_goodbye_and_others_follow() -> None:
    async with hosting() as host:
        outsiders = Outsiders(ACTS["vanish"], host.url)
        await at_it(outsiders, 2.6)
        await asyncio.sleep(0.2)
        assert host.came >= 2 * VANISHING
        assert host.messages > 50 * VANISHING
        # 1006: it ended without a close frame.
        assert len(host.codes) == host.came
        assert not {1000, 1001} & set(host.codes)
        assert outsiders.crowd.came == host.came


@pytest.mark.slow
async def test_those_who_read_nothing_stay_and_talk() -> None:
    async with hosting() as host:
        outsiders = Outsiders(ACTS["slow-readers"], host.url)
        await at_it(outsiders, 1.0)
        assert host.came == READERS
        assert host.messages > 20 * READERS


@pytest.mark.slow
async def test_half_open_sockets_never_become_sessions_and_are_let_go() -> None:
    async with hosting() as host:
        before = psutil.Process().num_fds()
        outsiders = Outsiders(stay_half_open, host.url)
        await at_it(outsiders, 1.5)
        assert outsiders.crowd.came == HALF_OPEN
        assert host.came == 0
        await asyncio.sleep(0.3)
        assert psutil.Process().num_fds() <= before + 2


async def test_who_is_refused_is_counted() -> None:
    async def refuse(session: ServerConnection, request: object) -> object:
        return session.respond(503, "full")

    async def never(session: ServerConnection) -> None:
        """Nobody is let in."""

    async with serve(never, "127.0.0.1", 0, process_request=refuse) as server:  # type: ignore[arg-type]
        (listening,) = server.sockets
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        outsiders = Outsiders(ACTS["slow-readers"], url)
        await at_it(outsiders, 0.5)
        assert (outsiders.crowd.came, outsiders.crowd.refused) == (0, READERS)


def test_a_limit_of_another_process_is_lowered_and_given_back() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = psutil.Process(child.pid)
        before = process.rlimit(psutil.RLIMIT_NOFILE)
        limits = Limits("NOFILE", lambda: [process])
        assert limits.lower(no_more_descriptors) == 1
        soft, hard = process.rlimit(psutil.RLIMIT_NOFILE)
        assert soft < before[0]
        assert hard == before[1]
        limits.restore()
        assert process.rlimit(psutil.RLIMIT_NOFILE) == before
        # What has ended needs nothing back.
        limits.lower(no_more_descriptors)
        child.kill()
        child.wait()
        limits.restore()


def test_a_process_that_may_open_nothing_more_does_not_know_its_memory() -> None:
    """It is asked for at every frame of every session: not knowing must not end one."""
    pid = psutil.Process().pid
    assert resident_bytes(pid)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        found = resident_bytes(pid)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found is None
