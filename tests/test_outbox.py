"""The way out: in order, bounded, and not for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rtvc.server.sessions.outbox import BULK_MESSAGES, LIMIT_MESSAGES, ClientStalledError, Outbox


class Client:
    """Reads while its gate is open."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.last = asyncio.Event()
        """Set when the message "last" has been read."""

    async def take(self, message: str) -> None:
        await self.gate.wait()
        self.read.append(message)
        if message == "last":
            self.last.set()


@asynccontextmanager
async def running(outbox: Outbox) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(outbox.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_messages_arrive_in_order_whenever_they_are_posted() -> None:
    client = Client()
    outbox = Outbox(client.take, timeout_s=10)
    outbox.post("0")
    async with running(outbox):
        for number in range(1, 100):
            outbox.post(str(number))
            if number % 7 == 0:
                await asyncio.sleep(0)
        outbox.post("last")
        await asyncio.wait_for(client.last.wait(), 10)
    assert client.read == [*(str(number) for number in range(100)), "last"]


async def test_bulk_waits_for_a_slow_reader_and_events_do_not() -> None:
    client = Client()
    client.gate.clear()
    outbox = Outbox(client.take, timeout_s=10)
    async with running(outbox):
        for number in range(BULK_MESSAGES + 2):
            outbox.post(str(number))
        bulk = asyncio.create_task(outbox.room())
        await asyncio.sleep(0.01)
        assert not bulk.done()
        outbox.post("last")
        client.gate.set()
        await asyncio.wait_for(bulk, 10)
        await asyncio.wait_for(client.last.wait(), 10)
    assert len(outbox) == 0


async def test_room_is_there_from_the_start() -> None:
    await asyncio.wait_for(Outbox(Client().take, timeout_s=1).room(), 10)


async def test_too_many_unread_messages_are_an_error_and_no_memory() -> None:
    outbox = Outbox(Client().take, timeout_s=1)
    for number in range(LIMIT_MESSAGES):
        outbox.post(str(number))
    with pytest.raises(ClientStalledError, match=f"{LIMIT_MESSAGES} messages unread"):
        outbox.post("one more")
    assert len(outbox) == LIMIT_MESSAGES


async def test_a_client_that_reads_nothing_ends_the_outbox() -> None:
    client = Client()
    client.gate.clear()
    outbox = Outbox(client.take, timeout_s=0.02)
    outbox.post("hello")
    async with running(outbox) as task:
        with pytest.raises(ClientStalledError, match=r"nothing for 0\.02 s"):
            await asyncio.wait_for(task, 10)


async def test_a_broken_socket_ends_the_outbox_with_its_own_error() -> None:
    async def broken(message: str) -> None:
        raise ConnectionResetError(message)

    outbox = Outbox(broken, timeout_s=1)
    outbox.post("hello")
    async with running(outbox) as task:
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(task, 10)


async def test_what_waits_can_be_sent_at_the_end() -> None:
    client = Client()
    outbox = Outbox(client.take, timeout_s=1)
    outbox.post("a")
    outbox.post("b")
    await outbox.drain()
    assert client.read == ["a", "b"]
