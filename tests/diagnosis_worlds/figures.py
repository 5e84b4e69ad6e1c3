"""What the server tells of itself: counts since its start, and how things are, as `/metrics`."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import get_args

from rtvc.errors import ReplyTrouble
from tests.diagnosis_worlds.world import World

FELT = (
    *("vad_delay", "endpoint_wait", "turn_model", "queue_wait", "features", "encode", "decode"),
    *("emit", "unaccounted", "llm_ttft", "llm_sentence", "tts_ttfb", "send"),
)
HIDDEN = ("turn_model", "queue_wait", "features", "encode", "decode")
KINDS = ("final", "speculative", "partial")
OUTCOMES = ("done", "superseded", "cancelled", "failed", "promoted")
STATES = ("starting", "loading", "warming", "ready", "restarting", "failed", "closed")
_PER_KIND = ("queue_wait_seconds", "inference_seconds", "batch_jobs")

Readings = list[tuple[str, float]]


class Histogram:
    """How many values, and their sum."""

    __slots__ = ("count", "sum")

    def __init__(self) -> None:
        self.count, self.sum = 0, 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.sum += value


class Figures:
    """What is counted as it happens."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.histograms: dict[str, Histogram] = defaultdict(Histogram)
        """By name with labels."""
        self.jobs: Counter[str] = Counter()
        """Transcriptions by outcome."""
        self.submitted = self.retried = self.restarts = self.suspects = 0
        self.opens = 0
        self.closes: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        """By direction."""
        self.sent_bytes: Counter[str] = Counter()
        """By direction."""
        self.lags_s: list[tuple[float, float]] = []
        """(when, how late) the event loop woke."""

    def delay(self, seconds: float) -> None:
        self.histograms["rtvc_transcription_delay_seconds"].add(seconds)

    def response(self, seconds: float) -> None:
        self.histograms["rtvc_response_latency_seconds"].add(seconds)

    def stage(self, name: str, path: str, seconds: float) -> None:
        self.histograms[_stage(name, path)].add(seconds)

    def answered(self, kind: str, wait_s: float, inference_s: float, batch: int) -> None:
        for name, value in zip(_PER_KIND, (wait_s, inference_s, float(batch)), strict=True):
            self.histograms[_per_kind(name, kind)].add(value)

    def lag(self, at_s: float, seconds: float) -> None:
        self.histograms["rtvc_event_loop_lag_seconds"].add(seconds)
        self.lags_s.append((at_s, seconds))

    def readings(self, now_s: float, gauges: Mapping[str, float | None]) -> Readings:
        """All of it in the order of a real scrape; what is None is not told."""
        found: Readings = [*_known(gauges, _FIRST)]
        found += self._of("rtvc_transcription_delay_seconds")
        found += self._of("rtvc_response_latency_seconds")
        for name in FELT:
            found += self._of(_stage(name, "felt"))
        for name in HIDDEN:
            found += self._of(_stage(name, "hidden"))
        found.append(("rtvc_premature_suspects_total", float(self.suspects)))
        found += _SOUND_REPLIES
        found += self._engine(gauges)
        for name in _PER_KIND:
            for kind in KINDS:
                found += self._of(_per_kind(name, kind))
        found += _known(gauges, _MIDDLE)
        found += self._sockets()
        found += self._of("rtvc_event_loop_lag_seconds")
        recent_s = [lag_s for at_s, lag_s in self.lags_s if at_s > now_s - 60]
        worst_s = max(recent_s, default=0.0)
        found.append(("rtvc_event_loop_lag_max_seconds", worst_s))
        return [*found, *_known(gauges, [name for name in gauges if _is_last(name)])]

    def _of(self, name: str) -> Readings:
        histogram = self.histograms[name]
        base, brace, labels = name.partition("{")
        return [
            (f"{base}_count{brace}{labels}", float(histogram.count)),
            (f"{base}_sum{brace}{labels}", histogram.sum),
        ]

    def _engine(self, gauges: Mapping[str, float | None]) -> Readings:
        world, state = self._world, "restarting" if gauges["restarting"] else "ready"
        found = [(f'rtvc_engine_state{{state="{name}"}}', float(name == state)) for name in STATES]
        kind = "self-test model" if world.model == "selftest" else "whisper"
        device = "cuda" if world.gpu else "cpu"
        about = f'compute_type="int8_float32",device="{device}",model="{world.model}"'
        found.append((f'rtvc_engine_info{{{about},model_kind="{kind}",sharing="shared"}}', 1.0))
        found.append(("rtvc_engine_restarts_total", float(self.restarts)))
        found.append(("rtvc_engine_failed_restarts_total", 0.0))
        found += [(f'rtvc_reloads_total{{outcome="{how}"}}', 0.0) for how in ("applied", "refused")]
        found.append(("rtvc_engine_submitted_jobs_total", float(self.submitted)))
        for name in OUTCOMES:
            label = f'rtvc_engine_jobs_total{{outcome="{name}"}}'
            found.append((label, float(self.jobs[name])))
        found.append(("rtvc_engine_retried_jobs_total", float(self.retried)))
        return [*found, *_known(gauges, _QUEUE)]

    def _sockets(self) -> Readings:
        found = [('rtvc_websocket_opens_total{path="/v1/realtime"}', float(self.opens))]
        for code, times in sorted(self.closes.items()):
            found.append((f'rtvc_websocket_closes_total{{code="{code}"}}', float(times)))
        for way in ("in", "out"):
            label = f'rtvc_websocket_messages_total{{direction="{way}"}}'
            found.append((label, float(self.messages[way])))
        for way in ("in", "out"):
            label = f'rtvc_websocket_bytes_total{{direction="{way}"}}'
            found.append((label, float(self.sent_bytes[way])))
        return found


_SOUND_REPLIES: Readings = [
    *(
        (f'rtvc_reply_failures_total{{reason="{reason}",service="{service}"}}', 0.0)
        for service in ("llm", "tts")
        for reason in get_args(ReplyTrouble)
    ),
    *((f'rtvc_breaker_open{{service="{service}"}}', 0.0) for service in ("llm", "tts")),
    ("rtvc_apologies_total", 0.0),
    ("rtvc_spare_voice_sentences_total", 0.0),
]
_FIRST = (
    *("rtvc_ready", 'rtvc_build_info{version="0.1.0"}', "rtvc_open_sessions", "rtvc_max_sessions"),
    *("rtvc_refused_sessions_total", "rtvc_headroom_sessions", "rtvc_partial_interval_seconds"),
)
_QUEUE = ("rtvc_engine_queued_jobs", "rtvc_engine_backlog_seconds")
_MIDDLE = (
    *("rtvc_engine_max_batch_jobs", "rtvc_engine_workers", "rtvc_engine_worker_threads"),
    *("rtvc_engine_processes", "rtvc_model_load_seconds", "rtvc_model_warm_up_seconds"),
    *("rtvc_inbox_backlog_seconds", "rtvc_inbox_backlog_max_seconds", "rtvc_unsent_messages"),
)


def _is_last(name: str) -> bool:
    return name.startswith(("rtvc_usable_cpus", "rtvc_process"))


def _known(gauges: Mapping[str, float | None], names: Sequence[str]) -> Readings:
    values = ((name, gauges.get(name)) for name in names)
    return [(name, value) for name, value in values if value is not None]


def _stage(name: str, path: str) -> str:
    return f'rtvc_turn_stage_seconds{{path="{path}",stage="{name}"}}'


def _per_kind(name: str, kind: str) -> str:
    return f'rtvc_engine_{name}{{kind="{kind}"}}'
