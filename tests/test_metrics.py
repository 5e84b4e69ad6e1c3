"""`/metrics`: one table, what it promises, and that the figures are those of the turns."""

import asyncio
import re
import threading
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message, Receive, Scope, Send
from websockets.asyncio.client import connect

from rtvc.clock import SystemClock
from rtvc.instruments.process import ProcessSampler, ProcessUse
from rtvc.server.hearing import Hearing
from rtvc.server.measuring.metrics import (
    FELT_STAGES,
    HIDDEN_STAGES,
    LATENCY_BUCKETS_S,
    METRICS,
    REPLY_STAGES,
    Histogram,
    Metrics,
    markdown_table,
)
from rtvc.server.measuring.socket_counts import CountSockets, SocketCounts, close_label
from rtvc.server.replies.reply import ReplyTimings
from rtvc.server.sessions.turn_timing import TurnClock
from rtvc.server.web.scrape import Scraper
from rtvc.stt.ladder import Step
from rtvc.stt.transcriber import EngineStatus
from tests.realtime_peer import session
from tests.servers import running_server
from tests.test_server_realtime import utterance
from tests.test_server_realtimevoicechat import World
from tests.test_turn_timing import a_hypothesis, a_judged_turn, a_turn

DOCUMENT = Path(__file__).parent.parent / "docs" / "profile" / "metrics.md"


class Scraped:
    """One answer of /metrics, parsed."""

    def __init__(self, text: str) -> None:
        self.text = text
        families = list(text_string_to_metric_families(text))
        self.families = {_table_name(family): family for family in families}
        assert len(self.families) == len(families)
        self._samples = [sample for family in families for sample in family.samples]

    def values(self, sample_name: str, **labels: str) -> list[float]:
        return [
            sample.value
            for sample in self._samples
            if sample.name == sample_name and labels.items() <= sample.labels.items()
        ]

    def total(self, sample_name: str, **labels: str) -> float:
        return sum(self.values(sample_name, **labels))


def _table_name(family: Family) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


async def scrape(url: str) -> Scraped:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{url}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Scraped(answer.text)


async def scraped_once(world: World, **arguments: Any) -> Scraped:
    return Scraped((await Scraper(world.services, **arguments).text()).decode())


@pytest.fixture
def world() -> Iterator[World]:
    with closing(Hearing(SystemClock())) as hearing:
        yield World(hearing)


# The table.


@pytest.mark.parametrize("name", METRICS)
def test_a_name_ends_in_its_unit(name: str) -> None:
    row = METRICS[name]
    assert re.fullmatch(r"rtvc(_[a-z]+)+", name)
    if row.unit is not None:
        assert name.endswith(f"_{row.unit}_total" if row.kind == "counter" else f"_{row.unit}")
    assert (row.kind == "counter") == name.endswith("_total")
    assert (row.kind == "histogram") == bool(row.buckets)
    assert all(low < high for low, high in pairwise(row.buckets))
    assert row.help
    assert not row.help.endswith(".")
    assert "|" not in row.help
    assert not {"le", "session", "item"} & set(row.labels)


def test_the_buckets_suit_whisper() -> None:
    assert (LATENCY_BUCKETS_S[0], LATENCY_BUCKETS_S[-1]) == (0.005, 10.0)
    assert {0.5, 3.0} <= set(LATENCY_BUCKETS_S)


def test_the_documentation_shows_the_table() -> None:
    assert markdown_table() in DOCUMENT.read_text(encoding="utf-8")


# Histograms.


@given(st.lists(st.floats(0, 20)), st.lists(st.floats(0.001, 10), min_size=1, unique=True))
def test_a_histogram_counts_every_value_once(values: list[float], edges: list[float]) -> None:
    ordered = tuple(sorted(edges))
    histogram = Histogram(ordered)
    for value in values:
        histogram.observe(value)
    buckets = histogram.cumulative()
    assert dict(buckets)["+Inf"] == len(values)
    for edge, (name, count) in zip(ordered, buckets, strict=False):
        assert float(name) == edge
        assert count == sum(value <= edge for value in values)
    assert histogram.sum == pytest.approx(sum(values))


def test_a_value_on_an_edge_is_within_it() -> None:
    histogram = Histogram((0.5, 1.0))
    histogram.observe(0.5)
    assert histogram.cumulative() == [("0.5", 1), ("1.0", 1), ("+Inf", 1)]


# What is observed.


def a_replied_turn() -> TurnClock:
    turn = a_turn(queue_s=0.3, work_s=0.4)
    assert turn.final_at_s is not None
    turn.reply_asked_at_s = turn.final_at_s + 0.001
    turn.reply = ReplyTimings(0.1, 0.05, 0.2)
    turn.reply_at_s = turn.final_at_s + 0.36
    return turn


@pytest.mark.parametrize("turn", [a_replied_turn(), a_judged_turn(0.2, 0.3, 0.3)])
def test_the_stages_of_a_turn_are_all_in_sight(turn: TurnClock) -> None:
    timings = turn.timings("reply", None, "m")
    assert timings is not None
    assert {segment.name for segment in timings.segments} <= set(FELT_STAGES)
    assert {segment.name for segment in timings.hidden} <= set(HIDDEN_STAGES)


def test_a_turn_and_its_reply_count_each_stage_once() -> None:
    metrics, turn = Metrics(), a_replied_turn()
    transcript, reply = turn.timings("transcript", None, "m"), turn.timings("reply", None, "m")
    assert transcript is not None
    assert reply is not None
    metrics.turn(transcript)
    metrics.turn(reply)
    stages = metrics.histograms["rtvc_turn_stage_seconds"]
    for path, segments in (("felt", reply.segments), ("hidden", reply.hidden)):
        for segment in segments:
            histogram = stages[segment.name, path]
            assert histogram.cumulative()[-1][1] == 1
            assert histogram.sum == pytest.approx(segment.duration_ms / 1000)
    assert {name for name, path in stages if stages[name, path].sum} >= {*REPLY_STAGES, "decode"}
    assert reply.response_latency_ms is not None
    (latency,) = metrics.histograms["rtvc_response_latency_seconds"].values()
    assert latency.sum == pytest.approx(reply.response_latency_ms / 1000)
    (delay,) = metrics.histograms["rtvc_transcription_delay_seconds"].values()
    assert delay.cumulative()[-1][1] == 1
    assert delay.sum == pytest.approx(reply.transcription_delay_ms / 1000)


def test_an_answered_job_counts_under_its_kind() -> None:
    metrics = Metrics()
    metrics.answered("partial", a_hypothesis(0.25, 0.5))
    inference = metrics.histograms["rtvc_engine_inference_seconds"]
    assert {kind: histogram.sum for (kind,), histogram in inference.items()} == {
        "final": 0.0,
        "speculative": 0.0,
        "partial": 0.5,
    }
    assert metrics.histograms["rtvc_engine_queue_wait_seconds"]["partial",].sum == 0.25
    assert metrics.histograms["rtvc_engine_batch_jobs"]["partial",].sum == 2


# WebSockets.


async def pass_through(
    incoming: list[Message], outgoing: list[Message], *, fails: bool = False
) -> SocketCounts:
    """A server that sends first, then reads; what was counted of it."""
    counts = SocketCounts()
    left = list(incoming)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in outgoing:
            await send(message)
        for _ in incoming:
            await receive()
        if fails:
            raise OSError("gone")

    async def receive() -> Message:
        return left.pop(0)

    async def send(message: Message) -> None:
        """Taken."""

    counted = CountSockets(app, counts)
    try:
        await counted({"type": "websocket", "path": "/ws"}, receive, send)
    except OSError:
        assert fails
    return counts


ACCEPT: Message = {"type": "websocket.accept"}


async def test_what_passes_through_a_websocket_is_counted() -> None:
    counts = await pass_through(
        [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": "four", "bytes": None},
            {"type": "websocket.receive", "bytes": b"sixsix"},
            {"type": "websocket.disconnect", "code": 1000},
        ],
        [ACCEPT, {"type": "websocket.send", "text": "abc"}],
    )
    assert (counts.messages_in, counts.bytes_in) == (2, 10)
    assert (counts.messages_out, counts.bytes_out) == (1, 3)
    assert (counts.opens, counts.closes, counts.refusals) == ({"/ws": 1}, {"1000": 1}, {})


@pytest.mark.parametrize(
    ("incoming", "outgoing", "fails", "closes"),
    [
        ([], [ACCEPT, {"type": "websocket.close", "code": 1013}], False, {"1013": 1}),
        ([{"type": "websocket.disconnect", "code": 4321}], [ACCEPT], False, {"4xxx": 1}),
        ([], [ACCEPT], True, {"1006": 1}),
        (
            [{"type": "websocket.disconnect", "code": 1000}],
            [ACCEPT, {"type": "websocket.close", "code": 1008}],
            False,
            {"1008": 1},
        ),
        ([{"type": "websocket.disconnect", "code": 1006}], [], False, {}),
    ],
)
async def test_each_websocket_ends_once(
    incoming: list[Message], outgoing: list[Message], fails: bool, closes: dict[str, int]
) -> None:
    counts = await pass_through(incoming, outgoing, fails=fails)
    assert counts.closes == closes


async def test_refusals_are_counted_by_status() -> None:
    denied = await pass_through([], [{"type": "websocket.http.response.start", "status": 503}])
    closed = await pass_through([], [{"type": "websocket.close", "code": 1000}])
    assert (denied.refusals, denied.opens) == ({"503": 1}, {})
    assert (closed.refusals, closed.closes) == ({"403": 1}, {})


@given(st.sets(st.integers(0, 70_000), min_size=100))
@settings(deadline=None, max_examples=20)
def test_clients_cannot_make_labels_with_their_close_codes(codes: set[int]) -> None:
    assert len({close_label(code) for code in codes}) <= 15


# The scrape.


async def test_every_metric_of_the_table_is_in_every_scrape(world: World) -> None:
    scraped = await scraped_once(world)
    assert list(scraped.families) == list(METRICS)
    for name, family in scraped.families.items():
        row = METRICS[name]
        assert (family.type, family.documentation) == (row.kind, row.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(row.labels)


async def test_what_is_unknown_is_absent_and_not_0(world: World) -> None:
    scraped = await scraped_once(world)
    for name in (
        "rtvc_headroom_sessions",
        "rtvc_model_load_seconds",
        "rtvc_inbox_backlog_max_seconds",
        "rtvc_event_loop_lag_max_seconds",
    ):
        assert scraped.values(name) == []
    world.engine.headroom_sessions = 0.0
    assert (await scraped_once(world)).values("rtvc_headroom_sessions") == [0.0]


async def test_one_state_of_the_engine_holds(world: World) -> None:
    scraped = await scraped_once(world)
    assert scraped.total("rtvc_engine_state") == 1
    assert scraped.values("rtvc_engine_state", state="ready") == [1]


async def test_what_is_given_up_under_overload_shows(world: World) -> None:
    world.engine.degradation = Step.NO_PARTIALS
    scraped = await scraped_once(world)
    assert scraped.values("rtvc_degradation_step") == [2]
    for step in Step:
        assert scraped.values("rtvc_degradation_changes_total", step=step.label) == [0]


async def test_a_refused_session_shows(world: World) -> None:
    world.services.admission.refused += 3
    assert (await scraped_once(world)).values("rtvc_refused_sessions_total") == [3]


async def test_servers_in_one_process_share_nothing(world: World) -> None:
    with closing(Hearing(SystemClock())) as hearing:
        other = World(hearing)
        world.services.metrics.suspected()
        counted = "rtvc_premature_suspects_total"
        assert (await scraped_once(world)).values(counted) == [1]
        assert (await scraped_once(other)).values(counted) == [0]


async def test_counts_of_an_engine_that_went_are_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = EngineStatus("ready", 1.0, "", "m", "scripted", restarts=2, counters={"done": 5})
    monkeypatch.setattr(type(world.engine), "status", property(lambda _: now))
    scraper, seen = Scraper(world.services), []
    for done, restarts in ((5, 2), (7, 2), (1, 0), (4, 1)):
        now = EngineStatus("ready", 1.0, "", "m", "", restarts=restarts, counters={"done": done})
        scraped = Scraped((await scraper.text()).decode())
        seen.append(
            (
                scraped.total("rtvc_engine_jobs_total", outcome="done"),
                scraped.total("rtvc_engine_restarts_total"),
            )
        )
    assert seen == [(5, 2), (7, 2), (7, 2), (10, 3)]


class WatchedSampler(ProcessSampler):
    """Keeps which thread it ran on."""

    def __init__(self) -> None:
        super().__init__("server", {})
        self.threads: list[int] = []

    def sample(self) -> dict[str, ProcessUse]:
        self.threads.append(threading.get_ident())
        return super().sample()


async def test_what_takes_time_is_done_off_the_event_loop(world: World) -> None:
    processes = WatchedSampler()
    scraper = Scraper(world.services, processes)
    answers = await asyncio.gather(*(scraper.text() for _ in range(5)))
    assert len(processes.threads) == len(answers) == 5
    assert threading.get_ident() not in processes.threads
    (memory,) = Scraped(answers[-1].decode()).values("rtvc_process_resident_memory_bytes")
    assert memory > 1e6


async def test_a_turn_in_realtimevoicechats_protocol_counts(world: World) -> None:
    async with world.page() as page:
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("final_assistant_answer")
        open_ = await scraped_once(world)
    scraped = await scraped_once(world)
    assert scraped.values("rtvc_transcription_delay_seconds_count") == [1]
    assert scraped.values("rtvc_response_latency_seconds_count") == [1]
    counts = "rtvc_turn_stage_seconds_count"
    for stage in ("vad_delay", "endpoint_wait", "emit", "unaccounted", "llm_ttft", "send"):
        assert scraped.values(counts, stage=stage, path="felt") == [1]
    latency_s = scraped.total("rtvc_response_latency_seconds_sum")
    assert latency_s > scraped.total("rtvc_transcription_delay_seconds_sum") > 0
    assert open_.values("rtvc_inbox_backlog_max_seconds") == [0]


# The real server.


@asynccontextmanager
async def a_spoken_turn(url: str) -> AsyncIterator[tuple[Scraped, Any]]:
    """After the turn: what was scraped before it, and the session, still open."""
    before = await scrape(url)
    async with session(url) as peer:
        await peer.speak(utterance("turn on the lights."))
        await peer.until("rtvc.turn", count=2)
        await peer.until("response.done")
        yield before, peer


@pytest.mark.model
@pytest.mark.slow
async def test_the_figures_of_a_turn_are_those_that_the_client_is_told(server_url: str) -> None:
    async with a_spoken_turn(server_url) as (before, peer):
        after = await scrape(server_url)
        transcript, reply = peer.of("rtvc.turn")[:2]

    def rise(sample_name: str, **labels: str) -> float:
        return after.total(sample_name, **labels) - before.total(sample_name, **labels)

    assert rise("rtvc_transcription_delay_seconds_count") == 1
    assert rise("rtvc_transcription_delay_seconds_sum") * 1000 == pytest.approx(
        transcript["transcription_delay_ms"]
    )
    edge = LATENCY_BUCKETS_S[
        bisect_left(LATENCY_BUCKETS_S, transcript["transcription_delay_ms"] / 1000)
    ]
    assert rise("rtvc_transcription_delay_seconds_bucket", le=str(edge)) == 1
    assert rise("rtvc_response_latency_seconds_sum") * 1000 == pytest.approx(
        reply["response_latency_ms"]
    )
    for path, segments in (("felt", reply["segments"]), ("hidden", reply["hidden"])):
        for segment in segments:
            labels = {"stage": segment["name"], "path": path}
            assert rise("rtvc_turn_stage_seconds_count", **labels) == 1
            assert rise("rtvc_turn_stage_seconds_sum", **labels) * 1000 == pytest.approx(
                segment["duration_ms"], abs=1e-6
            )
    assert list(after.families) == list(METRICS)


@pytest.mark.model
@pytest.mark.slow
async def test_counters_move_with_a_turn(server_url: str) -> None:
    async with a_spoken_turn(server_url) as (before, peer):
        during = await scrape(server_url)
        ids = [peer.of("session.created")[0]["session"]["id"], peer.of("rtvc.turn")[0]["item_id"]]
        said = peer.transcripts()[0]
    for name in (
        "rtvc_websocket_opens_total",
        "rtvc_websocket_messages_total",
        "rtvc_websocket_bytes_total",
        "rtvc_engine_submitted_jobs_total",
        "rtvc_engine_batch_jobs_count",
        "rtvc_event_loop_lag_seconds_count",
        "rtvc_process_cpu_seconds_total",
    ):
        assert during.total(name) > before.total(name), name
    done = {"outcome": "done"}
    assert during.total("rtvc_engine_jobs_total", **done) > before.total(
        "rtvc_engine_jobs_total", **done
    )
    assert during.values("rtvc_open_sessions")[0] >= 1
    assert during.values("rtvc_model_load_seconds")[0] > 0
    for process in ("server", "engine"):
        assert during.values("rtvc_processes", process=process)[0] >= 1
        assert during.values("rtvc_process_resident_memory_bytes", process=process)[0] > 1e7
        assert during.values("rtvc_process_open_files", process=process)[0] > 3
    assert not [secret for secret in (*ids, said) if secret in during.text]

    async def closed() -> bool:
        after = await scrape(server_url)
        return after.total("rtvc_websocket_closes_total") > before.total(
            "rtvc_websocket_closes_total"
        )

    async with asyncio.timeout(10):
        while not await closed():  # noqa: ASYNC110 (only asking tells)
            await asyncio.sleep(0.05)


@pytest.mark.model
@pytest.mark.slow
async def test_refusals_of_a_full_server_show() -> None:
    with running_server("--max-sessions", "1", model="scripted") as url:
        async with session(url):
            with pytest.raises(Exception, match="503"):
                await connect(f"{url.replace('http', 'ws', 1)}/v1/realtime")
            scraped = await scrape(url)
    assert scraped.values("rtvc_refused_sessions_total") == [1]
    assert scraped.values("rtvc_websocket_refusals_total", status="503") == [1]
    assert scraped.values("rtvc_open_sessions") == scraped.values("rtvc_max_sessions") == [1]
