"""Evidence written by hand: a world for every cause, and worlds with something missing."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rtvc.profile.diagnose.evidence import Attempt, Evidence, Phase, Turn
from rtvc.profile.diagnose.finding import Cause
from rtvc.profile.diagnose.series import Readings
from rtvc.profile.diagnose.verdict import diagnosis_of
from rtvc.record import SampleRow

Value = float | Callable[[float], float]
"""A figure, or one that changes with the seconds of the phase."""

SECONDS = 24
SPEAKERS = {"one": 1, "two": 2, "many": 4}
FELT = {
    "vad_offset": 0.03,
    "framing": 0.01,
    "vad_delay": 0.05,
    "endpoint_wait": 0.25,
    "emit": 0.001,
    "transport": 0.004,
}
REPLY = {"llm_ttft": 0.15, "llm_sentence": 0.1, "tts_ttfb": 0.02, "send": 0.005}
HOST = {
    "host_cpus": 4.0,
    "host_cpu_ratio": 0.3,
    "server_cpu_cores": 0.6,
    "generator_cpu_cores": 0.1,
    "other_cpu_cores": 0.1,
    "server_memory_bytes": 800e6,
    "server_processes": 2.0,
    "host_memory_available_bytes": 12e9,
    "host_swap_used_bytes": 0.0,
    "http_round_trip_s": 0.002,
    "tcp_connect_s": 0.0002,
}


def at(value: Value, second: float) -> float:
    return value(second) if callable(value) else value


def turns(
    speakers: int,
    felt: Mapping[str, Value],
    reply: Mapping[str, Value],
    *,
    missing_between: tuple[float, float] = (0.0, 0.0),
) -> list[Turn]:
    """Each speaker says something of 2 s every 5 s."""
    found = []
    for speaker in range(speakers):
        for utterance in range(SECONDS // 5):
            end_s = 3.0 + 5.0 * utterance + 0.7 * speaker
            parts = {name: at(value, end_s) for name, value in felt.items()}
            said = {name: at(value, end_s) for name, value in reply.items()}
            delay_s = sum(parts.values())
            lost = missing_between[0] <= end_s < missing_between[1]
            turn = Turn(
                speaker=speaker,
                utterance=utterance,
                ended_at_s=end_s,
                spoke_s=2.0,
                delay_s=math.inf if lost else delay_s,
                latency_s=None if lost else delay_s + sum(said.values()),
                first_partial_s=0.3,
                partial_interval_s=0.5,
                warm_up=False,
                felt={} if lost else parts,
                reply={} if lost else {**parts, **said},
            )
            found.append(turn)
    return sorted(found, key=lambda turn: turn.ended_at_s)


def rows(source: str, figures: Mapping[str, Value]) -> list[SampleRow]:
    return [
        SampleRow(float(second), source, name, at(value, float(second)))
        for name, value in figures.items()
        for second in range(1, SECONDS + 1)
    ]


def counters(kind: str, rate: float, service: Value, wait: Value, batch: float) -> dict[str, Value]:
    """Cumulative figures of one kind of job: `rate` a second."""
    label = f'{{kind="{kind}"}}'

    def total(each: Value) -> Value:
        return lambda second: sum(rate * at(each, float(s)) for s in range(int(second) + 1))

    return {
        f"rtvc_engine_inference_seconds_sum{label}": total(service),
        f"rtvc_engine_inference_seconds_count{label}": total(1.0),
        f"rtvc_engine_queue_wait_seconds_sum{label}": total(wait),
        f"rtvc_engine_queue_wait_seconds_count{label}": total(1.0),
        f"rtvc_engine_batch_jobs_sum{label}": total(batch),
        f"rtvc_engine_batch_jobs_count{label}": total(1.0),
    }


def phase(
    name: str,
    *,
    felt: Mapping[str, Value] | None = None,
    reply: Mapping[str, Value] | None = None,
    host: Mapping[str, Value] | None = None,
    server: Mapping[str, Value] | None = None,
    service: Value = 0.05,
    wait: Value = 0.005,
    batch: float = 1.0,
    partial_every_s: float = 0.5,
    partial_service: Value = 0.05,
    connection_s: float = 0.005,
    missing_between: tuple[float, float] = (0.0, 0.0),
) -> Phase:
    """A healthy phase, but for what is given."""
    speakers = SPEAKERS[name]
    talking = 0.4 * speakers
    told: dict[str, Value] = {
        "rtvc_engine_processes": 1.0,
        "rtvc_engine_restarts_total": 0.0,
        "rtvc_engine_retried_jobs_total": 0.0,
        'rtvc_engine_jobs_total{outcome="failed"}': 0.0,
        "rtvc_engine_queued_jobs": 0.0,
        "rtvc_inbox_backlog_max_seconds": 0.02,
        "rtvc_event_loop_lag_seconds_sum": lambda second: 0.01 * second,
        "rtvc_event_loop_lag_seconds_count": lambda second: 20 * second,
        **counters("final", 0.05 * speakers, service, wait, batch),
        **counters("speculative", 0.2 * speakers, service, wait, batch),
        **counters("partial", talking / partial_every_s, partial_service, wait, batch),
        **(server or {}),
    }
    return Phase(
        name=name,
        speakers=speakers,
        duration_s=float(SECONDS),
        turns=turns(
            speakers,
            {**FELT, **(felt or {})},
            {**REPLY, **(reply or {})},
            missing_between=missing_between,
        ),
        attempts=[
            Attempt(0.2 * speaker, connection_s, min(0.003, connection_s), "ok")
            for speaker in range(speakers)
        ],
        server=Readings(rows("server", told)),
        host=Readings(rows("host", {**HOST, **(host or {})})),
        lag_p99_s=0.002,
        generator_cpu=0.1,
    )


def same(**more: object) -> Evidence:
    """All phases alike."""
    return Evidence([phase(name, **more) for name in SPEAKERS])  # type: ignore[arg-type]


def each(**by_phase: Mapping[str, object]) -> Evidence:
    return Evidence([phase(name, **by_phase.get(name, {})) for name in SPEAKERS])  # type: ignore[arg-type]


def first(evidence: Evidence) -> Cause | None:
    causes = diagnosis_of(evidence).causes
    return causes[0] if causes else None


def named(evidence: Evidence) -> set[Cause]:
    return set(diagnosis_of(evidence).causes)


# Worlds: what each cause is, physically.

STOPS: dict[str, Value] = {
    "rtvc_event_loop_lag_seconds_sum": lambda second: 0.35 * second,
    "rtvc_event_loop_lag_seconds_count": lambda second: 14 * second,
}


def bursts(usual: float, burst: float) -> Value:
    return lambda second: burst if int(second) % 3 == 0 else usual


def saturated() -> Evidence:
    busy = {"host_cpu_ratio": 0.97, "server_cpu_cores": 3.6}
    return each(
        one={
            "felt": {"encode": 0.05},
            "service": 0.3,
            "partial_every_s": 1.0,
            "partial_service": 0.3,
        },
        two={
            "felt": {"queue_wait": 0.2, "encode": 0.2},
            "service": 0.32,
            "wait": 0.3,
            "partial_every_s": 1.4,
            "partial_service": 0.3,
            "host": {"host_cpu_ratio": 0.85, "server_cpu_cores": 3.0},
        },
        many={
            "felt": {"queue_wait": 0.9, "encode": 0.3},
            "service": 0.35,
            "wait": 1.0,
            "batch": 2.0,
            "partial_every_s": 1.4,
            "partial_service": 0.35,
            "host": busy,
        },
    )


def serialised() -> Evidence:
    room = {"host_cpu_ratio": 0.4, "server_cpu_cores": 1.0}
    return each(
        one={"felt": {"encode": 0.02}, "service": 0.2, "partial_every_s": 1.0},
        two={
            "felt": {"queue_wait": 0.15, "encode": 0.1},
            "service": 0.2,
            "wait": 0.2,
            "host": room,
            "partial_every_s": 1.0,
        },
        many={
            "felt": {"queue_wait": 0.7, "encode": 0.2},
            "service": 0.21,
            "wait": 0.8,
            "host": room,
            "partial_every_s": 1.4,
            "partial_service": 0.2,
        },
    )


def contended() -> Evidence:
    host = {"host_cpu_ratio": 0.98, "other_cpu_cores": 3.2, "server_cpu_cores": 0.6}
    return same(felt={"queue_wait": 0.15, "encode": 0.45}, service=0.6, wait=0.2, host=host)


def throttled() -> Evidence:
    def slower(begin: float) -> Value:
        return lambda second: begin * (1 + second / SECONDS)

    return each(
        one={
            "felt": {"encode": slower(0.1)},
            "service": slower(0.2),
            "partial_service": slower(0.1),
        },
        two={
            "felt": {"encode": slower(0.3)},
            "service": slower(0.4),
            "partial_service": slower(0.2),
        },
        many={
            "felt": {"encode": slower(0.7)},
            "service": slower(0.8),
            "partial_service": slower(0.4),
            "partial_every_s": 1.4,
        },
    )


def starved() -> Evidence:
    busy = {"host_cpu_ratio": 0.9, "server_cpu_cores": 3.2}
    return each(
        one={
            "felt": {"queue_wait": 0.1},
            "service": 0.25,
            "partial_service": 0.2,
            "partial_every_s": 0.21,
            "wait": 0.1,
            "host": busy,
        },
        two={
            "felt": {"queue_wait": 0.3, "encode": 0.2},
            "service": 0.3,
            "partial_service": 0.3,
            "partial_every_s": 0.5,
            "wait": 0.3,
            "host": busy,
        },
        many={
            "felt": {"queue_wait": 0.6, "encode": 0.3},
            "service": 0.35,
            "partial_service": 0.4,
            "partial_every_s": 0.5,
            "wait": 0.6,
            "host": busy,
        },
    )


def per_session() -> Evidence:
    return each(
        one={"connection_s": 2.0, "server": {"rtvc_engine_processes": 1.0}},
        two={
            "connection_s": 2.6,
            "server": {"rtvc_engine_processes": 2.0},
            "host": {"server_memory_bytes": 1.1e9},
        },
        many={
            "connection_s": 4.1,
            "server": {"rtvc_engine_processes": 4.0},
            "host": {"server_memory_bytes": 1.7e9},
        },
    )


def cold() -> Evidence:
    return same(felt={"encode": lambda second: 1.5 if second < 6 else 0.02})


def leaking() -> Evidence:
    def grown(begin: float) -> Value:
        return lambda second: begin + 40e6 * second

    return each(
        one={"host": {"server_memory_bytes": grown(1e9)}},
        two={"host": {"server_memory_bytes": grown(2e9)}},
        many={
            "host": {"server_memory_bytes": grown(3e9)},
            "missing_between": (15.0, 20.0),
            "server": {"rtvc_engine_restarts_total": lambda second: float(second > 15)},
        },
    )


def failing() -> Evidence:
    slow: dict[str, Value] = {"queue_wait": lambda second: 4.0 if 10 < second < 14 else 0.0}
    restarts: dict[str, Value] = {
        "rtvc_engine_restarts_total": lambda second: float(second > 12),
        "rtvc_engine_retried_jobs_total": lambda second: 2.0 * (second > 12),
    }
    return each(many={"felt": slow, "server": restarts}, two={"felt": slow, "server": restarts})


def late_generator() -> Evidence:
    phases = [phase(name, felt={"framing": 0.3}) for name in SPEAKERS]
    return Evidence([replace(one, lag_p99_s=0.25, generator_cpu=0.99) for one in phases])


WORLDS: dict[Cause, Callable[[], Evidence]] = {
    Cause.HEALTHY: same,
    Cause.ENDPOINT_WAIT: lambda: same(felt={"endpoint_wait": 0.9}),
    Cause.TURN_DETECTOR: lambda: same(felt={"turn_model": 0.5}),
    Cause.SLOW_LLM: lambda: same(reply={"llm_ttft": 1.2}),
    Cause.SLOW_TTS: lambda: same(reply={"tts_ttfb": 0.9}),
    Cause.NETWORK: lambda: same(
        felt={"transport": 0.31}, host={"http_round_trip_s": 0.3, "tcp_connect_s": 0.3}
    ),
    Cause.BLOCKED_EVENT_LOOP: lambda: same(
        felt={"transport": 0.15, "vad_delay": 0.25, "emit": 0.1},
        server=STOPS,
        host={"http_round_trip_s": bursts(0.003, 0.35)},
    ),
    Cause.AUDIO_BACKLOG: lambda: each(
        two={"felt": {"vad_delay": 0.5}, "server": {"rtvc_inbox_backlog_max_seconds": 0.5}},
        many={
            "felt": {"vad_delay": lambda second: 0.3 + 0.1 * second},
            "server": {"rtvc_inbox_backlog_max_seconds": lambda second: 0.3 + 0.1 * second},
        },
    ),
    Cause.HIDDEN_BACKLOG: lambda: same(felt={"transport": 0.8}),
    Cause.INFERENCE_SATURATED: saturated,
    Cause.SERIALISED_INFERENCE: serialised,
    Cause.DEVICE_CONTENTION: contended,
    Cause.DEVICE_THROTTLING: throttled,
    Cause.PARTIALS_STARVING_FINALS: starved,
    Cause.MODEL_PER_SESSION: per_session,
    Cause.COLD_START: cold,
    Cause.MEMORY_EXHAUSTION: leaking,
    Cause.ENGINE_FAILING: failing,
    Cause.GENERATOR_SATURATED: late_generator,
}

SOURCES = ("segments", "server", "host", "attempts", "turns")


def without(evidence: Evidence, gone: Sequence[str]) -> Evidence:
    return Evidence([_without(one, gone) for one in evidence.phases])


def _without(one: Phase, gone: Sequence[str]) -> Phase:
    kept = one.turns
    if "segments" in gone:
        kept = [replace(turn, felt={}, reply={}, hidden={}) for turn in kept]
    return replace(
        one,
        turns=[] if "turns" in gone else kept,
        server=Readings([]) if "server" in gone else one.server,
        host=Readings([]) if "host" in gone else one.host,
        attempts=[] if "attempts" in gone else one.attempts,
    )
