"""Quantiles, their support and their intervals; histograms that add up."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.stats import BIN_S, Histogram, Quantile, mean, quantile, quantile_interval, supports

finite = st.floats(-1e6, 1e6)
shares = st.floats(0, 1)


@given(st.lists(finite, min_size=1), shares)
@settings(deadline=None)
def test_quantile_is_numpys_linear_method(values: list[float], q: float) -> None:
    expected = np.quantile(values, q, method="linear")
    assert quantile(values, q) == pytest.approx(expected, rel=1e-9, abs=1e-6)


@given(st.lists(st.floats(allow_nan=False, min_value=-1e300), min_size=1), shares, shares)
@settings(deadline=None)
def test_quantile_is_monotone_and_within_range(values: list[float], a: float, b: float) -> None:
    low, high = quantile(values, min(a, b)), quantile(values, max(a, b))
    assert low is not None
    assert high is not None
    assert min(values) <= low <= high <= max(values)


def test_a_missing_answer_is_infinite_and_sorts_last() -> None:
    values = [0.1] * 18 + [0.2, math.inf]
    assert quantile(values, 0.95) == math.inf
    assert quantile(values, 0.5) == 0.1
    assert quantile([math.inf], 0.5) == math.inf


def test_nothing_has_no_quantile() -> None:
    assert quantile([], 0.5) is None
    assert mean([]) is None
    assert Quantile.of([], 0.5).printable is None


@pytest.mark.parametrize(("values", "q"), [([math.nan], 0.5), ([1.0], 1.5), ([1.0], -0.1)])
def test_nonsense_is_refused(values: list[float], q: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        quantile(values, q)


@pytest.mark.parametrize(
    ("n", "q", "supported"),
    [
        (100, 0.95, True),
        (99, 0.95, False),
        (500, 0.99, True),
        (499, 0.99, False),
        (50, 0.9, True),  # 50 · (1 − 0.9) is 4.999… in floating point
        (10, 0.5, True),
        (9, 0.5, False),
        (0, 0.5, False),
    ],
)
def test_support(n: int, q: float, supported: bool) -> None:
    assert supports(n, q) is supported


def test_an_unsupported_quantile_prints_the_maximum() -> None:
    few = Quantile.of([0.1, 0.3, 0.2], 0.95)
    assert (few.value, few.printable, few.label) == (None, 0.3, "max, n=3")
    many = Quantile.of([float(i) for i in range(100)], 0.95)
    assert many.printable == pytest.approx(94.05)
    assert many.label == "p95, n=100"


def test_interval_covers_the_true_quantile_as_often_as_it_says() -> None:
    rng, truth, held = random.Random(7), -math.log(1 - 0.95), 0
    for _ in range(300):
        interval = quantile_interval([rng.expovariate(1) for _ in range(120)], 0.95)
        assert interval is not None
        held += interval[0] <= truth <= interval[1]
    assert 0.93 <= held / 300 < 1  # a valid one holds ≥ 95 %, an endless one always


def test_interval_needs_support_and_narrows_with_n() -> None:
    assert quantile_interval([1.0] * 99, 0.95) is None
    few = quantile_interval([i / 200 for i in range(200)], 0.5)
    many = quantile_interval([i / 20_000 for i in range(20_000)], 0.5)
    assert few is not None
    assert many is not None
    assert many[1] - many[0] < (few[1] - few[0]) / 5
    assert few[0] < 0.5 < few[1]


counts = st.dictionaries(st.integers(-5, 10_000), st.integers(1, 50), max_size=20)


def histogram_of(bins: dict[int, int]) -> Histogram:
    return Histogram.parse(" ".join(f"{number}:{count}" for number, count in bins.items()))


@given(counts, counts)
@settings(deadline=None)
def test_histograms_add_up_and_survive_text(a: dict[int, int], b: dict[int, int]) -> None:
    merged = histogram_of(a)
    merged.merge(histogram_of(b))
    assert merged.n == sum(a.values()) + sum(b.values())
    assert Histogram.parse(merged.text()).bins() == merged.bins()


@given(st.lists(st.floats(0, 2), min_size=1, max_size=60), shares)
@settings(deadline=None)
def test_histogram_quantile_never_flatters(values: list[float], q: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact, binned = quantile(values, q), histogram.quantile(q)
    assert exact is not None
    assert binned is not None
    assert binned >= exact - 1e-9
    assert histogram.maximum == pytest.approx(max(values), abs=BIN_S * 1.01)


def test_a_whole_number_of_bins_stays_in_its_bin() -> None:
    histogram = Histogram()
    histogram.add(0.0003)  # 2.9999999999999996 bins
    assert histogram.text() == "3:1"


def test_empty_histogram_has_nothing_to_say() -> None:
    empty = Histogram.parse("")
    assert (empty.n, empty.maximum, empty.mean, empty.quantile(0.5)) == (0, None, None, None)


@pytest.mark.parametrize("text", ["1", "1:", "a:1", "1:-2", "1:2,3:4", ":3"])
def test_a_broken_histogram_says_what_it_expected(text: str) -> None:
    with pytest.raises(ValueError, match="bin:count"):
        Histogram.parse(text)
