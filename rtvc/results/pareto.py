"""Which of several choices are beaten by none. Pure."""

from collections.abc import Mapping, Sequence


def front(costs: Mapping[str, Sequence[float]]) -> frozenset[str]:
    """Names of those that no other beats: less is better, of every cost.

    One beats another if it costs no more of anything and less of something. All have the same
    costs in the same order; of two that cost the same, both stay.

    >>> sorted(front({"fast": (0.1, 0.3), "right": (0.9, 0.1), "neither": (1.0, 0.3)}))
    ['fast', 'right']

    Raises:
        ValueError: the costs are not as many for each.
    """
    return frozenset(
        name
        for name, cost in costs.items()
        if not any(beats(other, cost) for other in costs.values())
    )


def beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the first is no worse in anything and better in something."""
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
