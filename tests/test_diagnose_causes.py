"""Every cause on evidence written by hand, beside what looks most like it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from rtvc.profile.diagnose.causes import find
from rtvc.profile.diagnose.evidence import Evidence, Phase
from rtvc.profile.diagnose.finding import REMEDIES, Cause
from rtvc.profile.diagnose.series import Readings
from rtvc.profile.diagnose.verdict import diagnosis_of
from rtvc.profile.diagnose.wording import SAID
from rtvc.record import SampleRow
from tests.diagnosis_evidence import (
    STOPS,
    WORLDS,
    contended,
    each,
    first,
    leaking,
    named,
    per_session,
    phase,
    same,
    saturated,
    serialised,
    starved,
)

Value = float | Callable[[float], float]
"""A figure, or one that changes with the seconds of the phase."""


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
    host = {"host_cpu_ratio": 0.98, "other_cpu_cores": 3.2, "server_cpu_cores": 0.6}
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
