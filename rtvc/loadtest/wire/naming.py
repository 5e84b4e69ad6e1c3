"""Which failure an exception is: pure, from what the libraries raise to a name of `failures`."""

import socket
import ssl

import websocket

from rtvc.failures import UNKNOWN

CONNECTING, SECURING, UPGRADING, GREETING = "tcp", "tls", "upgrade", "ready"
"""Steps of connecting, in order."""

_TIMEOUTS = {
    CONNECTING: "tcp_timeout",
    SECURING: "tls_timeout",
    UPGRADING: "handshake_timeout",
}

# As OpenSSL numbers what it finds wrong with a certificate.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_HOST, _OTHER_ADDRESS = 62, 64
_CERTIFICATE = {
    _NOT_YET_VALID: "tls_expired",
    _EXPIRED: "tls_expired",
    _OTHER_HOST: "tls_wrong_host",
    _OTHER_ADDRESS: "tls_wrong_host",
}

_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})


def timeout_failure(step: str, messages: int) -> str:
    """Of what took too long; `messages` came without the one that was waited for.

    >>> timeout_failure("tls", 0), timeout_failure("ready", 0), timeout_failure("ready", 3)
    ('tls_timeout', 'no_first_event', 'wrong_protocol')
    """
    silent = "wrong_protocol" if messages else "no_first_event"
    return _TIMEOUTS.get(step, silent)


def connect_failure(error: OSError) -> str:
    """Of a TCP connect, name look-up included."""
    if isinstance(error, socket.gaierror):
        return "name_not_found"
    if isinstance(error, TimeoutError):
        return "tcp_timeout"
    return "server_down" if isinstance(error, ConnectionRefusedError) else "unreachable"


def tls_failure(error: OSError | ValueError) -> str:
    """Of a TLS handshake."""
    if isinstance(error, TimeoutError):
        return "tls_timeout"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE.get(error.verify_code, "tls_untrusted")
    if isinstance(error, ssl.SSLError) and error.reason in _NOT_TLS:
        return "tls_not_spoken"
    return "tls_failed"


def upgrade_failure(error: Exception) -> str:
    """Of the opening of a WebSocket, where no HTTP status was at fault."""
    if isinstance(error, websocket.WebSocketTimeoutException | TimeoutError):
        return "handshake_timeout"
    gone = websocket.WebSocketConnectionClosedException
    return "closed_in_handshake" if isinstance(error, gone | OSError) else "not_websocket"


def broken_failure(error: Exception) -> str:
    """Of a connection that stood."""
    gone = websocket.WebSocketConnectionClosedException
    if isinstance(error, gone | OSError):
        return "connection_cut"
    if isinstance(error, websocket.WebSocketException | ValueError):
        return "broken_frames"
    return UNKNOWN
