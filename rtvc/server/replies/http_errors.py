"""What goes wrong with another HTTP service, said as a ReplyError and without secrets."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from rtvc.errors import ReplyError, ReplyTrouble

MAX_LINE_CHARS = 200
MAX_BODY_BYTES = 4096
UNPACKED = {"Accept-Encoding": "identity"}
"""Asked for: a small packed answer may be a huge one."""


@dataclass(slots=True)
class Exchange:
    """One request, and how far it came."""

    answered: bool = False
    """Whether the head of an answer has come."""


@contextmanager
def reply_errors(service: str, url: str) -> Iterator[Exchange]:
    """Raise what httpx raises as ReplyError naming the service, the address and the trouble."""
    exchange = Exchange()
    try:
        yield exchange
    except httpx.TimeoutException as error:
        connecting = isinstance(error, httpx.ConnectTimeout)
        kind = "connect" if connecting else "answer"
        message = f"{service} at {url}: expected it to {kind} in time"
        raise ReplyError(message, reason="connect" if connecting else "timeout") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        # Not str(error) of a request: it may hold headers; the class says what happened.
        detail = str(error) if isinstance(error, httpx.NetworkError) else ""
        message = f"{service} at {url}: {type(error).__name__} {detail}".strip()
        raise ReplyError(message, reason=_reason(error, exchange)) from None


def _reason(error: Exception, exchange: Exchange) -> ReplyTrouble:
    """A connection that is lost before anything was answered may have been a stale one."""
    lost = isinstance(error, httpx.NetworkError)
    if isinstance(error, httpx.RemoteProtocolError):
        # httpx has no class of its own for a peer that hangs up.
        lost = "disconnected" in str(error) or "closed connection" in str(error)
        if not lost:
            return "garbage"
    if lost:
        return "broken_off" if exchange.answered else "connect"
    return "garbage" if isinstance(error, httpx.DecodingError) else "other"


def expect_plain(response: httpx.Response, *, never: Sequence[str], service: str) -> None:
    """
    Raises:
        ReplyError: the answer is packed, or of a type that the service's answers never have.
    """
    packed = response.headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("", "identity"):
        raise ReplyError(
            f"{service}: expected an answer that is not packed, got {packed[:40]!r}",
            reason="garbage",
        )
    found = response.headers.get("content-type", "").strip().lower()
    if any(word in found for word in never):
        raise ReplyError(
            f"{service}: expected another type of answer, got {found[:80]!r}", reason="garbage"
        )


async def first_line(response: httpx.Response) -> str:
    """First line of a refusal's body; a broken or endless body is cut."""
    body = b""
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) >= MAX_BODY_BYTES:
                break
    except httpx.HTTPError:
        body = body or b"(no body)"
    lines = body[:MAX_BODY_BYTES].decode("utf-8", "replace").strip().splitlines()
    return lines[0][:MAX_LINE_CHARS] if lines else "(no body)"
