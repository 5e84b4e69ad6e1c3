"""Starts what an image starts, asks its health check, and stops it as an engine would."""

import json
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from rtvc.clock import Clock
from rtvc.errors import RtvcError
from tools.dockerfile import Step

READY_S = 180.0
STOP_S = 40.0
"""As `stop_grace_period` in infra/compose.yaml."""
ASK_S = 10.0
POLL_S = 0.5


class Built(Protocol):
    """What is needed of an image."""

    kept: dict[str, Step]

    @property
    def environment(self) -> dict[str, str]:
        """What its processes see."""

    def here(self, text: str) -> str:
        """A text with the image's own folders as they are here."""

    def place(self, path: str) -> Path:
        """Where a path of the image is; a relative one begins at its WORKDIR."""


def start(image: Built, clock: Clock, say: Callable[[str], None]) -> list[str]:
    """What was seen, a line each.

    Raises:
        RtvcError: it does not start, is not healthy, or does not stop.
    """
    with tempfile.TemporaryFile() as log:
        started = _started(image, log, clock)
        try:
            lines = []
            for look in (started.until_healthy, started.stop):
                lines.append(look())
                say(lines[-1])
            return lines
        finally:
            started.end()


@dataclass(slots=True)
class Started:
    """What runs."""

    child: "subprocess.Popen[bytes]"
    """The server."""
    command: list[str]
    """As the image has it."""
    check: str
    """Its health check, for a shell."""
    signal_name: str
    """What stops it."""
    environment: dict[str, str]
    """What it sees."""
    log: IO[bytes]
    """What it says."""
    clock: Clock
    """Times it."""

    def until_healthy(self) -> str:
        """
        Raises:
            RtvcError: it ends first, or takes too long.
        """
        begun_s = self.clock.now()
        while not self._is_healthy():
            if self.child.poll() is not None:
                raise RtvcError(f"it ended with {self.child.returncode}:\n{self._said()}")
            if self.clock.now() > begun_s + READY_S:
                raise RtvcError(f"it was not healthy within {READY_S:g} s:\n{self._said()}")
            threading.Event().wait(POLL_S)
        return f"{' '.join(self.command)}: healthy after {self.clock.now() - begun_s:.1f} s"

    def stop(self) -> str:
        """
        Raises:
            RtvcError: it takes too long, ends badly, or is said to be healthy all the same.
        """
        begun_s = self.clock.now()
        self.child.send_signal(signal.Signals[self.signal_name])
        try:
            code = self.child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise RtvcError(f"{self.signal_name}: it did not stop within {STOP_S:g} s") from None
        if code != 0:
            raise RtvcError(f"{self.signal_name}: it ended with {code}:\n{self._said()}")
        if self._is_healthy():
            raise RtvcError("it has ended, and its health check says that it is healthy")
        return f"{self.signal_name}: ended with 0 after {self.clock.now() - begun_s:.1f} s"

    def end(self) -> None:
        """Whatever state it is in."""
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()

    def _is_healthy(self) -> bool:
        try:
            asked = subprocess.run(
                ["/bin/sh", "-c", self.check],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=ASK_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        return asked.returncode == 0

    def _said(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-2000:]


def _started(image: Built, log: IO[bytes], clock: Clock) -> Started:
    environment = image.environment
    environment |= _own_settings(environment)
    command = [*_json(image, "ENTRYPOINT"), *_json(image, "CMD")]
    program = shutil.which(command[0], path=environment["PATH"])
    if program is None:
        raise RtvcError(f"expected {command[0]} on the image's PATH, found nothing")
    child = subprocess.Popen(
        [program, *command[1:]],
        cwd=image.place(""),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    check = image.here(image.kept["HEALTHCHECK"].text.removeprefix("CMD").strip())
    name = image.kept["STOPSIGNAL"].text
    return Started(child, command, check, name, environment, log, clock)


def _own_settings(environment: dict[str, str]) -> dict[str, str]:
    """For this machine alone, and without a download unless the image carries a model."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    return {
        "RTVC_SERVE_HOST": "127.0.0.1",
        "RTVC_SERVE_PORT": port,
        "RTVC_STT_MODEL": environment.get("RTVC_STT_MODEL") or "selftest",
    }


def _json(image: Built, word: str) -> list[str]:
    step = image.kept.get(word)
    return [] if step is None else [str(each) for each in json.loads(step.text)]
