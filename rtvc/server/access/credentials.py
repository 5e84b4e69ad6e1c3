"""What a request says of who sent it. Pure: an ASGI scope in, a credential out."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from rtvc.server.access.tokens import MAX_CHARS, PREFIX

SUBPROTOCOL = "openai-insecure-api-key."
"""Where browsers put it: they cannot send an Authorization header with a WebSocket."""


@dataclass(frozen=True, slots=True)
class Credential:
    """Offered, not yet believed."""

    secret: str
    """A key or a client token."""
    in_query: bool = False
    """Whether it stood in the address, where only a client token may stand."""

    @property
    def is_token(self) -> bool:
        """Whether it looks like a client token."""
        return self.secret.startswith(PREFIX)

    def __repr__(self) -> str:
        """Never the secret."""
        return f"Credential(in_query={self.in_query})"


def header(scope: Any, name: bytes) -> str | None:
    """The first header of that name, in lower case as ASGI has them."""
    for key, value in scope.get("headers") or ():
        if key == name:
            return str(value.decode("latin-1"))
    return None


def credential(scope: Any) -> Credential | None:
    """What the request offers; None: nothing."""
    scheme, _, secret = (header(scope, b"authorization") or "").strip().partition(" ")
    if scheme.lower() == "bearer" and secret.strip():
        return Credential(secret.strip()[:MAX_CHARS])
    for protocol in scope.get("subprotocols") or ():
        if protocol.startswith(SUBPROTOCOL):
            return Credential(protocol.removeprefix(SUBPROTOCOL)[:MAX_CHARS])
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    in_query = query.get("token", [])
    return Credential(in_query[0][:MAX_CHARS], in_query=True) if in_query else None
