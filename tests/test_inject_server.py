"""A whole server with faults on purpose: a turn shows them, and nothing of them is left."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from rtvc.clock import SystemClock
from rtvc.config import load_settings
from rtvc.server.faults.inject import parse, shown
from rtvc.server.faults.slow_link import JITTER
from rtvc.server.lifecycle.startup import bind, build_services, serve
from rtvc.server.services import Services
from tests.realtime_peer import Peer, session
from tests.test_engine import until
from tests.test_server_realtime import utterance

CLOCK = SystemClock()


def named_threads() -> set[threading.Thread]:
    """Without those that the event loop keeps for its next call."""
    return {t for t in threading.enumerate() if not t.name.startswith("asyncio_")}


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


@asynccontextmanager
async def suffering(*inject: str) -> AsyncIterator[tuple[str, Services]]:
    """A server with faults, in this process; nothing of it is left at the end."""
    threads, processes = named_threads(), children()
    flags: dict[str, dict[str, Any]] = {
        "stt": {"model": "scripted"},
        "serve": {"inject": inject, "admission": "slots", "port": 0},
    }
    services = build_services(load_settings(flags, environment={}), CLOCK)
    listening = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    ready = asyncio.Event()
    with listening:
        server = asyncio.create_task(serve(services, listening, tls=None, on_ready=ready.set))
        try:
            await asyncio.wait_for(ready.wait(), 60)
            yield url, services
        finally:
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)
    await until(lambda: named_threads() <= threads)
    assert children() <= processes
    tasks = {task.get_name() for task in asyncio.all_tasks()}
    assert not tasks & {"blocked-loop", "hidden-backlog"}


async def one_turn(peer: Peer) -> dict[str, float]:
    """Milliseconds of each segment, up to the first audio of the reply; and what was felt."""
    await peer.speak(utterance("turn on the lights.", trail_s=0.0))
    spoken_s = CLOCK.now()
    quiet = asyncio.create_task(peer.speak(np.zeros(24_000 * 8, np.float32)))
    try:
        await peer.until("conversation.item.input_audio_transcription.completed")
        felt_s = CLOCK.now() - spoken_s
        await peer.until("rtvc.turn", count=2)
    finally:
        quiet.cancel()
        await asyncio.gather(quiet, return_exceptions=True)
    turn = peer.of("rtvc.turn")[1]
    assert abs(turn["unaccounted_ms"]) <= 10
    segments = {s["name"]: s["duration_ms"] for s in turn["segments"]}
    return {**segments, "said": turn["transcription_delay_ms"], "felt": 1000 * felt_s}


async def notice(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return str((await client.get(f"{url}/readyz")).json()["notice"])


Check = Callable[[dict[str, float], Services], bool]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inject", "holds"),
    [
        ((), lambda turn, services: turn["llm_ttft"] < 500 and turn["endpoint_wait"] < 600),
        (
            ("slow-llm=0.6", "slow-tts=0.4"),
            lambda turn, services: turn["llm_ttft"] >= 590 and turn["tts_ttfb"] >= 390,
        ),
        (
            ("hidden-backlog=1.5",),
            lambda turn, services: turn["felt"] - turn["said"] >= 1000,
        ),
        (
            ("endpoint-wait=800", "blocked-loop=150"),
            lambda turn, services: turn["endpoint_wait"] >= 800 and services.loop_lag.max_s > 0.05,
        ),
        (("turn-model-slow=0.9",), lambda turn, services: turn["turn_model"] >= 500),
        (("cold-start=4",), lambda turn, services: turn["said"] >= 1500),
    ],
    ids=lambda value: "+".join(value) or "sound" if isinstance(value, tuple) else "",
)
async def test_a_turn_shows_what_was_injected(inject: tuple[str, ...], holds: Check) -> None:
    async with suffering(*inject) as (url, services):
        if inject:
            assert await notice(url) == f"faults on purpose: {shown(parse(inject))}"
        async with session(url) as peer:
            turn = await one_turn(peer)
            assert holds(turn, services), turn


@pytest.mark.slow
async def test_slow_hearing_fills_the_inbox() -> None:
    async with suffering("audio-backlog=2") as (url, services), session(url) as peer:
        await peer.speak(np.zeros(24_000 * 3, np.float32))
        (shown_session,) = [s.describe(CLOCK.now()) for s in services.sessions.values()]
        assert shown_session["audio_backlog_s"] > 0.5


@pytest.mark.slow
async def test_each_session_waits_for_a_model_of_its_own() -> None:
    async with suffering("model-per-session=0.7") as (url, services):
        before = children()
        for number in (1, 2):
            began_s = CLOCK.now()
            async with session(url):
                assert CLOCK.now() - began_s >= 0.7
                assert services.engine.status.sharing == "per-session"
                assert len(children() - before) == 1, number
            await until(lambda: children() <= before)


@pytest.mark.slow
async def test_a_slow_network_delays_pings_and_pages() -> None:
    async with suffering("slow-network=120") as (url, _):
        least_s = 2 * 0.12 * (1 - JITTER) - 0.005
        began_s = CLOCK.now()
        assert "slow-network = 120 ms" in await notice(url)
        assert CLOCK.now() - began_s >= least_s
        async with session(url) as peer:
            assert await (await peer.socket.ping()) >= least_s


@pytest.mark.slow
async def test_a_neighbour_ends_with_its_server() -> None:
    async with suffering("device-contention=1", "slow-llm=0.1") as (_, services):
        pid = services.faults.neighbour.pid
        assert pid is not None
        process = psutil.Process(pid)
        await until(lambda: process.cpu_times().user > 0.2)
    assert not process.is_running()
