"""What a verb is pointed at: the folder of a run, or a server."""

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from rtvc.errors import UsageError

_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/.*)?")


def is_url(target: str) -> bool:
    """Whether a server is meant; a folder that is there is a folder.

    >>> is_url("ws://box"), is_url("localhost:8000"), is_url("reports/runs/one")
    (True, True, False)
    """
    if "://" in target:
        return True
    return bool(_HOST_AND_PORT.fullmatch(target)) and not Path(target).exists()


def http_address(target: str, path: str) -> str:
    """The address of `path` at the server.

    >>> http_address("wss://box/v1/realtime?rtvc=1", "/v1/sessions")
    'https://box/v1/sessions'
    >>> http_address("localhost:8000", "/v1/sessions")
    'http://localhost:8000/v1/sessions'
    """
    parts = urlsplit(target if "://" in target else f"http://{target}")
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
        raise UsageError(f"expected a URL such as http://127.0.0.1:8000, got {target!r}")
    scheme = "https" if parts.scheme in ("wss", "https") else "http"
    return urlunsplit((scheme, parts.netloc, path, "", ""))
