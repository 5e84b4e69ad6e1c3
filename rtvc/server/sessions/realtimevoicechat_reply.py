"""One answer in RealtimeVoiceChat's protocol: text that grows, audio at 48 kHz, and its end."""

import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial

from rtvc.audio import Resampler, float_to_pcm16, pcm16_to_float, resample
from rtvc.protocol.realtimevoicechat import (
    REPLY_RATE_HZ,
    ServerMessage,
    ServerMessageType,
    encode_server_message,
    tts_chunk,
)
from rtvc.server.ear import Ear
from rtvc.server.replies.llm import Message
from rtvc.server.replies.reply import (
    AudioDelta,
    ReplyEvent,
    ReplyTimings,
    TextDelta,
    heard_part,
)
from rtvc.server.replies.replying import ReplyFailed, reply_or_apology
from rtvc.server.services import Services
from rtvc.server.sessions.outbox import Outbox
from rtvc.voice.session import SAMPLE_RATE_HZ

_log = logging.getLogger(__name__)

_TEXT_INTERVAL_S = 0.05
"""Each partial answer holds the whole text, so not every token is worth one."""


class SpokenAnswer:
    """An answer in progress, and what the client may have heard of it."""

    def __init__(
        self,
        services: Services,
        outbox: Outbox,
        ear: Ear,
        *,
        item_id: str,
        on_first_audio: Callable[[ReplyTimings], None],
    ) -> None:
        self._services = services
        self._clock = services.clock
        self._outbox = outbox
        self._ear = ear
        self.item_id = item_id
        self._on_first_audio = on_first_audio
        self.text = ""
        """All text written so far, an apology included."""
        self.failure: ReplyFailed | None = None
        """Why there is none, or no more of it; None: nothing has failed."""
        self.over = False
        """Whether final_assistant_answer has been sent, or never will be."""
        self._playing_since_s: float | None = None
        self._played_s = 0.0
        self._positions: list[tuple[float, int]] = []
        self._audio_s = 0.0
        self._shown_at_s: float | None = None
        self._upsampler = Resampler(services.tts.rate_hz, REPLY_RATE_HZ)

    async def run(self, messages: Sequence[Message]) -> None:
        """Write, speak and send until the end; cancel the task to stop at once."""
        services = self._services
        speaking = reply_or_apology(
            messages,
            services.reply_parts,
            services.metrics,
            clock=self._clock,
            voice=services.settings.tts.voice,
            max_tokens=services.settings.llm.max_tokens,
        )
        async with aclosing(speaking) as happenings:
            async for happening in happenings:
                await self._send(happening)
        await self._send_tail()
        # The protocol has no error message, and the page shows an answer until its final one.
        self.finish(self.text)

    def parted(self, text: str) -> tuple[str, str]:
        """The beginning of what was sent, parted into the model's words and the apology."""
        if self.failure is None:
            return text, ""
        own = text[: len(self.failure.text)]
        return own if own.strip() else "", text[len(own) :]

    def finish(self, text: str) -> None:
        """Send the final answer, once; an empty one ends what the page shows as being typed."""
        if not self.over:
            self.over = True
            self._post("final_assistant_answer", " ".join(text.split()))

    def playback_started(self, now_s: float) -> None:
        """The client says that it plays; until it does, it is taken to play what it was sent."""
        self._playing_since_s = now_s

    def playback_stopped(self, now_s: float) -> None:
        """The client ran out of audio: at the end, or because more was late."""
        self._played_s = self._played_by(now_s)
        self._playing_since_s = None

    def heard_by(self, now_s: float) -> str:
        """The part of the text that was heard by now."""
        return heard_part(self.text, self._positions, self._played_by(now_s) * 1000)

    def playing(self, now_s: float) -> bool:
        """Whether, by what was sent, the client has not yet played all of it."""
        return self._playing_since_s is not None and self._played_by(now_s) < self._audio_s

    def _played_by(self, now_s: float) -> float:
        """Seconds of audio played by now, pauses left out."""
        since_s = now_s if self._playing_since_s is None else self._playing_since_s
        return min(self._played_s + now_s - since_s, self._audio_s)

    def _post(self, kind: ServerMessageType, content: str) -> None:
        self._outbox.post(encode_server_message(ServerMessage(kind, content)))

    async def _send(self, happening: ReplyEvent | ReplyFailed) -> None:
        if isinstance(happening, ReplyFailed):
            _log.warning("an answer failed: %s", happening.message)
            self.failure = happening
        elif isinstance(happening, TextDelta):
            self.text += happening.text
            self._show_text()
        elif isinstance(happening, AudioDelta):
            await self._send_audio(happening)

    def _show_text(self) -> None:
        now_s = self._clock.now()
        if self._shown_at_s is None or now_s - self._shown_at_s >= _TEXT_INTERVAL_S:
            self._shown_at_s = now_s
            self._post("partial_assistant_answer", self.text)

    async def _send_audio(self, piece: AudioDelta) -> None:
        await self._outbox.room()
        pcm = await self._services.hearing.run(partial(self._prepare, piece.pcm16))
        self._outbox.post(encode_server_message(tts_chunk(pcm)))
        if piece.timings is not None:
            self._on_first_audio(piece.timings)
        if self._playing_since_s is None:
            self._playing_since_s = self._clock.now()
        self._audio_s += len(piece.pcm16) / 2 / self._services.tts.rate_hz
        self._positions.append((self._audio_s * 1000, piece.text_position))

    def _prepare(self, pcm16: bytes) -> bytes:
        """Off the event loop: audio for the client, and for the echo test."""
        audio = pcm16_to_float(pcm16)
        heard = resample(audio, self._services.tts.rate_hz, SAMPLE_RATE_HZ)
        self._ear.reply_audio(heard, self._clock.now())
        return float_to_pcm16(self._upsampler.feed(audio))

    async def _send_tail(self) -> None:
        """What the resampler still holds belongs to this answer and to no other."""
        tail = self._upsampler.flush()
        if len(tail):
            await self._outbox.room()
            self._outbox.post(encode_server_message(tts_chunk(float_to_pcm16(tail))))
