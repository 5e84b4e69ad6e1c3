"""A speaker's way to the server and back, as TCP lets it be felt: late, never lost. Pure.

    due ── bandwidth (one message after another) ── jitter, rtt / 2 ── loss ── in order ──▶ departs

TCP hands over bytes in order, so a message that is lost on the way holds back all later ones
until it has been sent again: first after the retransmission time-out (RTO), then after twice as
long, and so on (RFC 6298 §5.5; §2.4 asks for 1 s or more, Linux for 200 ms above the round trip:
TCP_RTO_MIN). Faster repair by later acknowledgements (RFC 5681 §3.2, RFC 8985) is left out: a
microphone sends little at a time, and where it helps a real line is better than this one.

On the way up the generator lets a message go late, on the way down it takes late what it has read.
Delays are measured from when the words were spoken until text is there, so the network's part is in
them, as for the speaker. Connecting itself is not held up.
"""

import random
from dataclasses import replace
from typing import Literal

from rtvc.speech.scenario import Network

RTO_MIN_S = 0.2
"""Linux's TCP_RTO_MIN: least time above the round trip until something is sent again."""

RTO_MAX_S = 60.0
"""It doubles up to here (RFC 6298 §2.5)."""

HEADERS_BYTES = 52
"""IPv4 and TCP with time stamps, for each message."""


class Link:
    """One way of one call; messages leave it in the order in which they were due."""

    def __init__(
        self, settings: Network, rng: random.Random, way: Literal["up", "down"] = "up"
    ) -> None:
        limit = settings.bandwidth_kbit_s if way == "up" else settings.down_kbit_s
        settings = replace(settings, bandwidth_kbit_s=limit, down_kbit_s=None)
        self._settings = settings
        self._rng = rng
        self._free_at_s = 0.0
        self._last_s = 0.0
        self.perfect = settings == Network()
        """Whether whatever is due departs at once."""

    def departs_s(self, due_s: float, size_bytes: int) -> float:
        """When a message that is due may go: not before that, nor before those before it."""
        if self.perfect:
            return due_s
        at_s = self._transmitted_s(due_s, size_bytes)
        at_s += self._settings.rtt_ms / 2000
        at_s += self._rng.uniform(0, self._settings.jitter_ms) / 1000
        at_s += self._repair_s()
        self._last_s = max(self._last_s, at_s)
        return self._last_s

    def _transmitted_s(self, due_s: float, size_bytes: int) -> float:
        """When its last bit is on the line."""
        limit = self._settings.bandwidth_kbit_s
        if limit is None:
            return due_s
        bits = 8 * (size_bytes + HEADERS_BYTES)
        self._free_at_s = max(due_s, self._free_at_s) + bits / (1000 * limit)
        return self._free_at_s

    def _repair_s(self) -> float:
        """Seconds until a copy gets through; 0 where the first one does."""
        waited_s, rto_s = 0.0, self._settings.rtt_ms / 1000 + RTO_MIN_S
        while self._rng.random() < self._settings.loss:
            waited_s += rto_s
            rto_s = min(2 * rto_s, RTO_MAX_S)
        return waited_s
