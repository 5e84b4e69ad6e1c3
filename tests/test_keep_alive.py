"""How long the server keeps a connection that asks for nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest

from rtvc.clock import SystemClock
from rtvc.config import load_settings
from rtvc.server.lifecycle.startup import bind, build_services, serve

pytestmark = pytest.mark.slow


@asynccontextmanager
async def kept_for(keep_alive_s: int) -> AsyncIterator[int]:
    """The port of a server in this process."""
    flags: dict[str, dict[str, Any]] = {
        "stt": {"model": "scripted"},
        "serve": {"keep_alive_s": keep_alive_s},
    }
    services = build_services(load_settings(flags, environment={}), SystemClock())
    ready = asyncio.Event()
    with bind("127.0.0.1", 0) as listening:
        server = asyncio.create_task(serve(services, listening, tls=None, on_ready=ready.set))
        try:
            await asyncio.wait_for(ready.wait(), 60)
            yield listening.getsockname()[1]
        finally:
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)


def twice(port: int, pause_s: float) -> tuple[int, int | None]:
    """Statuses of two requests on one connection; None: the server had closed it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.auto_open = 0
    connection.connect()
    try:
        first = _status(connection)
        time.sleep(pause_s)
        try:
            return first, _status(connection)
        except (HTTPException, OSError):
            return first, None
    finally:
        connection.close()


def _status(connection: HTTPConnection) -> int:
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    answer.read()
    return answer.status


async def test_it_closes_it_when_the_time_is_over() -> None:
    async with kept_for(1) as port:
        assert await asyncio.to_thread(twice, port, 4.0) == (200, None)


async def test_a_load_balancer_may_use_it_again_after_longer_than_usual() -> None:
    usual_s = load_settings(environment={}).serve.keep_alive_s
    async with kept_for(10 * usual_s) as port:
        assert await asyncio.to_thread(twice, port, usual_s + 1.0) == (200, 200)
