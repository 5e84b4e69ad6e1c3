"""A language model and a synthesizer that can be relied on to answer or to fail in good time.

Around any service of the two contracts: limits in time and size, one more try before anything was
passed on, and a breaker, shared by all sessions, that spares everyone the wait for a service that
is out. Whatever goes wrong is a ReplyError with a reason from a small fixed set.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from rtvc.clock import Clock
from rtvc.errors import ReplyError
from rtvc.server.replies.breaker import Attempt, Breaker
from rtvc.server.replies.llm import FinalDelta, LanguageModel, Message
from rtvc.server.replies.tts import BYTES_PER_SAMPLE, SPEED_MIN, SpeechSynthesizer

_log = logging.getLogger(__name__)

ServiceName = Literal["llm", "tts"]
SHOWN: dict[ServiceName, str] = {"llm": "language model", "tts": "speech synthesis"}
RETRY_PAUSE_S = (0.1, 0.3)
"""Drawn between: sessions that failed together should not come back together."""
_OF_THE_REQUEST = (400, 413, 415, 422)
"""Statuses that blame what one session asked, and say nothing about the service."""
LONGEST_CHARACTER_S, LONGEST_SENTENCE_S = 0.5, 10.0
"""Audio of a sentence: at most so much a character, and so much besides; numbers are read out."""
TRICKLE = 10
"""Waits of the longest kind that a whole reply's text may come to."""

_T = TypeVar("_T")


def _nobody(service: ServiceName, reason: str) -> None:
    """Counts nothing."""


def _nothing() -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an answer is waited for; the time that its taker takes is not counted."""

    first_s: float
    """For the first piece, over both tries."""
    next_s: float
    """For each further piece."""
    total_s: float
    """For all of those: a service may also trickle."""


@dataclass(slots=True)
class Guard:
    """Watches one service for all sessions."""

    service: ServiceName
    """Which."""
    clock: Clock
    """The server's."""
    breaker: Breaker = field(default_factory=Breaker)
    """Shut while the service is out."""
    on_failure: Callable[[ServiceName, str], None] = _nobody
    """Counts what went wrong, by reason."""
    on_change: Callable[[], None] = _nothing
    """Called when the service is taken for out, and when it is back."""
    absent: str | None = None
    """What start-up found out about it, in one line; None: nothing, or it has answered since."""
    between: Callable[[float, float], float] = random.uniform
    """Draws the pause before the other try."""

    @property
    def out(self) -> bool:
        """Whether replies go on without it."""
        return not self.breaker.closed

    def replaced(self) -> None:
        """Another service has taken its place: nothing is held against it."""
        self.breaker, self.absent = Breaker(), None

    async def watch(
        self, ask: Callable[[], AsyncGenerator[_T, None]], limits: Limits
    ) -> AsyncGenerator[_T, None]:
        """What `ask` yields.

        Raises:
            ReplyError: the service failed, or is not asked while it is out.
        """
        # The service may be replaced meanwhile: what comes of this is not held against the new one.
        breaker, attempt = self.breaker, self._leave()
        try:
            pieces_of = self._pieces(ask, lambda: breaker.begun(attempt), limits)
            async with aclosing(pieces_of) as pieces:
                async for piece in pieces:
                    yield piece
            self._tell(lambda: breaker.succeed(attempt))
        except ReplyError as error:
            now_s = self.clock.now()
            if self._blames_service(error):
                self._tell(lambda: breaker.fail(attempt, now_s))
            raise self._named(error) from None
        finally:
            # Called off, or done: for what succeeded or failed this changes nothing.
            breaker.forgive(attempt)

    def _leave(self) -> Attempt:
        attempt = self.breaker.ask(self.clock.now())
        if attempt is None:
            self.on_failure(self.service, "breaker_open")
            raise self._named(
                ReplyError(f"the {SHOWN[self.service]} is out", reason="breaker_open")
            )
        return attempt

    def _blames_service(self, error: ReplyError) -> bool:
        """Whether a failure, which is counted, says something about the service."""
        self.on_failure(self.service, error.reason)
        if error.status in _OF_THE_REQUEST:
            return False
        _log.warning("%s", " ".join(str(error).split()))
        return True

    def _named(self, error: ReplyError) -> ReplyError:
        error.service = self.service
        return error

    def _tell(self, breaker: Callable[[], None]) -> None:
        """Tell the breaker, and everyone if it changed its mind."""
        before = self.out
        breaker()
        noted = not self.out and self.absent is not None
        if noted:
            self.absent = None
        if self.out and not before:
            _log.error("the %s is out: not asked for %.0f s", self._shown, self.breaker.pause_s)
        elif before and not self.out:
            _log.warning("the %s answers again", self._shown)
        if noted or self.out is not before:
            self.on_change()

    @property
    def _shown(self) -> str:
        return SHOWN[self.service]

    async def _pieces(
        self,
        ask: Callable[[], AsyncGenerator[_T, None]],
        begun: Callable[[], None],
        limits: Limits,
    ) -> AsyncGenerator[_T, None]:
        ends_s = self.clock.now() + limits.first_s
        try:
            stream, piece = await self._begin(ask, ends_s)
        except ReplyError as error:
            pause_s = self.between(*RETRY_PAUSE_S)
            if not _worth_another(error) or self.clock.now() + pause_s >= ends_s:
                raise
            _log.info("the %s is asked once more: %s", self._shown, error)
            await asyncio.sleep(pause_s)
            try:
                stream, piece = await self._begin(ask, ends_s)
            except ReplyError as again:
                # It had only what was left of the time: running out of that says less than this.
                raise error if again.reason == "timeout" else again from None
        if piece is not None:
            self._tell(begun)
        left_s = limits.total_s
        async with aclosing(stream):
            while piece is not None:
                yield piece
                asked_at_s = self.clock.now()
                piece = await self._next(stream, min(limits.next_s, left_s))
                left_s -= self.clock.now() - asked_at_s

    async def _begin(
        self, ask: Callable[[], AsyncGenerator[_T, None]], ends_s: float
    ) -> tuple[AsyncGenerator[_T, None], _T | None]:
        stream = ask()
        try:
            return stream, await self._next(stream, ends_s - self.clock.now())
        except BaseException:
            await stream.aclose()
            raise

    async def _next(self, stream: AsyncGenerator[_T, None], wait_s: float) -> _T | None:
        """The next piece; None: there is none."""
        try:
            async with asyncio.timeout(wait_s):
                return await anext(stream)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            raise ReplyError(
                f"{self._shown}: expected more within {wait_s:.1f} s, got nothing",
                reason="timeout",
            ) from None


def _worth_another(error: ReplyError) -> bool:
    """Whether the same question may well be answered the second time."""
    return error.reason in ("connect", "timeout") or (error.status or 0) >= 500


class GuardedLanguageModel:
    """A language model that writes in good time, and no more than a person would listen to."""

    def __init__(
        self,
        inner: LanguageModel,
        guard: Guard,
        *,
        first_token_s: float,
        token_s: float,
        max_chars: int,
    ) -> None:
        self.name = inner.name
        self._inner = inner
        self._guard = guard
        self._limits = Limits(first_token_s, token_s, TRICKLE * token_s)
        self._max_chars = max_chars

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int | None
    ) -> AsyncGenerator[str, None]:
        def ask() -> AsyncGenerator[str, None]:
            return self._bounded(self._inner.stream(messages, max_tokens=max_tokens))

        watched = self._guard.watch(ask, self._limits)
        async with aclosing(watched) as deltas:
            async for delta in deltas:
                yield delta

    async def close(self) -> None:
        await self._inner.close()

    async def _bounded(self, stream: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
        """Cut as the model itself would cut it, and never empty."""
        chars, blank = 0, True
        async with aclosing(stream) as deltas:
            async for delta in deltas:
                over = chars + len(delta) > self._max_chars
                text = delta[: self._max_chars - chars] if over else delta
                blank = blank and not text.strip()
                if isinstance(delta, FinalDelta) and blank:
                    break
                if over:
                    yield FinalDelta(text, "length")
                    return
                chars += len(text)
                if delta or isinstance(delta, FinalDelta):
                    yield delta
        if blank:
            raise ReplyError("language model: expected text, got none", reason="garbage")


class GuardedSynthesizer:
    """A synthesizer that speaks in good time, whole samples, and no longer than its text."""

    def __init__(self, inner: SpeechSynthesizer, guard: Guard, *, piece_s: float) -> None:
        self.name = inner.name
        self.rate_hz = inner.rate_hz
        self._inner = inner
        self._guard = guard
        self._piece_s = piece_s

    async def synthesize(
        self, text: str, *, voice: str | None, speed: float
    ) -> AsyncGenerator[bytes, None]:
        # Never shorter than at the usual speed: not every voice can be hurried.
        slower = 1 / min(max(speed, SPEED_MIN), 1.0)
        longest_s = (LONGEST_SENTENCE_S + LONGEST_CHARACTER_S * len(text)) * slower

        def ask() -> AsyncGenerator[bytes, None]:
            spoken = self._inner.synthesize(text, voice=voice, speed=speed)
            return self._bounded(spoken, longest_s)

        limits = Limits(self._piece_s, self._piece_s, self._piece_s + longest_s)
        watched = self._guard.watch(ask, limits)
        async with aclosing(watched) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        await self._inner.close()

    async def _bounded(
        self, stream: AsyncGenerator[bytes, None], longest_s: float
    ) -> AsyncGenerator[bytes, None]:
        room_bytes = round(longest_s * self.rate_hz) * BYTES_PER_SAMPLE
        got_bytes = 0
        async with aclosing(stream) as pieces:
            async for piece in pieces:
                got_bytes += len(piece)
                if len(piece) % BYTES_PER_SAMPLE:
                    raise ReplyError(
                        f"speech synthesis: expected whole samples, got {len(piece)} bytes",
                        reason="garbage",
                    )
                if got_bytes > room_bytes:
                    raise ReplyError(
                        f"speech synthesis: expected at most {longest_s:.0f} s of audio, got more",
                        reason="too_long",
                    )
                if piece:
                    yield piece
        if not got_bytes:
            raise ReplyError("speech synthesis: expected audio, got none", reason="garbage")
