"""How many WebSockets there were, how they ended, and how much went through them."""

from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_KNOWN_CODES = frozenset((1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013))
_NO_CLOSE_CAME = 1006


class SocketCounts:
    """Since the start; counted on the event loop."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "closes",
        "messages_in",
        "messages_out",
        "opens",
        "refusals",
    )

    def __init__(self) -> None:
        self.opens: Counter[str] = Counter()
        """Accepted, by path: there are as many as routes."""
        self.refusals: Counter[str] = Counter()
        """Not accepted, by HTTP status."""
        self.closes: Counter[str] = Counter()
        """Accepted and ended since, by `close_label`."""
        self.messages_in = self.messages_out = 0
        self.bytes_in = self.bytes_out = 0


def close_label(code: int) -> str:
    """A client may choose its code freely, and is not to make a label of each.

    >>> close_label(1000), close_label(4999), close_label(1999)
    ('1000', '4xxx', 'other')
    """
    if code in _KNOWN_CODES:
        return str(code)
    return f"{code // 1000}xxx" if 3000 <= code < 5000 else "other"


class CountSockets:
    """Counts what passes between the server and its WebSockets."""

    def __init__(self, app: ASGIApp, counts: SocketCounts) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        socket = _Counted(self._counts, str(scope["path"]), receive, send)
        try:
            await self._app(scope, socket.receive, socket.send)
        finally:
            socket.closed(_NO_CLOSE_CAME)


class _Counted:
    """One WebSocket."""

    __slots__ = ("_counts", "_open", "_path", "_receive", "_send")

    def __init__(self, counts: SocketCounts, path: str, receive: Receive, send: Send) -> None:
        self._counts = counts
        self._path = path
        self._receive = receive
        self._send = send
        self._open = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.receive":
            self._counts.messages_in += 1
            self._counts.bytes_in += len(message.get("text") or message.get("bytes") or b"")
        elif message["type"] == "websocket.disconnect":
            self.closed(message.get("code") or _NO_CLOSE_CAME)
        return message

    async def send(self, message: Message) -> None:
        await self._send(message)
        if message["type"] == "websocket.send":
            self._counts.messages_out += 1
            self._counts.bytes_out += len(message.get("text") or message.get("bytes") or b"")
        else:
            self._changed(message)

    def _changed(self, message: Message) -> None:
        match message["type"]:
            case "websocket.accept":
                self._open = True
                self._counts.opens[self._path] += 1
            case "websocket.http.response.start":
                self._counts.refusals[str(message["status"])] += 1
            case "websocket.close" if self._open:
                self.closed(message.get("code") or 1000)
            case "websocket.close":
                self._counts.refusals["403"] += 1

    def closed(self, code: int) -> None:
        """The first to say so is believed."""
        if self._open:
            self._open = False
            self._counts.closes[close_label(code)] += 1
