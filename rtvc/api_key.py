"""The key that a load test or a profiler shows to a server: from a file or the environment.

On a command line every user of the machine could read it. It is sent as a Bearer token to the
server that was named, to nobody it redirects to, and is never recorded.
"""

from pathlib import Path
from typing import Annotated

import typer

from rtvc.config import interface
from rtvc.errors import UsageError, why

VARIABLE = "RTVC_API_KEY"
LONGEST_BYTES = 4096

ApiKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        metavar="FILE",
        help=f"File with the server's API key, sent as a Bearer token [else ${VARIABLE}]".replace(
            "[", r"\["
        ),
        show_default=False,
    ),
]
"""A flag of every verb that asks a server."""


def find_api_key(file: Path | None = None, given: str | None = None) -> str | None:
    """The key of `file`, else the one `given`, else that of the environment; None: there is none.

    Raises:
        UsageError: the file cannot be read, or what was found is no key. It is not repeated.
    """
    if file is not None and given is not None:
        raise UsageError("expected one of --api-key and --api-key-file, got both")
    if file is not None:
        return _checked(_read(file), f"in {file}")
    if given is not None:
        return _checked(given, "after --api-key")
    found = (interface(VARIABLE) or "").strip()
    return _checked(found, f"in {VARIABLE}") if found else None


def bearer(key: str | None) -> dict[str, str]:
    """The header that shows it; nothing without a key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(LONGEST_BYTES + 1).decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"cannot read the API key in {file}: {why(error)}") from None


def _checked(text: str, where: str) -> str:
    key = text.strip()
    # Anything else could end the header and begin another.
    if not key or len(key) > LONGEST_BYTES or not key.isascii() or not key.isprintable():
        raise UsageError(f"expected an API key {where}: one line of printable ASCII characters")
    if " " in key:
        raise UsageError(f"expected an API key {where} without spaces in it")
    return key
