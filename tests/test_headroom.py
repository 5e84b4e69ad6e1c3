"""Cadence and headroom: finals keep their delay, and no session is let in that breaks it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.stt.headroom import (
    BatchCost,
    CostMeter,
    Load,
    LoadMeter,
    Targets,
    fits,
    headroom_sessions,
    partial_interval_s,
    partial_workers,
)
from rtvc.stt.tickets import Limits
from rtvc.stt.transcriber import JobKind
from tests.stt_simulation import Outcome, Simulation, World, knee

TARGETS = Targets()
COST = BatchCost(0.02, 0.05)
LOAD = Load(2, 4, sessions=5, urgent_per_s=1.0, talking=2.0, urgent=COST, partial=COST)

WORLDS = {
    "no gain from batches": World(urgent=BatchCost(0.0, 0.1), limits=Limits(max_batch=1)),
    "slow, some gain": World(urgent=BatchCost(0.03, 0.1), limits=Limits(max_batch=4)),
    "batches nearly free": World(urgent=BatchCost(0.12, 0.01), limits=Limits(max_batch=16)),
}

costs = st.builds(BatchCost, st.floats(0.001, 0.2), st.floats(0.001, 0.2))
loads = st.builds(
    Load,
    st.integers(1, 8),
    st.integers(1, 16),
    sessions=st.integers(0, 100),
    urgent_per_s=st.floats(0, 50),
    talking=st.floats(0, 100),
    urgent=costs,
    partial=costs,
    urgent_wait_s=st.floats(0, 2),
)


@given(load=loads)
@settings(deadline=None, max_examples=100)
def test_partials_come_between_their_fastest_and_their_slowest(load: Load) -> None:
    seconds = partial_interval_s(load, TARGETS)
    assert TARGETS.fastest_interval_s <= seconds <= TARGETS.slowest_interval_s


@given(load=loads, more=st.floats(0, 20))
@settings(deadline=None, max_examples=100)
def test_more_load_never_makes_partials_more_frequent(load: Load, more: float) -> None:
    busier = replace(
        load,
        urgent_per_s=load.urgent_per_s + more,
        talking=load.talking + more,
        urgent_wait_s=load.urgent_wait_s + more / 20,
    )
    assert partial_interval_s(busier, TARGETS) >= partial_interval_s(load, TARGETS)


def test_partials_are_fast_when_idle_and_slow_when_finals_need_the_workers() -> None:
    assert partial_interval_s(LOAD, TARGETS) == TARGETS.fastest_interval_s
    busy = replace(LOAD, urgent_per_s=25.0, talking=20.0)
    assert partial_interval_s(busy, TARGETS) == TARGETS.slowest_interval_s


@given(load=loads)
@settings(deadline=None, max_examples=60)
def test_headroom_ends_where_sessions_no_longer_fit(load: Load) -> None:
    room = headroom_sessions(load, TARGETS)
    assert room >= 0
    if room > 0:
        assert fits(load.sessions + room * 0.999, load, TARGETS)
    if load.sessions + room < 1e4:
        assert not fits(load.sessions + room + 0.1, load, TARGETS)


def test_finals_that_are_late_already_close_the_door() -> None:
    assert headroom_sessions(LOAD, TARGETS) > 1
    assert headroom_sessions(replace(LOAD, urgent_delay_s=TARGETS.delay_s), TARGETS) == 0


@pytest.mark.parametrize(("workers", "expected"), [(1, 1), (2, 1), (8, 7)])
def test_a_worker_is_kept_free_for_finals(workers: int, expected: int) -> None:
    assert partial_workers(workers) == expected


def test_the_cost_of_a_batch_is_learned() -> None:
    meter = CostMeter(BatchCost(0.0, 0.0))
    for number in range(100):
        size = 1 + number % 4
        meter.served(size, 0.05 + 0.02 * size)
    assert meter.cost.base_s == pytest.approx(0.05, abs=0.005)
    assert meter.cost.each_s == pytest.approx(0.02, abs=0.002)
    assert meter.variation == pytest.approx(0, abs=0.1)


def test_until_batches_were_seen_their_gain_is_as_calibrated() -> None:
    meter = CostMeter(BatchCost(0.08, 0.02))
    for _ in range(50):
        meter.served(1, 0.2)
    assert meter.cost.batch_s(1) == pytest.approx(0.2)
    assert meter.cost.batch_s(4) == pytest.approx(0.32)


def test_nothing_measured_is_no_headroom_known() -> None:
    meter = LoadMeter(2, 4, prior=COST)
    for _ in range(5):
        assert meter.advise(0.0).headroom_sessions is None
        meter.served([JobKind.FINAL] * 4, 0.2)
    assert meter.advise(0.0).headroom_sessions is not None


def test_sessions_that_never_speak_leave_room_for_more() -> None:
    meter = LoadMeter(2, 4, prior=COST)
    meter.served([JobKind.FINAL] * 20, 0.2)
    for _ in range(10):
        meter.opened(0.0)
    before = meter.advise(0.1).headroom_sessions
    after = meter.advise(600.0).headroom_sessions
    assert before is not None
    assert after is not None
    assert after > 3 * before


def test_what_a_session_asks_is_measured() -> None:
    meter = LoadMeter(2, 4, prior=COST)
    meter.opened(0.0)
    for second in range(600):
        meter.load(float(second))
        meter.asked("a", JobKind.PARTIAL, float(second))
        if second % 10 == 9:
            meter.asked("a", JobKind.SPECULATIVE, second + 0.5)
    load = meter.load(600.0)
    assert load.urgent_per_session_s == pytest.approx(0.1, rel=0.4)
    assert load.talking == 0
    meter.closed("a", 600.0)
    assert meter.load(601.0).sessions == 0


# Simulated: speakers, the real scheduler, made-up service times


def run(world: World) -> Outcome:
    return Simulation(world).run()


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("speakers", [8, 16, 24])
def test_three_times_the_partials_do_not_move_the_finals(name: str, speakers: int) -> None:
    """Where the engine has room they are made; where it has none they are put off."""
    world = replace(WORLDS[name], speakers=speakers, interval_s=1.2)
    once, thrice = run(world), run(replace(world, interval_s=0.4))
    roomy = speakers == 8 and not name.startswith("slow")
    assert thrice.partials > (2 if roomy else 1.0) * once.partials
    assert thrice.p95_s <= 1.2 * once.p95_s


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_admission_stays_below_the_knee_and_comes_near_it(name: str) -> None:
    world = WORLDS[name]
    most = knee(world)
    ramp_s = 150.0
    offered = round(1.5 * most) + 3
    outcome = run(
        replace(
            world,
            speakers=offered,
            arrive_every_s=ramp_s / offered,
            warm_up_s=ramp_s + 10,
            duration_s=2 * ramp_s,
        )
    )
    assert outcome.held
    assert 0.8 * most <= outcome.admitted <= most + 1


@pytest.mark.slow
def test_beyond_the_knee_partials_give_way_before_finals_do() -> None:
    world = WORLDS["no gain from batches"]
    most = knee(world)
    over = run(replace(world, speakers=round(1.25 * most)))
    assert over.p95_s <= 0.5
    assert over.median_interval_s > 1.5
