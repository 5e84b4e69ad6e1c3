"""What differs between two runs, figure by figure, and whether it is a regression. Pure."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rtvc.compare.bootstrap import (
    Estimate,
    Interval,
    Samples,
    Statistic,
    estimate,
    quantile_of,
    share_of,
)
from rtvc.compare.comparable import Change, Side, allowed, obstacles, warnings
from rtvc.compare.measured import SHARES, TIMED, delays, segments, shares
from rtvc.compare.tolerance import LEAST_S, Tolerances
from rtvc.stats import quantile, supports

Verdict = Literal["better", "worse", "no difference seen", "too few samples", "no data"]
Kind = Literal["delay", "share", "segment", "capacity"]

AGGREGATES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
"""Compared of each delay, where both runs support it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure on both sides."""

    metric: str
    """Name as in the summary, of a segment the server's, or "capacity"."""
    aggregate: str | None
    """"p50", "p95" or "p99" of a delay; None for shares and the capacity."""
    kind: Kind
    """"delay" and "segment" in seconds, "share", or "capacity" in speakers."""
    before: float | None
    """In A; None where the samples do not support it."""
    after: float | None
    """In B; None where the samples do not support it."""
    n_before: int
    """Samples in A."""
    n_after: int
    """Samples in B."""
    verdict: Verdict
    """What the interval says; less is better, of the capacity more."""
    regression: bool
    """Worse, and by more than the tolerance."""
    tolerance: float
    """Share by which a delay or a capacity, points by which a share may be worse."""
    ratio: float | None = None
    """After ÷ before; None for shares, and where it means nothing."""
    ratio_interval: Interval | None = None
    """Where the ratio lies, at 95 %; of the capacity what the bounds leave open."""
    change: float | None = None
    """After − before."""
    change_interval: Interval | None = None
    """Where the difference lies, at 95 %."""
    units: int | None = None
    """Speakers or utterances the interval was drawn from; None: none was drawn."""
    clustered: bool = False
    """Whether these were speakers."""

    @property
    def judged(self) -> bool:
        """Whether there was anything to judge."""
        return self.verdict not in ("too few samples", "no data")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs side by side."""

    before: str
    """Folder of A."""
    after: str
    """Folder of B."""
    obstacles: list[str]
    """Why the two cannot be compared; if there are any, nothing was."""
    allowed: list[Change]
    """What may differ between them, and does."""
    warnings: list[str]
    """What may explain a difference all by itself."""
    differences: list[Difference] = field(default_factory=list)
    """Figure by figure, in the order in which people ask."""

    @property
    def comparable(self) -> bool:
        return not self.obstacles

    @property
    def regressions(self) -> list[Difference]:
        return [each for each in self.differences if each.regression]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what never came is "inf"."""
        found = _plain(asdict(self))
        return {**found, "comparable": self.comparable, "regression": bool(self.regressions)}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return ("inf" if value > 0 else "-inf") if _is_infinite(value) else value


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)


def compare(
    before: Side, after: Side, tolerances: Tolerances | None = None, *, seed: int = 0
) -> Comparison:
    """What differs; nothing is compared where there are obstacles."""
    wanted = tolerances or Tolerances()
    found = Comparison(
        before=str(before.run.folder),
        after=str(after.run.folder),
        obstacles=obstacles(before, after),
        allowed=allowed(before, after),
        warnings=warnings(before, after),
    )
    if found.comparable:
        found.differences.extend(_differences(before, after, wanted, seed))
    return found


def _differences(
    before: Side, after: Side, tolerances: Tolerances, seed: int
) -> Iterator[Difference]:
    if before.bounds is not None and after.bounds is not None:
        yield _capacity(before, after, tolerances.of_capacity)
        if before.speakers != after.speakers:
            # Delays of eight speakers and of sixteen say nothing of each other.
            return
    hidden = {*before.summary.not_observable, *after.summary.not_observable}
    for name in (each for each in TIMED if each not in hidden):
        old, new = delays(before.run, name), delays(after.run, name)
        yield from _delays(name, "delay", old, new, tolerances, seed)
    for name in (each for each in SHARES if each not in hidden):
        yield from _share(name, shares(before.run, name), shares(after.run, name), tolerances, seed)
    old_parts, new_parts = segments(before.run), segments(after.run)
    for name in (part for part in old_parts if part in new_parts):
        old, new = old_parts[name], new_parts[name]
        yield from _delays(name, "segment", old, new, tolerances, seed)


def _delays(
    name: str, kind: Kind, old: Samples, new: Samples, tolerances: Tolerances, seed: int
) -> Iterator[Difference]:
    """One for each quantile that both support; else one that says so; none if nobody asked."""
    if not len(old) and not len(new):
        return
    wanted = [
        aggregate
        for aggregate, q in AGGREGATES.items()
        if supports(len(old), q) and supports(len(new), q)
    ]
    if not wanted:
        yield _unknown(name, kind, old, new)
        return
    statistics = [
        (quantile_of(old, AGGREGATES[a]), quantile_of(new, AGGREGATES[a])) for a in wanted
    ]
    found = estimate(old, new, statistics, name=name, seed=seed)
    for aggregate, estimated in zip(wanted, found, strict=True):
        q, tolerance = AGGREGATES[aggregate], tolerances.of_delay(name, aggregate)
        pair = quantile(old.values.tolist(), q), quantile(new.values.tolist(), q)
        yield _judged(name, aggregate, kind, pair, (old, new), estimated, tolerance)


def _unknown(name: str, kind: Kind, old: Samples, new: Samples) -> Difference:
    """Too few; answers that came before and of which there is none any more are a regression."""
    gone = kind == "delay" and supports(len(old), AGGREGATES["p50"]) and not len(new)
    return Difference(
        metric=name,
        aggregate=None,
        kind=kind,
        before=None,
        after=None,
        n_before=len(old),
        n_after=len(new),
        verdict="no data" if gone else "too few samples",
        regression=gone,
        tolerance=0.0,
    )


def _share(
    name: str, old: Samples, new: Samples, tolerances: Tolerances, seed: int
) -> Iterator[Difference]:
    if not len(old) or not len(new):
        return
    pairs: Sequence[tuple[Statistic, Statistic]] = [(share_of(old), share_of(new))]
    (estimated,) = estimate(old, new, pairs, name=name, seed=seed)
    shares_now = _pooled(old), _pooled(new)
    yield _judged(name, None, "share", shares_now, (old, new), estimated, tolerances.of_share(name))


def _pooled(counted: Samples) -> float | None:
    of = 0.0 if counted.of is None else float(counted.of.sum())
    return float(counted.values.sum()) / of if of else None


def _judged(
    name: str,
    aggregate: str | None,
    kind: Kind,
    pair: tuple[float | None, float | None],
    measured: tuple[Samples, Samples],
    found: Estimate | None,
    tolerance: float,
) -> Difference:
    before, after = pair
    verdict: Verdict = "too few samples" if found is None else verdict_of(found)
    judged = kind != "segment" and found is not None
    return Difference(
        metric=name,
        aggregate=aggregate,
        kind=kind,
        before=before,
        after=after,
        n_before=_n(measured[0]),
        n_after=_n(measured[1]),
        verdict=verdict,
        regression=judged and found is not None and _exceeds(found, tolerance, kind),
        tolerance=tolerance,
        ratio=None if kind == "share" else _ratio(before, after, found),
        ratio_interval=None if found is None or kind == "share" else found.ratio,
        change=_change(before, after),
        change_interval=None if found is None else found.change,
        units=None if found is None else found.units,
        clustered=found is not None and found.clustered,
    )


def _n(measured: Samples) -> int:
    """Of a share: among how many it was counted."""
    return len(measured) if measured.of is None else int(measured.of.sum())


def verdict_of(found: Estimate) -> Verdict:
    """Less is better; an interval that holds no difference says nothing."""
    if found.change.low > 0:
        return "worse"
    return "better" if found.change.high < 0 else "no difference seen"


def _exceeds(found: Estimate, tolerance: float, kind: Kind) -> bool:
    """Whether the whole interval is worse by more than is tolerated."""
    if kind == "share":
        return found.change.low > tolerance
    longer = found.ratio is None or found.ratio.low > 1 + tolerance
    return longer and found.change.low > LEAST_S


def _ratio(before: float | None, after: float | None, found: Estimate | None) -> float | None:
    if before is None or after is None or found is None or found.ratio is None:
        return None
    if math.isinf(before):
        return 1.0 if math.isinf(after) else 0.0
    return after / before


def _change(before: float | None, after: float | None) -> float | None:
    if before is None or after is None:
        return None
    return 0.0 if before == after else after - before


def _capacity(before: Side, after: Side, tolerance: float) -> Difference:
    """Of two intervals: what the bounds leave open is not chance, and nothing was drawn."""
    old, new = (_open_bounds(side) for side in (before, after))
    ratio = Interval(_over(new.low, old.high), _over(new.high, old.low))
    verdict: Verdict = "no difference seen"
    if ratio.low > 1:
        verdict = "better"
    elif ratio.high < 1:
        verdict = "worse"
    return Difference(
        metric="capacity",
        aggregate=None,
        kind="capacity",
        before=old.low,
        after=new.low,
        n_before=len(before.summary.steps),
        n_after=len(after.summary.steps),
        verdict=verdict,
        regression=ratio.high < 1 - tolerance,
        tolerance=tolerance,
        ratio=_over(new.low, old.low),
        ratio_interval=ratio,
        change=new.low - old.low,
    )


def _open_bounds(side: Side) -> Interval:
    """The fewest and the most that it may hold."""
    if side.bounds is None:
        raise ValueError("expected the bounds of a search")
    most = math.inf if side.bounds.fails_at is None else float(side.bounds.fails_at - 1)
    return Interval(float(side.bounds.holds), max(most, float(side.bounds.holds)))


def _over(part: float, whole: float) -> float:
    """A ratio in which 0 of 0, and endless of endless, are the same."""
    if part == whole:
        return 1.0
    return math.inf if whole == 0 else part / whole


def worst_first(differences: Iterable[Difference]) -> list[Difference]:
    """By how much worse they are, transcription delay first among what people ask."""
    return sorted(
        differences,
        key=lambda each: (
            each.metric not in ("capacity", "transcription_delay"),
            -(each.ratio or 1.0),
        ),
    )
