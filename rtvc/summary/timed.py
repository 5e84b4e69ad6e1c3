"""Timed metrics of a run: what was waited for, with what its n supports."""

import math
from collections.abc import Iterable, Sequence

from rtvc.record import ConnectionRow, TurnRow
from rtvc.stats import (
    Histogram,
    Quantile,
    mean,
    quantile_at_least,
    quantile_interval,
    supports,
)
from rtvc.summary.figures import Metric

TALKING_S = 1.0
"""Seconds of speech after the first word in which some text must have become visible."""


def timed_metrics(
    connections: Sequence[ConnectionRow], turns: Sequence[TurnRow], lag: Histogram
) -> dict[str, Metric]:
    opened = [row.connection_s for row in connections]
    partials = [turn.time_to_first_partial_s for turn in turns]
    replies = [turn.response_latency_s for turn in turns if turn.reply_expected]
    interrupted = [turn.barge_in_latency_s for turn in turns if turn.interrupted_reply]
    return {
        "connection": _metric(opened),
        "transcription_delay": _metric(map(transcription_delay, turns)),
        "time_to_first_partial": _metric(partials),
        "partial_interval": _metric(filter(_is_number, map(partial_interval, turns))),
        "response_latency": _metric(math.inf if reply is None else reply for reply in replies),
        "barge_in_latency": _metric(interrupted),
        "generator_lag": _lag_metric(lag),
    }


def transcription_delay(turn: TurnRow) -> float:
    """Seconds; infinite if no final came."""
    missing = turn.final_at_s is None or turn.transcription_delay_s is None
    return math.inf if missing else turn.transcription_delay_s or 0.0


def partial_interval(turn: TurnRow) -> float | None:
    """Seconds; infinite if nothing became visible while there was time; None if there was not."""
    if turn.partial_interval_s is not None:
        return turn.partial_interval_s
    talked_s = turn.speech_end_at_s - turn.first_word_end_at_s
    shown = turn.first_partial_at_s is not None and turn.first_partial_at_s <= turn.speech_end_at_s
    # Shown in time and not timed: a record from before intervals were.
    return math.inf if talked_s >= TALKING_S and not shown else None


def _is_number(value: float | None) -> bool:
    return value is not None


def _metric(values: Iterable[float | None]) -> Metric:
    """Absent values are counted as missing; infinite ones are missing and judged too."""
    asked = list(values)
    samples = [value for value in asked if value is not None]
    came = [value for value in samples if math.isfinite(value)]
    low, high = quantile_interval(samples, 0.95) or (None, None)
    return Metric(
        n=len(samples),
        missing=len(asked) - len(came),
        p50=Quantile.of(samples, 0.5).value,
        p90=Quantile.of(samples, 0.9).value,
        p95=Quantile.of(samples, 0.95).value,
        p95_low=low,
        p95_high=high,
        p99=Quantile.of(samples, 0.99).value,
        max=max(samples, default=None),
        max_observed=max(came, default=None),
        mean=mean(samples),
        at_least=_at_least(samples),
    )


def _at_least(samples: Sequence[float]) -> dict[str, float]:
    n = len(samples)
    bounds = {
        name: quantile_at_least(samples, q)
        for name, q in {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}.items()
        if not supports(n, q)
    }
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _lag_metric(lag: Histogram) -> Metric:
    def at(q: float) -> float | None:
        return lag.quantile(q) if supports(lag.n, q) else None

    return Metric(
        n=lag.n,
        missing=0,
        p50=at(0.5),
        p90=at(0.9),
        p95=at(0.95),
        p95_low=None,
        p95_high=None,
        p99=at(0.99),
        max=lag.maximum,
        max_observed=lag.maximum,
        mean=lag.mean,
    )
