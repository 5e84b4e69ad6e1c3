"""Short-lived tokens for clients that must not hold a key, such as pages: OpenAI's client secrets.

A token is kept nowhere. It holds what it stands for, sealed by Fernet (AES-128-CBC, HMAC-SHA-256;
https://github.com/fernet/spec) with what the server knows of the key that asked for it. So every
server that knows the key knows its tokens: behind a load balancer one makes it and another one
takes it. A key that is taken out takes its tokens along.

Whoever has a key, or its hash, can seal anything in its name: what is found in a token is held
against what a server would have put there, as any message is.

    ek_ SEALED . NAME       SEALED: Fernet's token without "="; NAME of the key, which is no secret
"""

import base64
import hashlib
import hmac
import json
import math
import re
import secrets
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.fernet import Fernet, InvalidToken

from rtvc.clock import Clock
from rtvc.errors import ProtocolError
from rtvc.protocol.validation import Frozen, SmallObject, read_object, validated
from rtvc.server.access.denials import Denied
from rtvc.server.access.keys import Key

PREFIX = "ek_"
SHORTEST_S, LONGEST_S, USUAL_S = 10, 7200, 600
MAX_CHARS = 4096
"""Of a token: it has to fit into a line of a request's head, which WebSocket libraries and proxies
bound at 8 KiB."""
_FORM = re.compile(rf"{PREFIX}([A-Za-z0-9_-]{{1,{MAX_CHARS}}})\.([A-Za-z0-9_-]{{0,64}})")
"""SEALED and NAME."""
_MAX_TOLD_BYTES = 128 * 1024
"""Of what is sealed, unpacked: more than the settings of a session may have."""
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
    """Settings that its sessions start from, as in session.update, and no more sure to hold."""


class _Told(Frozen):
    """What is sealed."""

    until_s: int
    """Since 1970."""
    session: SmallObject
    """As in `Token`."""


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
        until_s = math.ceil(self._now_s() + seconds)
        told = json.dumps({"until_s": until_s, "session": session}, separators=(",", ":"))
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
        formed = _FORM.fullmatch(value)
        if formed is None:
            return None
        sealed, name = formed.groups()
        seal = self._seal(name)
        told = None if seal is None else _opened(seal, sealed)
        if told is None:
            return None
        if self._now_s() >= told.until_s:
            raise Denied("expired_token", "the client token has expired")
        return Token(name or None, told.session)

    def _now_s(self) -> float:
        """Since 1970: what servers have in common."""
        return self._clock.utc().timestamp()

    def _seal(self, key_name: str) -> Fernet | None:
        """None: there is no such key."""
        if not key_name:
            return _fernet(self._own, key_name)
        key = self._named(key_name)
        return None if key is None else _fernet(bytes.fromhex(key.sha256), key_name)


def _opened(seal: Fernet, sealed: str) -> _Told | None:
    """None: it was sealed otherwise, or no server would have sealed that."""
    try:
        packed = seal.decrypt(sealed + "=" * (-len(sealed) % 4))
        text = zlib.decompressobj().decompress(packed, _MAX_TOLD_BYTES)
        return validated(_Told, read_object(text))
    except (InvalidToken, zlib.error, ProtocolError):
        return None


def _fernet(secret: bytes, key_name: str) -> Fernet:
    """With the name: two keys may be the same, and have different limits."""
    derived = hmac.new(secret, _PURPOSE + b" " + key_name.encode(), hashlib.sha256).digest()
    return Fernet(base64.urlsafe_b64encode(derived))
