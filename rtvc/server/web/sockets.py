"""One WebSocket on the wire, bounded against callers who mean harm.

Uvicorn's own does the protocol. This one sees to it that whatever comes in, in whatever pieces,
    - is parsed a little at a time, and no further ahead than the session takes it,
    - cannot pile up: fragments, pings that are answered, answers that nobody reads,
    - ends with the close code that says what was wrong, and with nothing in the log,
    - never keeps a connection that nobody serves any more.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

PROTOCOL_ERROR, INVALID_DATA, POLICY_VIOLATION, INTERNAL_ERROR = 1002, 1007, 1008, 1011

SLICE_BYTES = 1024
"""Parsed at a time: a read may hold ten thousands of frames, and others wait meanwhile."""
BUSY_FRAMES = 32
"""After a slice with more than these others have their turn first."""
WAITING_MESSAGES = 64
"""While so many wait to be taken nothing is parsed, and nothing more is read; one more slice may
be on top of them."""
FAIR_MESSAGES = 8
"""Taken in a row before others have their turn."""
MOST_FRAGMENTS = 4096
"""Of one message; its bytes are bounded anyway, but a fragment may be empty."""
CONTROL_BURST = 100
"""Pings and pongs that may come at once, …"""
CONTROL_PER_S = 10.0
"""… and how many a second for ever."""
LINGER_S = 15.0
"""How long a connection that is being closed may take to take what was written to it."""


class Allowance:
    """So many at once, so many a second for ever.

    >>> pings = Allowance(2, 1.0)
    >>> [pings.spend(now_s) for now_s in (0.0, 0.0, 0.0, 1.0, 1.5)]
    [True, True, False, True, False]
    """

    __slots__ = ("_burst", "_left", "_per_s", "_seen_at_s")

    def __init__(self, burst: int, per_s: float) -> None:
        self._burst = self._left = float(burst)
        self._per_s = per_s
        self._seen_at_s: float | None = None

    def spend(self, now_s: float) -> bool:
        """False: there is nothing left to spend."""
        gone_s = 0.0 if self._seen_at_s is None else now_s - self._seen_at_s
        self._seen_at_s = now_s
        self._left = min(self._burst, self._left + gone_s * self._per_s)
        if self._left < 1:
            return False
        self._left -= 1
        return True


class BoundedSocket(WebSocketsSansIOProtocol):
    """Uvicorn makes one for each connection that asks for a WebSocket."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.app: Any = _without_disconnects(self.app)
        self._held = bytearray()
        self._frames = 0
        self._taken = 0
        self._control = Allowance(CONTROL_BURST, CONTROL_PER_S)
        self._failed = False
        self._closed_by_app = False
        self._again: asyncio.Handle | None = None
        self._abort_timer: asyncio.TimerHandle | None = None

    # In.

    def data_received(self, data: bytes) -> None:
        """Bytes of the caller: first the request, then frames."""
        if not self.handshake_initiated:
            self._shake_hands(data)
            return
        if not self._failed:
            self._held += data
            self._advance()

    def _shake_hands(self, data: bytes) -> None:
        """Requests that are none, or too long for one, are answered and closed, too."""
        try:
            super().data_received(data)
        except UnicodeError:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            self._give_up()
            return
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            answer = b"".join(self.conn.data_to_send())
            self.transport.write(answer or b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            self._give_up()

    def _give_up(self) -> None:
        self._failed = True
        self.transport.close()
        self._abort_later()

    def _advance(self) -> None:
        """Parse what came, as far as there is room for what is in it."""
        self._again = None
        while self._held and self._room():
            before = self._frames
            piece = bytes(self._held[:SLICE_BYTES])
            del self._held[:SLICE_BYTES]
            super().data_received(piece)
            if self._frames - before > BUSY_FRAMES:
                break
        if self._failed or self.transport.is_closing():
            self._held.clear()
        elif self._held:
            self._hold()
        else:
            # What was parsed last may have been no whole message: nobody takes one then.
            self._read_on()

    def _room(self) -> bool:
        """What comes before the handshake is answered waits for that."""
        if self._failed or not self.handshake_complete or self.transport.is_closing():
            return False
        return self.close_sent or self.queue.qsize() < WAITING_MESSAGES

    def _hold(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()
        if self._again is None and self._room():
            self._again = self.loop.call_soon(self._advance)

    async def receive(self) -> Any:
        """The next message; the socket is read on once all were taken."""
        self._taken += 1
        if self._taken % FAIR_MESSAGES == 0:
            await asyncio.sleep(0)
        message = await self.queue.get()
        if self.queue.empty() and self._again is None:
            self._advance()
        return message

    def _read_on(self) -> None:
        """Nobody else will: with nothing waiting, the session waits for what is not read yet."""
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self.transport.resume_reading()

    # Frames.

    def handle_text(self, event: Frame) -> None:
        self._frames += 1
        if not self._failed:
            super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        self._frames += 1
        if not self._failed:
            super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        self._frames += 1
        if self._failed:
            return
        if len(self.frames) >= MOST_FRAGMENTS:
            self._fail(POLICY_VIOLATION, f"more than {MOST_FRAGMENTS} fragments in a message")
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        self._frames += 1
        if self._allowed():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        self._frames += 1
        if self._allowed():
            super().handle_pong(event)

    def handle_close(self, event: Frame) -> None:
        if not self._failed:
            super().handle_close(event)
            self._abort_later()

    def _allowed(self) -> bool:
        if not self._failed and not self._control.spend(self.loop.time()):
            self._fail(POLICY_VIOLATION, "too many pings and pongs")
        return not self._failed

    def send_receive_event_to_app(self) -> None:
        """A whole message came."""
        data, self.frames = b"".join(self.frames), []
        if self.close_sent:
            return
        message: Any = {"type": "websocket.receive", "bytes": data}
        if self.curr_msg_data_type == "text":
            try:
                message = {"type": "websocket.receive", "text": data.decode()}
            except UnicodeDecodeError:
                self._fail(INVALID_DATA, "a text message is not UTF-8")
                return
        self.queue.put_nowait(message)
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def _fail(self, code: int, reason: str) -> None:
        """End it, for what the caller did."""
        self.conn.data_to_send()
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """What came can't be gone on with; the close frame that says so is ready to be sent."""
        if self._failed:
            return
        self._failed = True
        if self.conn.close_sent is None:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": PROTOCOL_ERROR})
            self.transport.close()
        else:
            super().handle_parser_exception()
        self._abort_later()

    # Out, and the end.

    async def send(self, message: Any) -> None:
        """What the session says; ClientDisconnected if nobody is there to be told."""
        await self.writable.wait()
        if self._failed or (self.transport.is_closing() and not self._closed_by_app):
            raise ClientDisconnected
        kind = message["type"]
        if kind in ("websocket.close", "websocket.http.response.start"):
            self._closed_by_app = True
        await super().send(message)
        if kind == "websocket.accept" or (kind == "websocket.close" and self._held):
            self._advance()

    def shutdown(self) -> None:
        """The server stops; what is being closed already is left to it."""
        if self.transport.is_closing():
            self.stop_keepalive()
        else:
            super().shutdown()

    def keepalive_timeout(self) -> None:
        """No pong came: the session is told, even if the close frame can't be."""
        self._failed = True
        super().keepalive_timeout()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": INTERNAL_ERROR})
        self._abort_later()

    async def run_asgi(self) -> None:
        try:
            await super().run_asgi()
        finally:
            self._abort_later()

    def connection_lost(self, exc: Exception | None) -> None:
        self._held.clear()
        for timer in (self._abort_timer, self._again):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _abort_later(self) -> None:
        """A caller who reads nothing does not keep the connection for ever."""
        if self._abort_timer is None and not self.disconnected:
            self._abort_timer = self.loop.call_later(LINGER_S, self.transport.abort)


def _without_disconnects(app: ASGIApp) -> Callable[[Scope, Receive, Send], Any]:
    """A session that ends because nobody is there any more has not failed."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except WebSocketDisconnect:
            raise ClientDisconnected from None

    return served
