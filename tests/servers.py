"""Starts the real server for tests, as a user would: a process of its own."""

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_server(*flags: str, port: int | None = None, model: str = "selftest") -> Iterator[str]:
    """`http://127.0.0.1:PORT` of a ready server; stopped at the end."""
    port = port or free_port()
    command = [sys.executable, "-m", "rtvc", "serve", "--model", model, "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen([*command, *flags], stdout=log, stderr=subprocess.STDOUT)
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until_ready(url, child)
            yield url
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise
        finally:
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def wait_until_ready(url: str, child: "subprocess.Popen[bytes]", within_s: float = 60.0) -> None:
    for _ in range(round(10 * within_s)):
        if child.poll() is not None:
            raise AssertionError(f"the server ended with {child.returncode}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("the server was not ready in time")


@contextlib.contextmanager
def sink(*arguments: str) -> Iterator[int]:
    """The port of `tests.sink_server`, a process of its own; ended at the end."""
    command = [sys.executable, "-m", "tests.sink_server", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()
