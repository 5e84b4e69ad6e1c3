"""`rtvc demo`: a server, three simulated speakers, a verdict; nothing to prepare."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import httpx
import typer
from rich.console import Console

from rtvc.clock import Clock, SystemClock
from rtvc.config import environment_without_settings
from rtvc.errors import RtvcError

_READY_WITHIN_S = 120.0
_STOP_WITHIN_S = 30.0
_POLL_S = 0.2


def demo(
    speakers: Annotated[int, typer.Option(help="Simulated speakers.", min=1)] = 3,
    duration: Annotated[float, typer.Option(help="Seconds they talk.", min=5)] = 20.0,
    out: Annotated[
        Path | None, typer.Option(help="Run directory.", show_default="reports/runs/<time>")
    ] = None,
) -> None:
    """Start the server on the self-test model, let simulated speakers talk, print the verdict."""
    console = Console(stderr=True)
    console.print(
        "[bold]rtvc demo[/]: a voice chat on this machine alone. Speech-to-text is the "
        "[bold]self-test model[/] (it understands the built-in synthetic speakers only), "
        "replies are scripted, espeak-ng speaks.\n"
    )
    # Whoever stops the demo stops all of it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _server(console, SystemClock()) as url:
        code = _loadtest(url, speakers, duration, out)
    console.print(
        "\nTalk to it yourself: [bold]rtvc serve[/] (people need a real model: "
        "[bold]rtvc serve --model base.en[/]), then open http://localhost:8000"
    )
    raise typer.Exit(code)


def _loadtest(url: str, speakers: int, duration_s: float, out: Path | None) -> int:
    command = [
        *(sys.executable, "-m", "rtvc", "loadtest", url),
        *("--speakers", str(speakers), "--duration", f"{duration_s:g}"),
        *([] if out is None else ["--out", str(out)]),
    ]
    child = subprocess.Popen(command, env=environment_without_settings())
    try:
        return child.wait()
    except KeyboardInterrupt:
        # The load test keeps what it measured; a terminal's Ctrl-C has told it already.
        _stop(child)
        raise


@contextmanager
def _server(console: Console, clock: Clock) -> Iterator[str]:
    """A server of our own on a free port; always stopped.

    Raises:
        RtvcError: it did not start; says what it said.
    """
    port = _free_port()
    command = [
        *(sys.executable, "-m", "rtvc", "serve", "--model", "selftest"),
        *("--port", str(port), "--llm", "scripted", "--tts", "espeak"),
        *("--settings", os.devnull),
    ]
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment_without_settings(),
        )
        url = f"http://127.0.0.1:{port}"
        try:
            with console.status("starting the server") as status:
                began_s = clock.now()
                _wait(url, child, log, lambda detail: status.update(f"server: {detail}"), clock)
            console.print(f"server ready after {clock.now() - began_s:.1f} s at {url}")
            yield url
        finally:
            _stop(child)


def _wait(
    url: str,
    child: "subprocess.Popen[bytes]",
    log: IO[bytes],
    tell: Callable[[str], None],
    clock: Clock,
) -> None:
    pause = threading.Event()
    deadline_s = clock.now() + _READY_WITHIN_S
    while clock.now() < deadline_s:
        if child.poll() is not None:
            log.seek(0)
            said = log.read().decode(errors="replace").strip().splitlines() or ["nothing"]
            raise RtvcError(f"the server ended before it was ready; its last words: {said[-1]}")
        try:
            answer = httpx.get(f"{url}/readyz", timeout=2.0, trust_env=False)
        except httpx.HTTPError:
            pause.wait(_POLL_S)
            continue
        if answer.status_code == 200:
            return
        tell(answer.json()["detail"])
        pause.wait(_POLL_S)
    raise RtvcError(f"the server was not ready after {_READY_WITHIN_S:g} s")


def _stop(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
