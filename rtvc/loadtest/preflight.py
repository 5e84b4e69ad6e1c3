"""Before the load: is the server there, is it ready, and what does it run?"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from rtvc.clock import Clock
from rtvc.errors import RtvcError, UsageError
from rtvc.loadtest.spec import http_url
from rtvc.loadtest.wire.messages import REALTIMESTT
from rtvc.loadtest.wire.wires import Wire
from rtvc.profile.target import no_answer
from rtvc.slo import Objective

POLL_S = 0.5
"""How often a server that is loading is asked again."""

HTTP_TIMEOUT_S = 5.0
"""For one answer."""


class NobodyAnswers(RtvcError):
    """There is no HTTP to be had at that address; why, the speakers will find out."""


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
        NobodyAnswers: nothing that speaks HTTP is there.
        RtvcError: loading failed, or it takes longer than `patience_s`.
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
    except httpx.RequestError as error:
        raise NobodyAnswers(no_answer(url, error)) from None
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


def ask_stranger(wire: Wire, url: str, client: httpx.Client) -> ServerFacts:
    """What a server that is not ours says of itself, where its protocol has a page for it."""
    page = _PAGES.get(wire.name)
    if page is None:
        return ServerFacts()
    try:
        body = client.get(http_url(url, page), timeout=HTTP_TIMEOUT_S).json()
        settings, limits = body["settings"], body["limits"]
        model, most = settings.get("model"), limits.get("maxSessions")
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
        return ServerFacts()
    return ServerFacts(
        model=Path(model).name if isinstance(model, str) else None,
        max_sessions=most if isinstance(most, int) else None,
        said={name: _bare(settings[name]) for name in _TOLD if name in settings},
    )


def _bare(value: Any) -> Any:
    """Where a model lies on that machine is nobody's business."""
    return Path(value).name if isinstance(value, str) else value


_PAGES = {REALTIMESTT: "/api/config"}

_TOLD = (
    "realtime_model",
    "beam_size",
    "beam_size_realtime",
    "compute_type",
    "post_speech_silence_duration",
    "realtime_processing_pause",
)
"""Settings of RealtimeSTT's server that decide over its delay."""


def check_observable(objectives: Iterable[Objective], hidden: frozenset[str]) -> None:
    """Raises UsageError: a search cannot be decided by what the protocol does not show."""
    for objective in objectives:
        if objective.metric in hidden:
            raise UsageError(
                f"expected objectives that can be seen, but {objective.name} is not observable in "
                "such a session"
            )
