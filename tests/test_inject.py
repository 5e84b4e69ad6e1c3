"""Faults on demand: each does what its name says and nothing else, and leaves nothing behind."""

import asyncio
import math
import random
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.clock import FakeClock, SystemClock
from rtvc.config import Settings, load_settings
from rtvc.errors import UsageError
from rtvc.server.faults.active import ANY_NUMBER, EXHAUSTED_BYTES, Faults
from rtvc.server.faults.faulty_services import HiddenBacklog, SlowTurnModel, SlowVad
from rtvc.server.faults.inject import FAULTS, FaultName, listing, parse
from rtvc.server.faults.neighbour import Load, Neighbour
from rtvc.server.faults.slow_link import FLIGHT_BYTES, JITTER, SlowLink, spread
from rtvc.server.replies.llm import ScriptedLanguageModel
from rtvc.server.replies.tts import EspeakSynthesizer
from rtvc.stt.calibration import wish
from rtvc.stt.faulty import FaultyTranscriber, Troubles
from rtvc.stt.models import SELFTEST_PATH
from rtvc.stt.process_engine import EnginePlan, ProcessEngine
from rtvc.stt.scheduler import Scheduler
from rtvc.stt.scripted import ScriptedTranscriber
from rtvc.stt.tickets import Limits
from rtvc.stt.transcriber import JobKind
from rtvc.stt.whisper import WhisperTranscriber
from rtvc.voice.turn_model import ScriptedTurnModel
from rtvc.voice.vad import FRAME_SAMPLES, ScriptedVad
from tests.test_cli import one_line
from tests.test_engine import until
from tests.test_inject_engine import job

CLOCK = SystemClock()
DOCS = Path(__file__).parents[1] / "docs" / "profile" / "faults.md"
TAKING = [name for name in FaultName if FAULTS[name].unit]


# How they are written.


@st.composite
def written(draw: st.DrawFn) -> dict[FaultName, float]:
    names = draw(st.lists(st.sampled_from(TAKING), unique=True))
    return {n: draw(st.floats(FAULTS[n].least, FAULTS[n].most)) for n in names}


@given(amounts=written())
def test_what_is_written_is_what_is_meant(amounts: dict[FaultName, float]) -> None:
    assert parse([f"{name}={amount!r}" for name, amount in amounts.items()]) == amounts
    assert parse([name.value for name in amounts]) == {n: FAULTS[n].usual for n in amounts}


@given(text=st.text())
def test_any_other_text_is_refused_in_one_line(text: str) -> None:
    if text.partition("=")[0].strip() in list(FaultName):
        return
    with pytest.raises(UsageError, match=r"^--inject") as refused:
        parse([text])
    assert len(str(refused.value).splitlines()) == 1


@given(name=st.sampled_from(TAKING), amount=st.floats() | st.text("0123456789.xe- ", max_size=4))
def test_an_amount_out_of_bounds_is_refused(name: FaultName, amount: float | str) -> None:
    fault = FAULTS[name]
    try:
        meant = float(amount)
    except ValueError:
        meant = math.nan
    if fault.least <= meant <= fault.most:
        assert parse([f"{name}={amount}"]) == {name: meant}
        return
    with pytest.raises(UsageError, match="expected") as refused:
        parse([f"{name}={amount}"])
    assert listing() in str(refused.value)


def test_mistakes_are_explained() -> None:
    with pytest.raises(UsageError, match="did you mean slow-llm") as refused:
        parse(["slow-lm=1"])
    for name, fault in FAULTS.items():
        assert name in str(refused.value)
        assert not fault.unit or f"{name} ({fault.unit})" in str(refused.value)
    with pytest.raises(UsageError, match="slow-llm twice"):
        parse(["slow-llm", "slow-llm=1"])
    with pytest.raises(UsageError, match="it takes no amount"):
        parse(["serialised-inference=1"])


def test_the_usual_amounts_are_within_their_bounds_and_documented() -> None:
    rows = [line.split("|")[1:5] for line in DOCS.read_text("utf-8").splitlines()]
    told = {row[0].strip(): (row[1].strip(), row[2].strip()) for row in rows if len(row) == 4}
    for name, fault in FAULTS.items():
        assert fault.least <= fault.usual <= fault.most
        usual = f"{fault.usual:g}" if fault.unit else ""
        assert told[f"`{name}`"] == (fault.unit, usual)


def test_they_may_stand_in_the_environment_too() -> None:
    found = load_settings(environment={"RTVC_SERVE_INJECT": "slow-llm=2, blocked-loop"})
    assert found.serve.inject == ("slow-llm=2", "blocked-loop")
    flagged = load_settings({"serve": {"inject": ["slow-tts"]}}, environment={})
    assert flagged.serve.inject == ("slow-tts",)


@pytest.mark.slow
def test_the_command_refuses_what_there_is_not() -> None:
    line = one_line("serve", "--model", "scripted", "--port", "0", "--inject", "earthquake")
    assert "earthquake" in line
    assert "throttling (×)" in line


# What is run.


def faults(*texts: str) -> Faults:
    return Faults(parse(texts), CLOCK)


def a_plan(**more: Any) -> EnginePlan:
    limits = Limits(max_batch=8)
    return EnginePlan(ScriptedTranscriber(), "m", "k", workers=2, limits=limits, **more)


def test_without_faults_every_part_is_handed_back_as_it_came() -> None:
    none, plan, everything = faults(), a_plan(), Settings()
    llm, tts = ScriptedLanguageModel(), EspeakSynthesizer()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        """Never called."""

    assert none.settings(everything) is everything
    assert none.plan(plan) is plan
    assert none.llm(llm) is llm
    assert none.tts(tts) is tts
    assert none.vad(ScriptedVad) is ScriptedVad
    assert none.turn_model(None) is None
    assert none.app(app) is app
    assert none.http(asyncio.Protocol) is asyncio.Protocol
    assert none.notices == []


def test_serialised_inference_is_one_job_at_a_time() -> None:
    plan = faults("serialised-inference").plan(a_plan(wish=wish(2)))
    assert (plan.workers, plan.limits.max_batch, plan.wish) == (1, 1, None)
    assert isinstance(plan.transcriber, ScriptedTranscriber)


@pytest.mark.slow
async def test_a_flood_lets_partials_go_before_finals() -> None:
    plan = faults("partials-flood").plan(a_plan())
    engine = ProcessEngine(lambda report: plan, clock=CLOCK, model="scripted")
    try:
        await engine.start()
        scheduler = Scheduler(engine._scheduler.limits)
    finally:
        await engine.close()
    assert scheduler.limits.partial_batches == ANY_NUMBER
    for kind, session_id in [(JobKind.FINAL, "a"), (JobKind.PARTIAL, "b"), (JobKind.PARTIAL, "c")]:
        scheduler.submit(job(session_id, kind), 0.0)
    order = [scheduler.next_batch(0.0) for _ in range(2)]
    assert [batch.tickets[0].job.kind for batch in order if batch] == [
        JobKind.PARTIAL,
        JobKind.FINAL,
    ]


def test_policies_are_settings() -> None:
    before = load_settings({"turn": {"silence_ms": 400}}, environment={})
    assert faults("endpoint-wait=300").settings(before).turn.silence_ms == 700
    assert faults("endpoint-wait=300").settings(Settings()).turn.silence_ms == 550
    both = faults("partials-flood", "model-per-session").settings(before)
    assert (both.turn.partials, both.stt.sharing) == ("flat-out", "per-session")
    assert both.turn.silence_ms == 400
    assert faults("turn-model-slow").settings(before).turn.detection == "semantic_vad"
    assert faults("slow-llm").settings(before) == before


@pytest.mark.parametrize(
    ("stt", "copies"),
    [({}, 1), ({"sharing": "pool", "pool_size": 4}, 4), ({"sharing": "per-session"}, 32)],
)
def test_all_engines_together_keep_to_the_bound_of_memory(stt: dict[str, Any], copies: int) -> None:
    exhausting = faults("memory-exhaustion=20")
    exhausting.settings(load_settings({"stt": stt}, environment={}))
    transcriber = exhausting.plan(a_plan()).transcriber
    assert isinstance(transcriber, FaultyTranscriber)
    assert transcriber._troubles.room_bytes == EXHAUSTED_BYTES // copies
    assert transcriber._troubles.grow_bytes_per_s == 2e7


def test_what_is_wrong_inside_the_process_is_told_to_it() -> None:
    names = ["inference-slow=2", "throttling=3", "cold-start=4", "engine-crash=5", "engine-hang=6"]
    names += ["partials-flood=7", "model-per-session=8"]
    transcriber = faults(*names).plan(a_plan()).transcriber
    assert isinstance(transcriber, FaultyTranscriber)
    assert transcriber._troubles == Troubles(
        load_s=8,
        slower=2,
        partial_times=7,
        throttled=3,
        cold_s=4,
        crash_after_s=5,
        hang_after_s=6,
    )


# Services.


def test_hearing_takes_so_long_for_each_second_of_audio() -> None:
    clock = FakeClock()
    vad = SlowVad(ScriptedVad(), 0.5, clock.advance)
    frames = np.zeros((10, FRAME_SAMPLES), np.float32)
    frames[3] = 0.5
    assert vad.probabilities(frames) == ScriptedVad().probabilities(frames)
    assert clock.now() == pytest.approx(0.5 * 0.32)
    vad.probabilities(frames[:0])
    assert clock.now() == pytest.approx(0.5 * 0.32)


def test_a_turn_model_thinks_longer_and_there_is_a_stand_in() -> None:
    clock = FakeClock()
    audio = np.zeros(16_000, np.float32)
    assert SlowTurnModel(ScriptedTurnModel([0.3]), 0.7, clock.advance).completeness(audio) == 0.3
    assert clock.now() == 0.7
    assert SlowTurnModel(None, 0.7, clock.advance).completeness(audio) == 1.0


async def test_a_slow_model_writes_and_speaks_the_same_later() -> None:
    llm, tts = ScriptedLanguageModel(ttft_s=0.0, tokens_per_s=1e6), EspeakSynthesizer()
    late = faults("slow-llm=0.2", "slow-tts=0.2")
    try:
        for part, sound in [
            (late.llm(llm).stream([], max_tokens=None), llm.stream([], max_tokens=None)),
            (
                late.tts(tts).synthesize("Yes.", voice=None, speed=1.0),
                tts.synthesize("Yes.", voice=None, speed=1.0),
            ),
        ]:
            began_s = CLOCK.now()
            async with aclosing(part) as pieces, aclosing(sound) as expected:
                found = [await anext(pieces)]
                assert CLOCK.now() - began_s >= 0.19
                found += [piece async for piece in pieces]
                # espeak-ng never says a thing twice alike: its pieces are only as many.
                assert len(found) == len([piece async for piece in expected])
    finally:
        await late.tts(tts).close()
        await late.llm(llm).close()


# Between the socket and the server.


async def test_what_clients_send_is_kept_back_in_order() -> None:
    got: list[tuple[str, float]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] != "websocket.disconnect":
            got.append((message.get("text", message["type"]), CLOCK.now()))

    arriving: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def send(message: Any) -> None:
        """Nothing is sent."""

    began_s = CLOCK.now()
    serving = asyncio.create_task(
        HiddenBacklog(app, 0.3, CLOCK)({"type": "websocket"}, arriving.get, send)
    )
    arriving.put_nowait({"type": "websocket.connect"})
    for number in range(20):
        arriving.put_nowait({"type": "websocket.receive", "text": str(number)})
    await until(lambda: len(got) == 21)
    assert [text for text, _ in got] == ["websocket.connect", *map(str, range(20))]
    # All of them were held at the same time, not one after the other.
    assert got[0][1] - began_s < 0.3 <= got[1][1] - began_s + 0.01
    assert got[-1][1] - got[1][1] < 0.3
    arriving.put_nowait({"type": "websocket.receive", "text": "never heard"})
    arriving.put_nowait({"type": "websocket.disconnect", "code": 1001})
    await asyncio.wait_for(serving, 10)
    assert len(got) == 21


async def test_pages_are_not_kept_back() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(receive)

    async def receive() -> Any:
        """Never called."""

    async def send(message: Any) -> None:
        """Never called."""

    await HiddenBacklog(app, 0.3, CLOCK)({"type": "http"}, receive, send)
    assert seen == [receive]


class Echo(asyncio.Protocol):
    """Sends back what comes, and closes at a full stop."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        if data.endswith(b"."):
            self.transport.close()


@asynccontextmanager
async def echoing(
    delay_s: float,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SlowLink(Echo(), spread(delay_s), random.Random(1)), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()


async def test_a_slow_link_is_late_both_ways_and_keeps_the_order() -> None:
    async with echoing(0.1) as (reader, writer):
        for _ in range(3):
            began_s = CLOCK.now()
            writer.write(b"?")
            assert await reader.readexactly(1) == b"?"
            assert CLOCK.now() - began_s >= 2 * 0.1 * (1 - JITTER) - 0.005
        numbers = [f"{number:05d}".encode() for number in range(500)]
        for number in numbers:
            writer.write(number)
            await asyncio.sleep(0)
        assert await reader.readexactly(5 * 500) == b"".join(numbers)
        writer.write(b"the end.")
        # What was written before the connection was closed still comes.
        assert await reader.read() == b"the end."


async def test_a_slow_link_holds_no_more_than_a_network_would() -> None:
    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: Any = transport
            self.got = 0
            transport.pause_reading()  # type: ignore[attr-defined]

        def data_received(self, data: bytes) -> None:
            self.got += len(data)

    loop = asyncio.get_running_loop()
    links: list[SlowLink] = []

    def accept() -> SlowLink:
        links.append(SlowLink(Deaf(), spread(0.001), random.Random(1)))
        return links[-1]

    server = await loop.create_server(accept, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    total = 8 * FLIGHT_BYTES
    writer.write(bytes(total))
    await until(lambda: bool(links) and links[0].incoming.flight_bytes >= FLIGHT_BYTES)
    await asyncio.sleep(0.1)
    assert links[0].incoming.flight_bytes < 2 * FLIGHT_BYTES
    assert links[0].target.got == 0
    links[0].target.transport.resume_reading()
    await until(lambda: links[0].target.got == total)
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


# A neighbour.


def a_model() -> WhisperTranscriber:
    return WhisperTranscriber(
        SELFTEST_PATH, clock=CLOCK, device="cpu", encoder_context="short", suppress_blank=False
    )


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("load", [Load(1.5), Load(1.5, a_model())], ids=["computes", "infers"])
def test_a_neighbour_works_and_goes(load: Load) -> None:
    neighbour = Neighbour()
    neighbour.start(load)
    pid = neighbour.pid
    assert pid is not None
    process = psutil.Process(pid)
    for _ in range(500):
        if process.cpu_times().user > 4.0:
            break
        threading.Event().wait(0.02)
    # More than starting and loading take.
    assert process.cpu_times().user > 4.0
    neighbour.stop()
    neighbour.stop()
    assert neighbour.pid is None
    assert not process.is_running()
