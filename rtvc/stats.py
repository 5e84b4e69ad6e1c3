"""Quantiles that say whether the samples support them, tails of intervals, histograms that add up.

Method, everywhere: linear interpolation between order statistics on raw samples (numpy's
`method="linear"`). An infinite value is an answer that never came; it sorts last.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

SAMPLES_BEYOND = 5
"""A quantile is supported when at least this many samples are expected beyond it."""

BIN_S = 1e-4
"""Seconds: width of a histogram's bin."""

NORMAL_FROM = 200
"""Degrees of freedom from which on Student's distribution is taken as normal."""


def supports(n: int, q: float) -> bool:
    """Whether n samples say anything about the q-quantile.

    >>> supports(100, 0.95), supports(99, 0.95)
    (True, False)
    """
    return n * min(q, 1 - q) >= SAMPLES_BEYOND - 1e-9


def quantile(values: Iterable[float], q: float) -> float | None:
    """The q-quantile, supported or not; None without samples.

    >>> quantile([1.0, 2.0, 3.0], 0.5)
    2.0
    >>> quantile([1.0, 2.0, math.inf], 0.9)
    inf
    """
    ordered = _ordered(values, q)
    if not ordered:
        return None
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    below, above = ordered[low], ordered[min(low + 1, len(ordered) - 1)]
    fraction = position - low
    if below == above or fraction == 0:
        return below
    return min(below + fraction * (above - below), above)


def _ordered(values: Iterable[float], q: float) -> list[float]:
    if not 0 <= q <= 1:
        raise ValueError(f"expected a quantile from 0 to 1, got {q}")
    ordered = sorted(values)
    if any(math.isnan(value) for value in ordered):
        raise ValueError("expected numbers, got NaN: leave absent values out")
    return ordered


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile that knows whether it may be printed."""

    q: float
    """0 to 1."""
    n: int
    """Samples."""
    value: float | None
    """The quantile; None if n does not support it."""
    maximum: float | None
    """Largest sample; None without samples."""

    @classmethod
    def of(cls, values: Sequence[float], q: float) -> "Quantile":
        value = quantile(values, q) if supports(len(values), q) else None
        return cls(q, len(values), value, max(values, default=None))

    @property
    def printable(self) -> float | None:
        """The quantile if supported, else the maximum."""
        return self.maximum if self.value is None else self.value

    @property
    def label(self) -> str:
        """
        >>> Quantile.of([1.0] * 12, 0.95).label
        'max, n=12'
        >>> Quantile.of([1.0] * 100, 0.95).label
        'p95, n=100'
        """
        name = "max" if self.value is None else f"p{100 * self.q:g}"
        return f"{name}, n={self.n}"


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean; infinite if one value is; None without samples."""
    return math.fsum(values) / len(values) if values else None


def quantile_interval(
    values: Sequence[float], q: float, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Order-statistic confidence interval of the q-quantile; None if n does not support it.

    Assumes nothing of the distribution: the count of samples below the true quantile is
    binomial, so two order statistics enclose it. Samples are taken as independent.
    """
    n = len(values)
    if not supports(n, q):
        return None
    ordered = _ordered(values, q)
    lower, upper = _enclosing_ranks(n, q, (1 - confidence) / 2)
    return ordered[lower - 1], ordered[upper - 1]


def quantile_at_least(values: Sequence[float], q: float, doubt: float = 0.01) -> float | None:
    """A value below which the q-quantile does not lie, but for a chance of `doubt`.

    One-sided binomial test of a quantile: were the true quantile smaller than the k-th largest
    sample, at least k of n samples would lie beyond it, with a chance of P(B ≥ k), B
    binomial(n, 1 − q). k is the smallest count for which that chance is below `doubt`; None if
    even all n samples would not be enough.

    >>> quantile_at_least([0.1, 0.6, 0.9], 0.95), quantile_at_least([0.9], 0.95)
    (0.6, None)
    """
    n, chance = len(values), 0.0
    enough = None
    for count in range(n, 0, -1):
        chance += _binomial(n, 1 - q, count)
        # As near to `doubt` as rounding goes is not below it.
        if chance >= doubt * (1 - 1e-9):
            break
        enough = count
    return None if enough is None else sorted(values)[n - enough]


def _enclosing_ranks(n: int, q: float, tail: float) -> tuple[int, int]:
    """Ranks (from 1) l and u with P(B < l) ≤ tail and P(B ≥ u) ≤ tail, B binomial(n, q)."""
    lower, upper, cumulated = 1, n, 0.0
    for count in _plausible_counts(n, q):
        cumulated += _binomial(n, q, count)
        if cumulated <= tail:
            lower = count + 1
        if cumulated >= 1 - tail:
            upper = count + 1
            break
    return max(lower, 1), min(upper, n)


def _plausible_counts(n: int, q: float) -> range:
    """Ten standard deviations around the mean: what lies beyond adds nothing."""
    spread = 10 * math.sqrt(n * q * (1 - q)) + 1
    return range(max(0, math.floor(n * q - spread)), min(n, math.ceil(n * q + spread)) + 1)


def _binomial(n: int, q: float, count: int) -> float:
    log_ways = math.lgamma(n + 1) - math.lgamma(count + 1) - math.lgamma(n - count + 1)
    return math.exp(log_ways + count * math.log(q) + (n - count) * math.log1p(-q))


class Histogram:
    """Sparse counts in bins of 0.1 ms; bin k holds values from k to k + 1 bins.

    Histograms of processes and seconds add up exactly, percentiles of them never would.

    >>> histogram = Histogram.parse("0:98 7:2")
    >>> histogram.add(0.0042)
    >>> histogram.text()
    '0:98 7:2 42:1'
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    @classmethod
    def parse(cls, text: str) -> "Histogram":
        histogram = cls()
        for part in text.split():
            number, colon, count = part.partition(":")
            if not colon or not _is_integer(number) or not count.isdecimal():
                raise ValueError(f'expected "bin:count bin:count", got {part!r}')
            histogram._counts[int(number)] += int(count)
        return histogram

    def add(self, value_s: float, count: int = 1) -> None:
        # The epsilon keeps a value that is a whole number of bins in its own bin.
        self._counts[math.floor(value_s / BIN_S + 1e-6)] += count

    def merge(self, other: "Histogram") -> None:
        self._counts.update(other._counts)

    def text(self) -> str:
        return " ".join(f"{number}:{count}" for number, count in self.bins())

    def bins(self) -> list[tuple[int, int]]:
        """(bin, count) in order, empty bins left out."""
        return sorted((number, count) for number, count in self._counts.items() if count)

    @property
    def n(self) -> int:
        return sum(self._counts.values())

    @property
    def maximum(self) -> float | None:
        """Seconds: upper edge of the last bin; None without samples."""
        bins = self.bins()
        return (bins[-1][0] + 1) * BIN_S if bins else None

    @property
    def mean(self) -> float | None:
        """Seconds: from the bins' upper edges; None without samples."""
        total = sum((number + 1) * count for number, count in self._counts.items())
        return total * BIN_S / self.n if self.n else None

    def quantile(self, q: float) -> float | None:
        """Seconds: upper edge of the bin that holds the quantile, so it never flatters."""
        rank, seen = math.ceil(q * (self.n - 1)), 0
        for number, count in self.bins():
            seen += count
            if seen > rank:
                return (number + 1) * BIN_S
        return None


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def expanded_tail(units: int, confidence: float = 0.95) -> float:
    """Probability that is cut off at each end, less than usual where units are few.

    Φ(−√(n ÷ (n − 1)) · t), t being Student's quantile with n − 1 degrees of freedom (Hesterberg,
    "What Teachers Should Know About the Bootstrap", The American Statistician 69:4, 2015).

    >>> round(expanded_tail(8), 4), round(expanded_tail(100_000), 3)
    (0.0057, 0.025)
    """
    if units < 2:
        return 0.0
    t = student_quantile(1 - (1 - confidence) / 2, units - 1)
    return NormalDist().cdf(-math.sqrt(units / (units - 1)) * t)


def student_quantile(probability: float, freedom: int) -> float:
    """Of Student's distribution, for probabilities above one half.

    >>> round(student_quantile(0.975, 7), 3), round(student_quantile(0.975, 1), 2)
    (2.365, 12.71)
    """
    if freedom >= NORMAL_FROM:
        return NormalDist().inv_cdf(probability)
    low, high = 0.0, 1.0
    while student_cumulated(high, freedom) < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if student_cumulated(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return high


def student_cumulated(t: float, freedom: int) -> float:
    """Probability of less than t ≥ 0: the finite series for whole degrees of freedom.

    (Abramowitz and Stegun, 26.7.3 and 26.7.4.)
    """
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2 == 1
    term, total = cosine if odd else 1.0, 0.0
    for power in range(3 if odd else 2, freedom + 1, 2):
        total += term
        term *= cosine * cosine * (power - 1) / power
    inside = (angle + sine * total) * 2 / math.pi if odd else sine * total
    return 0.5 + inside / 2
