"""Faults for a while: how windows are written, who obeys them, and who refuses them."""

import asyncio
import math
import random
from contextlib import aclosing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.clock import FakeClock, SystemClock
from rtvc.errors import ReplyError, UsageError
from rtvc.server.faults.active import Faults
from rtvc.server.faults.faulty_services import GARBAGE_CHARS
from rtvc.server.faults.inject import FAULTS, FaultName, parse, parse_windows, shown
from rtvc.server.faults.slow_link import LONGEST_STALL_S, RETRANSMISSION_S, stalls, while_on
from rtvc.server.replies.llm import FinalDelta, LanguageModel, ScriptedLanguageModel
from rtvc.server.replies.tts import EspeakSynthesizer
from rtvc.stt.faulty import FaultyTranscriber, Troubles
from rtvc.stt.scripted import ScriptedTranscriber
from rtvc.stt.transcriber import JobKind
from rtvc.stt.window import Origin, Window
from rtvc.voice.vad import FRAME_SAMPLES, ScriptedVad
from tests.test_inject_engine import faulty as costly
from tests.test_inject_engine import job, took

WINDOWED = [name for name in FaultName if FAULTS[name].windowed]
FIXED = [name for name in FaultName if not FAULTS[name].windowed]


@given(
    name=st.sampled_from(WINDOWED),
    begin_s=st.floats(0, 80_000),
    length_s=st.none() | st.floats(0.001, 80_000),
)
def test_a_window_is_what_is_written(
    name: FaultName, begin_s: float, length_s: float | None
) -> None:
    text = f"{name}@{begin_s:f}" + ("" if length_s is None else f"+{length_s:f}")
    (window,) = parse_windows([text]).values()
    assert window.begin_s == pytest.approx(begin_s, abs=1e-5)
    assert window.length_s == (None if length_s is None else pytest.approx(length_s, abs=1e-5))
    assert parse([text]) == {name: FAULTS[name].usual}
    assert parse_windows([name.value]) == {}


@pytest.mark.parametrize("written", ["", "x", "-1", "5+", "5+0", "5+-1", "5+x", "nan", "5+inf"])
def test_what_is_no_window_is_refused(written: str) -> None:
    for read in (parse, parse_windows):
        with pytest.raises(UsageError, match=r"expected @BEGIN or @BEGIN\+LENGTH") as refused:
            read([f"slow-llm=2@{written}"])
        assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("name", FIXED)
def test_what_is_on_from_the_start_takes_no_window(name: FaultName) -> None:
    with pytest.raises(UsageError, match=f"{name}: it is on from the start"):
        parse([f"{name}@5+5"])


def test_windows_are_told() -> None:
    texts = ["slow-llm=2@20+10", "llm-down@5", "blocked-loop"]
    assert shown(parse(texts), parse_windows(texts)) == (
        "slow-llm = 2 s from 20 s to 30 s, llm-down from 5 s, blocked-loop = 200 ms"
    )
    faults = Faults(parse(texts), FakeClock(), parse_windows(texts))
    assert "from 20 s to 30 s" in faults.notices[0]


def faults_at(clock: FakeClock, *texts: str) -> Faults:
    return Faults(parse(texts), clock, parse_windows(texts))


async def said(model: LanguageModel) -> list[str]:
    async with aclosing(model.stream([], max_tokens=None)) as deltas:
        return [delta async for delta in deltas]


async def test_a_language_model_is_down_for_a_while() -> None:
    clock = FakeClock(100.0)
    faults = faults_at(clock, "llm-down@20+10")
    model = faults.llm(ScriptedLanguageModel(ttft_s=0.0, tokens_per_s=1e6))
    # Before the server is ready nothing has begun.
    clock.advance(25.0)
    sound = await said(model)
    await faults.start("cpu")
    for since_s, down in [(0.0, False), (20.0, True), (29.9, True), (30.0, False)]:
        clock.now_s = 125.0 + since_s
        if down:
            with pytest.raises(ReplyError, match="down on purpose"):
                await said(model)
        else:
            assert await said(model) == sound
    await faults.close()
    await model.close()


async def test_without_a_window_it_is_down_for_good() -> None:
    model = faults_at(FakeClock(), "llm-down").llm(ScriptedLanguageModel())
    with pytest.raises(ReplyError):
        await said(model)


async def test_garbage_comes_in_three_kinds() -> None:
    model = faults_at(FakeClock(), "llm-garbage").llm(ScriptedLanguageModel())
    with pytest.raises(ReplyError, match="JSON"):
        await said(model)
    *nonsense, last = await said(model)
    assert len("".join(nonsense)) > GARBAGE_CHARS * 0.8
    assert isinstance(last, FinalDelta)
    assert await said(model) == [""]


async def test_a_synthesizer_is_down_for_a_while() -> None:
    clock = FakeClock()
    faults = faults_at(clock, "tts-down@1+1")
    tts = faults.tts(EspeakSynthesizer())
    await faults.start("cpu")

    async def pieces() -> int:
        async with aclosing(tts.synthesize("Yes.", voice=None, speed=1.0)) as found:
            return len([piece async for piece in found])

    assert await pieces() > 0
    clock.advance(1.5)
    with pytest.raises(ReplyError, match="speech synthesis"):
        await pieces()
    clock.advance(1.0)
    assert await pieces() > 0
    await faults.close()
    await tts.close()


async def test_the_wall_clock_jumps_and_the_other_does_not() -> None:
    clock = FakeClock(1000.0)
    faults = faults_at(clock, "clock-jump=-7200@5+5")
    jumping = faults.clock(clock)
    await faults.start("cpu")
    for since_s, jump_s in [(0.0, 0.0), (6.0, -7200.0), (11.0, 0.0)]:
        clock.now_s = 1000.0 + since_s
        assert jumping.now() == clock.now()
        assert (jumping.utc() - clock.utc()).total_seconds() == jump_s
    await faults.close()
    assert faults_at(clock, "llm-down").clock(clock) is clock


async def test_hearing_is_slow_for_a_while() -> None:
    clock = FakeClock()
    faults = faults_at(clock, "audio-backlog=0.1@5+5")
    vad = faults.vad(ScriptedVad)()
    await faults.start("cpu")
    real, frames = SystemClock(), np.zeros((20, FRAME_SAMPLES), np.float32)
    for now_s, slow in [(0.0, False), (6.0, True), (11.0, False)]:
        clock.now_s = now_s
        began_s = real.now()
        vad.probabilities(frames)
        assert (real.now() - began_s >= 0.06) == slow
    await faults.close()


async def test_the_loop_is_blocked_for_a_while_only() -> None:
    clock = FakeClock()
    faults = faults_at(clock, "blocked-loop=300@50+5")
    await faults.start("cpu")
    real, longest_s = SystemClock(), 0.0
    for now_s, blocked in [(0.0, False), (51.0, True)]:
        clock.now_s, longest_s = now_s, 0.0
        for _ in range(70):
            before_s = real.now()
            await asyncio.sleep(0.01)
            longest_s = max(longest_s, real.now() - before_s)
        assert (longest_s >= 0.29) == blocked or not blocked
    await faults.close()


# Lost pieces.


def test_lost_pieces_wait_for_the_time_out_again_and_again() -> None:
    rng = random.Random(1)
    found = [stalls(0.2)(rng) for _ in range(20_000)]
    steps = {round(RETRANSMISSION_S * (2**n - 1), 6) for n in range(7)}
    assert {round(each, 6) for each in found} <= steps
    assert max(found) < 2 * LONGEST_STALL_S
    share = sum(each > 0 for each in found) / len(found)
    assert share == pytest.approx(0.2, abs=0.02)
    assert sum(each > RETRANSMISSION_S for each in found) / len(found) == pytest.approx(
        0.04, abs=0.01
    )
    assert stalls(0.0)(rng) == 0.0


def test_nothing_is_lost_while_the_window_is_shut() -> None:
    open_now = True
    delay = while_on(lambda rng: 1.0, lambda: open_now)
    assert delay(random.Random()) == 1.0
    open_now = False
    assert delay(random.Random()) == 0.0


async def test_a_link_with_lost_pieces_is_put_before_the_server() -> None:
    base = asyncio.Protocol
    assert faults_at(FakeClock(), "retransmission-stalls=20@5+5").http(base) is not base
    assert faults_at(FakeClock(), "llm-down").http(base) is base


# Inside the engine's process.


def faulty(troubles: Troubles, clock: FakeClock, origin: Origin | None = None) -> FaultyTranscriber:
    inner = ScriptedTranscriber("yes")
    transcriber = FaultyTranscriber(inner, troubles, clock=clock, hold=clock.advance, origin=origin)
    transcriber.load()
    transcriber.warm_up(lambda progress, detail: None)
    return transcriber


def test_there_is_no_memory_for_a_while() -> None:
    clock = FakeClock(50.0)
    troubles = Troubles(out_of_memory=True, out_of_memory_in=Window(10, 5))
    transcriber = faulty(troubles, clock)
    for since_s, exhausted in [(9.0, False), (10.0, True), (14.9, True), (15.0, False)]:
        clock.now_s = 50.0 + since_s
        if exhausted:
            with pytest.raises(MemoryError):
                transcriber.transcribe([job("a", JobKind.FINAL)])
        else:
            assert transcriber.transcribe([job("a", JobKind.FINAL)])


def test_inferences_are_slower_for_a_while() -> None:
    transcriber, inner, clock = costly(Troubles(slower=3.0, slower_in=Window(10, 5)))
    for now_s, times in [(1.0, 1), (12.0, 3), (16.0, 1)]:
        clock.now_s = now_s
        inner.batches.clear()
        assert took(transcriber, clock, job("a", JobKind.FINAL)) == pytest.approx(times)
        assert len(inner.batches) == times


@pytest.mark.parametrize(
    ("window", "warm_at_s", "due_at_s"),
    [
        (None, 0.0, 3.0),
        (Window(10, 5), 0.0, 10.0),
        # A process that replaced another within the window goes the same way, one after it lives.
        (Window(10, 5), 11.0, 14.0),
        (Window(10, 5), 13.0, None),
        (Window(10, 1), 12.0, None),
        (Window(10), 30.0, 33.0),
    ],
)
def test_when_a_process_dies(
    window: Window | None, warm_at_s: float, due_at_s: float | None
) -> None:
    clock = FakeClock(100.0)
    origin = Origin(clock)
    origin.begin()
    clock.advance(warm_at_s)
    transcriber = faulty(Troubles(), clock, origin)
    found = transcriber._due_at_s(3.0, window)
    assert found == (None if due_at_s is None else pytest.approx(100.0 + due_at_s))
    assert transcriber._due_at_s(None, window) is None


def test_a_window_ends() -> None:
    assert Window(3).end_s == math.inf
    assert str(Window(3, 0.5)) == "3+0.5"
    assert parse_windows([f"llm-down@{Window(3)}"]) == {FaultName.LLM_DOWN: Window(3)}
