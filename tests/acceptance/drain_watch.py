"""Looks at two servers and the proxy in front of them while they work."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from rtvc.clock import Clock
from tests.acceptance.drain_judge import Place
from tests.acceptance.drain_proxy import Proxy

LOOK_S = 0.2
"""Between two looks."""


@dataclass(frozen=True, slots=True)
class Change:
    """The proxy changed its mind about a server."""

    at_s: float
    """By our clock."""
    server: str
    """Which of them."""
    up: bool
    """Whether it sends callers there from now on."""


def place_of(server: str, session: Mapping[str, Any], at_s: float) -> Place:
    """What a server's /v1/sessions says of one of them."""
    return Place(server, bool(session["speaking"] or session["replying"]), at_s)


class Watch(threading.Thread):
    """Looks all the while: which session is where, and whom the proxy sends callers to."""

    def __init__(self, urls: dict[str, str], proxy: Proxy, clock: Clock) -> None:
        super().__init__(daemon=True)
        self.places: dict[str, Place] = {}
        """By session id; instants by our clock."""
        self.changes: list[Change] = []
        self.asked_again = 0
        """Retries and redispatches, as the proxy counts them."""
        self._urls = urls
        self._proxy = proxy
        self._clock = clock
        self._over = threading.Event()
        self._client = httpx.Client(timeout=2.0, trust_env=False)

    def run(self) -> None:
        while not self._over.wait(LOOK_S):
            for server, url in self._urls.items():
                self._look_at(server, url)
            self._look_at_proxy()

    def end(self) -> None:
        self._over.set()
        self.join()
        self._client.close()

    def first(self, server: str, *, up: bool, after_s: float) -> float | None:
        """When the proxy was first seen to think so of a server, after an instant."""
        changes = (c for c in list(self.changes) if (c.server, c.up) == (server, up))
        return next((change.at_s for change in changes if change.at_s >= after_s), None)

    def _look_at(self, server: str, url: str) -> None:
        asked_at_s = self._clock.now()
        try:
            told = self._client.get(f"{url}/v1/sessions").json()["sessions"]
        except (httpx.HTTPError, ValueError, KeyError):
            # It is being stopped or started.
            return
        for session in told:
            self.places[session["id"]] = place_of(server, session, asked_at_s)

    def _look_at_proxy(self) -> None:
        try:
            lines = self._proxy.lines()
        except OSError:
            return
        self.asked_again = sum(line.retries + line.redispatches for line in lines.values())
        before = {change.server: change.up for change in self.changes}
        for server, line in lines.items():
            if before.get(server) != line.up:
                self.changes.append(Change(self._clock.now(), server, line.up))
