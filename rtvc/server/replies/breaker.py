"""Whether a service that keeps failing is asked again. Pure: the time is handed in.

    closed ── failures in a row ──▶ open ── pause over ──▶ half-open: one probe at a time
       ▲                             ▲                        │
       └──────── it answers ─────────┼────────────────────────┤
                                     └──── it fails, longer pause

Who asks gets an `Attempt` and tells, once, what became of it.
"""

from dataclasses import dataclass
from typing import Literal

BreakerState = Literal["closed", "open", "half-open"]

FAILURES = 5
"""In a row, over all sessions: then nobody waits for the service any more."""
PAUSE_S, LONGEST_PAUSE_S = 2.0, 30.0
_LEASE_S = 60.0
"""A probe of which nothing has been heard for so long keeps no other from probing."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Leave to ask once."""

    era: int
    """Of the breaker: what was asked before it opened says nothing about now."""
    probe: bool
    """Whether it is the one that finds out if the service is back."""


class Breaker:
    """Of one service, shared by all sessions.

    >>> breaker = Breaker(failures=1)
    >>> breaker.fail(breaker.ask(0.0), 0.0)
    >>> breaker.ask(1.0), breaker.ask(2.0)
    (None, Attempt(era=2, probe=True))
    """

    def __init__(
        self,
        *,
        failures: int = FAILURES,
        pause_s: float = PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self._limit = failures
        self._shortest_pause_s = pause_s
        self._longest_pause_s = longest_pause_s
        self._pause_s = pause_s
        self._failures = 0
        self._era = 0
        self._opened_at_s: float | None = None
        self._on_trial = False  # opened before, and not answered to the end since
        self._probing: Attempt | None = None
        self._probing_since_s = 0.0

    @property
    def closed(self) -> bool:
        """Whether the service is taken for sound."""
        return self._opened_at_s is None

    @property
    def pause_s(self) -> float:
        """From the last failure to the next probe, while it is open."""
        return self._pause_s

    def state(self, now_s: float) -> BreakerState:
        if self._opened_at_s is None:
            return "closed"
        return "half-open" if now_s >= self._opened_at_s + self._pause_s else "open"

    def ask(self, now_s: float) -> Attempt | None:
        """Leave to ask the service; None: not now."""
        if self.closed:
            return Attempt(self._era, probe=False)
        busy = self._probing is not None and now_s < self._probing_since_s + _LEASE_S
        if busy or self.state(now_s) == "open":
            return None
        self._era += 1
        self._on_trial = True
        self._probing, self._probing_since_s = Attempt(self._era, probe=True), now_s
        return self._probing

    def begun(self, attempt: Attempt) -> None:
        """The service has begun to answer: others may ask, but one failure is enough again."""
        if attempt is self._probing:
            self._opened_at_s = self._probing = None
            self._failures = self._limit - 1

    def succeed(self, attempt: Attempt) -> None:
        """The service has answered to the end."""
        if attempt.era == self._era:
            self._opened_at_s = self._probing = None
            self._failures, self._pause_s = 0, self._shortest_pause_s
            self._on_trial = False

    def fail(self, attempt: Attempt, now_s: float) -> None:
        """The service has failed."""
        if attempt.era != self._era:
            return
        self._failures += 1
        if attempt.probe or self._failures >= self._limit:
            self._open(now_s)

    def forgive(self, attempt: Attempt) -> None:
        """It was called off, or failed for a reason of its own: neither good nor bad is known."""
        if attempt is self._probing:
            self._probing = None

    def _open(self, now_s: float) -> None:
        if self._on_trial:
            self._pause_s = min(2 * self._pause_s, self._longest_pause_s)
        self._opened_at_s, self._probing = now_s, None
        self._failures = 0
        self._era += 1
