"""The simulated network: in order, never early, and as slow as asked for."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.loadtest.wire.network import HEADERS_BYTES, RTO_MIN_S, Link
from rtvc.speech.scenario import Network

networks = st.builds(
    Network,
    loss=st.floats(0, 0.5),
    jitter_ms=st.floats(0, 500),
    bandwidth_kbit_s=st.none() | st.floats(1, 10_000),
    rtt_ms=st.floats(0, 500),
)
"""Upwards; `down_kbit_s` is the other way's."""
waits_s = st.lists(st.floats(0, 0.2), min_size=1, max_size=80)


def departures(settings: Network, due_s: list[float], seed: int, size: int = 1000) -> list[float]:
    link = Link(settings, random.Random(seed))
    return [link.departs_s(each_s, size) for each_s in due_s]


def every_20_ms(count: int) -> list[float]:
    return [0.02 * k for k in range(1, count + 1)]


@settings(deadline=None, max_examples=150)
@given(networks, waits_s, st.integers(0, 9), st.integers(1, 5000))
def test_messages_are_never_early_and_keep_their_order(
    network: Network, waits: list[float], seed: int, size: int
) -> None:
    due_s = [sum(waits[: k + 1]) for k in range(len(waits))]
    departs_s = departures(network, due_s, seed, size)
    assert all(after >= before for before, after in pairwise(departs_s))
    assert all(late >= due for late, due in zip(departs_s, due_s, strict=True))
    assert departs_s == departures(network, due_s, seed, size), "the same seed, the same network"


@settings(deadline=None, max_examples=50)
@given(waits_s, st.integers(0, 9))
def test_a_perfect_link_holds_nothing_back(waits: list[float], seed: int) -> None:
    due_s = [sum(waits[: k + 1]) for k in range(len(waits))]
    assert departures(Network(), due_s, seed) == due_s
    assert Link(Network(), random.Random(seed)).perfect


def test_a_loss_holds_back_all_that_follows_for_the_time_out() -> None:
    due_s = every_20_ms(2000)
    departs_s = departures(Network(loss=0.005, rtt_ms=40), due_s, seed=1)
    late_s = [late - due - 0.02 for late, due in zip(departs_s, due_s, strict=True)]
    stalled = [k for k in range(1, len(late_s)) if late_s[k] > 0.19 and late_s[k - 1] < 1e-9]
    assert stalled, "some were lost"
    first = stalled[0]
    assert late_s[first] == pytest.approx(RTO_MIN_S + 0.04)
    # Those behind it wait for it, each 20 ms less.
    assert late_s[first + 1] == pytest.approx(late_s[first] - 0.02)
    assert departs_s[first + 5] == departs_s[first]
    assert late_s[first + 20] < late_s[first]


def test_the_time_out_doubles_when_the_copy_is_lost_too() -> None:
    link_s = departures(Network(loss=0.5), [1000.0 * k for k in range(4000)], seed=3)
    stalls = [late - 1000.0 * k for k, late in enumerate(link_s)]
    steps = sorted({round(stall, 3) for stall in stalls})
    assert steps[:5] == [0.0, 0.2, 0.6, 1.4, 3.0]
    assert sum(stall > 0 for stall in stalls) / 4000 == pytest.approx(0.5, abs=0.03)


@settings(deadline=None, max_examples=50)
@given(st.floats(100, 2000), st.integers(100, 4000))
def test_a_slow_link_sends_no_more_than_it_can(kbit_s: float, size: int) -> None:
    departs_s = departures(Network(bandwidth_kbit_s=kbit_s), every_20_ms(200), 0, size)
    each_s = 8 * (size + HEADERS_BYTES) / (1000 * kbit_s)
    assert all(after - before >= min(each_s, 0.02) - 1e-9 for before, after in pairwise(departs_s))
    if each_s > 0.02:
        assert departs_s[-1] == pytest.approx(0.02 + 200 * each_s)
    else:
        assert departs_s[-1] == pytest.approx(200 * 0.02 + each_s)


def test_jitter_and_the_round_trip() -> None:
    due_s = [float(k) for k in range(3000)]
    departs_s = departures(Network(jitter_ms=50, rtt_ms=100), due_s, seed=2)
    late_s = [late - due for late, due in zip(departs_s, due_s, strict=True)]
    assert 0.05 <= min(late_s) < 0.052
    assert 0.098 < max(late_s) <= 0.1
    assert sum(late_s) / 3000 == pytest.approx(0.075, abs=0.001)


def test_each_way_has_its_own_bandwidth() -> None:
    slow_down = Network(down_kbit_s=80)
    up, down = (Link(slow_down, random.Random(0), way) for way in ("up", "down"))
    assert up.perfect
    assert not down.perfect
    assert down.departs_s(1.0, 1000 - HEADERS_BYTES) == pytest.approx(1.1)
    assert Link(Network(bandwidth_kbit_s=80), random.Random(0), "down").perfect
