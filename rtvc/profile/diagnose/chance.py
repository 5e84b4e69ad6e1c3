"""What figures of few turns allow to say."""

import math
from collections.abc import Sequence

from rtvc.stats import Quantile, quantile_at_least


def surely_above(values: Sequence[float], target: float, q: float = 0.95) -> bool:
    """Whether a quantile misses its target by more than chance explains.

    >>> surely_above([0.3] * 9 + [0.7], 0.5), surely_above([0.7] * 3, 0.5)
    (False, True)
    """
    supported = Quantile.of(values, q).value
    if supported is not None:
        return supported > target
    held = quantile_at_least(values, q)
    return held is not None and held > target


def surely_more(lost: int, of: int, share: float = 0.01) -> bool:
    """Whether so many of so many are more than a share of them, beyond a chance of 5 %.

    >>> surely_more(1, 40), surely_more(2, 20), surely_more(0, 0)
    (False, True, False)
    """
    fewer = sum(
        math.comb(of, count) * share**count * (1 - share) ** (of - count) for count in range(lost)
    )
    return lost > 0 and 1 - fewer < 0.05
