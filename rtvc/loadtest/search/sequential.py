"""Whether a share lies within a limit, decided as soon as the evidence allows. Pure.

A step may be looked at after every utterance, so a test that is right in 99 of 100 cases when it
is made once is not right as often here. This one is valid at all looks together: for each p of a
few alternatives the likelihood of what was seen, divided by its likelihood at the limit p0,

    (p / p0)^k · ((1 − p) / (1 − p0))^(n − k)        k of n beyond the target

is a non-negative supermartingale if the true share is on the other side of p0 than the
alternatives are, and so is the mean of several. By Ville's inequality it ever reaches 1/α with a
probability of α at most. (Ville 1939; mixtures: Robbins, Ann. Math. Statist. 41, 1970; today's
form: Howard, Ramdas, McAuliffe and Sekhon, Ann. Statist. 49, 2021.)

Utterances are taken as independent, and those that wait in one queue are not: they are late
together. Against a server three of them therefore count as one, which keeps the error rate where
they come in threes; and a step is given a least time before it may end by this.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

Side = Literal["within", "beyond"]

FALSE_BEYOND = 0.01
"""Probability, over all looks, of "beyond" where the true share is at the limit or below it."""

FALSE_WITHIN = 0.05
"""Probability, over all looks, of "within" where the true share is at the limit or above it."""

CLUSTER = 3
"""Utterances that say as much as one against a server, being late for the same reason."""

FINENESS = 16
"""Alternatives on either side of the limit."""


def decide(beyond: int, n: int, limit: float) -> Side | None:
    """What `beyond` of `n` say of a share that may be `limit`; None: nothing yet.

    >>> decide(8, 8, 0.05), decide(0, 8, 0.05), decide(0, 85, 0.05), decide(3, 20, 0.05)
    ('beyond', None, 'within', None)
    """
    against = log_evidence(beyond / CLUSTER, n / CLUSTER, limit, _above(limit))
    if against >= -math.log(FALSE_BEYOND):
        return "beyond"
    if log_evidence(beyond, n, limit, _below(limit)) >= -math.log(FALSE_WITHIN):
        return "within"
    return None


def log_evidence(beyond: float, n: float, limit: float, alternatives: Sequence[float]) -> float:
    """Logarithm of the mean likelihood ratio of `alternatives` to `limit`; counts in units."""
    ratios = [
        _scaled_log(beyond, p / limit) + _scaled_log(n - beyond, (1 - p) / (1 - limit))
        for p in alternatives
    ]
    most = max(ratios)
    if math.isinf(most):
        return most
    return most + math.log(sum(math.exp(ratio - most) for ratio in ratios) / len(ratios))


def _scaled_log(times: float, ratio: float) -> float:
    """Logarithm of `ratio` to the power of `times`, 0 to the power of 0 being 1."""
    if times == 0:
        return 0.0
    return times * math.log(ratio) if ratio > 0 else -math.inf


@lru_cache
def _above(limit: float) -> tuple[float, ...]:
    """Evenly spaced in proportion, up to 1: how much too slow a server is, is not known."""
    return tuple(limit ** (1 - number / FINENESS) for number in range(1, FINENESS + 1))


@lru_cache
def _below(limit: float) -> tuple[float, ...]:
    """Evenly spaced, from 0."""
    return tuple(limit * number / FINENESS for number in range(FINENESS))
