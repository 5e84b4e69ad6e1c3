"""What every HTTP answer tells a browser: what the page may do, and who may have what is sent.

The answers that refuse a WebSocket carry the same headers as all others.
"""

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CSP = "; ".join(
    (
        "default-src 'none'",
        # 'self' includes ws: and wss: of the page's own host.
        "connect-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "media-src 'self' blob:",
        "worker-src 'self' blob:",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_ALWAYS = (
    ("content-security-policy", _CSP),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "microphone=(self), camera=(), geolocation=(), payment=(), usb=()"),
)
_YEAR_S = 365 * 24 * 3600
_STATIC = ("/static/", "/favicon.ico")
"""The page's files: looked for anew each time, but they may be kept. What the API says may not."""
_STARTS = ("http.response.start", "websocket.http.response.start")

Headers = Iterable[tuple[bytes, bytes]]


class SecurityHeaders:
    """Adds the headers that a browser should hold the page to."""

    def __init__(self, app: ASGIApp, *, tls: str | None = None) -> None:
        """`tls` as in the settings."""
        self._app = app
        always = list(_ALWAYS)
        # A browser that kept this for a certificate which nobody signed would be locked out.
        if tls is not None and tls != "self-signed":
            always.append(("strict-transport-security", f"max-age={_YEAR_S}"))
        self._always = _encoded(always)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        kept = "no-cache" if _is_static(scope["path"]) else "no-store"
        ours = [*self._always, (b"cache-control", kept.encode())]

        async def send_with_headers(message: Message) -> None:
            if message["type"] in _STARTS:
                message["headers"] = list(_joined(message.get("headers", []), ours))
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers]


def _is_static(path: str) -> bool:
    return path == "/" or path.startswith(_STATIC)


def _joined(theirs: Headers, ours: Headers) -> Headers:
    """Ours, and of theirs what we say nothing about; nobody is told what the server runs on."""
    names = {name for name, _ in ours} | {b"server", b"x-powered-by"}
    yield from ((name, value) for name, value in theirs if name.lower() not in names)
    yield from ours
