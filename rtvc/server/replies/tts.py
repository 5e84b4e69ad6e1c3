"""Speech synthesis for replies: a sentence in, 24 kHz PCM out piece by piece."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Protocol

import httpx

from rtvc.audio import float_to_pcm16
from rtvc.errors import ReplyError
from rtvc.server.replies.http_errors import UNPACKED, expect_plain, first_line, reply_errors
from rtvc.speech.synthesis import Synthesizer

REPLY_RATE_HZ = 24_000
BYTES_PER_SAMPLE = 2
PIECE_BYTES = REPLY_RATE_HZ // 5 * BYTES_PER_SAMPLE
"""200 ms: the most that travels at once."""

WORDS_PER_MINUTE = 170
SPEED_MIN, SPEED_MAX = 0.25, 4.0

# Clients ask for OpenAI's voices by name; each is given an espeak-ng voice of its own.
ESPEAK_VOICES = {
    "alloy": "en-us",
    "ash": "en-us+m1",
    "ballad": "en+m2",
    "cedar": "en-us+m3",
    "coral": "en-us+f1",
    "echo": "en-us+m4",
    "fable": "en",
    "marin": "en-us+f2",
    "nova": "en-us+f3",
    "onyx": "en-us+m6",
    "sage": "en+f5",
    "shimmer": "en-us+f5",
    "verse": "en-us+m7",
}


class SpeechSynthesizer(Protocol):
    """Speaks sentences."""

    name: str
    rate_hz: int

    def synthesize(
        self, text: str, *, voice: str | None, speed: float
    ) -> AsyncGenerator[bytes, None]:
        """Mono 16-bit little-endian pieces of at most 200 ms; `voice` None: its own.

        Closing it stops the synthesis. Raises ReplyError.
        """

    async def close(self) -> None:
        """Let go of threads and connections."""


class EspeakSynthesizer:
    """espeak-ng in one thread of its own: it keeps global state, and the event loop must go on."""

    name = "espeak-ng"
    rate_hz = REPLY_RATE_HZ

    def __init__(self, voice: str = "en-us", synthesizer: Synthesizer | None = None) -> None:
        self._voice = voice
        self._synthesizer = synthesizer
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="espeak")

    async def synthesize(
        self, text: str, *, voice: str | None, speed: float
    ) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        pcm16 = await loop.run_in_executor(self._thread, self._say, text, voice, speed)
        for start in range(0, len(pcm16), PIECE_BYTES):
            yield pcm16[start : start + PIECE_BYTES]

    def has_voice(self, voice: str | None) -> bool:
        """Whether `voice` (None: its own) can be spoken with; blocks for some milliseconds."""
        if self._synthesizer is None:
            self._synthesizer = Synthesizer()
        return self._synthesizer.has_voice(self._espeak_name(voice))

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    def _say(self, text: str, voice: str | None, speed: float) -> bytes:
        if self._synthesizer is None:
            self._synthesizer = Synthesizer()
        name = self._voice_name(self._synthesizer, voice)
        pace = round(WORDS_PER_MINUTE * min(max(speed, SPEED_MIN), SPEED_MAX))
        speech = self._synthesizer.say(
            text, voice=name, words_per_minute=pace, rate_hz=self.rate_hz
        )
        return float_to_pcm16(speech.audio)

    def _espeak_name(self, voice: str | None) -> str:
        return ESPEAK_VOICES.get(voice, voice) if voice else self._voice

    def _voice_name(self, synthesizer: Synthesizer, voice: str | None) -> str:
        name = self._espeak_name(voice)
        if not synthesizer.has_voice(name):
            known = ", ".join(ESPEAK_VOICES)
            raise ReplyError(
                f"expected an espeak-ng voice or one of {known} got {(voice or self._voice)!r}",
                reason="refused",
                status=400,
            )
        return name


class OpenAiSynthesizer:
    """Any server with an OpenAI-style `/audio/speech` that streams `pcm` (24 kHz, 16 bit).

    `url` is the base, such as `http://localhost:8880/v1`. `timeout_s` bounds connecting and every
    silence between two pieces.
    """

    rate_hz = REPLY_RATE_HZ

    def __init__(
        self,
        url: str,
        model: str,
        voice: str,
        api_key: str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self.name = model
        self._url = f"{url.rstrip('/')}/audio/speech"
        self._voice = voice
        key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        headers = {**UNPACKED, **key}
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0))
        self._client = httpx.AsyncClient(headers=headers, timeout=timeout)

    async def synthesize(
        self, text: str, *, voice: str | None, speed: float
    ) -> AsyncGenerator[bytes, None]:
        request = {
            "model": self.name,
            "input": text,
            "voice": voice or self._voice,
            "response_format": "pcm",
            "speed": min(max(speed, SPEED_MIN), SPEED_MAX),
        }
        with reply_errors("speech synthesis", self._url) as exchange:
            async with self._client.stream("POST", self._url, json=request) as response:
                exchange.answered = True
                await self._check(response)
                async with aclosing(whole_samples(response.aiter_bytes())) as pieces:
                    async for piece in pieces:
                        yield piece

    async def close(self) -> None:
        await self._client.aclose()

    async def _check(self, response: httpx.Response) -> None:
        content_type = response.headers.get("content-type", "")
        accepted = response.status_code == 200
        if accepted and "json" not in content_type:
            expect_plain(response, never=("text/", "xml"), service="speech synthesis")
            return
        line = await first_line(response)
        raise ReplyError(
            f"speech synthesis {self.name!r} at {self._url}: expected HTTP 200 with audio, "
            f"got {response.status_code} {content_type}: {line}",
            reason="garbage" if accepted else "refused",
            status=response.status_code,
        )


async def whole_samples(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Pieces of whole samples, at most 200 ms each, from bytes cut anywhere."""
    pending = b""
    is_start = True
    async for chunk in chunks:
        pending += chunk
        if is_start and len(pending) >= 4:
            is_start = False
            _expect_bare_samples(pending)
        while not is_start and len(pending) >= BYTES_PER_SAMPLE:
            size = min(len(pending), PIECE_BYTES) // BYTES_PER_SAMPLE * BYTES_PER_SAMPLE
            piece, pending = pending[:size], pending[size:]
            yield piece
    if len(pending) >= BYTES_PER_SAMPLE:
        yield pending[: len(pending) // BYTES_PER_SAMPLE * BYTES_PER_SAMPLE]


def _expect_bare_samples(head: bytes) -> None:
    """Some servers ignore `response_format`; a file's header must not be played as noise."""
    if head.startswith((b"RIFF", b"ID3", b"OggS", b"fLaC")):
        raise ReplyError(
            f"speech synthesis: expected bare pcm samples got {head[:4]!r}", reason="garbage"
        )
