"""The first line of the server: heads of requests and numbers of connections, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import connect

from rtvc.config import AccessSettings
from rtvc.server.faults.slow_link import slow_http, spread
from rtvc.server.lifecycle.startup import bind
from rtvc.server.web.front import MAX_HEAD_BYTES, MAX_HEADERS, Front

HELLO = b"GET / HTTP/1.1\r\nHost: box\r\n"
CLOSE = HELLO + b"Connection: close\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Echoes the length of a body, and every message."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    length = (b"content-length", str(len(str(size))).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": str(size).encode()})


@dataclass
class Served:
    """A running server."""

    port: int
    front: Front

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answer(self, *pieces: bytes) -> bytes:
        """Everything that comes back until the server hangs up."""
        reader, writer = await self.open()
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()


@asynccontextmanager
async def served(slow_s: float | None = None, **settings: Any) -> AsyncIterator[Served]:
    front = Front(AccessSettings(**settings))
    protocol: Any = front.protocol if slow_s is None else slow_http(spread(slow_s), front.protocol)
    config = uvicorn.Config(
        app, http=protocol, ws="websockets-sansio", lifespan="off", log_level="critical"
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    with bind("127.0.0.1", 0) as listening:
        running = asyncio.create_task(server._serve(sockets=[listening]))
        try:
            yield Served(listening.getsockname()[1], front)
        finally:
            server.should_exit = True
            await running
    assert front.waiting == 0


async def test_an_ordinary_request_and_another_on_the_same_connection() -> None:
    async with served() as server:
        post = b"POST / HTTP/1.1\r\nHost: box\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
        answer = await server.answer(HELLO + b"\r\n", post, CLOSE + b"\r\n")
        assert answer.count(b"HTTP/1.1 200 OK") == 3
        assert b"\r\n\r\n300000" in answer


async def test_a_head_in_pieces() -> None:
    async with served() as server:
        pieces = [CLOSE[at : at + 1] for at in range(len(CLOSE))]
        assert (await server.answer(*pieces, b"\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("head_bytes", [1000, MAX_HEAD_BYTES - 200])
async def test_a_large_head_that_is_allowed(head_bytes: int) -> None:
    async with served() as server:
        answer = await server.answer(CLOSE + b"X: " + b"y" * head_bytes + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "head",
    [
        CLOSE + b"X: " + b"y" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n",
        CLOSE + b"X" * (MAX_HEAD_BYTES + 1) + b": y\r\n\r\n",
        b"GET /" + b"x" * (MAX_HEAD_BYTES + 1) + b" HTTP/1.1\r\nHost: box\r\n\r\n",
        CLOSE + b"X: y\r\n" * (MAX_HEADERS + 1) + b"\r\n",
        CLOSE + b"Upgrade: websocket\r\nX: " + b"y" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n",
    ],
    ids=["value", "name", "path", "number", "upgrade"],
)
async def test_a_head_too_large(head: bytes) -> None:
    async with served() as server:
        assert (await server.answer(head)).startswith(b"HTTP/1.1 431 ")


async def test_a_header_that_never_ends() -> None:
    async with served() as server:
        reader, writer = await server.open()
        writer.write(HELLO + b"X: ")
        written = 0
        while written < 100 * MAX_HEAD_BYTES and not reader.at_eof():
            writer.write(b"y" * 1000)
            written += 1000
            try:
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(0)
        writer.close()
        # Two sockets' buffers, and not what the client would like to send.
        assert written < 100 * MAX_HEAD_BYTES


async def test_who_says_nothing_is_hung_up_on() -> None:
    async with served(head_s=0.2) as server:
        assert await server.answer() == b""
        assert (await server.answer(HELLO)).startswith(b"HTTP/1.1 408 ")


async def test_bytes_now_and_then_buy_no_time() -> None:
    async with served(head_s=0.3) as server:
        reader, writer = await server.open()

        async def drip() -> None:
            for byte in HELLO * 100:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        answer = await asyncio.wait_for(reader.read(), 10)
        assert not dripping.done()
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 408 ")


async def test_the_second_head_has_its_time_too() -> None:
    async with served(head_s=0.3) as server:
        answer = await server.answer(HELLO + b"\r\n", b"GET")
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 408 " in answer


async def test_empty_lines_are_no_head() -> None:
    async with served(head_s=0.3) as server:
        assert await server.answer(b"\r\n") == b""
        reader, writer = await server.open()
        writer.write(HELLO + b"\r\n")
        await reader.readuntil(b"\r\n\r\n0")
        writer.write(b"\r\n")
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_a_slow_body_and_a_session_take_their_time() -> None:
    async with served(head_s=0.2) as server:
        reader, writer = await server.open()
        writer.write(
            b"POST / HTTP/1.1\r\nHost: box\r\nConnection: close\r\nContent-Length: 2\r\n\r\nx"
        )
        async with connect(server.url) as wire:
            await asyncio.sleep(0.5)
            writer.write(b"y")
            assert (await reader.read()).endswith(b"\r\n\r\n2")
            await wire.send("still here")
            assert await wire.recv() == "still here"
        writer.close()


async def test_so_many_connections_from_one_address_and_no_more() -> None:
    async with served(connections_per_address=2) as server:
        first, second = await server.open(), await server.open()
        for _, writer in (first, second):
            writer.write(HELLO)
        assert (await server.answer(CLOSE + b"\r\n")).startswith(b"HTTP/1.1 503 ")
        first[1].close()
        await first[1].wait_closed()
        answer = b""
        while not answer.startswith(b"HTTP/1.1 200"):
            answer = await server.answer(CLOSE + b"\r\n")
        second[1].close()


async def test_a_session_gives_its_place_to_the_next() -> None:
    async with (
        served(connections_per_address=1) as server,
        connect(server.url) as one,
        connect(server.url) as other,
    ):
        for wire in (one, other):
            await wire.send("hello")
            assert await wire.recv() == "hello"


async def test_so_many_connections_at_all() -> None:
    async with served(max_connections=1) as server, connect(server.url) as wire:
        await wire.send("hello")
        assert await wire.recv() == "hello"
        assert (await server.answer(CLOSE + b"\r\n")).startswith(b"HTTP/1.1 503 ")


async def test_nonsense_is_a_bad_request() -> None:
    async with served() as server:
        assert (await server.answer(b"\x16\x03\x01 nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_behind_a_slow_network() -> None:
    async with served(slow_s=0.02, head_s=0.5) as server:
        assert (await server.answer(CLOSE + b"\r\n")).startswith(b"HTTP/1.1 200")
        assert (await server.answer(HELLO)).startswith(b"HTTP/1.1 408 ")
        async with connect(server.url) as wire:
            await wire.send("hello")
            assert await wire.recv() == "hello"
