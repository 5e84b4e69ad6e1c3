"""What came of each objective."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from rtvc.slo.objectives import COUNTS, SHARES, Objective
from rtvc.slo.outcomes import Status
from rtvc.slo.wording import shown, spoken
from rtvc.summary import Metric, Summary, metric_of

AT_LEAST = "at least"
"""Judged where n does not support a quantile: what it is not less than, at 99 %."""

NOT_OBSERVABLE: Status = "not observable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one objective."""

    objective: Objective
    """What was asked."""
    status: Status
    """"passed", "failed", "undecided" (too few samples), "no data" (counts as failed) or "not
    observable" (the protocol cannot show it: neither met nor missed)."""
    measured: float | None
    """What was judged, in seconds, share or count; None without data."""
    judged: str | None
    """Aggregate judged: the objective's, or "max" or AT_LEAST where n does not support it."""
    n: int
    """Samples behind it."""

    @property
    def substituted(self) -> bool:
        """Whether something else stood in for a quantile that n does not support."""
        return self.judged != self.objective.aggregate

    @property
    def few(self) -> bool:
        """Whether it passed only for want of samples that could say otherwise."""
        return self.substituted and self.status == "passed"

    @property
    def bare_text(self) -> str:
        """What was measured, without its n."""
        return self.measured_text.partition(", n=")[0]

    @property
    def measured_text(self) -> str:
        if self.measured is None:
            return NOT_OBSERVABLE if self.status == NOT_OBSERVABLE else "no data"
        value = self._distinct_from_target(self.measured)
        if not self.substituted or math.isinf(self.measured):
            return f"{value}, n={self.n}" if self.substituted else value
        return f"{'≥' if self.judged == AT_LEAST else 'max'} {value}, n={self.n}"

    def _distinct_from_target(self, measured: float) -> str:
        """Rounded, but never onto a target that was not hit exactly (499.7 ms is not 500)."""
        objective = self.objective
        target = shown(objective.target, objective.unit)
        for more_digits in range(4):
            text = shown(measured, objective.unit, more_digits)
            if text != target or measured == objective.target:
                return text
        return text


def evaluate(objectives: Iterable[Objective], summary: Summary) -> tuple[Verdict, ...]:
    return tuple(_verdict(objective, summary) for objective in objectives)


def _verdict(objective: Objective, summary: Summary) -> Verdict:
    if objective.metric in summary.not_observable:
        return Verdict(objective, NOT_OBSERVABLE, None, None, 0)
    if objective.aggregate is not None:
        # A summary that was written before this was measured has none of it.
        metric = summary.metrics.get(objective.metric) or metric_of([])
        return _timed_verdict(objective, objective.aggregate, metric)
    reading = SHARES.get(objective.metric) or COUNTS[objective.metric]
    measured, n = reading(summary)
    return _judged(objective, measured, None, n)


def _timed_verdict(objective: Objective, aggregate: str, metric: Metric) -> Verdict:
    value = metric.aggregate(aggregate)
    if value is not None or metric.max is None:
        return _judged(objective, value, aggregate, metric.n)
    least = metric.at_least.get(aggregate)
    if objective.is_upper_bound and least is not None and not objective.holds(least):
        return Verdict(objective, "failed", least, AT_LEAST, metric.n)
    return Verdict(objective, _by_maximum(objective, metric.max), metric.max, "max", metric.n)


def _judged(objective: Objective, value: float | None, judged: str | None, n: int) -> Verdict:
    if value is None:
        return Verdict(objective, "no data", None, judged, n)
    return Verdict(objective, "passed" if objective.holds(value) else "failed", value, judged, n)


def _by_maximum(objective: Objective, maximum: float) -> Status:
    """The quantile lies at or below the maximum: that decides some cases, not all."""
    within = objective.holds(maximum)
    if objective.is_upper_bound:
        return "passed" if within else "undecided"
    return "undecided" if within or objective.comparison in ("==", "!=") else "failed"


def finding(verdict: Verdict) -> str:
    objective = verdict.objective
    if verdict.status == NOT_OBSERVABLE:
        return f"{objective.name} is not observable (target {objective.target_text})"
    if verdict.measured is None:
        return f"no data for {objective.name} (target {objective.target_text})"
    if not verdict.substituted:
        return f"{objective.name} {verdict.measured_text} (target {objective.target_text})"
    metric = spoken(objective.metric)
    target = f"target {objective.aggregate} {objective.target_text}"
    return f"{metric} {verdict.measured_text} ({target})"
