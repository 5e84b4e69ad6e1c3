"""A service on loopback that misbehaves as it is told: it hangs, resets, trickles, talks rubbish.

It speaks raw bytes, as what is wrong with a service may be wrong in any layer of its HTTP.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from tests.fake_openai import chat_chunk, sse

SSE, PCM = "text/event-stream", "audio/pcm"


def head(status: int = 200, content_type: str = SSE, *more: str) -> bytes:
    """Of an answer that ends with its connection."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {content_type}", "Connection: close", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def answer(body: bytes, status: int = 200, content_type: str = SSE) -> bytes:
    return head(status, content_type, f"Content-Length: {len(body)}") + body


def reply(*words: str) -> bytes:
    """A sound streamed chat completion."""
    chunks = [chat_chunk(word) for word in words]
    return answer(sse(*chunks, chat_chunk(None, "stop"), "[DONE]"))


def speech(seconds: float = 0.3) -> bytes:
    """Sound audio."""
    return answer(b"\x10\x00" * round(24_000 * seconds), content_type=PCM)


class Hang:
    """Say no more, but stay."""


class Reset:
    """Cut the connection as a crash does."""


class Pause:
    """Go on a moment later."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Endless:
    """The same again and again, until the client goes."""

    def __init__(self, piece: bytes, every_s: float = 0.0) -> None:
        self.piece = piece
        self.every_s = every_s


Step = bytes | type[Hang] | type[Reset] | Pause | Endless
Script = list[Step]


class Misbehaving:
    """Answers each request by `script`; `asked` counts them, by path."""

    def __init__(self, script: Callable[[int, str], Script]) -> None:
        """`script` is given the number of the request on its path, from 1, and the path."""
        self.script = script
        self.asked: list[str] = []
        self.bodies: list[dict[str, object]] = []
        self.sent_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Misbehaving"]:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield self
        finally:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                path = await self._read(reader)
                for step in self.script(self.asked.count(path), path):
                    await self._take(step, reader, writer)
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> str:
        start = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = [line for line in start.split("\r\n") if line.startswith("content-length")]
        size = int(length[0].split(":")[1]) if length else 0
        body = await reader.readexactly(size)
        path = start.split(" ")[1].rsplit("/", 1)[-1]
        self.asked.append(path)
        self.bodies.append(json.loads(body) if body else {})
        return path

    async def _take(
        self, step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if step is Reset:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.close()
        elif step is Hang:
            await reader.readexactly(1)
        elif isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        elif isinstance(step, Endless):
            while not reader.at_eof():
                await self._write(step.piece, writer)
                await asyncio.sleep(step.every_s)
        elif isinstance(step, bytes):
            await self._write(step, writer)

    async def _write(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        self.sent_bytes += len(data)


def always(*script: Step) -> Callable[[int, str], Script]:
    return lambda number, path: list(script)


def first(*script: Step, then: bytes) -> Callable[[int, str], Script]:
    """Misbehaves at the first request; sound from the second on."""
    return lambda number, path: list(script) if number == 1 else [then]
