"""Timed metrics of a run: what was waited for, with what its n supports."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from types import MappingProxyType

from rtvc.record import ConnectionRow, TurnRow
from rtvc.stats import (
    BIN_S,
    Histogram,
    mean,
    quantile,
    quantile_at_least,
    quantile_interval,
    supports,
)
from rtvc.summary.figures import Metric
from rtvc.summary.words import word_latencies_s

TALKING_S = 1.0
"""Seconds of speech after the first word in which some text must have become visible."""

QUANTILES = MappingProxyType(
    {"p50": 0.5, "p75": 0.75, "p80": 0.8, "p90": 0.9, "p95": 0.95, "p98": 0.98, "p99": 0.99}
    | {"p99.9": 0.999}
)
"""Quantiles of every timed metric that can be asked for, by name."""

_RARE = frozenset(QUANTILES) - {"p50", "p90", "p95", "p99"}


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


def response_latency(turn: TurnRow) -> float | None:
    """Seconds; infinite if a reply was due and never came; None if none was due."""
    if not turn.reply_expected:
        return None
    return math.inf if turn.response_latency_s is None else turn.response_latency_s


def barge_in_latency(turn: TurnRow) -> float | None:
    """Seconds; None if no reply was interrupted."""
    return turn.barge_in_latency_s if turn.interrupted_reply else None


def time_to_first_partial(turn: TurnRow) -> float | None:
    """Seconds; None if no text was ever shown."""
    return turn.time_to_first_partial_s


UTTERANCE_METRICS: Mapping[str, Callable[[TurnRow], float | None]] = MappingProxyType(
    {
        "transcription_delay": transcription_delay,
        "time_to_first_partial": time_to_first_partial,
        "partial_interval": partial_interval,
        "response_latency": response_latency,
        "barge_in_latency": barge_in_latency,
    }
)
"""Timed metrics with at most one sample an utterance, and how to get it."""


def timed_metrics(
    connections: Sequence[ConnectionRow], turns: Sequence[TurnRow], lag: Histogram
) -> dict[str, Metric]:
    opened = [row.connection_s for row in connections]
    interrupted = [turn.barge_in_latency_s for turn in turns if turn.interrupted_reply]
    return {
        "connection": metric_of(opened),
        "transcription_delay": metric_of(map(transcription_delay, turns)),
        "time_to_first_partial": metric_of(map(time_to_first_partial, turns)),
        "partial_interval": metric_of(filter(_is_number, map(partial_interval, turns))),
        "word_latency": _of_words(turns),
        "response_latency": metric_of(filter(_is_number, map(response_latency, turns))),
        "barge_in_latency": metric_of(interrupted),
        "generator_lag": _lag_metric(lag),
    }


def _of_words(turns: Iterable[TurnRow]) -> Metric:
    """Words of one utterance come together, so that nothing is said of what chance would do."""
    metric = metric_of(chain.from_iterable(map(word_latencies_s, turns)))
    return replace(metric, p95_low=None, p95_high=None, at_least={})


def _is_number(value: float | None) -> bool:
    return value is not None


def metric_of(values: Iterable[float | None]) -> Metric:
    """Absent values are counted as missing; infinite ones are missing and judged too."""
    asked = list(values)
    samples = sorted(value for value in asked if value is not None)
    came = [value for value in samples if math.isfinite(value)]
    low, high = quantile_interval(samples, 0.95) or (None, None)
    at = _supported(len(samples), lambda q: quantile(samples, q))
    return Metric(
        n=len(samples),
        missing=len(asked) - len(came),
        p50=at.get("p50"),
        p90=at.get("p90"),
        p95=at.get("p95"),
        p95_low=low,
        p95_high=high,
        p99=at.get("p99"),
        max=max(samples, default=None),
        max_observed=max(came, default=None),
        mean=mean(samples),
        at_least=_at_least(samples),
        min=min(samples, default=None),
        more={name: value for name, value in at.items() if name in _RARE},
    )


def _supported(n: int, quantile_at: Callable[[float], float | None]) -> dict[str, float]:
    """Quantiles by name, as far as n samples support them."""
    found = {name: quantile_at(q) for name, q in QUANTILES.items() if supports(n, q)}
    return {name: value for name, value in found.items() if value is not None}


def _at_least(samples: Sequence[float]) -> dict[str, float]:
    n = len(samples)
    bounds = {
        name: quantile_at_least(samples, q) for name, q in QUANTILES.items() if not supports(n, q)
    }
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _lag_metric(lag: Histogram) -> Metric:
    at = _supported(lag.n, lag.quantile)
    bins = lag.bins()
    return Metric(
        n=lag.n,
        missing=0,
        p50=at.get("p50"),
        p90=at.get("p90"),
        p95=at.get("p95"),
        p95_low=None,
        p95_high=None,
        p99=at.get("p99"),
        max=lag.maximum,
        max_observed=lag.maximum,
        mean=lag.mean,
        min=bins[0][0] * BIN_S if bins else None,
        more={name: value for name, value in at.items() if name in _RARE},
    )
