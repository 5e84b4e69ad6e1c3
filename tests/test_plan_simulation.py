"""The simulation against closed formulas, against the real session, and against itself."""

import math
import random
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.plan.arrangement import Model, Wanted, arrange
from rtvc.plan.erlang import waiting
from rtvc.plan.events import Calendar
from rtvc.plan.processor import DISTURBANCE, Box, Processor
from rtvc.plan.service import ServiceTimes
from rtvc.plan.simulation import Outcome, Setup, simulate
from rtvc.plan.station import Station
from rtvc.plan.talk import FRAME_S, Listening
from rtvc.stats import quantile
from rtvc.stt.tickets import Limits, Ticket
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, Job, JobKind
from rtvc.voice.endpointing import EndpointingSettings
from rtvc.voice.session import (
    FinalTranscript,
    Frame,
    Purpose,
    SpeechStopped,
    Transcribe,
    VoiceEvent,
    VoiceSession,
    VoiceSettings,
)
from tests.plan_worlds import TALK, times

AUDIO = np.zeros(SAMPLE_RATE_HZ, np.float32)


@dataclass
class Queue:
    """A station that is given finals of strangers, and how long each was there."""

    workers: int
    work_s: list[float]
    calendar: Calendar = field(default_factory=Calendar)
    stays_s: list[float] = field(default_factory=list)
    station: Station = field(init=False)
    begun: int = 0

    def __post_init__(self) -> None:
        self.station = Station(
            self.calendar,
            Processor(self.calendar, lambda _: 1.0),
            self,
            self._next_work_s,
            workers=self.workers,
            limits=Limits(max_batch=1, max_held=10**9),
        )

    def _next_work_s(self, _: object) -> float:
        self.begun += 1
        return self.work_s[self.begun - 1]

    def answered(self, ticket: Ticket) -> None:
        self.stays_s.append(self.calendar.now_s - ticket.job.enqueued_at_s)

    def lost(self, ticket: Ticket) -> None:
        raise AssertionError(f"strangers do not supersede each other: {ticket}")

    def run(self, arrivals_s: list[float]) -> list[float]:
        """Seconds that each was there, in the order in which they left."""
        for number, at_s in enumerate(arrivals_s):
            self.calendar.at(at_s, partial(self._arrive, number, at_s))
        self.calendar.run_until(math.inf)
        return self.stays_s

    def _arrive(self, number: int, at_s: float) -> None:
        job = Job(f"s{number}", f"i{number}", JobKind.FINAL, 0, AUDIO, at_s)
        assert self.station.submit(job)


def poisson(count: int, rate: float, rng: random.Random) -> list[float]:
    at_s, found = 0.0, []
    for _ in range(count):
        at_s += rng.expovariate(rate)
        found.append(at_s)
    return found


# Against closed formulas


@pytest.mark.slow
@pytest.mark.parametrize(("load", "near"), [(0.5, 0.12), (0.7, 0.18)])
def test_one_worker_with_random_service_waits_as_m_m_1(load: float, near: float) -> None:
    """Mean wait ρ·s ÷ (1 − ρ) (Kleinrock, volume 1, §3.2)."""
    rng, count, work_s = random.Random(1), 30_000, 0.1
    service = [rng.expovariate(1 / work_s) for _ in range(count)]
    stays = Queue(1, service).run(poisson(count, load / work_s, rng))
    expected_s = load * work_s / (1 - load)
    assert fmean(stays) - fmean(service) == pytest.approx(expected_s, rel=near)


@pytest.mark.slow
@pytest.mark.parametrize(("load", "near"), [(0.5, 0.1), (0.7, 0.15)])
def test_one_worker_with_fixed_service_waits_as_m_d_1(load: float, near: float) -> None:
    """Mean wait ρ·s ÷ (2·(1 − ρ)) (Pollaczek and Khinchine; Kleinrock, volume 1, §5.6)."""
    rng, count, work_s = random.Random(2), 30_000, 0.1
    stays = Queue(1, [work_s] * count).run(poisson(count, load / work_s, rng))
    expected_s = load * work_s / (2 * (1 - load))
    assert fmean(stays) - work_s == pytest.approx(expected_s, rel=near)


@pytest.mark.slow
def test_several_workers_make_wait_whom_erlang_c_says() -> None:
    rng, count, work_s, workers, erlangs = random.Random(3), 30_000, 0.1, 3, 1.5
    service = [rng.expovariate(1 / work_s) for _ in range(count)]
    stays = Queue(workers, service).run(poisson(count, erlangs / work_s, rng))
    expected_s = waiting(workers, erlangs) * work_s / (workers - erlangs)
    assert fmean(stays) - fmean(service) == pytest.approx(expected_s, rel=0.18)


@given(
    gaps=st.lists(st.floats(0.001, 0.3), min_size=1, max_size=40),
    longer=st.floats(1.0, 3.0),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_more_service_time_never_means_a_shorter_stay(
    gaps: list[float], longer: float, data: st.DataObject
) -> None:
    """One worker, in order of arrival: Lindley's recursion is monotone in the service times."""
    sizes = st.lists(st.floats(0.001, 0.3), min_size=len(gaps), max_size=len(gaps))
    work = data.draw(sizes)
    arrivals = np.cumsum(gaps).tolist()
    quick = Queue(1, work).run(arrivals)
    slow = Queue(1, [longer * each for each in work]).run(arrivals)
    assert all(after >= before - 1e-9 for before, after in zip(quick, slow, strict=True))
    assert quick == pytest.approx(lindley(arrivals, work), abs=1e-6)


def lindley(arrivals_s: list[float], work_s: list[float]) -> list[float]:
    """Seconds that each was there: whoever comes waits until all before it are done."""
    free_at_s, stays = 0.0, []
    for at_s, each_s in zip(arrivals_s, work_s, strict=True):
        free_at_s = max(free_at_s, at_s) + each_s
        stays.append(free_at_s - at_s)
    return stays


# What inferences share


def test_two_at_once_on_one_gpu_take_twice_as_long() -> None:
    calendar, ended = Calendar(), list[tuple[str, float]]()
    processor = Processor(calendar, lambda running: float(running))
    processor.run(1.0, lambda: ended.append(("long", calendar.now_s)))
    processor.run(0.5, lambda: ended.append(("short", calendar.now_s)))
    calendar.run_until(10)
    assert [name for name, _ in ended] == ["short", "long"]
    assert [at_s for _, at_s in ended] == pytest.approx([1.0, 1.5])
    assert processor.busy_s == pytest.approx(1.5)


def test_who_comes_later_slows_down_only_what_is_left() -> None:
    calendar, ended = Calendar(), list[float]()
    processor = Processor(calendar, lambda running: float(running))
    processor.run(1.0, lambda: ended.append(calendar.now_s))
    calendar.at(0.5, lambda: processor.run(1.0, lambda: ended.append(calendar.now_s)))
    calendar.run_until(10)
    assert ended == [pytest.approx(1.5), pytest.approx(2.0)]


@given(
    cores=st.integers(1, 16),
    threads=st.integers(1, 8),
    sessions=st.integers(0, 500),
    device=st.sampled_from(["cpu", "cuda"]),
    slower=st.floats(1.0, 3.0),
)
@settings(deadline=None, max_examples=80)
def test_more_at_once_never_makes_one_faster(
    cores: int, threads: int, sessions: int, device: str, slower: float
) -> None:
    box = Box(device, cores, threads, ((1, 1.0), (3, slower)), session_cores=0.01)
    found = [box.slowdown(running, sessions) for running in range(1, 20)]
    assert found[0] >= 1
    assert found == sorted(found)
    assert box.slowdown(2, sessions + 50) >= box.slowdown(2, sessions)


def test_threads_that_mostly_wait_leave_their_cores_to_others() -> None:
    asleep = Box("cpu", cores=2, inference_cores=1.0, session_cores=0.005)
    at_work = replace(asleep, inference_cores=2.0)
    assert asleep.slowdown(1, sessions=100) == 1.0
    assert at_work.slowdown(1, sessions=100) == pytest.approx(1 + 0.25 * DISTURBANCE)
    assert asleep.slowdown(4) == pytest.approx(2.0)
    assert at_work.slowdown(4) == pytest.approx(4.0)


def test_cores_that_sessions_take_are_missed_only_once_all_are_busy() -> None:
    box = Box("cpu", cores=4, inference_cores=1, session_cores=0.01)
    assert box.slowdown(2, sessions=100) == 1.0
    assert box.slowdown(4, sessions=100) == pytest.approx(1 + 0.25 * DISTURBANCE)


# A session, against the real one


def silence_until_the_end(listening: Listening, answered_s: float | None) -> tuple[float, int]:
    """Seconds of silence after which the real session asks for, or has, its final; and how many
    texts it was given by then. The speculative text comes `answered_s` after it was asked for."""
    session = VoiceSession(VoiceSettings(endpointing=listening.endpointing, partials=False), str)
    samples = round(FRAME_S * SAMPLE_RATE_HZ)
    pending: tuple[float, Transcribe] | None = None
    texts = 0
    for number in range(200):
        now_s = (number + 1) * FRAME_S
        if pending is not None and pending[0] <= now_s:
            ask = pending[1]
            session.hypothesis(ask.item_id, Purpose.SPECULATIVE, ask.revision, "Yes, that is it.")
            pending, texts = None, texts + 1
        speech = 1.0 if number < 40 else 0.0
        frame = Frame(np.zeros(samples, np.float32), speech, now_s)
        for event in session.feed(frame, now_s):
            if isinstance(event, Transcribe) and event.purpose is Purpose.SPECULATIVE:
                assert answered_s is not None
                pending = (now_s + answered_s, event)
            if _is_end(event):
                return now_s - 40 * FRAME_S, texts
    raise AssertionError("the turn never ended")


def _is_end(event: VoiceEvent) -> bool:
    return isinstance(event, SpeechStopped | FinalTranscript)


@pytest.mark.parametrize("answered_s", [0.01, 0.1, 0.17, 0.2, 0.26, 0.5])
@pytest.mark.parametrize("silence_s", [None, 0.3, 0.5])
def test_a_turn_ends_when_the_real_session_ends_it(
    answered_s: float, silence_s: float | None
) -> None:
    listening = Listening(EndpointingSettings(silence_s=silence_s), heard_late_s=(0.0, 0.0))
    real_s, _ = silence_until_the_end(listening, answered_s)
    # Alone, the final is there when both the silence and the inference are over.
    tried_s = 2 * FRAME_S + answered_s
    setup = _alone(listening, ServiceTimes(times(0.0, 1.0).cost).faster(1 / answered_s))
    outcome = simulate(setup)
    felt_s = max(real_s, tried_s) + listening.sent_s
    assert outcome.delays_s
    assert list(outcome.delays_s) == pytest.approx([felt_s] * len(outcome.delays_s), abs=1e-6)


@pytest.mark.parametrize("message_s", [0.02, 0.06, 0.1])
def test_what_is_said_is_heard_with_the_message_that_it_is_in(message_s: float) -> None:
    service, listening = ServiceTimes(times(0.0, 0.01).cost), Listening(heard_late_s=(0.0, 0.0))
    at_once = simulate(_alone(listening, service)).delays_s
    outcomes = [
        simulate(replace(_alone(listening, service, message_s), seed=seed)) for seed in range(40)
    ]
    later = fmean(fmean(each.delays_s) for each in outcomes) - fmean(at_once)
    assert later == pytest.approx(message_s / 2, abs=0.25 * message_s)


def _alone(listening: Listening, service: ServiceTimes, message_s: float = 0.0) -> Setup:
    model = Model({1: service}, "cpu", full_window=True)
    wanted = Wanted(workers=1, threads=1, max_batch=1)
    talk = replace(TALK, speech_s=(2.0,), inner_pauses=0.0, message_s=message_s)
    return Setup(
        1,
        arrange(model, wanted, cores=1),
        service,
        Box("cpu", 1, 1),
        talk,
        replace(listening, partials="off"),
        measure_s=30.0,
    )


# The whole


def crowd(
    sessions: int,
    *,
    wanted: Wanted | None = None,
    each_s: float = 0.1,
    listening: Listening | None = None,
    cores: int = 2,
    **more: Any,
) -> Setup:
    wanted = wanted or Wanted()
    service = times(0.01, each_s, scatter=(0.8, 1.0, 1.2))
    model = Model({1: service, 2: service.faster(1.5)}, "cpu", full_window=True)
    arrangement = arrange(model, wanted, cores)
    setup = Setup(
        sessions,
        arrangement,
        model.times[model.measured_threads(arrangement.threads)],
        Box("cpu", cores, arrangement.threads),
        TALK,
        listening or Listening(),
        measure_s=60.0,
    )
    return replace(setup, **more)


def p95(outcome: Outcome) -> float:
    found = quantile(outcome.delays_s, 0.95)
    assert found is not None
    return found


def test_the_same_setup_gives_the_same_outcome_and_another_seed_another() -> None:
    assert simulate(crowd(4)) == simulate(crowd(4))
    assert simulate(crowd(4)) != simulate(crowd(4, seed=1))


def test_every_utterance_that_counts_is_counted_once() -> None:
    """A closed loop without delays: utterances = time ÷ (speech + pause)."""
    setup = crowd(5, measure_s=600.0)
    outcome = simulate(setup)
    expected = 5 * 600 / setup.talk.cycle_s
    assert len(outcome.delays_s) == pytest.approx(expected, rel=0.05)
    assert all(math.isfinite(delay) for delay in outcome.delays_s)


def test_more_sessions_and_slower_inferences_mean_longer_delays() -> None:
    few, many = simulate(crowd(2)), simulate(crowd(16))
    slow = simulate(crowd(16, each_s=0.3))
    assert p95(few) < p95(many) < p95(slow)


def test_a_speculative_final_hides_quick_work_in_the_wait() -> None:
    """Alone, the end of the turn is all that is felt."""
    listening = Listening(heard_late_s=(0.0, 0.0))
    delays = simulate(crowd(1, each_s=0.03, listening=listening)).delays_s
    least_s = 8 * FRAME_S + listening.sent_s - 1e-6
    assert all(least_s <= delay_s <= least_s + TALK.message_s + 2e-6 for delay_s in delays)


def test_partials_are_made_rarer_under_load_unless_they_are_flat_out() -> None:
    idle = simulate(crowd(1))
    busy = simulate(crowd(14))
    flat_out = simulate(crowd(14, listening=Listening(partials="flat-out")))
    off = simulate(crowd(14, listening=Listening(partials="off")))
    assert (quantile(idle.intervals_s, 0.5) or 0) < (quantile(busy.intervals_s, 0.5) or 0)
    assert off.intervals_s == ()
    assert off.busy < busy.busy < flat_out.busy


def test_one_engine_for_all_holds_out_longer_than_one_for_each() -> None:
    shared = simulate(crowd(10, wanted=Wanted("shared")))
    own = simulate(crowd(10, wanted=Wanted("per-session")))
    assert p95(shared) < p95(own)
    assert own.headroom_sessions is None
    assert shared.headroom_sessions is not None


def test_a_second_gpu_takes_half_of_the_sessions() -> None:
    one = simulate(crowd(12, each_s=0.2))
    two = simulate(crowd(12, each_s=0.2, wanted=Wanted(gpus=2), gpus=2))
    assert p95(two) < p95(one)


def test_who_finds_no_slot_is_refused() -> None:
    outcome = simulate(crowd(6, max_sessions=4))
    assert (outcome.admitted, outcome.refused) == (4, 2)


def test_the_server_refuses_by_its_own_estimate_if_it_may() -> None:
    """They come so slowly that the engine knows itself by then."""
    slowly = crowd(40, each_s=0.3, arrive_every_s=5.0, ramp_s=1e9, by_headroom=True)
    outcome = simulate(slowly)
    assert 0 < outcome.admitted < 40
    assert outcome.admitted + outcome.refused == 40


def test_finals_that_never_come_are_infinite() -> None:
    outcome = simulate(crowd(30, each_s=4.0))
    assert math.inf in outcome.delays_s


def test_batches_are_made_where_they_pay() -> None:
    cheap = times(0.3, 0.005)
    model = Model({1: cheap}, "cpu", full_window=False)
    arrangement = arrange(model, Wanted(workers=1, threads=1), cores=1)
    assert arrangement.limits.max_batch > 1
    box = Box("cpu", 1, 1)
    setup = Setup(20, arrangement, cheap, box, TALK, Listening(), measure_s=60.0)
    outcome = simulate(setup)
    assert outcome.mean_batch is not None
    assert outcome.mean_batch > 1.5
