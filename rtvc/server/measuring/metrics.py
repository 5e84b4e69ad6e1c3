"""`/metrics`: everything that the server knows of itself in figures, for Prometheus.

`METRICS` is the one table: what is not in it cannot be measured here, and what is in it appears in
every scrape, without samples while unknown. What happens is observed as it happens, for well under
a microsecond each; what merely is (queues, sessions, processes) is read when somebody scrapes.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Literal, get_args

from rtvc.errors import ReplyTrouble
from rtvc.protocol.realtime import TurnTimings
from rtvc.server.measuring.boot import Boot
from rtvc.server.measuring.socket_counts import SocketCounts
from rtvc.stt.transcriber import Hypothesis, JobKind

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table."""

    name: str
    """As scraped: ends in its unit, counters in _total."""
    kind: Literal["gauge", "counter", "histogram"]
    """Prometheus's own word."""
    unit: str | None
    """What one is one of; None: 1 means yes and 0 no."""
    help: str
    """What it is, in one line."""
    labels: Labels = ()
    """Names of its labels; each has a handful of values, whoever calls and whatever they say."""
    buckets: tuple[float, ...] = ()
    """Upper edges of a histogram; empty for the others."""


LATENCY_BUCKETS_S = (
    *(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 10.0),
)
"""A stage of Whisper takes from milliseconds to seconds; finest around the target of 0.5 s."""
_LAG_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_BATCH_BUCKETS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0)

_STAGE = (
    "Time of a turn by stage: path felt, what the person waited for; hidden, work done while they "
    "were waited for"
)
_TABLE = (
    # Sessions.
    Metric("rtvc_ready", "gauge", None, "Whether new sessions are taken"),
    Metric(
        "rtvc_aside",
        "gauge",
        None,
        "Whether it is ready but stands aside, as its group has more servers than it needs",
    ),
    Metric("rtvc_build_info", "gauge", None, "Version of the server; always 1", ("version",)),
    Metric("rtvc_open_sessions", "gauge", "sessions", "Sessions open"),
    Metric("rtvc_max_sessions", "gauge", "sessions", "Sessions that may be open at once"),
    Metric(
        "rtvc_refused_sessions_total", "counter", "sessions", "Sessions refused for lack of room"
    ),
    Metric(
        "rtvc_denied_requests_total",
        "counter",
        "requests",
        "Requests and WebSockets that were not let in, by reason: keys, origins, limits",
        ("reason",),
    ),
    Metric(
        "rtvc_headroom_sessions",
        "gauge",
        "sessions",
        "Sessions that would still fit within the delay target; absent while unknown",
    ),
    Metric(
        "rtvc_partial_interval_seconds", "gauge", "seconds", "Time between a session's partials"
    ),
    Metric(
        "rtvc_degradation_step",
        "gauge",
        "step",
        "Given up under overload: 0 nothing, 1 slower partials, 2 no partials, 3 new sessions",
    ),
    Metric(
        "rtvc_degradation_changes_total",
        "counter",
        "changes",
        "Times each step was taken, up or down",
        ("step",),
    ),
    # Turns.
    Metric(
        "rtvc_transcription_delay_seconds",
        "histogram",
        "seconds",
        "Last speech sample to the final transcript sent, one a turn",
        buckets=LATENCY_BUCKETS_S,
    ),
    Metric(
        "rtvc_response_latency_seconds",
        "histogram",
        "seconds",
        "Last speech sample to the first reply audio sent, one a spoken reply",
        buckets=LATENCY_BUCKETS_S,
    ),
    Metric(
        "rtvc_turn_stage_seconds",
        "histogram",
        "seconds",
        _STAGE,
        ("stage", "path"),
        LATENCY_BUCKETS_S,
    ),
    Metric(
        "rtvc_premature_suspects_total",
        "counter",
        "suspects",
        "Turns after whose end speech came back within a second, before a reply was heard",
    ),
    # Replies.
    Metric(
        "rtvc_reply_failures_total",
        "counter",
        "failures",
        "Failures of what makes replies, service llm or tts, by reason: timeout, connect, refused, "
        "garbage, too_long, broken_off, breaker_open, other",
        ("service", "reason"),
    ),
    Metric(
        "rtvc_breaker_open",
        "gauge",
        None,
        "Whether a service, llm or tts, is taken for out after failing time and again",
        ("service",),
    ),
    Metric(
        "rtvc_apologies_total",
        "counter",
        "apologies",
        "Replies that failed, so that the person was told so",
    ),
    Metric(
        "rtvc_spare_voice_sentences_total",
        "counter",
        "sentences",
        "Sentences that the built-in voice spoke because speech synthesis failed",
    ),
    Metric(
        "rtvc_traces_total",
        "counter",
        "traces",
        "Turns for the OpenTelemetry collector by outcome: sent, failed, dropped",
        ("outcome",),
    ),
    # The engine.
    Metric("rtvc_engine_state", "gauge", None, "1 for the state that the engine is in", ("state",)),
    Metric(
        "rtvc_engine_info",
        "gauge",
        None,
        "What transcribes, on what; always 1",
        ("model", "model_kind", "device", "compute_type", "sharing"),
    ),
    Metric(
        "rtvc_engine_restarts_total",
        "counter",
        "restarts",
        "Times an engine's process was replaced after a crash or a hang",
    ),
    Metric(
        "rtvc_engine_failed_restarts_total",
        "counter",
        "restarts",
        "Attempts to replace an engine's process that failed; the next one follows",
    ),
    Metric("rtvc_engine_submitted_jobs_total", "counter", "jobs", "Transcriptions asked for"),
    Metric(
        "rtvc_engine_jobs_total",
        "counter",
        "jobs",
        "Transcriptions by outcome: done, superseded, cancelled, failed, promoted, shed",
        ("outcome",),
    ),
    Metric("rtvc_engine_retried_jobs_total", "counter", "jobs", "Second attempts"),
    Metric("rtvc_engine_queued_jobs", "gauge", "jobs", "Transcriptions waiting"),
    Metric("rtvc_engine_backlog_seconds", "gauge", "seconds", "Audio waiting to be transcribed"),
    Metric(
        "rtvc_engine_queue_wait_seconds",
        "histogram",
        "seconds",
        "Asked for to taken by a worker, one an answered job of kind final, speculative or partial",
        ("kind",),
        LATENCY_BUCKETS_S,
    ),
    Metric(
        "rtvc_engine_inference_seconds",
        "histogram",
        "seconds",
        "Features, encoder and decoder of one answered job",
        ("kind",),
        LATENCY_BUCKETS_S,
    ),
    Metric(
        "rtvc_engine_batch_jobs",
        "histogram",
        "jobs",
        "Jobs that shared the inference of one answered job",
        ("kind",),
        _BATCH_BUCKETS,
    ),
    Metric("rtvc_engine_max_batch_jobs", "gauge", "jobs", "Jobs in one inference at most"),
    Metric("rtvc_engine_workers", "gauge", "workers", "Inferences that can run at once"),
    Metric("rtvc_engine_worker_threads", "gauge", "threads", "CPU threads of one inference"),
    Metric("rtvc_engine_processes", "gauge", "processes", "Processes with the live model loaded"),
    Metric("rtvc_model_load_seconds", "gauge", "seconds", "Time that loading the model took"),
    Metric("rtvc_model_warm_up_seconds", "gauge", "seconds", "Time that warming it up took"),
    # On the way in and out.
    Metric(
        "rtvc_inbox_backlog_seconds",
        "gauge",
        "seconds",
        "Microphone audio not heard yet, all sessions together",
    ),
    Metric(
        "rtvc_inbox_backlog_max_seconds",
        "gauge",
        "seconds",
        "The same of the session with the most; absent without sessions",
    ),
    Metric("rtvc_unsent_messages", "gauge", "messages", "Messages that clients have not taken yet"),
    Metric("rtvc_websocket_opens_total", "counter", "opens", "WebSockets accepted", ("path",)),
    Metric(
        "rtvc_websocket_refusals_total",
        "counter",
        "refusals",
        "WebSockets refused, by the HTTP status of the answer",
        ("status",),
    ),
    Metric(
        "rtvc_websocket_closes_total",
        "counter",
        "closes",
        "WebSockets ended, by close code; 1006: none came",
        ("code",),
    ),
    Metric(
        "rtvc_websocket_messages_total",
        "counter",
        "messages",
        "WebSocket messages, in or out",
        ("direction",),
    ),
    Metric(
        "rtvc_websocket_bytes_total",
        "counter",
        "bytes",
        "Their payload; a character of text counts as one byte",
        ("direction",),
    ),
    Metric(
        "rtvc_reloads_total",
        "counter",
        "reloads",
        "Reloads of the settings by outcome: applied, refused",
        ("outcome",),
    ),
    Metric(
        "rtvc_boot_to_ready_seconds",
        "gauge",
        "seconds",
        "Time until callers could come in, since the process or the EC2 instance began",
        ("since",),
    ),
    Metric(
        "rtvc_cloud_failures_total",
        "counter",
        "failures",
        "Calls to AWS or to the metadata of the instance that failed; absent without --cloud aws",
        ("call",),
    ),
    # The machine's side.
    Metric(
        "rtvc_event_loop_lag_seconds",
        "histogram",
        "seconds",
        "By how much the event loop woke late, twenty times a second",
        buckets=_LAG_BUCKETS_S,
    ),
    Metric(
        "rtvc_event_loop_lag_max_seconds",
        "gauge",
        "seconds",
        "The worst of the last minute",
    ),
    Metric("rtvc_usable_cpus", "gauge", "cpus", "CPUs that the server may run on"),
    Metric(
        "rtvc_processes",
        "gauge",
        "processes",
        "Processes alive: process server, or engine, each with a model",
        ("process",),
    ),
    Metric("rtvc_process_cpu_seconds_total", "counter", "seconds", "CPU time used", ("process",)),
    Metric("rtvc_process_resident_memory_bytes", "gauge", "bytes", "Memory in RAM", ("process",)),
    Metric("rtvc_process_threads", "gauge", "threads", "Operating system's threads", ("process",)),
    Metric("rtvc_process_open_files", "gauge", "files", "Open file descriptors", ("process",)),
)
METRICS = {row.name: row for row in _TABLE}
"""Everything there is, by name, in the order of the scrape."""

REPLY_STAGES = ("llm_ttft", "llm_sentence", "tts_ttfb", "send")
FELT_STAGES = (
    *("vad_delay", "endpoint_wait", "turn_model", "queue_wait", "features", "encode", "decode"),
    *("emit", "unaccounted", *REPLY_STAGES),
)
HIDDEN_STAGES = ("turn_model", "queue_wait", "features", "encode", "decode")
_FELT, _HIDDEN = "felt", "hidden"


class Histogram:
    """Counts by bucket, and their sum; a fraction of the library's cost, on one thread only."""

    __slots__ = ("_counts", "_edges", "sum")

    def __init__(self, edges: tuple[float, ...]) -> None:
        self._edges = edges
        self._counts = [0] * (len(edges) + 1)
        self.sum = 0.0
        """Of all values."""

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._edges, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Values up to each edge, as Prometheus wants them; the last is the number of all."""
        return list(zip(_edge_names(self._edges), accumulate(self._counts), strict=True))


@cache
def _edge_names(edges: tuple[float, ...]) -> list[str]:
    return [*(repr(edge) for edge in edges), "+Inf"]


class Histograms(dict[Labels, Histogram]):
    """Of one metric, by the values of its labels; those in sight are there from the start, as a
    rate has to have seen 0.
    """

    def __init__(self, metric: Metric) -> None:
        self._edges = metric.buckets
        super().__init__({labels: Histogram(self._edges) for labels in _in_sight(metric)})

    def __missing__(self, labels: Labels) -> Histogram:
        made = self[labels] = Histogram(self._edges)
        return made


def _in_sight(metric: Metric) -> Iterable[Labels]:
    match metric.labels:
        case ("stage", "path"):
            felt = [(stage, _FELT) for stage in FELT_STAGES]
            return [*felt, *((stage, _HIDDEN) for stage in HIDDEN_STAGES)]
        case ("kind",):
            return [(kind.value,) for kind in JobKind]
        case _:
            return [()]


class Metrics:
    """What was observed since the start; all on the event loop."""

    def __init__(self) -> None:
        self.sockets = SocketCounts()
        """Kept by `CountSockets`."""
        self.histograms = {row.name: Histograms(row) for row in _TABLE if row.kind == "histogram"}
        self._stages = self.histograms["rtvc_turn_stage_seconds"]
        self._delay = self.histograms["rtvc_transcription_delay_seconds"][()]
        self._latency = self.histograms["rtvc_response_latency_seconds"][()]
        self._queue_wait = self.histograms["rtvc_engine_queue_wait_seconds"]
        self._inference = self.histograms["rtvc_engine_inference_seconds"]
        self._batch = self.histograms["rtvc_engine_batch_jobs"]
        self._lag = self.histograms["rtvc_event_loop_lag_seconds"][()]
        self.premature_suspects = 0
        """Turns that may have been ended too early."""
        self.reply_failures: Counter[tuple[str, str]] = Counter(
            {
                (service, reason): 0
                for service in ("llm", "tts")
                for reason in get_args(ReplyTrouble)
            }
        )
        """By service and reason; all of them, as a rate has to have seen 0."""
        self.apologies = 0
        """Replies that failed, and said so."""
        self.spare_sentences = 0
        """Sentences spoken by the built-in voice in another's place."""
        self.reloads = Counter({"applied": 0, "refused": 0})
        """Of the settings, by outcome."""
        self.boot = Boot()
        """How long it took until callers could come in."""
        self.cloud_failures: Counter[str] = Counter()
        """Of calls to the cloud, by call; empty where there is none."""

    # As it happens.

    def turn(self, timings: TurnTimings) -> None:
        """A turn has its final transcript, or the first audio of its reply."""
        reply = timings.stage == "reply"
        for segment in timings.segments:
            if (segment.name in REPLY_STAGES) is reply:
                self._stages[segment.name, _FELT].observe(segment.duration_ms / 1000)
        if reply:
            if timings.response_latency_ms is not None:
                self._latency.observe(timings.response_latency_ms / 1000)
            return
        self._delay.observe(timings.transcription_delay_ms / 1000)
        # Too much claimed is as wrong as too little.
        self._stages["unaccounted", _FELT].observe(abs(timings.unaccounted_ms) / 1000)
        for segment in timings.hidden:
            self._stages[segment.name, _HIDDEN].observe(segment.duration_ms / 1000)

    def answered(self, kind: str, hypothesis: Hypothesis) -> None:
        """The engine has answered a job of a `JobKind`."""
        labels = (kind,)
        work_s = hypothesis.features_s + hypothesis.encode_s + hypothesis.decode_s
        self._queue_wait[labels].observe(hypothesis.queue_wait_s)
        self._inference[labels].observe(work_s)
        self._batch[labels].observe(hypothesis.batch_size)

    def suspected(self) -> None:
        """A turn may have been ended too early."""
        self.premature_suspects += 1

    def reply_failed(self, service: str, reason: str) -> None:
        """The language model ("llm") or the synthesizer ("tts") failed."""
        self.reply_failures[service, reason] += 1

    def apologised(self) -> None:
        """A person was told that there is no reply, or no more of it."""
        self.apologies += 1

    def spared(self) -> None:
        """The built-in voice spoke a sentence in another's place."""
        self.spare_sentences += 1

    def lagged(self, lag_s: float) -> None:
        """The event loop woke so late."""
        self._lag.observe(lag_s)


class NoMetrics(Metrics):
    """Of a server without instruments: observes nothing."""

    def turn(self, timings: TurnTimings) -> None:
        """Nothing."""

    def answered(self, kind: str, hypothesis: Hypothesis) -> None:
        """Nothing."""

    def suspected(self) -> None:
        """Nothing."""

    def reply_failed(self, service: str, reason: str) -> None:
        """Nothing."""

    def apologised(self) -> None:
        """Nothing."""

    def spared(self) -> None:
        """Nothing."""

    def lagged(self, lag_s: float) -> None:
        """Nothing."""


def markdown_table() -> str:
    """The table, for `docs/profile/metrics.md`."""
    lines = ["| Metric | Kind | Labels | What it is |", "|---|---|---|---|"]
    for row in _TABLE:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.help} |")
    return "\n".join(lines)
