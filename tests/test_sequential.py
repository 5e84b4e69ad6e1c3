"""The sequential test: its error rates, exactly and by simulation, and how soon it decides."""

import math
import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.loadtest.search.sequential import CLUSTER, FALSE_BEYOND, FALSE_WITHIN, Side, decide

MOST = 240
"""Utterances after which a step would long have been judged by its quantile."""

LIMITS = (0.01, 0.05, 0.1, 0.5)


@cache
def decided(beyond: int, n: int, limit: float) -> Side | None:
    return decide(beyond, n, limit)


def chance_of_ever(side: Side, share: float, limit: float, most: int = MOST) -> float:
    """Probability that it is decided so after 1, 2, … or `most` utterances; exact."""
    undecided, chance = {0: 1.0}, 0.0
    for n in range(1, most + 1):
        reached: dict[int, float] = {}
        for beyond, weight in undecided.items():
            reached[beyond] = reached.get(beyond, 0.0) + weight * (1 - share)
            reached[beyond + 1] = reached.get(beyond + 1, 0.0) + weight * share
        undecided = {k: w for k, w in reached.items() if decided(k, n, limit) != side}
        chance += sum(weight for k, weight in reached.items() if k not in undecided)
    return chance


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("times", [0.2, 0.7, 1.0])
def test_what_is_within_is_hardly_ever_called_beyond(limit: float, times: float) -> None:
    assert chance_of_ever("beyond", times * limit, limit) <= FALSE_BEYOND


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("times", [1.0, 1.3, 1.9])
def test_what_is_beyond_is_hardly_ever_called_within(limit: float, times: float) -> None:
    assert chance_of_ever("within", times * limit, limit) <= FALSE_WITHIN


def test_a_test_made_for_one_look_would_be_wrong_far_more_often() -> None:
    """Why it is not the binomial test of the verdict, made again every second."""

    def naive(share: float, limit: float) -> float:
        undecided, chance = {0: 1.0}, 0.0
        for n in range(1, 100):
            reached: dict[int, float] = {}
            for k, weight in undecided.items():
                reached[k] = reached.get(k, 0.0) + weight * (1 - share)
                reached[k + 1] = reached.get(k + 1, 0.0) + weight * share
            out = {k for k in reached if tail(k, n, limit) < 0.01}
            chance += sum(reached[k] for k in out)
            undecided = {k: weight for k, weight in reached.items() if k not in out}
        return chance

    assert naive(0.05, 0.05) > 3 * FALSE_BEYOND


def tail(k: int, n: int, share: float) -> float:
    return sum(math.comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(k, n + 1))


@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.1, 0.5]), st.booleans())
@settings(deadline=None, max_examples=12)
def test_the_error_rates_hold_in_simulations(seed: int, limit: float, slow: bool) -> None:
    """At the limit itself, where it is hardest to tell."""
    rng, runs = random.Random(f"{seed}/{limit}/{slow}"), 300
    wrong: Side = "within" if slow else "beyond"
    times = sum(ever(rng, limit, wrong) for _ in range(runs))
    allowed = FALSE_WITHIN if slow else FALSE_BEYOND
    noise = 5 * math.sqrt(allowed * (1 - allowed) / runs)
    assert times / runs <= allowed + noise


@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.1, 0.5]))
@settings(deadline=None, max_examples=8)
def test_what_is_late_together_is_not_called_beyond_for_it(seed: int, limit: float) -> None:
    """One burst that makes three late at once is one thing that went wrong, and not three."""
    rng, runs = random.Random(f"{seed}/{limit}"), 300
    times = sum(ever(rng, limit, "beyond", together=CLUSTER) for _ in range(runs))
    assert times / runs <= FALSE_BEYOND + 5 * math.sqrt(FALSE_BEYOND / runs)


def ever(rng: random.Random, limit: float, side: Side, together: int = 1) -> bool:
    beyond = n = 0
    while n < 120:
        late = rng.random() < limit
        for _ in range(together):
            beyond, n = beyond + late, n + 1
            if decided(beyond, n, limit) == side:
                return True
    return False


@pytest.mark.parametrize(
    ("share", "limit", "side", "at_least"),
    [
        (0.2, 0.05, "beyond", 0.95),
        (0.4, 0.05, "beyond", 0.999),
        (0.0, 0.05, "within", 1.0),
        (0.01, 0.05, "within", 0.85),
        (0.8, 0.5, "beyond", 0.99),
    ],
)
def test_what_is_clear_is_decided(share: float, limit: float, side: Side, at_least: float) -> None:
    assert chance_of_ever(side, share, limit) >= at_least


def test_how_soon() -> None:
    assert [decide(n, n, 0.05) for n in (6, 7)] == [None, "beyond"]
    assert next(n for n in range(1, 200) if decide(0, n, 0.05) == "within") == 85
    assert next(n for n in range(1, 200) if decide(0, n, 0.5) == "within") < 10


@given(st.integers(0, 300), st.integers(1, 300), st.sampled_from(LIMITS))
@settings(deadline=None)
def test_one_more_beyond_never_makes_it_look_better(beyond: int, n: int, limit: float) -> None:
    beyond = min(beyond, n - 1)
    order = {"within": 0, None: 1, "beyond": 2}
    assert order[decide(beyond, n, limit)] <= order[decide(beyond + 1, n, limit)]
