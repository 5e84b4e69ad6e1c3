"""The bytes of one connection, read along: HTTP heads, then WebSocket messages. Pure.

A copy goes in, nothing comes out towards the wire: what is relayed is never built from this.
"""

import re
import zlib
from dataclasses import dataclass
from typing import Literal

from rtvc.errors import ProtocolError

MAX_HEAD_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 24 * 1024 * 1024

_END_OF_HEAD = b"\r\n\r\n"
_REQUEST = re.compile(r"[A-Z]+ (\S+) HTTP/1\.[01]\Z")
_STATUS = re.compile(r"HTTP/1\.[01] ([1-5]\d\d)( .*)?\Z")
_SWITCHING = 101
_OK = 200

_FLUSH = b"\x00\x00\xff\xff"
"""Taken off the end of every compressed message before it was sent."""

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_OPCODES = frozenset({_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG})

MessageKind = Literal["text", "binary", "close"]
_KINDS: dict[int, MessageKind] = {_TEXT: "text", _BINARY: "binary", _CLOSE: "close"}


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message, its frames joined and inflated."""

    kind: MessageKind
    """Text, binary, or the frame that closes."""
    data: bytes
    """Payload; of "close" the code and the reason."""

    @property
    def close_code(self) -> int | None:
        """None if it is not a close frame, or one without a code."""
        if self.kind != "close" or len(self.data) < 2:
            return None
        return int.from_bytes(self.data[:2], "big")


@dataclass(frozen=True, slots=True)
class Head:
    """The first line and the headers of a request or an answer."""

    first_line: str
    """Without its line end."""
    headers: dict[str, str]
    """By name in lower case; repeated ones joined by a comma."""


def parse_head(data: bytes) -> Head:
    """A head, up to and without the empty line."""
    first, *lines = data.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Head(first, headers)


class HeadReader:
    """Bytes of one direction up to the end of a head."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and what followed it; None while it is not complete.

        Raises:
            ProtocolError: it is too long, or does not begin like HTTP.
        """
        self._buffer += data
        if self._buffer and not chr(self._buffer[0]).isalpha():
            raise ProtocolError(f"expected HTTP, got a byte {self._buffer[0]:#04x}")
        end = self._buffer.find(_END_OF_HEAD)
        if end < 0:
            self._check_length(len(self._buffer))
            return None
        self._check_length(end)
        rest = bytes(self._buffer[end + len(_END_OF_HEAD) :])
        head = parse_head(bytes(self._buffer[:end]))
        self._buffer.clear()
        return head, rest

    def _check_length(self, length: int) -> None:
        if length > MAX_HEAD_BYTES:
            raise ProtocolError(f"expected a head of at most {MAX_HEAD_BYTES} bytes, got {length}")


@dataclass(frozen=True, slots=True)
class _Frame:
    """One WebSocket frame, or the head of one that has not come whole."""

    final: bool
    """Whether it ends its message."""
    compressed: bool
    """RSV1: its message is deflated."""
    opcode: int
    """What it holds."""
    masked: bool
    """As a client's frames must be."""
    head_bytes: int
    """Bytes before the payload, mask included."""
    length: int
    """Bytes of payload."""
    payload: bytes = b""
    """Unmasked."""


class FrameReader:
    """Bytes of one direction after the handshake in, whole messages out."""

    def __init__(self, *, masked: bool, deflated: bool) -> None:
        """`masked`: these are a client's frames. `deflated`: permessage-deflate was agreed on."""
        self._masked = masked
        # A window of 15 bits reads what was written with any smaller one, and one without
        # context takeover refers to nothing before it: no parameter of the extension matters.
        self._inflater = zlib.decompressobj(-15) if deflated else None
        self._buffer = bytearray()
        self._opcode: int | None = None
        self._compressed = False
        self._parts = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Messages that are complete now; pings and pongs are left out.

        Raises:
            ProtocolError: this is no WebSocket, or one with extensions that can't be read along.
        """
        self._buffer += data
        messages: list[Message] = []
        while (frame := self._next_frame()) is not None:
            message = self._take(frame)
            if message is not None:
                messages.append(message)
        return messages

    def _next_frame(self) -> _Frame | None:
        frame = self._frame_head()
        if frame is None or len(self._buffer) < frame.head_bytes + frame.length:
            return None
        end = frame.head_bytes + frame.length
        payload = bytes(self._buffer[frame.head_bytes : end])
        if frame.masked:
            mask = bytes(self._buffer[frame.head_bytes - 4 : frame.head_bytes])
            payload = unmasked(payload, mask)
        del self._buffer[:end]
        return _Frame(
            frame.final, frame.compressed, frame.opcode, frame.masked, 0, len(payload), payload
        )

    def _frame_head(self) -> _Frame | None:
        if len(self._buffer) < 2:
            return None
        first, second = self._buffer[0], self._buffer[1]
        length = second & 0x7F
        size = {126: 4, 127: 10}.get(length, 2)
        self._check(first, second, length)
        head_bytes = size + (4 if self._masked else 0)
        if len(self._buffer) < head_bytes:
            return None
        if size > 2:
            length = int.from_bytes(self._buffer[2:size], "big")
        if length > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"expected at most {MAX_MESSAGE_BYTES} bytes, got {length}")
        final, compressed = bool(first & 0x80), bool(first & 0x40)
        return _Frame(final, compressed, first & 0x0F, self._masked, head_bytes, length)

    def _check(self, first: int, second: int, length: int) -> None:
        opcode = first & 0x0F
        if opcode not in _OPCODES:
            raise ProtocolError(f"expected an opcode of WebSocket, got {opcode}")
        if bool(second & 0x80) != self._masked:
            expected = "a masked frame" if self._masked else "a frame without a mask"
            raise ProtocolError(f"expected {expected}, got the other kind")
        if first & 0x30 or (first & 0x40 and (self._inflater is None or not 0 < opcode < _CLOSE)):
            raise ProtocolError("expected no reserved bits but those agreed on, got some")
        if opcode >= _CLOSE and (length > 125 or not first & 0x80):
            raise ProtocolError("expected a short control frame, got a long or a split one")

    def _take(self, frame: _Frame) -> Message | None:
        if frame.opcode >= _CLOSE:
            kind = _KINDS.get(frame.opcode)
            return None if kind is None else Message(kind, frame.payload)
        self._begin(frame)
        self._parts += frame.payload
        if len(self._parts) > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"expected a message of at most {MAX_MESSAGE_BYTES} bytes")
        return self._finished() if frame.final else None

    def _begin(self, frame: _Frame) -> None:
        if (frame.opcode == _CONTINUATION) != (self._opcode is not None):
            raise ProtocolError("expected a message's frames one after the other, got them mixed")
        if frame.opcode != _CONTINUATION:
            self._opcode, self._compressed = frame.opcode, frame.compressed

    def _finished(self) -> Message:
        opcode, data = self._opcode, bytes(self._parts)
        self._opcode, self._parts = None, bytearray()
        assert opcode is not None
        return Message(_KINDS[opcode], self._inflated(data) if self._compressed else data)

    def _inflated(self, data: bytes) -> bytes:
        assert self._inflater is not None
        try:
            whole = self._inflater.decompress(data + _FLUSH, MAX_MESSAGE_BYTES)
        except zlib.error as error:
            raise ProtocolError(f"expected deflated data: {error}") from None
        if self._inflater.unconsumed_tail:
            raise ProtocolError(f"expected a message of at most {MAX_MESSAGE_BYTES} bytes inflated")
        if self._inflater.eof:
            self._inflater = zlib.decompressobj(-15)
        return whole


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """A client's payload as it was before its mask, or the other way round.

    >>> unmasked(b"hello", b"abcd"), unmasked(unmasked(b"hello", b"abcd"), b"abcd")
    (b'\\t\\x07\\x0f\\x08\\x0e', b'hello')
    """
    length = len(payload)
    key = (mask * (length // 4 + 1))[:length]
    # One long exclusive or: many times as fast as byte by byte.
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")


WireState = Literal["request", "answer", "open", "refused", "plain"]


class Wire:
    """Both directions of one connection.

    request ─▶ answer ─▶ open      a WebSocket: messages come out
       │          └────▶ refused   the server would not have it; `status` says how
       └───────────────▶ plain     an ordinary HTTP request: nothing more is read
    """

    def __init__(self) -> None:
        self.state: WireState = "request"
        self.path = ""
        """Path and query of the request."""
        self.status: int | None = None
        """HTTP status the server answered with; None so far."""
        self._request, self._answer = HeadReader(), HeadReader()
        self._early = b""
        self._client = self._server = FrameReader(masked=True, deflated=False)

    def from_client(self, data: bytes) -> list[Message]:
        """The client sent it; messages of its that are complete now."""
        if self.state == "open":
            data, self._early = self._early + data, b""
            return self._client.feed(data)
        if self.state == "answer":
            self._keep_early(data)
        elif self.state == "request":
            self._read_request(data)
        return []

    def from_server(self, data: bytes) -> list[Message]:
        """The server sent it; messages of its that are complete now."""
        if self.state == "open":
            return self._server.feed(data)
        return self._read_answer(data) if self.state == "answer" else []

    def _keep_early(self, data: bytes) -> None:
        """A client may not speak before the answer; if it does, it is heard after it."""
        self._early += data
        if len(self._early) > MAX_HEAD_BYTES:
            raise ProtocolError("expected a client that waits for the handshake's answer")

    def _read_request(self, data: bytes) -> None:
        found = self._request.feed(data)
        if found is None:
            return
        head, rest = found
        line = _REQUEST.match(head.first_line)
        if line is None:
            raise ProtocolError("expected an HTTP request, got something else")
        self.path = line[1]
        if head.headers.get("upgrade", "").lower() != "websocket":
            self.state = "plain"
            return
        self.state = "answer"
        self._keep_early(rest)

    def _read_answer(self, data: bytes) -> list[Message]:
        while (found := self._answer.feed(data)) is not None:
            head, data = found
            line = _STATUS.match(head.first_line)
            if line is None:
                raise ProtocolError("expected an HTTP answer, got something else")
            self.status = int(line[1])
            if self.status == _SWITCHING:
                return self._open(head, data)
            if self.status >= _OK:
                self.state = "refused"
                return []
        return []

    def _open(self, head: Head, rest: bytes) -> list[Message]:
        agreed = head.headers.get("sec-websocket-extensions", "").lower()
        deflated = "permessage-deflate" in agreed
        self._client = FrameReader(masked=True, deflated=deflated)
        self._server = FrameReader(masked=False, deflated=deflated)
        self.state = "open"
        return self._server.feed(rest)
