"""What held a step back: from the server's account of its turns, from its metrics, or from neither.

turns taken apart (rtvc.turn) ──┐
/metrics as samples.csv has it ─┴─▶ Account ─ compared with one where the targets were met
                                                      └─▶ cause, and how it is known
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rtvc.record import SampleRow
from rtvc.slo import shown
from rtvc.summary import Stack, Summary

BINDINGS = {
    "queue_wait": "inference",
    "features": "inference",
    "encode": "inference",
    "decode": "inference",
    "vad_offset": "voice activity detection",
    "vad_delay": "voice activity detection",
    "framing": "load generator",
    "transport": "network or event loop",
    "endpoint_wait": "turn policy",
    "emit": "the server's event loop",
    "send": "the server's event loop",
    "unaccounted": "the server's event loop",
    "llm_ttft": "language model",
    "tts_ttfb": "speech synthesis",
    "outside": "network or event loop",
}
"""What people call the cause when this part of the delay grew most."""

CLIENT_ONLY = "the client's view alone: the server tells nothing of itself"

FELT_LAG_S = 0.05
"""An event loop that never woke later than this held nobody back."""

_AWAITED = ("final", "speculative")
"""Kinds of jobs that a final transcript waits for."""
_ALL_KINDS = (*_AWAITED, "partial")


@dataclass(frozen=True, slots=True)
class ServerView:
    """What the server's metrics say of one step."""

    queue_wait_s: float | None
    """Seconds that a job for a final transcript waited for a worker, on average; None: unknown."""
    inference_s: float | None
    """Seconds that it was worked on, on average; None if unknown."""
    busy: float | None
    """Share of the workers' time spent on inference, about; None if unknown."""
    headroom_sessions: float | None
    """Sessions that would still fit, by the server's own estimate at the end; None if unknown."""
    loop_lag_s: float | None
    """Seconds that its event loop woke late, at worst; None if unknown."""

    @property
    def text(self) -> str | None:
        """The figures in a line; None if there are none."""
        parts = [
            ("queue wait {}", None if self.queue_wait_s is None else shown(self.queue_wait_s, "s")),
            ("inference {}", None if self.inference_s is None else shown(self.inference_s, "s")),
            ("workers {} busy", None if self.busy is None else f"{100 * self.busy:.0f} %"),
            ("headroom {}", _sessions(self.headroom_sessions)),
        ]
        if self.loop_lag_s is not None and self.loop_lag_s > FELT_LAG_S:
            parts.append(("event loop {} late", shown(self.loop_lag_s, "s")))
        return ", ".join(form.format(value) for form, value in parts if value) or None


NOTHING = ServerView(None, None, None, None, None)


def _sessions(count: float | None) -> str | None:
    return None if count is None else f"{count:.0f} session{'' if round(count) == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Account:
    """What delay was made of in one step, as far as the server tells."""

    parts: dict[str, float] | None = None
    """Seconds by part of a slow turn; None if the server sends none."""
    view: ServerView | None = None
    """Its metrics; None if it has none that we know."""


def account_of(summary: Summary, samples: Iterable[SampleRow]) -> Account:
    """Of one step: its summary and the samples taken while it was measured."""
    return Account(delay_parts(summary), server_view(samples))


def cause(now: Account, before: Account | None) -> tuple[str | None, str | None]:
    """What held the step back, and how that is known; `before` is of one that met its targets."""
    known = before or Account()
    view = now.view.text if now.view else None
    if now.parts:
        return binding(now.parts, known.parts), view
    if now.view is None or view is None:
        return None, CLIENT_ONLY
    return _cause_in_metrics(now.view, known.view), view


def _cause_in_metrics(now: ServerView, before: ServerView | None) -> str | None:
    """What grew most; nothing that nobody would have felt."""
    known = before or NOTHING
    growth = {
        "inference": _growth(now.queue_wait_s, known.queue_wait_s)
        + _growth(now.inference_s, known.inference_s),
        "the server's event loop": _growth(now.loop_lag_s, known.loop_lag_s),
    }
    most = max(growth, key=lambda name: growth[name])
    return most if growth[most] > FELT_LAG_S else None


def _growth(now_s: float | None, before_s: float | None) -> float:
    return (now_s or 0.0) - (before_s or 0.0)


def delay_parts(summary: Summary) -> dict[str, float] | None:
    """Seconds by segment of a turn as slow as the 95th of 100, and what was outside the server."""
    stacks = [stack for stack in summary.stacks if stack.stage == "transcript"]
    if not stacks:
        return None
    slow: Stack = stacks[-1]
    delay = summary.metrics["transcription_delay"]
    seen_s = delay.p95 if slow.label == "p95" else delay.max_observed
    outside_s = 0.0 if seen_s is None or math.isinf(seen_s) else max(0.0, seen_s - slow.total_s)
    return {**slow.segments, "outside": outside_s}


def binding(parts: dict[str, float] | None, baseline: dict[str, float] | None) -> str | None:
    """The part that grew most since the targets were met; without a baseline, the largest.

    >>> binding({"endpoint_wait": 0.3, "queue_wait": 0.25}, {"endpoint_wait": 0.3})
    'inference'
    >>> binding({"endpoint_wait": 0.3, "queue_wait": 0.25}, None)
    'turn policy'
    """
    if not parts:
        return None
    growth: dict[str, float] = {}
    for name, seconds in parts.items():
        called = BINDINGS.get(name, name.replace("_", " "))
        before = 0.0 if baseline is None else baseline.get(name, 0.0)
        growth[called] = growth.get(called, 0.0) + seconds - before
    return max(growth, key=lambda name: growth[name])


# The server's metrics, as they were scraped.


class _Readings:
    """What a server told in one stretch of time, by name with labels."""

    def __init__(self, samples: Iterable[SampleRow]) -> None:
        self._series: dict[str, list[tuple[float, float]]] = {}
        for row in samples:
            if row.source == "server":
                self._series.setdefault(row.name, []).append((row.at_s, row.value))

    @property
    def length_s(self) -> float:
        """From the first reading to the last."""
        instants = [at_s for series in self._series.values() for at_s, _ in series]
        return max(instants, default=0.0) - min(instants, default=0.0)

    def growth(self, name: str) -> float | None:
        """Of a counter; None without two readings, or if it began anew."""
        series = self._series.get(name, [])
        grown = series[-1][1] - series[0][1] if len(series) > 1 else -1.0
        return grown if grown >= 0 else None

    def last(self, name: str) -> float | None:
        series = self._series.get(name)
        return series[-1][1] if series else None

    def worst(self, name: str) -> float | None:
        return max((value for _, value in self._series.get(name, [])), default=None)

    def mean_of(self, name: str, kinds: Sequence[str]) -> float | None:
        """Of a histogram, over its observations of these kinds; None without any."""
        sums = [self.growth(f'{name}_sum{{kind="{kind}"}}') for kind in kinds]
        counts = [self.growth(f'{name}_count{{kind="{kind}"}}') for kind in kinds]
        count = sum(each or 0.0 for each in counts)
        return sum(each or 0.0 for each in sums) / count if count else None


def server_view(samples: Iterable[SampleRow]) -> ServerView | None:
    """None if the server told nothing that we know."""
    told = _Readings(samples)
    view = ServerView(
        queue_wait_s=told.mean_of("rtvc_engine_queue_wait_seconds", _AWAITED),
        inference_s=told.mean_of("rtvc_engine_inference_seconds", _AWAITED),
        busy=_busy(told),
        headroom_sessions=told.last("rtvc_headroom_sessions"),
        loop_lag_s=told.worst("rtvc_event_loop_lag_max_seconds"),
    )
    return None if view == NOTHING else view


def _busy(told: _Readings) -> float | None:
    """Jobs of one batch report the same inference, so it is counted once for all of them."""
    workers, length_s = told.last("rtvc_engine_workers"), told.length_s
    if not workers or not length_s:
        return None
    busy_s = 0.0
    for kind in _ALL_KINDS:
        inference_s = told.growth(f'rtvc_engine_inference_seconds_sum{{kind="{kind}"}}')
        batch = told.mean_of("rtvc_engine_batch_jobs", (kind,))
        busy_s += (inference_s or 0.0) / (batch or 1.0)
    return min(1.0, busy_s / (workers * length_s))
