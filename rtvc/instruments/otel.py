"""Turns as OpenTelemetry traces, sent to a collector by OTLP over HTTP (extra `otel`).

A turn is one trace: the span `turn` from the last speech sample to the first audio of the reply,
or to the transcript where no reply was spoken; below it a span for each segment that the person
waited for, and one for each piece of work that a wait hid (`rtvc.hidden`). The felt spans and
`rtvc.unaccounted_ms` add up to the turn. No span carries text or audio.

Times: durations are monotonic, as everywhere in rtvc. Traces want wall time, so the end of a turn
is the UTC of the moment in which it was reported (the transcript or the audio was sent just
before), and all its other instants are that moment less durations. A step of the wall clock moves
whole turns and never stretches one.

The caller appends to a bounded queue and goes on: no lock, no wake-up, no system call. A thread
makes the spans and sends them in batches. What finds the queue full is counted and forgotten, as is
what a collector did not take after the exporter's own retries; the first failure in a row is
logged, without the endpoint's credentials. OpenTelemetry's own batch processor does not say how
much it dropped, which is why it is not used.
"""

import base64
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import Event, Thread, get_ident
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from rtvc import __version__
from rtvc.clock import Clock
from rtvc.config import interface
from rtvc.errors import UsageError, why
from rtvc.protocol.realtime import TurnSegment, TurnTimings
from rtvc.record import without_secrets

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

LIMIT_TURNS = 2048
"""Turns that wait to be sent, and turns that wait for their reply."""
HOLD_S = 60.0
"""A reply that was begun and is silent for so long is not waited for: it was cut off or failed."""
BATCH_TURNS = 64
"""In one request; about twelve spans each."""
EVERY_S = 1.0
"""Between two looks at the queue."""
EXPORT_S = 5.0
"""One request, its retries included."""
CLOSE_S = 3.0
"""For what is left when the server stops."""
TRACES_PATH = "/v1/traces"
_NANO = 1_000_000
"""Nanoseconds in a millisecond."""

Attribute = str | bool | int | float
Outcome = Literal["sent", "failed", "dropped"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outline:
    """A span before it is one."""

    name: str
    """"turn", or the segment."""
    start_ns: int
    """Wall time, nanoseconds since the epoch."""
    end_ns: int
    """Wall time, nanoseconds since the epoch."""
    attributes: Mapping[str, Attribute]
    """Names of the semantic conventions where there are any (`gen_ai.*`), else `rtvc.*`."""


@dataclass(frozen=True, slots=True)
class Told:
    """One report of a turn."""

    session_id: str
    """As /v1/sessions shows it."""
    timings: TurnTimings
    """Of its transcript, or of its reply too."""
    at_s: float
    """When it was reported, monotonic."""
    utc: datetime
    """The same on the wall clock."""
    replying: bool
    """Whether a reply was begun, so that another report may follow."""

    @property
    def key(self) -> tuple[str, str]:
        return self.session_id, self.timings.item_id


def outline(session_id: str, timings: TurnTimings, utc: datetime) -> tuple[Outline, list[Outline]]:
    """The span of a turn that was reported at `utc`, and those below it: felt, then hidden."""
    felt_ms = timings.transcription_delay_ms
    if timings.response_latency_ms is not None:
        felt_ms = timings.response_latency_ms
    end_ns = round(utc.timestamp() * 1e6) * 1000
    start_ns = end_ns - round(felt_ms * _NANO)
    root = Outline("turn", start_ns, end_ns, _of_turn(session_id, timings))
    felt = [_below(start_ns, each, hidden=False) for each in timings.segments]
    hidden = [_below(start_ns, each, hidden=True) for each in timings.hidden]
    return root, [*felt, *hidden]


def _of_turn(session_id: str, timings: TurnTimings) -> dict[str, Attribute]:
    known: dict[str, Attribute | None] = {
        "gen_ai.conversation.id": session_id,
        "gen_ai.response.id": timings.response_id,
        "gen_ai.request.model": timings.model,
        "rtvc.item.id": timings.item_id,
        "rtvc.turn.ends_with": timings.stage,
        "rtvc.transcription_delay_ms": timings.transcription_delay_ms,
        "rtvc.response_latency_ms": timings.response_latency_ms,
        "rtvc.unaccounted_ms": timings.unaccounted_ms,
        "rtvc.audio_ms": timings.audio_ms,
        "rtvc.batch_size": timings.batch_size,
    }
    return {name: value for name, value in known.items() if value is not None}


def _below(turn_ns: int, segment: TurnSegment, *, hidden: bool) -> Outline:
    # Few: encoding them is most of what a trace costs.
    attributes: dict[str, Attribute] = {"rtvc.hidden": hidden}
    if segment.name == "llm_ttft":
        attributes["gen_ai.response.time_to_first_chunk"] = segment.duration_ms / 1000
    start_ns = turn_ns + round(segment.start_ms * _NANO)
    end_ns = start_ns + round(segment.duration_ms * _NANO)
    return Outline(segment.name, start_ns, end_ns, attributes)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where traces go."""

    url: str
    """Without credentials."""
    headers: Mapping[str, str] | None
    """Of the credentials that stood in the URL; None: none did."""

    @property
    def shown(self) -> str:
        """For a person: without a query, which may hold a token."""
        return urlunsplit(urlsplit(self.url)._replace(query="", fragment=""))


def endpoint_of(url: str) -> Endpoint:
    """A collector's address as in OTEL_EXPORTER_OTLP_ENDPOINT, or with the path spelled out.

    >>> endpoint_of("http://box:4318").url, endpoint_of("http://box/otlp/v1/traces").url
    ('http://box:4318/v1/traces', 'http://box/otlp/v1/traces')
    """
    parts = urlsplit(url)
    credentials, _, host = parts.netloc.rpartition("@")
    path = parts.path.rstrip("/")
    path = path if path.endswith(TRACES_PATH) else path + TRACES_PATH
    bare = urlunsplit(parts._replace(netloc=host, path=path))
    if not credentials:
        return Endpoint(bare, None)
    encoded = base64.b64encode(unquote(credentials).encode()).decode()
    return Endpoint(bare, {"Authorization": f"Basic {encoded}"})


class TurnTraces:
    """Takes reports of turns on the event loop; sends them from a thread of its own."""

    def __init__(
        self,
        exporter: "SpanExporter",
        clock: Clock,
        *,
        shown: str = "the collector",
        limit: int = LIMIT_TURNS,
        every_s: float = EVERY_S,
    ) -> None:
        """`shown`: where they go, as a person may read it."""
        self._clock = clock
        self._exporter = exporter
        self._shown = shown
        self._limit = limit
        self._every_s = every_s
        self._spans = _SpanMaker()
        self._queue: deque[Told] = deque()
        self._held: dict[tuple[str, str], Told] = {}
        self._stopping = Event()
        self._given_up = False
        self._failing = False
        self.outcomes: dict[Outcome, int] = {"sent": 0, "failed": 0, "dropped": 0}
        """Turns since the start."""
        self._thread = Thread(target=self._work, name="otel", daemon=True)
        self._thread.start()

    def turn(self, session_id: str, timings: TurnTimings, *, replying: bool = False) -> None:
        """A turn has its transcript or its reply's first audio; never blocks, never raises.

        `replying`: a reply was begun, and the turn goes on until its first audio.
        """
        if len(self._queue) >= self._limit:
            self.outcomes["dropped"] += 1
            return
        now_s, utc = self._clock.now(), self._clock.utc()
        self._queue.append(Told(session_id, timings, now_s, utc, replying))

    def close(self, deadline_s: float = CLOSE_S) -> None:
        """Send what is left, for as long as that; blocks, so not for an event loop."""
        self._stopping.set()
        self._thread.join(deadline_s)
        self._given_up = True
        self._exporter.shutdown()
        if self._thread.is_alive():
            _log.warning("%s did not take the last traces in time", self._shown)

    # On the thread.

    def _work(self) -> None:
        # Its logger is named like the module that it is from.
        with _quiet(logging.getLogger(type(self._exporter).__module__)) as exporters:
            stopping = False
            while not stopping:
                stopping = self._stopping.wait(self._every_s)
                due = self._due(everything=stopping)
                while due and not self._given_up:
                    turns, due = due[:BATCH_TURNS], due[BATCH_TURNS:]
                    self._send(turns, exporters)
                self.outcomes["dropped"] += len(due)

    def _due(self, *, everything: bool) -> list[Told]:
        """What is complete, or has waited too long for its reply, oldest first."""
        due = []
        for _ in range(len(self._queue)):
            told = self._queue.popleft()
            self._held.pop(told.key, None)
            if told.replying:
                self._held[told.key] = told
            else:
                due.append(told)
        oldest_s = self._clock.now() - HOLD_S
        for key, told in list(self._held.items()):
            if everything or told.at_s < oldest_s or len(self._held) > self._limit:
                due.append(self._held.pop(key))
        return due

    def _send(self, turns: Sequence[Told], exporters: "_Keep") -> None:
        exporters.said = None
        try:
            spans = [span for told in turns for span in self._spans.of(told)]
            # A sampler set in the environment may have left none.
            sent = not spans or self._exporter.export(spans).name == "SUCCESS"
            reason = exporters.said
        except Exception as error:  # noqa: BLE001 (whatever it is, the server goes on)
            sent, reason = False, why(error)
        self.outcomes["sent" if sent else "failed"] += len(turns)
        self._tell(sent, reason or "no reason given")

    def _tell(self, sent: bool, reason: str) -> None:
        """The first failure in a row, and the first success after it."""
        if sent and self._failing:
            _log.warning("traces reach %s again", self._shown)
        elif not sent and not self._failing:
            line = without_secrets(" ".join(reason.split()))
            _log.warning("traces do not reach %s (said once): %s", self._shown, line)
        self._failing = not sent


def open_traces(url: str, clock: Clock) -> TurnTraces:
    """Traces to a collector at `url`; the exporter's own variables (OTEL_EXPORTER_OTLP_HEADERS,
    _CERTIFICATE, _COMPRESSION) and OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES hold.

    Raises:
        UsageError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise UsageError(
            "--otel-endpoint needs OpenTelemetry, which is not installed: pip install 'rtvc[otel]'"
        ) from None
    endpoint = endpoint_of(url)
    headers = None if endpoint.headers is None else dict(endpoint.headers)
    exporter = OTLPSpanExporter(endpoint=endpoint.url, headers=headers, timeout=EXPORT_S)
    return TurnTraces(exporter, clock, shown=endpoint.shown)


class _SpanMaker:
    """Spans of OpenTelemetry's SDK, finished when they are made: a third of a tracer's cost."""

    def __init__(self) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        name = interface("OTEL_SERVICE_NAME") or "rtvc"
        resource = Resource.create({"service.name": name, "service.version": __version__})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._resource = resource
        # As the environment wants them.
        self._sampler, self._ids = provider.sampler, provider.id_generator
        self._scope = InstrumentationScope("rtvc", __version__)

    def of(self, told: Told) -> "list[ReadableSpan]":
        """The turn's spans, its own first; none if the sampler does not want them."""
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.trace.sampling import Decision
        from opentelemetry.trace import SpanContext, TraceFlags

        trace_id = self._ids.generate_trace_id()
        decision = self._sampler.should_sample(None, trace_id, "turn").decision
        if decision is not Decision.RECORD_AND_SAMPLE:
            return []
        flags = TraceFlags(TraceFlags.SAMPLED)

        def span(made_of: Outline, parent: SpanContext | None) -> ReadableSpan:
            return ReadableSpan(
                made_of.name,
                SpanContext(trace_id, self._ids.generate_span_id(), False, flags),
                parent,
                self._resource,
                made_of.attributes,
                start_time=made_of.start_ns,
                end_time=made_of.end_ns,
                instrumentation_scope=self._scope,
            )

        root, below = outline(told.session_id, told.timings, told.utc)
        turn = span(root, None)
        return [turn, *(span(each, turn.context) for each in below)]


class _Keep(logging.Filter):
    """Lets nothing through that the thread which made it logs, and keeps the first line."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = get_ident()
        self.said: str | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        self.said = self.said or record.getMessage()
        return False


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[_Keep]:
    """The exporter logs each of its retries; what it said is kept for the one line of ours."""
    keep = _Keep()
    logger.addFilter(keep)
    try:
        yield keep
    finally:
        logger.removeFilter(keep)
