"""Before the load: is the server there, is it ready, and what does it run?"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from rtvc.clock import Clock
from rtvc.errors import RtvcError, why

POLL_S = 0.5
"""How often a server that is loading is asked again."""

HTTP_TIMEOUT_S = 5.0
"""For one answer."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says of itself; servers that are not ours say nothing."""

    model: str | None = None
    """Speech-to-text model; None if it did not say."""
    model_kind: str | None = None
    """What that is, in words; None if it did not say."""
    max_sessions: int | None = None
    """Sessions it admits; None if it did not say."""
    said: dict[str, Any] = field(default_factory=dict)
    """Version and notice, for the manifest."""


def ask_server(
    readyz_url: str,
    *,
    client: httpx.Client,
    clock: Clock,
    sleep: Callable[[float], None],
    patience_s: float,
    on_wait: Callable[[str], None],
) -> ServerFacts:
    """Wait until the server is ready.

    Raises:
        RtvcError: nobody answers, loading failed, or it takes longer than `patience_s`.
    """
    deadline_s = clock.now() + patience_s
    while True:
        body = _readiness(readyz_url, client)
        if body is None:
            return ServerFacts()
        state = body.get("state")
        if state == "ready":
            return _facts(body)
        detail = str(body.get("detail") or state)
        if state == "failed":
            raise RtvcError(f"the server at {readyz_url} failed to start: {detail}")
        if clock.now() > deadline_s:
            raise RtvcError(f"the server was not ready within {patience_s:g} s: {detail}")
        on_wait(f"waiting for the server: {detail}")
        sleep(POLL_S)


def _readiness(url: str, client: httpx.Client) -> dict[str, Any] | None:
    """None if the server has no such page: then it is not ours, and nothing is known of it."""
    try:
        answer = client.get(url, timeout=HTTP_TIMEOUT_S)
    except httpx.TransportError as error:
        raise RtvcError(f"no server answers at {url}: {why(error)}") from None
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) and isinstance(body.get("state"), str) else None


def _facts(body: dict[str, Any]) -> ServerFacts:
    model, kind, limit = body.get("model"), body.get("model_kind"), body.get("max_sessions")
    return ServerFacts(
        model=model if isinstance(model, str) else None,
        model_kind=kind if isinstance(kind, str) else None,
        max_sessions=limit if isinstance(limit, int) else None,
        said={name: body[name] for name in ("version", "notice", "max_sessions") if name in body},
    )
