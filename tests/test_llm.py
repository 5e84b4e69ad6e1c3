"""The language models, against a real HTTP server on loopback."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import ReplyError
from rtvc.server.replies.llm import (
    MAX_EVENT_BYTES,
    FinalDelta,
    Message,
    OpenAiLanguageModel,
    ScriptedLanguageModel,
    read_events,
)
from tests.fake_openai import FakeOpenAi, chat_chunk, sse

QUESTION = [Message("system", "Be brief."), Message("user", "What time is it?")]
KEY = "sk-very-secret"


async def ask(server: FakeOpenAi, **options: float) -> list[str]:
    model = OpenAiLanguageModel(server.url, "small", KEY, **options)
    try:
        return [delta async for delta in model.stream(QUESTION, max_tokens=50)]
    finally:
        await model.close()


async def test_streams_text_and_the_models_own_account_of_it() -> None:
    usage = {"choices": [], "usage": {"completion_tokens": 7}}
    answer = sse(
        chat_chunk(""), chat_chunk("It is "), chat_chunk("noon."), chat_chunk(None, "stop"), usage,
        "[DONE]",
    )  # fmt: skip
    async with FakeOpenAi([answer]) as server:
        deltas = await ask(server)
    assert deltas == ["It is ", "noon.", ""]
    last = deltas[-1]
    assert isinstance(last, FinalDelta)
    assert (last.finish_reason, last.tokens) == ("completed", 7)


async def test_asks_as_the_protocol_says() -> None:
    async with FakeOpenAi([sse(chat_chunk("x", "stop"), "[DONE]")]) as server:
        await ask(server)
    request = server.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {
        "model": "small",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What time is it?"},
        ],
        "stream": True,
        "max_tokens": 50,
    }


async def test_an_answer_cut_at_max_tokens_says_so() -> None:
    async with FakeOpenAi([sse(chat_chunk("It"), chat_chunk(None, "length"))]) as server:
        last = (await ask(server))[-1]
    assert isinstance(last, FinalDelta)
    assert last.finish_reason == "length"


async def test_one_connection_serves_many_requests() -> None:
    async with FakeOpenAi([sse(chat_chunk("x", "stop"), "[DONE]")]) as server:
        model = OpenAiLanguageModel(server.url, "small")
        for _ in range(3):
            assert [d async for d in model.stream(QUESTION, max_tokens=None)] == ["x", ""]
            await asyncio.sleep(0.01)
        await model.close()
    assert len(server.requests) == 3
    assert server.connections == 1


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_every_line_ending_comments_and_other_fields(end: str) -> None:
    body = f": ping{end}event: x{end}id: 4{end}".encode()
    body += sse(chat_chunk("a"), chat_chunk("é", "stop"), "[DONE]", end=end)
    async with FakeOpenAi([body]) as server:
        assert await ask(server) == ["a", "é", ""]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 9), max_size=40), st.sampled_from(["\n", "\r\n", "\r"]))
def test_events_do_not_depend_on_how_the_bytes_were_divided(sizes: list[int], end: str) -> None:
    expected = ['{"a": "ü…"}', "two", "[DONE]"]
    whole = b": hello" + end.encode() + sse(*expected, end=end)

    async def chunks() -> AsyncIterator[bytes]:
        rest = whole
        for size in sizes:
            yield rest[:size]
            rest = rest[size:]
        yield rest

    async def read() -> list[str]:
        return [event async for event in read_events(chunks())]

    assert asyncio.run(read()) == expected


async def test_an_endless_event_is_refused() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_EVENT_BYTES // 1000 + 2):
            yield b"x" * 1000

    with pytest.raises(ReplyError, match="at most"):
        [event async for event in read_events(chunks())]


async def test_a_refusal_names_status_and_first_line_but_no_key() -> None:
    refusal = FakeOpenAi([b"no such model\nsecond line"], status=404, content_type="text/plain")
    async with refusal as server:
        with pytest.raises(ReplyError) as caught:
            await ask(server)
    message = str(caught.value)
    assert "404" in message
    assert "no such model" in message
    assert "second line" not in message
    assert KEY not in message


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ({"error": {"message": "out of memory"}}, "out of memory"),
        ({"error": "overloaded"}, "overloaded"),
        ("{not json", "JSON object"),
        ([1, 2], "JSON object"),
    ],
)
async def test_trouble_in_mid_stream_raises_after_the_text(bad: object, expected: str) -> None:
    async with FakeOpenAi([sse(chat_chunk("It "), bad)]) as server:
        model = OpenAiLanguageModel(server.url, "small", KEY)
        stream = model.stream(QUESTION, max_tokens=None)
        assert await anext(stream) == "It "
        with pytest.raises(ReplyError, match=expected):
            await anext(stream)
        await model.close()


@pytest.mark.parametrize("odd", [{}, {"choices": None}, {"choices": [7]}, {"choices": [{}]}])
async def test_chunks_without_text_are_passed_over(odd: object) -> None:
    async with FakeOpenAi([sse(odd, chat_chunk("x", "stop"), "[DONE]")]) as server:
        assert await ask(server) == ["x", ""]


async def test_a_stream_that_breaks_off_is_not_an_end() -> None:
    async with FakeOpenAi([sse(chat_chunk("It"))], break_off=True) as server:
        with pytest.raises(ReplyError, match="RemoteProtocolError"):
            await ask(server)
    async with FakeOpenAi([sse(chat_chunk("It"))]) as server:
        with pytest.raises(ReplyError, match="stream ended"):
            await ask(server)


async def test_a_silent_server_times_out() -> None:
    async with FakeOpenAi(silent=True) as server:
        with pytest.raises(ReplyError, match="in time"):
            await ask(server, timeout_s=0.05)


async def test_nobody_there() -> None:
    async with FakeOpenAi() as server:
        url = server.url
    model = OpenAiLanguageModel(url, "small", KEY)
    with pytest.raises(ReplyError, match="ConnectError"):
        [delta async for delta in model.stream(QUESTION, max_tokens=None)]
    await model.close()


async def test_closing_the_stream_hangs_up_on_the_server() -> None:
    async with FakeOpenAi([sse(chat_chunk("It"))], hang=True) as server:
        model = OpenAiLanguageModel(server.url, "small")
        stream = model.stream(QUESTION, max_tokens=None)
        assert await anext(stream) == "It"
        await stream.aclose()
        await asyncio.wait_for(server.client_gone.wait(), 5)
        await model.close()


def fast(ttft_s: float = 0.0, tokens_per_s: float = 1e6) -> ScriptedLanguageModel:
    return ScriptedLanguageModel(ttft_s=ttft_s, tokens_per_s=tokens_per_s)


async def test_scripted_replies_are_what_was_heard_and_vary_but_never_by_chance() -> None:
    model = fast()
    said = [Message("user", "Set a timer. Then call Anna!")]
    deltas = [d async for d in model.stream(said, max_tokens=None)]
    text = "".join(deltas)
    assert text == model.reply_to(said)
    assert "Set a timer, Then call Anna" in text
    assert 2 <= sum(text.count(mark) for mark in ".?!") <= 4
    again = [*said, Message("assistant", text), *said]
    assert model.reply_to(again) != text
    assert model.reply_to(again) == model.reply_to(again)


async def test_scripted_reply_to_silence_is_a_greeting() -> None:
    assert fast().reply_to([]).startswith("Hello")
    assert fast().reply_to([Message("user", "  ")]).startswith("Hello")


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=400), st.integers(1, 6))
def test_scripted_replies_stay_short_whatever_was_heard(heard: str, turns: int) -> None:
    reply = fast().reply_to([Message("user", heard)] * turns)
    assert len(reply.split()) <= 35


async def test_scripted_model_is_cut_at_max_tokens() -> None:
    *words, last = [d async for d in fast().stream(QUESTION, max_tokens=3)]
    assert len(words) == 3
    assert isinstance(last, FinalDelta)
    assert (last.finish_reason, last.tokens) == ("length", 3)


async def test_scripted_model_takes_the_time_it_was_given() -> None:
    loop = asyncio.get_running_loop()
    model = ScriptedLanguageModel(ttft_s=0.03, tokens_per_s=200, replies=["a b c d e"])
    asked_s = loop.time()
    arrived_s = [loop.time() - asked_s async for _ in model.stream(QUESTION, max_tokens=None)]
    assert arrived_s[0] >= 0.029  # a lower bound only: a busy machine may be slow
    assert arrived_s[4] >= 0.029 + 4 / 200 - 0.001


async def test_scripted_model_stops_at_once() -> None:
    stream = ScriptedLanguageModel(ttft_s=3600).stream(QUESTION, max_tokens=None)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("bad", [{"ttft_s": -1}, {"tokens_per_s": 0}])
def test_scripted_model_refuses_impossible_paces(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected ttft_s"):
        fast(**bad)
