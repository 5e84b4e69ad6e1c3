"""How much worse is still no regression: written as 10%, wer=0.5%, transcription_delay=5%."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rtvc.errors import UsageError

RATIO = 0.10
"""Of a delay or a capacity: a tenth is what runs of the same build differ by on a busy machine."""

SHARE = 0.01
"""Of a share such as the word error rate: one point of a hundred."""

LEAST_S = 0.005
"""Seconds: a delay that grew by less is no regression, whatever its ratio."""

_GRAMMAR = re.compile(r"\s*(?:(?P<name>[a-z][a-z0-9_]*)\s*=)?\s*(?P<number>\d+(?:\.\d+)?)\s*%\s*")


@dataclass(frozen=True, slots=True)
class Tolerances:
    """What a regression must exceed."""

    ratio: float = RATIO
    """Share by which a delay may be longer, or a capacity smaller."""
    share: float = SHARE
    """Difference by which a share may be larger."""
    named: Mapping[str, float] = field(default_factory=dict)
    """Exceptions, by metric, by metric and aggregate, or "capacity"."""

    def of_delay(self, metric: str, aggregate: str) -> float:
        return self.named.get(f"{metric}_{aggregate}", self.named.get(metric, self.ratio))

    def of_share(self, name: str) -> float:
        return self.named.get(name, self.share)

    @property
    def of_capacity(self) -> float:
        return self.named.get("capacity", self.ratio)


def parse_tolerances(
    texts: Iterable[str], timed: Iterable[str], shares: Iterable[str], aggregates: Iterable[str]
) -> Tolerances:
    """As given on the command line; a later one outweighs an earlier one.

    >>> parse_tolerances(["5%", "wer=0.5%"], [], ["wer"], []).named
    {'wer': 0.005}
    """
    both = [(metric, aggregate) for metric in timed for aggregate in aggregates]
    delays = {metric for metric, _ in both} | {f"{metric}_{name}" for metric, name in both}
    known = {"capacity", *delays, *shares}
    ratio, named = RATIO, dict[str, float]()
    for text in texts:
        name, value = _parsed(text)
        if name is None:
            ratio = value
        elif name in known:
            named[name] = value
        else:
            raise UsageError(f"expected one of {', '.join(sorted(known))}, got {name!r}")
    return Tolerances(ratio, SHARE, named)


def _parsed(text: str) -> tuple[str | None, float]:
    found = _GRAMMAR.fullmatch(text)
    if found is None:
        raise UsageError(f"expected a threshold such as 10% or wer=0.5%, got {text!r}")
    return found["name"], float(found["number"]) / 100
