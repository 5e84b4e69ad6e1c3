"""The keys of callers: a file with their hashes, or one key from the environment.

The keys themselves are nowhere: not in the file, not in memory, not in a log. A key has 256 random
bits, so that a plain SHA-256 of it does not tell it. What seals client tokens comes of that hash,
so the file is for the server's eyes only.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtvc.config import AccessSettings
from rtvc.errors import UsageError

TALK, WATCH = "talk", "watch"
"""Sessions and uploads; /metrics and /v1/sessions."""
SCOPES = (TALK, WATCH)
FROM_ENVIRONMENT = "environment"
"""Name of the key that stands in RTVC_ACCESS_KEY."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COUNTS = ("max_sessions", "connects_per_minute")
_FIELDS = ("sha256", "scopes", *_COUNTS, "audio_s_per_hour")


@dataclass(frozen=True, slots=True)
class Key:
    """One caller, as the server knows it."""

    name: str
    """Shown where its sessions are shown; no secret."""
    sha256: str
    """Of the key, 64 hexadecimal digits."""
    scopes: frozenset[str] = frozenset(SCOPES)
    """Which of SCOPES it is good for."""
    max_sessions: int | None = None
    """Sessions at once; None: as many as there is room for."""
    connects_per_minute: int | None = None
    """Sessions and uploads begun in a minute; None: any number."""
    audio_s_per_hour: float | None = None
    """Seconds of audio in an hour; None: any amount."""


class KeyRing:
    """The keys that are good."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = {key.name: key for key in keys}

    def __len__(self) -> int:
        return len(self._keys)

    def named(self, name: str) -> Key | None:
        return self._keys.get(name)

    def find(self, secret: str) -> Key | None:
        """Whose key this is; how long that takes tells nothing of those that it is not."""
        sha256 = hashed(secret)
        found = None
        for key in self._keys.values():
            if hmac.compare_digest(key.sha256, sha256):
                found = key
        return found

    def revoked_by(self, newer: "KeyRing") -> tuple[str, ...]:
        """Names of those that are good no more, or that stand for another key now."""
        return tuple(
            name
            for name, key in self._keys.items()
            if (other := newer.named(name)) is None
            or other.sha256 != key.sha256
            or not key.scopes <= other.scopes
        )


def hashed(secret: str) -> str:
    """What is kept of a key.

    >>> hashed("a key")[:12]
    '8fa3aab2faa9'
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def new_key() -> str:
    """256 bits that nobody can guess, in characters that a subprotocol may have."""
    return f"rtvc_{secrets.token_urlsafe(32)}"


def load_keys(settings: AccessSettings) -> KeyRing:
    """Those of the file and of the environment.

    Raises:
        UsageError: the file cannot be read, or an entry is wrong; never shows a value.
    """
    keys = [] if settings.keys_file is None else read_keys(settings.keys_file)
    if settings.key is not None:
        secret = settings.key.get_secret_value()
        keys.append(Key(FROM_ENVIRONMENT, hashed(secret)))
    return KeyRing(keys)


def read_keys(path: Path) -> list[Key]:
    """The keys of a file.

    Raises:
        UsageError: it cannot be read, anyone may write to it, or an entry is wrong; names the key
            and the field.
    """
    _not_for_all_to_write(path)
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the keys in {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # Not the parser's words: they may quote what somebody put there by mistake.
        where = re.search(r"at line \d+", str(error))
        raise UsageError(f"{path} is not valid TOML{f' {where[0]}' if where else ''}") from None
    tables = found.get("keys", {})
    if set(found) - {"keys"} or not isinstance(tables, dict):
        raise UsageError(f"{path}: expected nothing but tables [keys.NAME]")
    return [_key(path, name, table) for name, table in tables.items()]


def _not_for_all_to_write(path: Path) -> None:
    """Who may write to the file may give themselves a key."""
    with suppress(OSError):
        mode = path.stat().st_mode
        if os.name == "posix" and mode & stat.S_IWOTH:
            raise UsageError(
                f"{path}: expected a file that not everybody may write to, got mode "
                f"{stat.S_IMODE(mode):04o}; see chmod 600"
            )


def _key(path: Path, name: str, table: object) -> Key:
    where = f"{path} [keys.{name}]"
    if NAME.fullmatch(name) is None or name == FROM_ENVIRONMENT:
        raise UsageError(
            f"{path}: expected names of up to 64 letters, digits, - and _, "
            f"and none of them {FROM_ENVIRONMENT}"
        )
    if not isinstance(table, dict):
        raise UsageError(f"{where}: expected a table with sha256")
    unknown = [str(field) for field in table if field not in _FIELDS]
    if unknown:
        # A field's name is shown only where it can't be a key in the wrong place.
        shown = f" {unknown[0]}" if len(unknown[0]) <= 24 else ""
        raise UsageError(f"{where}: unknown field{shown}, expected one of {', '.join(_FIELDS)}")
    return Key(
        name,
        _sha256(where, table),
        _scopes(where, table),
        **{field: _number(where, table, field, whole=True) for field in _COUNTS},
        audio_s_per_hour=_number(where, table, "audio_s_per_hour", whole=False),
    )


def _sha256(where: str, table: Mapping[str, Any]) -> str:
    value = table.get("sha256")
    if not isinstance(value, str) or _SHA256.fullmatch(value.lower()) is None:
        raise UsageError(f"{where} sha256: expected 64 hexadecimal digits, the hash of the key")
    return value.lower()


def _scopes(where: str, table: Mapping[str, Any]) -> frozenset[str]:
    value = table.get("scopes", list(SCOPES))
    if not isinstance(value, list) or not value or not all(scope in SCOPES for scope in value):
        raise UsageError(f"{where} scopes: expected a list of {' and '.join(SCOPES)}")
    return frozenset(value)


def _number(where: str, table: Mapping[str, Any], field: str, *, whole: bool) -> Any:
    value = table.get(field)
    if value is None:
        return None
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < 1e12:
        kind = "whole number" if whole else "number"
        raise UsageError(f"{where} {field}: expected a {kind} above 0")
    return value


def entry(name: str, secret: str) -> str:
    """The table of a new key, for the end of a keys file."""
    return f'[keys.{name}]\nsha256 = "{hashed(secret)}"\n'
