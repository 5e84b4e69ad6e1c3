"""A page of RealtimeVoiceChat against our server: one session, with scripted ears and voice."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketState

from rtvc.audio import float_to_pcm16, pcm16_to_float
from rtvc.clock import SystemClock
from rtvc.config import Settings, TurnSettings, load_settings
from rtvc.errors import ReplyError
from rtvc.instruments.event_loop import LoopLag
from rtvc.protocol.realtimevoicechat import (
    REPLY_RATE_HZ,
    AudioPacket,
    ClearHistory,
    SetSpeed,
    TtsStart,
    TtsStop,
    encode_client_message,
    encode_packet,
    parse_server_message,
)
from rtvc.server.hearing import Hearing
from rtvc.server.readiness import Readiness
from rtvc.server.replies.llm import Message
from rtvc.server.services import Services
from rtvc.server.sessions.realtimevoicechat import (
    RealtimeVoiceChatConnection,
    listening_settings,
    patience,
)
from rtvc.server.web.app import build_app
from rtvc.stt.ladder import Step
from rtvc.stt.transcriber import EngineStatus, Hypothesis, Job, JobKind
from rtvc.voice.admission import Admission
from rtvc.voice.vad import ScriptedVad

TTS_RATE_HZ = 24_000
TTS_TONE_HZ = 440.0
PIECE_SAMPLES = 2400


class OneLineEngine:
    """Hears a numbered sentence in everything, at once."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.cancelled: list[str] = []
        self.open_sessions: list[str] = []
        self.headroom_sessions: float | None = None
        self.degradation = Step.NONE
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.final_text: str | None = None
        self._heard: dict[str, int] = {}

    @property
    def status(self) -> EngineStatus:
        headroom = self.headroom_sessions
        return EngineStatus(
            *("ready", 1.0, "", "scripted", "scripted"),
            headroom_sessions=headroom,
            degradation=self.degradation,
        )

    @property
    def partial_interval_s(self) -> float:
        return self.status.partial_interval_s

    def on_status(self, listener: Callable[[EngineStatus], None]) -> None:
        """Its status never changes."""

    async def start(self) -> None:
        """Nothing to load."""

    async def transcribe(self, job: Job) -> Hypothesis | None:
        self.jobs.append(job)
        number = self._heard.setdefault(job.item_id, len(self._heard) + 1)
        seconds = len(job.audio) / 16_000
        text = f"Sentence {number}."
        if job.kind is not JobKind.PARTIAL:
            await self.go_on.wait()
            text = text if self.final_text is None else self.final_text
        return Hypothesis(text, seconds, 0, 0, 0, 0, 1, 2)

    async def open_session(self, session_id: str) -> None:
        self.open_sessions.append(session_id)

    def close_session(self, session_id: str) -> None:
        self.open_sessions.remove(session_id)

    def cancel_session(self, session_id: str) -> None:
        self.cancelled.append(session_id)

    async def close(self) -> None:
        """Nothing to end."""


class RecordingLlm:
    """Answers two sentences and remembers what it was asked; may be told to stop after one."""

    name = "recording"

    def __init__(self) -> None:
        self.asked: list[list[Message]] = []
        self.fails = False
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int | None
    ) -> AsyncGenerator[str, None]:
        self.asked.append(list(messages))
        if self.fails:
            raise ReplyError("the model is away")
        for word in ("One ", "two ", "three. ", "Four "):
            yield word
        await self.go_on.wait()
        for word in ("five ", "six."):
            yield word

    async def close(self) -> None:
        """Nothing to let go of."""


class ToneTts:
    """Says every sentence as a tone; may be told to hold its breath after the first piece."""

    name = "tone"
    rate_hz = TTS_RATE_HZ

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.pieces = 0

    async def synthesize(
        self, text: str, *, voice: str | None, speed: float
    ) -> AsyncGenerator[bytes, None]:
        for _ in range(3):
            start = self.pieces * PIECE_SAMPLES
            at_s = np.arange(start, start + PIECE_SAMPLES) / TTS_RATE_HZ
            self.pieces += 1
            yield float_to_pcm16(0.5 * np.sin(2 * np.pi * TTS_TONE_HZ * at_s))
            await self.go_on.wait()

    async def close(self) -> None:
        """Nothing to let go of."""


class FakeSocket:
    """A WebSocket whose client is the test."""

    def __init__(self) -> None:
        self.client_state = WebSocketState.CONNECTING
        self.scope: dict[str, Any] = {}
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[tuple[str, str]] = []
        self.closed: tuple[int, str] | None = None
        self._arrived = asyncio.Event()

    async def accept(self) -> None:
        self.client_state = WebSocketState.CONNECTED

    async def receive(self) -> dict[str, Any]:
        message = await self.incoming.get()
        if message["type"] == "websocket.disconnect":
            self.client_state = WebSocketState.DISCONNECTED
        return message

    async def send_text(self, text: str) -> None:
        message = parse_server_message(text)
        assert message is not None
        assert json.loads(text).keys() == {"type", "content"}
        self.sent.append((message.type, message.content))
        self._arrived.set()

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    async def until(self, *kinds: str, count: int = 1) -> None:
        """Wait until each kind has been sent `count` times."""
        async with asyncio.timeout(10):
            while any(self.kinds.count(kind) < count for kind in kinds):
                self._arrived.clear()
                await self._arrived.wait()

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.sent]

    def contents(self, kind: str) -> list[str]:
        return [content for sent, content in self.sent if sent == kind]


class Page:
    """The browser's side: a microphone of noise or silence, and commands."""

    def __init__(self, rate_hz: int, services: Services) -> None:
        self.socket = FakeSocket()
        self.playing = False
        self._rate_hz = rate_hz
        self._clock_ms = 2**32 - 300.0
        self._noise = np.random.default_rng(1)
        self.session = RealtimeVoiceChatConnection(self.socket, services)  # type: ignore[arg-type]

    def speak(self, seconds: float = 1.0) -> None:
        self._microphone(seconds, 0.3)

    def pause(self, seconds: float = 1.0) -> None:
        self._microphone(seconds, 0.0)

    def _microphone(self, seconds: float, level: float) -> None:
        for _ in range(round(seconds * self._rate_hz / 2048)):
            self._clock_ms += 2048 / self._rate_hz * 1000
            pcm = float_to_pcm16(level * self._noise.uniform(-1, 1, 2048))
            packet = encode_packet(AudioPacket(int(self._clock_ms), self.playing, pcm))
            self.send_bytes(packet)

    def send_bytes(self, data: bytes) -> None:
        self.socket.incoming.put_nowait({"type": "websocket.receive", "bytes": data})

    def send_text(self, text: str) -> None:
        self.socket.incoming.put_nowait({"type": "websocket.receive", "text": text})

    def say(self, command: Any) -> None:
        self.send_text(encode_client_message(command))

    def leave(self) -> None:
        self.socket.incoming.put_nowait({"type": "websocket.disconnect"})


class World:
    """The server's services, and what stands in for the models."""

    def __init__(self, hearing: Hearing) -> None:
        clock = SystemClock()
        self.engine, self.llm, self.tts = OneLineEngine(), RecordingLlm(), ToneTts()
        self.services = Services(
            settings=Settings(),
            clock=clock,
            engine=self.engine,
            new_vad=ScriptedVad,
            llm=self.llm,
            tts=self.tts,
            readiness=Readiness("speech-to-text"),
            admission=Admission(1),
            hearing=hearing,
            loop_lag=LoopLag(clock),
        )

    @asynccontextmanager
    async def page(self, rate_hz: int = 48_000) -> AsyncIterator[Page]:
        page = Page(rate_hz, self.services)
        running = asyncio.create_task(page.session.run())
        try:
            yield page
        finally:
            page.leave()
            async with asyncio.timeout(10):
                await running


@pytest.fixture
def world() -> Iterator[World]:
    with closing(Hearing(SystemClock())) as hearing:
        yield World(hearing)


async def heard(page: Page, world: World, seconds: float) -> None:
    """Wait until the server has heard so much of the microphone."""
    async with asyncio.timeout(10):
        while page.session.describe(0.0)["audio_s"] < seconds:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_nothing_is_said_before_someone_speaks(world: World) -> None:
    async with world.page() as page:
        page.pause(2.0)
        await heard(page, world, 1.9)
        assert page.socket.sent == []


async def test_a_turn_in_the_order_the_page_knows(world: World) -> None:
    async with world.page() as page:
        page.pause(0.5)
        page.speak(1.5)
        await page.socket.until("partial_user_request")
        page.pause(1.0)
        await page.socket.until("final_assistant_answer")
        sent = page.socket.sent
        order = list(dict.fromkeys(page.socket.kinds))
    assert order == [
        "partial_user_request",
        "final_user_request",
        "partial_assistant_answer",
        "tts_chunk",
        "final_assistant_answer",
    ]
    assert sent[0] == ("partial_user_request", "Sentence 1.")
    assert page.socket.contents("partial_user_request") == ["Sentence 1."]
    assert page.socket.contents("final_user_request") == ["Sentence 1."]
    assert sent[-1] == ("final_assistant_answer", "One two three. Four five six.")


async def test_the_voice_comes_at_48_khz_without_seams(world: World) -> None:
    async with world.page() as page:
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("final_assistant_answer")
        audio = reply_audio(page)
    assert len(audio) == 2 * world.tts.pieces * PIECE_SAMPLES
    at_s = np.arange(len(audio)) / REPLY_RATE_HZ
    expected = 0.5 * np.sin(2 * np.pi * TTS_TONE_HZ * at_s)
    inner = slice(200, -200)
    assert np.abs(audio[inner] - expected[inner]).max() < 0.005


async def test_each_answer_has_its_own_audio_only(world: World) -> None:
    async with world.page() as page:
        for turn in (1, 2):
            page.speak(1.0)
            page.pause(1.0)
            await page.socket.until("final_assistant_answer", count=turn)
            page.say(TtsStop())
        assert len(reply_audio(page)) == 2 * world.tts.pieces * PIECE_SAMPLES
        assert page.socket.contents("final_user_request") == ["Sentence 1.", "Sentence 2."]
    roles = [(message.role, message.text) for message in world.llm.asked[1][1:]]
    assert roles == [
        ("user", "Sentence 1."),
        ("assistant", "One two three. Four five six."),
        ("user", "Sentence 2."),
    ]


def reply_audio(page: Page) -> Any:
    chunks = [
        parse_server_message(json.dumps({"type": kind, "content": content}))
        for kind, content in page.socket.sent
        if kind == "tts_chunk"
    ]
    return np.concatenate([pcm16_to_float(chunk.pcm()) for chunk in chunks if chunk])


async def test_barge_in_stops_the_voice_and_history_keeps_what_was_heard(world: World) -> None:
    world.tts.go_on.clear()
    async with world.page() as page:
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("partial_assistant_answer")
        page.say(TtsStart())
        page.playing = True
        page.speak(1.0)
        await page.socket.until("tts_interruption")
        kinds = page.socket.kinds
        cut = page.socket.contents("final_assistant_answer")[0]
        world.tts.go_on.set()
        page.playing = False
        page.say(TtsStop())
        page.pause(1.0)
        await page.socket.until("final_assistant_answer", count=2)
        after = page.socket.kinds[len(kinds) :]
        assert page.session.describe(0.0)["interruptions"] == 1
    assert kinds[-3:] == ["final_assistant_answer", "stop_tts", "tts_interruption"]
    assert after.index("final_user_request") < after.index("tts_chunk")
    assert "One two three. Four five six.".startswith(cut)
    assert cut != "One two three. Four five six."
    asked = [message.text for message in world.llm.asked[1]]
    assert asked[1:] == [text for text in ("Sentence 1.", cut, "Sentence 2.") if text]


async def test_a_pause_in_the_voice_does_not_make_what_was_heard_unheard(world: World) -> None:
    world.llm.go_on.clear()
    async with world.page() as page:
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("tts_chunk", count=3)
        page.say(TtsStart())
        await asyncio.sleep(0.4)  # all 0.3 s of the first sentence
        page.say(TtsStop())
        page.say(TtsStart())
        page.playing = True
        page.speak(1.0)
        await page.socket.until("tts_interruption")
        cut = page.socket.contents("final_assistant_answer")[0]
    assert cut.startswith("One two three.")


async def test_an_answer_still_playing_is_stopped_without_a_second_final(world: World) -> None:
    async with world.page() as page:
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("final_assistant_answer")
        page.say(TtsStart())
        page.playing = True
        page.speak(1.0)
        await page.socket.until("tts_interruption")
        assert page.socket.kinds.count("final_assistant_answer") == 1


async def test_speech_after_playback_interrupts_nothing(world: World) -> None:
    async with world.page() as page:
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("final_assistant_answer")
        page.say(TtsStart())
        page.say(TtsStop())
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("final_assistant_answer", count=2)
        assert "stop_tts" not in page.socket.kinds


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 96_000])
async def test_the_unstated_rate_is_found_and_undone(world: World, rate_hz: int) -> None:
    async with world.page(rate_hz) as page:
        page.pause(2.0)
        page.speak(2.0)
        page.pause(1.0)
        await page.socket.until("final_assistant_answer")
        described = page.session.describe(0.0)
    assert (described["sample_rate_hz"], described["sample_rate_confidence"]) == (rate_hz, 1.0)
    longest_s = max(len(job.audio) for job in world.engine.jobs) / 16_000
    padding_and_silence_s = 0.3 + 0.3
    assert longest_s == pytest.approx(2.0 + padding_and_silence_s, abs=0.35)


async def test_clearing_the_history_forgets_what_was_said(world: World) -> None:
    async with world.page() as page:
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("final_assistant_answer")
        page.say(TtsStop())
        page.say(ClearHistory())
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("final_assistant_answer", count=2)
    assert [message.text for message in world.llm.asked[1]][1:] == ["Sentence 2."]


async def test_clearing_the_history_stops_an_answer(world: World) -> None:
    world.tts.go_on.clear()
    async with world.page() as page:
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("partial_assistant_answer")
        page.say(ClearHistory())
        await page.socket.until("tts_interruption")
        assert not page.session.describe(0.0)["replying"]


async def test_clearing_the_history_leaves_no_bubble_of_the_answer(world: World) -> None:
    world.llm.go_on.clear()
    async with world.page() as page:
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("tts_chunk", count=3)
        page.say(TtsStart())
        await asyncio.sleep(0.4)  # the first sentence has been heard
        page.say(ClearHistory())
        await page.socket.until("tts_interruption")
        assert page.socket.contents("final_assistant_answer") == [""]


async def test_what_is_transcribed_after_a_clearing_is_answered_and_remembered(
    world: World,
) -> None:
    world.engine.go_on.clear()
    async with world.page() as page:
        page.speak(1.0)
        page.pause(1.0)
        await heard(page, world, 1.9)
        page.say(ClearHistory())
        page.pause(0.1)
        await heard(page, world, 1.98)
        world.engine.go_on.set()
        await page.socket.until("final_assistant_answer")
    assert [message.text for message in world.llm.asked[0]][1:] == ["Sentence 1."]


async def test_a_partial_that_turns_out_to_be_nothing_is_taken_back(world: World) -> None:
    world.engine.final_text = ""
    async with world.page() as page:
        page.speak(1.5)
        page.pause(1.0)
        await page.socket.until("partial_user_request", count=2)
    assert page.socket.sent == [
        ("partial_user_request", "Sentence 1."),
        ("partial_user_request", ""),
    ]


async def test_patience_can_be_set(world: World) -> None:
    async with world.page() as page:
        page.say(SetSpeed(100))
        page.speak(1.0)
        page.pause(1.0)
        await heard(page, world, 1.9)
        assert "final_user_request" not in page.socket.kinds
        page.pause(1.0)
        await page.socket.until("final_user_request")


def test_patience_grows_with_the_slider_and_is_the_servers_own_until_touched() -> None:
    silences = [
        (chosen.unset_silence_s, chosen.unmarked_silence_s, chosen.unfinished_silence_s)
        for chosen in (patience(0.5, speed) for speed in range(0, 101, 10))
    ]
    assert silences == sorted(silences)
    assert all(finished < unmarked < unfinished for finished, unmarked, unfinished in silences)
    own = listening_settings(TurnSettings(silence_ms=700), None).endpointing
    assert own is not None
    assert own.silence_s == 0.7


async def test_what_cannot_be_read_is_ignored_and_the_session_goes_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.page() as page:
        for data in (b"", b"1234567", bytes(9), bytes(8)):
            page.send_bytes(data)
        for text in ("", "{", "[]", '{"type":"who"}', '{"type":"set_speed","speed":"x"}'):
            page.send_text(text)
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("final_assistant_answer")
        assert page.session.describe(0.0)["ignored_messages"] == 8
    assert sum("message ignored" in record.message for record in caplog.records) == 1


async def test_a_reply_that_fails_is_said_to_the_person_and_not_remembered(world: World) -> None:
    world.llm.fails = True
    async with world.page() as page:
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("final_assistant_answer")
        apology = page.socket.contents("final_assistant_answer")[0]
        assert apology == Settings().llm.apology
        assert len(reply_audio(page)) > 0
        world.llm.fails = False
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("final_assistant_answer", count=2)
    assert [message.role for message in world.llm.asked[1][1:]] == ["user", "user"]


async def test_a_session_that_breaks_is_closed_with_a_reason(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(messages: Any, *, max_tokens: Any) -> AsyncGenerator[str, None]:
        yield "One"
        raise RuntimeError("nobody foresaw this")

    world.llm.stream = broken  # type: ignore[method-assign]
    page = Page(48_000, world.services)
    running = asyncio.create_task(page.session.run())
    page.speak(1.0)
    page.pause(1.0)
    async with asyncio.timeout(10):
        await running
    assert page.socket.closed == (1011, "the server failed; see its log")
    assert "failed" in caplog.text


async def test_leaving_leaves_nothing_behind(world: World) -> None:
    world.tts.go_on.clear()
    async with world.page() as page:
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("partial_assistant_answer")
        assert list(world.services.sessions) == [page.session.session_id]
        assert world.engine.open_sessions == [page.session.session_id]
    assert world.services.sessions == {}
    assert world.engine.open_sessions == []
    assert world.engine.cancelled == [page.session.session_id]
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_the_door_is_shut_until_ready_and_when_full(world: World) -> None:
    client = TestClient(build_app(world.services))
    with pytest.raises(WebSocketDenialResponse) as loading, client.websocket_connect("/ws"):
        pass
    assert loading.value.status_code == 503
    assert loading.value.json()["error"]["code"] == "not_ready"
    world.services.readiness.update("speech-to-text", "ready", 1.0)
    world.services.admission.enter()
    with pytest.raises(WebSocketDenialResponse) as full, client.websocket_connect("/ws"):
        pass
    assert full.value.json()["error"]["code"] == "server_full"
    assert int(full.value.headers["retry-after"]) > 0


def test_who_stands_aside_lets_in_who_comes_all_the_same(world: World) -> None:
    """Nobody has noticed so far, or there is nobody else who is ready."""
    readiness, admission = world.services.readiness, world.services.admission
    readiness.update("speech-to-text", "ready", 1.0)
    admission.max_sessions = 8
    with TestClient(build_app(world.services)) as client, client.websocket_connect("/ws"):
        readiness.set_aside(True)
        told = client.get("/readyz")
        assert (told.status_code, told.json()["state"]) == (503, "aside")
        assert told.json()["full"] is False
        assert told.json()["retry_after_s"] > 0
        with client.websocket_connect("/ws"):
            assert (admission.sessions, admission.refused) == (2, 0)
            readiness.set_aside(False)
            assert client.get("/readyz").status_code == 200
            with client.websocket_connect("/ws"):
                assert admission.sessions == 3


def test_the_door_is_shut_before_the_delay_target_breaks(world: World) -> None:
    world.services.readiness.update("speech-to-text", "ready", 1.0)
    client = TestClient(build_app(world.services))
    world.services.admission.max_sessions = 10
    world.services.admission.enter()
    world.engine.headroom_sessions = 0.4
    body = client.get("/readyz").json()
    assert (body["full"], body["headroom_sessions"]) == (True, 0.4)
    assert client.get("/v1/sessions").json()["headroom_sessions"] == 0.4
    with pytest.raises(WebSocketDenialResponse) as full, client.websocket_connect("/ws"):
        pass
    assert full.value.status_code == 503
    error = full.value.json()["error"]
    assert error["code"] == "server_full"
    assert "no headroom" in error["message"]
    world.engine.headroom_sessions = 1.0
    assert client.get("/readyz").json()["full"] is False


@pytest.mark.parametrize(
    ("step", "full"), [(Step.NONE, False), (Step.NO_PARTIALS, False), (Step.REFUSING, True)]
)
def test_the_door_is_shut_when_all_else_was_given_up(world: World, step: Step, full: bool) -> None:
    world.services.readiness.update("speech-to-text", "ready", 1.0)
    client = TestClient(build_app(world.services))
    world.services.admission.max_sessions = 10
    world.engine.degradation = step
    assert client.get("/readyz").json()["full"] is False
    world.services.admission.enter()
    body = client.get("/readyz").json()
    assert (body["full"], body["degradation"]) == (full, step.label)
    assert client.get("/v1/sessions").json()["degradation"] == step.label
    if full:
        with pytest.raises(WebSocketDenialResponse) as shut, client.websocket_connect("/ws"):
            pass
        message = shut.value.json()["error"]["message"]
        assert "overloaded: transcripts of the 1 sessions here are late" in message
    slots = {"serve": {"admission": "slots"}}
    world.services.settings = load_settings(slots, environment={})
    assert client.get("/readyz").json()["full"] is False


def test_a_page_talks_through_the_door(world: World) -> None:
    world.services.readiness.update("speech-to-text", "ready", 1.0)
    with TestClient(build_app(world.services)) as client, client.websocket_connect("/ws") as socket:
        noise = np.random.default_rng(1).uniform(-0.3, 0.3, 2048)
        for index in range(48):
            pcm = float_to_pcm16(noise if index < 24 else np.zeros(2048))
            socket.send_bytes(encode_packet(AudioPacket(round(index * 42.67), False, pcm)))
        kinds = [socket.receive_json()["type"] for _ in range(3)]
    assert kinds[0] == "partial_user_request"
    assert world.services.admission.sessions == 0
