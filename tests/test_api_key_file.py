"""An API key from a file or the environment: shown to the server that was named, to nobody else."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from rtvc.api_key import VARIABLE, bearer, find_api_key
from rtvc.clock import SystemClock
from rtvc.config import child_environment
from rtvc.errors import RtvcError, UsageError
from rtvc.loadtest.preflight import ask_server
from rtvc.loadtest.speakers.scrape import ServerMetrics
from rtvc.loadtest.wire.detect import detect
from rtvc.profile.diagnose.procedure import Order, Procedure
from rtvc.profile.doctor.server import read_server
from rtvc.profile.live.source import Source
from rtvc.profile.live.window import Scrape
from tests.reference_server import House
from tests.servers import ROOT

KEY = "rtvc_Hm4pQ8vZ2cX6tN1w"
BEARER = f"Bearer {KEY}"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    return path


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


# Where it comes from


def test_a_key_comes_from_a_file_or_the_environment(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_api_key() is None
    assert find_api_key(key_file) == KEY
    monkeypatch.setenv(VARIABLE, "another-key")
    assert find_api_key(key_file) == KEY
    assert find_api_key(None, "given-key") == "given-key"
    assert find_api_key() == "another-key"
    monkeypatch.setenv(VARIABLE, "")
    assert find_api_key() is None


@pytest.mark.parametrize("content", ["", " \n", "two words", "a\r\nX-Other: b", "kö", "x" * 5000])
def test_what_is_no_key_is_refused_and_not_repeated(content: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(UsageError, match="expected an API key in") as refused:
        find_api_key(path)
    assert not content.strip() or content not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the API key in .*nowhere"):
        find_api_key(tmp_path / "nowhere")


def test_two_keys_are_one_too_many(key_file: Path) -> None:
    with pytest.raises(UsageError, match="got both"):
        find_api_key(key_file, "other")


# Whom it is shown to


class Doorkeeper(ThreadingHTTPServer):
    """Answers those who have the key; sends everybody elsewhere if it has been told where."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.seen: list[tuple[str, str | None]] = []
        self.elsewhere: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may leave when they like."""

    @property
    def unshown(self) -> list[str]:
        """Paths asked for without the key."""
        return [path for path, shown in self.seen if shown != BEARER]


class _Door(BaseHTTPRequestHandler):
    server: Doorkeeper
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        house, shown = self.server, self.headers.get("Authorization")
        house.seen.append((self.path, shown))
        status, body = 200, b"ok"
        if house.elsewhere is not None:
            status = 302
        elif shown != BEARER:
            status = 401
        elif self.path == "/metrics":
            body = b"# TYPE rtvc_ready gauge\nrtvc_ready 1\n"
        elif self.path == "/readyz":
            body = json.dumps({"state": "ready", "model": "told"}).encode()
        elif self.path == "/v1/sessions":
            body = json.dumps({"sessions": [], "queues": []}).encode()
        self.send_response(status)
        if house.elsewhere is not None:
            self.send_header("Location", house.elsewhere + self.path)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody wants to read it."""


@contextmanager
def doorkeeper() -> Iterator[Doorkeeper]:
    with Doorkeeper() as house:
        thread = threading.Thread(target=house.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield house
        finally:
            house.shutdown()
            thread.join()


@pytest.fixture
def house() -> Iterator[Doorkeeper]:
    with doorkeeper() as house:
        yield house


def ask_all(url: str) -> None:
    """Everything of ours that asks a server over HTTP."""
    clock = SystemClock()
    with httpx.Client(headers=bearer(KEY), trust_env=False) as client:
        ask_server(
            f"{url}/readyz",
            client=client,
            clock=clock,
            sleep=lambda _: None,
            patience_s=0.0,
            on_wait=lambda _: None,
        )
        try:
            detect(url, client=client, clock=clock, api_key=KEY)
        except RtvcError:
            assert url
    with closing(ServerMetrics(f"{url}/metrics", api_key=KEY)) as metrics:
        metrics.read()
    with closing(Source(url, clock, api_key=KEY)) as source:
        source.read()
    read_server(url, clock, KEY)


def test_it_is_shown_with_every_question(house: Doorkeeper) -> None:
    ask_all(house.url)
    assert {"/readyz", "/metrics", "/v1/sessions", "/v1/models"} <= {path for path, _ in house.seen}
    assert house.unshown == []


def test_without_it_the_doorkeeper_says_no(house: Doorkeeper) -> None:
    with closing(ServerMetrics(f"{house.url}/metrics")) as metrics:
        assert metrics.read() == []
    with closing(Source(house.url, SystemClock())) as source:
        assert not isinstance(source.read(), Scrape)
    assert len(house.unshown) >= 2


def test_a_redirection_elsewhere_gets_nothing(house: Doorkeeper) -> None:
    with doorkeeper() as stranger:
        house.elsewhere = stranger.url
        ask_all(house.url)
    assert house.seen
    assert stranger.seen == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb",
    [
        ["profile", "queues", "URL", "--duration", "0.3", "--json"],
        ["profile", "stages", "URL", "--json"],
        ["profile", "live", "URL", "--duration", "0.5", "--json"],
        ["profile", "doctor", "URL", "--json"],
    ],
)
def test_the_profiler_shows_it(house: Doorkeeper, key_file: Path, verb: list[str]) -> None:
    words = [house.url if word == "URL" else word for word in verb]
    command = [sys.executable, "-m", "rtvc", *words]
    for flags, environment in (
        (["--api-key-file", str(key_file)], {}),
        ([], {VARIABLE: KEY}),
    ):
        done = subprocess.run(
            [*command, *flags],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=child_environment(**environment),
            timeout=60,
            check=False,
        )
        assert KEY not in done.stdout + done.stderr
        assert house.seen
        assert house.unshown == []
        house.seen.clear()


def test_a_diagnosis_hands_it_on_where_nobody_reads_along(tmp_path: Path) -> None:
    order = Order(url="http://127.0.0.1:1", folder=tmp_path, api_key=KEY)
    procedure = Procedure(order, SystemClock(), lambda _: None)
    assert KEY not in " ".join(procedure._command(tmp_path, 1))
    assert procedure._environment()[VARIABLE] == KEY


class KeyedHouse(House):
    """The reference server, for those who have the key."""

    asked: list[tuple[str, str | None]]

    async def _answer_http(self, wire: ServerConnection, request: Request) -> Response | None:
        self.asked.append((request.path, request.headers.get("Authorization")))
        if request.headers.get("Authorization") != BEARER:
            return wire.respond(HTTPStatus.UNAUTHORIZED, "no")
        return await super()._answer_http(wire, request)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
async def test_all_of_a_load_test_shows_it_and_nothing_keeps_it(
    key_file: Path, tmp_path: Path, processes: int
) -> None:
    house = KeyedHouse({}, lambda: 0.05)
    house.asked = []
    server = await house.listen(0)
    port = next(iter(server.sockets)).getsockname()[1]
    folder = tmp_path / "run"
    command = ["-m", "rtvc", "loadtest", f"http://127.0.0.1:{port}", "--out", str(folder)]
    amounts = ["--speakers", "2", "--duration", "4", "--warm-up", "0", "--transcription"]
    flags = ["--processes", str(processes), "--api-key-file", str(key_file)]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        *amounts,
        *flags,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    seen: set[str] = set()
    looking = asyncio.create_task(look_at(child.pid, seen))
    said, _ = await child.communicate()
    looking.cancel()
    server.close()
    assert {shown for _, shown in house.asked} == {BEARER}, said.decode()
    paths = {path.partition("?")[0] for path, _ in house.asked}
    assert {"/readyz", "/metrics", "/v1/realtime"} <= paths
    assert KEY not in "\n".join(seen)
    assert KEY.encode() not in said
    for path in folder.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    assert json.loads((folder / "run.json").read_text())["url"]


async def look_at(pid: int, seen: set[str]) -> None:
    """Command lines of a process and its children, as `ps` shows them to everybody."""
    while True:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            try:
                seen.add(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        await asyncio.sleep(0.1)


def test_the_key_of_the_tests_is_not_in_this_environment() -> None:
    assert KEY not in os.environ.values()  # noqa: TID251 (this test alone)
