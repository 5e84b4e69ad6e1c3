"""Every cause on evidence written by hand, beside what looks most like it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.profile.diagnose.causes import find
from rtvc.profile.diagnose.evidence import Attempt, Evidence, Phase, Turn
from rtvc.profile.diagnose.finding import REMEDIES, Cause
from rtvc.profile.diagnose.series import Readings
from rtvc.profile.diagnose.verdict import diagnosis_of
from rtvc.profile.diagnose.wording import SAID
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
    host = {"host_cpu_ratio": 0.98, "other_cpu_cores": 2.5, "server_cpu_cores": 1.2}
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


@pytest.mark.parametrize("cause", list(Cause))
def test_each_cause_is_the_only_one_named_in_its_own_world(cause: Cause) -> None:
    assert diagnosis_of(WORLDS[cause]()).causes == [cause]


def test_every_cause_has_words_and_a_remedy() -> None:
    assert set(SAID) == set(Cause)
    assert set(REMEDIES) == set(Cause) - {Cause.HEALTHY}


@pytest.mark.parametrize("cause", list(Cause))
def test_no_share_is_larger_than_the_delay_it_is_of(cause: Cause) -> None:
    for finding in find(WORLDS[cause]()):
        assert 0 <= finding.share_s <= finding.of_s + 1e-9
        assert finding.proof


# Lookalikes: the same symptom, another cause; each differs from its neighbour in one thing.


def test_a_busy_server_of_its_own_making_is_not_contended() -> None:
    assert Cause.DEVICE_CONTENTION not in named(saturated())
    assert Cause.INFERENCE_SATURATED not in named(contended())


def test_waits_on_a_full_device_are_saturation_and_on_an_idle_one_a_lock() -> None:
    waits = {
        "felt": {"queue_wait": 0.7, "encode": 0.2},
        "service": 0.21,
        "wait": 0.8,
        "partial_every_s": 1.4,
        "partial_service": 0.2,
    }
    alone = {"felt": {"encode": 0.02}, "service": 0.2, "partial_every_s": 1.0}
    full = {"host_cpu_ratio": 0.96, "server_cpu_cores": 3.6}
    room = {"host_cpu_ratio": 0.4, "server_cpu_cores": 1.0}
    assert first(each(one=alone, many={**waits, "host": full})) is Cause.INFERENCE_SATURATED
    assert first(each(one=alone, many={**waits, "host": room})) is Cause.SERIALISED_INFERENCE


def test_shared_batches_are_no_lock() -> None:
    evidence = serialised()
    batched = phase(
        "many",
        felt={"queue_wait": 0.7, "encode": 0.2},
        service=0.21,
        wait=0.8,
        batch=3.0,
        partial_every_s=1.4,
        partial_service=0.2,
        host={"host_cpu_ratio": 0.4, "server_cpu_cores": 1.0},
    )
    changed = Evidence([*evidence.phases[:2], batched])
    assert Cause.SERIALISED_INFERENCE not in named(changed)


def test_partials_at_a_useful_pace_do_not_starve_finals() -> None:
    slow = [
        phase(
            one.name,
            felt={"queue_wait": 0.6, "encode": 0.3},
            service=0.35,
            wait=0.3,
            partial_service=0.4,
            partial_every_s=1.5,
            host={"host_cpu_ratio": 0.95, "server_cpu_cores": 3.5},
        )
        for one in same().phases
    ]
    assert first(Evidence(slow)) is Cause.INFERENCE_SATURATED
    assert Cause.PARTIALS_STARVING_FINALS not in named(Evidence(slow))


def test_slow_at_the_same_pace_from_begin_to_end_is_not_throttled() -> None:
    busy = {"host_cpu_ratio": 0.95, "server_cpu_cores": 3.5}
    steady = same(
        felt={"queue_wait": 0.3, "encode": 0.7},
        service=0.9,
        partial_service=0.9,
        partial_every_s=1.6,
        host=busy,
    )
    assert first(steady) is Cause.INFERENCE_SATURATED
    assert Cause.DEVICE_THROTTLING not in named(steady)


def test_a_gpu_that_says_so_is_throttled() -> None:
    gpu: dict[str, Value] = {
        "gpu0_utilisation_ratio": 0.9,
        "gpu0_memory_used_bytes": 4e9,
        "gpu0_throttled": 1.0,
        "gpu0_sm_clock_hz": 0.8e9,
        "gpu0_max_sm_clock_hz": 1.9e9,
    }
    evidence = same(felt={"encode": 0.6}, service=0.7, host=gpu)
    assert first(evidence) is Cause.DEVICE_THROTTLING


def test_others_on_the_gpu_contend_for_it() -> None:
    gpu: dict[str, Value] = {
        "gpu0_utilisation_ratio": 0.98,
        "gpu0_memory_used_bytes": 9e9,
        "gpu0_other_memory_bytes": 5e9,
    }
    evidence = same(felt={"encode": 0.6}, service=0.3, partial_service=0.2, host=gpu)
    assert first(evidence) is Cause.DEVICE_CONTENTION


def test_a_gpu_that_only_others_use_is_not_the_device() -> None:
    gpu: dict[str, Value] = {
        "gpu0_utilisation_ratio": 0.98,
        "gpu0_memory_used_bytes": 9e9,
        "gpu0_other_memory_bytes": 9e9,
    }
    assert first(same(host=gpu)) is Cause.HEALTHY


def test_a_far_server_is_the_network_and_a_near_one_hides_a_backlog() -> None:
    far = same(felt={"transport": 0.4}, host={"http_round_trip_s": 0.39})
    near = same(felt={"transport": 0.4})
    assert named(far) == {Cause.NETWORK}
    assert named(near) == {Cause.HIDDEN_BACKLOG}


def test_a_backlog_that_the_server_counts_is_not_hidden() -> None:
    felt: dict[str, Value] = {"vad_delay": 0.7}
    counted = same(felt=felt, server={"rtvc_inbox_backlog_max_seconds": 0.7})
    assert named(counted) == {Cause.AUDIO_BACKLOG}
    assert named(same(felt=felt)) == {Cause.HIDDEN_BACKLOG}


def test_what_arrives_while_the_loop_stands_still_is_no_backlog() -> None:
    server = {**STOPS, "rtvc_inbox_backlog_max_seconds": 0.3}
    evidence = same(felt={"vad_delay": 0.3, "transport": 0.2}, server=server)
    assert first(evidence) is Cause.BLOCKED_EVENT_LOOP
    assert Cause.AUDIO_BACKLOG not in named(evidence)


def test_a_loop_that_waits_for_a_cpu_is_not_blocked() -> None:
    lag: dict[str, Value] = {"rtvc_event_loop_lag_seconds_sum": lambda second: 0.15 * second}
    host = {"host_cpu_ratio": 0.98, "other_cpu_cores": 2.5, "server_cpu_cores": 1.2}
    evidence = same(
        felt={"queue_wait": 0.15, "encode": 0.45}, service=0.6, wait=0.2, host=host, server=lag
    )
    assert named(evidence) == {Cause.DEVICE_CONTENTION}


def test_slow_connections_without_a_process_each_are_not_models() -> None:
    assert Cause.MODEL_PER_SESSION not in named(same(connection_s=2.0))


def test_only_the_first_connection_slow_is_a_cold_start() -> None:
    evidence = each(one={"connection_s": 4.0})
    assert named(evidence) == {Cause.COLD_START}


def test_memory_that_steps_with_sessions_is_not_a_leak() -> None:
    assert Cause.MEMORY_EXHAUSTION not in named(per_session())


def test_restarts_after_memory_grew_are_its_end() -> None:
    assert Cause.ENGINE_FAILING not in named(leaking())


def test_a_policy_at_its_default_is_healthy_and_a_long_one_is_not() -> None:
    assert named(same(felt={"endpoint_wait": 0.33})) == {Cause.HEALTHY}
    assert named(same(felt={"endpoint_wait": 0.6})) == {Cause.ENDPOINT_WAIT}


def test_a_hosted_language_model_is_not_slow() -> None:
    assert named(same(reply={"llm_ttft": 0.35, "llm_sentence": 0.15})) == {Cause.HEALTHY}


def test_a_slow_small_machine_within_its_targets_is_healthy() -> None:
    busy = {"host_cpu_ratio": 0.7, "server_cpu_cores": 2.4}
    evidence = same(felt={"encode": 0.08, "queue_wait": 0.03}, service=0.2, host=busy)
    assert named(evidence) == {Cause.HEALTHY}


def test_a_generator_late_because_the_machine_is_full_voids_nothing() -> None:
    phases = [replace(one, lag_p99_s=0.05) for one in contended().phases]
    diagnosis = diagnosis_of(Evidence(phases))
    assert not diagnosis.void
    assert diagnosis.causes[0] is Cause.DEVICE_CONTENTION


# Two at once.


@pytest.mark.parametrize(
    ("evidence", "both"),
    [
        (
            same(felt={"endpoint_wait": 0.9}, reply={"llm_ttft": 1.5}),
            {Cause.ENDPOINT_WAIT, Cause.SLOW_LLM},
        ),
        (
            same(reply={"llm_ttft": 1.5, "tts_ttfb": 0.9}),
            {Cause.SLOW_LLM, Cause.SLOW_TTS},
        ),
        (
            same(felt={"transport": 0.31, "endpoint_wait": 0.9}, host={"http_round_trip_s": 0.3}),
            {Cause.NETWORK, Cause.ENDPOINT_WAIT},
        ),
        (
            same(felt={"transport": 0.9}, host={"http_round_trip_s": 0.3}),
            {Cause.NETWORK, Cause.HIDDEN_BACKLOG},
        ),
    ],
)
def test_both_of_two_causes_are_named(evidence: Evidence, both: set[Cause]) -> None:
    assert named(evidence) == both


def test_starving_partials_and_a_model_a_session_are_both_named() -> None:
    phases = [
        replace(one, attempts=other.attempts, host=other.host, server=_joined(one, other))
        for one, other in zip(starved().phases, per_session().phases, strict=True)
    ]
    assert {Cause.MODEL_PER_SESSION, Cause.PARTIALS_STARVING_FINALS} <= named(Evidence(phases))


def _joined(one: Phase, other: Phase) -> Readings:
    """The first one's readings with the other's processes."""
    processes = "rtvc_engine_processes"
    own = {name: one.server for name in one.server.names() if name != processes}
    return Readings(
        SampleRow(at_s, "server", name, value)
        for name, source in {**own, processes: other.server}.items()
        for at_s, value in source.readings_of(name)
    )


# Whatever is missing.

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


@settings(deadline=None, max_examples=60)
@given(
    cause=st.sampled_from(list(Cause)),
    gone=st.lists(st.sampled_from(SOURCES), unique=True),
    phases=st.integers(1, 3),
)
def test_nothing_absent_breaks_a_rule(cause: Cause, gone: list[str], phases: int) -> None:
    evidence = without(Evidence(WORLDS[cause]().phases[-phases:]), gone)
    diagnosis = diagnosis_of(evidence)
    assert diagnosis.sentence
    assert all(f.share_s <= f.of_s + 1e-9 for f in diagnosis.findings)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), cause=st.sampled_from(list(Cause)))
def test_no_metric_is_indispensable(data: st.DataObject, cause: Cause) -> None:
    evidence = WORLDS[cause]()
    names = sorted({name for one in evidence.phases for name in one.server.names()})
    hosts = sorted({name for one in evidence.phases for name in one.host.names()})
    lost = set(data.draw(st.lists(st.sampled_from(names + hosts), unique=True)))
    phases = [
        replace(one, server=_left(one.server, lost), host=_left(one.host, lost))
        for one in evidence.phases
    ]
    assert diagnosis_of(Evidence(phases)).sentence


def _left(readings: Readings, lost: set[str]) -> Readings:
    return Readings(
        SampleRow(at_s, "server", name, value)
        for name in readings.names()
        if name not in lost
        for at_s, value in readings.readings_of(name)
    )


@settings(deadline=None, max_examples=60)
@given(
    scale=st.lists(st.floats(0.8, 1.2), min_size=30, max_size=30),
    service=st.floats(0.01, 0.15),
    others=st.floats(0.0, 0.3),
    endpoint_s=st.floats(0.22, 0.3),
    gone=st.lists(st.sampled_from(SOURCES[:3]), unique=True),
)
def test_a_healthy_server_stays_healthy_in_any_noise(
    scale: list[float], service: float, others: float, endpoint_s: float, gone: list[str]
) -> None:
    def noisy(value: float) -> Value:
        return lambda second: value * scale[int(second) % len(scale)]

    evidence = same(
        felt={"endpoint_wait": noisy(endpoint_s), "encode": noisy(0.02), "transport": noisy(0.01)},
        reply={"llm_ttft": noisy(0.2)},
        service=noisy(service),
        partial_service=noisy(service),
        host={"other_cpu_cores": noisy(others), "http_round_trip_s": noisy(0.003)},
        server={"rtvc_inbox_backlog_max_seconds": noisy(0.03)},
    )
    assert diagnosis_of(without(evidence, gone)).causes == [Cause.HEALTHY]


# What other servers allow.


def test_of_a_server_without_segments_the_report_says_what_is_not_seen() -> None:
    bare = without(WORLDS[Cause.ENDPOINT_WAIT](), ("segments", "server"))
    diagnosis = diagnosis_of(bare)
    assert diagnosis.causes == [Cause.ENDPOINT_WAIT]
    assert any("hidden backlog" in note for note in diagnosis.findings[0].notes)
    assert any("segments" in gap for gap in diagnosis.unseen)
    assert any("/metrics" in gap for gap in diagnosis.unseen)


def test_a_slow_reply_without_segments_names_both_that_it_could_be() -> None:
    bare = without(WORLDS[Cause.SLOW_TTS](), ("segments", "server"))
    slower = Evidence(
        [
            replace(one, turns=[replace(turn, latency_s=turn.delay_s + 2.0) for turn in one.turns])
            for one in bare.phases
        ]
    )
    diagnosis = diagnosis_of(slower)
    assert diagnosis.causes == [Cause.SLOW_LLM]
    assert any("voice" in note for note in diagnosis.findings[0].notes)


def test_models_a_session_show_in_connections_and_memory_without_metrics() -> None:
    evidence = without(per_session(), ("segments", "server"))
    assert first(evidence) is Cause.MODEL_PER_SESSION


def test_too_slow_for_no_reason_that_was_measured_is_undecided() -> None:
    evidence = each(many={"felt": {"a_segment_of_theirs": 2.0}})
    diagnosis = diagnosis_of(evidence)
    assert diagnosis.causes == []
    assert diagnosis.undecided
    assert diagnosis.exit_code == 3


def test_a_server_that_ended_its_sessions_failed() -> None:
    phases = [
        replace(one, attempts=[replace(attempt, outcome="lost") for attempt in one.attempts])
        for one in same().phases
    ]
    diagnosis = diagnosis_of(Evidence(phases))
    assert diagnosis.causes == [Cause.ENGINE_FAILING]
    assert "0 ms of it" not in diagnosis.sentence


def test_answers_that_are_lost_while_others_come_in_time_are_a_failure() -> None:
    lost = without(Evidence([phase("many", missing_between=(6.0, 10.0))]), ("server", "segments"))
    assert first(lost) is Cause.ENGINE_FAILING


def test_one_slow_turn_does_not_make_a_full_engine() -> None:
    busy = {"host_cpu_ratio": 0.97, "server_cpu_cores": 3.6}
    once = same(felt={"queue_wait": lambda second: 3.0 if 10 < second < 12 else 0.0}, host=busy)
    assert Cause.INFERENCE_SATURATED not in named(once)
    assert Cause.INFERENCE_SATURATED in named(same(felt={"queue_wait": 0.5}, host=busy))


def test_partials_that_give_way_under_load_are_not_to_blame() -> None:
    evidence = starved()
    yielding = phase(
        "many",
        felt={"queue_wait": 0.6, "encode": 0.3},
        service=0.35,
        partial_service=0.4,
        partial_every_s=2.4,
        wait=0.6,
        host={"host_cpu_ratio": 0.9, "server_cpu_cores": 3.2},
    )
    assert Cause.PARTIALS_STARVING_FINALS in named(evidence)
    changed = Evidence([phase("one"), *evidence.phases[1:2], yielding])
    assert Cause.PARTIALS_STARVING_FINALS not in named(changed)


def test_inference_times_that_only_scatter_are_no_trend() -> None:
    def scattered(second: float) -> float:
        return 0.3 * (1.4 if int(second) % 4 == 0 else 0.9)

    busy = {"host_cpu_ratio": 0.95, "server_cpu_cores": 3.5}
    evidence = same(felt={"encode": 0.5}, service=scattered, partial_service=scattered, host=busy)
    assert first(evidence) is Cause.INFERENCE_SATURATED
    assert Cause.DEVICE_THROTTLING not in named(evidence)


def test_causes_of_different_delays_do_not_silence_each_other() -> None:
    slow = same(felt={"endpoint_wait": 0.8}, connection_s=9.0)
    grown = [
        replace(
            one,
            server=Readings(
                SampleRow(float(second), "server", "rtvc_engine_processes", float(one.speakers))
                for second in range(1, SECONDS)
            ),
        )
        for one in slow.phases
    ]
    assert named(Evidence(grown)) == {Cause.MODEL_PER_SESSION, Cause.ENDPOINT_WAIT}


def test_memory_that_only_scatters_is_no_leak() -> None:
    def scattered(second: float) -> float:
        return 8e8 + 2e7 * ((7 * int(second)) % 5)

    assert named(same(host={"server_memory_bytes": scattered})) == {Cause.HEALTHY}


def test_a_cold_language_model_is_not_a_slow_one() -> None:
    evidence = same(reply={"llm_ttft": lambda second: 3.0 if second < 6 else 0.15})
    assert named(evidence) == {Cause.COLD_START}
    assert diagnosis_of(evidence).findings[0].delay == "response latency"


def test_children_that_the_server_does_not_count_are_others() -> None:
    """A neighbour that the server's own process started takes three of four CPUs."""
    host = {**HOST, "server_cpu_cores": 3.6, "host_cpu_ratio": 0.95}
    own: dict[str, Value] = {
        'rtvc_process_cpu_seconds_total{process="server"}': lambda second: 0.2 * second,
        'rtvc_process_cpu_seconds_total{process="engine"}': lambda second: 0.4 * second,
    }
    slow = {"decode": 0.4}
    crowded = same(host=host, server=own, felt=slow, service=0.5)
    assert crowded.many.others_ratio == pytest.approx((0.1 + 3.0) / 4, rel=0.1)
    assert first(crowded) is Cause.DEVICE_CONTENTION
    assert Cause.DEVICE_CONTENTION not in named(same(host=host, felt=slow, service=0.5))


def test_a_machine_mostly_in_other_hands_is_told_while_it_still_answers_in_time() -> None:
    taken = {**HOST, "other_cpu_cores": 3.0, "host_cpu_ratio": 0.99}
    assert first(same(host=taken)) is Cause.DEVICE_CONTENTION
    half_idle = {**HOST, "other_cpu_cores": 3.0, "host_cpu_ratio": 0.8}
    assert first(same(host=half_idle)) is Cause.HEALTHY


def test_a_loop_that_stands_still_a_third_of_the_time_is_told_whatever_it_costs() -> None:
    def stutters(share: float) -> Evidence:
        lag: dict[str, Value] = {
            "rtvc_event_loop_lag_seconds_sum": lambda second: share * second,
        }
        return same(server=lag)

    assert first(stutters(0.33)) is Cause.BLOCKED_EVENT_LOOP
    assert first(stutters(0.01)) is Cause.HEALTHY


def test_memory_that_grows_between_restarts_is_the_end_of_it() -> None:
    """Up by 200 MB a second for five seconds, then a new process; or a model that only reloads."""
    restarts: dict[str, Value] = {"rtvc_engine_restarts_total": lambda second: second // 6}

    def growing(second: float) -> float:
        return 400e6 + 200e6 * (second % 6)

    def reloading(second: float) -> float:
        return 100e6 if second % 6 < 1 else 800e6

    def world(memory: Value) -> Evidence:
        return same(host={**HOST, "server_memory_bytes": memory}, server=restarts)

    assert first(world(growing)) is Cause.MEMORY_EXHAUSTION
    assert first(world(reloading)) is Cause.ENGINE_FAILING
