"""What is more than chance: a delay that rises, a count that is too high. Pure."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

FEW = 10
"""Utterances below which a step says nothing, and of which hopelessness takes as many."""

SURE = 0.05
"""A share of cuts, or a trend in delay, as large by chance is no reason to fail."""

TREND_POINTS = 200
"""Points of a trend at most; more are thinned out evenly."""


def chance_of(count: int, n: int, share: float) -> float:
    """Probability of at least so many among n where each has the probability `share`.

    >>> round(chance_of(1, 2, 0.5), 3), chance_of(0, 5, 0.02)
    (0.75, 1.0)
    """
    less = sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(count))
    return max(0.0, 1.0 - less)


def trend(points: Sequence[tuple[float, float]]) -> float | None:
    """Upward slope of values over time (Theil and Sen), if it is no chance (Mann and Kendall).

    None if there is none, or too few points to tell.
    """
    came = sorted(point for point in points if math.isfinite(point[1]))
    if len(came) < 2 * FEW:
        return None
    chosen = came[:: math.ceil(len(came) / TREND_POINTS)]
    at, value = (np.array(column) for column in zip(*chosen, strict=True))
    first, second = np.triu_indices(len(at), 1)
    rises, apart = value[second] - value[first], at[second] - at[first]
    n = len(at)
    score = float(np.sign(rises).sum()) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    if score < NormalDist().inv_cdf(1 - SURE / 10) or not apart.any():
        return None
    slope = float(np.median(rises[apart > 0] / apart[apart > 0]))
    return slope if slope > 0 else None
