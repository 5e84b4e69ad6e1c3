"""The tap: bytes pass unchanged whatever they are, and turns are timed as a client sees them."""

import asyncio
import csv
import json
import random
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus

from rtvc.audio import resample
from rtvc.clock import SystemClock
from rtvc.errors import RecordError, UsageError
from rtvc.profile.tap.proxy import Tap, Target, parse_listen, parse_target
from rtvc.profile.tap.summary import Tally, TurnsFile, connection_line, turn_line
from rtvc.profile.tap.turns import Turn
from rtvc.profile.tap.watch import Connection
from rtvc.profile.tap.wire import Message, Wire
from rtvc.server.lifecycle.tls import certificate_files
from rtvc.speech.corpus import builtin_clips
from tests.realtime_peer import session, silence, speech
from tests.recorded_wire import Recorded, chunks
from tests.sink_server import Sink

# What is said of it.


def some_turn(**changes: Any) -> Turn:
    known: dict[str, Any] = {field.name: None for field in fields(Turn)}
    known |= {"connection": 0, "turn": 0, "protocol": "whisperlive", "partials": 0}
    return Turn(**(known | {"spoke_on": False} | changes))


def test_n_stands_beside_every_quantile_and_few_samples_have_only_a_maximum() -> None:
    tally = Tally()
    for number in range(12):
        tally.turn(some_turn(transcription_delay_s=0.1 + number / 100, final_at_s=1.0))
    tally.turn(some_turn(spoke_on=True))
    told = tally.to_json()
    delay = told["metrics"]["transcription_delay_s"]
    assert delay["n"] == 12
    assert delay["p50"] == pytest.approx(0.155)
    assert delay["p95"] is None
    assert delay["max"] == pytest.approx(0.21)
    assert told["metrics"]["response_latency_s"] == {"p50": None, "p95": None, "max": None, "n": 0}
    assert told["turns_without_final"] == 1
    assert "1 of 13 turns without a final" in tally.notes()
    assert len(list(tally.table().rows)) == len(told["metrics"])


def test_what_is_absent_is_drawn_so() -> None:
    line = turn_line(some_turn(transcription_delay_s=0.3, final_at_s=2.0, heard="a\nb"))
    assert line == (
        "connection 0 turn 0: transcript 300 ms, reply –, first text –, texts every –: a b"
    )
    closed = Connection(3, 0.0, None, None, None, "failed", "connection refused", 0, 0)
    assert "failed (connection refused)" in connection_line(closed)


def test_turns_are_written_as_they_end_and_an_empty_cell_is_absent(tmp_path: Path) -> None:
    with TurnsFile(tmp_path / "new") as file:
        file.append(some_turn(heard='say "hi", twice', final_at_s=0.5))
        with file.path.open(newline="") as written:
            (row,) = csv.DictReader(written)
    assert row["heard"] == 'say "hi", twice'
    assert row["final_at_s"] == "0.5"
    assert row["response_latency_s"] == ""
    with pytest.raises(RecordError):
        TurnsFile(tmp_path / "new")


@pytest.mark.parametrize("text", ["", "ftp://x:1", "ws://", "ws://x:99999", "http://[::1"])
def test_a_target_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_target(text)


@pytest.mark.parametrize("text", ["", "localhost", "x:y", "99999", "[::1"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_listen(text)


# The relay.


class Seen:
    """What a tap told."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.connections: list[Connection] = []
        self.told = asyncio.Event()

    def turn(self, turn: Turn) -> None:
        self.turns.append(turn)
        self.told.set()

    def connection(self, connection: Connection) -> None:
        self.connections.append(connection)
        self.told.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                self.told.clear()
                await self.told.wait()


@asynccontextmanager
async def tapped(port: int, **options: Any) -> AsyncIterator[tuple[int, Seen]]:
    """A tap in front of a port of this machine."""
    seen = Seen()
    target = options.pop("target", Target("127.0.0.1", port, False, ""))
    tap = Tap(target, seen, SystemClock(), **options)
    async with tap.listening("127.0.0.1", 0) as tap_port:
        yield tap_port, seen


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def target(serve_one: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve_one(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()


HANDSHAKE = b"".join(data for from_client, data in Recorded(deflate=False).sent if from_client)
ANSWER = b"".join(data for from_client, data in Recorded(deflate=False).sent if not from_client)


async def exchange(
    there: Iterable[bytes], back: Iterable[bytes], tls: ssl.SSLContext | None = None, **options: Any
) -> tuple[bytes, bytes, list[Connection]]:
    """Bytes the target got, bytes the client got, what the tap says of it."""
    got, finished = bytearray(), asyncio.Event()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def answer() -> None:
            for piece in back:
                writer.write(piece)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

        answering = asyncio.create_task(answer())
        while data := await reader.read(1000):
            got.extend(data)
        await answering
        finished.set()

    async with target(serve_one, tls) as port:
        server = Target("127.0.0.1", port, tls is not None, "")
        async with tapped(port, target=server, **options) as (tap_port, seen):
            reader, writer = await asyncio.open_connection("127.0.0.1", tap_port)
            try:
                for piece in there:
                    writer.write(piece)
                    await writer.drain()
                if tls is None:
                    writer.write_eof()
                    received = await reader.read()
                else:
                    received = await reader.readexactly(sum(len(piece) for piece in back))
            finally:
                writer.close()
            await seen.until(lambda: bool(seen.connections))
            await finished.wait()
    return bytes(got), received, seen.connections


@settings(deadline=None, max_examples=25)
@given(
    st.binary(max_size=20_000),
    st.binary(max_size=20_000),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_every_byte_passes_unchanged_however_it_is_cut(
    there: bytes, back: bytes, after_a_handshake: bool, seed: int
) -> None:
    rng = random.Random(seed)
    if after_a_handshake:
        there, back = HANDSHAKE + there, ANSWER + back
    got, received, connections = asyncio.run(
        exchange(list(chunks(there, rng)), list(chunks(back, rng)))
    )
    assert got == there
    assert received == back
    assert len(connections) == 1


async def test_a_reader_that_breaks_does_not_break_the_relay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: Wire, data: bytes) -> list[Message]:
        raise RuntimeError("a mistake in the parser")

    monkeypatch.setattr(Wire, "from_client", broken)
    got, received, (connection,) = await exchange([HANDSHAKE], [ANSWER])
    assert (got, received) == (HANDSHAKE, ANSWER)
    assert connection.outcome == "not observed"
    assert connection.reason == "RuntimeError while reading"


async def test_a_target_behind_tls_is_spoken_to_plainly(tmp_path: Path) -> None:
    files = certificate_files("self-signed", tmp_path, "127.0.0.1", SystemClock())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    got, received, _ = await exchange([HANDSHAKE, b"x" * 500], [ANSWER], context, insecure=True)
    assert (got, received) == (HANDSHAKE + b"x" * 500, ANSWER)


async def test_an_unknown_certificate_is_not_believed(tmp_path: Path) -> None:
    files = certificate_files("self-signed", tmp_path, "127.0.0.1", SystemClock())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await exchange([HANDSHAKE], [ANSWER], context)


async def test_a_client_that_does_not_read_stops_the_server() -> None:
    total, sent = 96_000_000, 0
    piece = bytes(100_000)

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < total:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    async with target(pour) as port, tapped(port) as (tap_port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", tap_port)
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < total / 2
        received = 0
        while data := await reader.read(1_000_000):
            received += len(data)
        assert received == total
        writer.close()
        await writer.wait_closed()


async def test_a_target_that_is_not_there_hangs_up_and_is_counted() -> None:
    async with tapped(1) as (tap_port, seen):
        reader, writer = await asyncio.open_connection("127.0.0.1", tap_port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        await seen.until(lambda: bool(seen.connections))
    assert seen.connections[0].outcome == "failed"


async def test_the_end_of_the_tap_ends_its_connections() -> None:
    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with target(wait) as port:
        async with tapped(port) as (tap_port, seen):
            reader, writer = await asyncio.open_connection("127.0.0.1", tap_port)
            writer.write(HANDSHAKE)
            await asyncio.sleep(0.05)
        assert len(seen.connections) == 1
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


@asynccontextmanager
async def sink(mode: str = "answer") -> AsyncIterator[tuple[Sink, int]]:
    known = Sink(mode, 0.5)
    server = await known.listen(0)
    try:
        yield known, int(next(iter(server.sockets)).getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.slow
async def test_a_server_with_a_known_delay_is_timed_as_it_times_itself() -> None:
    spoken = resample(builtin_clips(1, seed=2, max_words=5)[0].audio, 16_000, 24_000)
    async with sink() as (known, port), tapped(port) as (tap_port, seen):
        async with session(f"http://127.0.0.1:{tap_port}", "") as peer:
            await peer.speak(np.concatenate([silence(0.4), spoken, silence(0.8)]))
            await peer.until("response.done")
            await seen.until(lambda: bool(seen.turns))
        await seen.until(lambda: bool(seen.connections))
    turn, (waited_s,) = seen.turns[-1], known.notes.waits_s()[-1:]
    assert turn.transcription_delay_s is not None
    assert turn.response_latency_s is not None
    assert abs(turn.transcription_delay_s - waited_s) < 0.15
    assert turn.response_latency_s >= turn.transcription_delay_s
    (connection,) = seen.connections
    assert (connection.outcome, connection.protocol) == ("ok", "openai-realtime")
    assert connection.connection_s is not None
    assert connection.handshake_s is not None
    assert 0 < connection.handshake_s <= connection.connection_s


async def test_a_server_that_is_full_is_counted_as_refusing() -> None:
    async with sink("refuse-503") as (_, port), tapped(port) as (tap_port, seen):
        with pytest.raises(InvalidStatus):
            async with connect(f"ws://127.0.0.1:{tap_port}/v1/realtime"):
                pass
        await seen.until(lambda: bool(seen.connections))
    (connection,) = seen.connections
    assert (connection.outcome, connection.reason) == ("refused", "HTTP 503")


async def test_a_refusal_by_close_code_is_seen_through_compression() -> None:
    async def refuse(wire: ServerConnection) -> None:
        await wire.send("{}")
        await wire.close(1013, "try again later")

    async with serve(refuse, "127.0.0.1", 0) as server:
        port = int(next(iter(server.sockets)).getsockname()[1])
        async with tapped(port) as (tap_port, seen):
            async with connect(f"ws://127.0.0.1:{tap_port}/v1/realtime") as wire:
                assert wire.response is not None
                assert "permessage-deflate" in wire.response.headers["Sec-WebSocket-Extensions"]
                await wire.wait_closed()
            await seen.until(lambda: bool(seen.connections))
    (connection,) = seen.connections
    assert (connection.outcome, connection.reason) == ("refused", "closed with 1013")


# The real server.


@pytest.mark.model
@pytest.mark.slow
async def test_a_spoken_turn_with_the_real_server(server_url: str) -> None:
    port = int(server_url.rpartition(":")[2])
    async with tapped(port, keep_text=True) as (tap_port, seen):
        url = f"http://127.0.0.1:{tap_port}"
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{url}/readyz")).json()["state"] == "ready"
        async with session(url) as peer:
            said = speech("turn on the lights.").audio
            await peer.speak(np.concatenate([silence(0.4), said, silence(0.8)]))
            await peer.until("response.done")
            await seen.until(lambda: bool(seen.turns))
            own = peer.of("rtvc.turn")[-1]
            heard = peer.transcripts()[0]
        await seen.until(lambda: len(seen.connections) == 2)
    (turn,) = seen.turns
    assert turn.heard == heard
    assert turn.transcription_delay_s is not None
    assert turn.response_latency_s is not None
    # The server counts from the last sample its VAD takes for speech, the tap from the level's.
    assert abs(turn.transcription_delay_s - own["transcription_delay_ms"] / 1000) < 0.2
    assert turn.response_latency_s > turn.transcription_delay_s
    assert turn.partials >= 1
    assert sorted(connection.outcome for connection in seen.connections) == ["http", "ok"]


# The command.


def tap_command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "rtvc", "profile", "tap", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_the_command_ends_by_itself_and_sums_up(tmp_path: Path) -> None:
    done = tap_command(
        *("127.0.0.1:0", "ws://127.0.0.1:1/ws", "--duration", "0.2"),
        *("--out", str(tmp_path), "--json"),
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["summary"]["turns"] == 0
    assert done.stderr.startswith("tap: clients connect to ws://127.0.0.1:")
    header = (tmp_path / "tap_turns.csv").read_text().splitlines()
    assert header == [",".join(field.name for field in fields(Turn))]


@pytest.mark.slow
def test_the_command_refuses_on_one_line() -> None:
    done = tap_command("127.0.0.1:0", "ws://127.0.0.1:1", "--duration", "soon")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "expected --duration such as 90" in done.stderr
    done = tap_command("127.0.0.1:0", "ws://127.0.0.1:1", "--protocol", "sip")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "expected a protocol of auto" in done.stderr
