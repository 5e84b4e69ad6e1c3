"""What is told of a log: its turns, its figures with their n, and what cannot be known of it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rtvc.profile.logs.lines import Server
from rtvc.stats import Quantile, supports

SCHEMA = 1
"""Version of the summary's JSON."""

STEP_S = 1e-4
"""Seconds: samples are kept to this step, the finest that the logs print."""

FIGURES = {
    "policy_wait": "silence that the turn detector asks for",
    "endpoint_wait": "end of speech → endpoint",
    "final": "endpoint → final text",
    "speech_to_final": "end of speech → final text",
    "ttft": "LLM asked → first token",
    "ttfa": "TTS asked → first audio",
    "total": "end of speech → first audio may leave",
    "partial_gap": "partial → next partial",
    "abort": "abort of an answer, begin → end",
    "ready": "connection → session ready",
    "model_load": "model load, begin → end",
    "inference_audio": "audio in one inference",
}
"""Timed figures → from which instant to which; all in seconds."""

COUNTS = {
    "drops": "chunks of audio dropped",
    "model_loads": "model loads in one process",
    "clients": "clients at once",
    "errors": "errors logged",
    "barge_ins": "barge-ins",
    "aborts": "answers aborted",
    "wasted": "answers prepared and thrown away before the endpoint",
    "slow_chunks": "TTS chunks slower than their playback",
    "wait_floor": "waits raised to the floor measured at boot",
}
"""Counts → what is counted."""

SHOWN: dict[Server, frozenset[str]] = {
    Server.REALTIMEVOICECHAT: frozenset({*FIGURES, *COUNTS, "backlog"})
    - {"ready", "inference_audio"},
    Server.WHISPERLIVE: frozenset(
        {
            "ready",
            "model_load",
            "inference_audio",
            "partial_gap",
            "clients",
            "model_loads",
            "errors",
        }
    ),
}
"""What a server's log can show at all."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One value, as it was read."""

    name: str
    """Of a figure or a count, or `backlog`."""
    value: float
    """Seconds; of a count, how many so far."""
    at_s: float | None
    """Seconds since the log's first stamp; None: the line bears no time."""


@dataclass(frozen=True, slots=True)
class LoggedTurn:
    """A turn as the log tells it; durations are None where it does not."""

    number: int
    """From 1, by endpoint."""
    at_s: float | None
    """Seconds since the log's first stamp: the endpoint."""
    mixed: bool
    """Whether several clients were connected, so that lines could not be told apart."""
    partials: int | None
    """Partials that changed the text; None: its beginning is not in the log."""
    policy_wait_s: float | None
    """Seconds: silence that the turn detector asked for."""
    endpoint_wait_s: float | None
    """Seconds: end of speech → endpoint."""
    final_s: float | None
    """Seconds: endpoint → final text."""
    speech_to_final_s: float | None
    """Seconds: end of speech → final text."""
    ttft_s: float | None
    """Seconds: LLM asked → first token of the answer that was given."""
    ttfa_s: float | None
    """Seconds: TTS asked → its first audio."""
    total_s: float | None
    """Seconds: end of speech → first audio ready and allowed to leave."""


@dataclass(slots=True)
class ModelLoad:
    """One load of the speech-to-text model."""

    at_s: float | None
    """Seconds since the log's first stamp; None: the line bears no time."""
    process: int
    """Which start of the server, from 1; 0: begun before the log."""
    clients: int
    """Connected when it began, as far as the log tells."""
    took_s: float | None = None
    """Seconds; None: not ended in this log, or not to be told from another load beside it."""


@dataclass(frozen=True, slots=True)
class ClientsAt:
    """The number of clients changed."""

    at_s: float | None
    clients: int
    """From then on."""


News = LoggedTurn | Observation


class Samples:
    """Durations, kept as counts per 0.1 ms: memory does not grow with the log.

    >>> samples = Samples()
    >>> for value in (0.1, 0.2, 0.3, 0.4) * 5: samples.add(value)
    >>> samples.quantile(0.5).value, samples.quantile(0.95).label
    (0.25, 'max, n=20')
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.n = 0

    def add(self, value_s: float) -> None:
        self._counts[round(value_s / STEP_S)] += 1
        self.n += 1

    def quantile(self, q: float) -> Quantile:
        """By the method of `rtvc.stats`: linear between order statistics, if n supports it."""
        maximum = _exact(max(self._counts)) if self.n else None
        return Quantile(q, self.n, self._between(q) if supports(self.n, q) else None, maximum)

    def pair(self) -> tuple[Quantile, Quantile] | None:
        """Median and p95; None without samples."""
        return (self.quantile(0.5), self.quantile(0.95)) if self.n else None

    def _between(self, q: float) -> float:
        position = q * (self.n - 1)
        low = math.floor(position)
        below, above = self._ranked(low), self._ranked(min(low + 1, self.n - 1))
        return _exact(below + (position - low) * (above - below))

    def _ranked(self, rank: int) -> int:
        seen = 0
        for steps, count in sorted(self._counts.items()):
            seen += count
            if seen > rank:
                return steps
        raise IndexError(f"expected a rank below {self.n}, got {rank}")


def _exact(steps: float) -> float:
    """Seconds, without the dust of binary fractions."""
    return round(steps * STEP_S, 6)


@dataclass(frozen=True)
class LogSummary:
    """What a log said."""

    server: Server | None
    """None: no line of a known server was found."""
    lines: int
    known_lines: int
    """Lines that told something, errors left out: those every program writes."""
    span_s: float | None
    """Seconds: first known line → last; None without stamps."""
    resolution_s: float | None
    """Seconds: of the stamps; None without."""
    turns: int | None
    """Endpoints; None: not in this server's log."""
    mixed_turns: int
    """Of these, those whose lines could not be told apart."""
    figures: dict[str, tuple[Quantile, Quantile] | None]
    """Median and p95; None: no sample."""
    counts: dict[str, int | None]
    """None: the log cannot show it."""
    backlog_s: float | None
    """Seconds of audio: largest queue that was logged; None: none was."""
    dropped_s: float | None
    """Seconds of audio dropped before transcription; None: the log cannot show it."""
    boot_latency_s: float | None
    """Seconds: what the server measured of LLM and TTS at its start; it adds 0.1 s and never waits
    for less; None: not in this log."""
    loaded_per_session: bool | None
    """Whether models were loaded beyond one at the start of a process; None: no load was logged."""
    last_turns: Sequence[LoggedTurn] = ()
    loads: Sequence[ModelLoad] = ()
    clients: Sequence[ClientsAt] = ()
    faults: dict[str, int] = field(default_factory=dict)
    """Message of an error → how often; the first few messages only."""
    unknown: Sequence[str] = ()
    """What this log cannot tell, in sentences."""

    def can_show(self, name: str) -> bool:
        """Whether the absence of a value means anything."""
        if self.server is None or name not in SHOWN[self.server]:
            return False
        if name == "backlog":
            return self.backlog_s is not None
        return self.figures[name] is not None if name in FIGURES else True

    def as_json(self) -> dict[str, Any]:
        plain = {"schema": SCHEMA, **asdict(self)}
        plain["figures"] = {
            f"{name}_s": None if pair is None else _figure_json(*pair)
            for name, pair in self.figures.items()
        }
        return plain


def _figure_json(middle: Quantile, high: Quantile) -> dict[str, float | int | None]:
    return {"n": middle.n, "p50": middle.value, "p95": high.value, "max": high.maximum}
