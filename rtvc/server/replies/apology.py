"""A reply that fails is not silence: the person hears and reads why nothing, or no more, comes."""

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from rtvc.clock import Clock
from rtvc.errors import ReplyError
from rtvc.server.replies.llm import Message
from rtvc.server.replies.reply import AudioDelta, TextDelta, speak_reply
from rtvc.server.replies.tts import SpeechSynthesizer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Apology:
    """What is said instead of a reply."""

    no_answer: str = "Sorry, I cannot answer right now. Please try again in a moment."
    """When nothing of the reply came."""
    broken_off: str = "Sorry, I lost my thread."
    """When it broke off in the middle."""

    def after(self, text: str) -> str:
        """What follows what was handed out of the reply; empty: nothing is said.

        >>> Apology().after("It is "), Apology(broken_off="Sorry.").after("It is")
        ('Sorry, I lost my thread.', ' Sorry.')
        """
        if not text.strip():
            return self.no_answer
        joined = text[-1].isspace() or not self.broken_off
        return self.broken_off if joined else f" {self.broken_off}"


class Recited:
    """Writes the one text that it was given."""

    name = "recited"

    def __init__(self, text: str) -> None:
        self._text = text

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int | None
    ) -> AsyncGenerator[str, None]:
        yield self._text

    async def close(self) -> None:
        """Nothing to let go of."""


async def apologise(
    text: str,
    start: int,
    tts: SpeechSynthesizer,
    *,
    clock: Clock,
    audio: bool,
    voice: str | None,
    speed: float,
) -> AsyncGenerator[TextDelta | AudioDelta, None]:
    """The apology as further events of the reply, of which `start` characters were handed out.

    If it cannot be spoken either, it is there to be read.
    """
    said = speak_reply(
        [], Recited(text), tts, clock=clock, audio=audio, voice=voice, speed=speed
    )  # fmt: skip
    try:
        async with aclosing(said) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    yield event
                elif isinstance(event, AudioDelta):
                    yield AudioDelta(event.pcm16, start + event.text_position)
    except ReplyError as error:
        _log.info("an apology was not spoken to its end: %s", error)
