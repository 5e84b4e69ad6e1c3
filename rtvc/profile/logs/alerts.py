"""Alerts on what a log says: `final>1s`, `drops>0`.

An alert is NAME>LIMIT or NAME>=LIMIT. NAME is a figure or `backlog` (limit with s or ms), or a
count (a bare number). It fires each time a figure is beyond its limit, or a count passes it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rtvc.errors import UsageError
from rtvc.profile.logs.summary import COUNTS, FIGURES, LogSummary, Observation
from rtvc.slo import shown

DEFAULT_ALERTS = ("final>1s", "ttft>2s", "drops>0", "model_loads>1", "backlog>1s")
"""Those that are watched when none is named."""

_TIMED = {*FIGURES, "backlog"}
_EXPRESSION = re.compile(
    r"\s*(?P<name>\w+)\s*(?P<sign>>=?)\s*(?P<limit>\d+(?:\.\d+)?)\s*(?P<unit>m?s)?\s*"
)


@dataclass(frozen=True)
class Alert:
    """A limit that must not be passed."""

    text: str
    """As it was written."""
    name: str
    """Of a figure or a count."""
    limit: float
    """Seconds, or a count."""
    inclusive: bool
    """Whether the limit itself is too much."""

    def passed_by(self, seen: Observation) -> bool:
        if seen.name != self.name:
            return False
        return seen.value >= self.limit if self.inclusive else seen.value > self.limit

    @property
    def timed(self) -> bool:
        """Whether its limit is in seconds."""
        return self.name in _TIMED

    def shown(self, value: float) -> str:
        return shown(value, "s" if self.timed else "")


def parse_alert(text: str) -> Alert:
    """
    >>> alert = parse_alert("ttft >= 250ms")
    >>> alert.name, alert.limit, alert.inclusive
    ('ttft', 0.25, True)
    """
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise UsageError(f"expected an alert such as final>1s or drops>0, got {text!r}")
    name, unit = match["name"], match["unit"]
    if name not in _TIMED and name not in COUNTS:
        known = ", ".join(sorted({*_TIMED, *COUNTS}))
        raise UsageError(f"expected an alert on one of {known}; got {name!r}")
    if (name in _TIMED) != (unit is not None):
        wanted = "a limit with s or ms" if name in _TIMED else "a number without a unit"
        raise UsageError(f"expected {wanted} for {name}, got {text!r}")
    limit = float(match["limit"]) / (1000 if unit == "ms" else 1)
    return Alert(text.strip(), name, limit, match["sign"] == ">=")


@dataclass
class Tally:
    """How often an alert fired."""

    times: int = 0
    worst: float = 0.0
    """Largest value that fired it."""
    first_at_s: float | None = None
    """Seconds since the log's first stamp; None: never fired, or the line bore no time."""


class Watch:
    """Holds what a log says against alerts."""

    def __init__(self, alerts: Iterable[Alert]) -> None:
        self.tallies = {alert: Tally() for alert in alerts}

    def see(self, seen: Observation) -> list[Alert]:
        """The alerts to be shown now; of counts and queues, which come in floods, the 1st, 2nd,
        4th, 8th … time."""
        shown = []
        for alert, tally in self.tallies.items():
            if not alert.passed_by(seen):
                continue
            if not tally.times:
                tally.first_at_s = seen.at_s
            tally.times += 1
            tally.worst = max(tally.worst, seen.value)
            if alert.name in FIGURES or not tally.times & (tally.times - 1):
                shown.append(alert)
        return shown

    @property
    def fired(self) -> bool:
        return any(tally.times for tally in self.tallies.values())

    def blind(self, summary: LogSummary) -> Sequence[Alert]:
        """Alerts on what this log cannot show: that they did not fire proves nothing."""
        return [alert for alert in self.tallies if not summary.can_show(alert.name)]
