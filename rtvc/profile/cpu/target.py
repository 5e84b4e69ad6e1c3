"""Which process to sample: the one that listens at a URL, or a container's first."""

import shutil
import socket
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

import psutil

from rtvc.errors import ProfileError, UsageError, why
from rtvc.profile.target import NoAnswer

_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}

DOCKER_S = 15.0
"""For docker to answer."""


def host_and_port(url: str) -> tuple[str, int]:
    """
    >>> host_and_port("ws://localhost:8000/v1/realtime"), host_and_port("https://[::1]/")
    (('localhost', 8000), ('::1', 443))
    >>> host_and_port("localhost:8000")
    ('localhost', 8000)
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        port = None
    if not parts.hostname or port is None:
        raise UsageError(f"expected a URL such as ws://localhost:8000, got {url!r}")
    return parts.hostname, port


def pid_of_url(url: str) -> int:
    """The process on this machine that listens at the URL's port.

    Raises:
        UsageError: it is another machine's.
        NoAnswer: nobody listens there.
        ProfileError: who listens is not told.
    """
    host, port = host_and_port(url)
    if not _is_here(host):
        raise UsageError(
            f"{host} is another machine, and a process is sampled on its own: run "
            f"rtvc profile cpu --url {url} there"
        )
    pids = _listening(port)
    if not pids:
        raise NoAnswer(
            f"no server answers at {url}: nothing listens on port {port} of this machine"
        )
    return first_of_family(pids)


def _is_here(host: str) -> bool:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise UsageError(f"cannot find {host}: {why(error)}") from None
    own = {
        address.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
    }
    return all(each in own or each.startswith("127.") or each == "::1" for each in found)


def _listening(port: int) -> set[int]:
    """Processes that accept connections on a port."""
    refused = f"who listens on port {port} is not told to this user: use sudo, or give --pid"
    try:
        sockets = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        raise ProfileError(refused) from None
    here = [
        each
        for each in sockets
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port
    ]
    pids = {each.pid for each in here if each.pid}
    if here and not pids:
        raise ProfileError(refused)
    for pid in pids:
        _refuse_forwarder(pid, port)
    return pids


def _refuse_forwarder(pid: int, port: int) -> None:
    with suppress(psutil.Error):
        name = psutil.Process(pid).name()
        if name.startswith(("docker-proxy", "com.docker", "rootlessport")):
            raise UsageError(
                f"port {port} belongs to a container ({name} forwards it): give --container NAME"
            )


def first_of_family(pids: Iterable[int]) -> int:
    """Workers share their parent's socket: the parent stands for all of them."""
    candidates = sorted(pids)
    for pid in candidates:
        with suppress(psutil.Error):
            if not {parent.pid for parent in psutil.Process(pid).parents()} & set(candidates):
                return pid
    return candidates[0]


def pid_of_container(name: str) -> int:
    """The first process of a running container, by its id on this machine.

    Raises:
        UsageError: there is no such container, or it does not run.
        ProfileError: docker is not here, does not answer, or runs on another machine.
    """
    docker = shutil.which("docker")
    if docker is None:
        raise ProfileError(
            "expected docker on the PATH for --container; without it, give --pid of the server, "
            "or run rtvc profile cpu --pid 1 inside the container"
        )
    asked = [docker, "inspect", "--format", "{{.State.Pid}}", "--", name]
    try:
        answer = subprocess.run(
            asked, capture_output=True, timeout=DOCKER_S, check=False, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProfileError(f"docker did not answer: {why(error)}") from None
    pid = pid_said(name, answer.returncode, answer.stdout, answer.stderr)
    if not psutil.pid_exists(pid):
        raise ProfileError(
            f"process {pid} of container {name} is not on this machine (Docker Desktop runs "
            "containers in one of its own): run rtvc profile cpu --pid 1 inside the container"
        )
    return pid


def pid_said(name: str, code: int, output: str, complaint: str) -> int:
    """The pid in docker's answer.

    >>> pid_said("voice", 0, "4711\\n", "")
    4711
    """
    if code != 0 or not output.strip().isdigit():
        said = " ".join(complaint.split()) or f"docker answered {output.strip()!r}"
        raise UsageError(f"cannot inspect container {name}: {said}")
    if int(output) == 0:
        raise UsageError(f"container {name} is not running")
    return int(output)
