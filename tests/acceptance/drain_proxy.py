"""HAProxy in front of two servers, with the configuration that ships: infra/haproxy/rtvc.cfg."""

import contextlib
import csv
import io
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtvc.chaos.server import free_port
from rtvc.config import child_environment
from rtvc.errors import RtvcError

CONFIGURATION = Path(__file__).parents[2] / "infra" / "haproxy" / "rtvc.cfg"
SERVERS = ("one", "two")
"""As the configuration names them."""
GLOBAL = """global
    log stdout format raw local0
    stats socket {admin} mode 600 level admin
    maxconn 200
"""
"""What a distribution's own file would say. Left to itself, HAProxy gets ready for as many
connections as there may be files, which in a container may be a billion: more than fit."""
ANSWER_S = 2.0
STOP_S = 10.0


def program() -> str | None:
    """Where HAProxy is; None: it is not installed."""
    folders = "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin"
    return shutil.which("haproxy") or shutil.which("haproxy", path=folders)


@dataclass(frozen=True, slots=True)
class ServerLine:
    """What the proxy says of one server."""

    up: bool
    """Whether it sends callers there."""
    retries: int
    """Requests that were tried once more, so far."""
    redispatches: int
    """Of them, those that another server got."""


def read_stat(text: str) -> dict[str, ServerLine]:
    """What `show stat` answers, by server.

    >>> read_stat("# pxname,svname,status,wretr,wredis,\\nrtvc,one,UP,2,1,\\n")["one"]
    ServerLine(up=True, retries=2, redispatches=1)
    """
    rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
    return {
        row["svname"]: ServerLine(
            up=row["status"].startswith("UP"),
            retries=int(row["wretr"] or 0),
            redispatches=int(row["wredis"] or 0),
        )
        for row in rows
        if row["svname"] in SERVERS
    }


class Proxy:
    """A running HAProxy."""

    def __init__(self, child: "subprocess.Popen[bytes]", port: int, admin: Path) -> None:
        self._child = child
        self._admin = admin
        self.url = f"http://127.0.0.1:{port}"

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def lines(self) -> dict[str, ServerLine]:
        """
        Raises:
            OSError: it does not answer.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(ANSWER_S)
            line.connect(str(self._admin))
            line.sendall(b"show stat\n")
            answer = b""
            while part := line.recv(65536):
                answer += part
        return read_stat(answer.decode())


def version(haproxy: str) -> str:
    """Its first line, such as "HAProxy version 2.6.12-1+deb12u4 2025/…"."""
    said = subprocess.run([haproxy, "-v"], capture_output=True, text=True, check=True)
    return said.stdout.splitlines()[0]


def environment(port: int, servers: Sequence[str]) -> dict[str, str]:
    """What the configuration takes its addresses from; `servers`: host:port each."""
    one, two = servers
    front = f"127.0.0.1:{port}"
    return child_environment(RTVC_FRONT=front, RTVC_ONE=one, RTVC_TWO=two)


def complaint(haproxy: str, variables: Mapping[str, str]) -> str | None:
    """Why it does not take the configuration; None: it does."""
    done = subprocess.run(
        [haproxy, "-c", "-f", str(CONFIGURATION)],
        env=dict(variables),
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stdout + done.stderr).strip() if done.returncode else None


@contextlib.contextmanager
def running_proxy(haproxy: str, servers: Sequence[str], log: Path) -> Iterator[Proxy]:
    """In front of two servers, each host:port; ended at the end.

    Raises:
        RtvcError: it does not start.
    """
    port = free_port()
    # A socket's path has room for 108 bytes.
    with tempfile.TemporaryDirectory(prefix="rtvc-drain-") as folder, log.open("wb") as sink:
        admin = Path(folder) / "admin"
        own = Path(folder) / "global.cfg"
        own.write_text(GLOBAL.format(admin=admin), encoding="utf-8")
        child = subprocess.Popen(
            [haproxy, "-db", "-f", str(own), "-f", str(CONFIGURATION)],
            env=environment(port, servers),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
        try:
            proxy = Proxy(child, port, admin)
            _until_there(proxy, child, log)
            yield proxy
        finally:
            child.terminate()
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _until_there(proxy: Proxy, child: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError):
            if all(line.up for line in proxy.lines().values()):
                return
        try:
            child.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        raise RtvcError(f"HAProxy ended with {child.returncode}: {log.read_text('utf-8')}")
    raise RtvcError(f"HAProxy does not see both servers up; see {log}")
