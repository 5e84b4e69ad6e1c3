"""Services with a fault on purpose, each around a sound one of the same contract."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress

import numpy as np
from numpy.typing import NDArray
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rtvc.clock import Clock
from rtvc.errors import ReplyError
from rtvc.server.replies.llm import FinalDelta, LanguageModel
from rtvc.server.replies.llm import Message as Said
from rtvc.server.replies.tts import SpeechSynthesizer
from rtvc.voice.turn_model import TurnModel
from rtvc.voice.vad import FRAME_SAMPLES, SAMPLE_RATE_HZ, VoiceActivityDetector

HELD_MESSAGES = 4096
"""Messages of one client held back at most; then it is read no further."""

GARBAGE_CHARS = 20_000
"""Length of an answer that does not end in time."""

Hold = Callable[[float], object]
"""Spends seconds of the calling thread's time."""

IsOn = Callable[[], bool]
"""Whether a fault is on now."""


def always() -> bool:
    """Of a fault without a window."""
    return True


class SlowLanguageModel:
    """Begins to write later."""

    def __init__(self, inner: LanguageModel, later_s: float, is_on: IsOn = always) -> None:
        self.name = inner.name
        self._inner = inner
        self._later_s = later_s
        self._is_on = is_on

    async def stream(
        self, messages: Sequence[Said], *, max_tokens: int | None
    ) -> AsyncGenerator[str, None]:
        await asyncio.sleep(self._later_s if self._is_on() else 0.0)
        async with aclosing(self._inner.stream(messages, max_tokens=max_tokens)) as deltas:
            async for delta in deltas:
                yield delta

    async def close(self) -> None:
        await self._inner.close()


class DownLanguageModel:
    """Cannot be reached, as a backend that is gone."""

    def __init__(self, inner: LanguageModel, is_on: IsOn = always) -> None:
        self.name = inner.name
        self._inner = inner
        self._is_on = is_on

    async def stream(
        self, messages: Sequence[Said], *, max_tokens: int | None
    ) -> AsyncGenerator[str, None]:
        if self._is_on():
            raise ReplyError("language model (down on purpose): ConnectError", reason="connect")
        async with aclosing(self._inner.stream(messages, max_tokens=max_tokens)) as deltas:
            async for delta in deltas:
                yield delta

    async def close(self) -> None:
        await self._inner.close()


class GarblingLanguageModel:
    """Answers nonsense, in turn: a stream that breaks off, text that neither ends nor has
    sentences, nothing at all."""

    def __init__(self, inner: LanguageModel, is_on: IsOn = always) -> None:
        self.name = inner.name
        self._inner = inner
        self._is_on = is_on
        self._garbled = 0

    async def stream(
        self, messages: Sequence[Said], *, max_tokens: int | None
    ) -> AsyncGenerator[str, None]:
        if not self._is_on():
            async with aclosing(self._inner.stream(messages, max_tokens=max_tokens)) as deltas:
                async for delta in deltas:
                    yield delta
            return
        kind, self._garbled = self._garbled % 3, self._garbled + 1
        if kind == 0:
            yield "Well, "
            raise ReplyError("language model: expected a JSON object got '<html>'")
        if kind == 1:
            for _ in range(GARBAGE_CHARS // 8):
                await asyncio.sleep(0.001)
                yield "\x07\u202e{]\x00 \ufffd "
        yield FinalDelta("", "completed", 0)

    async def close(self) -> None:
        await self._inner.close()


class SlowSynthesizer:
    """Begins to speak later, at each sentence."""

    def __init__(self, inner: SpeechSynthesizer, later_s: float, is_on: IsOn = always) -> None:
        self.name = inner.name
        self.rate_hz = inner.rate_hz
        self._inner = inner
        self._later_s = later_s
        self._is_on = is_on

    async def synthesize(
        self, text: str, *, voice: str | None, speed: float
    ) -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(self._later_s if self._is_on() else 0.0)
        async with aclosing(self._inner.synthesize(text, voice=voice, speed=speed)) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        await self._inner.close()


class DownSynthesizer:
    """Cannot be reached, as a backend that is gone."""

    def __init__(self, inner: SpeechSynthesizer, is_on: IsOn = always) -> None:
        self.name = inner.name
        self.rate_hz = inner.rate_hz
        self._inner = inner
        self._is_on = is_on

    async def synthesize(
        self, text: str, *, voice: str | None, speed: float
    ) -> AsyncGenerator[bytes, None]:
        if self._is_on():
            raise ReplyError("speech synthesis (down on purpose): ConnectError", reason="connect")
        async with aclosing(self._inner.synthesize(text, voice=voice, speed=speed)) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        await self._inner.close()


class SlowVad:
    """Takes its time over every frame, on the thread that hears for everyone."""

    def __init__(
        self,
        inner: VoiceActivityDetector,
        work_s_per_s: float,
        hold: Hold,
        is_on: IsOn = always,
    ) -> None:
        self._inner = inner
        self._work_s_per_s = work_s_per_s
        self._hold = hold
        self._is_on = is_on

    def probabilities(self, frames: NDArray[np.float32]) -> list[float]:
        found = self._inner.probabilities(frames)
        if len(frames) and self._is_on():
            self._hold(self._work_s_per_s * len(frames) * FRAME_SAMPLES / SAMPLE_RATE_HZ)
        return found


class SlowTurnModel:
    """Thinks longer about every pause. Where there is no turn model, it takes all for complete."""

    def __init__(self, inner: TurnModel | None, longer_s: float, hold: Hold) -> None:
        self.name = "stand-in" if inner is None else inner.name
        self._inner = inner
        self._longer_s = longer_s
        self._hold = hold

    def completeness(self, audio: NDArray[np.float32]) -> float:
        self._hold(self._longer_s)
        return 1.0 if self._inner is None else self._inner.completeness(audio)


class HiddenBacklog:
    """Holds back what WebSocket clients send, before the server takes note of it."""

    def __init__(self, app: ASGIApp, held_s: float, clock: Clock, is_on: IsOn = always) -> None:
        self._app = app
        self._held_s = held_s
        self._clock = clock
        self._is_on = is_on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        held = _HeldMessages(receive, self._held_s, self._clock, self._is_on)
        taking = asyncio.create_task(held.take(), name="hidden-backlog")
        try:
            await self._app(scope, held.receive, send)
        finally:
            taking.cancel()
            await asyncio.wait([taking])


class _HeldMessages:
    """One client's."""

    def __init__(self, receive: Receive, held_s: float, clock: Clock, is_on: IsOn) -> None:
        self._receive = receive
        self._held_s = held_s
        self._clock = clock
        self._is_on = is_on
        self._waiting: asyncio.Queue[tuple[float, Message]] = asyncio.Queue(HELD_MESSAGES)
        self._gone = asyncio.Event()
        self._farewell: Message | None = None

    async def take(self) -> None:
        """Read on, whether the server wants it or not, until the client is gone."""
        while self._farewell is None:
            message = await self._receive()
            spoken = message["type"] == "websocket.receive"
            if message["type"] == "websocket.disconnect":
                self._farewell = message
                self._gone.set()
            due_s = self._clock.now() + (self._held_s if spoken and self._is_on() else 0.0)
            await self._waiting.put((due_s, message))

    async def receive(self) -> Message:
        """The next message once it is due; nothing is due any more when the client is gone."""
        due_s, message = await self._waiting.get()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(due_s - self._clock.now(), 0.0)):
                await self._gone.wait()
        return message if self._farewell is None else self._farewell
