"""`rtvc keys`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from rtvc.errors import UsageError, why
from rtvc.server.access.keys import FROM_ENVIRONMENT, NAME, entry, new_key, read_keys

DEFAULT_FILE = Path("keys.toml")

keys = {"make": ("rtvc.server.access.command", "Make a key for a caller of the server.")}


def make(
    name: Annotated[str, typer.Argument(help="Whose key it is; shown where its sessions are.")],
    file: Annotated[
        Path, typer.Option("--file", help="Keys file; made if there is none.", metavar="FILE")
    ] = DEFAULT_FILE,
) -> None:
    """Make a key for a caller of the server: it is printed once, and only its hash is kept.

    The hash goes to the end of the keys file, for rtvc serve --keys-file FILE. A caller sends the
    key as a Bearer token, as to OpenAI. Limits can be added to its table: max_sessions,
    connects_per_minute, audio_s_per_hour, scopes.
    """
    if NAME.fullmatch(name) is None or name == FROM_ENVIRONMENT:
        expected = f"up to 64 letters, digits, - and _, and not {FROM_ENVIRONMENT}"
        raise UsageError(f"NAME: expected {expected}, got {name!r}")
    if file.exists() and name in {key.name for key in read_keys(file)}:
        raise UsageError(
            f"{file} has a key named {name} already; to replace it, remove its table "
            "first, and SIGHUP ends the sessions of the old one"
        )
    secret = new_key()
    _append(file, entry(name, secret))
    typer.echo(secret)
    typer.echo(
        f"added {name} to {file}; the key stands above and nowhere else", err=True, color=False
    )


def _append(file: Path, text: str) -> None:
    """Nobody else may read it, and a crash leaves it as it was or whole."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as out:
            os.fchmod(descriptor, 0o600)
            out.write((("\n" if out.tell() else "") + text).encode())
    except OSError as error:
        raise UsageError(f"cannot write keys to {file}: {why(error)}") from None
