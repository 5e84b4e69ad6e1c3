"""Calibration: the arrangement that suits the machine is found, in bounded time."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.clock import FakeClock
from rtvc.stt.calibration import (
    LONG_BUDGET_S,
    LONGEST_BATCH_S,
    SHORT_BUDGET_S,
    SLOW_S,
    Calibration,
    Wish,
    calibrate,
    wish,
)


def tried(batch_s: Callable[[int, int, int], float], asked: Wish) -> Calibration:
    """Trials on a machine where a batch takes `batch_s(workers, threads, batch)`."""
    clock = FakeClock()

    def measure(workers: int, threads: int, batch: int) -> float:
        seconds = batch_s(workers, threads, batch)
        clock.advance((4 if seconds < SLOW_S else 1) * seconds + 0.1)
        return seconds

    return calibrate(measure, asked, clock)


def on(cpus: int, **chosen: int) -> Wish:
    found = wish(cpus, **chosen)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_more_workers_are_chosen_where_threads_do_not_help() -> None:
    """Two cores and base.en, as measured: 19 a second against 8, and 43 in batches."""
    found = tried(lambda w, t, b: (0.06 + 0.045 * b) / (0.85 if t == 2 else 1), on(2))
    assert (found.workers, found.threads_per_worker) == (2, 1)
    assert {t.threads_per_worker for t in found.trials} == {1}
    assert found.max_batch == 4


def test_more_threads_are_chosen_where_one_answer_would_be_too_slow() -> None:
    """Two cores and a full window of small.en: nothing is quick, so one at a time, quicker."""
    found = tried(lambda w, t, b: b * (2.5 if t == 1 else 1.5), on(2))
    assert (found.workers, found.threads_per_worker, found.max_batch) == (1, 2, 1)


def test_batches_that_cost_throughput_are_not_made() -> None:
    found = tried(lambda w, t, b: 0.01 * b**1.3, on(2))
    assert found.max_batch == 1


def test_batches_grow_while_they_pay_and_stay_short() -> None:
    found = tried(lambda w, t, b: 0.02 + 0.006 * b, on(2))
    # 16 would reach 138 a second, 8 reach 118: that is enough, and half the wait.
    assert found.max_batch == 8
    assert found.deep_batch == 16
    assert all(t.batch_s <= LONGEST_BATCH_S for t in found.trials)


def test_what_the_user_set_is_kept() -> None:
    assert wish(4, workers=2, threads_per_worker=2, max_batch=8) is None
    found = tried(lambda w, t, b: 0.01 * b, on(4, workers=3, max_batch=8))
    assert found.workers == 3
    assert (found.max_batch, found.deep_batch) == (8, 8)
    found = tried(lambda w, t, b: 0.01 * b, on(4, threads_per_worker=4))
    assert (found.workers, found.threads_per_worker) == (1, 4)


@pytest.mark.parametrize(("each_s", "budget_s"), [(0.05, SHORT_BUDGET_S), (2.0, LONG_BUDGET_S)])
def test_it_takes_no_longer_than_its_budget(each_s: float, budget_s: float) -> None:
    found = tried(lambda w, t, b: each_s * b**0.5, on(16))
    first = found.trials[0]
    assert found.seconds <= max(budget_s, 4 * first.batch_s + 0.2)


@given(
    each_s=st.floats(0.001, 5),
    base_s=st.floats(0, 1),
    cpus=st.integers(1, 64),
    gain=st.floats(0, 1),
)
@settings(deadline=None, max_examples=80)
def test_whatever_the_machine_the_choice_was_tried_or_set(
    each_s: float, base_s: float, cpus: int, gain: float
) -> None:
    found = tried(lambda w, t, b: base_s + b * each_s / t**gain, on(cpus))
    trials = {(t.workers, t.threads_per_worker, t.batch) for t in found.trials}
    assert (found.workers, found.threads_per_worker, found.max_batch) in trials
    assert found.workers * found.threads_per_worker <= cpus
    assert found.cost is not None
    assert found.cost.base_s >= 0
    assert found.cost.batch_s(2) >= found.cost.batch_s(1) > 0


def test_the_cost_of_a_batch_comes_from_its_trials() -> None:
    cost = tried(lambda w, t, b: 0.04 + 0.02 * b, on(2)).cost
    assert cost is not None
    assert cost.base_s == pytest.approx(0.04)
    assert cost.each_s == pytest.approx(0.02)
