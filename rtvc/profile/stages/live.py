"""Where the delay of a running server's turns went, by its own account: its histograms.

They know sums and counts, so means and shares are exact; quantiles are the upper edges of buckets.
They count from the server's start, and begin where its audio arrives: network and client are out.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from rtvc.errors import RtvcError
from rtvc.profile.stages.breakdown import (
    UNACCOUNTED,
    Breakdown,
    DelayBreakdown,
    SegmentTimes,
    kind_of,
)
from rtvc.stats import supports

DELAY, STAGE = "rtvc_transcription_delay_seconds", "rtvc_turn_stage_seconds"
"""Metrics of rtvc's server."""

NOTE = (
    "since the server's start; p50 and p95 are upper edges of histogram buckets; the slowest turns "
    "and the client's view come from a run: rtvc loadtest URL, then rtvc profile stages RUN"
)

_REPLY = frozenset({"llm_ttft", "llm_sentence", "tts_ttfb", "send"})
"""Stages after the transcript."""


@dataclass(slots=True)
class _Histogram:
    """One of Prometheus's, with its labels fixed."""

    total_s: float = 0.0
    """Seconds: sum of the values."""
    n: int = 0
    """Values."""
    up_to: dict[float, float] = field(default_factory=dict)
    """Upper edge of a bucket, in seconds → values no larger."""

    def quantile(self, q: float) -> float | None:
        """Seconds: upper edge of its bucket; None where n or the buckets do not support it."""
        if not supports(self.n, q):
            return None
        enough = (edge_s for edge_s, count in self.up_to.items() if count >= q * self.n)
        edge_s = min(enough, default=math.inf)
        return edge_s if math.isfinite(edge_s) else None


def live_breakdown(exposition: str) -> Breakdown:
    """Take the transcription delay apart, from what `GET /metrics` answered.

    Raises:
        RtvcError: it is not rtvc's, or there was no turn yet.
    """
    found = _histograms(exposition)
    delay = found.get((DELAY, "", ""))
    if delay is None:
        raise RtvcError(
            f"expected {DELAY} among the server's metrics, but it exports none: for another "
            "server see `rtvc profile logs` and `rtvc profile tap`"
        )
    if not delay.n:
        raise RtvcError("no turn has ended since the server started: let somebody speak first")
    stages = {key[1:]: one for key, one in found.items() if key[0] == STAGE and one.n}
    rows = _felt_rows(stages, delay)
    rows += [
        _row(name, one, delay, hidden=True)
        for (name, path), one in stages.items()
        if path == "hidden"
    ]
    breakdown = DelayBreakdown(
        stage="transcript",
        n=delay.n,
        joined=False,
        mean_s=delay.total_s / delay.n,
        p50_s=delay.quantile(0.5),
        p95_s=delay.quantile(0.95),
        max_s=None,
        rows=tuple(rows),
        outside_s=None,
        explained=None,
        slowest=(),
    )
    return Breakdown((breakdown,), (NOTE,))


def _felt_rows(
    stages: Mapping[tuple[str, str], _Histogram], delay: _Histogram
) -> list[SegmentTimes]:
    """The last is what none of the others explains: gaps are exported without their sign."""
    rows = [
        _row(name, one, delay, hidden=False)
        for (name, path), one in stages.items()
        if path == "felt" and name not in _REPLY and name != UNACCOUNTED
    ]
    left_s = delay.total_s - math.fsum(row.mean_s for row in rows) * delay.n
    gaps = stages.get((UNACCOUNTED, "felt"), _Histogram())
    left = _Histogram(left_s, delay.n, gaps.up_to if gaps.n == delay.n else {math.inf: delay.n})
    return [*rows, _row(UNACCOUNTED, left, delay, hidden=False)]


def _row(name: str, one: _Histogram, delay: _Histogram, *, hidden: bool) -> SegmentTimes:
    counts = not hidden and delay.total_s > 0
    return SegmentTimes(
        name=name,
        kind=kind_of(name),
        hidden=hidden,
        n=one.n,
        p50_s=one.quantile(0.5),
        p95_s=one.quantile(0.95),
        max_s=None,
        mean_s=one.total_s / delay.n,
        share=one.total_s / delay.total_s if counts else None,
    )


def _histograms(exposition: str) -> dict[tuple[str, str, str], _Histogram]:
    """By name, stage and path."""
    found: dict[tuple[str, str, str], _Histogram] = {}
    for name, labels, value in _samples(exposition):
        whole, _, part = name.rpartition("_")
        key = (whole, labels.get("stage", ""), labels.get("path", ""))
        one = found.setdefault(key, _Histogram())
        if part == "sum":
            one.total_s = value
        elif part == "count":
            one.n = int(value)
        elif part == "bucket":
            one.up_to[float(labels["le"])] = value
    return found


def _samples(exposition: str) -> Iterable[tuple[str, dict[str, str], float]]:
    try:
        for family in text_string_to_metric_families(exposition):
            if family.name in (DELAY, STAGE):
                for sample in family.samples:
                    yield sample.name, sample.labels, sample.value
    except (ValueError, IndexError) as error:
        raise RtvcError(f"expected metrics in Prometheus's text format, but {error}") from None
