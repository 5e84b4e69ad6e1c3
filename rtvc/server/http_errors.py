"""What goes wrong with another HTTP service, said as a ReplyError and without secrets."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from rtvc.errors import ReplyError

MAX_LINE_CHARS = 200
MAX_BODY_BYTES = 4096


@contextmanager
def reply_errors(service: str, url: str) -> Iterator[None]:
    """Raise what httpx raises as ReplyError naming the service, the address and the trouble."""
    try:
        yield
    except httpx.TimeoutException as error:
        kind = "connect" if isinstance(error, httpx.ConnectTimeout) else "answer"
        told = f"the {service} did not {kind} in time"
        raise ReplyError(f"{service} at {url}: expected it to {kind} in time", told=told) from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        # Not str(error) of a request: it may hold headers; the class says what happened.
        detail = str(error) if isinstance(error, httpx.NetworkError) else ""
        message = f"{service} at {url}: {type(error).__name__} {detail}"
        raise ReplyError(message.strip(), told=f"the {service} failed") from None


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
