"""Clients that nobody invited: they vanish, never finish, or read nothing of what they are told."""

import asyncio
import base64
import json
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from rtvc.audio import float_to_pcm16
from rtvc.speech.synthesis import Synthesizer

RATE_HZ = 24_000
FRAME_S = 0.02
FRAME_BYTES = round(RATE_HZ * FRAME_S) * 2
SAID = "Could you tell me what the weather is going to be like in the mountains tomorrow?"

VANISHING, TALKED_S = 3, 1.7
"""At a time, and for how long each talks before it is gone."""
HALF_OPEN = 60
READERS = 3
READ_BYTES = 4096
"""What a slow reader's machine takes off the wire by itself, at most."""
KNOCK_S = 0.1
KNOCKERS = 400
"""Connections that are opened, at most, to use up what a server may open."""

_HALF_REQUESTS = (
    b"",
    b"GET /readyz HT",
    b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upg",
    b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc",
)


class Outsiders:
    """Some clients on an event loop of their own, from `begin` to `end`."""

    def __init__(self, act: Callable[["Crowd"], Coroutine[Any, Any, None]], url: str) -> None:
        self.crowd = Crowd(url)
        self._act = act
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outsiders", daemon=True)

    def begin(self) -> None:
        """They come."""
        self._thread.start()
        self._started.wait()

    def end(self) -> None:
        """They are gone, all of them."""
        if self._loop is not None and self._over is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._until_over())

    async def _until_over(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        acting = asyncio.create_task(self._act(self.crowd))
        over = asyncio.create_task(self._over.wait())
        await asyncio.wait([acting, over], return_when=asyncio.FIRST_COMPLETED)
        await over
        acting.cancel()
        await asyncio.gather(acting, return_exceptions=True)
        self.crowd.leave()


class Crowd:
    """What the clients of one fault share: whom they bother, and what became of them."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self.host, self.port = where.hostname or "127.0.0.1", where.port or 80
        self.came = 0
        """Clients that were let in, or whose connection was taken."""
        self.refused = 0
        """Clients that were not."""
        self._sockets: list[socket.socket] = []
        self._speech = speech()

    @property
    def websocket_url(self) -> str:
        return f"ws://{self.host}:{self.port}/v1/realtime?model=rtvc"

    def leave(self) -> None:
        """Close what is open."""
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    async def connected(self, read_bytes: int | None = None) -> ClientConnection | None:
        """A session, or None if there is none to be had."""
        raw = socket.socket()
        raw.setblocking(False)
        if read_bytes is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, read_bytes)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(raw, (self.host, self.port))
            found = await connect(
                self.websocket_url, sock=raw, compression=None, close_timeout=1, max_queue=(1, 0)
            )
        except (OSError, TimeoutError, WebSocketException) as error:
            raw.close()
            self.refused += 1 if isinstance(error, InvalidStatus) else 0
            return None
        self.came += 1
        return found

    async def talk(self, session: ClientConnection, seconds: float) -> None:
        """In real time, without listening."""
        with suppress(WebSocketException, OSError):
            for at in range(round(seconds / FRAME_S)):
                start = at * FRAME_BYTES % (len(self._speech) - FRAME_BYTES)
                audio = base64.b64encode(self._speech[start : start + FRAME_BYTES]).decode()
                await session.send(
                    json.dumps({"type": "input_audio_buffer.append", "audio": audio})
                )
                await asyncio.sleep(FRAME_S)

    async def knock(self, says: bytes) -> bool:
        """Connect, say half of something, and stay; whether the connection was taken."""
        raw = socket.socket()
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(1.0):
                await loop.sock_connect(raw, (self.host, self.port))
                if says:
                    await loop.sock_sendall(raw, says)
        except OSError:  # TimeoutError is one
            raw.close()
            return False
        self._sockets.append(raw)
        self.came += 1
        return True


async def vanish(crowd: Crowd) -> None:
    """Clients connect, talk and drop the connection without a word: the next ones follow."""
    while True:
        async with asyncio.TaskGroup() as group:
            for _ in range(VANISHING):
                group.create_task(_vanish_once(crowd))
        await asyncio.sleep(KNOCK_S)


async def _vanish_once(crowd: Crowd) -> None:
    session = await crowd.connected()
    if session is None:
        await asyncio.sleep(KNOCK_S)
        return
    try:
        await crowd.talk(session, TALKED_S)
    finally:
        # No close frame and no FIN: what is on its way is thrown away.
        session.transport.abort()


async def stay_half_open(crowd: Crowd) -> None:
    """Sockets that say nothing, or half of a request."""
    for number in range(HALF_OPEN):
        await crowd.knock(_HALF_REQUESTS[number % len(_HALF_REQUESTS)])
        await asyncio.sleep(0.01)
    await asyncio.Event().wait()


async def read_nothing(crowd: Crowd) -> None:
    """Sessions that talk, and take nothing off the wire."""
    async with asyncio.TaskGroup() as group:
        for _ in range(READERS):
            group.create_task(_talk_without_reading(crowd))


async def _talk_without_reading(crowd: Crowd) -> None:
    session = await crowd.connected(READ_BYTES)
    if session is None:
        return
    try:
        session.transport.pause_reading()
        await crowd.talk(session, 3600.0)
    finally:
        session.transport.abort()


async def keep_knocking(crowd: Crowd) -> None:
    """One connection after the other, and none of them is let go."""
    for _ in range(KNOCKERS):
        await crowd.knock(b"GET /readyz HT")
        await asyncio.sleep(KNOCK_S / 10)
    await asyncio.Event().wait()


def speech() -> bytes:
    """What they say, 16-bit PCM."""
    said = Synthesizer().say(SAID, voice="en-us+f3", rate_hz=RATE_HZ)
    return float_to_pcm16(said.audio)
