"""From the first task of a session to its close frame, whatever its protocol."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from rtvc.errors import TranscriberError
from rtvc.server.sessions.listener import Listener
from rtvc.server.sessions.outbox import ClientStalledError, Outbox
from rtvc.server.sessions.told import told
from rtvc.stt.transcriber import Engine

_log = logging.getLogger(__name__)

GOING_AWAY, POLICY_VIOLATION, INTERNAL_ERROR, TRY_AGAIN_LATER = 1001, 1008, 1011, 1013
_FAREWELL_S = 2.0


def new_id(prefix: str) -> str:
    """An id that nobody can guess, such as "item_3f9c…"."""
    return f"{prefix}_{secrets.token_hex(10)}"


async def with_engine(
    socket: WebSocket, engine: Engine, session_id: str, serve: Callable[[], Awaitable[None]]
) -> None:
    """Serve a session that the engine is ready for; none of its jobs outlives it."""
    try:
        await engine.open_session(session_id)
    except TranscriberError as error:
        _log.error("session %s has no speech-to-text: %s", session_id, error)
        # A close reason has room for 123 bytes.
        reason = told(error).encode()[:120].decode(errors="ignore")
        await socket.close(TRY_AGAIN_LATER, reason)
    else:
        await serve()
    finally:
        engine.close_session(session_id)


class SessionLife:
    """The tasks of one session: when the first of them ends, one of its replies breaks, or it is
    told to end, all end, the listener's jobs are dropped, and the socket is closed with a code
    that says why.
    """

    def __init__(
        self, socket: WebSocket, session_id: str, listener: Listener, outbox: Outbox
    ) -> None:
        self._socket = socket
        self._session_id = session_id
        self._listener = listener
        self._outbox = outbox
        self._replies: set[asyncio.Task[None]] = set()
        self._told: tuple[int, str] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._over = False
        self._end = asyncio.Event()
        self._reply_broke: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, **jobs: Coroutine[Any, Any, None]) -> None:
        """Run the session's jobs, named as given."""
        named = {**jobs, "replies": self._watch_replies(), "end": self._until_told()}
        work = [asyncio.create_task(job, name=name) for name, job in named.items()]
        code, reason = GOING_AWAY, "the server is stopping"
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            code, reason = self._verdict(work)
        except asyncio.CancelledError:
            _log.info("session %s ends: %s", self._session_id, reason)
        finally:
            self._over = True
            ending = () if self._ending is None else (self._ending,)
            await self._stop([*work, *self._replies, *ending])
        await self._farewell(code, reason)

    def end(self, code: int, reason: str, *, after_final: bool = True) -> None:
        """End the session with this code and reason.

        `after_final`: what is being said is committed, and its final is sent before; a second
        call that does not want to wait for that cuts it short. It is for the caller to bound.
        """
        self._told = self._told or (code, reason)
        if not after_final:
            self._end.set()
        elif self._ending is None and not self._over:
            self._ending = asyncio.create_task(self._end_after_final(), name="ending")

    async def _end_after_final(self) -> None:
        await self._listener.finish()
        await self._outbox.sent()
        self._end.set()

    async def _until_told(self) -> None:
        await self._end.wait()

    @property
    def ending(self) -> bool:
        """Whether it was told to end: what is said now gets its transcript, and no reply."""
        return self._told is not None

    @property
    def replies(self) -> frozenset[asyncio.Task[None]]:
        """The replies that are being made now."""
        return frozenset(self._replies)

    def start_reply(self, reply: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a reply beside the jobs; if it fails in a way nobody foresaw, the session ends."""
        task = asyncio.create_task(reply, name="reply")
        self._replies.add(task)
        task.add_done_callback(self._reply_ended)
        return task

    def cancel_replies(self) -> None:
        """Stop what is being said."""
        for task in self._replies:
            task.cancel()

    def _reply_ended(self, task: asyncio.Task[None]) -> None:
        self._replies.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._reply_broke.done():
            self._reply_broke.set_exception(error)

    async def _watch_replies(self) -> None:
        await self._reply_broke

    async def _stop(self, work: Iterable[asyncio.Task[None]]) -> None:
        tasks = list(work)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await self._listener.close()

    def _verdict(self, work: Iterable[asyncio.Task[None]]) -> tuple[int, str]:
        for task in work:
            error = task.exception() if task.done() and not task.cancelled() else None
            if isinstance(error, ClientStalledError):
                return POLICY_VIOLATION, str(error)
            if error is not None and not isinstance(error, WebSocketDisconnect):
                _log.error("session %s failed", self._session_id, exc_info=error)
                return INTERNAL_ERROR, "the server failed; see its log"
        return self._told or (GOING_AWAY, "the server is stopping")

    async def _farewell(self, code: int, reason: str) -> None:
        if self._socket.client_state is not WebSocketState.CONNECTED:
            return
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await self._socket.close(code, reason)
        except (TimeoutError, RuntimeError, WebSocketDisconnect):
            _log.info("session %s did not take its close frame", self._session_id)


class Endable:
    """What every session, whatever its protocol, tells of itself to whoever may end it."""

    _life: SessionLife
    _listener: Listener

    @property
    def replies(self) -> frozenset[asyncio.Task[None]]:
        return self._life.replies

    @property
    def idle_s(self) -> float:
        return self._listener.idle_s

    @property
    def silent(self) -> bool:
        return self._listener.silent

    @property
    def ending(self) -> bool:
        return self._life.ending

    def end(self, code: int, reason: str, *, after_final: bool = True) -> None:
        """As in `SessionLife`."""
        self._life.end(code, reason, after_final=after_final)


class Timer:
    """One thing to do later, on the event loop; starting it again puts it off."""

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float, action: Callable[[], None]) -> None:
        self.stop()
        self._handle = asyncio.get_running_loop().call_later(seconds, action)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
