"""Short-lived tokens for clients that must not hold a key, such as pages: OpenAI's client secrets.

A token is kept nowhere. It holds what it stands for, sealed by Fernet (AES-128-CBC, HMAC-SHA-256;
https://github.com/fernet/spec) with what the server knows of the key that asked for it. So every
server that knows the key knows its tokens: behind a load balancer one makes it and another one
takes it. A key that is taken out takes its tokens along.

    ek_ SEALED . NAME       SEALED: Fernet's token without "="; NAME of the key, which is no secret
"""

import base64
import hashlib
import hmac
import json
import math
import secrets
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.fernet import Fernet, InvalidToken

from rtvc.clock import Clock
from rtvc.server.access.denials import Denied
from rtvc.server.access.keys import Key

PREFIX = "ek_"
SHORTEST_S, LONGEST_S, USUAL_S = 10, 7200, 600
MAX_CHARS = 4096
"""Of a token: it has to fit into a line of a request's head, which WebSocket libraries and proxies
bound at 8 KiB."""
_PURPOSE = b"rtvc client token 1"
"""So that what is known of a key seals nothing else; the number is that of the form."""


class TooLong(ValueError):
    """The settings do not fit into a token."""

    def __init__(self, chars: int) -> None:
        super().__init__(f"expected settings that fit into {MAX_CHARS} characters, got {chars}")


@dataclass(frozen=True, slots=True)
class Token:
    """What one stands for."""

    key_name: str | None
    """Whose it is; None: of a server that asks for no keys."""
    session: dict[str, Any]
    """Settings that its sessions start from, as in session.update; has a type."""


class Tokens:
    """Makes them, and reads those that were made here or by another server with the same keys.

    >>> from rtvc.clock import FakeClock
    >>> from rtvc.server.access.keys import hashed
    >>> ada = Key("ada", hashed("a key"))
    >>> one, other = (Tokens(FakeClock(), {"ada": ada}.get) for _ in range(2))
    >>> other.find(one.make("ada", 60, {"type": "realtime"}))
    Token(key_name='ada', session={'type': 'realtime'})
    """

    def __init__(self, clock: Clock, named: Callable[[str], Key | None]) -> None:
        """`named`: the key of that name; None: there is none that is good."""
        self._clock = clock
        self._named = named
        self._own = secrets.token_bytes(32)
        """Where no keys are asked for, a token is good at the server that made it."""

    def make(self, key_name: str | None, seconds: float, session: dict[str, Any]) -> str:
        """A new one, good from now on.

        Raises:
            TooLong: the settings do not fit.
            KeyError: there is no such key.
        """
        seal = self._seal(key_name or "")
        if seal is None:
            raise KeyError(key_name)
        # Whole seconds, never fewer than were asked for: clocks of servers differ by less.
        told = json.dumps([math.ceil(self._now_s() + seconds), session], separators=(",", ":"))
        sealed = seal.encrypt(zlib.compress(told.encode())).decode().rstrip("=")
        token = f"{PREFIX}{sealed}.{key_name or ''}"
        if len(token) > MAX_CHARS:
            raise TooLong(len(token))
        return token

    def find(self, value: str) -> Token | None:
        """What it stands for; None: nothing that is known.

        Raises:
            Denied: its time is over.
        """
        sealed, _, name = value.removeprefix(PREFIX).partition(".")
        seal = self._seal(name)
        if seal is None:
            return None
        try:
            told = seal.decrypt(sealed + "=" * (-len(sealed) % 4))
        except (InvalidToken, ValueError):
            # ValueError: letters that base64 has not.
            return None
        expires_at_s, session = json.loads(zlib.decompress(told))
        if self._now_s() >= expires_at_s:
            raise Denied("expired_token", "the client token has expired")
        return Token(name or None, session)

    def _now_s(self) -> float:
        """Since 1970: what servers have in common."""
        return self._clock.utc().timestamp()

    def _seal(self, key_name: str) -> Fernet | None:
        """None: there is no such key."""
        if not key_name:
            return _fernet(self._own)
        key = self._named(key_name)
        return None if key is None else _fernet(bytes.fromhex(key.sha256))


def _fernet(secret: bytes) -> Fernet:
    derived = hmac.new(secret, _PURPOSE, hashlib.sha256).digest()
    return Fernet(base64.urlsafe_b64encode(derived))
