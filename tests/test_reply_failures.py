"""Both protocols in front of services that misbehave: the session goes on, the person is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
from starlette.websockets import WebSocketState

from rtvc.clock import SystemClock
from rtvc.config import LlmSettings, Settings, TtsSettings
from rtvc.protocol.realtimevoicechat import TtsStop
from rtvc.server.faults.active import Faults
from rtvc.server.faults.inject import FaultName
from rtvc.server.hearing import Hearing
from rtvc.server.replies.breaker import FAILURES
from rtvc.server.replies.llm import OpenAiLanguageModel, ScriptedLanguageModel
from rtvc.server.replies.replying import guarded_llm, guarded_tts, new_breakers
from rtvc.server.replies.tts import OpenAiSynthesizer
from rtvc.server.services import Services
from rtvc.server.sessions.connection import RealtimeConnection
from rtvc.server.web.app import readiness_body
from rtvc.server.web.scrape import Scraper
from tests.fake_openai import chat_chunk, sse
from tests.misbehaving_services import (
    PCM,
    Hang,
    Misbehaving,
    Reset,
    Script,
    answer,
    head,
    reply,
    speech,
)
from tests.test_server_realtimevoicechat import ToneTts, World, reply_audio

SETTINGS = Settings(
    llm=LlmSettings(first_token_s=1.5, timeout_s=1.5, max_chars=200),
    tts=TtsSettings(timeout_s=1.5),
)
"""Patient enough for whatever answers at all, on a machine that is busy with other things."""
SORRY, LOST = SETTINGS.llm.apology, SETTINGS.llm.broken_off
BEGUN: Script = [head(), sse(chat_chunk("It is noon. And "))]


class Socket:
    """A WebSocket whose client is the test."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}
        self.client_state = WebSocketState.CONNECTED
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.events: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self._arrived = asyncio.Event()

    async def accept(self, subprotocol: str | None = None) -> None:
        """As the test is there already."""

    async def receive(self) -> dict[str, Any]:
        message = await self.incoming.get()
        if message["type"] == "websocket.disconnect":
            self.client_state = WebSocketState.DISCONNECTED
        return message

    async def send_text(self, text: str) -> None:
        self.events.append(json.loads(text))
        self._arrived.set()

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def send(self, kind: str, **fields: Any) -> None:
        text = json.dumps({"type": kind, **fields})
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    async def until(self, kind: str, count: int = 1) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while len(self.of(kind)) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.of(kind)[count - 1]

    async def ask(self, text: str = "What time is it?", **response: Any) -> dict[str, Any]:
        """The response to something typed, as response.done has it."""
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content}
        self.send("conversation.item.create", item=item)
        self.send("response.create", response=response)
        done = await self.until("response.done", len(self.of("response.done")) + 1)
        found: dict[str, Any] = done["response"]
        return found


class Server:
    """Services whose language model and voice are HTTP services; the spare voice is a tone."""

    def __init__(self, world: World, service: Misbehaving, *, spare: bool = True) -> None:
        base = world.services
        self.spare = ToneTts()
        self.breakers = new_breakers(base.clock, base.metrics, base.readiness.changed)
        self.llm = OpenAiLanguageModel(service.url, "small")
        self.tts = OpenAiSynthesizer(service.url, "t", "v")
        self.services = Services(
            settings=SETTINGS,
            clock=base.clock,
            engine=base.engine,
            new_vad=base.new_vad,
            llm=guarded_llm(self.llm, SETTINGS.llm, self.breakers),
            tts=guarded_tts(self.tts, SETTINGS.tts, self.breakers),
            readiness=base.readiness,
            admission=base.admission,
            hearing=base.hearing,
            loop_lag=base.loop_lag,
            metrics=base.metrics,
            breakers=self.breakers,
            spare_voice=self.spare if spare else None,
        )
        world.services = self.services

    async def figures(self) -> list[str]:
        text = (await Scraper(self.services).text()).decode()
        return [line for line in text.splitlines() if line.startswith("rtvc_")]

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Socket]:
        socket = Socket()
        connection = RealtimeConnection(socket, self.services, kind="realtime", extras=True)  # type: ignore[arg-type]
        running = asyncio.create_task(connection.run())
        try:
            await socket.until("session.created")
            yield socket
        finally:
            socket.incoming.put_nowait({"type": "websocket.disconnect"})
            async with asyncio.timeout(10):
                await running


@pytest.fixture
def world() -> Iterator[World]:
    with closing(Hearing(SystemClock())) as hearing:
        yield World(hearing)


@asynccontextmanager
async def serving(
    world: World,
    llm: Callable[[int], Script],
    tts: Callable[[int], Script] = lambda number: [speech()],
    *,
    spare: bool = True,
) -> AsyncIterator[tuple[Server, Misbehaving]]:
    """A server whose services answer each request, counted from 1, as these say."""

    def script(number: int, path: str) -> Script:
        return tts(number) if path == "speech" else llm(number)

    async with Misbehaving(script).running() as service:
        server = Server(world, service, spare=spare)
        try:
            yield server, service
        finally:
            await server.services.llm.close()
            await server.services.tts.close()


def sound(number: int) -> Script:
    return [reply("It is ", "noon.")]


def texts_sent(service: Misbehaving) -> list[list[str]]:
    """What the language model was given to read, request by request."""
    asked = [body["messages"] for body in service.bodies if "messages" in body]
    return [[str(message["content"]) for message in given] for given in asked]  # type: ignore[attr-defined]


TROUBLE: list[tuple[str, Script, str]] = [
    ("hangs", [Hang], "llm_timeout"),
    ("resets", [Reset], "llm_connect"),
    ("500", [answer(b"oops", 500, "text/plain")], "llm_refused"),
    ("a page", [answer(b"<html>", 200, "text/html")], "llm_garbage"),
    ("nothing", [answer(b"")], "llm_garbage"),
]


@pytest.mark.parametrize(
    ("script", "code"), [one[1:] for one in TROUBLE], ids=[one[0] for one in TROUBLE]
)
async def test_an_apology_in_the_order_of_the_protocol(
    world: World, script: Script, code: str
) -> None:
    async with serving(world, lambda number: script) as (server, _), server.session() as client:
        response = await client.ask()
        assert response["status"] == "failed"
        assert response["status_details"]["error"]["code"] == code
        assert response["status_details"]["type"] == "failed"
        assert response["output"][0]["content"][0]["transcript"] == SORRY
        assert response["output"][0]["status"] == "incomplete"
        kinds = [event["type"] for event in client.events]
        order = [
            "response.created",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_audio_transcript.delta",
            "response.output_audio.delta",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.done",
        ]
        places = [kinds.index(kind) for kind in order]
        assert places == sorted(places)
        assert "127.0.0.1" not in json.dumps(client.events), "no addresses of the server's services"
        assert "rtvc.turn" not in kinds, "an apology is no reply"


async def test_a_reply_that_breaks_off_and_what_is_remembered_of_it(world: World) -> None:
    def llm(number: int) -> Script:
        return [*BEGUN, Hang] if number == 1 else sound(number)

    async with serving(world, llm) as (server, service), server.session() as client:
        response = await client.ask()
        assert response["status"] == "failed"
        assert response["status_details"]["error"]["code"] == "llm_timeout"
        item = response["output"][0]
        assert item["content"][0]["transcript"] == f"It is noon. And {LOST}"
        client.send("conversation.item.retrieve", item_id=item["id"])
        kept = await client.until("conversation.item.retrieved")
        assert kept["item"]["content"][0]["transcript"] == f"It is noon. And {LOST}"
        assert (await client.ask("And now?"))["status"] == "completed"
        read = texts_sent(service)[-1]
        assert read[1:] == ["What time is it?", "It is noon. And ", "And now?"]


async def test_an_apology_is_not_given_to_the_model_to_imitate(world: World) -> None:
    def llm(number: int) -> Script:
        return [answer(b"", 404)] if number == 1 else sound(number)

    async with serving(world, llm) as (server, service), server.session() as client:
        assert (await client.ask())["status"] == "failed"
        assert (await client.ask("And now?"))["status"] == "completed"
        assert texts_sent(service)[-1][1:] == ["What time is it?", "And now?"]


async def test_text_replies_are_apologised_for_in_text(world: World) -> None:
    reset = serving(world, lambda number: [Reset])
    async with reset as (server, service), server.session() as client:
        response = await client.ask(output_modalities=["text"])
        assert response["output"][0]["content"][0]["text"] == SORRY
        assert "speech" not in service.asked


async def test_a_service_that_is_out_is_noted_for_everyone_until_it_is_back(world: World) -> None:
    def llm(number: int) -> Script:
        return [answer(b"", 404)] if number <= FAILURES else sound(number)

    out = "replies are apologies: the language model does not answer"
    async with serving(world, llm) as (server, service), server.session() as client:
        for _ in range(FAILURES):
            await client.ask()
        assert client.of("rtvc.status")[-1]["notice"] == out
        assert readiness_body(server.services)["notice"] == out
        assert 'rtvc_breaker_open{service="llm"} 1.0' in await server.figures()
        asked = service.asked.count("completions")
        response = await client.ask()
        assert response["status_details"]["error"]["code"] == "llm_breaker_open"
        assert service.asked.count("completions") == asked, "nobody waits for it"
        server.breakers.llm.clock = _Later(server.services.clock)
        assert (await client.ask())["status"] == "completed"
        assert client.of("rtvc.status")[-1]["notice"] is None
        assert readiness_body(server.services)["notice"] is None
        figures = await server.figures()
    assert 'rtvc_breaker_open{service="llm"} 0.0' in figures
    assert "rtvc_apologies_total 6.0" in figures
    assert 'rtvc_reply_failures_total{reason="refused",service="llm"} 5.0' in figures
    assert 'rtvc_reply_failures_total{reason="breaker_open",service="llm"} 1.0' in figures
    assert 'rtvc_reply_failures_total{reason="timeout",service="tts"} 0.0' in figures


class _Later(SystemClock):
    """A minute after another."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock

    def now(self) -> float:
        return float(self._clock.now()) + 60


async def test_the_built_in_voice_speaks_when_the_other_fails_and_is_noted_once(
    world: World,
) -> None:
    def tts(number: int) -> Script:
        return [answer(b"", 404)]

    async with serving(world, sound, tts) as (server, _), server.session() as client:
        before = len(client.of("rtvc.status"))
        for _ in range(2):
            assert (await client.ask())["status"] == "completed"
        notes = [str(event["notice"]) for event in client.of("rtvc.status")[before:]]
        assert notes == ["speech synthesis failed: the built-in voice speaks instead"]
        assert client.of("response.output_audio.delta")
        assert server.spare.pieces == 2 * 3
        assert "rtvc_spare_voice_sentences_total 2.0" in await server.figures()
        assert "rtvc_apologies_total 0.0" in await server.figures()


async def test_where_no_voice_is_left_the_reply_fails_and_is_there_to_be_read(
    world: World,
) -> None:
    def tts(number: int) -> Script:
        return [head(200, PCM), Hang]

    mute = serving(world, sound, tts, spare=False)
    async with mute as (server, _), server.session() as client:
        response = await client.ask()
        assert response["status_details"]["error"]["code"] == "tts_timeout"
        assert response["output"][0]["content"][0]["transcript"] == f"It is noon. {LOST}"
        assert not client.of("response.output_audio.delta")


async def test_speaking_over_a_reply_calls_off_what_was_asked(world: World) -> None:
    """Also a probe: the next reply may find out at once whether the service is back."""

    def llm(number: int) -> Script:
        if number <= FAILURES:
            return [answer(b"", 404)]
        return [Hang] if number == FAILURES + 1 else sound(number)

    async with serving(world, llm) as (server, service), server.session() as client:
        for _ in range(FAILURES):
            await client.ask()
        server.breakers.llm.clock = _Later(server.services.clock)
        client.send("response.create")
        async with asyncio.timeout(10):
            while service.asked.count("completions") < FAILURES + 1:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        client.send("response.cancel")
        cancelled = await client.until("response.done", FAILURES + 1)
        assert cancelled["response"]["status"] == "cancelled"
        assert (await client.ask())["status"] == "completed"
        assert not server.breakers.llm.out


# RealtimeVoiceChat's protocol.


async def turn(page: Any, count: int = 1) -> str:
    page.speak(1.0)
    page.pause(1.0)
    await page.socket.until("final_assistant_answer", count=count)
    return str(page.socket.contents("final_assistant_answer")[-1])


@pytest.mark.parametrize("script", [one[1] for one in TROUBLE], ids=[one[0] for one in TROUBLE])
async def test_the_page_hears_and_shows_the_apology(world: World, script: Script) -> None:
    async with serving(world, lambda number: script), world.page() as page:
        assert await turn(page) == SORRY
        assert len(reply_audio(page)) > 0


async def test_the_page_is_told_when_an_answer_breaks_off(world: World) -> None:
    def llm(number: int) -> Script:
        return [*BEGUN, Hang] if number == 1 else sound(number)

    async with serving(world, llm) as (_, service), world.page() as page:
        assert await turn(page) == f"It is noon. And {LOST}"
        page.say(TtsStop())
        assert await turn(page, 2) == "It is noon."
        assert texts_sent(service)[-1][1:] == ["Sentence 1.", "It is noon. And ", "Sentence 2."]


async def test_the_page_hears_the_built_in_voice(world: World) -> None:
    mute = serving(world, sound, lambda number: [Reset])
    async with mute as (server, _), world.page() as page:
        assert await turn(page) == "It is noon."
        assert server.spare.pieces == 3
        assert len(reply_audio(page)) > 0


# Faults on purpose are felt.


async def test_a_fault_on_purpose_is_inside_the_guard(world: World) -> None:
    faults = Faults({FaultName.SLOW_LLM: 30.0})
    breakers = new_breakers(SystemClock(), world.services.metrics)
    sound_model = ScriptedLanguageModel(ttft_s=0, tokens_per_s=1e6)
    world.services.llm = guarded_llm(faults.llm(sound_model), SETTINGS.llm, breakers)
    async with world.page() as page:
        assert await turn(page) == SORRY
    assert world.services.metrics.reply_failures["llm", "timeout"] == 1
