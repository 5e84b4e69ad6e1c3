"""The server's own metrics beside a run: read where there are any, and never in its way."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.loadtest.speakers.scrape import LARGEST_BYTES, ServerMetrics, readings


@contextmanager
def served(status: int, body: str) -> Iterator[str]:
    """A server with one answer for everyone."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = body.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


METRICS = """# HELP rtvc_sessions Sessions open.
# TYPE rtvc_sessions gauge
rtvc_sessions 3
rtvc_stage_seconds_bucket{stage="decode",le="0.1"} 7
rtvc_stage_seconds_sum{stage="decode"} 1.25
rtvc_stage_seconds_created{stage="decode"} 1.7e9
rtvc_headroom_sessions NaN
odd line that is none
"""


def test_gauges_and_sums_are_kept_with_their_labels() -> None:
    with served(200, METRICS) as url:
        metrics = ServerMetrics(url)
        for _ in range(2):
            assert dict(metrics.read()) == {
                "rtvc_sessions": 3.0,
                'rtvc_stage_seconds_sum{stage="decode"}': 1.25,
            }
        assert metrics.offered
        metrics.close()


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, METRICS), (200, "<html>hello</html>"), (200, "a 1\n" * (LARGEST_BYTES // 4 + 1))],
)
def test_a_server_without_metrics_is_not_asked_for_ever(status: int, body: str) -> None:
    with served(status, body) as url:
        metrics = ServerMetrics(url)
        assert metrics.read() == []
        assert not metrics.offered
        metrics.close()


def test_a_server_that_is_gone_for_a_moment_is_asked_again() -> None:
    with served(200, METRICS) as url:
        metrics = ServerMetrics(url)
        assert metrics.read()
    assert metrics.read() == []
    assert metrics.offered
    metrics.close()


@given(st.text())
def test_no_text_is_too_odd(text: str) -> None:
    for name, value in readings(text):
        assert name
        assert value - value == 0
