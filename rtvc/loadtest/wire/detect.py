"""Which protocol a server speaks, where nobody said: by the URL's path, then by asking.

    path      /v1/realtime, /ws/transcribe and /ws are whose they are
    HTTP      our own /readyz, RealtimeSTT's /health, RealtimeVoiceChat's page
    socket    each protocol's endpoint is opened and the first message read. If none is known, the
              only door that opens, or is closed for now, is taken: silence at /ws and nowhere else
              is how RealtimeVoiceChat answers

WhisperLive loads a model for everybody who asks, so it is asked last, unless the server has nothing
to say over HTTP but that it speaks WebSocket.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from rtvc.clock import Clock
from rtvc.errors import UsageError, why
from rtvc.loadtest.spec import endpoint_url, http_url, session_url
from rtvc.loadtest.wire.messages import (
    OPENAI_REALTIME,
    REALTIMESTT,
    REALTIMEVOICECHAT,
    WHISPERLIVE,
    Outgoing,
    protocol_of,
    read_message,
)
from rtvc.loadtest.wire.transport import ConnectError, LostError, connect
from rtvc.loadtest.wire.whisperlive import WhisperLiveClient
from rtvc.loadtest.wire.wires import WIRES, Wire, wire_of_path

HTTP_TIMEOUT_S = 5.0
"""For one answer over HTTP."""

FIRST_WORD_S = 3.0
"""For the first message after a WebSocket is open."""

LOADING_S = 60.0
"""For that of a server that loads a model first."""

UPGRADE_REQUIRED = 426
"""How a server that has only WebSockets answers over HTTP."""


@dataclass(slots=True)
class Inquiry:
    """Whom to ask, and what came of it."""

    url: str
    """As the user gave it."""
    client: httpx.Client
    """For HTTP."""
    clock: Clock
    """Runs while connections are opened."""
    insecure: bool
    """Accept any certificate."""
    api_key: str | None
    """Sent as a Bearer token."""
    tried: list[str] = field(default_factory=list)
    """One line an attempt."""
    doors: list[Wire] = field(default_factory=list)
    """Endpoints that opened without a word that is known, or were closed for now."""
    only_websockets: bool = False
    """Whether the server said over HTTP that it speaks nothing else."""

    def note(self, what: str, came: str) -> None:
        self.tried.append(f"{what}: {came}"[:160])


def detect(
    url: str,
    *,
    client: httpx.Client,
    clock: Clock,
    insecure: bool = False,
    api_key: str | None = None,
) -> Wire:
    """The protocol that is spoken at `url`.

    Raises:
        UsageError: none that is known; says what was tried.
    """
    told = wire_of_path(urlsplit(url).path)
    if told is not None:
        return told
    inquiry = Inquiry(url, client, clock, insecure, api_key)
    name = next(_answers(inquiry), None)
    if name is not None:
        return WIRES[name]
    if len(inquiry.doors) == 1:
        return inquiry.doors[0]
    known, tried = ", ".join(WIRES), "; ".join(inquiry.tried)
    raise UsageError(
        f"nobody who answers at {url} speaks a known protocol (tried {tried}); "
        f"name it with --protocol ({known})"
    )


def _answers(inquiry: Inquiry) -> Iterator[str]:
    if urlsplit(inquiry.url).path in ("", "/"):
        for look in (_readyz, _health, _page):
            name = look(inquiry)
            if name is not None:
                yield name
    order = [OPENAI_REALTIME, REALTIMESTT, REALTIMEVOICECHAT]
    order.insert(0 if inquiry.only_websockets else len(order), WHISPERLIVE)
    for wire in map(WIRES.__getitem__, order):
        name = _first_word(inquiry, wire)
        if name is not None:
            yield name


# Over HTTP.


def _get(inquiry: Inquiry, path: str) -> httpx.Response | None:
    address = http_url(inquiry.url, path)
    try:
        answer = inquiry.client.get(address, timeout=HTTP_TIMEOUT_S)
    except httpx.HTTPError as error:
        inquiry.note(f"GET {path}", why(error))
        return None
    inquiry.note(f"GET {path}", f"HTTP {answer.status_code}")
    inquiry.only_websockets = answer.status_code == UPGRADE_REQUIRED
    return answer


def _object(answer: httpx.Response | None) -> dict[str, Any]:
    """Empty where there is none."""
    with contextlib.suppress(ValueError):
        body = None if answer is None else answer.json()
        return body if isinstance(body, dict) else {}
    return {}


def _readyz(inquiry: Inquiry) -> str | None:
    body = _object(_get(inquiry, "/readyz"))
    return OPENAI_REALTIME if isinstance(body.get("state"), str) else None


def _health(inquiry: Inquiry) -> str | None:
    body = _object(_get(inquiry, "/health"))
    return REALTIMESTT if {"activeSessions", "scheduler"} <= body.keys() else None


def _page(inquiry: Inquiry) -> str | None:
    answer = _get(inquiry, "/")
    if answer is None or "html" not in answer.headers.get("content-type", ""):
        return None
    page = answer.text.casefold()
    talks = "/static/app.js" in page and "voice chat" in page
    return REALTIMEVOICECHAT if talks else None


# Over a WebSocket.


def _first_word(inquiry: Inquiry, wire: Wire) -> str | None:
    """Open an endpoint as its protocol wants it, and see who answers."""
    address = endpoint_url(inquiry.url, wire.path)
    if wire.may_transcribe_only:
        address = session_url(inquiry.url, transcription=False)
    what = f"WebSocket {urlsplit(address).path}"
    try:
        message = _open(inquiry, wire, address)
    except (ConnectError, LostError) as error:
        inquiry.note(what, error.reason)
        if isinstance(error, ConnectError) and error.outcome == "refused":
            inquiry.doors.append(wire)
        return None
    name = None if message is None else _speaker(message)
    inquiry.note(what, "said nothing" if message is None else f"spoke {name or 'no known words'}")
    if name is None:
        inquiry.doors.append(wire)
    return name


def _open(inquiry: Inquiry, wire: Wire, address: str) -> str | bytes | None:
    """The first message; None if none came in time."""
    connection = connect(
        address,
        clock=inquiry.clock,
        timeout_s=HTTP_TIMEOUT_S,
        insecure=inquiry.insecure,
        api_key=inquiry.api_key,
    )
    greeting: list[Outgoing] = []
    if wire.name == WHISPERLIVE:
        greeting = WhisperLiveClient("rtvc-asks", inquiry.url).greeting()
    try:
        connection.set_timeout(LOADING_S if greeting else FIRST_WORD_S)
        for message in greeting:
            connection.send(message)
        return connection.receive()
    finally:
        connection.close()


def _speaker(message: str | bytes) -> str | None:
    event = read_message(message)
    return None if isinstance(event, str) else protocol_of(event)
