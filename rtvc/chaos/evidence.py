"""What the server says of itself before and after a fault: /readyz and a few of its counters."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from rtvc.errors import RtvcError
from rtvc.profile.live.exposition import parse

COUNTERS = (
    "rtvc_engine_restarts_total",
    "rtvc_engine_retried_jobs_total",
    "rtvc_refused_sessions_total",
    "rtvc_apologies_total",
    "rtvc_reply_failures_total",
    "rtvc_spare_voice_sentences_total",
    "rtvc_degradation_changes_total",
)
"""What is counted, if the server has it; all labels together."""

GAUGES = ("rtvc_breaker_open", "rtvc_degradation_step")
"""What must be back at 0 when a fault is over, if the server has it."""

ASK_S = 5.0
"""A server that does not answer within so long does not answer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look."""

    ready: bool
    """Whether it takes sessions."""
    counters: Mapping[str, float] = field(default_factory=dict)
    """By name; those that it does not have are not in it."""
    gauges: Mapping[str, float] = field(default_factory=dict)
    """The same."""


def look(url: str) -> Seen:
    """Ask once, over new connections."""
    try:
        ready = httpx.get(f"{url}/readyz", timeout=ASK_S, trust_env=False).status_code == 200
        text = httpx.get(f"{url}/metrics", timeout=ASK_S, trust_env=False)
        found = parse(text.text) if text.status_code == 200 else None
    except (httpx.HTTPError, RtvcError):
        return Seen(ready=False)
    if found is None:
        return Seen(ready)
    return Seen(ready, _sums(found.counters, COUNTERS), _sums(found.gauges, GAUGES))


def _sums(
    found: Mapping[tuple[str, tuple[tuple[str, str], ...]], float], names: tuple[str, ...]
) -> dict[str, float]:
    sums: dict[str, float] = {}
    for (name, _), value in found.items():
        if name in names:
            sums[name] = sums.get(name, 0.0) + value
    return sums


def between(before: Seen, after: Seen) -> dict[str, float | None]:
    """What was counted meanwhile, and what the gauges say at the end; None: there is no such
    figure. A count that fell is that of another process, which began at 0."""
    counted: dict[str, float | None] = {}
    for name in COUNTERS:
        now = after.counters.get(name)
        then = before.counters.get(name, 0.0)
        counted[name] = None if now is None else now - then if now >= then else now
    return {**counted, **{name: after.gauges.get(name) for name in GAUGES}}
