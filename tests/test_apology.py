"""Apologies: what is said when a reply fails, by whom, and what is kept out of the history."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from rtvc.clock import FakeClock
from rtvc.errors import ReplyError
from rtvc.server.measuring.metrics import Metrics
from rtvc.server.replies.apology import Apology
from rtvc.server.replies.guarded import Guard
from rtvc.server.replies.llm import Message
from rtvc.server.replies.reply import AudioDelta, ReplyDone, ReplyEvent, TextDelta
from rtvc.server.replies.replying import (
    Breakers,
    ReplyFailed,
    ReplyParts,
    new_breakers,
    outages,
    reply_or_apology,
)
from rtvc.server.sessions.conversation import Conversation, Item

SORRY, LOST = Apology().no_answer, Apology().broken_off
RATE_HZ = 24_000


@dataclass
class Model:
    """Writes its deltas, and then fails if it is told to."""

    deltas: Sequence[str]
    failure: ReplyError | None = None
    name: str = "model"

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int | None
    ) -> AsyncGenerator[str, None]:
        for delta in self.deltas:
            yield delta
        if self.failure is not None:
            self.failure.service = "llm"
            raise self.failure

    async def close(self) -> None:
        """Nothing is held."""


@dataclass
class Voice:
    """200 ms a sentence, in two pieces; fails at those with a word in it."""

    fails_at: str | None = None
    name: str = "voice"
    rate_hz: int = RATE_HZ
    said: list[tuple[str, str | None]] = field(default_factory=list)

    async def synthesize(
        self, text: str, *, voice: str | None, speed: float
    ) -> AsyncGenerator[bytes, None]:
        if self.fails_at is not None and self.fails_at in text:
            failure = ReplyError("no voice left", reason="connect")
            failure.service = "tts"
            raise failure
        self.said.append((text, voice))
        for _ in range(2):
            yield bytes(2 * RATE_HZ // 10)

    async def close(self) -> None:
        """Nothing is held."""


@dataclass
class Told:
    """A reply as it came."""

    events: list[ReplyEvent | ReplyFailed]
    metrics: Metrics

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def audio(self) -> list[AudioDelta]:
        return [event for event in self.events if isinstance(event, AudioDelta)]

    @property
    def failed(self) -> ReplyFailed:
        (found,) = [event for event in self.events if isinstance(event, ReplyFailed)]
        return found


async def told(
    model: Model,
    tts: Voice,
    *,
    spare: Voice | None = None,
    apology: Apology | None = None,
    audio: bool = True,
) -> Told:
    metrics, clock = Metrics(), FakeClock()
    breakers = new_breakers(clock, metrics)
    parts = ReplyParts(model, tts, breakers, apology or Apology(), spare)
    reply = reply_or_apology([], parts, metrics, clock=clock, audio=audio, voice="alloy")
    async with aclosing(reply) as events:
        return Told([event async for event in events], metrics)


AWAY = ReplyError("http://10.0.0.7/v1: secret", reason="timeout")


async def test_no_reply_is_an_apology_heard_and_read() -> None:
    voice = Voice()
    reply = await told(Model([], AWAY), voice)
    assert reply.text == SORRY
    assert [text for text, _ in voice.said] == [
        "Sorry, I cannot answer right now.",
        "Please try again in a moment.",
    ]
    assert reply.failed == ReplyFailed("", "llm", "timeout")
    assert reply.audio[-1].text_position == len(SORRY)
    assert not any(isinstance(event, ReplyDone) for event in reply.events)
    assert reply.metrics.apologies == 1


async def test_a_reply_that_breaks_off_says_so_behind_what_was_said() -> None:
    voice = Voice()
    reply = await told(Model(["It is noon. ", "And"], AWAY), voice)
    assert reply.text == f"It is noon. And {LOST}"
    assert [text for text, _ in voice.said] == ["It is noon.", LOST]
    assert reply.failed.text == "It is noon. And"
    positions = [piece.text_position for piece in reply.audio]
    assert positions == sorted(positions)
    assert positions[-1] == len(reply.text)


async def test_what_the_client_is_told_names_no_address() -> None:
    failed = (await told(Model([], AWAY), Voice())).failed
    assert failed.code == "llm_timeout"
    assert failed.message == "the language model failed: timeout"


async def test_a_sound_reply_is_left_alone() -> None:
    reply = await told(Model(["It is noon."]), Voice())
    assert reply.text == "It is noon."
    assert isinstance(reply.events[-1], ReplyDone)
    assert reply.metrics.apologies == 0


async def test_a_reply_in_text_only_is_apologised_for_in_text_only() -> None:
    voice = Voice()
    reply = await told(Model([], AWAY), voice, audio=False)
    assert (reply.text, reply.audio, voice.said) == (SORRY, [], [])


async def test_an_apology_that_cannot_be_spoken_is_there_to_be_read() -> None:
    reply = await told(Model([], AWAY), Voice(fails_at="Sorry"))
    assert (reply.text, reply.audio) == (SORRY, [])


async def test_the_spare_voice_speaks_the_rest_and_the_apology() -> None:
    voice, spare = Voice(fails_at="noon"), Voice()
    reply = await told(Model(["Hello. ", "It is noon. ", "Bye. ", "And"], AWAY), voice, spare=spare)
    assert voice.said == [("Hello.", "alloy")]
    assert [text for text, _ in spare.said] == ["It is noon.", "Bye.", LOST]
    assert reply.metrics.spare_sentences == 3
    assert reply.failed.service == "llm"


async def test_without_a_spare_voice_a_reply_that_cannot_be_heard_is_a_failed_one() -> None:
    """The voice that the client asked for may be what failed: the apology is not in it."""
    voice = Voice(fails_at="noon")
    reply = await told(Model(["Hello. ", "It is noon. "]), voice)
    assert reply.failed.code == "tts_connect"
    assert voice.said == [("Hello.", "alloy"), (LOST, None)]


@pytest.mark.parametrize("before", [[], ["It is "]])
async def test_whoever_wants_no_apology_has_none(before: list[str]) -> None:
    reply = await told(Model(before, AWAY), Voice(), apology=Apology("", ""))
    assert reply.text == "".join(before)
    assert reply.metrics.apologies == 0
    assert reply.failed.reason == "timeout"


def test_the_model_never_reads_an_apology_and_the_client_does() -> None:
    conversation = Conversation()
    conversation.add(Item("a", "user", "What time is it?", spoken=True))
    conversation.add(Item("b", "assistant", "It is ", spoken=True, apology=LOST))
    conversation.add(Item("c", "assistant", "", spoken=True, apology=SORRY))
    conversation.add(Item("d", "assistant", "", spoken=False, apology=SORRY))
    assert [message.text for message in conversation.messages("")] == ["What time is it?", "It is "]
    shown = [item.to_wire()["content"][0] for item in conversation]
    assert [part.get("transcript", part.get("text")) for part in shown] == [
        "What time is it?",
        f"It is {LOST}",
        SORRY,
        SORRY,
    ]


def parts_with(llm: Guard, tts: Guard, spare: Voice | None = None) -> ReplyParts:
    return ReplyParts(Model([]), Voice(), Breakers(llm, tts), spare=spare)


def test_what_is_out_is_told_with_what_it_means() -> None:
    clock = FakeClock()
    llm, tts = Guard("llm", clock), Guard("tts", clock)
    assert outages(parts_with(llm, tts)) == []
    llm.absent = "the language model at http://x does not answer (refused)"
    assert outages(parts_with(llm, tts)) == [f"replies are apologies: {llm.absent}"]
    for guard in (llm, tts):
        for _ in range(5):
            attempt = guard.breaker.ask(clock.now())
            assert attempt is not None
            guard.breaker.fail(attempt, clock.now())
    assert outages(parts_with(llm, tts)) == [
        "replies are apologies: the language model does not answer",
        "replies cannot be heard: speech synthesis does not answer",
    ]
    assert outages(parts_with(llm, tts, Voice()))[1] == (
        "replies are spoken by the built-in voice: speech synthesis does not answer"
    )
