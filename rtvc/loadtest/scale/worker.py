"""`rtvc loadtest --worker --join HOST:PORT`: lend this machine's speakers to a master elsewhere."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rtvc.clock import Clock, SystemClock
from rtvc.errors import RtvcError, UsageError, why
from rtvc.loadtest.locust_process import LocustProcess
from rtvc.loadtest.runner import INTERRUPTED, ORDERLY_STOP_S, POLL_S, terminable, work_folder
from rtvc.loadtest.scale.recruit import COMPLAINT_FILE, GREETED_FILE, LEAVE_FILE
from rtvc.loadtest.scale.spread import BIND_PORT

JOIN_S = 30.0
"""For a master to answer: it may be started a moment later."""

RETRY_S = 0.5

GREETING_S = 30.0
"""For whoever listens there to show that it is a master."""

_ENDINGS = {
    "Didn't get heartbeat from master": "the master has gone silent",
    "Got quit message from master": "the master ended the load test",
    "Failed to connect": "the master did not answer",
}
"""What Locust says, and what it means."""


def address(text: str) -> tuple[str, int]:
    """Host and port of a master.

    >>> address("10.0.0.5:5600"), address("box"), address("[::1]:7")
    (('10.0.0.5', 5600), ('box', 5557), ('::1', 7))
    """
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(BIND_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"expected --join HOST:PORT of a master, got {text!r}")
    return host, int(port)


def find_master(
    host: str,
    port: int,
    *,
    clock: Clock,
    sleep: Callable[[float], None],
    patience_s: float = JOIN_S,
) -> None:
    """Wait until somebody listens there.

    Raises:
        RtvcError: nobody does.
    """
    deadline_s = clock.now() + patience_s
    while True:
        try:
            socket.create_connection((host, port), timeout=RETRY_S * 4).close()
        except OSError as error:
            if clock.now() >= deadline_s:
                raise RtvcError(
                    f"no master answers at {host}:{port} within {patience_s:g} s: {why(error)} "
                    "(start one with: rtvc loadtest URL --master)"
                ) from None
            sleep(RETRY_S)
        else:
            return


class Workers:
    """So many workers of this machine, each a process."""

    def __init__(self, host: str, port: int, processes: int, folder: Path) -> None:
        self._host, self._port = host, port
        self._folders = [folder / str(number) for number in range(processes)]
        self._processes: list[LocustProcess] = []
        for each in self._folders:
            each.mkdir()
            flags = ["--worker", "--master-host", host, "--master-port", str(port)]
            process = LocustProcess([*flags, "--rtvc-worker", str(each)], each, each / "log")
            self._processes.append(process)

    @property
    def running(self) -> bool:
        return any(process.status() is None for process in self._processes)

    @property
    def greeted(self) -> bool:
        """Whether each of them has heard of the master."""
        return all((folder / GREETED_FILE).exists() for folder in self._folders)

    def leave(self) -> None:
        """Ask them to stop, tell the master, and end."""
        for each in self._folders:
            (each / LEAVE_FILE).touch()

    def insist(self) -> None:
        for process in self._processes:
            process.insist()

    def complaint(self) -> str | None:
        """Of the first that did not do its part; None if all did."""
        for folder, process in zip(self._folders, self._processes, strict=True):
            if process.status() != 0:
                return self._why(folder)
        return None

    def _why(self, folder: Path) -> str:
        with suppress(FileNotFoundError):
            return (folder / COMPLAINT_FILE).read_text("utf-8")
        log = (folder / "log").read_text("utf-8", errors="replace")
        for said, meaning in _ENDINGS.items():
            if said in log:
                return f"{meaning} ({self._host}:{self._port})"
        return f"the worker ended: {_last_line(log)}"


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


def work_for(
    join: str, processes: int, say: Callable[[str], None], *, patience_s: float = JOIN_S
) -> int:
    """Be workers of the master at `join` until it is done; the exit code.

    Raises:
        RtvcError: no master there, one that refuses us, or one that vanished.
    """
    host, port = address(join)
    clock = SystemClock()
    with work_folder() as folder, terminable():
        find_master(host, port, clock=clock, sleep=time.sleep, patience_s=patience_s)
        say(f"at the service of {host}:{port}")
        workers = Workers(host, port, processes, folder)
        _be_greeted(workers, clock, f"{host}:{port}")
        interrupted = _wait(workers, clock)
        complaint = workers.complaint()
    if interrupted:
        return INTERRUPTED
    if complaint is not None:
        raise RtvcError(complaint)
    say("done")
    return 0


def _wait(workers: Workers, clock: Clock) -> bool:
    """Until they are done; whether somebody pressed Ctrl-C."""
    left_at_s: float | None = None
    try:
        while workers.running:
            try:
                if left_at_s is not None and clock.now() - left_at_s > ORDERLY_STOP_S:
                    break
                time.sleep(POLL_S)
            except KeyboardInterrupt:
                if left_at_s is not None:
                    break
                left_at_s = clock.now()
                workers.leave()
    finally:
        workers.insist()
    return left_at_s is not None


def _be_greeted(workers: Workers, clock: Clock, master: str) -> None:
    deadline_s = clock.now() + GREETING_S
    try:
        while workers.running and not workers.greeted and clock.now() < deadline_s:
            time.sleep(POLL_S)
    except BaseException:
        workers.insist()
        raise
    if workers.running and not workers.greeted:
        workers.insist()
        raise RtvcError(f"something answers at {master}, but no master of rtvc")
