"""Guarded services: every failure has a reason and comes in good time; one more try where it may
help; a breaker that spares everyone the wait.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from rtvc.clock import FakeClock, SystemClock
from rtvc.errors import ReplyError
from rtvc.server.replies.breaker import FAILURES
from rtvc.server.replies.guarded import Guard, GuardedLanguageModel, GuardedSynthesizer
from rtvc.server.replies.llm import FinalDelta, LanguageModel, Message, OpenAiLanguageModel
from rtvc.server.replies.spare_voice import SpareVoice
from rtvc.server.replies.tts import OpenAiSynthesizer, SpeechSynthesizer
from tests.fake_openai import chat_chunk, sse
from tests.misbehaving_services import (
    PCM,
    SSE,
    Endless,
    Hang,
    Misbehaving,
    Pause,
    Reset,
    Script,
    always,
    answer,
    first,
    head,
    reply,
    speech,
)

QUESTION = [Message("user", "What time is it?")]
BOMB = head(200, "text/event-stream", "Content-Encoding: gzip") + b"\x1f\x8b" + bytes(64)
EVENT = sse(chat_chunk("It is "))
PATIENCE_S = 1.0
"""Enough for whatever answers at all, on a machine that is busy with other things."""


def no_pause(least_s: float, most_s: float) -> float:
    assert 0 < least_s < most_s < 1
    return 0.0


@dataclass
class World:
    """One guard, and what it was heard to say."""

    guard: Guard
    failures: list[tuple[str, str]] = field(default_factory=list)
    changes: int = 0

    def changed(self) -> None:
        self.changes += 1


def world(service: str = "llm", clock: FakeClock | None = None) -> World:
    guard = Guard("llm" if service == "llm" else "tts", clock or SystemClock(), between=no_pause)
    made = World(guard)
    guard.on_failure = lambda name, reason: made.failures.append((name, reason))
    guard.on_change = made.changed
    return made


def guarded(
    model: LanguageModel,
    guard: Guard,
    *,
    first_s: float = PATIENCE_S,
    next_s: float = PATIENCE_S,
    chars: int = 80,
) -> GuardedLanguageModel:
    return GuardedLanguageModel(
        model, guard, first_token_s=first_s, token_s=next_s, max_chars=chars
    )


async def asked(model: LanguageModel) -> list[str]:
    async with aclosing(model.stream(QUESTION, max_tokens=50)) as deltas:
        return [delta async for delta in deltas]


async def spoken(tts: SpeechSynthesizer, text: str = "It is noon.") -> bytes:
    async with aclosing(tts.synthesize(text, voice=None, speed=1.0)) as pieces:
        return b"".join([piece async for piece in pieces])


async def ask_service(script: Callable[[int, str], Script], guard: Guard) -> tuple[str, int]:
    """What a misbehaving language model wrote, and how often it was asked."""
    async with Misbehaving(script).running() as service:
        model = guarded(OpenAiLanguageModel(service.url, "small"), guard)
        try:
            return "".join(await asked(model)), len(service.asked)
        finally:
            await model.close()


async def speak_service(script: Callable[[int, str], Script], guard: Guard) -> tuple[bytes, int]:
    async with Misbehaving(script).running() as service:
        tts = GuardedSynthesizer(
            OpenAiSynthesizer(service.url, "t", "v"), guard, piece_s=PATIENCE_S
        )
        try:
            return await spoken(tts), len(service.asked)
        finally:
            await tts.close()


LLM_TROUBLE: list[tuple[str, Script, str]] = [
    ("accepts and says nothing", [Hang], "timeout"),
    ("a head and nothing more", [head(), Hang], "timeout"),
    ("hangs in the middle", [head(), EVENT, Hang], "timeout"),
    ("comments for ever", [head(), Endless(b": ping\n\n", 0.01)], "timeout"),
    ("events without text for ever", [head(), Endless(sse(chat_chunk("")), 0.01)], "timeout"),
    ("resets at once", [Reset], "connect"),
    ("hangs up without an answer", [b""], "connect"),
    ("resets in the middle", [head(), EVENT, Pause(0.05), Reset], "broken_off"),
    ("shorter than it said", [head(200, SSE, "Content-Length: 999"), EVENT], "broken_off"),
    ("ends without a finish", [answer(EVENT)], "broken_off"),
    ("500", [answer(b"oops", 500, "text/plain")], "refused"),
    ("500 with an endless body", [head(500, "text/plain"), Endless(b"x" * 4096)], "refused"),
    ("500 that trickles", [head(503, "text/plain"), Endless(b"x", 0.02)], "timeout"),
    ("401", [answer(b"no key", 401, "text/plain")], "refused"),
    ("redirected", [answer(b"", 302, "text/plain")], "refused"),
    ("an error in the stream", [answer(sse({"error": {"message": "out\nof memory"}}))], "refused"),
    ("a page", [answer(b"<html>Welcome!</html>", 200, "text/html")], "garbage"),
    ("a page in disguise", [answer(b"<html>Welcome!</html>")], "garbage"),
    ("nothing at all", [answer(b"")], "garbage"),
    ("no text", [answer(sse(chat_chunk(None, "stop"), "[DONE]"))], "garbage"),
    ("blanks only", [answer(sse(chat_chunk(" "), chat_chunk("\n", "stop"), "[DONE]"))], "garbage"),
    ("not JSON", [answer(b"data: hello\n\n")], "garbage"),
    ("NaN", [answer(b"data: NaN\n\n")], "garbage"),
    ("deeper than can be read", [answer(b"data: " + b"[" * 100_000 + b"\n\n")], "garbage"),
    ("an endless line", [head(), Endless(b"data: " + b"x" * 4000)], "garbage"),
    ("an endless event", [head(), Endless(b"data: " + b"x" * 4000 + b"\n")], "garbage"),
    ("no HTTP", [b"hello, who is there?\r\n\r\n", Pause(0.05)], "garbage"),
    ("packed, and maybe huge", [BOMB], "garbage"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "reason"), [t[1:] for t in LLM_TROUBLE], ids=[t[0] for t in LLM_TROUBLE]
)
async def test_whatever_a_language_model_does_the_failure_has_its_reason(
    script: Script, reason: str
) -> None:
    told = world()
    with pytest.raises(ReplyError) as caught:
        await ask_service(always(*script), told.guard)
    assert (caught.value.reason, caught.value.service) == (reason, "llm")
    assert told.failures == [("llm", reason)]
    assert not told.guard.out


TTS_TROUBLE: list[tuple[str, Script, str]] = [
    ("accepts and says nothing", [Hang], "timeout"),
    ("hangs in the middle", [head(200, PCM), bytes(480), Hang], "timeout"),
    ("resets at once", [Reset], "connect"),
    ("breaks off", [head(200, PCM, "Content-Length: 9999"), bytes(480)], "broken_off"),
    ("500", [answer(b"oops", 500, "text/plain")], "refused"),
    ("400", [answer(b"no such voice", 400, "text/plain")], "refused"),
    ("an error that says 200", [answer(b'{"error": 1}', 200, "application/json")], "garbage"),
    ("a page", [answer(b"<html>", 200, "text/html")], "garbage"),
    ("a file", [answer(b"RIFF" + bytes(40), 200, "audio/wav")], "garbage"),
    ("silence of no length", [answer(b"", 200, PCM)], "garbage"),
    ("half a sample", [answer(b"\x01", 200, PCM)], "garbage"),
    ("for ever", [head(200, PCM), Endless(bytes(48_000))], "too_long"),
]


@pytest.mark.parametrize(
    ("script", "reason"), [t[1:] for t in TTS_TROUBLE], ids=[t[0] for t in TTS_TROUBLE]
)
async def test_whatever_a_synthesizer_does_the_failure_has_its_reason(
    script: Script, reason: str
) -> None:
    told = world("tts")
    with pytest.raises(ReplyError) as caught:
        await speak_service(always(*script), told.guard)
    assert (caught.value.reason, caught.value.service) == (reason, "tts")
    assert told.failures == [("tts", reason)]


async def test_nobody_there_is_a_reason_too() -> None:
    async with Misbehaving(always()).running() as service:
        url = service.url
    model = guarded(OpenAiLanguageModel(url, "small"), world().guard)
    with pytest.raises(ReplyError) as caught:
        await asked(model)
    assert caught.value.reason == "connect"
    await model.close()


# The other try.


@pytest.mark.parametrize(
    ("script", "times"),
    [
        (first(Reset, then=reply("It is ", "noon.")), 2),
        (first(answer(b"busy", 503, "text/plain"), then=reply("It is ", "noon.")), 2),
        (always(reply("It is ", "noon.")), 1),
    ],
)
async def test_what_may_pass_is_tried_once_more(
    script: Callable[[int, str], Script], times: int
) -> None:
    told = world()
    assert await ask_service(script, told.guard) == ("It is noon.", times)
    assert told.failures == []


@pytest.mark.parametrize(
    ("script", "times"),
    [
        ([answer(b"no", 404, "text/plain")], 1),
        ([answer(b"busy", 503, "text/plain")], 2),
        ([Reset], 2),
        ([head(), EVENT, Pause(0.05), Reset], 1),
        ([answer(b"<html>", 200, "text/html")], 1),
    ],
)
async def test_what_will_not_pass_or_was_begun_is_not_tried_again(
    script: Script, times: int
) -> None:
    async with Misbehaving(always(*script)).running() as service:
        model = guarded(OpenAiLanguageModel(service.url, "small"), world().guard)
        with pytest.raises(ReplyError):
            await asked(model)
        assert len(service.asked) == times
        await model.close()


async def test_the_other_try_has_what_is_left_of_the_time() -> None:
    """A first try that used up all of it is the only one."""
    async with Misbehaving(always(Hang)).running() as service:
        model = guarded(OpenAiLanguageModel(service.url, "small"), world().guard)
        with pytest.raises(ReplyError):
            await asked(model)
        assert len(service.asked) == 1
        await model.close()


async def test_a_second_try_that_runs_out_of_time_does_not_hide_how_the_first_one_failed() -> None:
    told = world()
    async with Misbehaving(lambda number, path: [Reset] if number == 1 else [Hang]).running() as it:
        model = guarded(OpenAiLanguageModel(it.url, "small"), told.guard)
        with pytest.raises(ReplyError, match=it.url) as caught:
            await asked(model)
        assert (caught.value.reason, len(it.asked)) == ("connect", 2)
        await model.close()
    assert told.failures == [("llm", "connect")]


async def test_a_voice_is_tried_once_more_as_well() -> None:
    pcm16, times = await speak_service(first(Reset, then=speech(0.3)), world("tts").guard)
    assert (len(pcm16), times) == (2 * 7200, 2)


# Bounds.


@dataclass
class Listed:
    """Writes the given deltas; then hangs, fails or ends."""

    deltas: Sequence[str] = ("It is ", "noon.", FinalDelta("", "completed", 2))
    failure: Exception | None = None
    hangs: bool = False
    name: str = "listed"
    asked: int = 0
    closed: int = 0

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int | None
    ) -> AsyncGenerator[str, None]:
        self.asked += 1
        try:
            for delta in self.deltas:
                yield delta
            if self.failure is not None:
                raise self.failure
            await asyncio.sleep(3600 if self.hangs else 0)
        finally:
            self.closed += 1

    async def close(self) -> None:
        """Nothing is held."""


async def test_a_sound_reply_passes_unchanged() -> None:
    model, told = Listed(), world()
    deltas = await asked(guarded(model, told.guard))
    assert deltas == list(model.deltas)
    last = deltas[-1]
    assert isinstance(last, FinalDelta)
    assert last.tokens == 2
    assert (told.failures, told.changes, model.closed) == ([], 0, 1)


async def test_an_endless_reply_is_cut_as_at_its_longest() -> None:
    model = Listed(["0123456789"] * 100)
    deltas = await asked(guarded(model, world().guard, chars=25))
    assert "".join(deltas) == "0123456789012345678901234"
    last = deltas[-1]
    assert isinstance(last, FinalDelta)
    assert last.finish_reason == "length"
    assert model.closed == 1


async def test_exactly_the_longest_reply_is_whole() -> None:
    model = Listed(["0123456789", "01234", FinalDelta("", "completed", 2)])
    deltas = await asked(guarded(model, world().guard, chars=15))
    last = deltas[-1]
    assert isinstance(last, FinalDelta)
    assert (last.finish_reason, len("".join(deltas))) == ("completed", 15)


async def test_a_reply_that_trickles_for_ever_is_broken_off() -> None:
    """Each wait is within its limit, and all together are not."""
    script = always(head(), Endless(EVENT, 0.03))
    told = world()
    async with Misbehaving(script).running() as service:
        inner = OpenAiLanguageModel(service.url, "small")
        model = guarded(inner, told.guard, next_s=0.05, first_s=2.0, chars=10**6)
        with pytest.raises(ReplyError) as caught:
            await asked(model)
        await model.close()
    assert caught.value.reason == "timeout"


async def test_the_takers_own_time_is_not_counted() -> None:
    model = guarded(Listed(), world().guard, first_s=0.1, next_s=0.05)
    got = []
    async with aclosing(model.stream(QUESTION, max_tokens=None)) as deltas:
        async for delta in deltas:
            got.append(delta)
            await asyncio.sleep(0.08)
    assert "".join(got) == "It is noon."


async def test_half_characters_and_nuls_do_not_get_through() -> None:
    body = sse(chat_chunk("a\ud83db\0c", "stop"))
    text, _ = await ask_service(always(answer(body)), world().guard)
    assert text == "a?bc"
    text.encode()


async def test_a_bug_is_not_dressed_up_as_a_reply_error() -> None:
    told = world()
    with pytest.raises(TypeError):
        await asked(guarded(Listed(failure=TypeError("x")), told.guard))
    assert told.failures == []


# The breaker.


async def fail(model: LanguageModel) -> str:
    with pytest.raises(ReplyError) as caught:
        await asked(model)
    return caught.value.reason


async def test_a_service_that_is_out_is_not_asked_and_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    clock = FakeClock()
    told, inner = world(clock=clock), Listed([], failure=ReplyError("x", reason="garbage"))
    model = guarded(inner, told.guard)
    reasons = [await fail(model) for _ in range(FAILURES + 3)]
    assert reasons == ["garbage"] * FAILURES + ["breaker_open"] * 3
    assert (inner.asked, told.guard.out, told.changes) == (FAILURES, True, 1)
    clock.advance(told.guard.breaker.pause_s)
    inner.failure, inner.deltas = None, ["Noon."]
    assert await asked(model) == ["Noon."]
    assert (told.guard.out, told.changes) == (False, 2)
    said = [record.message for record in caplog.records]
    assert [line for line in said if "is out" in line or "again" in line] == [
        "the language model is out: not asked for 2 s",
        "the language model answers again",
    ]


async def test_a_probe_that_a_person_talked_over_does_not_leave_it_stuck() -> None:
    clock = FakeClock()
    told, inner = world(clock=clock), Listed([], failure=ReplyError("x"))
    model = guarded(inner, told.guard, first_s=60)
    for _ in range(FAILURES):
        await fail(model)
    clock.advance(told.guard.breaker.pause_s)
    inner.failure, inner.hangs = None, True
    probing = asyncio.create_task(asked(model))
    await asyncio.sleep(0.01)
    assert await fail(model) == "breaker_open"
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
    inner.deltas, inner.hangs = ["Noon."], False
    assert await asked(model) == ["Noon."]
    assert not told.guard.out


async def test_what_the_one_before_was_asked_is_not_held_against_its_replacement() -> None:
    told, inner = world(clock=FakeClock()), Listed([])
    inner.hangs = True
    model = guarded(inner, told.guard, first_s=0.05)
    asking = [asyncio.create_task(fail(model)) for _ in range(FAILURES)]
    await asyncio.sleep(0)
    told.guard.replaced()
    assert await asyncio.gather(*asking) == ["timeout"] * FAILURES
    assert not told.guard.out


async def test_what_one_session_asked_wrongly_shuts_nobody_out() -> None:
    told = world()
    model = guarded(Listed([], failure=ReplyError("x", reason="refused", status=400)), told.guard)
    assert [await fail(model) for _ in range(2 * FAILURES)] == ["refused"] * 2 * FAILURES
    assert not told.guard.out


async def test_what_start_up_missed_is_forgotten_once_it_answers() -> None:
    told = world()
    told.guard.absent = "the language model at … does not answer"
    await asked(guarded(Listed(), told.guard))
    assert told.changes == 1
    assert [told.guard.absent] == [None]


# The spare voice.


@dataclass
class Voice:
    """Says every text as so many samples; may fail at the start, or after the first piece."""

    fails: str | None = None
    rate_hz: int = 24_000
    name: str = "voice"
    said: list[tuple[str, str | None]] = field(default_factory=list)

    async def synthesize(
        self, text: str, *, voice: str | None, speed: float
    ) -> AsyncGenerator[bytes, None]:
        self.said.append((text, voice))
        if self.fails == "start":
            raise ReplyError("no voice left")
        for _ in range(2):
            yield b"\x10\x00" * (self.rate_hz // 10)
            if self.fails == "middle":
                raise ReplyError("no voice left")

    async def close(self) -> None:
        """Nothing is held."""


async def test_once_the_voice_fails_the_spare_one_speaks_to_the_end_of_the_reply() -> None:
    voice, spare, counted = Voice(fails="start"), Voice(rate_hz=22_050), list[int]()
    tts = SpareVoice(voice, spare, lambda: counted.append(1))
    for text in ("One.", "Two.", "Three."):
        async with aclosing(tts.synthesize(text, voice="alloy", speed=1.0)) as pieces:
            pcm16 = b"".join([piece async for piece in pieces])
        assert len(pcm16) // 2 == pytest.approx(4800, abs=2), "at the rate that is expected"
    assert voice.said == [("One.", "alloy")]
    assert spare.said == [("One.", None), ("Two.", None), ("Three.", None)]
    assert len(counted) == 3


async def test_a_sentence_that_was_begun_is_not_said_again() -> None:
    spare = Voice()
    tts = SpareVoice(Voice(fails="middle"), spare, lambda: None)
    with pytest.raises(ReplyError, match="no voice left"):
        await spoken(tts)
    assert spare.said == []


async def test_without_a_spare_voice_the_failure_is_told() -> None:
    with pytest.raises(ReplyError, match="no voice left"):
        await spoken(SpareVoice(Voice(fails="start"), None, lambda: None))
