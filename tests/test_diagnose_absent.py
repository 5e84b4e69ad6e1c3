"""The rules where figures are missing or scatter, and on servers that are not ours."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.profile.diagnose.evidence import Evidence
from rtvc.profile.diagnose.finding import Cause
from rtvc.profile.diagnose.series import Readings
from rtvc.profile.diagnose.verdict import diagnosis_of
from rtvc.record import SampleRow
from tests.diagnosis_evidence import (
    HOST,
    SECONDS,
    SOURCES,
    WORLDS,
    each,
    first,
    named,
    per_session,
    phase,
    same,
    starved,
    without,
)

Value = float | Callable[[float], float]
"""A figure, or one that changes with the seconds of the phase."""


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
    host = {
        **HOST,
        "server_cpu_cores": 3.6,
        "host_cpu_ratio": 0.95,
        "server_processes": 3.0,
    }
    own: dict[str, Value] = {
        'rtvc_process_cpu_seconds_total{process="server"}': lambda second: 0.2 * second,
        'rtvc_process_cpu_seconds_total{process="engine"}': lambda second: 0.4 * second,
    }
    slow = {"decode": 0.4}
    crowded = same(host=host, server=own, felt=slow, service=0.5)
    assert crowded.many.others_ratio == pytest.approx((0.1 + 3.0) / 4, rel=0.1)
    assert first(crowded) is Cause.DEVICE_CONTENTION
    assert Cause.DEVICE_CONTENTION not in named(same(host=host, felt=slow, service=0.5))


def test_a_machine_mostly_in_other_hands_is_told_once_a_tenth_of_the_delay_is_theirs() -> None:
    taken = {**HOST, "other_cpu_cores": 3.0, "host_cpu_ratio": 0.99}
    slow = {"encode": 0.08}
    assert first(same(host=taken, felt=slow)) is Cause.DEVICE_CONTENTION
    assert first(same(host=taken)) is Cause.HEALTHY
    half_idle = {**HOST, "other_cpu_cores": 3.0, "host_cpu_ratio": 0.8}
    assert first(same(host=half_idle, felt=slow)) is Cause.HEALTHY


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
