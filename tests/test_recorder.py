"""Stages are timed, nest, do not mix, and are bounded."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.clock import FakeClock
from rtvc.errors import UsageError
from rtvc.instruments import recorder as module
from rtvc.instruments.recorder import TURN, Recorder, Span, innermost
from rtvc.instruments.stages import Segment, critical_path, in_a_row, unaccounted_s


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(10.0)


@pytest.fixture
def recorder(clock: FakeClock) -> Recorder:
    return Recorder(clock)


def by_name(recorder: Recorder) -> dict[str, Span]:
    return {span.name: span for span in recorder.spans()}


def test_a_stage_is_a_span(recorder: Recorder, clock: FakeClock) -> None:
    with recorder.stage("transcribe"):
        clock.advance(0.25)
    (span,) = recorder.spans()
    assert (span.name, span.start_s, span.end_s, span.self_s) == ("transcribe", 10.0, 10.25, 0.25)
    assert (span.turn, span.parent, span.error, span.hidden) == (None, None, None, False)
    assert span.thread == threading.get_ident()


def test_what_inner_stages_took_is_not_the_outer_ones_own(
    recorder: Recorder, clock: FakeClock
) -> None:
    with recorder.stage("transcribe"):
        clock.advance(0.1)
        with recorder.stage("encode"):
            clock.advance(0.2)
        with recorder.stage("decode"):
            clock.advance(0.4)
            with recorder.stage("beam"):
                clock.advance(1.0)
    spans = by_name(recorder)
    assert spans["transcribe"].self_s == pytest.approx(0.1)
    assert spans["decode"].self_s == pytest.approx(0.4)
    assert [span.parent for span in recorder.spans()] == [
        "transcribe",
        "decode",
        "transcribe",
        None,
    ]
    assert [segment.name for segment in innermost(recorder.spans())] == ["encode", "beam"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 5)), max_size=40))
def test_self_times_add_up_to_the_whole(steps: list[tuple[bool, float]]) -> None:
    clock = FakeClock()
    recorder = Recorder(clock)
    stack = [recorder.stage("outermost")]
    stack[0].__enter__()
    for deeper, length_s in steps:
        clock.advance(length_s)
        if deeper:
            stack.append(recorder.stage("inner"))
            stack[-1].__enter__()
        elif len(stack) > 1:
            stack.pop().__exit__(None, None, None)
    while stack:
        stack.pop().__exit__(None, None, None)
    spans = recorder.spans()
    assert sum(span.self_s for span in spans) == pytest.approx(clock.now_s)
    assert min(span.self_s for span in spans) >= -1e-9
    assert len(spans) == 1 + sum(deeper for deeper, _ in steps)


def test_an_exception_is_noted_and_passes(recorder: Recorder) -> None:
    with pytest.raises(ZeroDivisionError), recorder.stage("outer"), recorder.stage("inner"):
        raise ZeroDivisionError
    assert [span.error for span in recorder.spans()] == ["ZeroDivisionError"] * 2
    with recorder.stage("next"):
        pass
    assert recorder.spans()[-1].parent is None
    assert {row.name: row.errors for row in recorder.times()} == {"outer": 1, "inner": 1, "next": 0}


def test_a_function_is_timed_at_each_call(recorder: Recorder, clock: FakeClock) -> None:
    @recorder.stage("decode")
    def decode(seconds: float, *, more: float = 0.0) -> float:
        """Contract."""
        clock.advance(seconds + more)
        return decode(seconds - 1.0) if seconds > 1.0 else seconds

    assert decode(2.0, more=0.5) == 1.0
    assert (decode.__name__, decode.__doc__) == ("decode", "Contract.")
    assert [span.duration_s for span in recorder.spans()] == [1.0, 3.5]
    assert [span.self_s for span in recorder.spans()] == [1.0, 2.5]


async def test_a_coroutine_function_is_timed_until_it_returns(
    recorder: Recorder, clock: FakeClock
) -> None:
    @recorder.stage("decode")
    async def decode() -> int:
        await asyncio.sleep(0)
        clock.advance(2.0)
        return 7

    assert asyncio.iscoroutinefunction(decode)
    assert await decode() == 7
    assert recorder.spans()[0].duration_s == 2.0


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [generator, async_generator])
def test_a_generator_would_be_timed_wrongly_so_it_is_refused(
    recorder: Recorder, function: Callable[[], object]
) -> None:
    with pytest.raises(UsageError, match=r"stage 'x', but .*generator is a generator"):
        recorder.stage("x")(function)


async def test_concurrent_tasks_do_not_mix(recorder: Recorder, clock: FakeClock) -> None:
    both = asyncio.Barrier(2)

    async def speak(name: str) -> None:
        with recorder.turn(name):
            async with recorder.stage(f"outer of {name}"):
                await both.wait()
                with recorder.stage(f"inner of {name}"):
                    await both.wait()
                    clock.advance(1.0)

    await asyncio.gather(speak("a"), speak("b"))
    spans = by_name(recorder)
    for name in "ab":
        inner, outer = spans[f"inner of {name}"], spans[f"outer of {name}"]
        assert (inner.parent, outer.parent) == (outer.name, TURN)
        assert (inner.turn, outer.turn) == (name, name)


async def test_concurrent_stages_cover_the_time_of_the_one_around_them_once(
    recorder: Recorder, clock: FakeClock
) -> None:
    begun, may_end = asyncio.Barrier(3), asyncio.Event()

    async def work(name: str) -> None:
        with recorder.stage(name):
            await begun.wait()
            await may_end.wait()

    with recorder.stage("both"):
        clock.advance(0.5)
        tasks = [asyncio.create_task(work(name)) for name in ("one", "two")]
        await begun.wait()
        clock.advance(2.0)
        may_end.set()
        await asyncio.gather(*tasks)
    spans = by_name(recorder)
    assert spans["both"].duration_s == 2.5
    assert spans["both"].self_s == 0.5
    assert [spans[name].duration_s for name in ("one", "two")] == [2.0, 2.0]


async def test_a_task_that_outlives_its_stage_is_not_its_part(
    recorder: Recorder, clock: FakeClock
) -> None:
    begin, begun, end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def linger() -> None:
        with recorder.stage("early"):
            begun.set()
            await begin.wait()
        with recorder.stage("late"):
            await end.wait()

    with recorder.turn("t"), recorder.stage("short"):
        task = asyncio.create_task(linger())
        await begun.wait()
        clock.advance(1.0)
    begin.set()
    await asyncio.sleep(0)
    clock.advance(5.0)
    end.set()
    await task
    spans = by_name(recorder)
    assert spans["short"].self_s == pytest.approx(0.0)
    assert (spans["early"].parent, spans["late"].parent) == ("short", None)
    assert (spans["late"].turn, spans["late"].duration_s) == ("t", 5.0)


async def test_a_cancelled_task_is_told_apart(recorder: Recorder) -> None:
    async def wait() -> None:
        async with recorder.stage("wait"):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert recorder.spans()[0].error == "CancelledError"


async def test_work_handed_to_a_thread_belongs_to_its_turn(recorder: Recorder) -> None:
    def work() -> None:
        with recorder.stage("work"):
            pass

    with recorder.turn("t"):
        await asyncio.to_thread(work)
    span = by_name(recorder)["work"]
    assert (span.turn, span.parent) == ("t", TURN)
    assert span.thread != threading.get_ident()


def test_threads_do_not_mix_and_lose_nothing() -> None:
    recorder = Recorder()

    def work(name: str) -> None:
        for _ in range(300):
            with recorder.turn(name), recorder.stage("work"):
                pass

    threads = [threading.Thread(target=work, args=(f"t{k}",)) for k in range(4)]
    with recorder.stage("around"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    work_spans = [span for span in recorder.spans() if span.name == "work"]
    assert {(span.turn, span.parent) for span in work_spans} == {(f"t{k}", TURN) for k in range(4)}
    assert (len(work_spans), recorder.recorded) == (1200, 2401)
    assert len({(span.turn, span.thread) for span in work_spans}) == 4


def test_a_turn_is_a_span_whose_self_time_is_unaccounted(
    recorder: Recorder, clock: FakeClock
) -> None:
    with recorder.turn("call-7/3"):
        clock.advance(0.1)
        with recorder.stage("decode"):
            clock.advance(0.3)
        with recorder.turn("other"):
            pass
        with recorder.stage("emit"):
            clock.advance(0.2)
    with recorder.stage("after"):
        pass
    whole = [span for span in recorder.spans() if span.turn == "call-7/3"]
    assert [span.name for span in whole] == ["decode", "emit", TURN]
    assert whole[-1].self_s == pytest.approx(0.1)
    assert unaccounted_s(innermost(whole), whole[-1].duration_s) == pytest.approx(0.1)
    assert recorder.spans()[-1].turn is None


def test_memory_is_bounded_and_what_was_dropped_is_counted(clock: FakeClock) -> None:
    recorder = Recorder(clock, keep=3)
    for number in range(10):
        with recorder.stage(f"s{number}"):
            pass
    assert [span.name for span in recorder.spans()] == ["s7", "s8", "s9"]
    assert (recorder.recorded, recorder.dropped) == (10, 7)
    recorder.clear()
    assert (recorder.spans(), recorder.dropped) == ([], 0)


def test_switched_off_it_keeps_nothing_and_changes_nothing(recorder: Recorder) -> None:
    recorder.recording = False
    with pytest.raises(KeyError), recorder.turn("t"), recorder.stage("s"):
        raise KeyError
    recorder.record("r", 1.0, 2.0)
    recorder.recording = True
    with recorder.stage("s"):
        recorder.recording = False
    assert [(span.name, span.turn) for span in recorder.spans()] == [("s", None)]


def test_a_stage_switched_on_half_way_is_left_out(recorder: Recorder) -> None:
    recorder.recording = False
    with recorder.stage("outer"):
        recorder.recording = True
        with recorder.stage("inner"):
            pass
    assert [(span.name, span.parent) for span in recorder.spans()] == [("inner", None)]


def test_what_begins_and_ends_in_different_callbacks(recorder: Recorder) -> None:
    with recorder.turn("t"):
        recorder.record("wait", 1.0, 1.5, hidden=True)
    recorder.record("wait", 2.0, 2.5, turn="u")
    waits = [span for span in recorder.spans() if span.name == "wait"]
    assert [(span.turn, span.duration_s, span.hidden) for span in waits] == [
        ("t", 0.5, True),
        ("u", 0.5, False),
    ]
    with pytest.raises(UsageError, match=r"'wait' to end after 2\.0, got 1\.0"):
        recorder.record("wait", 2.0, 1.0)


def test_one_stage_cannot_run_twice_at_once(recorder: Recorder) -> None:
    one = recorder.stage("one")
    with one, pytest.raises(UsageError, match="'one' is"):
        one.__enter__()
    with one:
        pass
    assert [span.name for span in recorder.spans()] == ["one", "one"]


def test_times_are_those_of_the_spans(recorder: Recorder, clock: FakeClock) -> None:
    for length_s in range(1, 13):
        with recorder.stage("decode"):
            clock.advance(float(length_s))
    (row,) = recorder.times()
    assert (row.n, row.p50_s, row.p95_s, row.max_s) == (12, 6.5, None, 12.0)
    assert row.total_s == row.self_s == 78.0


def test_without_a_recorder_of_its_own_a_program_uses_the_common_one() -> None:
    before = module.RECORDER.recorded
    with module.turn("t"), module.stage("s", hidden=True):
        pass
    assert module.RECORDER.recorded == before + 2
    assert [(span.name, span.turn) for span in module.RECORDER.spans()[-2:]] == [
        ("s", "t"),
        (TURN, "t"),
    ]


def names(path: list[Segment]) -> list[str]:
    return [segment.name for segment in path]


def test_work_in_the_shade_of_a_wait_is_off_the_critical_path() -> None:
    wait = in_a_row(0.0, [("vad_delay", 0.1), ("endpoint_wait", 0.4)])
    work = in_a_row(0.1, [("features", 0.01), ("decode", 0.2)])
    emit = Segment("emit", 0.5, 0.01)
    assert names(critical_path([*work, emit, *wait])) == ["vad_delay", "endpoint_wait", "emit"]


def test_work_that_takes_longer_than_the_wait_is_on_it() -> None:
    wait = in_a_row(0.0, [("vad_delay", 0.1), ("endpoint_wait", 0.4)])
    work = in_a_row(0.1, [("features", 0.1), ("decode", 0.7)])
    emit = Segment("emit", 0.9, 0.01)
    path = critical_path([*wait, *work, emit])
    assert names(path) == ["vad_delay", "features", "decode", "emit"]


segments = st.lists(
    st.builds(Segment, st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 4)), max_size=12
)


@given(segments)
def test_a_critical_path_moves_forward_to_the_last_end(all_segments: list[Segment]) -> None:
    path = critical_path(all_segments)
    assert bool(path) == bool(all_segments)
    if path:
        assert path[-1].end_s == max(segment.end_s for segment in all_segments)
    for earlier, later in pairwise(path):
        assert earlier.end_s <= later.start_s + 1e-6
        between = [
            segment
            for segment in all_segments
            if earlier.end_s < segment.end_s <= later.start_s and segment.duration_s
        ]
        assert not between, "a predecessor that finished later was passed over"
