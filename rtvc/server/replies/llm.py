"""Language models: a conversation in, the text of the reply out as it is written."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import httpx

from rtvc.clock import Clock, SystemClock
from rtvc.errors import ReplyError
from rtvc.server.replies.http_errors import UNPACKED, expect_plain, first_line, reply_errors

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["completed", "length"]

MAX_EVENT_BYTES = 1 << 18
END_WAIT_S = 0.2
_NEVER = ("html", "xml", "image/", "audio/")
"""In the type of a streamed chat completion."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    """Who said it; "system" instructs the model."""
    text: str
    """What was said, plain text."""


class FinalDelta(str):
    """The last text of a reply (it may be empty), with the model's own account of it."""

    finish_reason: FinishReason
    """"length": cut at `max_tokens`."""
    tokens: int | None
    """Tokens of the whole reply; None: the model did not say."""

    def __new__(
        cls, text: str, finish_reason: FinishReason, tokens: int | None = None
    ) -> "FinalDelta":
        delta = super().__new__(cls, text)
        delta.finish_reason = finish_reason
        delta.tokens = tokens
        return delta


class LanguageModel(Protocol):
    """Writes replies."""

    name: str

    def stream(
        self, messages: Sequence[Message], *, max_tokens: int | None
    ) -> AsyncGenerator[str, None]:
        """Text as it is written; may end with a `FinalDelta`. Closing it stops the model.

        Raises ReplyError.
        """

    async def close(self) -> None:
        """Let go of connections."""


class OpenAiLanguageModel:
    """Any server with an OpenAI-style `/chat/completions` (Ollama, llama.cpp, vLLM, OpenAI…).

    `url` is the base, such as `http://localhost:11434/v1`. `timeout_s` bounds connecting and every
    silence between two pieces of the answer, not the whole of it.
    """

    def __init__(
        self, url: str, model: str, api_key: str | None = None, timeout_s: float = 30.0
    ) -> None:
        self.name = model
        self._url = f"{url.rstrip('/')}/chat/completions"
        key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        headers = {**UNPACKED, **key}
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0))
        self._client = httpx.AsyncClient(headers=headers, timeout=timeout)

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int | None
    ) -> AsyncGenerator[str, None]:
        request = self._request(messages, max_tokens)
        with reply_errors("language model", self._url) as exchange:
            async with self._client.stream("POST", self._url, json=request) as response:
                exchange.answered = True
                if response.status_code != 200:
                    raise ReplyError(
                        await self._refusal(response),
                        reason="refused",
                        status=response.status_code,
                    )
                expect_plain(response, never=_NEVER, service="language model")
                async with aclosing(read_deltas(response.aiter_bytes())) as deltas:
                    async for delta in deltas:
                        yield delta

    async def close(self) -> None:
        await self._client.aclose()

    def _request(self, messages: Sequence[Message], max_tokens: int | None) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self.name,
            "messages": [{"role": m.role, "content": m.text} for m in messages],
            "stream": True,
        }
        if max_tokens is not None:
            request["max_tokens"] = max_tokens
        return request

    async def _refusal(self, response: httpx.Response) -> str:
        line = await first_line(response)
        return (
            f"language model {self.name!r} at {self._url}: expected HTTP 200, "
            f"got {response.status_code}: {line}"
        )


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """The `data` of each server-sent event (WHATWG HTML, §9.2): LF, CRLF or CR end a line."""
    pending, fields = b"", list[str]()
    async for chunk in chunks:
        pending += chunk
        if len(pending) + sum(map(len, fields)) > MAX_EVENT_BYTES:
            raise ReplyError(
                f"expected events of at most {MAX_EVENT_BYTES} bytes, got more", reason="garbage"
            )
        *lines, pending = re.split(rb"\r\n|\n|\r(?!\n)(?=.)", pending, flags=re.DOTALL)
        for line in lines:
            if line.startswith(b"data:"):
                fields.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))
            elif not line and fields:
                yield "\n".join(fields)
                fields.clear()
    if pending.startswith(b"data:"):
        fields.append(pending[5:].strip().decode("utf-8", "replace"))
    if fields:
        yield "\n".join(fields)


async def read_deltas(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """Text of a streamed chat completion; a stream that breaks off raises ReplyError."""
    finish: str | None = None
    tokens: int | None = None
    told = False
    async with aclosing(read_events(chunks)) as events:
        async for event in events:
            told = True
            if event.strip() == "[DONE]":
                finish = finish or "stop"
                break
            chunk = _parse(event)
            text, reason = _choice(chunk)
            finish, tokens = reason or finish, _tokens(chunk) or tokens
            if text:
                yield text
        if finish is None:
            raise ReplyError(
                "language model: expected a finish_reason but the stream ended",
                reason="broken_off" if told else "garbage",
            )
        yield FinalDelta("", "length" if finish == "length" else "completed", tokens)
        await _read_to_end(events)


async def _read_to_end(events: AsyncIterator[str]) -> None:
    """An answer read to its end leaves its connection for the next; not worth a long wait."""
    try:
        async with asyncio.timeout(END_WAIT_S):
            async for _ in events:
                continue
    except TimeoutError:
        return


def _parse(event: str) -> dict[str, Any]:
    try:
        chunk = json.loads(event)
    except (ValueError, RecursionError):
        chunk = None
    if not isinstance(chunk, dict):
        raise ReplyError(
            f"language model: expected a JSON object got {event[:80]!r}", reason="garbage"
        )
    if error := chunk.get("error"):
        detail = error.get("message", error) if isinstance(error, dict) else error
        raise ReplyError(
            f"language model: expected text, got an error: {str(detail)[:200]}", reason="refused"
        )
    return chunk


def _choice(chunk: dict[str, Any]) -> tuple[str, str | None]:
    """Text and finish reason of a chunk; a chunk without choices (usage, ping) has neither."""
    choices = chunk.get("choices") or [{}]
    choice = choices[0] if isinstance(choices, list) and isinstance(choices[0], dict) else {}
    delta = choice.get("delta")
    text = delta.get("content") if isinstance(delta, dict) else None
    return _sound(text) if isinstance(text, str) else "", choice.get("finish_reason")


def _sound(text: str) -> str:
    """Without what neither a WebSocket nor a voice can take: half a character, or a NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def _tokens(chunk: dict[str, Any]) -> int | None:
    usage = chunk.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) else None


SCRIPTED_REPLIES = (
    "You said: {heard}. That is clear to me. Please go on whenever you like.",
    "I heard: {heard}. Thank you for telling me. What would you like to talk about next?",
    "So, {heard}. I will keep that in mind. Is there anything else you want to add?",
    "Right, you told me: {heard}. This is a scripted answer, so it stays short. Go ahead.",
)
SCRIPTED_GREETING = "Hello, I am listening. Say something and I will repeat it back to you."
HEARD_WORDS = 10


class ScriptedLanguageModel:
    """Answers by rote, at a set pace; stands in where there is no language model.

    The reply depends on the conversation alone: the n-th question gets the n-th template, round
    and round. `{heard}` in a template stands for the last thing the user said.
    """

    name = "scripted"

    def __init__(
        self,
        *,
        ttft_s: float = 0.12,
        tokens_per_s: float = 60.0,
        replies: Sequence[str] = SCRIPTED_REPLIES,
        clock: Clock | None = None,
    ) -> None:
        if ttft_s < 0 or tokens_per_s <= 0 or not replies:
            raise ValueError("expected ttft_s >= 0, tokens_per_s > 0 and at least one reply")
        self._ttft_s = ttft_s
        self._tokens_per_s = tokens_per_s
        self._replies = tuple(replies)
        self._clock = clock or SystemClock()

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int | None
    ) -> AsyncGenerator[str, None]:
        tokens = re.findall(r"\s*\S+", self.reply_to(messages))
        started_s = self._clock.now()
        for count, token in enumerate(tokens[:max_tokens]):
            due_s = started_s + self._ttft_s + count / self._tokens_per_s
            await asyncio.sleep(max(0.0, due_s - self._clock.now()))
            yield token
        is_cut = max_tokens is not None and len(tokens) > max_tokens
        count = len(tokens[:max_tokens])
        yield FinalDelta("", "length" if is_cut else "completed", count)

    async def close(self) -> None:
        """Nothing to let go of."""

    def reply_to(self, messages: Sequence[Message]) -> str:
        """The whole reply, at once."""
        heard = [m.text for m in messages if m.role == "user" and m.text.strip()]
        if not heard:
            return SCRIPTED_GREETING
        template = self._replies[(len(heard) - 1) % len(self._replies)]
        return template.replace("{heard}", _quote(heard[-1]))


def _quote(text: str) -> str:
    """The beginning of `text`, fit to stand inside a sentence."""
    words = re.sub(r"[.!?…]+(?=\s|$)", ",", text).split()
    return " ".join(words[:HEARD_WORDS]).strip(" ,;:")
