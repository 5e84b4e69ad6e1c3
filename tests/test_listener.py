"""The way in: in order, nothing lost, slowed down rather than refused, and gone without a trace."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtvc.audio import float_to_pcm16, pcm16_to_float
from rtvc.clock import SystemClock
from rtvc.config import load_settings
from rtvc.errors import TranscriberError
from rtvc.instruments.event_loop import LoopLag
from rtvc.server.ear import Ear
from rtvc.server.hearing import Hearing
from rtvc.server.readiness import Readiness
from rtvc.server.replies.llm import ScriptedLanguageModel
from rtvc.server.replies.tts import EspeakSynthesizer
from rtvc.server.services import Services
from rtvc.server.sessions.listener import Listener
from rtvc.stt.transcriber import EngineStatus, Hypothesis, Job, JobKind
from rtvc.voice.admission import Admission
from rtvc.voice.endpointing import EndpointingSettings
from rtvc.voice.session import (
    FinalTranscript,
    PartialTranscript,
    SpeechStarted,
    SpeechStopped,
    TranscriptFailed,
    VoiceEvent,
    VoiceSettings,
)
from rtvc.voice.turn_model import ScriptedTurnModel, TurnModel
from rtvc.voice.vad import ScriptedVad

RATE_HZ = 16_000


class FakeEngine:
    """Keeps to the contract: answers when let, None when the session is cancelled."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fail: set[JobKind] = set()
        self.withhold: set[JobKind] = set()
        """Kinds that are answered None, as if superseded."""
        self.cancelled: list[str] = []
        self.under_way = 0
        self.interval_s = 0.0

    @property
    def status(self) -> EngineStatus:
        return EngineStatus("ready", 1.0, "ready", "fake", "scripted")

    @property
    def partial_interval_s(self) -> float:
        return self.interval_s

    def on_status(self, listener: Callable[[EngineStatus], None]) -> None:
        """Its status never changes."""

    async def start(self) -> None:
        """It is always ready."""

    async def transcribe(self, job: Job) -> Hypothesis | None:
        self.jobs.append(job)
        self.under_way += 1
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        if job.kind in self.fail:
            raise TranscriberError(f"no {job.kind} today")
        if job.session_id in self.cancelled or job.kind in self.withhold:
            return None
        audio_s = len(job.audio) / RATE_HZ
        return Hypothesis(f"{job.kind} text.", audio_s, 0, 0, 0, 0, batch_size=1, tokens=2)

    async def open_session(self, session_id: str) -> None:
        """Nothing to load."""

    def close_session(self, session_id: str) -> None:
        self.cancel_session(session_id)

    def cancel_session(self, session_id: str) -> None:
        self.cancelled.append(session_id)

    async def close(self) -> None:
        """Nothing to end."""

    def of(self, kind: JobKind) -> list[Job]:
        return [job for job in self.jobs if job.kind is kind]


class Bench:
    """A listener with everything around it."""

    def __init__(
        self,
        hearing: Hearing,
        voice: VoiceSettings,
        queue_s: float,
        turn_model: TurnModel | None = None,
    ) -> None:
        clock = self.clock = SystemClock()
        self.engine = FakeEngine()
        self.events: list[VoiceEvent] = []
        self.heard = asyncio.Event()
        self.raise_at: type[VoiceEvent] | None = None
        services = Services(
            settings=load_settings({"serve": {"audio_queue_s": queue_s}}, environment={}),
            clock=clock,
            engine=self.engine,
            new_vad=ScriptedVad,
            llm=ScriptedLanguageModel(clock=clock),
            tts=EspeakSynthesizer("en-us"),
            readiness=Readiness("speech-to-text"),
            admission=Admission(1),
            hearing=hearing,
            loop_lag=LoopLag(clock),
            turn_model=turn_model,
        )
        ear = Ear(ScriptedVad(), decode=pcm16_to_float, rate_hz=RATE_HZ)
        numbers = iter(range(1000))
        self.listener = Listener(
            services,
            "sess",
            ear,
            voice,
            new_item_id=lambda: f"item_{next(numbers)}",
            on_event=self._on_event,
        )

    def _on_event(self, event: VoiceEvent) -> None:
        self.events.append(event)
        self.heard.set()
        if self.raise_at is not None and isinstance(event, self.raise_at):
            raise ZeroDivisionError("a bug in a handler")

    async def append(self, audio: NDArray[np.float32]) -> None:
        await self.listener.append(float_to_pcm16(audio), len(audio) / RATE_HZ)

    async def until(self, kind: type, count: int = 1) -> None:
        async with asyncio.timeout(20):
            while sum(isinstance(event, kind) for event in self.events) < count:
                self.heard.clear()
                await self.heard.wait()

    async def caught_up(self) -> None:
        """Wait until everything sent so far has been heard."""
        reached = asyncio.Event()

        async def mark() -> None:
            reached.set()

        await self.listener.control(mark)
        await asyncio.wait_for(reached.wait(), 20)


@asynccontextmanager
async def a_bench(
    voice: VoiceSettings | None = None,
    *,
    queue_s: float = 10.0,
    turn_model: TurnModel | None = None,
) -> AsyncIterator[Bench]:
    with closing(Hearing(SystemClock())) as hearing:
        chosen = voice or VoiceSettings(EndpointingSettings(silence_s=0.25))
        bench = Bench(hearing, chosen, queue_s, turn_model)
        running = asyncio.create_task(bench.listener.run())
        bench.listener_task = running  # type: ignore[attr-defined]
        try:
            yield bench
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await bench.listener.close()


def speech(seconds: float) -> NDArray[np.float32]:
    return np.full(round(seconds * RATE_HZ), 0.3, np.float32)


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(round(seconds * RATE_HZ), np.float32)


def a_sentence() -> NDArray[np.float32]:
    return np.concatenate([silence(0.2), speech(0.8), silence(0.6)])


async def test_a_sentence_becomes_one_final() -> None:
    async with a_bench() as bench:
        await bench.append(a_sentence())
        await bench.until(FinalTranscript)
        kinds = [type(event) for event in bench.events]
        assert kinds.index(SpeechStarted) < kinds.index(SpeechStopped)
        assert kinds.count(FinalTranscript) == 1


@settings(deadline=None, max_examples=15)
@given(steps=st.lists(st.none() | st.integers(1, 4000), min_size=1, max_size=30))
def test_controls_keep_their_place_among_the_audio(steps: list[int | None]) -> None:
    """`None` is a control; it must see exactly the samples that were sent before it."""

    async def scene() -> None:
        async with a_bench(VoiceSettings(endpointing=None), queue_s=0.3) as bench:
            seen: list[int] = []
            expected, sent = [], 0

            async def look() -> None:
                await bench.listener.flush()
                seen.append(round(bench.listener.voice.audio_s * RATE_HZ))

            for step in steps:
                if step is None:
                    await bench.listener.control(look)
                    expected.append(sent)
                else:
                    await bench.append(speech(1)[:step])
                    sent += step
            await bench.caught_up()
            assert seen == expected

    asyncio.run(scene())


async def test_five_minutes_at_once_are_slowed_down_and_not_lost() -> None:
    async with a_bench(VoiceSettings(endpointing=None), queue_s=2.0) as bench:
        most_s = 0.0
        sending = asyncio.create_task(bench.append(silence(300)))
        while not sending.done():
            most_s = max(most_s, bench.listener.inbox.backlog_s)
            await asyncio.sleep(0)
        await bench.caught_up()
        assert bench.listener.voice.audio_s == pytest.approx(300, abs=0.04)
        assert bench.listener.inbox.dropped == 0
        assert 0 < most_s <= 2.0


async def test_controls_are_bounded_too() -> None:
    async with a_bench() as bench:
        ran = 0

        async def count() -> None:
            nonlocal ran
            ran += 1
            await asyncio.sleep(0)

        for _ in range(2000):
            await bench.listener.control(count)
            assert bench.listener.inbox.depth <= 500
        await bench.caught_up()
        assert ran == 2000


async def test_a_long_upload_does_not_hold_up_another_session() -> None:
    async with a_bench() as bench:
        lengths: list[float] = []
        hear = bench.listener.ear.hear

        def noted(chunks):  # type: ignore[no-untyped-def]
            lengths.append(sum(chunk.seconds for chunk in chunks))
            return hear(chunks)

        bench.listener.ear.hear = noted  # type: ignore[method-assign]
        await bench.append(silence(9))
        await bench.caught_up()
        assert sum(lengths) == pytest.approx(9)
        assert max(lengths) <= 2.0


async def test_a_commit_takes_the_last_sample() -> None:
    async with a_bench(VoiceSettings(endpointing=None)) as bench:
        await bench.append(speech(1.0)[:-3])
        done: list[bool] = []

        async def commit() -> None:
            done.append(await bench.listener.commit())

        await bench.listener.control(commit)
        await bench.listener.control(commit)
        await bench.until(FinalTranscript)
        await bench.caught_up()
        assert done == [True, False]
        assert [len(job.audio) for job in bench.engine.of(JobKind.FINAL)] == [RATE_HZ - 3]


async def test_a_final_is_asked_for_at_once_and_is_as_old_as_its_speculative_job() -> None:
    async with a_bench() as bench:
        bench.engine.gate.clear()
        await bench.append(a_sentence())
        await bench.until(SpeechStopped)
        await asyncio.sleep(0)  # the jobs that were just asked for begin
        (tried,), (final,) = map(bench.engine.of, (JobKind.SPECULATIVE, JobKind.FINAL))
        assert (final.item_id, final.revision) == (tried.item_id, tried.revision)
        assert final.enqueued_at_s == tried.enqueued_at_s
        bench.engine.gate.set()
        await bench.until(FinalTranscript)
        await bench.caught_up()
        assert sum(isinstance(event, FinalTranscript) for event in bench.events) == 1
        assert set(bench.listener.costs) == {"item_0"}


@pytest.mark.parametrize("trouble", ["fail", "withhold"])
async def test_a_speculative_answer_that_never_comes_is_asked_for_again(trouble: str) -> None:
    async with a_bench() as bench:
        bench.engine.gate.clear()
        getattr(bench.engine, trouble).add(JobKind.SPECULATIVE)
        await bench.append(a_sentence())
        await bench.until(SpeechStopped)
        bench.engine.gate.set()
        await bench.until(FinalTranscript)
        assert len(bench.engine.of(JobKind.FINAL)) == 1


async def test_without_partials_a_final_comes_all_the_same() -> None:
    """Under overload the engine answers partials with None; the session goes on asking."""
    async with a_bench(VoiceSettings(partial_interval_s=0.2)) as bench:
        bench.engine.withhold = {JobKind.PARTIAL}
        await bench.append(a_sentence())
        await bench.until(FinalTranscript)
        assert not any(isinstance(event, PartialTranscript) for event in bench.events)
        assert bench.engine.of(JobKind.PARTIAL)
        final = next(event for event in bench.events if isinstance(event, FinalTranscript))
        assert final.text == "speculative text."


async def test_a_failed_final_is_told() -> None:
    async with a_bench() as bench:
        bench.engine.fail = set(JobKind)
        await bench.append(a_sentence())
        await bench.until(TranscriptFailed)
        failed = [event for event in bench.events if isinstance(event, TranscriptFailed)]
        assert "no final today" in failed[0].reason


async def test_what_goes_wrong_in_handling_an_answer_is_not_swallowed() -> None:
    async with a_bench() as bench:
        bench.raise_at = FinalTranscript
        bench.engine.gate.clear()
        await bench.append(a_sentence())
        await bench.until(SpeechStopped)
        bench.engine.gate.set()
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(bench.listener_task, 20)  # type: ignore[attr-defined]


async def test_costs_of_utterances_that_were_thrown_away_do_not_pile_up() -> None:
    async with a_bench() as bench:
        for number in range(40):
            await bench.append(np.concatenate([speech(0.3), silence(0.1)]))
            await bench.until(SpeechStarted, number + 1)
            await bench.caught_up()
            await asyncio.sleep(0)
            bench.listener.voice.clear()
        assert len(bench.engine.of(JobKind.SPECULATIVE)) >= 40
        assert 0 < len(bench.listener.costs) <= 16


@pytest.mark.parametrize(("advised_s", "partials"), [(0.0, 4), (1.1, 1), (30.0, 0)])
async def test_partials_come_as_often_as_the_engine_advises(
    advised_s: float, partials: int
) -> None:
    async with a_bench() as bench:
        bench.engine.interval_s = advised_s
        for _ in range(20):
            await bench.append(speech(0.1))
            await bench.caught_up()
            await asyncio.sleep(0)
        assert len(bench.engine.of(JobKind.PARTIAL)) == partials


async def test_a_partial_is_no_part_of_what_the_final_cost() -> None:
    async with a_bench() as bench:
        await bench.append(speech(1.5))
        await bench.caught_up()
        await asyncio.sleep(0)
        assert bench.engine.of(JobKind.PARTIAL)
        assert bench.listener.costs == {}


async def test_after_the_end_no_task_thread_or_job_is_left() -> None:
    tasks, threads = asyncio.all_tasks(), threading.active_count()
    async with a_bench() as bench:
        bench.engine.gate.clear()
        await bench.append(a_sentence())
        await bench.until(SpeechStopped)
        await asyncio.sleep(0)  # the jobs that were just asked for begin
        assert bench.engine.under_way > 0
        assert asyncio.all_tasks() != tasks
    assert bench.engine.under_way == 0
    assert bench.engine.cancelled == ["sess"]
    assert asyncio.all_tasks() == tasks
    assert threading.active_count() == threads


async def test_a_reader_that_waits_for_room_can_be_stopped() -> None:
    async with a_bench(queue_s=1.0) as bench:
        stop = asyncio.Event()

        async def hold() -> None:
            await stop.wait()

        await bench.listener.control(hold)
        sending = asyncio.create_task(bench.append(silence(60)))
        await asyncio.sleep(0.02)
        assert not sending.done()
        assert bench.listener.inbox.backlog_s <= 1.0
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending


# Turn model.

ASKING = VoiceSettings(
    EndpointingSettings(silence_s=0.25, incomplete_silence_s=3.0, unjudged_silence_s=0.5)
)


@pytest.mark.parametrize(("verdict", "ends"), [(0.9, True), (0.1, False), (None, True)])
async def test_a_turn_ends_as_the_turn_model_says(verdict: float | None, ends: bool) -> None:
    model = ScriptedTurnModel([verdict])
    async with a_bench(ASKING, turn_model=model) as bench:
        await bench.append(np.concatenate([a_sentence(), silence(0.4)]))
        await bench.caught_up()
        if ends:
            await bench.until(FinalTranscript)
        else:
            await asyncio.sleep(0.2)
            assert not any(isinstance(event, SpeechStopped) for event in bench.events)
        assert len(model.heard) == 1
        assert np.abs(model.heard[0]).max() > 0.2


async def test_a_bug_in_handling_a_judgement_ends_the_session() -> None:
    async with a_bench(ASKING, turn_model=ScriptedTurnModel([0.9])) as bench:
        bench.raise_at = SpeechStopped
        await bench.append(a_sentence())
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(bench.listener_task, 20)  # type: ignore[attr-defined]


class SlowTurnModel:
    """Answers when it is let."""

    name = "slow"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked = 0
        self.asked_twice = threading.Event()

    def completeness(self, audio: NDArray[np.float32]) -> float:
        self.asked += 1
        if self.asked == 2:
            self.asked_twice.set()
        self.gate.wait(20)
        return 0.1


async def test_of_pauses_that_wait_to_be_judged_only_the_latest_is() -> None:
    model = SlowTurnModel()
    async with a_bench(ASKING, turn_model=model) as bench:
        for _ in range(5):
            await bench.append(np.concatenate([speech(0.5), silence(0.25)]))
            await bench.caught_up()
        assert model.asked <= 1
        model.gate.set()
        assert await asyncio.to_thread(model.asked_twice.wait, 20)
        await asyncio.sleep(0.1)
        assert model.asked == 2


async def test_a_session_that_ends_waits_for_no_judgement() -> None:
    model = SlowTurnModel()
    try:
        async with a_bench(ASKING, turn_model=model) as bench:
            await bench.append(np.concatenate([speech(0.5), silence(0.25)]))
            await bench.caught_up()
            await asyncio.wait_for(bench.listener.close(), 5)
            model.gate.set()
    finally:
        model.gate.set()


@pytest.mark.parametrize(
    ("pause_s", "replied", "suspects"), [(0.5, False, 1), (0.5, True, 0), (2.0, False, 0)]
)
async def test_speech_that_comes_back_soon_makes_the_end_of_the_turn_suspect(
    pause_s: float, replied: bool, suspects: int
) -> None:
    async with a_bench() as bench:
        await bench.append(np.concatenate([speech(0.8), silence(0.32)]))
        await bench.until(SpeechStopped)
        if replied:
            bench.listener.ear.reply_audio(0.1 * speech(0.2), bench.clock.now())
        await bench.append(np.concatenate([silence(pause_s), speech(0.8), silence(0.5)]))
        await bench.until(SpeechStopped, 2)
        assert bench.listener.premature_suspects == suspects


async def test_what_waits_is_reported_with_its_age() -> None:
    async with a_bench(queue_s=5.0) as bench:
        assert bench.listener.report()["audio_oldest_age_s"] is None
        held, stop = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            held.set()
            await stop.wait()

        await bench.listener.control(hold)
        await held.wait()
        await bench.append(silence(2.0))
        await asyncio.sleep(0.05)
        report = bench.listener.report()
        assert (report["audio_backlog_s"], report["audio_dropped"]) == (2.0, 0)
        assert report["audio_depth"] > 0
        assert report["audio_oldest_age_s"] > 0
        stop.set()
        await bench.caught_up()
        assert bench.listener.report()["audio_backlog_s"] == 0


async def test_the_last_delays_are_kept() -> None:
    async with a_bench() as bench:
        for number in range(8):
            bench.listener.transcribed(0.1 * number)
        assert bench.listener.report()["transcription_delays_s"] == [0.3, 0.4, 0.5, 0.6, 0.7]
