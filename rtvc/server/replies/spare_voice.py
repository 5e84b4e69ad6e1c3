"""When the synthesizer fails: the sentences not begun yet are spoken by the built-in voice."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from rtvc.audio import Resampler, float_to_pcm16, pcm16_to_float
from rtvc.errors import ReplyError
from rtvc.server.replies.tts import SpeechSynthesizer


class SpareVoice:
    """The voice of one reply: once the synthesizer has failed, the spare one speaks to the end.

    Nobody waits for a failing service at each sentence, and the voice changes once at most.
    """

    def __init__(
        self,
        tts: SpeechSynthesizer,
        spare: SpeechSynthesizer | None,
        on_spare: Callable[[], None],
    ) -> None:
        """`on_spare` is called for each sentence that the spare voice speaks."""
        self.name = tts.name
        self.rate_hz = tts.rate_hz
        self._tts = tts
        self._spare = spare
        self._on_spare = on_spare
        self._failed = False

    async def synthesize(
        self, text: str, *, voice: str | None, speed: float
    ) -> AsyncGenerator[bytes, None]:
        if self._spare is None or not self._failed:
            begun = False
            try:
                async with aclosing(self._tts.synthesize(text, voice=voice, speed=speed)) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
                return
            except ReplyError:
                if begun or self._spare is None:
                    raise
                self._failed = True
        async with aclosing(self._say(self._spare, text, speed)) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        """Both belong to the server."""

    async def _say(
        self, spare: SpeechSynthesizer, text: str, speed: float
    ) -> AsyncGenerator[bytes, None]:
        """At the rate that the caller expects; in its own voice, as others' names mean nothing."""
        self._on_spare()
        resampler = Resampler(spare.rate_hz, self.rate_hz)
        async with aclosing(spare.synthesize(text, voice=None, speed=speed)) as pieces:
            async for piece in pieces:
                yield float_to_pcm16(resampler.feed(pcm16_to_float(piece)))
        yield float_to_pcm16(resampler.flush())
