"""A collector of traces on loopback: takes OTLP over HTTP and keeps what came.

python -m tests.otlp_receiver --port 4318      takes everything and keeps nothing
"""

import argparse
import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Event, Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

PATIENCE_S = 20.0


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as the collector has it."""

    name: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    resource: dict[str, Any]

    @property
    def duration_ms(self) -> float:
        return (self.end_ns - self.start_ns) / 1e6


@dataclass(frozen=True)
class ReceivedTurn:
    """One trace."""

    root: ReceivedSpan
    below: list[ReceivedSpan]

    @property
    def item_id(self) -> str:
        return str(self.root.attributes["rtvc.item.id"])

    @property
    def felt(self) -> list[ReceivedSpan]:
        return [span for span in self.below if not span.attributes["rtvc.hidden"]]

    @property
    def hidden(self) -> list[ReceivedSpan]:
        return [span for span in self.below if span.attributes["rtvc.hidden"]]


@dataclass
class Collector:
    """What a running receiver got, and how it answers."""

    url: str
    status: int = 200
    """Of its answers."""
    open: Event = field(default_factory=Event)
    """Not set: it reads a request and does not answer."""
    spans: list[ReceivedSpan] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of each request, names in lower case."""
    paths: list[str] = field(default_factory=list)
    changed: Condition = field(default_factory=Condition)

    def turns(self) -> list[ReceivedTurn]:
        roots = [span for span in self.spans if not span.parent_id]
        return [
            ReceivedTurn(root, [span for span in self.spans if span.parent_id == root.span_id])
            for root in roots
        ]

    def wait_for_turns(self, count: int) -> list[ReceivedTurn]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.turns()) >= count, PATIENCE_S)
        return self.turns()

    def took(self, path: str, headers: dict[str, str], body: bytes) -> None:
        with self.changed:
            self.paths.append(path)
            self.headers.append(headers)
            self.changed.notify_all()
        self.open.wait(PATIENCE_S)
        if self.status == 200:
            found = _spans(gzip.decompress(body) if "content-encoding" in headers else body)
            with self.changed:
                self.spans.extend(found)
                self.changed.notify_all()


def _spans(body: bytes) -> list[ReceivedSpan]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        ReceivedSpan(
            name=span.name,
            trace_id=span.trace_id,
            span_id=span.span_id,
            parent_id=span.parent_span_id,
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            attributes=_values(span.attributes),
            resource=_values(group.resource.attributes),
        )
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Any:
    kind = pair.value.WhichOneof("value")
    return None if kind is None else getattr(pair.value, kind)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    collector: Collector | None = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        assert isinstance(self.server, _Server)
        collector = self.server.collector
        if collector is not None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            collector.took(self.path, headers, body)
        self.send_response(200 if collector is None else collector.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def collecting() -> Iterator[Collector]:
    """A receiver on a free port."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        collector = server.collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        collector.open.set()
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield collector
        finally:
            collector.open.set()
            server.shutdown()
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=4318)
    with _Server(("127.0.0.1", parser.parse_args().port), _Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
