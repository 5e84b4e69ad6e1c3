"""The first line: connections that send no whole request head, or too much of one, or are too
many, are gone before anything else of the server sees them.
"""

import asyncio
import http
from collections import Counter
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rtvc.config import AccessSettings
from rtvc.server.access.limits import network

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 128


class _HeadTooLarge(Exception):
    """Raised through the parser."""


class Front:
    """What all connections of one server share."""

    def __init__(self, settings: AccessSettings) -> None:
        self._settings = settings
        self._waiting: Counter[str] = Counter()

    @property
    def head_s(self) -> float:
        return self._settings.head_s

    @property
    def waiting(self) -> int:
        """Connections without a session."""
        return self._waiting.total()

    def protocol(self, **arguments: Any) -> "BoundedHttp":
        """For uvicorn: one connection."""
        return BoundedHttp(self, **arguments)

    def enter(self, address: str, connections: int) -> bool:
        """One connection more, `connections` in all; False: it is one too many."""
        if connections > self._settings.max_connections:
            return False
        if self._waiting[address] >= self._settings.connections_per_address:
            return False
        self._waiting[address] += 1
        return True

    def leave(self, address: str) -> None:
        """It has gone, or become a session."""
        self._waiting[address] -= 1
        if self._waiting[address] <= 0:
            del self._waiting[address]


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's own, with bounds on the head of a request and a time for it."""

    def __init__(self, front: Front, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._front = front
        self._address: str | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._heads = 0
        self._head_bytes = 0
        self._too_large = False

    # The connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = network(self.client[0] if self.client else None)
        if not self._front.enter(address, len(self.connections)):
            self._answer(503, {"Retry-After": "1"})
            return
        self._address = address
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._release()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._release()
        super().handle_websocket_upgrade()

    def _release(self) -> None:
        self._stop_timer()
        if self._address is not None:
            self._front.leave(self._address)
            self._address = None

    # The head.

    def data_received(self, data: bytes) -> None:
        if self._address is None:
            return  # refused, and about to close
        in_head, heads = self._in_head, self._heads
        super().data_received(data)
        # A header without an end never reaches the callbacks below.
        if in_head and self._in_head and heads == self._heads:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_head()
        elif self._awaits_nothing:
            self._start_timer()  # empty lines between requests end uvicorn's own waiting

    @property
    def _awaits_nothing(self) -> bool:
        timed = self._head_timer is not None or self.timeout_keep_alive_task is not None
        if timed or self._address is None:
            return False
        return bool(getattr(self.cycle, "response_complete", True))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        if self._head_timer is None:
            self._start_timer()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._heads += 1
        self._stop_timer()
        size_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._too_large = True
            raise _HeadTooLarge
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """The parser gave up: because of us, or because of what came."""
        if self._too_large:
            self._refuse_head()
        else:
            super().send_400_response(msg)

    def _refuse_head(self) -> None:
        self._answer(431)

    # Time.

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._front.head_s, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._in_head:
            self._answer(408)
        else:
            self.transport.close()

    def _answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        """Say so and hang up; what else comes is not read."""
        if self.transport.is_closing():
            return
        self._release()
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}"]
        told = {**(headers or {}), "Content-Length": "0", "Connection": "close"}
        lines += [f"{name}: {value}" for name, value in told.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode())
        self.transport.close()
