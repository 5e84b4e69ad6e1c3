"""A relay in front of a voice server that times turns without touching a byte.

client ─▶ pump ─▶ server        a pump writes what it read, as it read it, and only then hands a
       ◀─ pump ◀─               copy to the `Watch`, which can be wrong, but not in the way

Nothing that is sent comes from what was understood. A side that does not read stops the other
side's pump, so back-pressure passes through, behind some 200 kB of buffers in each direction.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from rtvc.clock import Clock
from rtvc.errors import UsageError, why
from rtvc.profile.tap.turns import Turn
from rtvc.profile.tap.watch import Connection, Watch

CHUNK_BYTES = 64 * 1024
GOODBYE_S = 5.0
"""For what was written last to leave; a side that does not read is then cut off."""

_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}
_TLS = frozenset({"wss", "https"})

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Target:
    """The server behind the tap."""

    host: str
    """Name or address."""
    port: int
    """TCP port."""
    tls: bool
    """Whether it wants TLS; the client speaks plainly to the tap all the same."""
    path: str
    """Path of the URL, shown only: a client asks for its own. Empty: none."""


def parse_target(text: str) -> Target:
    """
    >>> parse_target("ws://127.0.0.1:8000/ws")
    Target(host='127.0.0.1', port=8000, tls=False, path='/ws')
    >>> parse_target("wss://voice.example").port
    443

    Raises:
        UsageError: it is none.
    """
    url = text if "://" in text else f"ws://{text}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
        parts = urlsplit("")
    if not host or parts.scheme not in _PORTS:
        raise UsageError(f"expected a target such as ws://127.0.0.1:8000, got {text!r}")
    path = "" if parts.path == "/" else parts.path
    return Target(host, port or _PORTS[parts.scheme], parts.scheme in _TLS, path)


def parse_listen(text: str) -> tuple[str, int]:
    """
    >>> parse_listen("9000"), parse_listen("0.0.0.0:9000"), parse_listen("[::1]:0")
    (('127.0.0.1', 9000), ('0.0.0.0', 9000), ('::1', 0))

    Raises:
        UsageError: it is none.
    """
    try:
        parts = urlsplit(f"//:{text}" if text.isdecimal() else f"//{text}")
        host, port = parts.hostname or "127.0.0.1", parts.port
    except ValueError:
        port = None
    if port is None:
        raise UsageError(f"expected an address such as 127.0.0.1:9000, got {text!r}")
    return host, port


class Tell(Protocol):
    """Where a tap says what it saw; must not block."""

    def turn(self, turn: Turn) -> None:
        """A turn is over."""

    def connection(self, connection: Connection) -> None:
        """A connection is closed."""


class Tap:
    """Relays every connection to one target."""

    def __init__(
        self,
        target: Target,
        tell: Tell,
        clock: Clock,
        *,
        protocol: str | None = None,
        keep_text: bool = False,
        insecure: bool = False,
    ) -> None:
        """`protocol` None: found out for each connection. `insecure`: any certificate will do."""
        self._target = target
        self._tell = tell
        self._clock = clock
        self._protocol = protocol
        self._keep_text = keep_text
        self._tls = _tls_context(insecure) if target.tls else None
        self._begun_s = clock.now()
        self._accepted = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Relay while entered; gives the port, which matters where 0 was asked for.

        Raises:
            UsageError: the address can't be had.
        """
        try:
            server = await asyncio.start_server(self._accept, host, port, limit=CHUNK_BYTES)
        except OSError as error:
            raise UsageError(f"cannot listen on {host}:{port}: {why(error).lower()}") from None
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _now_s(self) -> float:
        return self._clock.now() - self._begun_s

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self._accepted = self._accepted, self._accepted + 1
        watch = Watch(number, self._now_s(), protocol=self._protocol, keep_text=self._keep_text)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._connection(watch, (reader, writer))
        except asyncio.CancelledError:
            # The tap ends; nobody awaits this task for its result.
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)
            for turn in watch.rest():
                self._tell.turn(turn)
            self._tell.connection(watch.seen())

    async def _connection(self, watch: Watch, client: Ends) -> None:
        try:
            server = await self._dial()
        except OSError as error:
            watch.unreachable(why(error))
            return
        try:
            await self._relay(watch, client, server)
        finally:
            server[1].transport.abort()

    async def _dial(self) -> Ends:
        target = self._target
        return await asyncio.open_connection(
            target.host, target.port, ssl=self._tls, limit=CHUNK_BYTES
        )

    async def _relay(self, watch: Watch, client: Ends, server: Ends) -> None:
        for _, writer in (client, server):
            _without_delay(writer)
        pumps = [
            asyncio.create_task(self._pump(client[0], server[1], watch.from_client)),
            asyncio.create_task(self._pump(server[0], client[1], watch.from_server)),
        ]
        try:
            await asyncio.gather(*pumps)
        except OSError:
            # One side is gone; the other still gets what was on its way to it.
            pass
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        await asyncio.gather(_goodbye(client[1]), _goodbye(server[1]))

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        watch: Callable[[float, bytes], list[Turn]],
    ) -> None:
        """One direction, until its source says that there is no more."""
        while data := await source.read(CHUNK_BYTES):
            at_s = self._now_s()
            sink.write(data)
            for turn in watch(at_s, data):
                self._tell.turn(turn)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()
        else:
            # TLS knows no half-closed connection.
            sink.close()


async def _goodbye(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(GOODBYE_S):
            await writer.wait_closed()


def _without_delay(writer: asyncio.StreamWriter) -> None:
    """Small messages leave at once; asyncio's own loops do it too, without promising it."""
    wire: socket.socket | None = writer.get_extra_info("socket")
    if wire is not None and wire.family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _tls_context(insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
