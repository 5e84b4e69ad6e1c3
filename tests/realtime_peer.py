"""A Realtime client for tests: speaks audio in real time and collects what comes back."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect

from rtvc.audio import float_to_pcm16
from rtvc.clock import SystemClock
from rtvc.speech.synthesis import Speech, Synthesizer

RATE_HZ = 24_000
FRAME_BYTES = 960
FRAME_S = 0.02

_synthesizer = Synthesizer()


def speech(text: str, voice: str = "en-us+f3", words_per_minute: int = 165) -> Speech:
    return _synthesizer.say(text, voice=voice, words_per_minute=words_per_minute, rate_hz=RATE_HZ)


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(round(seconds * RATE_HZ), np.float32)


class Peer:
    """One session under test."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self.received = asyncio.Event()
        self._clock = SystemClock()

    async def collect(self) -> None:
        async for message in self.socket:
            self.events.append(json.loads(message))
            self.received.set()

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def append(self, pcm16: bytes) -> None:
        await self.send("input_audio_buffer.append", audio=base64.b64encode(pcm16).decode())

    async def speak(self, audio: NDArray[np.float32]) -> None:
        """In real time: each frame when its last sample has been spoken."""
        pcm16 = float_to_pcm16(audio)
        start_s = self._clock.now()
        for number, at in enumerate(range(0, len(pcm16), FRAME_BYTES)):
            await asyncio.sleep(max(0.0, start_s + (number + 1) * FRAME_S - self._clock.now()))
            await self.append(pcm16[at : at + FRAME_BYTES])

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    async def until(self, kind: str, *, count: int = 1, seconds: float = 20.0) -> dict[str, Any]:
        return (
            await self.until_true(lambda: len(self.of(kind)) >= count, kind, seconds)
            or self.of(kind)[count - 1]
        )

    async def until_true(self, holds: Callable[[], bool], what: str, seconds: float = 20.0) -> Any:
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    self.received.clear()
                    await self.received.wait()
        except TimeoutError:
            kinds = [event["type"] for event in self.events]
            errors = self.of("error")
            raise AssertionError(f"{what} did not come; got {kinds[-30:]} {errors}") from None

    def transcripts(self) -> list[str]:
        done = self.of("conversation.item.input_audio_transcription.completed")
        return [str(event["transcript"]) for event in done]

    def reply_audio(self) -> bytes:
        return b"".join(
            base64.b64decode(event["delta"]) for event in self.of("response.output_audio.delta")
        )


@asynccontextmanager
async def session(url: str, query: str = "rtvc=1") -> AsyncIterator[Peer]:
    """A session on a running server, after session.created."""
    address = url.replace("http", "ws", 1) + f"/v1/realtime?{query}"
    async with connect(address, max_size=None, compression=None) as socket:
        peer = Peer(socket)
        collecting = asyncio.create_task(peer.collect())
        try:
            await peer.until("session.created")
            yield peer
        finally:
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
