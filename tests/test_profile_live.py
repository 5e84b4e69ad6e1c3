"""The live view: windows over scrapes, what they say, and the course of a watch."""

import math
from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.clock import FakeClock
from rtvc.errors import RtvcError, UsageError
from rtvc.profile.live.exposition import Buckets, key, parse
from rtvc.profile.live.view import session_lines, view_of
from rtvc.profile.live.watch import PATIENCE_S, Missing, Status, Watch
from rtvc.profile.live.window import Scrape, Times, Window, quantile
from rtvc.profile.target import NoAnswer
from rtvc.stats import supports
from tests.live_scrapes import (
    DELAY,
    EDGES,
    busy_view,
    histogram,
    metrics,
    scrape,
    seen,
    sessions_body,
    window_of,
)

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
    aside = seen([], aside=True)
    assert aside.sentence.endswith("engine ready; stands aside for its group.")


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
    with pytest.raises(NoAnswer, match=r"^no server answers at http://box:8000: Conn"):
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

    with pytest.raises(NoAnswer):
        Watch("http://box", clock, 1.0).run(read, lambda status: None, until, None)
    assert asked[-1] == PATIENCE_S


def test_ending_before_the_server_came_is_an_error_too() -> None:
    with pytest.raises(NoAnswer):
        watched([GONE], wait=lambda until_s: False)


def test_a_certificate_that_is_not_trusted_is_told_at_once() -> None:
    untrusted = Missing("certificate not trusted at https://box", hopeless=True)
    asked: list[float] = []

    def wait(until_s: float) -> bool:
        asked.append(until_s)
        return True

    with pytest.raises(NoAnswer, match="certificate not trusted"):
        watched([untrusted], wait=wait)
    assert asked == []


@pytest.mark.parametrize("ended_by_hand", [False, True])
def test_a_server_that_is_lost_at_the_end_is_an_error(ended_by_hand: bool) -> None:
    clock, left = FakeClock(), 4

    def wait(until_s: float) -> bool:
        nonlocal left
        left -= 1
        clock.advance(max(0.0, until_s - clock.now()))
        return left > 0

    def read() -> Scrape | Missing:
        return scrape(clock.now(), metrics()) if clock.now() < 1.5 else GONE

    watch = Watch("http://box:8000", clock, 1.0)
    with pytest.raises(NoAnswer, match=r"lost \d s before the end: no server answers at") as lost:
        watch.run(read, lambda status: None, wait, None if ended_by_hand else 3.0)
    assert lost.value.exit_code == 1
    with pytest.raises(NoAnswer, match="was lost"):
        watch.check()


def test_a_watch_that_never_read_knows_of_no_server() -> None:
    with pytest.raises(NoAnswer, match="nothing came yet"):
        Watch("http://box", FakeClock(), 1.0).check()


def test_another_server_is_told_at_once_what_works_there() -> None:
    foreign = Missing("http://box:8000/metrics answers HTTP 404: no metrics", foreign=True)
    with pytest.raises(UsageError, match=r"HTTP 404.*profile tap.*profile logs.*profile cpu"):
        watched([foreign])


def test_another_server_in_the_place_of_ours_is_gone() -> None:
    foreign = Missing("http://box:8000/metrics answers HTTP 404: no metrics", foreign=True)
    shown = watched([metrics(), foreign, metrics()], duration_s=2.0)
    assert [status.missing is None for status in shown] == [True, False, True]
