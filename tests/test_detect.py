"""Which protocol a server speaks, found out by asking it; small servers of each."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from websockets.asyncio.server import Server

from rtvc.clock import SystemClock
from rtvc.errors import UsageError
from rtvc.loadtest.preflight import ServerFacts, ask_stranger, check_observable
from rtvc.loadtest.wire.detect import detect
from rtvc.loadtest.wire.wires import NO_REPLIES, WIRES
from rtvc.slo import parse_objectives
from tests.sink_server import Sink
from tests.stranger_servers import SESSIONS, listen


@contextmanager
def running(start: Callable[[], Awaitable[Server]]) -> Iterator[str]:
    """A server on a thread of its own; its address without a path."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def begin() -> Server:
        return await start()

    server = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
    try:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(server.wait_closed(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def found(url: str) -> str:
    with httpx.Client(trust_env=False) as client:
        return detect(url, client=client, clock=SystemClock()).name


@pytest.mark.parametrize("protocol", SESSIONS)
def test_a_strangers_server_is_recognised(protocol: str) -> None:
    with running(lambda: listen(protocol)) as url:
        assert found(url) == protocol


def test_a_full_whisperlive_is_one_all_the_same() -> None:
    with running(lambda: listen("whisperlive", mode="full")) as url:
        assert found(f"{url}/") == "whisperlive"


def test_our_own_server_says_so_over_http() -> None:
    with running(lambda: Sink("answer").listen(0)) as url:
        assert found(url) == "openai-realtime"


def answering(statuses: dict[str, int]) -> Callable[[], Awaitable[Server]]:
    """A web server that has nothing but a status for each path; 404 for the others."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        path = request.split()[1].decode().partition("?")[0]
        status = statuses.get(path, 404)
        head = f"HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        writer.close()

    async def start() -> Server:
        return await asyncio.start_server(answer, "127.0.0.1", 0)  # type: ignore[return-value]

    return start


def test_the_only_door_that_is_closed_for_now_is_the_one() -> None:
    with running(answering({"/v1/realtime": 503})) as url:
        assert found(url) == "openai-realtime"
    with running(answering({"/ws/transcribe": 503})) as url:
        assert found(url) == "realtimestt"


def test_a_web_server_without_a_protocol_is_told_with_what_was_tried() -> None:
    with running(answering({})) as url, pytest.raises(UsageError) as caught:
        found(url)
    told = str(caught.value)
    for what in ("GET /readyz: HTTP 404", "WebSocket /v1/realtime", "WebSocket /ws", "--protocol"):
        assert what in told


def test_a_stranger_is_asked_what_it_runs() -> None:
    wire = WIRES["realtimestt"]
    with running(lambda: listen("realtimestt")) as url, httpx.Client(trust_env=False) as client:
        facts = ask_stranger(wire, url + wire.path, client)
    assert (facts.model, facts.max_sessions) == ("base.en", 4)
    assert facts.said == {"beam_size": 5}


def test_a_stranger_that_says_nothing_is_unknown() -> None:
    with running(lambda: listen("whisperlive")) as url, httpx.Client(trust_env=False) as client:
        assert ask_stranger(WIRES["whisperlive"], url, client) == ServerFacts()
        assert ask_stranger(WIRES["realtimestt"], url, client) == ServerFacts()


def test_a_search_cannot_be_decided_by_what_is_not_shown() -> None:
    check_observable(parse_objectives(["transcription_delay_p95<1s"]), NO_REPLIES)
    with pytest.raises(UsageError, match="response latency p95 is not observable"):
        check_observable(parse_objectives(["response_latency_p95<1s"]), NO_REPLIES)
