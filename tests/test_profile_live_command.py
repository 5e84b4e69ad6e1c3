"""`rtvc profile live` over HTTP, in a terminal, and of our own server."""

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rtvc.cli import build_app
from rtvc.clock import SystemClock
from rtvc.config import child_environment
from rtvc.errors import UsageError
from rtvc.profile.live.plain import COLUMNS, LEGEND, heading
from rtvc.profile.live.source import Source, on_this_machine
from rtvc.profile.live.view import session_lines, view_of
from rtvc.profile.live.watch import Missing
from rtvc.profile.live.window import Scrape
from rtvc.profile.target import NoAnswer
from tests.live_scrapes import (
    metrics,
    sessions_body,
    status_of,
    text_at,
    window_of,
)
from tests.realtime_peer import session, silence, speech

# Over HTTP.


class Answers:
    """What the stub answers, and how often it was connected to."""

    def __init__(self, pages: dict[str, tuple[int, str]]) -> None:
        self.pages = pages
        self.connections: list[socket.socket] = []


@contextmanager
def a_server(pages: dict[str, tuple[int, str]]) -> Iterator[tuple[str, Answers]]:
    """A small HTTP server that keeps connections, as ours does."""
    answers = Answers(pages)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            answers.connections.append(self.request)
            super().setup()

        def do_GET(self) -> None:
            code, text = answers.pages.get(self.path, (404, "{}"))
            body = text.encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *ignored: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", answers
        finally:
            server.shutdown()
            for connection in answers.connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            thread.join()


def our_pages(**more: Any) -> dict[str, tuple[int, str]]:
    return {
        "/metrics": (200, metrics([0.25] * 20, **more)),
        "/v1/sessions": (200, json.dumps(sessions_body())),
    }


@contextmanager
def a_source(url: str) -> Iterator[Source]:
    source = Source(url, SystemClock())
    try:
        yield source
    finally:
        source.close()


@pytest.mark.parametrize("path", ["", "/v1/realtime?rtvc=1", "/ws"])
def test_one_connection_is_kept_whatever_is_pointed_at(path: str) -> None:
    with a_server(our_pages()) as (url, answers), a_source(url.replace("http", "ws") + path) as own:
        for _ in range(3):
            read = own.read()
            assert isinstance(read, Scrape)
            assert read.sessions["sessions"][0]["utterances"] == 0
        assert len(answers.connections) == 1
        assert own.url == url


@pytest.mark.parametrize(
    ("pages", "reason", "foreign"),
    [
        ({}, "HTTP 404: no metrics", True),
        ({"/metrics": (200, "# TYPE up gauge\nup 1\n")}, "none of rtvc's metrics", True),
        ({"/metrics": (200, "<html>{")}, "Prometheus's text format", True),
        ({"/metrics": (503, "")}, "HTTP 503", False),
    ],
)
def test_what_is_not_ours_is_told_apart(
    pages: dict[str, tuple[int, str]], reason: str, foreign: bool
) -> None:
    with a_server(pages) as (url, _), a_source(url) as source:
        read = source.read()
    assert isinstance(read, Missing)
    assert reason in read.reason
    assert read.foreign is foreign


def test_without_sessions_the_rest_is_shown() -> None:
    pages = {"/metrics": our_pages()["/metrics"]}
    with a_server(pages) as (url, _), a_source(url) as source:
        read = source.read()
    assert isinstance(read, Scrape)
    assert read.sessions is None
    drawn = text_at(80, 24, status_of(view_of(window_of(read))))
    assert "the server does not tell" in drawn


def test_a_server_comes_back_on_the_same_source() -> None:
    with a_server(our_pages()) as (url, _):
        source = Source(url, SystemClock())
        assert isinstance(source.read(), Scrape)
    try:
        gone = source.read()
        assert isinstance(gone, Missing)
        assert gone.reason.startswith(f"no server answers at {url}: ")
        assert not gone.foreign
    finally:
        source.close()


def test_this_machine_is_recognised() -> None:
    assert on_this_machine("http://127.0.0.1:9")
    assert not on_this_machine("http://192.0.2.7:8000")


# The command.


def run_cli(*arguments: str) -> Any:
    words = ["profile", "live", *arguments]
    return CliRunner().invoke(build_app(words), words, catch_exceptions=True)


def test_without_a_terminal_there_are_lines() -> None:
    with a_server(our_pages()) as (url, _):
        done = run_cli(url, "--duration", "1", "--interval", "0.5")
    assert done.exit_code == 0, done.output
    legend = [row for row in done.stdout.splitlines() if row.startswith("# ")]
    lines = done.stdout.splitlines()[len(legend) :]
    assert legend == [f"# {text}" for text in LEGEND]
    assert lines[0] == heading()
    assert len(lines) == 4
    assert all(len(row.split()) == len(COLUMNS) + 1 for row in lines)
    assert done.stderr.count("no GPU") <= 1


def test_objects_a_line() -> None:
    with a_server(our_pages()) as (url, _):
        done = run_cli(url, "--duration", "0.5", "--interval", "0.5", "--json")
    said = [json.loads(row) for row in done.stdout.splitlines()]
    assert [one["there"] for one in said] == [True, True]
    assert said[0]["url"] == url


def test_the_legend_explains_every_column_and_fits() -> None:
    said = " ".join(LEGEND)
    named = set(re.findall(r"[\w%]+", said))
    assert {name for name, _, _ in COLUMNS} <= named
    assert all(len(text) <= 98 for text in LEGEND)
    assert "worst_lag_ms" in heading()
    assert " lag_ms" not in heading()


def test_nobody_there_exits_1() -> None:
    done = run_cli("127.0.0.1:9", "--duration", "0.5")
    assert isinstance(done.exception, NoAnswer)
    assert "no server answers at http://127.0.0.1:9: " in str(done.exception)
    assert done.exception.exit_code == 1


@pytest.mark.slow
def test_ctrl_c_after_the_server_was_lost_exits_1() -> None:
    with a_server(our_pages()) as (url, _):
        child = subprocess.Popen(
            [sys.executable, "-m", "rtvc", "profile", "live", url, "--interval", "0.5"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        while not child.stdout.readline().lstrip().startswith("0."):
            assert child.poll() is None
    while "gone" not in child.stdout.readline():
        assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 1
    assert "rtvc: the server was lost " in err


def test_another_server_exits_2_and_names_what_works() -> None:
    with a_server({"/": (200, "hello")}) as (url, _):
        done = run_cli(url)
    assert isinstance(done.exception, UsageError)
    assert "rtvc profile tap" in str(done.exception)


def test_wrong_usage() -> None:
    assert isinstance(run_cli("--plain", "--json").exception, UsageError)
    assert run_cli("--interval", "0.1").exit_code == 2
    assert isinstance(run_cli("ftp://box").exception, UsageError)


class Screen:
    """The command in a terminal of its own, of a given size."""

    def __init__(self, url: str, *arguments: str, columns: int = 80, rows: int = 24) -> None:
        self.main, side = pty.openpty()
        self._resize(columns, rows)
        self.child = subprocess.Popen(
            [sys.executable, "-m", "rtvc", "profile", "live", url, *arguments],
            stdin=side,
            stdout=side,
            stderr=side,
            env=child_environment(TERM="xterm", COLUMNS="", LINES=""),
        )
        os.close(side)
        self.seen = ""

    def _resize(self, columns: int, rows: int) -> None:

        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, size)

    def resize(self, columns: int, rows: int) -> None:
        self._resize(columns, rows)

    def press(self, keys: bytes) -> None:
        os.write(self.main, keys)

    def until(self, holds: Callable[[str], bool]) -> None:
        """Read until what was seen satisfies."""
        while not holds(self.seen):
            ready, _, _ = select.select([self.main], [], [], 30)
            assert ready, self.seen
            try:
                self.seen += os.read(self.main, 65536).decode(errors="replace")
            except OSError:
                assert holds(self.seen), self.seen
                return

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.main)


ALTERNATE, BACK = "\x1b[?1049h", "\x1b[?1049l"


@contextmanager
def a_screen(url: str, *arguments: str) -> Iterator[Screen]:
    screen = Screen(url, *arguments)
    try:
        yield screen
    finally:
        screen.close()


@pytest.mark.slow
def test_q_ends_and_the_terminal_is_as_it_was() -> None:
    with a_server(our_pages()) as (url, _), a_screen(url) as screen:
        screen.until(lambda seen: "q ends" in seen)
        assert ALTERNATE in screen.seen
        assert BACK not in screen.seen
        screen.press(b"q")
        screen.until(lambda seen: BACK in seen)
        assert screen.child.wait(30) == 0


@pytest.mark.slow
def test_another_size_is_drawn_at_once() -> None:
    with a_server(our_pages()) as (url, _), a_screen(url, "--interval", "60") as screen:
        screen.until(lambda seen: "q ends" in seen)
        before = screen.seen.count("q ends")
        screen.resize(120, 40)
        screen.until(lambda seen: seen.count("q ends") > before)
        screen.press(b"q")
        assert screen.child.wait(30) == 0


@pytest.mark.slow
def test_ctrl_c_ends_too() -> None:
    with a_server(our_pages()) as (url, _), a_screen(url) as screen:
        screen.until(lambda seen: "q ends" in seen)
        screen.child.send_signal(signal.SIGINT)
        screen.until(lambda seen: BACK in seen)
        assert screen.child.wait(30) == 0


@pytest.mark.slow
def test_our_own_server_is_watched(server_url: str) -> None:
    done = run_cli(server_url, "--duration", "1.5", "--interval", "0.5", "--json")
    assert done.exit_code == 0, done.output
    said = [json.loads(row) for row in done.stdout.splitlines()]
    last = said[-1]
    assert last["engine"]["state"] == "ready"
    assert last["engine"]["about"]["model"] == "selftest"
    assert {queue["name"] for queue in last["queues"]} == {"inbox", "inference", "outbox"}
    assert all(queue["items"] is not None for queue in last["queues"][1:])
    assert {job["kind"] for job in last["engine"]["jobs"]} == {"final", "speculative", "partial"}
    assert {one["role"] for one in last["processes"]} == {"server", "engine"}
    assert all(one["cpu_cores"] is not None for one in last["processes"])
    assert last["loop"]["lag"]["n"] > 5


async def test_a_session_of_our_own_server_tells_its_delays(server_url: str) -> None:
    async with session(server_url) as peer:
        said = [silence(0.3), speech("close the window.").audio, silence(0.8)]
        await peer.speak(np.concatenate(said))
        await peer.until("rtvc.turn")
        with a_source(server_url) as source:
            read = await asyncio.to_thread(source.read)
    assert isinstance(read, Scrape)
    lines = session_lines(read.sessions) or ()
    told = [one for one in lines if one.delays_s]
    assert len(told) >= 1
    assert told[0].delays_s[0] == pytest.approx(
        peer.of("rtvc.turn")[0]["transcription_delay_ms"] / 1000, abs=0.001
    )
    inbox = next(queue for queue in read.sessions["queues"] if queue["name"] == "inbox")
    assert inbox["dropped"] == 0
    assert inbox["backlog_s"] >= 0
