"""Does the judge of the soak find what creeps, and leave alone what does not?"""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.acceptance.steadiness import Slope, is_flat, longer, slope, theil_sen

AT_S = [5.0 * number for number in range(720)]
"""An hour."""


def noise(seed: int, memory: float = 0.0, count: int = 720) -> NDArray[np.float64]:
    """Of spread 1; `memory`: how much a sample resembles the one before."""
    rng = np.random.default_rng(seed)
    row = np.empty(count)
    row[0] = rng.normal()
    for at in range(1, count):
        row[at] = memory * row[at - 1] + (1 - memory**2) ** 0.5 * rng.normal()
    return row


def judged(values: NDArray[np.float64]) -> Slope:
    found = slope(AT_S, list(values))
    assert found is not None
    return found


def test_the_middle_of_all_slopes_is_not_moved_by_one_outlier() -> None:
    at = np.arange(20.0)
    values = 3 * at
    values[7] = 1e9
    assert theil_sen(at, values) == pytest.approx(3)


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_a_planted_slope_is_found(memory: float) -> None:
    hours = np.array(AT_S) / 3600
    for seed in range(5):
        found = judged(200 + 6 * hours + noise(seed, memory))
        assert found.rises
        assert not found.steady
        assert found.low < 6 < found.high
        assert found.last > found.first


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_it_does_not_cry_wolf(memory: float) -> None:
    """One in 200 is due."""
    alarms = sum(judged(200 + noise(100 + seed, memory)).rises for seed in range(100))
    assert alarms <= 3


def test_what_never_changes_is_steady() -> None:
    found = judged(np.full(720, 12.0))
    assert found.steady
    assert found.per_hour == 0
    assert is_flat(found)


def test_a_thread_more_is_no_leak_and_many_are() -> None:
    climbing = judged(np.floor(np.array(AT_S) / 60))
    assert not is_flat(climbing)
    assert is_flat(climbing, room=100)


def test_too_few_samples_say_nothing() -> None:
    assert slope([0, 5, 10], [1.0, 2.0, 3.0]) is None
    assert slope(range(11), [1.0] * 11) is None
    found = slope(range(12), [float(number) for number in range(12)])
    assert found is not None
    assert found.rises
    assert longer([0.1] * 3, [0.1] * 30) is None


def test_longer_delays_are_found() -> None:
    rng = np.random.default_rng(0)
    before = list(rng.gamma(9, 0.03, 300))
    same = longer(before, list(rng.gamma(9, 0.03, 300)))
    worse = longer(before, list(1.4 * rng.gamma(9, 0.03, 300)))
    assert same is not None
    assert worse is not None
    assert same.ratio_low < 1 < same.ratio_high
    assert same.p_value > 0.01
    assert worse.ratio_low > 1
    assert worse.p_value < 0.01
