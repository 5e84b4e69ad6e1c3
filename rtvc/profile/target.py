"""What a verb is pointed at: the folder of a run, or a server."""

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from rtvc.errors import ProfileError, UsageError, why

_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/.*)?")

_UNTRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED\](?: certificate verify failed:?)?(.*)")

_PLACE = re.compile(r" *\(_ssl\.c:\d+\) *$")
"""Where in Python's own source it was found."""


class NoAnswer(ProfileError):
    """Nobody is there to be looked at; every verb says it in the same words."""


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


def untrusted(said: str) -> str | None:
    """What is wrong with a certificate; None: the error is another one.

    >>> untrusted("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: expired (_ssl.c:1)")
    'expired'
    >>> untrusted("Connection refused") is None
    True
    """
    found = _UNTRUSTED.search(said)
    return None if found is None else _PLACE.sub("", found[1]).strip() or "not verified"


def no_answer(url: str, error: BaseException, said: str | None = None) -> str:
    """In one line, why nothing came of asking `url`; `said`: better words than the error's.

    >>> no_answer("http://box:8000", ConnectionRefusedError(111, "Connection refused"))
    'no server answers at http://box:8000: Connection refused'
    """
    reason = untrusted(str(error))
    if reason is not None:
        return f"certificate not trusted at {url} ({reason}): --insecure accepts it"
    return f"no server answers at {url}: {said or why(error)}"
