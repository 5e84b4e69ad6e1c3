"""One response of a Realtime session: from the language model to the client's ear."""

import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from rtvc.audio import alaw_encode, pcm16_to_float, resample, ulaw_encode
from rtvc.protocol.realtime import (
    PartPlace,
    ServerEvents,
    SessionConfig,
    assistant_item,
    response,
)
from rtvc.server.ear import Ear
from rtvc.server.replies.llm import Message
from rtvc.server.replies.reply import (
    AudioDelta,
    ReplyDone,
    ReplyEvent,
    ReplyTimings,
    TextDelta,
    heard_part,
)
from rtvc.server.replies.replying import ReplyFailed, reply_or_apology
from rtvc.server.services import Services
from rtvc.server.sessions.outbox import Outbox

_log = logging.getLogger(__name__)

_BYTES_PER_SAMPLE = 2
_EAR_RATE_HZ = 16_000


@dataclass(frozen=True, slots=True)
class ReplySettings:
    """How one response differs from the next."""

    audio: bool
    """Spoken, or text only."""
    voice: str | None
    """None: the synthesizer's own."""
    speed: float
    """Multiple of the voice's own speed."""
    max_tokens: int | None
    """None: the server's limit."""
    metadata: dict[str, str] | None
    """Given back with the response."""
    output_format: str
    """audio/pcm, audio/pcmu or audio/pcma."""
    conversation_id: str | None
    """None: the response is kept out of the conversation."""


class RealtimeReply:
    """A response in progress, and what the client may have heard of it."""

    def __init__(
        self,
        services: Services,
        outbox: Outbox,
        events: ServerEvents,
        settings: ReplySettings,
        *,
        response_id: str,
        item_id: str,
        ear: Ear | None,
        post: Callable[[dict[str, Any]], None],
        on_first_audio: Callable[[ReplyTimings], None],
        on_spare: Callable[[], None],
    ) -> None:
        self._services = services
        self._outbox = outbox
        self._events = events
        self.settings = settings
        self.response_id = response_id
        self.item_id = item_id
        self._ear = ear
        self._post = post
        self._on_first_audio = on_first_audio
        self._on_spare = on_spare
        self._failure: ReplyFailed | None = None
        self._place = PartPlace(response_id, item_id)
        self.text = ""
        """All text sent, an apology included."""
        self.positions: list[tuple[float, int]] = []
        """For each audio piece: where it ends (ms), and characters spoken by then."""
        self.audio_ms = 0.0
        """Length of the audio sent."""
        self.first_audio_at_s: float | None = None
        """When the first audio was sent; None: not yet."""
        self.over = False
        """Whether response.done has been sent."""
        self.status = "in_progress"
        """As response.done says it."""
        self._opened = False

    @property
    def _modality(self) -> Any:
        return "audio" if self.settings.audio else "text"

    def start(self) -> None:
        """Announce the response; its text and audio follow from `run`."""
        self._post(self._events.response_created(self._response("in_progress")))

    async def run(self, messages: Sequence[Message]) -> str:
        """Write, speak and send; ends with response.done, and where it fails with an apology.

        Returns:
            The response's status: completed, incomplete or failed.
        """
        services = self._services
        speaking = reply_or_apology(
            messages,
            services.reply_parts,
            services.metrics,
            clock=services.clock,
            audio=self.settings.audio,
            voice=self.settings.voice,
            speed=self.settings.speed,
            max_tokens=self.settings.max_tokens,
            on_spare=self._on_spare,
        )
        async with aclosing(speaking) as happenings:
            async for happening in happenings:
                await self._send(happening)
        if self._failure is not None:
            self.finish("failed", error=(self._failure.code, self._failure.message))
        return self.status

    def finish(
        self,
        status: Any,
        *,
        reason: Any = None,
        error: tuple[str, str] | None = None,
        tokens: int | None = None,
    ) -> None:
        """Close what is open and send response.done; once."""
        if self.over:
            return
        self.over, self.status = True, status
        complete = status == "completed"
        if self._opened:
            self._close(complete)
        self._post(
            self._events.response_done(
                self._response(status, reason=reason, error=error, tokens=tokens)
            )
        )

    def parted(self, text: str) -> tuple[str, str]:
        """The beginning of what was sent, parted into the model's words and the apology."""
        if self._failure is None:
            return text, ""
        own = text[: len(self._failure.text)]
        return own if own.strip() else "", text[len(own) :]

    def heard(self, played_ms: float) -> str:
        """The part of the text that was heard after `played_ms` of audio."""
        return heard_part(self.text, self.positions, played_ms)

    def heard_by(self, now_s: float) -> str:
        """The part heard by now, if the client plays from the moment the first audio was sent."""
        if self.first_audio_at_s is None:
            return ""
        return self.heard((now_s - self.first_audio_at_s) * 1000)

    async def _send(self, happening: ReplyEvent | ReplyFailed) -> None:
        if isinstance(happening, ReplyFailed):
            _log.warning("reply %s: %s", self.response_id, happening.message)
            self._failure = happening
        elif isinstance(happening, ReplyDone):
            self._open()
            cut = happening.finish_reason == "length"
            self.finish(
                "incomplete" if cut else "completed",
                reason="max_output_tokens" if cut else None,
                tokens=happening.tokens,
            )
        elif isinstance(happening, TextDelta):
            self._open()
            self.text += happening.text
            delta = self._events.audio_transcript_delta
            say = delta if self.settings.audio else self._events.text_delta
            self._post(say(self._place, happening.text))
        else:
            await self._send_audio(happening)

    async def _send_audio(self, piece: AudioDelta) -> None:
        await self._outbox.room()
        self._open()
        await self._tell_ear(piece.pcm16)
        encoded = await self._encode(piece.pcm16)
        self._post(self._events.audio_delta(self._place, encoded))
        samples = len(piece.pcm16) // _BYTES_PER_SAMPLE
        self.audio_ms += 1000 * samples / self._services.tts.rate_hz
        self.positions.append((self.audio_ms, piece.text_position))
        if self.first_audio_at_s is None:
            self.first_audio_at_s = self._services.clock.now()
            if self._failure is None:
                # An apology is no reply, however soon it comes.
                self._on_first_audio(piece.timings or ReplyTimings())

    async def _tell_ear(self, pcm16: bytes) -> None:
        if self._ear is None:
            return
        ear, rate_hz, clock = self._ear, self._services.tts.rate_hz, self._services.clock

        def tell() -> None:
            audio = resample(pcm16_to_float(pcm16), rate_hz, _EAR_RATE_HZ)
            ear.reply_audio(audio, clock.now())

        await self._services.hearing.run(tell)

    async def _encode(self, pcm16: bytes) -> bytes:
        if self.settings.output_format == "audio/pcm":
            return pcm16
        encode = ulaw_encode if self.settings.output_format == "audio/pcmu" else alaw_encode
        rate_hz = self._services.tts.rate_hz

        def convert() -> bytes:
            return encode(resample(pcm16_to_float(pcm16), rate_hz, 8000))

        return await self._services.hearing.run(convert)

    def _open(self) -> None:
        if self._opened:
            return
        self._opened = True
        item = assistant_item(self.item_id, None, status="in_progress", modality=self._modality)
        self._post(self._events.output_item_added(self.response_id, item))
        if self.settings.conversation_id is not None:
            self._post(self._events.item_added(item, previous_item_id=self.previous_item_id))
        self._post(self._events.content_part_added(self._place, modality=self._modality))

    previous_item_id: str | None = None
    """The item that the response follows in the conversation; None: it is the first."""

    def _close(self, complete: bool) -> None:
        if self.settings.audio:
            self._post(self._events.audio_done(self._place))
            self._post(self._events.audio_transcript_done(self._place, self.text))
        else:
            self._post(self._events.text_done(self._place, self.text))
        part_done = self._events.content_part_done(self._place, self.text, modality=self._modality)
        self._post(part_done)
        item = self._item(complete)
        self._post(self._events.output_item_done(self.response_id, item))
        if self.settings.conversation_id is not None:
            self._post(self._events.item_done(item, previous_item_id=self.previous_item_id))

    def _item(self, complete: bool) -> dict[str, Any]:
        return assistant_item(
            self.item_id,
            self.text,
            status="completed" if complete else "incomplete",
            modality=self._modality,
        )

    def _response(
        self,
        status: Any,
        *,
        reason: Any = None,
        error: tuple[str, str] | None = None,
        tokens: int | None = None,
    ) -> dict[str, Any]:
        output = [self._item(status == "completed")] if self._opened else []
        return response(
            self.response_id,
            status,
            conversation_id=self.settings.conversation_id,
            output=output,
            reason=reason,
            error=error,
            modality=self._modality,
            max_output_tokens=self.settings.max_tokens,
            output_tokens=tokens,
            metadata=self.settings.metadata,
        )


def reply_settings(
    config: SessionConfig, services: Services, *, conversation_id: str | None
) -> ReplySettings:
    """What a session's settings say of its replies."""
    limit = services.settings.llm.max_tokens
    return ReplySettings(
        audio=config.modality == "audio",
        voice=config.audio.output.voice,
        speed=config.audio.output.speed,
        max_tokens=min(limit, config.token_limit or limit),
        metadata=None,
        output_format=config.audio.output.format.type,
        conversation_id=conversation_id,
    )
