"""When each speaker comes and how long each stays. Pure: a number in, seconds out.

    closed   so many speakers come over a ramp and stay: the load answers to the server's speed
    open     callers come at random (Poisson) and leave after a while, whatever the server does

The same seed gives the same callers, in whichever process a number is asked for.
"""

import random

from rtvc.errors import UsageError
from rtvc.speech.scenario import Arrivals

LONGEST_RAMP_S = 5.0
"""Seconds, where nobody says how long."""

RAMP_EACH_S = 0.2
"""Seconds between two speakers of it."""


def default_ramp_s(speakers: int) -> float:
    """
    >>> default_ramp_s(5), default_ramp_s(200)
    (1.0, 5.0)
    """
    return min(LONGEST_RAMP_S, speakers * RAMP_EACH_S)


class Schedule:
    """Arrivals of one run."""

    def __init__(
        self,
        arrivals: Arrivals,
        *,
        speakers: int,
        ramp_s: float,
        per_minute: float | None = None,
        seed: int = 0,
    ) -> None:
        """`speakers` and `ramp_s` matter where arrivals are closed, `per_minute` where open."""
        self._stay_s = arrivals.stay_s
        self._seed = seed
        self._gap_s = ramp_s / speakers
        self._mean_gap_s = None if per_minute is None else 60 / per_minute
        if arrivals.kind == "open" and not per_minute:
            raise UsageError("expected callers a minute where callers come and go, got none")
        self._rng = random.Random(f"{seed}/arrivals")
        self._drawn_s: list[float] = []

    def arrival_s(self, number: int) -> float:
        """Seconds since the run's start."""
        if self._stay_s is None or self._mean_gap_s is None:
            return number * self._gap_s
        while len(self._drawn_s) <= number:
            before_s = self._drawn_s[-1] if self._drawn_s else 0.0
            self._drawn_s.append(before_s + self._rng.expovariate(1 / self._mean_gap_s))
        return self._drawn_s[number]

    def stay_s(self, number: int) -> float | None:
        """Seconds from arrival to taking leave; None: to the end."""
        if self._stay_s is None:
            return None
        return random.Random(f"{self._seed}/{number}/stay").uniform(*self._stay_s)

    def until(self, end_s: float, most: int) -> int:
        """How many come before an instant: at least one, and not more than `most` + 1."""
        number = 1
        while number <= most and self.arrival_s(number) < end_s:
            number += 1
        return number


def rate_per_minute(arrivals: Arrivals, speakers: int) -> float | None:
    """Callers a minute: as said, or as many as keep so many on the line on average (Little's
    law); None where nobody comes and goes.

    >>> rate_per_minute(Arrivals("open", stay_s=(20, 40)), 10)
    20.0
    """
    if arrivals.mean_stay_s is None:
        return None
    return arrivals.per_minute or 60 * speakers / arrivals.mean_stay_s
