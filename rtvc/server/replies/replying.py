"""What every reply is made with, whatever the protocol, and what comes of it when that fails."""

import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from rtvc.clock import Clock
from rtvc.config import LlmSettings, TtsSettings
from rtvc.errors import ReplyTrouble
from rtvc.server.measuring.metrics import Metrics
from rtvc.server.replies.apology import Apology, apologise
from rtvc.server.replies.guarded import (
    SHOWN,
    Guard,
    GuardedLanguageModel,
    GuardedSynthesizer,
    ServiceName,
)
from rtvc.server.replies.llm import LanguageModel, Message
from rtvc.server.replies.reply import BrokenReplyError, ReplyEvent, speak_reply
from rtvc.server.replies.spare_voice import SpareVoice
from rtvc.server.replies.tts import SpeechSynthesizer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Breakers:
    """The watch over both services, shared by all sessions."""

    llm: Guard
    """Of the language model."""
    tts: Guard
    """Of speech synthesis."""

    def __iter__(self) -> Iterator[Guard]:
        return iter((self.llm, self.tts))


@dataclass(frozen=True, slots=True)
class ReplyParts:
    """What makes replies; a reply that has begun keeps the parts it began with."""

    llm: LanguageModel
    """Writes them."""
    tts: SpeechSynthesizer
    """Speaks them."""
    breakers: Breakers
    """Whether these are out."""
    apology: Apology = field(default_factory=Apology)
    """What is said when they fail."""
    spare: SpeechSynthesizer | None = None
    """Speaks what `tts` cannot; None: there is none."""


@dataclass(frozen=True, slots=True)
class ReplyFailed:
    """The reply has failed; the text and audio that still follow are an apology."""

    text: str
    """All that was handed out of the reply itself."""
    service: ServiceName
    """What failed."""
    reason: ReplyTrouble
    """How."""

    @property
    def code(self) -> str:
        """For programs, such as "llm_timeout"."""
        return f"{self.service}_{self.reason}"

    @property
    def message(self) -> str:
        """For a person; without addresses and what else is in the server's log."""
        return f"the {SHOWN[self.service]} failed: {self.reason.replace('_', ' ')}"


def new_breakers(
    clock: Clock, metrics: Metrics, on_change: Callable[[], None] | None = None
) -> Breakers:
    """Both services are taken for sound; `on_change` is told when that changes."""

    def guard(service: ServiceName) -> Guard:
        made = Guard(service, clock, on_failure=metrics.reply_failed)
        made.on_change = on_change or made.on_change
        return made

    return Breakers(guard("llm"), guard("tts"))


def guarded_llm(
    model: LanguageModel, settings: LlmSettings, breakers: Breakers
) -> GuardedLanguageModel:
    """`model` as replies use it: faults on purpose are inside, so that they are felt."""
    return GuardedLanguageModel(
        model,
        breakers.llm,
        first_token_s=settings.first_token_s,
        token_s=settings.timeout_s,
        max_chars=settings.max_chars,
    )


def guarded_tts(
    synthesizer: SpeechSynthesizer, settings: TtsSettings, breakers: Breakers
) -> GuardedSynthesizer:
    """`synthesizer` as replies use it."""
    return GuardedSynthesizer(synthesizer, breakers.tts, piece_s=settings.timeout_s)


def outages(parts: ReplyParts) -> list[str]:
    """One line for each service that is out, and what that means for replies."""
    llm, tts = parts.breakers
    found = []
    if llm.out or llm.absent:
        why = llm.absent if not llm.out and llm.absent else "the language model does not answer"
        found.append(f"replies are apologies: {why}")
    if tts.out or tts.absent:
        why = tts.absent if not tts.out and tts.absent else "speech synthesis does not answer"
        means = "cannot be heard" if parts.spare is None else "are spoken by the built-in voice"
        found.append(f"replies {means}: {why}")
    return found


async def reply_or_apology(
    messages: Sequence[Message],
    parts: ReplyParts,
    metrics: Metrics,
    *,
    clock: Clock,
    audio: bool = True,
    voice: str | None = None,
    speed: float = 1.0,
    max_tokens: int | None = None,
    on_spare: Callable[[], None] | None = None,
) -> AsyncGenerator[ReplyEvent | ReplyFailed, None]:
    """Events of one reply. The last is `ReplyDone`, unless `ReplyFailed` came before.

    `on_spare` is called for each sentence that the built-in voice speaks in another's place.
    """

    def spared() -> None:
        metrics.spared()
        if on_spare is not None:
            on_spare()

    tts = SpareVoice(parts.tts, parts.spare, spared)
    speaking = speak_reply(
        messages,
        parts.llm,
        tts,
        clock=clock,
        audio=audio,
        voice=voice,
        speed=speed,
        max_tokens=max_tokens,
    )
    try:
        async with aclosing(speaking) as events:
            async for event in events:
                yield event
        return
    except BrokenReplyError as error:
        failed = ReplyFailed(error.text, error.service or "llm", error.reason)
    yield failed
    text = parts.apology.after(failed.text)
    if not text:
        return
    metrics.apologised()
    # The voice that was asked for may be what failed.
    own = voice if failed.service == "llm" else None
    start = len(failed.text)
    said = apologise(text, start, tts, clock=clock, audio=audio, voice=own, speed=speed)
    async with aclosing(said) as apologising:
        async for part in apologising:
            yield part
