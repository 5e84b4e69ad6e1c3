"""Short-lived tokens for clients that must not hold a key, such as pages: OpenAI's client secrets.

Kept in memory as hashes, bounded for each key, and good for sessions only.
"""

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from rtvc.clock import Clock
from rtvc.server.access.denials import Denied
from rtvc.server.access.keys import hashed

PREFIX = "ek_"
SHORTEST_S, LONGEST_S, USUAL_S = 10, 7200, 600
MAX_PER_KEY = 256
"""A key that makes one more loses its oldest."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of one."""

    key_name: str | None
    """Whose it is; None: of a server that asks for no keys."""
    expires_at_s: float
    """On the server's clock."""
    session: dict[str, Any]
    """Settings that its sessions start from, as in session.update; has a type."""


class Tokens:
    """Those that were made and not yet forgotten."""

    def __init__(self, clock: Clock, *, max_per_key: int = MAX_PER_KEY) -> None:
        self._clock = clock
        self._max_per_key = max_per_key
        self._by_key: dict[str | None, OrderedDict[str, Token]] = {}

    def make(self, key_name: str | None, seconds: float, session: dict[str, Any]) -> str:
        """A new one; it is told once and kept as a hash."""
        value = f"{PREFIX}{secrets.token_urlsafe(32)}"
        mine = self._by_key.setdefault(key_name, OrderedDict())
        mine[hashed(value)] = Token(key_name, self._clock.now() + seconds, session)
        while len(mine) > self._max_per_key:
            mine.popitem(last=False)
        return value

    def find(self, value: str) -> Token | None:
        """What it stands for; None: nothing that is known.

        Raises:
            Denied: its time is over.
        """
        sha256 = hashed(value)
        for mine in self._by_key.values():
            token = mine.get(sha256)
            if token is not None:
                if self._clock.now() >= token.expires_at_s:
                    raise Denied("expired_token", "the client token has expired")
                return token
        return None

    def forget(self, key_name: str) -> None:
        """All of a key that is good no more."""
        self._by_key.pop(key_name, None)

    def __len__(self) -> int:
        return sum(map(len, self._by_key.values()))
