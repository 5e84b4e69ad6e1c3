"""The real server under hostile input: a normal session works then, and its log is clean."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from rtvc.server.web.sockets import CONTROL_BURST, MOST_FRAGMENTS
from tests.acceptance.watched import Watched, watched_server
from tests.hostile.client import Tally, Target, bad_head, frames, talk
from tests.hostile.frames import (
    CASES,
    CLOSE,
    CONT,
    PING,
    TEXT,
    bad_handshake,
    frame,
    handshake,
)
from tests.hostile.messages import Wire
from tests.realtime_peer import session, silence, speech
from tests.test_engine import until

pytestmark = [pytest.mark.slow, pytest.mark.model]
REQUEST = handshake("/v1/realtime")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    log: Path = tmp_path_factory.mktemp("hostile") / "server.log"
    flags = ("--max-sessions", "64", "--admission", "slots")
    with watched_server(log, flags) as watched:
        yield watched
        assert watched.alive
        assert watched.troubles() == []
        assert watched.sessions_gone(20) == 0


@pytest.fixture
def target(server: Watched) -> Target:
    return Target(server.port, "127.0.0.2")


async def closed(target: Target, *chunks: bytes) -> str:
    """The close code for what is written after the handshake."""
    client = await target.connect(REQUEST)
    assert await client.answered() == "101"
    for chunk in chunks:
        client.write(chunk)
    code = await client.ended(5)
    client.cut()
    return code


async def speaks(url: str) -> None:
    """A sentence is understood."""
    async with session(url, "intent=transcription") as peer:
        await peer.speak(speech("turn on the light.").audio)
        await peer.speak(silence(1.0))
        await peer.until("conversation.item.input_audio_transcription.completed")


@pytest.mark.parametrize("wire", ["realtime", "realtimevoicechat"])
async def test_messages_by_the_thousand(server: Watched, target: Target, wire: Wire) -> None:
    tallies = await asyncio.gather(*(talk(target, wire, f"{wire}/{n}", 1500) for n in range(3)))
    whole = Tally()
    for tally in tallies:
        whole.add(tally)
    assert whole.messages >= 4500
    assert set(whole.statuses) == {"101"}
    assert set(whole.closes) <= {"1000", "1007", "none", "open"}
    await speaks(server.url)


async def test_every_way_of_breaking_a_frame(server: Watched, target: Target) -> None:
    for name in CASES:
        tally = await frames(target, name, 3, name=name)
        assert set(tally.statuses) == {"101"}
    await speaks(server.url)


async def test_handshakes_that_are_none(server: Watched, target: Target) -> None:
    rng, tally = random.Random(2), Tally()
    for _ in range(60):
        await bad_head(target, "/v1/realtime", rng, tally)
    assert not [status for status in tally.statuses if status.startswith("5")]
    await speaks(server.url)


@pytest.mark.parametrize(
    ("written", "code"),
    [
        (frame(TEXT, b"{", told_length=22 << 20, form=127), "1009"),
        (frame(TEXT, b'"\xff"'), "1007"),
        (frame(TEXT, b"\xe2", fin=False) + frame(CONT, b"\x28"), "1007"),
        (frame(TEXT, b"{}", mask=None), "1002"),
        (frame(TEXT, b"{}", reserved=4), "1002"),
        (frame(3, b"{}"), "1002"),
        (frame(CONT, b"{}"), "1002"),
        (frame(PING, bytes(126)), "1002"),
        (frame(PING) * (2 * CONTROL_BURST), "1008"),
        (frame(TEXT, b"", fin=False) + frame(CONT, fin=False) * MOST_FRAGMENTS, "1008"),
        (frame(CLOSE, b"\x03\xe8"), "1000"),
    ],
)
async def test_the_close_code_says_what_was_wrong(
    target: Target, written: bytes, code: str
) -> None:
    assert await closed(target, written) == code


async def test_what_comes_before_the_handshake_is_answered_waits(target: Target) -> None:
    for _ in range(20):
        client = await target.connect(REQUEST)
        await asyncio.sleep(0)
        client.write(frame(PING, b"too soon"))
        assert await client.answered() == "101"
        client.write(frame(CLOSE, b"\x03\xe8"))
        assert await client.ended(5) == "1000"


async def test_reading_goes_on_after_frames_that_are_no_message(
    server: Watched, target: Target
) -> None:
    """More of them at once than are parsed at a time."""
    client = await target.connect(REQUEST)
    assert await client.answered() == "101"
    client.write(frame(TEXT, b"{", fin=False) + frame(CONT, fin=False) * 3000)
    await asyncio.sleep(0.3)
    client.write(frame(CONT, b"}"))
    assert await client.read_by_server(10)
    client.cut()
    assert await asyncio.to_thread(server.sessions_gone, 10) == 0


async def test_too_long_a_request_is_answered(target: Target) -> None:
    headers = tuple(f"X-{number}: {number}" for number in range(200))
    client = await target.connect(handshake("/v1/realtime", headers))
    assert await client.answered(5) == "431"
    assert await client.ended(5) == "none"
    assert bad_handshake(random.Random(0), "/ws")


async def test_who_reads_nothing_is_cut_off_in_the_end(server: Watched, target: Target) -> None:
    """More errors than fit anywhere, and nobody reads them."""
    client = await target.connect(REQUEST)
    assert await client.answered() == "101"
    client.transport.pause_reading()
    for _ in range(200):
        client.write(frame(TEXT, b"{}") * 500)
        await asyncio.sleep(0.01)
    assert server.alive
    await speaks(server.url)
    assert await asyncio.to_thread(server.sessions_gone, 60) == 0
    client.cut()


async def test_tens_of_thousands_of_messages_in_one_write_hold_nobody_up(
    server: Watched, target: Target
) -> None:
    client = await target.connect(REQUEST)
    assert await client.answered() == "101"
    client.write(frame(TEXT, b"{}") * 30_000)
    await speaks(server.url)
    assert await client.read_by_server()
    # The pong may go before the answers to the last that still wait to be taken.
    await until(lambda: client.answers >= 30_000)
    client.cut()
