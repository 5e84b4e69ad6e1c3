"""Speaks a reply while it is being written: text and audio as events, sentence by sentence.

The language model, the synthesizer and whoever takes the events work at the same time, joined by
two bounded queues:

    language model ─text─▶ sentences ─▶ synthesizer ─audio─▶ events ─▶ the caller
                  └──────────────text─────────────────────────┘

While the caller sends sentence n, sentence n + 1 is synthesized. A caller that is slow fills the
queues, and both wait.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from rtvc.clock import Clock
from rtvc.errors import ReplyError
from rtvc.server.replies.llm import FinalDelta, FinishReason, LanguageModel, Message
from rtvc.server.replies.sentences import SentenceSplitter, speakable
from rtvc.server.replies.tts import BYTES_PER_SAMPLE, SpeechSynthesizer

SENTENCE_LIMIT = 8
"""Sentences written but not yet spoken; when full, the language model waits."""
EVENT_LIMIT = 64
"""Events not yet taken, about 12 s of audio; when full, both sides wait."""

USUAL_CHARS_PER_S = 15.0


@dataclass(frozen=True, slots=True)
class ReplyTimings:
    """Where the time to the first audio went: contiguous, so the parts add up to it."""

    llm_ttft_s: float | None = None
    """Seconds from the request to the first text; None: no text came."""
    first_sentence_s: float | None = None
    """Seconds from the first text to the first piece worth speaking; None: there was none."""
    tts_ttfb_s: float | None = None
    """Seconds from that piece to its first audio; None: nothing was spoken."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the reply."""

    text: str
    """As the language model wrote it."""


@dataclass(frozen=True, slots=True)
class AudioDelta:
    """More audio of the reply."""

    pcm16: bytes
    """Mono 16-bit little-endian samples at the synthesizer's rate."""
    text_position: int
    """Characters of the reply spoken once this audio has been heard."""
    timings: ReplyTimings | None = None
    """On the first audio of a reply: how long it took; None on all others."""


@dataclass(frozen=True, slots=True)
class ReplyDone:
    """The reply is complete; nothing follows."""

    text: str
    """The whole reply."""
    finish_reason: FinishReason
    """"length": cut at `max_tokens`."""
    tokens: int
    """Tokens as the model counted them, or else the pieces it wrote."""
    timings: ReplyTimings
    """How long the first audio took."""


ReplyEvent = TextDelta | AudioDelta | ReplyDone


class BrokenReplyError(ReplyError):
    """A reply that failed on the way; says what had been handed out before."""

    def __init__(self, cause: ReplyError, *, text: str, spoken: str) -> None:
        super().__init__(str(cause), reason=cause.reason, status=cause.status)
        self.service = cause.service
        self.text = text
        """All text handed out."""
        self.spoken = spoken
        """The part of it that was handed out as audio, too."""


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A piece of the reply on its way to the synthesizer."""

    text: str
    """As written."""
    start: int
    """Characters of the reply before it."""
    ready_at_s: float
    """Clock instant at which it was complete."""

    @property
    def end(self) -> int:
        return self.start + len(self.text)


_Sentences = asyncio.Queue[_Sentence | None]
_Events = asyncio.Queue[ReplyEvent | None]


class _Writer:
    """The language model's side: deltas to the caller, whole sentences to the speaker."""

    def __init__(self, llm: LanguageModel, clock: Clock, events: _Events) -> None:
        self._llm = llm
        self._clock = clock
        self._events = events
        self.text = ""
        self.tokens = 0
        self.finish_reason: FinishReason = "completed"
        self.asked_at_s = clock.now()
        self.first_text_at_s: float | None = None

    async def write(
        self, messages: Sequence[Message], max_tokens: int | None, sentences: _Sentences | None
    ) -> None:
        splitter, start = SentenceSplitter(), 0
        async with aclosing(self._llm.stream(messages, max_tokens=max_tokens)) as deltas:
            async for delta in deltas:
                if self._is_over(delta, max_tokens):
                    break
                await self._hand_out(delta)
                if sentences is not None:
                    pieces = splitter.feed(delta)
                    # After the final delta the stream may take a moment to close.
                    pieces += splitter.flush() if isinstance(delta, FinalDelta) else []
                    start = await self._complete(pieces, start, sentences)
        if sentences is not None:
            await self._complete(splitter.flush(), start, sentences)

    def _is_over(self, delta: str, max_tokens: int | None) -> bool:
        """Counts; a delta is at least one token, so a model that ignores the bound is stopped."""
        if isinstance(delta, FinalDelta):
            self.finish_reason = delta.finish_reason
            self.tokens = self.tokens + bool(delta) if delta.tokens is None else delta.tokens
            return False
        if max_tokens is not None and self.tokens >= max_tokens:
            self.finish_reason = "length"
            return True
        self.tokens += 1
        return False

    async def _hand_out(self, delta: str) -> None:
        if not delta:
            return
        if self.first_text_at_s is None:
            self.first_text_at_s = self._clock.now()
        self.text += delta
        await self._events.put(TextDelta(str(delta)))

    async def _complete(self, pieces: list[str], start: int, sentences: _Sentences) -> int:
        for piece in pieces:
            await sentences.put(_Sentence(piece, start, self._clock.now()))
            start += len(piece)
        return start


class _Speaker:
    """The synthesizer's side: sentences in, audio to the caller, each piece with its place."""

    def __init__(
        self, tts: SpeechSynthesizer, voice: str | None, speed: float, events: _Events
    ) -> None:
        self._tts = tts
        self._voice = voice
        self._speed = speed
        self._events = events
        self._spoken_chars = 0
        self._spoken_s = 0.0
        self.position = 0

    async def say(self, sentence: _Sentence, timings: "_Stopwatch") -> None:
        """Each piece but the first waits for the next, so that the last ends the sentence."""
        words = speakable(sentence.text)
        if not words:
            return
        said_s, held = 0.0, b""
        synthesis = self._tts.synthesize(words, voice=self._voice, speed=self._speed)
        async with aclosing(synthesis) as pieces:
            async for piece in pieces:
                if not piece:
                    continue
                ready, held = (held, piece) if said_s else (piece, b"")
                said_s += self._seconds(piece)
                if ready:
                    place = self._place(sentence, said_s - self._seconds(held))
                    await self._emit(ready, place, timings.first_audio(sentence))
        if held:
            await self._emit(held, sentence.end, None)
        self._spoken_chars += len(sentence.text)
        self._spoken_s += said_s

    def _seconds(self, pcm16: bytes) -> float:
        return len(pcm16) / BYTES_PER_SAMPLE / self._tts.rate_hz

    def _place(self, sentence: _Sentence, said_s: float) -> int:
        """Linear in time, at the pace of the sentences before: this one's length is not known."""
        usual = USUAL_CHARS_PER_S * self._speed
        pace = self._spoken_chars / self._spoken_s if self._spoken_s else usual
        return min(sentence.start + round(pace * said_s), sentence.end)

    async def _emit(self, pcm16: bytes, place: int, timings: ReplyTimings | None) -> None:
        await self._events.put(AudioDelta(pcm16, place, timings))
        self.position = place


class _Stopwatch:
    """Timings of the first audio, and of it only."""

    def __init__(self, writer: _Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._first: ReplyTimings | None = None

    def first_audio(self, sentence: _Sentence) -> ReplyTimings | None:
        """The timings, when called for the first audio; None on every later call."""
        if self._first is not None:
            return None
        before = self._until_first_text()
        self._first = ReplyTimings(
            llm_ttft_s=before,
            first_sentence_s=sentence.ready_at_s - self._writer.asked_at_s - (before or 0.0),
            tts_ttfb_s=self._clock.now() - sentence.ready_at_s,
        )
        return self._first

    def timings(self) -> ReplyTimings:
        """All that is known at the end."""
        return self._first or ReplyTimings(llm_ttft_s=self._until_first_text())

    def _until_first_text(self) -> float | None:
        first_text_at_s = self._writer.first_text_at_s
        return None if first_text_at_s is None else first_text_at_s - self._writer.asked_at_s


class _Reply:
    """One reply on its way: both sides at work, and what became of them."""

    def __init__(self, writer: _Writer, speaker: _Speaker | None, clock: Clock) -> None:
        self.writer = writer
        self.speaker = speaker
        self.stopwatch = _Stopwatch(writer, clock)
        self._failures: list[Exception] = []

    async def run(
        self, messages: Sequence[Message], max_tokens: int | None, events: _Events
    ) -> None:
        """Never raises, except when cancelled; ends the events with None."""
        sentences: _Sentences | None = asyncio.Queue(SENTENCE_LIMIT) if self.speaker else None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(messages, max_tokens, sentences))
                if self.speaker and sentences:
                    group.create_task(self._speak(self.speaker, sentences))
        except ExceptionGroup as failures:
            self._failures.extend(failures.exceptions)
        await events.put(None)

    async def _write(
        self, messages: Sequence[Message], max_tokens: int | None, sentences: _Sentences | None
    ) -> None:
        """When the model fails, what it completed is still spoken."""
        try:
            await self.writer.write(messages, max_tokens, sentences)
        except ReplyError as failure:
            self._failures.append(failure)
        if sentences is not None:
            await sentences.put(None)

    async def _speak(self, speaker: _Speaker, sentences: _Sentences) -> None:
        while (sentence := await sentences.get()) is not None:
            await speaker.say(sentence, self.stopwatch)

    def done(self) -> ReplyDone:
        """The last event, once the events have ended."""
        for failure in self._failures:
            if not isinstance(failure, ReplyError):
                raise failure
            text = self.writer.text
            spoken = text[: self.speaker.position] if self.speaker else ""
            raise BrokenReplyError(failure, text=text, spoken=spoken) from failure
        writer = self.writer
        timings = self.stopwatch.timings()
        return ReplyDone(writer.text, writer.finish_reason, writer.tokens, timings)


async def speak_reply(
    messages: Sequence[Message],
    llm: LanguageModel,
    tts: SpeechSynthesizer,
    *,
    clock: Clock,
    audio: bool = True,
    voice: str | None = None,
    speed: float = 1.0,
    max_tokens: int | None = None,
) -> AsyncGenerator[ReplyEvent, None]:
    """Events of one reply; the last is `ReplyDone`.

    `aclose()` on the generator, or cancelling the task that runs it, stops the language model and
    the synthesizer at once and leaves no task behind.

    Raises:
        BrokenReplyError: the model or the synthesizer failed; every event before it stands.
    """
    events: _Events = asyncio.Queue(EVENT_LIMIT)
    speaker = _Speaker(tts, voice, speed, events) if audio else None
    reply = _Reply(_Writer(llm, clock, events), speaker, clock)
    work = asyncio.create_task(reply.run(messages, max_tokens, events), name="reply")
    try:
        while (event := await events.get()) is not None:
            yield event
    finally:
        work.cancel()
        await asyncio.wait([work])
    yield reply.done()


def text_heard(positions: Sequence[tuple[float, int]], played_ms: float) -> int:
    """Characters of a reply heard after `played_ms` of its audio.

    `positions` holds, for each `AudioDelta` in turn, where its audio ends (ms from the start of
    the reply) and its `text_position`; between them it is linear.

    >>> text_heard([(200, 4), (400, 10)], 300)
    7
    """
    index = bisect_right(positions, played_ms, key=lambda position: position[0])
    if index == len(positions):
        return positions[-1][1] if positions else 0
    start_ms, start = positions[index - 1] if index else (0.0, 0)
    end_ms, end = positions[index]
    share = max(0.0, played_ms - start_ms) / (end_ms - start_ms)
    return start + int(share * (end - start))


def heard_part(text: str, positions: Sequence[tuple[float, int]], played_ms: float) -> str:
    """The whole words of `text` heard after `played_ms`: what the history should keep.

    >>> heard_part("One two three.", [(1000, 14)], 600)
    'One two'
    """
    heard = text_heard(positions, played_ms)
    inside_word = 0 < heard < len(text) and not text[heard].isspace()
    if not inside_word:
        return text[:heard].rstrip()
    whole_words, _, _ = text[:heard].rpartition(" ")
    return whole_words.rstrip()
