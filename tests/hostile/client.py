"""A WebSocket client without a library and without manners: it writes what it is given.

Made for numbers: many messages in one write, and of the answers no more is read than their length
and, at the end, the close code.
"""

import asyncio
import contextlib
import random
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from tests.hostile.frames import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    bad_handshake,
    flood,
    frame,
    handshake,
)
from tests.hostile.messages import PATHS, Message, Messages, Wire

BATCH = 32
SURE = 512
"""Messages after which the server is asked whether it has read them."""
PATIENCE_S = 20.0
"""A server that does nothing for so long is taken for hung."""


@dataclass(slots=True)
class Tally:
    """What was sent, and how it ended."""

    messages: int = 0
    """Sent, and read by the server: it has answered what came after them."""
    unread: int = 0
    """Sent, but the connection ended before it was known that they were read."""
    answers: int = 0
    """That came back."""
    connections: int = 0
    """Opened with an upgrade."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Messages by event or case."""
    mutations: Counter[str] = field(default_factory=Counter)
    """Messages by what was done to them."""
    closes: Counter[str] = field(default_factory=Counter)
    """Connections by close code; "none": it was cut, "open": still there when all was sent."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Handshakes by HTTP status; "none": closed without an answer, "silent": nothing came."""

    def to_json(self) -> dict[str, Any]:
        numbers = ("messages", "unread", "answers", "connections")
        counters = ("kinds", "mutations", "closes", "statuses")
        return {name: getattr(self, name) for name in numbers} | {
            name: dict(getattr(self, name)) for name in counters
        }

    def add(self, other: "Tally") -> None:
        for name in ("messages", "unread", "answers", "connections"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("kinds", "mutations", "closes", "statuses"):
            getattr(self, name).update(getattr(other, name))


class RawClient(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.status: int | None = None
        """Of the HTTP answer; None so far."""
        self.close_code: int | None = None
        """That the server sent; 1005: it sent none."""
        self.answers = 0
        self.pongs = 0
        self.ponged = asyncio.Event()
        self.lost = asyncio.Event()
        self._answered = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self.status is None:
            self._read_status()
        elif self.status == 101:
            self._read_frames()

    def _read_status(self) -> None:
        head, found, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not found:
            return
        words = head.split(b" ", 2)
        self.status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        self._buffer[:] = rest
        self._answered.set()
        if self.status == 101:
            self._read_frames()

    def _read_frames(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 2:
            length, size = buffer[at + 1] & 127, 2
            if length == 126 and len(buffer) - at >= 4:
                size, length = 4, struct.unpack_from("!H", buffer, at + 2)[0]
            elif length == 127 and len(buffer) - at >= 10:
                size, length = 10, struct.unpack_from("!Q", buffer, at + 2)[0]
            elif length >= 126:
                break
            if len(buffer) - at < size + length:
                break
            self._frame(buffer[at] & 15, bytes(buffer[at + size : at + size + min(length, 2)]))
            at += size + length
        del buffer[:at]

    def _frame(self, opcode: int, begin: bytes) -> None:
        if opcode == PONG:
            self.pongs += 1
            self.ponged.set()
        elif opcode == CLOSE:
            self.close_code = struct.unpack("!H", begin)[0] if len(begin) == 2 else 1005
            self.ponged.set()
        self.answers += opcode == TEXT

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        self.ponged.set()
        self._answered.set()
        self._writable.set()

    @property
    def open(self) -> bool:
        return not self.lost.is_set() and self.close_code is None

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    async def drained(self) -> bool:
        """Room to write more; False: the server takes nothing."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self._writable.wait()
                return True
        return False

    async def read_by_server(self, within_s: float = PATIENCE_S) -> bool:
        """Whether all that was written has been read: a ping behind it is answered."""
        before = self.pongs
        self.ponged.clear()
        self.write(frame(PING, b"all read?"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.open and self.pongs == before:
                    await self.ponged.wait()
                    self.ponged.clear()
        return self.pongs > before

    async def answered(self, within_s: float = PATIENCE_S) -> str:
        """HTTP status; "none": closed without; "silent": nothing came in time."""
        try:
            async with asyncio.timeout(within_s):
                await self._answered.wait()
        except TimeoutError:
            return "silent"
        return "none" if self.status is None else str(self.status)

    async def ended(self, within_s: float) -> str:
        """Close code; "none": cut; "open": it is still there."""
        try:
            async with asyncio.timeout(within_s):
                await self.lost.wait()
        except TimeoutError:
            return "open" if self.close_code is None else str(self.close_code)
        return "none" if self.close_code is None else str(self.close_code)

    def cut(self) -> None:
        """No goodbye."""
        self.transport.abort()


@dataclass(frozen=True, slots=True)
class Target:
    """Who is attacked."""

    port: int
    """Of a server on this machine."""
    local: str | None = None
    """Address to call from; None: any."""

    async def connect(self, request: bytes = b"") -> RawClient:
        loop = asyncio.get_running_loop()
        address = None if self.local is None else (self.local, 0)
        _, client = await loop.create_connection(
            RawClient, "127.0.0.1", self.port, local_addr=address
        )
        if request:
            client.write(request)
        return client


def _batches(messages: Sequence[Message]) -> list[list[Message]]:
    """What is behind a message that ends the connection would not be read: it comes last."""
    batches: list[list[Message]] = [[]]
    for message in messages:
        batches[-1].append(message)
        if message.ends or len(batches[-1]) == BATCH:
            batches.append([])
    return [batch for batch in batches if batch]


async def talk(
    target: Target, wire: Wire, seed: str, count: int, *, rate_per_s: float = 0.0
) -> Tally:
    """`count` messages on as many connections as it takes; 0: as fast as the server takes them."""
    tally, rng = Tally(), random.Random(seed)
    row = Messages(wire, rng)
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    while tally.messages < count:
        client = await target.connect(handshake(PATHS[wire]))
        status = await client.answered()
        tally.statuses[status] += 1
        if status != "101":
            client.cut()
            await asyncio.sleep(0.2)
            if status == "silent" or tally.statuses[status] > 2000:
                break
            continue
        tally.connections += 1
        stay = min(count - tally.messages, rng.randrange(50, 3000))
        await _say(client, tally, list(islice(row, stay)), begun_s, rate_per_s)
        await _leave(client, tally, rng)
    return tally


async def _say(
    client: RawClient, tally: Tally, messages: Sequence[Message], begun_s: float, rate_per_s: float
) -> None:
    """Until all is said, or the server has closed."""
    loop = asyncio.get_running_loop()
    unsure: list[Message] = []
    for batch in _batches(messages):
        client.write(b"".join(message.frame() for message in batch))
        unsure += batch
        told = tally.messages + len(unsure)
        due_s = begun_s + (told / rate_per_s if rate_per_s else 0.0)
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        if batch[-1].ends:
            if await client.ended(PATIENCE_S) == "1007":
                _count(tally, unsure)
                unsure = []
            break
        if not client.open or not await client.drained():
            break
        if len(unsure) >= SURE:
            if not await client.read_by_server():
                break
            _count(tally, unsure)
            unsure = []
    if unsure and await client.read_by_server():
        _count(tally, unsure)
    else:
        tally.unread += len(unsure)


def _count(tally: Tally, batch: Sequence[Message]) -> None:
    tally.messages += len(batch)
    for message in batch:
        tally.kinds[message.kind] += 1
        tally.mutations[message.mutation] += 1


async def _leave(client: RawClient, tally: Tally, rng: random.Random) -> None:
    """Now and then with manners."""
    manner = rng.randrange(3)
    if manner == 0:
        client.write(frame(CLOSE, b"\x03\xe8"))
    elif manner == 1:
        await asyncio.sleep(0)
        client.transport.close()
    tally.closes[await client.ended(5.0 if manner == 0 else 0.05)] += 1
    tally.answers += client.answers
    client.cut()


async def frames(
    target: Target, seed: str, count: int, *, name: str | None = None, rate_per_s: float = 0.0
) -> Tally:
    """About `count` frames that are wrong in one way or another, a connection for each case."""
    tally, rng = Tally(), random.Random(seed)
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    while tally.messages < count:
        path = PATHS[rng.choice(("realtime", "realtimevoicechat"))]
        if name is None and rng.random() < 0.1:
            await bad_head(target, path, rng, tally)
        else:
            await _one_flood(target, path, rng, tally, name)
        due_s = begun_s + (tally.messages / rate_per_s if rate_per_s else 0.0)
        await asyncio.sleep(max(0.0, due_s - loop.time()))
    return tally


async def bad_head(target: Target, path: str, rng: random.Random, tally: Tally) -> None:
    """A handshake that is wrong."""
    client = await target.connect(bad_handshake(rng, path))
    tally.statuses[await client.answered(0.5)] += 1
    tally.messages += 1
    tally.kinds["handshake"] += 1
    client.cut()


async def _one_flood(
    target: Target, path: str, rng: random.Random, tally: Tally, name: str | None
) -> None:
    client = await target.connect(handshake(path))
    status = await client.answered()
    tally.statuses[status] += 1
    if status != "101":
        client.cut()
        await asyncio.sleep(0.1)
        return
    tally.connections += 1
    one = flood(rng, name)
    for chunk in one.chunks:
        if not client.open or not await client.drained():
            break
        client.write(chunk)
        await asyncio.sleep(0)
    # What was behind the frame that ended it was not read.
    read = one.frames if client.open and await client.read_by_server(1.0) else 1
    tally.messages += read
    tally.unread += one.frames - read
    tally.kinds[one.name] += read
    tally.closes[await client.ended(0.05)] += 1
    tally.answers += client.answers
    client.cut()
