"""The way out of a connection: bounded, in order, and not for ever."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from rtvc.errors import RtvcError

LIMIT_MESSAGES = 512
"""More than this waiting means that the client does not read."""
BULK_MESSAGES = 32
"""Reply audio waits until no more than this is ahead of it."""


class ClientStalledError(RtvcError):
    """The client has read nothing for too long."""


class Outbox:
    """Messages wait here for the socket.

    Events are posted and never wait; reply audio waits for `room()` first, so that a slow reader
    slows the reply down and nothing else.
    """

    def __init__(self, transmit: Callable[[str], Awaitable[None]], *, timeout_s: float) -> None:
        self._transmit = transmit
        self._timeout_s = timeout_s
        self._waiting: deque[str] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._sent = asyncio.Event()
        self._sent.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def post(self, message: str) -> None:
        """Queue a message.

        Raises:
            ClientStalledError: too many wait.
        """
        if len(self._waiting) >= LIMIT_MESSAGES:
            raise ClientStalledError(f"the client left {LIMIT_MESSAGES} messages unread")
        self._waiting.append(message)
        self._changed.set()
        self._sent.clear()
        if len(self._waiting) > BULK_MESSAGES:
            self._room.clear()

    async def sent(self) -> None:
        """Wait until nothing waits any more, `run` going on."""
        await self._sent.wait()

    async def room(self) -> None:
        """Wait until bulk may be posted."""
        await self._room.wait()

    async def run(self) -> None:
        """Transmit until cancelled.

        Raises:
            ClientStalledError: the socket took nothing.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._waiting:
                await self._send(self._waiting.popleft())
            self._sent.set()

    async def drain(self) -> None:
        """Transmit what waits, and return."""
        while self._waiting:
            await self._send(self._waiting.popleft())

    async def _send(self, message: str) -> None:
        if len(self._waiting) <= BULK_MESSAGES:
            self._room.set()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._transmit(message)
        except TimeoutError:
            raise ClientStalledError(
                f"the client has read nothing for {self._timeout_s:g} s"
            ) from None
