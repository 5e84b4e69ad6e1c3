"""Connecting, step by step, and every way in which it can go wrong."""

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from websockets.utils import accept_key

from rtvc.clock import SystemClock
from rtvc.loadtest.speakers.call import Call, Mute
from rtvc.loadtest.turns.measure import Measurement
from rtvc.loadtest.wire.attempt import Attempt, open_session
from rtvc.loadtest.wire.realtime import RealtimeClient
from rtvc.loadtest.wire.transport import ConnectError, Connection, Frames, LostError, connect
from tests.sink_server import Sink


@contextmanager
def serving(mode: str) -> Iterator[str]:
    """A sink on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(Sink(mode).listen(0), loop).result(10)
    try:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/v1/realtime"
    finally:
        loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(server.wait_closed(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def attempt_at(url: str, timeout_s: float = 2.0) -> Attempt:
    call = Call(RealtimeClient(transcription=False), Mute(), Measurement(conversation=True))
    attempt = Attempt(0, 0.0)
    open_session(
        attempt,
        url=url,
        clock=SystemClock(),
        timeout_s=timeout_s,
        insecure=False,
        api_key=None,
        receive=call.receive,
        usable=lambda: (call.usable_at_s, call.session_id),
    )
    attempt.close(0.0)
    return attempt


def test_a_session_is_usable_once_the_server_says_so() -> None:
    with serving("answer") as url:
        row = attempt_at(url).row()
    assert (row.outcome, row.session_id, row.reason) == ("ok", "s0", None)


def test_the_steps_of_connecting_come_in_order() -> None:
    clock = SystemClock()
    with serving("answer") as url:
        before_s = clock.now()
        connection = connect(url, clock=clock, timeout_s=2.0)
        times = connection.times
        assert before_s <= times.opened_s < times.transport_s < times.upgraded_s <= clock.now()
        connection.close()


@pytest.mark.parametrize(
    ("mode", "outcome", "reason", "close_code"),
    [
        ("refuse-503", "refused", "HTTP 503: server_full: 8 of 8 sessions are taken", None),
        ("refuse-1013", "refused", "closed by the server with 1013: try again later", 1013),
        ("never-answer", "failed", "the session's first word took longer than 0.3 s", None),
    ],
)
def test_a_session_that_is_not_usable_says_why(
    mode: str, outcome: str, reason: str, close_code: int | None
) -> None:
    with serving(mode) as url:
        row = attempt_at(url, timeout_s=0.3).row()
    assert (row.outcome, row.reason, row.close_code) == (outcome, reason, close_code)
    assert row.connection_s is None


def test_nobody_there_is_failed_not_refused() -> None:
    row = attempt_at("ws://127.0.0.1:1/v1/realtime").row()
    assert row.outcome == "failed"
    assert row.reason is not None
    assert row.reason.startswith("no connection: ")


def test_something_that_is_no_web_server_is_failed() -> None:
    def gibber(listening: socket.socket) -> None:
        peer, _ = listening.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(b"220 mail.test ready\r\n\r\n")

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        thread = threading.Thread(target=gibber, args=(listening,))
        thread.start()
        row = attempt_at(f"ws://127.0.0.1:{listening.getsockname()[1]}/").row()
        thread.join()
    assert row.outcome == "failed"


def test_plain_text_where_tls_is_expected_is_failed() -> None:
    with serving("answer") as url, pytest.raises(ConnectError, match="no TLS") as caught:
        connect(url.replace("ws:", "wss:"), clock=SystemClock(), timeout_s=2.0)
    assert caught.value.outcome == "failed"


def test_a_connection_cut_mid_run_is_lost() -> None:
    with serving("die") as url:
        connection = connect(url, clock=SystemClock(), timeout_s=2.0)
        with pytest.raises(LostError):
            speak_silence(connection, frames=1000)
        connection.close()


def speak_silence(connection: Connection, frames: int) -> None:
    connection.set_timeout(0.001)
    for _ in range(frames):
        connection.send(RealtimeClient.append(bytes(960)))
        connection.receive()


def test_hearing_nothing_for_a_while_is_no_loss() -> None:
    with serving("answer") as url:
        connection = connect(url, clock=SystemClock(), timeout_s=2.0)
        assert connection.receive() is not None
        connection.set_timeout(0.05)
        assert connection.receive() is None
        connection.close()


def test_a_server_that_stops_reading_is_lost_and_does_not_hang_us() -> None:
    done = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        thread = threading.Thread(target=upgrade_and_ignore, args=(listening, done), daemon=True)
        thread.start()
        url = f"ws://127.0.0.1:{listening.getsockname()[1]}/"
        connection = connect(url, clock=SystemClock(), timeout_s=2.0)
        connection.set_timeout(0.2)
        with pytest.raises(LostError, match="the server stopped reading") as caught:
            flood(connection)
        assert caught.value.failure == "stopped_reading"
        connection.close()
        done.set()
        thread.join(10)


def upgrade_and_ignore(listening: socket.socket, done: threading.Event) -> None:
    peer, _ = listening.accept()
    with peer:
        request = peer.recv(4096).decode()
        (key,) = re.findall(r"Sec-WebSocket-Key: (\S+)", request)
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        peer.sendall(f"{head}Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode())
        done.wait(20)


def flood(connection: Connection) -> None:
    for _ in range(500):
        connection.send("x" * 65_536)


def test_a_frame_is_made_once_and_says_what_the_message_says() -> None:
    made: list[bytes] = []

    def message(pcm16: bytes) -> str:
        made.append(pcm16)
        return RealtimeClient.append(pcm16)

    frames = Frames(message)
    first = frames.ready(b"\x01\x02" * 480)
    assert frames.ready(b"\x01\x02" * 480) is first
    assert frames.ready(b"\x03\x04" * 480) is not first
    assert len(made) == 2
    # RFC 6455: a final text frame, masked, with a 16-bit length.
    wire = first.format()
    length = int.from_bytes(wire[2:4], "big")
    assert (wire[0], wire[1], len(wire)) == (0x81, 0x80 | 126, 8 + length)
    mask = wire[4:8]
    plain = bytes(byte ^ mask[at % 4] for at, byte in enumerate(wire[8:]))
    assert plain.decode() == RealtimeClient.append(b"\x01\x02" * 480)


def test_frames_and_messages_share_a_connection() -> None:
    frames = Frames(RealtimeClient.append)
    with serving("answer") as url, closing(connect(url, clock=SystemClock(), timeout_s=5)) as open_:
        created = open_.receive()
        for _ in range(3):
            open_.send_frame(frames.ready(b"\x10\x27" * 480))
        open_.send(RealtimeClient.truncate("a", 100))
        started = open_.receive()
    assert isinstance(created, bytes)
    assert b"session.created" in created
    assert isinstance(started, bytes)
    assert b"speech_started" in started, "the sink heard the frames"
