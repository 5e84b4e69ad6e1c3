"""The server that faults are brought about on: a process of its own, started and stopped here."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from rtvc.clock import Clock
from rtvc.config import environment_without_settings
from rtvc.errors import RtvcError

READY_WITHIN_S = 180.0
STOP_WITHIN_S = 60.0
POLL_S = 0.05


class Server:
    """`rtvc serve` on a free port of this machine."""

    def __init__(self, model: str, inject: str | None, log: Path, clock: Clock) -> None:
        self._model = model
        self._log = log
        self._clock = clock
        self._port = free_port()
        self._child = self._start(inject)
        self.ready_at_s = 0.0
        """By our clock: when it was seen ready; faults count from there."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Of the process that answers there."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._child.poll()

    def _start(self, inject: str | None) -> "subprocess.Popen[bytes]":
        command = [
            *(sys.executable, "-m", "rtvc", "serve", "--model", self._model),
            *("--port", str(self._port), "--llm", "scripted", "--tts", "espeak"),
            *("--settings", os.devnull),
            *([] if inject is None else ["--inject", inject]),
        ]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment_without_settings(),
            )

    def wait_until_ready(self) -> None:
        """
        Raises:
            RtvcError: it does not get ready; says what it said.
        """
        deadline_s = self._clock.now() + READY_WITHIN_S
        while self._clock.now() < deadline_s:
            if self._child.poll() is not None:
                raise RtvcError(f"the server ended before it was ready: {self._last_words()}")
            if self._is_ready():
                self.ready_at_s = self._clock.now()
                return
            pause(POLL_S)
        raise RtvcError(f"the server was not ready after {READY_WITHIN_S:g} s ({self._log})")

    def _is_ready(self) -> bool:
        try:
            answer = httpx.get(f"{self.url}/readyz", timeout=2.0, trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def _last_words(self) -> str:
        lines = self._log.read_text("utf-8", errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "it said nothing"

    def terminate(self) -> int | None:
        """SIGTERM; its exit code, or None if it did not end in time."""
        self._child.send_signal(signal.SIGTERM)
        try:
            return self._child.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            return None

    def start_again(self) -> None:
        """As a supervisor would: the same command on the same port, nothing injected."""
        self.stop()
        self._child = self._start(None)
        self.wait_until_ready()

    def stop(self) -> None:
        """End it, whatever state it is in."""
        if self._child.poll() is None and self.terminate() is None:
            self._child.kill()
        self._child.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pause(seconds: float) -> None:
    """Let time go by."""
    threading.Event().wait(seconds)
