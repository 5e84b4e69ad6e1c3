"""The server that only reads: it can be spoken to, and it reads all of it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rtvc.clock import SystemClock
from rtvc.loadtest.wire.transport import Frames, connect
from rtvc.loadtest.wire.wires import WIRES
from tests.test_loadtest_run import until

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    command = [sys.executable, "-m", "tests.drain_server"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def notes(port: int) -> dict[str, float]:
    found: dict[str, float] = httpx.get(f"http://127.0.0.1:{port}/notes").json()
    return found


@pytest.mark.parametrize(
    ("path", "protocol", "words"),
    [
        ("/v1/realtime?rtvc=1", "openai-realtime", ["session.created"]),
        ("/ws/transcribe", "realtimestt", ["hello", "ready"]),
    ],
)
def test_everything_that_is_said_is_read(
    port: int, path: str, protocol: str, words: list[str]
) -> None:
    before = notes(port)
    wire = WIRES[protocol]
    assert wire.append is not None
    frame = Frames(wire.append).ready(bytes(960))
    caller = connect(f"ws://127.0.0.1:{port}{path}", clock=SystemClock(), timeout_s=5)
    for word in words:
        assert f'"type": "{word}"'.encode() in bytes(caller.receive() or b"")  # type: ignore[arg-type]
    for _ in range(500):
        caller.send_frame(frame)
    expected = before["received_bytes"] + 500 * len(frame.format())
    until(lambda: notes(port)["received_bytes"] >= expected)
    assert notes(port)["open"] == before["open"] + 1
    caller.close()
    until(lambda: notes(port)["open"] == before["open"])


def test_it_says_that_it_is_ready(port: int) -> None:
    assert httpx.get(f"http://127.0.0.1:{port}/readyz").json()["state"] == "ready"
    assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 404
