"""What a server tells Prometheus, read beside a run: its side of the story, second by second."""

import http.client
import math
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from rtvc.api_key import bearer

TIMEOUT_S = 2.0
LARGEST_BYTES = 1 << 20
"""A longer answer is not read: it is no small server's metrics."""
_LEFT_OUT = ("_bucket", "_created")


def readings(text: str) -> Iterator[tuple[str, float]]:
    """Name with its labels, and value; without the buckets of histograms.

    Format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format

    >>> list(readings('# HELP a_s help\\na_s 0.5\\nb_bucket{le="1"} 3\\nc_total{kind="x y"} 2 1e9'))
    [('a_s', 0.5), ('c_total{kind="x y"}', 2.0)]
    """
    for line in text.splitlines():
        name, values = _split(line.strip())
        if not name or name.partition("{")[0].endswith(_LEFT_OUT):
            continue
        try:
            value = float(values.split()[0])
        except (ValueError, IndexError):
            continue
        if math.isfinite(value):
            yield name, value


def _split(line: str) -> tuple[str, str]:
    """Name with labels, which may hold spaces, and what follows."""
    if line.startswith("#"):
        return "", ""
    if "{" in line:
        labelled, closed, values = line.rpartition("}")
        return labelled + closed, values
    name, _, values = line.partition(" ")
    return name, values


class ServerMetrics:
    """One address, read again and again over one connection."""

    def __init__(self, url: str, *, insecure: bool = False, api_key: str | None = None) -> None:
        self._parts = urlsplit(url)
        self._insecure = insecure
        self._headers = {"Accept": "text/plain", **bearer(api_key)}
        self._connection: http.client.HTTPConnection | None = None
        self.offered = True
        """Whether it answered with metrics so far; one that did not need not be asked again."""

    def read(self) -> list[tuple[str, float]]:
        """The readings of now; none if the server did not answer in time."""
        try:
            found = self._get()
        except (OSError, http.client.HTTPException):
            self.close()
            return []
        self.offered = found is not None
        return found or []

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _get(self) -> list[tuple[str, float]] | None:
        """None: it has no metrics for us."""
        connection = self._connected()
        connection.request("GET", self._parts.path or "/", headers=self._headers)
        answer = connection.getresponse()
        body = answer.read(LARGEST_BYTES + 1)
        if answer.status != http.client.OK or len(body) > LARGEST_BYTES:
            self.close()
            return None
        return list(readings(body.decode("utf-8", "replace"))) or None

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            host, port = self._parts.hostname or "", self._parts.port
            if self._parts.scheme in ("https", "wss"):
                trust = ssl._create_unverified_context() if self._insecure else None
                self._connection = http.client.HTTPSConnection(
                    host, port, timeout=TIMEOUT_S, context=trust
                )
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        return self._connection
