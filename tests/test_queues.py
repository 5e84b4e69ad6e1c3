"""Queues lose nothing that they do not count."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.instruments.queues import MeasuredQueue, WhenFull

Steps = list[float | None]
"""Seconds to put; None: take all."""

steps = st.lists(st.none() | st.floats(0, 5), max_size=60)
policies = st.sampled_from(WhenFull)


def a_queue(when_full: WhenFull = WhenFull.REFUSE, limit_s: float = 10.0) -> MeasuredQueue[float]:
    return MeasuredQueue("q", limit_s=limit_s, seconds_of=lambda item: item, when_full=when_full)


@settings(deadline=None)
@given(steps=steps, when_full=policies)
def test_put_is_taken_and_dropped_and_waiting(steps: Steps, when_full: WhenFull) -> None:
    queue = a_queue(when_full)
    put = taken = 0
    for step in steps:
        if step is None:
            taken += len(queue.take_all())
        else:
            queue.put(step, 0.0)
            put += 1
        state = queue.state(0.0)
        assert state.put == put
        assert state.put == taken + state.dropped + state.depth
        assert state.backlog_s <= 10.0 + 1e-9


@settings(deadline=None)
@given(lengths=st.lists(st.floats(0, 5), max_size=60), when_full=policies)
def test_what_comes_out_is_in_order_and_the_right_end(
    lengths: list[float], when_full: WhenFull
) -> None:
    queue: MeasuredQueue[tuple[int, float]] = MeasuredQueue(
        "q", limit_s=10.0, seconds_of=lambda item: item[1], when_full=when_full
    )
    unharmed = [queue.put(item, 0.0) for item in enumerate(lengths)]
    backlog_s = queue.state(0.0).backlog_s
    out = queue.take_all()
    assert backlog_s == pytest.approx(sum(length for _, length in out))
    if when_full is WhenFull.DROP_OLDEST:
        assert out == list(enumerate(lengths))[len(lengths) - len(out) :]
    else:
        taken = zip(enumerate(lengths), unharmed, strict=True)
        assert out == [item for item, was_taken in taken if was_taken]


@given(when_full=policies)
def test_an_empty_queue_takes_any_item(when_full: WhenFull) -> None:
    queue = a_queue(when_full, limit_s=1.0)
    assert queue.put(100.0, 0.0)
    assert not queue.has_room(0.1)
    assert queue.take_all() == [100.0]
    assert queue.has_room(0.1)


def test_a_full_queue_refuses_or_makes_room() -> None:
    refusing, dropping = a_queue(), a_queue(WhenFull.DROP_OLDEST)
    for queue in (refusing, dropping):
        assert queue.put(6.0, 0.0)
        assert queue.put(4.0, 0.0)
        assert not queue.put(5.0, 0.0)
    assert refusing.take_all() == [6.0, 4.0]
    assert dropping.take_all() == [4.0, 5.0]


def test_a_reading_knows_how_long_the_oldest_has_waited() -> None:
    queue = a_queue()
    assert queue.state(9.0).oldest_age_s is None
    queue.put(1.0, 2.0)
    queue.put(1.0, 5.0)
    assert queue.state(9.0).oldest_age_s == 7.0
    assert queue.state(9.0).backlog_s == 2.0
