"""A server that is watched while it is hurt: memory, threads, descriptors, log, engine."""

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.servers import ROOT, free_port, wait_until_ready

READY_S, STOP_S = 300.0, 60.0


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the server and its engine hold, together unless said otherwise."""

    server_bytes: int
    """Resident, of the server's process alone."""
    engine_bytes: int
    """Resident, of its children."""
    threads: int
    """Of all of them."""
    descriptors: int
    """Of all of them."""


class Watched:
    """A running `rtvc serve`."""

    def __init__(self, child: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self._child = child
        self._process = psutil.Process(child.pid)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._log = log

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def vitals(self) -> Vitals:
        children = self._process.children(recursive=True)
        everyone = [self._process, *children]
        return Vitals(
            server_bytes=int(self._process.memory_info().rss),
            engine_bytes=sum(int(child.memory_info().rss) for child in children),
            threads=sum(int(one.num_threads()) for one in everyone),
            descriptors=sum(int(one.num_fds()) for one in everyone),
        )

    def settled(self, seconds: float = 4.0) -> Vitals:
        """The least of a few seconds without load: what is given back late is no leak."""
        rows = []
        for _ in range(max(1, round(2 * seconds))):
            time.sleep(0.5)
            rows.append(self.vitals())
        return Vitals(
            server_bytes=min(row.server_bytes for row in rows),
            engine_bytes=min(row.engine_bytes for row in rows),
            threads=min(row.threads for row in rows),
            descriptors=min(row.descriptors for row in rows),
        )

    def asked(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=20) as answer:
            return json.load(answer)

    def sessions(self) -> dict[str, Any]:
        told: dict[str, Any] = self.asked("/v1/sessions")
        return told

    def sessions_gone(self, within_s: float) -> int:
        """Slots still taken after so long at most."""
        for _ in range(max(1, round(2 * within_s))):
            if not self.sessions()["count"]:
                return 0
            time.sleep(0.5)
        return int(self.sessions()["count"])

    def troubles(self) -> list[str]:
        """Lines of the log that no input should bring about."""
        text = self._log.read_text("utf-8", "replace")
        marks = ("ERROR", "CRITICAL", "Traceback")
        return [line[:200] for line in text.splitlines() if line.startswith(marks)]


@contextlib.contextmanager
def watched_server(
    log: Path, flags: Sequence[str] = (), model: str = "selftest"
) -> Iterator[Watched]:
    """Ready to be hurt; stopped at the end."""
    # Whoever ends this ends the server, too, and what was measured is kept.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    port = free_port()
    command = [sys.executable, "-m", "rtvc", "serve", "--model", model, "--port", str(port), *flags]
    with log.open("wb") as sink:
        child = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", child, READY_S)
        yield Watched(child, port, log)
    finally:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


class Speakers:
    """People who mean well, in a process of their own: `tests.hostile.speakers`."""

    def __init__(self, url: str, speakers: int) -> None:
        command = [sys.executable, "-m", "tests.hostile.speakers", url, "--speakers", str(speakers)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def done(self) -> dict[str, Any]:
        """Tells them to stop; what they saw."""
        out, _ = self._process.communicate(timeout=90)
        told: dict[str, Any] = json.loads(out.splitlines()[-1])
        return told

    def end(self) -> None:
        """Whatever they are doing."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def speaking(url: str, speakers: int) -> Iterator[Speakers]:
    them = Speakers(url, speakers)
    try:
        yield them
    finally:
        them.end()


def heard(url: str, speakers: int, seconds: float) -> dict[str, Any]:
    """What they see in so many seconds."""
    with speaking(url, speakers) as them:
        time.sleep(seconds)
        return them.done()


def write_json(path: Path, value: Any) -> None:
    """Whole, or not at all."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def check_rows(checks: Mapping[str, bool]) -> list[str]:
    """Rows of a Markdown table."""
    return [f"| {name} | {'yes' if kept else '**no**'} |" for name, kept in checks.items()]
