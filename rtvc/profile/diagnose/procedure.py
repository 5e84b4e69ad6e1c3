"""The measurements of a diagnosis: one speaker, then two, then many, the machine beside them."""

import math
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from rtvc.api_key import VARIABLE
from rtvc.clock import Clock
from rtvc.config import environment_without_settings
from rtvc.errors import ProfileError, RecordError, RtvcError, UsageError, why
from rtvc.profile.cpu.target import host_and_port, pid_of_url
from rtvc.profile.diagnose.host import HostWatch, Machine, RoundTrips
from rtvc.profile.diagnose.reading import HOST_FILE, PHASES, write_plan
from rtvc.profile.target import http_address
from rtvc.record import MANIFEST_FILE, load_manifest, load_run

LOG_FILE = "loadtest.log"
"""What the load tests said."""

POLL_S = 0.1
SLOW_CONNECTION_S = 1.0
"""From here on the time to connect is added to a phase: the load test's time runs meanwhile."""
READY_WITHIN_S = 300.0
"""A server may load a model first."""

STOP_WITHIN_S = 60.0
"""A load test keeps what it measured and writes its report first."""

KEPT_CODES = frozenset({0, 3, 99, 130})
"""Of a load test that measured something."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be measured."""

    url: str
    """The server."""
    folder: Path
    """Where to keep it."""
    speakers: int = 4
    """Of the last phase."""
    duration_s: float = 20.0
    """Seconds of each phase, after its warm-up."""
    pid: int | None = None
    """The server's process; None: whoever listens at the URL's port, if that is this machine."""
    objectives: tuple[str, ...] = ()
    """As typed."""
    insecure: bool = False
    """Accept any certificate."""
    api_key: str | None = None
    """Sent as a Bearer token."""

    @property
    def phases(self) -> list[tuple[str, int]]:
        """(name, speakers): never the same number twice."""
        wanted = dict.fromkeys((1, min(2, self.speakers), self.speakers))
        return list(zip(PHASES, wanted, strict=False))


Tell = Callable[[str], None]


class Procedure:
    """Runs what has not been run yet."""

    def __init__(self, order: Order, clock: Clock, tell: Tell) -> None:
        self._order = order
        self._clock = clock
        self._tell = tell
        self._pause = threading.Event()
        self._connecting_s = 0.0
        self._begun = False

    def run(self) -> bool:
        """Whether it was interrupted; what was measured is kept.

        Raises:
            RtvcError: no server answers, or a load test could not run.
            UsageError: the folder holds another server's phases.
        """
        for name, speakers in self._order.phases:
            folder = self._order.folder / name
            if self._is_done(folder):
                self._tell(f"{name}: already measured")
                self._learn(folder)
                continue
            self._begin()
            self._tell(f"{name}: {_people(speakers)}, {self.seconds:g} s")
            if self._phase(folder, speakers):
                return True
            if self._learn(folder):
                _set_aside(folder, "too-short")
                self._tell(
                    f"{name}: connecting took {self._connecting_s:.1f} s, so nobody came to speak; "
                    f"again, {self.seconds:g} s"
                )
                if self._phase(folder, speakers):
                    return True
        return False

    def _begin(self) -> None:
        """Before the first phase that is measured: is anybody there, and what is to come?"""
        if self._begun:
            return
        self._begun, url = True, self._order.url
        if not answers(url, self._clock):
            host, port = host_and_port(url)
            raise RtvcError(
                f"no server answers at {url}: nothing accepts connections at {host}:{port}"
            )
        write_plan(self._order.folder, self._order.phases)

    @property
    def seconds(self) -> float:
        """Of the next phase: people speak as long as was asked, however long connecting takes."""
        return self._order.duration_s + math.ceil(self._connecting_s)

    def _learn(self, folder: Path) -> bool:
        """How long connecting takes; whether it took so long that nobody could speak."""
        try:
            run = load_run(folder)
        except RecordError:
            return False
        took_s = max((one.connection_s or 0.0 for one in run.connections), default=0.0)
        if took_s >= SLOW_CONNECTION_S:
            self._connecting_s = max(self._connecting_s, took_s)
        return not run.turns and took_s >= SLOW_CONNECTION_S

    def _is_done(self, folder: Path) -> bool:
        if not (folder / MANIFEST_FILE).exists():
            return False
        manifest = load_manifest(folder)
        if host_and_port(manifest.url or self._order.url) != host_and_port(self._order.url):
            raise UsageError(
                f"expected a folder of its own for {self._order.url}, but {folder} was measured "
                f"at {manifest.url}"
            )
        if manifest.duration_s is not None and not manifest.interrupted:
            return True
        _set_aside(folder, "cut-off")
        return False

    def _phase(self, folder: Path, speakers: int) -> bool:
        """Whether it was interrupted."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        order = self._order
        with (order.folder / LOG_FILE).open("ab") as log:
            child = subprocess.Popen(
                self._command(folder, speakers),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environment(),
            )
            with HostWatch(self._machine(), self._clock) as watch:
                code = self._wait(child, watch, folder)
        if code is None:
            return True
        if code in KEPT_CODES:
            return False
        if not (folder / MANIFEST_FILE).exists():
            raise _failed(code, order.folder / LOG_FILE)
        reason = _why_nobody_is_there(folder)
        if reason is not None:
            _set_aside(folder, "nobody-there")
            raise RtvcError(f"no server answers at {order.url}: {reason}")
        return False

    def _machine(self) -> Machine:
        order = self._order
        trips = RoundTrips(order.url, self._clock, insecure=order.insecure)
        pid = order.pid if order.pid is not None else local_pid(order.url)
        return Machine(self._clock, trips, pid, os.getpid())

    def _command(self, folder: Path, speakers: int) -> list[str]:
        order = self._order
        objectives = [part for slo in order.objectives for part in ("--slo", slo)]
        return [
            *(sys.executable, "-m", "rtvc", "loadtest", order.url),
            *("--speakers", str(speakers), "--duration", f"{self.seconds:g}"),
            *("--out", str(folder), *objectives),
            *(["--insecure"] if order.insecure else []),
        ]

    def _environment(self) -> dict[str, str]:
        """With the key, which on a command line everybody could read."""
        key = self._order.api_key
        return environment_without_settings() | ({VARIABLE: key} if key else {})

    def _wait(self, child: "subprocess.Popen[bytes]", watch: HostWatch, folder: Path) -> int | None:
        """The load test's exit code; None: somebody interrupted it."""
        try:
            while child.poll() is None:
                if not watch.begun and (folder / MANIFEST_FILE).exists():
                    watch.begin(folder / HOST_FILE)
                self._pause.wait(POLL_S)
        except KeyboardInterrupt:
            stop(child)
            return None
        return child.returncode


def _people(speakers: int) -> str:
    return "one speaker" if speakers == 1 else f"{speakers} speakers at once"


def local_pid(url: str) -> int | None:
    """Who listens at the URL's port; None: another machine's, or not to be known."""
    with suppress(UsageError, ProfileError):
        return pid_of_url(url)
    return None


def _set_aside(folder: Path, why: str) -> None:
    """A phase that is run again is kept beside the new one."""
    for number in range(1, 1000):
        aside = folder.with_name(f"{folder.name}.{why}-{number}")
        if not aside.exists():
            folder.rename(aside)
            return
    raise RecordError(f"expected room for another try beside {folder}, but there are a thousand")


def _why_nobody_is_there(folder: Path) -> str | None:
    """None if anybody answered anybody, be it with a refusal; else the first reason given."""
    attempts = load_run(folder).attempts
    silent = [
        row
        for row in attempts
        if row.handshake_s is None and row.outcome == "failed" and not _is_status(row.failure)
    ]
    return silent[0].reason if silent and len(silent) == len(attempts) else None


def _is_status(failure: str | None) -> bool:
    return failure is None or failure.startswith("http_")


def _failed(code: int, log: Path) -> RtvcError:
    """In the load test's own words."""
    said = log.read_text("utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
    text = said[-1].removeprefix("rtvc: ")
    return UsageError(text) if code == UsageError.exit_code else RtvcError(text)


def stop(child: "subprocess.Popen[bytes]") -> None:
    """End a process that was started here."""
    child.terminate()
    try:
        child.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@contextmanager
def started(command: str, url: str, log: Path, clock: Clock, tell: Tell) -> Iterator[int]:
    """A server of the user's, ready at `url`; it and its descendants are ended afterwards.

    Raises:
        UsageError: the command is none, or somebody serves at the URL already.
        RtvcError: it did not come up.
    """
    if answers(url, clock):
        raise UsageError(
            f"expected nothing at {url}, where --start is to start a server: stop the one that "
            "answers there first"
        )
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = _launched(_words(command), output.fileno())
        try:
            _wait_until_ready(child, url, log, clock, tell)
            yield child.pid
        finally:
            _stop_group(child)


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"expected a command after --start, but {why(error)}") from None
    if not words:
        raise UsageError("expected a command after --start, got nothing")
    return words


def _launched(words: Sequence[str], output: int) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise UsageError(f"cannot start {words[0]}: {why(error)}") from None


def answers(url: str, clock: Clock) -> bool:
    """Whether anybody accepts connections there."""
    return RoundTrips(url, clock).tcp_s() is not None


def _wait_until_ready(
    child: "subprocess.Popen[bytes]", url: str, log: Path, clock: Clock, tell: Tell
) -> None:
    pause = threading.Event()
    tell("starting the server")
    deadline_s = clock.now() + READY_WITHIN_S
    while clock.now() < deadline_s:
        if child.poll() is not None:
            raise _failed(RtvcError.exit_code, log)
        if _is_ready(url):
            return
        pause.wait(POLL_S)
    raise RtvcError(f"the server was not ready within {READY_WITHIN_S:g} s; see {log}")


def _is_ready(url: str) -> bool:
    """/readyz says so; a server without such a page is ready once it answers at all."""
    try:
        answer = httpx.get(http_address(url, "/readyz"), timeout=2.0, trust_env=False, verify=False)
    except httpx.HTTPError:
        return False
    return answer.status_code in (200, 404, 405)


def _stop_group(child: "subprocess.Popen[bytes]") -> None:
    """The server first; then what it left behind in its group, which is nobody else's."""
    stop(child)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGTERM)
