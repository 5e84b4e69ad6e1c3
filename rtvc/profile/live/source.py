"""Where the figures come from: `/metrics` and `/v1/sessions` of a server, GPUs of this machine."""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import psutil

from rtvc.api_key import bearer
from rtvc.clock import Clock
from rtvc.errors import RtvcError
from rtvc.instruments.gpu import GpuSample, NoGpu, open_gpus
from rtvc.profile.cpu.target import host_and_port
from rtvc.profile.live.exposition import key, parse
from rtvc.profile.live.watch import Missing
from rtvc.profile.live.window import Scrape
from rtvc.profile.target import http_address, no_answer, untrusted

TIMEOUT_S = 2.0
"""For one answer; a server that is longer silent is away."""

OURS = key("rtvc_ready")
"""A metric that every server of rtvc's has."""

Gpus = Callable[[], tuple[GpuSample, ...]]


class Source:
    """One server, asked again and again over one kept connection."""

    def __init__(
        self,
        target: str,
        clock: Clock,
        *,
        gpus: Gpus = tuple,
        insecure: bool = False,
        api_key: str | None = None,
    ) -> None:
        """`insecure`: its certificate is not checked."""
        self.url = http_address(target, "/").rstrip("/")
        self._clock = clock
        self._gpus = gpus
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        self._client = httpx.Client(
            timeout=TIMEOUT_S, limits=limits, verify=not insecure, headers=bearer(api_key)
        )

    def close(self) -> None:
        self._client.close()

    def read(self) -> Scrape | Missing:
        """Everything now, or why there is nothing."""
        url = f"{self.url}/metrics"
        try:
            answer = self._get(url)
        except httpx.HTTPError as error:
            hopeless = untrusted(str(error)) is not None
            return Missing(no_answer(self.url, error, _late(error)), hopeless=hopeless)
        if answer.is_server_error:
            return Missing(f"{url} answers HTTP {answer.status_code}")
        if answer.status_code != httpx.codes.OK:
            return Missing(f"{url} answers HTTP {answer.status_code}: no metrics", foreign=True)
        try:
            metrics = parse(answer.text)
        except RtvcError as error:
            return Missing(f"{url}: {error}", foreign=True)
        if OURS not in metrics.gauges:
            return Missing(f"{url} has none of rtvc's metrics", foreign=True)
        return Scrape(self._clock.now(), metrics, self._sessions(), self._gpus())

    def _get(self, url: str) -> httpx.Response:
        """Once more if the kept connection was closed in the very moment of asking."""
        try:
            return self._client.get(url)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            return self._client.get(url)

    def _sessions(self) -> Any:
        try:
            answer = self._get(f"{self.url}/v1/sessions")
            return answer.json() if answer.status_code == httpx.codes.OK else None
        except (httpx.HTTPError, ValueError):
            return None


def _late(error: httpx.HTTPError) -> str | None:
    late = isinstance(error, httpx.TimeoutException)
    return f"nothing came within {TIMEOUT_S:g} s" if late else None


def gpus_of(url: str, clock: Clock) -> tuple[Gpus, str | None, Callable[[], None]]:
    """How to read the GPUs of the server's machine, why they cannot be read, and how to end it."""
    if not on_this_machine(url):
        return tuple, "the server is on another machine: run this there to see its GPU", _nothing
    opened = open_gpus(clock)
    if isinstance(opened, NoGpu):
        return tuple, opened.reason, _nothing
    return opened.sample, None, opened.close


def _nothing() -> None:
    """There is nothing to close."""


def on_this_machine(url: str) -> bool:
    """Whether the server's process runs here, as far as can be told.

    A loopback address on which ssh listens leads to another machine.
    """
    host, port = host_and_port(url)
    try:
        found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    own = {
        address.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
    }
    here = all(each in own or each.startswith("127.") or each == "::1" for each in found)
    return here and not any(name.startswith("ssh") for name in _listeners(port))


def _listeners(port: int) -> set[str]:
    """Names of the processes that accept connections on a port; those that are told."""
    names = set()
    with suppress(psutil.Error, OSError):
        for each in psutil.net_connections("tcp"):
            listens = each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port
            if listens and each.pid:
                with suppress(psutil.Error):
                    names.add(psutil.Process(each.pid).name())
    return names
