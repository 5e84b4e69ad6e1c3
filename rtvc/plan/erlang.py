"""How many calls are refused, or have to wait, where so many fit at once. Pure.

A. K. Erlang, "Solution of some Problems in the Theory of Probabilities of Significance in Automatic
Telephone Exchanges", 1917. Calls come at random (Poisson). For refused calls (B) their lengths may
be distributed in any way; for waiting calls (C) they are taken as exponential. As used here:
L. Kleinrock, "Queueing Systems", volume 1, 1975, §3.4 and §3.6.
"""

import math

from rtvc.errors import UsageError

MOST_SLOTS = 50_000_000
"""No fleet is looked for beyond so many calls at once."""


def refused(slots: int, erlangs: float) -> float:
    """Erlang B: the part of calls that find all slots taken.

    B(0) = 1, B(n) = A·B(n−1) ÷ (n + A·B(n−1)): the recursion, which unlike the factorials of the
    formula knows no number too large.

    >>> round(refused(10, 5.0), 4)
    0.0184
    """
    share = 1.0
    for number in range(1, slots + 1):
        share = erlangs * share / (number + erlangs * share)
        if share == 0.0:
            break
    return share


def waiting(slots: int, erlangs: float) -> float:
    """Erlang C: the part of calls that would wait, were they queued; 1 where they pile up.

    C = B ÷ (1 − (A÷n)·(1 − B)).

    >>> round(waiting(2, 1.0), 4)
    0.3333
    """
    if erlangs >= slots:
        return 1.0
    share = refused(slots, erlangs)
    return share / (1 - erlangs / slots * (1 - share))


def waiting_s(slots: int, erlangs: float, call_s: float) -> float:
    """Seconds that a call would wait on average, those that need not included; infinite where
    they pile up: C · call ÷ (n − A)."""
    if erlangs >= slots:
        return math.inf
    return waiting(slots, erlangs) * call_s / (slots - erlangs)


def slots_for(erlangs: float, at_most: float) -> int:
    """The fewest slots that refuse no more than this part of the calls.

    >>> slots_for(5.0, 0.02)
    10

    Raises:
        UsageError: nobody could have so many.
    """
    if erlangs <= 0:
        return 0
    share, number = 1.0, 0
    while share > at_most:
        number += 1
        if number > MOST_SLOTS:
            raise UsageError(f"expected a fleet of at most {MOST_SLOTS:,} calls at once")
        share = erlangs * share / (number + erlangs * share)
    return number
