"""Stands in front of all routes: nobody gets past it unseen, and sessions end when they must."""

import asyncio
import json
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from rtvc.server.access.denials import Denied
from rtvc.server.access.guard import Access
from rtvc.server.access.limits import Bucket
from rtvc.server.access.visits import POLICY_VIOLATION, Visit

GOING_AWAY = 1001
_REALTIME = "/v1/realtime"
_BURST_S = 10.0
"""A session may send so many seconds' worth of its messages at once."""
_CLOSE_S = 5.0
_LAST_FINAL_S = 30.0
"""For the final of who was speaking, also while the engine is being replaced."""


class Gate:
    """Pure ASGI: costs a request a few microseconds, and a message well under one."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            visit = self._access.admit(scope)
        except Denied as denied:
            self._access.note(denied, scope)
            await _refuse(denied, scope, receive, send)
            return
        visit.put(scope)
        if scope["type"] == "http":
            await self._app(scope, receive, send)
        else:
            await self._session(visit, scope, receive, send)

    async def _session(self, visit: Visit, scope: Scope, receive: Receive, send: Send) -> None:
        guarded = _Guarded(self._access, scope, receive, send)
        visit.on_end(guarded.end)
        visit.on_spent(partial(guarded.spent, visit))
        guarded.watch(visit)
        try:
            await self._app(scope, guarded.receive, guarded.send)
        finally:
            guarded.over()
            self._access.leave(visit)


async def _refuse(denied: Denied, scope: Scope, receive: Receive, send: Send) -> None:
    """An ordinary answer, whether to a request or to a handshake."""
    # The body, if there is one, is not waited for.
    headers = {**denied.headers, "Connection": "close"}
    answer = JSONResponse(denied.body, status_code=denied.status, headers=headers)
    if scope["type"] == "http":
        await answer(scope, receive, send)
    else:
        await WebSocket(scope, receive, send).send_denial_response(answer)


class _Guarded:
    """One WebSocket: watched, slowed down, and closed when it has to be."""

    def __init__(self, access: Access, scope: Scope, receive: Receive, send: Send) -> None:
        settings = access.settings
        self._access, self._scope = access, scope
        self._clock = access.clock
        self._receive, self._send = receive, send
        self._idle_s, self._session_s = settings.idle_s, settings.session_s
        self._opened_at_s = self._last_at_s = self._clock.now()
        rate = settings.messages_per_s
        self._bucket = (
            None if rate is None else Bucket(rate * _BURST_S, _BURST_S, self._opened_at_s)
        )
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        self._last_at_s = now_s = self._clock.now()
        if self._bucket is not None:
            while (wait_s := self._bucket.take(1, now_s)) > 0 and not self._ended:
                # What is not read stays with the sender.
                await asyncio.sleep(wait_s)
                now_s = self._clock.now()
        return message

    async def send(self, message: Message) -> None:
        if not self._ended:
            await self._send(message)

    def watch(self, visit: Visit) -> None:
        """End the visit once it was quiet, or open, for too long."""
        now_s = self._clock.now()
        quiet_s, open_s = now_s - self._last_at_s, now_s - self._opened_at_s
        if self._idle_s is not None and quiet_s >= self._idle_s:
            self._finish(visit, GOING_AWAY, "idle")
        elif self._session_s is not None and open_s >= self._session_s:
            self._finish(visit, GOING_AWAY, "the session has reached its longest time")
        else:
            bounds = ((self._idle_s, quiet_s), (self._session_s, open_s))
            left_s = [most - so_far for most, so_far in bounds if most is not None]
            if left_s:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(min(left_s), self.watch, visit)

    def spent(self, visit: Visit, denied: Denied) -> None:
        """More audio came than may: that is told, and what was said before gets its transcript."""
        self._access.note(denied, self._scope)
        self._telling = asyncio.create_task(self._tell(denied), name="tell-visit")
        self._finish(visit, POLICY_VIOLATION, str(denied))

    async def _tell(self, error: Denied) -> None:
        if self._scope["path"] == _REALTIME:
            event: dict[str, Any] = {"type": "error", "event_id": "event_gate"}
            with suppress(RuntimeError, OSError):
                text = json.dumps({**event, **error.body})
                await self.send({"type": "websocket.send", "text": text})

    def _finish(self, visit: Visit, code: int, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_LAST_FINAL_S, visit.end, code, reason)
        visit.finish(code, reason)

    def end(self, code: int, reason: str, error: Denied | None) -> None:
        self._ended = True
        if error is not None:
            self._access.note(error, self._scope)
        self._closing = asyncio.create_task(self._close(code, reason), name="close-visit")

    def over(self) -> None:
        """The session has ended, whoever ended it."""
        if self._timer is not None:
            self._timer.cancel()

    async def _close(self, code: int, reason: str) -> None:
        with suppress(TimeoutError, RuntimeError, OSError):
            async with asyncio.timeout(_CLOSE_S):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
