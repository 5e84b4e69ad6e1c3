"""A blocking WebSocket with the clock stopped at every step of connecting.

Nothing here knows gevent: the generator process patches sockets, and the same code then blocks
one greenlet instead of one thread. No per-message deflate, no Nagle.
"""

import contextlib
import json
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

import websocket

from rtvc.clock import Clock
from rtvc.errors import RtvcError, why
from rtvc.failures import UNKNOWN, closed_failure, http_failure
from rtvc.loadtest.wire.messages import Outgoing
from rtvc.loadtest.wire.naming import (
    CONNECTING,
    SECURING,
    UPGRADING,
    broken_failure,
    connect_failure,
    tls_failure,
    upgrade_failure,
)

REFUSED_STATUS = 503
REFUSED_CLOSE_CODE = 1013
"""Try again later."""
NO_CLOSE_CODE = 1006
"""The connection ended without a close frame."""

GOODBYE_S = 1.0
"""For a close frame to leave; a server that does not read gets none."""


class ConnectError(RtvcError):
    """The session never became usable; `outcome` tells "refused" from "failed", and `failure`
    is a name of `rtvc.failures`."""

    def __init__(
        self,
        outcome: str,
        reason: str,
        close_code: int | None = None,
        *,
        failure: str = UNKNOWN,
    ) -> None:
        super().__init__(reason)
        self.failure = failure
        self.outcome = outcome
        self.reason = reason
        self.close_code = close_code


class LostError(RtvcError):
    """The server closed, or the connection broke; `failure` is a name of `rtvc.failures`."""

    def __init__(
        self, reason: str, close_code: int | None, *, failure: str = "connection_cut"
    ) -> None:
        super().__init__(reason)
        self.failure = failure
        self.reason = reason
        self.close_code = close_code


@dataclass(frozen=True, slots=True)
class ConnectTimes:
    """Instants on the generator's clock."""

    opened_s: float
    """Just before TCP connect, name look-up included."""
    transport_s: float
    """TCP, and TLS where there is one, stand."""
    upgraded_s: float
    """HTTP 101 received."""


class Frame(websocket.ABNF):
    """A message in its WebSocket frame, masked once and sent as often as wanted."""

    def __init__(self, message: Outgoing) -> None:
        frame = websocket.ABNF.create_frame(message, _opcode(message))
        self._bytes: bytes = frame.format()

    def format(self) -> bytes:
        """As it goes over the wire."""
        return self._bytes


class UnmaskedFrame(Frame):
    """A message that is sent once: its mask is zero, which costs nothing to apply."""

    def __init__(self, message: Outgoing) -> None:
        body = message.encode() if isinstance(message, str) else message
        first = _FINAL | _opcode(message)
        self._bytes = bytes((first, *_masked_length(len(body)))) + _ZERO_MASK + body


_FINAL = 0x80
_MASKED = 0x80
_ZERO_MASK = bytes(4)


def _opcode(message: Outgoing) -> int:
    binary = isinstance(message, bytes)
    return int(websocket.ABNF.OPCODE_BINARY if binary else websocket.ABNF.OPCODE_TEXT)


def _masked_length(length: int) -> bytes:
    """As RFC 6455, section 5.2, writes it.

    >>> _masked_length(125).hex(), _masked_length(126).hex(), _masked_length(65536).hex()
    ('fd', 'fe007e', 'ff0000000000010000')
    """
    if length < 126:
        return bytes((_MASKED | length,))
    if length < 65_536:
        return bytes((_MASKED | 126,)) + length.to_bytes(2, "big")
    return bytes((_MASKED | 127,)) + length.to_bytes(8, "big")


class Frames:
    """Messages that are sent again and again, made once: by audio, which hashes once."""

    def __init__(self, message: Callable[[bytes], Outgoing]) -> None:
        """`message` makes what carries a piece of audio; the same audio, the same message."""
        self._message = message
        self._ready: dict[bytes, Frame] = {}

    def ready(self, pcm16: bytes) -> Frame:
        frame = self._ready.get(pcm16)
        if frame is None:
            frame = self._ready[pcm16] = Frame(self._message(pcm16))
        return frame


class Connection:
    """One open WebSocket; one greenlet may send while another receives."""

    def __init__(self, wire: websocket.WebSocket, times: ConnectTimes) -> None:
        self._wire = wire
        self.times = times

    def send(self, message: Outgoing) -> None:
        try:
            self._wire.send(message, _opcode(message))
        except websocket.WebSocketTimeoutException:
            raise _stopped_reading() from None
        except (OSError, websocket.WebSocketException) as error:
            raise _broken(error) from None

    def send_frame(self, frame: websocket.ABNF) -> None:
        """One of `Frames`."""
        try:
            self._wire.send_frame(frame)
        except websocket.WebSocketTimeoutException:
            raise _stopped_reading() from None
        except (OSError, websocket.WebSocketException) as error:
            raise _broken(error) from None

    def receive(self) -> str | bytes | None:
        """The next message; None if none came within the time-out."""
        try:
            opcode, body = self._wire.recv_data()
        except websocket.WebSocketTimeoutException:
            return None
        except (OSError, websocket.WebSocketException, ValueError) as error:
            raise _broken(error) from None
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise _closed(body)
        return bytes(body)

    def set_timeout(self, seconds: float) -> None:
        """For each later send or receive."""
        self._wire.settimeout(seconds)

    def close(self) -> None:
        """Say goodbye without waiting for an answer; never raises."""
        self._wire.settimeout(GOODBYE_S)
        # An error means that it is gone already, which is what was wanted.
        with contextlib.suppress(OSError, websocket.WebSocketException):
            self._wire.send_close()
        self._wire.shutdown()  # type: ignore[no-untyped-call]


def _stopped_reading() -> LostError:
    return LostError("the server stopped reading", None, failure="stopped_reading")


def _broken(error: Exception) -> LostError:
    failure, reason = broken_failure(error), _one_line(error)
    if failure == "broken_frames":
        reason = f"not a WebSocket frame: {reason}"
    return LostError(reason, NO_CLOSE_CODE, failure=failure)


def _unheard(_: str) -> None:
    """Nobody follows the steps."""


def connect(
    url: str,
    *,
    clock: Clock,
    timeout_s: float,
    insecure: bool = False,
    api_key: str | None = None,
    on_step: Callable[[str], None] = _unheard,
) -> Connection:
    """Open a WebSocket, or raise `ConnectError` saying who said no; `on_step` is told what is
    being waited for (`naming`)."""
    opened_s = clock.now()
    plain = _open_socket(url, timeout_s, insecure, on_step)
    transport_s = clock.now()
    on_step(UPGRADING)
    wire = websocket.WebSocket(enable_multithread=True, skip_utf8_validation=True)
    headers = [f"Authorization: Bearer {api_key}"] if api_key else []
    try:
        wire.connect(  # type: ignore[no-untyped-call]
            url, socket=plain, header=headers, suppress_origin=True, redirect_limit=0
        )
    except websocket.WebSocketBadStatusException as error:
        raise _bad_status(error) from None
    except (OSError, websocket.WebSocketException, ValueError) as error:
        raise _no_websocket(error, wire) from None
    finally:
        if not wire.connected:
            plain.close()
    return Connection(wire, ConnectTimes(opened_s, transport_s, clock.now()))


def _no_websocket(error: Exception, wire: websocket.WebSocket) -> ConnectError:
    status = wire.getstatus()
    failure = upgrade_failure(error)
    # A redirection is an answer that we do not follow.
    if status is not None and 300 <= status < 400:
        failure = http_failure(status)
    return ConnectError("failed", f"no WebSocket there: {_one_line(error)}", failure=failure)


def _open_socket(
    url: str, timeout_s: float, insecure: bool, on_step: Callable[[str], None]
) -> socket.socket:
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "wss"
    on_step(CONNECTING)
    try:
        plain = socket.create_connection((host, parts.port or (443 if secure else 80)), timeout_s)
    except OSError as error:
        reason = f"no connection: {_one_line(error)}"
        raise ConnectError("failed", reason, failure=connect_failure(error)) from None
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not secure:
        return plain
    on_step(SECURING)
    try:
        return _tls(insecure).wrap_socket(plain, server_hostname=host)
    except (OSError, ValueError) as error:
        plain.close()
        reason = f"no TLS: {_one_line(error)}"
        if isinstance(error, ssl.SSLCertVerificationError):
            reason += ": --insecure accepts it"
        raise ConnectError("failed", reason, failure=tls_failure(error)) from None


@lru_cache(maxsize=2)
def _tls(insecure: bool) -> ssl.SSLContext:
    """Made once: reading the machine's certificates takes longer than a handshake."""
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _bad_status(error: websocket.WebSocketBadStatusException) -> ConnectError:
    status = int(error.status_code)
    reason = f"HTTP {status}{_said(error.resp_body)}"
    outcome = "refused" if status == REFUSED_STATUS else "failed"
    return ConnectError(outcome, reason, failure=http_failure(status))


def _said(body: bytes | None) -> str:
    """What the server said about it, if it said it in the usual JSON."""
    try:
        error = json.loads(body or b"").get("error")
        return f": {error.get('code') or 'error'}: {error.get('message') or ''}"[:200]
    except (ValueError, AttributeError):
        return ""


def _closed(body: bytes) -> LostError:
    if len(body) < 2:
        said = "closed by the server without a reason"
        return LostError(said, None, failure=closed_failure(None))
    code = int.from_bytes(body[:2], "big")
    said = body[2:].decode("utf-8", errors="replace")
    reason = f"closed by the server with {code}{': ' if said else ''}{said}"[:200]
    return LostError(reason, code, failure=closed_failure(code))


def _one_line(error: Exception) -> str:
    return why(error)[:200]
