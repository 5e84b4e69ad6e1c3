"""What a comparison says, in words for a terminal and for a page: pure functions."""

import math
from collections.abc import Sequence
from typing import Literal

from rtvc.compare.bootstrap import Interval
from rtvc.compare.comparison import Comparison, Difference, Kind, worst_first
from rtvc.slo import Unit, shown, spoken

Tone = Literal["regression", "worse", "better", "same", "unknown"]

MARKS: dict[Tone, str] = {
    "regression": "✗",
    "worse": "▽",
    "better": "✓",
    "same": "=",
    "unknown": "?",
}

TOLD = 2
"""Findings told in the sentence; the table has them all."""

METHOD = (
    "Ratios and differences are B's against A's. Their 95 % intervals come from 2,000 draws with "
    "replacement: of speakers, each with all its utterances and the same in both runs, or of "
    "utterances where there are fewer than 8 speakers; percentiles, widened for few units. "
    "“Worse” or “better” is said where the whole interval is on one side, and so in one of twenty "
    "figures by chance; a regression is worse by more than its tolerance, and of a delay by more "
    "than 5 ms. What moved a whole run, such as another program on the machine, is in no interval: "
    "repeat runs that matter."
)
"""How it was compared, for a page."""


def tone_of(each: Difference) -> Tone:
    if each.regression:
        return "regression"
    if each.verdict == "worse" or each.verdict == "better":
        return each.verdict
    return "same" if each.judged else "unknown"


def name_of(each: Difference) -> str:
    """
    >>> from rtvc.compare.comparison import Difference
    >>> name_of(Difference("queue_wait", "p50", "segment", 0.1, 0.2, 9, 9, "worse", False, 0.1))
    'server: queue wait p50'
    """
    place = "server: " if each.kind == "segment" else ""
    named = "utterances with cross-talk" if each.metric == "cross_talk" else spoken(each.metric)
    return f"{place}{' '.join(filter(None, (named, each.aggregate)))}"


_UNITS: dict[Kind, Unit] = {"delay": "s", "segment": "s", "share": "%", "capacity": ""}


def unit_of(each: Difference) -> Unit:
    return _UNITS[each.kind]


def value_text(value: float | None, each: Difference) -> str:
    return "–" if value is None else shown(value, unit_of(each))


def ratio_text(each: Difference) -> str:
    """The ratio, or a difference where a ratio means nothing, with its interval."""
    if not each.judged:
        return "–"
    if each.ratio is not None and each.ratio_interval is not None:
        return f"× {_times(each.ratio)}{_between(each.ratio_interval, _times)}"
    if each.change is None:
        return "–"
    unit = " points" if each.kind == "share" else ""
    tail = "" if each.change_interval is None else _between(each.change_interval, _step(each))
    return f"{_step(each)(each.change)}{unit}{tail}"


def _between(interval: Interval, written: "Written") -> str:
    return f" ({written(interval.low)} to {written(interval.high)})"


class Written:
    """How a number of one kind is written."""

    def __init__(self, unit: Unit | None) -> None:
        """A unit of None writes ratios."""
        self._unit = unit

    def __call__(self, value: float) -> str:
        if self._unit is None:
            return "∞" if math.isinf(value) else f"{value:.2f}"
        size = shown(abs(value), self._unit).removesuffix(" %")
        sign = "±" if size.startswith("0 ") or size == "0" else "+" if value > 0 else "−"
        return sign + size


_times = Written(None)


def _step(each: Difference) -> Written:
    return Written(unit_of(each))


def verdict_text(each: Difference) -> str:
    """In words, with the tolerance where it mattered."""
    limit = shown(each.tolerance, "%") if each.kind != "share" else _points(each.tolerance)
    if each.regression:
        return "gone" if each.verdict == "no data" else f"regression (> {limit})"
    if each.verdict == "worse":
        return "worse" if each.kind == "segment" else f"worse, within {limit}"
    return each.verdict


def _points(share: float) -> str:
    return shown(share, "%").removesuffix(" %") + " points"


def n_text(each: Difference) -> str:
    return f"{each.n_before:,} | {each.n_after:,}"


def sentence(found: Comparison) -> str:
    """The whole of it in one."""
    if not found.comparable:
        return "A and B cannot be compared."
    asked = [each for each in found.differences if each.kind != "segment"]
    worse = worst_first(each for each in asked if each.verdict == "worse")
    better = [each for each in asked if each.verdict == "better"]
    if found.regressions:
        return f"B is worse than A: {_told(worst_first(found.regressions))}.{_also(better)}"
    if worse:
        return f"No regression; worse within what is tolerated: {_told(worse)}.{_also(better)}"
    if better:
        return f"B is better than A: {_told(better)}; nothing is worse."
    judged = sum(each.judged for each in asked)
    if not judged:
        return "Nothing is known: too few samples."
    return f"No difference seen in {judged} {'figure' if judged == 1 else 'figures'}."


def _told(findings: Sequence[Difference]) -> str:
    said = [_finding(each) for each in findings[:TOLD]]
    more = len(findings) - TOLD
    return "; ".join(said) + (f"; and {more} more" if more > 0 else "")


def _finding(each: Difference) -> str:
    if each.verdict == "no data":
        return f"{name_of(each)} is gone, n={n_text(each)}"
    return f"{name_of(each)} {ratio_text(each)}"


def _also(better: Sequence[Difference]) -> str:
    if not better:
        return ""
    names = ", ".join(name_of(each) for each in better[:TOLD])
    return f" Better: {names}{', …' if len(better) > TOLD else ''}."
