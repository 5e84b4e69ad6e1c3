"""From which page, and under which name, a request came. Pure."""

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}
_LOCAL_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _place(scheme: str, netloc: str) -> tuple[str, int | None] | None:
    """Host and port; None: it is neither."""
    try:
        parts = urlsplit(f"{scheme}://{netloc}")
        port = parts.port
    except ValueError:
        return None
    if parts.hostname is None or parts.netloc != netloc or "@" in netloc:
        return None
    return parts.hostname.rstrip("."), port or _PORTS.get(scheme)


def origin_allowed(origin: str | None, host: str | None, allowed: Iterable[str]) -> bool:
    """Whether a page of `origin` may call: one of this server's own, or one that was named.

    None as an origin: not a browser. TLS may end before the server, so the scheme of its own page
    is not compared.

    >>> origin_allowed("https://voice.example", "voice.example", ())
    True
    >>> origin_allowed("https://other.example", "voice.example", ())
    False
    """
    if origin is None or origin.lower() in allowed:
        return True
    scheme, separator, netloc = origin.lower().partition("://")
    if not separator or scheme not in _PORTS or host is None:
        return False
    own = _place(scheme, host.lower())
    return own is not None and own == _place(scheme, netloc)


def host_allowed(host: str | None, bound: str, origins: Iterable[str]) -> bool:
    """Whether a server for this machine alone was called by a name that is its own.

    Another name that leads here belongs to a page that tries to pass for this server's own.

    >>> host_allowed("localhost:8000", "127.0.0.1", ()), host_allowed("evil.example", "::1", ())
    (True, False)
    """
    if host is None:
        return True  # HTTP/1.0; no browser
    place = _place("http", host.lower())
    if place is None:
        return False
    named = {urlsplit(origin).hostname for origin in origins}
    return place[0] in _LOCAL_NAMES or place[0] == bound.lower() or place[0] in named
