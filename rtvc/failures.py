"""What can go wrong in a run, each kind under a name of its own that stays the same.

The names stand in `connections.csv` (column `failure`), in `summary.json` (`failures`) and in the
report; reasons beside them are for people and may be worded anew.
"""

from collections.abc import Mapping
from types import MappingProxyType

UNKNOWN = "unknown"

NO_FINAL = "no_final"
NO_REPLY = "no_reply"

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        # No connection.
        "name_not_found": "the host's name leads nowhere",
        "server_down": "nothing listens at that address",
        "unreachable": "there is no way to that address",
        "tcp_timeout": "the host did not answer in time",
        # No TLS.
        "tls_untrusted": "the certificate is signed by nobody whom this machine trusts: --insecure "
        "accepts it",
        "tls_wrong_host": "the certificate is another host's",
        "tls_expired": "the certificate is not valid at this time",
        "tls_not_spoken": "what answers there does not speak TLS",
        "tls_failed": "the TLS handshake failed",
        "tls_timeout": "the connection was accepted and its TLS handshake never completed",
        # No WebSocket.
        "refused_503": "told to come back later, by HTTP 503",
        "handshake_timeout": "the connection was accepted and the WebSocket never opened",
        "closed_in_handshake": "the connection was accepted and closed before the WebSocket opened",
        "not_websocket": "what answers there does not speak WebSocket",
        # No session.
        "refused_1013": "told to come back later, by close code 1013",
        "refused_by_message": "told to come back later, in the protocol's own words",
        "no_first_event": "the WebSocket opened, and the server never said that it was ready",
        "wrong_protocol": "the WebSocket opened, and nothing that came was of this protocol",
        "closed_before_ready": "the WebSocket was closed before the session was usable",
        # A session that was lost.
        "broken_frames": "what came was no WebSocket frame",
        "connection_cut": "the connection ended without a goodbye",
        "ended_by_message": "given up by the server, in the protocol's own words",
        "stopped_reading": "the server read nothing any more",
        # A session that stayed.
        NO_FINAL: "an utterance without a final transcript",
        NO_REPLY: "an utterance without the reply that should have followed",
        "failed_transcriptions": "an utterance that the server gave up",
        "failed_replies": "a reply that the server gave up",
        "server_errors": "a complaint of the server's",
        "late_finals": "a final transcript that came when it was not waited for any more",
        "duplicate_finals": "a final transcript that came twice",
        "finals_without_utterance": "a final transcript with words while nothing had been said",
        "garbage_not_json": "a message that is no JSON",
        "garbage_not_object": "a message of JSON that is no object",
        "garbage_no_type": "a message that does not say what it is",
        "garbage_fields": "a message that lacks what it should hold",
        "garbage_foreign_session": "a message that names another session",
        "blocked_sends": "audio that had to wait because the server did not read",
        UNKNOWN: "a failure without a name",
    }
)
"""By name, what happened, once each time it is counted."""

_HTTP, _CLOSED = "http_", "closed_"


def http_failure(status: int) -> str:
    """
    >>> http_failure(503), http_failure(404)
    ('refused_503', 'http_404')
    """
    return "refused_503" if status == 503 else f"{_HTTP}{status}"


def closed_failure(code: int | None) -> str:
    """Of a session that was usable; 1005 stands for a goodbye without a code.

    >>> closed_failure(1012), closed_failure(None)
    ('closed_1012', 'closed_1005')
    """
    return f"{_CLOSED}{1005 if code is None else code}"


def meaning(name: str) -> str:
    """In words; of a name that nobody knows, the name.

    >>> meaning("http_404"), meaning("closed_1012")
    ('answered with HTTP 404 instead of a WebSocket', 'closed by the server with 1012')
    """
    known = MEANINGS.get(name)
    if known is not None:
        return known
    family, _, number = name.rpartition("_")
    if number.isdigit() and f"{family}_" == _HTTP:
        return f"answered with HTTP {number} instead of a WebSocket"
    if number.isdigit() and f"{family}_" == _CLOSED:
        return f"closed by the server with {number}"
    return name.replace("_", " ")
