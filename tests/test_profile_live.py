"""The live view: windows over scrapes, what they say, and that it fits whatever terminal."""

import asyncio
import fcntl
import json
import math
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from rtvc.cli import build_app
from rtvc.clock import FakeClock, SystemClock
from rtvc.config import child_environment
from rtvc.errors import RtvcError, UsageError
from rtvc.instruments.gpu import GpuSample, GpuSampler, open_gpus
from rtvc.profile.live import screen as drawing
from rtvc.profile.live.exposition import Buckets, key, parse
from rtvc.profile.live.plain import COLUMNS, heading, line, to_json
from rtvc.profile.live.source import Source, on_this_machine
from rtvc.profile.live.table import Column, beside, table, wrapped
from rtvc.profile.live.view import View, session_lines, view_of
from rtvc.profile.live.watch import PATIENCE_S, Missing, Status, Watch
from rtvc.profile.live.window import Scrape, Times, Window, quantile
from rtvc.stats import supports
from tests.nvml_fake import FakeNvml
from tests.realtime_peer import session, silence, speech

EDGES = (0.1, 0.2, 0.3, 0.5, 1.0)
DELAY = "rtvc_transcription_delay_seconds"


def histogram(name: str, values: Iterable[float], **labels: str) -> str:
    """As the server exposes it."""
    values = list(values)
    own = ",".join(f'{label}="{value}"' for label, value in labels.items())
    lines = [f"# TYPE {name} histogram"] if not labels else []
    for edge in (*EDGES, math.inf):
        le = "+Inf" if math.isinf(edge) else repr(edge)
        count = sum(value <= edge for value in values)
        lines.append(f'{name}_bucket{{{own}{"," if own else ""}le="{le}"}} {count}')
    shown = f"{{{own}}}" if own else ""
    return "\n".join(
        [*lines, f"{name}_count{shown} {len(values)}", f"{name}_sum{shown} {math.fsum(values)}"]
    )


def metrics(
    delays: Iterable[float] = (),
    *,
    sessions: int = 4,
    headroom: float | None = 8.6,
    state: str = "ready",
    restarts: int = 0,
    failed: int = 0,
    cpu_s: float = 10.0,
    backlog_s: float = 0.0,
    jobs: int = 0,
) -> str:
    """What a small server would expose; all counts since its start."""
    delays = list(delays)
    ready = int(state == "ready")
    parts = [
        f"# TYPE rtvc_ready gauge\nrtvc_ready {ready}",
        '# TYPE rtvc_build_info gauge\nrtvc_build_info{version="9.8"} 1',
        f"# TYPE rtvc_open_sessions gauge\nrtvc_open_sessions {sessions}",
        "# TYPE rtvc_max_sessions gauge\nrtvc_max_sessions 16",
        "# TYPE rtvc_headroom_sessions gauge",
        "" if headroom is None else f"rtvc_headroom_sessions {headroom}",
        "# TYPE rtvc_refused_sessions_total counter\nrtvc_refused_sessions_total 0",
        histogram(DELAY, delays),
        "# TYPE rtvc_turn_stage_seconds histogram",
        histogram("rtvc_turn_stage_seconds", delays, stage="endpoint_wait", path="felt"),
        histogram("rtvc_turn_stage_seconds", (), stage="turn_model", path="felt"),
        histogram("rtvc_turn_stage_seconds", [0.05] * len(delays), stage="decode", path="hidden"),
        "# TYPE rtvc_engine_state gauge",
        *(
            f'rtvc_engine_state{{state="{one}"}} {int(one == state)}'
            for one in ("loading", "ready", "restarting", "failed")
        ),
        "# TYPE rtvc_engine_info gauge",
        'rtvc_engine_info{model="selftest",device="cpu",compute_type="int8",sharing="shared"} 1',
        f"# TYPE rtvc_engine_restarts_total counter\nrtvc_engine_restarts_total {restarts}",
        "# TYPE rtvc_engine_jobs_total counter",
        f'rtvc_engine_jobs_total{{outcome="failed"}} {failed}',
        f"# TYPE rtvc_engine_queued_jobs gauge\nrtvc_engine_queued_jobs {jobs}",
        f"# TYPE rtvc_engine_backlog_seconds gauge\nrtvc_engine_backlog_seconds {backlog_s}",
        "# TYPE rtvc_engine_inference_seconds histogram",
        histogram("rtvc_engine_inference_seconds", delays, kind="final"),
        "# TYPE rtvc_inbox_backlog_seconds gauge\nrtvc_inbox_backlog_seconds 0.12",
        "# TYPE rtvc_inbox_backlog_max_seconds gauge\nrtvc_inbox_backlog_max_seconds 0.1",
        "# TYPE rtvc_unsent_messages gauge\nrtvc_unsent_messages 3",
        histogram("rtvc_event_loop_lag_seconds", [0.01] * 20 * (len(delays) + 1)),
        "# TYPE rtvc_event_loop_lag_max_seconds gauge\nrtvc_event_loop_lag_max_seconds 0.012",
        "# TYPE rtvc_usable_cpus gauge\nrtvc_usable_cpus 8",
        '# TYPE rtvc_processes gauge\nrtvc_processes{process="server"} 1',
        "# TYPE rtvc_process_cpu_seconds_total counter",
        f'rtvc_process_cpu_seconds_total{{process="server"}} {cpu_s}',
        "# TYPE rtvc_process_resident_memory_bytes gauge",
        'rtvc_process_resident_memory_bytes{process="server"} 123000000',
    ]
    return "\n".join(filter(None, parts)) + "\n"


def sessions_body(count: int = 2, **more: Any) -> dict[str, Any]:
    """As the server's /v1/sessions."""
    listed = [
        {
            "id": f"sess_{number:08d}cafe",
            "protocol": "openai-realtime",
            "age_s": 10.0 * number + 1,
            "speaking": number == 0,
            "replying": number == 1,
            "utterances": number,
            "audio_backlog_s": 0.1,
            "unsent_messages": 1,
            **more,
        }
        for number in range(count)
    ]
    return {
        "sessions": listed,
        "queues": [{"name": "inbox", "depth": 6, "oldest_age_s": 0.3, "dropped": 0}],
    }


def scrape(at_s: float, text: str, **more: Any) -> Scrape:
    return Scrape(at_s, parse(text), **more)


def window_of(*scrapes: Scrape) -> Window:
    window = Window()
    for each in scrapes:
        window.add(each)
    return window


def status_of(view: View | None, **more: Any) -> Status:
    known: dict[str, Any] = {
        "url": "http://box:8000",
        "at_s": 12.0,
        "interval_s": 1.0,
        "view": view,
        "missing": None,
        "missing_s": 0.0,
        "news": None,
        "no_gpu": "no NVIDIA driver here",
    }
    return Status(**{**known, **more})


def busy_view(turns: int = 120, sessions: int = 6, **more: Any) -> View:
    delays = [0.15 + 0.001 * number for number in range(turns)]
    scrapes = [
        scrape(
            float(second),
            metrics(delays[: turns * second // 30], cpu_s=10 + 0.5 * second, backlog_s=second / 10),
            sessions=sessions_body(sessions, transcription_delays_s=[0.2, 0.3]),
            **more,
        )
        for second in range(31)
    ]
    return view_of(window_of(*scrapes))


# Quantiles from buckets.

counts = st.lists(st.integers(0, 50), min_size=6, max_size=6).filter(any)
shares = st.floats(0, 1)


def buckets_of(per_bucket: list[int], total: float | None = None) -> Buckets:
    """`total` None: every value is at the upper edge of its bucket."""
    edges = (*EDGES, math.inf)
    most = math.fsum(count * min(edge, 9.0) for edge, count in zip(edges, per_bucket, strict=True))
    up_to = tuple(map(float, accumulate(per_bucket)))
    return Buckets(edges, up_to, most if total is None else total)


@given(counts, shares, shares)
def test_a_larger_quantile_is_never_smaller(
    per_bucket: list[int], one: float, other: float
) -> None:
    buckets = buckets_of(per_bucket)
    low, high = (quantile(buckets, q) for q in sorted((one, other)))
    assert high is None or (low is not None and low <= high)


@given(counts, shares)
def test_a_quantile_lies_in_the_bucket_of_its_value(per_bucket: list[int], q: float) -> None:
    buckets = buckets_of(per_bucket)
    found = quantile(buckets, q)
    rank = max(q * sum(per_bucket), 1e-12)
    at = next(at for at, count in enumerate(buckets.up_to) if count >= rank and per_bucket[at])
    low, high = (0.0, *EDGES)[at], buckets.edges[at]
    if math.isinf(high):
        assert found is None
    else:
        assert found is not None
        assert low <= found <= high


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=300), st.sampled_from([0.5, 0.95]))
def test_it_is_off_by_no_more_than_a_bucket(values: list[float], q: float) -> None:
    per_bucket = [sum(low < v <= high for v in values) for low, high in pairwise((0.0, *EDGES))]
    buckets = buckets_of([*per_bucket, 0], math.fsum(values))
    found = quantile(buckets, q)
    true = sorted(values)[max(0, math.ceil(q * len(values) - 1e-9) - 1)]
    at = next(at for at, edge in enumerate(EDGES) if true <= edge)
    assert found is not None
    assert (0.0, *EDGES)[at] <= found <= EDGES[at]


@given(counts, shares, shares, st.floats(0, 200))
def test_the_sum_moves_a_quantile_only_within_its_bucket(
    per_bucket: list[int], one: float, other: float, total: float
) -> None:
    """Whatever is made of the sum, a larger quantile is never smaller."""
    buckets = buckets_of(per_bucket, total)
    low, high = (quantile(buckets, q) for q in sorted((one, other)))
    assert high is None or (low is not None and low <= high)
    plain = quantile(buckets_of(per_bucket, math.inf), one)
    found = quantile(buckets, one)
    assert (plain is None) == (found is None)
    assert found is None or plain is None or found <= plain


def test_values_at_the_edge_of_a_wide_bucket_are_not_put_in_its_middle() -> None:
    told = Times.of(buckets_of([0, 0, 0, 27, 0, 0], 27 * 0.3002))
    assert told.p50_s == pytest.approx(0.3004)


@given(counts)
def test_nothing_is_told_that_n_does_not_support(per_bucket: list[int]) -> None:
    times = Times.of(buckets_of(per_bucket))
    assert times.n == sum(per_bucket)
    for q, told in ((0.5, times.p50_s), (0.95, times.p95_s), (0.99, times.p99_s)):
        assert told is None or supports(times.n, q)
    beyond = per_bucket[-1] > 0
    assert (times.more_than_s is not None) == beyond
    assert (times.at_most_s is None) == beyond


def test_without_values_there_is_nothing() -> None:
    assert Times.of(None) == Times(0, None, None, None, None, None, None)
    assert quantile(buckets_of([0] * 6), 0.5) is None


# Windows.


def test_a_window_tells_what_happened_in_it() -> None:
    window = window_of(scrape(0.0, metrics([0.25] * 50)), scrape(5.0, metrics([0.25] * 62)))
    added = window.histogram(DELAY)
    assert added is not None
    assert added.n == 12
    assert added.total == pytest.approx(3.0)
    assert window.span_s == 5.0
    assert window.gauge("rtvc_open_sessions") == 4
    assert window.gauge("rtvc_no_such_thing") is None
    assert window.histogram("rtvc_no_such_thing") is None


def test_of_one_scrape_nothing_has_happened() -> None:
    window = window_of(scrape(0.0, metrics([0.25] * 50)))
    assert window.histogram(DELAY) is None
    assert window.count("rtvc_engine_restarts_total") is None
    assert view_of(window).delay.verdict == "no turns"


def test_a_minute_is_a_minute() -> None:
    scrapes = [scrape(float(at), metrics([0.25] * at)) for at in range(0, 200, 10)]
    window = window_of(*scrapes)
    added = window.histogram(DELAY)
    assert added is not None
    assert (window.span_s, added.n) == (60.0, 60)


def test_rare_readings_still_span_one_of_them() -> None:
    window = window_of(*(scrape(70.0 * at, metrics([0.25] * at)) for at in range(4)))
    added = window.histogram(DELAY)
    assert added is not None
    assert (window.span_s, added.n) == (70.0, 1)


def test_a_restart_is_no_negative_count() -> None:
    before = scrape(0.0, metrics([0.25] * 50, cpu_s=100.0))
    later = scrape(1.0, metrics([0.25] * 55, cpu_s=101.0))
    fresh = scrape(2.0, metrics([0.45] * 3, cpu_s=2.0))
    window = window_of(before, later, fresh, scrape(3.0, metrics([0.45] * 4, cpu_s=2.5)))
    added = window.histogram(DELAY)
    assert added is not None
    assert added.n == 5 + 4
    assert added.above(0.3) == 4
    assert (window.restarts, window.restarted_at_s) == (1, 2.0)
    assert window.rates("rtvc_process_cpu_seconds_total", process="server") == [1.0, 2.0, 0.5]
    assert view_of(window).restarted_s == 1.0


def test_a_count_that_has_overtaken_its_old_value_is_recognised_by_the_others() -> None:
    window = window_of(
        scrape(0.0, metrics([0.25] * 5, cpu_s=100.0)),
        scrape(1.0, metrics([0.25] * 9, cpu_s=3.0)),
        scrape(2.0, metrics([0.25] * 9, cpu_s=3.0)),
    )
    added = window.histogram(DELAY)
    assert added is not None
    assert added.n == 9


runs = st.lists(
    st.tuples(st.lists(st.floats(0, 2), max_size=4), st.booleans()), min_size=2, max_size=12
)


@settings(deadline=None, max_examples=60)
@given(runs)
def test_what_is_counted_is_what_was_added(steps: list[tuple[list[float], bool]]) -> None:
    """Whatever restarts there are: the sum of what each scrape added to the one before."""
    total: list[float] = []
    expected, starts, cpu_s = 0, 1, 100.0
    window = Window(1e9)
    for at, (new, restart) in enumerate(steps):
        if restart and at:
            # A restart that no count shows is none that could be seen.
            starts += 1
            total, cpu_s = [], 100.0 / starts
        total = total + new
        cpu_s += 0.01
        window.add(scrape(float(at), metrics(total, cpu_s=cpu_s)))
        expected += len(new) if at else 0
    added = window.histogram(DELAY)
    assert added is not None
    assert added.n == expected
    assert all(one <= other for one, other in pairwise(added.up_to))
    assert added.total >= -1e-9


def test_a_rate_is_of_the_last_seconds() -> None:
    cpu = [0.0, *(0.5 * min(at, 20) + 2.0 * max(0, at - 20) for at in range(1, 41))]
    scrapes = [scrape(float(at), metrics(cpu_s=value)) for at, value in enumerate(cpu)]
    assert window_of(*scrapes).rate("rtvc_process_cpu_seconds_total", process="server") == 2.0
    slow = window_of(*scrapes[::30])
    assert slow.rate("rtvc_process_cpu_seconds_total", process="server") == pytest.approx(1.0)


def test_the_largest_of_each_interval_is_told_by_its_bucket() -> None:
    lag = "rtvc_event_loop_lag_seconds"
    texts = [
        histogram(lag, lags) for lags in ([0.05], [0.05, 0.15], [0.05, 0.15], [9.0], [9.0] * 2)
    ]
    window = window_of(*(scrape(float(at), text) for at, text in enumerate(texts)))
    assert window.largest(lag) == [0.2, None, 1.0, 1.0]
    assert window.largest("rtvc_no_such_thing") == [None] * 4


def test_another_format_is_refused() -> None:
    with pytest.raises(RtvcError, match="expected metrics in Prometheus's text format"):
        parse("<html>{hello}")


def test_infinite_gauges_are_unknown() -> None:
    read = parse("# TYPE a gauge\na NaN\n# TYPE b gauge\nb 2\n")
    assert read.gauges == {key("b"): 2.0}


# What it says.


def sentence(delays: list[float], **more: Any) -> str:
    return seen(delays, **more).sentence


def seen(delays: list[float], **more: Any) -> View:
    return view_of(window_of(scrape(0.0, metrics()), scrape(30.0, metrics(delays, **more))))


def test_the_sentence_of_a_server_that_is_well() -> None:
    view = seen([0.25] * 120)
    assert view.sentence == (
        "4 of 16 sessions, room for about 9 more; transcription delay p50 250 ms, p95 295 ms "
        "(n=120, last 30 s): within the 500 ms target; engine ready."
    )
    assert view.tone == "good"


@pytest.mark.parametrize(
    ("delays", "verdict", "words"),
    [
        ([], "no turns", "no turn ended in the last 30 s"),
        ([0.25] * 12, "within", "p50 250 ms, at most 300 ms (n=12, last 30 s): within"),
        (
            [0.25] * 8 + [0.7],
            "undecided",
            "at most 1 s (n=9, last 30 s), 1 above the 500 ms target",
        ),
        ([0.25] * 30 + [0.7], "undecided", "too few to judge p95"),
        ([0.25] * 95 + [0.7] * 5, "within", "p95"),
        ([0.25] * 94 + [0.7] * 6, "missed", "misses the 500 ms target, 6 above it"),
        ([0.7] * 12, "missed", "misses the 500 ms target, 12 above it"),
        ([7.0] * 12, "missed", "up to more than 1 s"),
    ],
)
def test_the_delay_is_judged_by_what_n_supports(
    delays: list[float], verdict: str, words: str
) -> None:
    view = seen(delays)
    assert view.delay.verdict == verdict
    assert words in view.sentence


def test_trouble_is_in_the_sentence() -> None:
    assert "headroom unknown" in sentence([], headroom=None)
    assert "4 of 16 sessions, room for 12 more;" in sentence([], headroom=400.0)
    assert "room for about 0 more" in sentence([], headroom=0.3)
    assert seen([], headroom=0.3).tone == "doubtful"
    assert sentence([], restarts=1).endswith("engine ready, restarted 1×.")
    assert seen([0.2] * 20, failed=2).tone == "bad"
    loading = seen([], state="loading")
    assert loading.sentence.endswith("engine loading; takes no sessions.")
    assert loading.tone == "doubtful"


def test_stages_are_those_that_occurred() -> None:
    view = seen([0.25] * 20)
    assert [(stage.name, stage.hidden) for stage in view.stages] == [
        ("endpoint_wait", False),
        ("decode", True),
    ]
    assert view.stages[0].per_turn_s == pytest.approx(0.25)


def test_sessions_are_read_the_oldest_first() -> None:
    lines = session_lines(sessions_body(3, transcription_delays_s=[0.2, None, 0.3]))
    assert lines is not None
    assert [one.id for one in lines] == ["00000002", "00000001", "00000000"]
    assert [one.state for one in lines] == ["listening", "replying", "speaking"]
    assert lines[0].delays_s == (0.2, 0.3)
    assert session_lines(None) is None
    assert session_lines({"detail": "Not Found"}) is None
    assert session_lines({"sessions": [{}]}) is not None


def test_queues_join_metrics_and_sessions() -> None:
    queues = {queue.name: queue for queue in busy_view().queues}
    inbox, inference, outbox = (queues[name] for name in ("inbox", "inference", "outbox"))
    assert (inbox.items, inbox.backlog_s, inbox.worst_s, inbox.oldest_s) == (6, 0.12, 0.1, 0.3)
    assert (inference.backlog_s, inference.oldest_s) == (3.0, None)
    assert inference.history[-2:] == (2.9, 3.0)
    assert (outbox.items, outbox.backlog_s) == (3.0, None)


def gpus() -> tuple[GpuSample, ...]:
    opened = open_gpus(FakeClock(), FakeNvml())
    assert isinstance(opened, GpuSampler)
    with opened:
        return opened.sample()


# Drawn.

sizes = st.tuples(st.integers(20, 220), st.integers(6, 70))


@pytest.fixture(scope="module")
def views() -> list[View]:
    empty = view_of(window_of(scrape(0.0, metrics(headroom=None))))
    bare = view_of(window_of(scrape(0.0, "# TYPE rtvc_ready gauge\nrtvc_ready 1\n")))
    return [busy_view(), busy_view(sessions=300), seen([7.0] * 12), empty, bare]


@settings(deadline=None, max_examples=80)
@given(size=sizes, number=st.integers(0, 4), gone=st.booleans())
def test_it_fits_any_terminal(
    views: list[View], size: tuple[int, int], number: int, gone: bool
) -> None:
    width, height = size
    missing = Missing("no server answers at http://box:8000: Connection refused")
    status = status_of(views[number], missing=missing if gone else None, missing_s=3.0)
    drawn = drawing.lines(status, width, height)
    assert len(drawn) <= height
    assert all(line.cell_len <= width for line in drawn)
    assert all("\n" not in line.plain for line in drawn)


def text_at(width: int, height: int, status: Status) -> str:
    return "\n".join(line.plain for line in drawing.lines(status, width, height))


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
def test_everything_is_there_at_the_usual_sizes(size: tuple[int, int]) -> None:
    drawn = text_at(*size, status_of(busy_view()))
    words = ["4 of 16 sessions", "engine ready", "endpoint_wait", "inbox", "inference", "outbox"]
    words += ["loop lag", "server", "final", "session", "speaking", "00000005", "no GPU", "q ends"]
    words += ["200 300"]
    assert [word for word in words if word not in drawn] == []
    assert "…" not in drawn


def test_a_gpu_is_drawn() -> None:
    drawn = text_at(160, 50, status_of(busy_view(gpus=gpus()), no_gpu=None))
    assert "GPU 0 busy 40 %" in drawn
    assert "1000 MB of 16.0 GB" in drawn
    assert "no GPU" not in drawn


def test_sessions_that_do_not_fit_are_counted() -> None:
    drawn = text_at(80, 24, status_of(busy_view(sessions=300)))
    shown = drawn.count("openai-realtime") or drawn.count("listening")
    left = next(int(line.split()[1]) for line in drawn.splitlines() if line.startswith("and "))
    assert left > 250
    assert shown >= 2


def test_a_server_that_is_gone_is_said_to_be() -> None:
    missing = Missing("no server answers at http://box:8000: Connection refused")
    drawn = text_at(100, 30, status_of(busy_view(), missing=missing, missing_s=12.0))
    assert drawn.startswith("gone for 12 s, no server answers at http://box:8000")
    assert "below is what it said last" in drawn
    never = text_at(100, 30, status_of(None, missing=missing))
    assert never.startswith("no server answers")
    assert "q ends" in never


def test_a_restart_is_said_for_a_minute() -> None:
    view = replace(busy_view(), restarted_s=7.0)
    assert text_at(80, 24, status_of(view)).startswith("the server was restarted 7 s ago")
    assert "restarted" not in text_at(80, 24, status_of(replace(view, restarted_s=61.0)))


def test_no_colour_is_needed_or_used_when_unwanted() -> None:
    console = Console(
        width=80, height=24, force_terminal=True, no_color=True, color_system="truecolor"
    )
    with console.capture() as captured:
        console.print(drawing.screen(status_of(busy_view()), 80, 24))
    colours = [f"\x1b[{number}m" for number in (31, 32, 33, 34, 35, 36)]
    assert not any(colour in captured.get() for colour in colours)
    assert "within the 500 ms target" in " ".join(captured.get().split())


def test_a_table_loses_its_least_columns_first() -> None:
    columns = [
        Column("name", ["inbox", "outbox"], right=False),
        Column("items", ["1", "200"], drop=1),
        Column("least", ["a", "b"], drop=2),
    ]
    assert [line.plain for line in table(columns, 80)] == [
        "name   items least",
        "inbox      1     a",
        "outbox   200     b",
    ]
    assert table(columns, 14)[0].plain == "name   items"
    assert table(columns, 8)[1].plain.rstrip() == "inbox"


def test_what_stands_beside_a_heading_keeps_its_own_style() -> None:
    (line,) = beside([Text("heading", "bold")], [Text("beside", "dim")], 40)
    bold = next(span for span in line.spans if span.style == "bold")
    assert (line.style, bold.end <= 20) == ("", True)


def test_a_number_stays_with_its_unit() -> None:
    lines = wrapped("the delay is 250 ms of 4 sessions", 16, "", 9)
    assert [line.plain for line in lines] == ["the delay is", "250 ms of 4", "sessions"]


# Lines and objects.


def test_columns_are_stable() -> None:
    there, gone = line(status_of(busy_view())), line(status_of(None, missing=Missing("x")))
    assert len(heading().split()) == len(there.split()) == len(gone.split()) == len(COLUMNS) + 1
    assert len(heading()) == len(there) == len(gone)
    figures = dict(zip(heading().split(), there.split(), strict=True))
    assert figures["at_s"] == "12.0"
    assert (figures["engine"], figures["sess"], figures["room"]) == ("ready", "4", "8.6")
    assert (figures["turns"], figures["over_500"]) == ("120", "0")
    assert (figures["jobs_s"], figures["cpus"], figures["mem_mb"]) == ("3.00", "0.50", "123")
    assert gone.split()[:3] == ["12.0", "gone", "-"]


def test_too_few_for_p95_is_marked() -> None:
    figures = dict(zip(heading().split(), line(status_of(seen([0.25] * 12))).split(), strict=True))
    assert (figures["p50_ms"], figures["p95_ms"]) == ("250", "<=300")


def test_an_object_has_what_is_known() -> None:
    said = json.loads(to_json(status_of(busy_view(gpus=gpus()))))
    assert said["there"] is True
    assert said["delay"]["times"]["n"] == 120
    assert said["queues"][1]["backlog_s"] == 3.0
    assert "history" not in said["queues"][1]
    assert said["gpus"][0]["now"]["busy_ratio"] == 0.4
    gone = json.loads(to_json(status_of(busy_view(), missing=Missing("away"))))
    assert (gone["there"], gone["reason"]) == (False, "away")
    assert "delay" not in gone


# The course of a watch.


def watched(
    outcomes: Iterable[str | Missing], *, duration_s: float | None = None, wait: Any = None
) -> list[Status]:
    """A reading a second; the last outcome stays."""
    clock = FakeClock(100.0)
    left = list(outcomes)
    shown: list[Status] = []

    def read() -> Scrape | Missing:
        now = left.pop(0) if len(left) > 1 else left[0]
        return now if isinstance(now, Missing) else scrape(clock.now(), now)

    def until(until_s: float) -> bool:
        clock.advance(max(0.0, until_s - clock.now()))
        return True

    watch = Watch("http://box:8000", clock, 1.0)
    watch.run(read, shown.append, wait or until, duration_s)
    return shown


GONE = Missing("no server answers at http://box:8000: Connection refused")


def test_a_watch_ends_by_itself() -> None:
    shown = watched([metrics()], duration_s=3.0)
    assert [status.at_s for status in shown] == [0.0, 1.0, 2.0, 3.0]
    assert [status.news for status in shown] == [None] * 4


def test_a_server_goes_and_comes_back() -> None:
    outcomes: list[str | Missing] = [
        metrics(cpu_s=50.0),
        GONE,
        GONE,
        metrics(cpu_s=1.0),
        metrics(cpu_s=2.0),
    ]
    shown = watched(outcomes, duration_s=4.0)
    assert [status.missing is None for status in shown] == [True, False, False, True, True]
    assert [status.missing_s for status in shown] == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert [status.news for status in shown] == [
        None,
        f"{GONE.reason}; asked again every 1 s",
        None,
        "the server is there, restarted, after 2 s",
        None,
    ]
    assert shown[2].view is not None


def test_a_server_that_starts_late_is_waited_for() -> None:
    shown = watched([GONE, GONE, metrics()], duration_s=5.0)
    assert shown[0].view is None
    assert shown[2].news == "the server is there, after 2 s"


@pytest.mark.parametrize("duration_s", [None, 3.0])
def test_a_server_that_was_never_there_is_an_error(duration_s: float | None) -> None:
    shown: list[Status] = []
    with pytest.raises(UsageError, match="expected rtvc's server, but no server answers"):
        shown = watched([GONE], duration_s=duration_s)
    assert shown == []


def test_patience_ends() -> None:
    clock, asked = FakeClock(), []

    def read() -> Missing:
        asked.append(clock.now())
        return GONE

    def until(until_s: float) -> bool:
        clock.advance(until_s - clock.now())
        return True

    with pytest.raises(UsageError):
        Watch("http://box", clock, 1.0).run(read, lambda status: None, until, None)
    assert asked[-1] == PATIENCE_S


def test_ending_before_the_server_came_is_an_error_too() -> None:
    with pytest.raises(UsageError):
        watched([GONE], wait=lambda until_s: False)


def test_another_server_is_told_at_once_what_works_there() -> None:
    foreign = Missing("http://box:8000/metrics answers HTTP 404: no metrics", foreign=True)
    with pytest.raises(UsageError, match=r"HTTP 404.*profile tap.*profile logs.*profile cpu"):
        watched([foreign])


def test_another_server_in_the_place_of_ours_is_gone() -> None:
    foreign = Missing("http://box:8000/metrics answers HTTP 404: no metrics", foreign=True)
    shown = watched([metrics(), foreign, metrics()], duration_s=2.0)
    assert [status.missing is None for status in shown] == [True, False, True]


# Over HTTP.


class Answers:
    """What the stub answers, and how often it was connected to."""

    def __init__(self, pages: dict[str, tuple[int, str]]) -> None:
        self.pages = pages
        self.connections: list[socket.socket] = []


@contextmanager
def a_server(pages: dict[str, tuple[int, str]]) -> Iterator[tuple[str, Answers]]:
    """A small HTTP server that keeps connections, as ours does."""
    answers = Answers(pages)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            answers.connections.append(self.request)
            super().setup()

        def do_GET(self) -> None:
            code, text = answers.pages.get(self.path, (404, "{}"))
            body = text.encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *ignored: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", answers
        finally:
            server.shutdown()
            for connection in answers.connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            thread.join()


def our_pages(**more: Any) -> dict[str, tuple[int, str]]:
    return {
        "/metrics": (200, metrics([0.25] * 20, **more)),
        "/v1/sessions": (200, json.dumps(sessions_body())),
    }


@contextmanager
def a_source(url: str) -> Iterator[Source]:
    source = Source(url, SystemClock())
    try:
        yield source
    finally:
        source.close()


@pytest.mark.parametrize("path", ["", "/v1/realtime?rtvc=1", "/ws"])
def test_one_connection_is_kept_whatever_is_pointed_at(path: str) -> None:
    with a_server(our_pages()) as (url, answers), a_source(url.replace("http", "ws") + path) as own:
        for _ in range(3):
            read = own.read()
            assert isinstance(read, Scrape)
            assert read.sessions["sessions"][0]["utterances"] == 0
        assert len(answers.connections) == 1
        assert own.url == url


@pytest.mark.parametrize(
    ("pages", "reason", "foreign"),
    [
        ({}, "HTTP 404: no metrics", True),
        ({"/metrics": (200, "# TYPE up gauge\nup 1\n")}, "none of rtvc's metrics", True),
        ({"/metrics": (200, "<html>{")}, "Prometheus's text format", True),
        ({"/metrics": (503, "")}, "HTTP 503", False),
    ],
)
def test_what_is_not_ours_is_told_apart(
    pages: dict[str, tuple[int, str]], reason: str, foreign: bool
) -> None:
    with a_server(pages) as (url, _), a_source(url) as source:
        read = source.read()
    assert isinstance(read, Missing)
    assert reason in read.reason
    assert read.foreign is foreign


def test_without_sessions_the_rest_is_shown() -> None:
    pages = {"/metrics": our_pages()["/metrics"]}
    with a_server(pages) as (url, _), a_source(url) as source:
        read = source.read()
    assert isinstance(read, Scrape)
    assert read.sessions is None
    drawn = text_at(80, 24, status_of(view_of(window_of(read))))
    assert "the server does not tell" in drawn


def test_a_server_comes_back_on_the_same_source() -> None:
    with a_server(our_pages()) as (url, _):
        source = Source(url, SystemClock())
        assert isinstance(source.read(), Scrape)
    try:
        gone = source.read()
        assert isinstance(gone, Missing)
        assert gone.reason.startswith(f"no server answers at {url}: ")
        assert not gone.foreign
    finally:
        source.close()


def test_this_machine_is_recognised() -> None:
    assert on_this_machine("http://127.0.0.1:9")
    assert not on_this_machine("http://192.0.2.7:8000")


# The command.


def run_cli(*arguments: str) -> Any:
    words = ["profile", "live", *arguments]
    return CliRunner().invoke(build_app(words), words, catch_exceptions=True)


def test_without_a_terminal_there_are_lines() -> None:
    with a_server(our_pages()) as (url, _):
        done = run_cli(url, "--duration", "1", "--interval", "0.5")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == heading()
    assert len(lines) == 4
    assert all(len(row.split()) == len(COLUMNS) + 1 for row in lines)
    assert done.stderr.count("no GPU") <= 1


def test_objects_a_line() -> None:
    with a_server(our_pages()) as (url, _):
        done = run_cli(url, "--duration", "0.5", "--interval", "0.5", "--json")
    said = [json.loads(row) for row in done.stdout.splitlines()]
    assert [one["there"] for one in said] == [True, True]
    assert said[0]["url"] == url


def test_nobody_there_exits_2() -> None:
    done = run_cli("127.0.0.1:9", "--duration", "0.5")
    assert isinstance(done.exception, UsageError)
    assert "no server answers at http://127.0.0.1:9: " in str(done.exception)
    assert done.exception.exit_code == 2


def test_another_server_exits_2_and_names_what_works() -> None:
    with a_server({"/": (200, "hello")}) as (url, _):
        done = run_cli(url)
    assert isinstance(done.exception, UsageError)
    assert "rtvc profile tap" in str(done.exception)


def test_wrong_usage() -> None:
    assert isinstance(run_cli("--plain", "--json").exception, UsageError)
    assert run_cli("--interval", "0.1").exit_code == 2
    assert isinstance(run_cli("ftp://box").exception, UsageError)


class Screen:
    """The command in a terminal of its own, of a given size."""

    def __init__(self, url: str, *arguments: str, columns: int = 80, rows: int = 24) -> None:
        self.main, side = pty.openpty()
        self._resize(columns, rows)
        self.child = subprocess.Popen(
            [sys.executable, "-m", "rtvc", "profile", "live", url, *arguments],
            stdin=side,
            stdout=side,
            stderr=side,
            env=child_environment(TERM="xterm", COLUMNS="", LINES=""),
        )
        os.close(side)
        self.seen = ""

    def _resize(self, columns: int, rows: int) -> None:

        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, size)

    def resize(self, columns: int, rows: int) -> None:
        self._resize(columns, rows)

    def press(self, keys: bytes) -> None:
        os.write(self.main, keys)

    def until(self, holds: Callable[[str], bool]) -> None:
        """Read until what was seen satisfies."""
        while not holds(self.seen):
            ready, _, _ = select.select([self.main], [], [], 30)
            assert ready, self.seen
            try:
                self.seen += os.read(self.main, 65536).decode(errors="replace")
            except OSError:
                assert holds(self.seen), self.seen
                return

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.main)


ALTERNATE, BACK = "\x1b[?1049h", "\x1b[?1049l"


@contextmanager
def a_screen(url: str, *arguments: str) -> Iterator[Screen]:
    screen = Screen(url, *arguments)
    try:
        yield screen
    finally:
        screen.close()


@pytest.mark.slow
def test_q_ends_and_the_terminal_is_as_it_was() -> None:
    with a_server(our_pages()) as (url, _), a_screen(url) as screen:
        screen.until(lambda seen: "q ends" in seen)
        assert ALTERNATE in screen.seen
        assert BACK not in screen.seen
        screen.press(b"q")
        screen.until(lambda seen: BACK in seen)
        assert screen.child.wait(30) == 0


@pytest.mark.slow
def test_another_size_is_drawn_at_once() -> None:
    with a_server(our_pages()) as (url, _), a_screen(url, "--interval", "60") as screen:
        screen.until(lambda seen: "q ends" in seen)
        before = screen.seen.count("q ends")
        screen.resize(120, 40)
        screen.until(lambda seen: seen.count("q ends") > before)
        screen.press(b"q")
        assert screen.child.wait(30) == 0


@pytest.mark.slow
def test_ctrl_c_ends_too() -> None:
    with a_server(our_pages()) as (url, _), a_screen(url) as screen:
        screen.until(lambda seen: "q ends" in seen)
        screen.child.send_signal(signal.SIGINT)
        screen.until(lambda seen: BACK in seen)
        assert screen.child.wait(30) == 0


@pytest.mark.slow
def test_our_own_server_is_watched(server_url: str) -> None:
    done = run_cli(server_url, "--duration", "1.5", "--interval", "0.5", "--json")
    assert done.exit_code == 0, done.output
    said = [json.loads(row) for row in done.stdout.splitlines()]
    last = said[-1]
    assert last["engine"]["state"] == "ready"
    assert last["engine"]["about"]["model"] == "selftest"
    assert {queue["name"] for queue in last["queues"]} == {"inbox", "inference", "outbox"}
    assert all(queue["items"] is not None for queue in last["queues"][1:])
    assert {job["kind"] for job in last["engine"]["jobs"]} == {"final", "speculative", "partial"}
    assert {one["role"] for one in last["processes"]} == {"server", "engine"}
    assert all(one["cpu_cores"] is not None for one in last["processes"])
    assert last["loop"]["lag"]["n"] > 5


async def test_a_session_of_our_own_server_tells_its_delays(server_url: str) -> None:
    async with session(server_url) as peer:
        said = [silence(0.3), speech("close the window.").audio, silence(0.8)]
        await peer.speak(np.concatenate(said))
        await peer.until("rtvc.turn")
        with a_source(server_url) as source:
            read = await asyncio.to_thread(source.read)
    assert isinstance(read, Scrape)
    lines = session_lines(read.sessions) or ()
    told = [one for one in lines if one.delays_s]
    assert len(told) >= 1
    assert told[0].delays_s[0] == pytest.approx(
        peer.of("rtvc.turn")[0]["transcription_delay_ms"] / 1000, abs=0.001
    )
    inbox = next(queue for queue in read.sessions["queues"] if queue["name"] == "inbox")
    assert inbox["dropped"] == 0
    assert inbox["backlog_s"] >= 0
