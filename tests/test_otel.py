"""Turns as traces: spans that add up, one trace a turn, and a collector that never matters."""

import base64
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc import __version__
from rtvc.clock import FakeClock, SystemClock
from rtvc.config import load_settings
from rtvc.errors import UsageError
from rtvc.instruments.otel import (
    HOLD_S,
    TurnTraces,
    endpoint_of,
    open_traces,
    outline,
)
from rtvc.protocol.realtime import TurnTimings
from rtvc.server.hearing import Hearing
from rtvc.server.lifecycle.startup import build_services
from rtvc.server.replies.reply import ReplyTimings
from tests.otlp_receiver import Collector, ReceivedTurn, collecting
from tests.realtime_peer import session
from tests.servers import free_port, running_server
from tests.test_server_realtime import utterance
from tests.test_server_realtimevoicechat import World
from tests.test_turn_timing import a_judged_turn, a_turn

SECRET = "hunter2"
NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
lengths = st.floats(0, 2)


def transcript(item_id: str = "item", **how: float) -> TurnTimings:
    timings = a_turn(**how).timings("transcript", None, "selftest")
    assert timings is not None
    return replace(timings, item_id=item_id)


def replied(item_id: str = "item", first_audio_s: float = 0.5, **how: float) -> TurnTimings:
    turn = a_turn(**how)
    assert turn.final_at_s is not None
    turn.reply_asked_at_s = turn.final_at_s
    turn.reply = ReplyTimings(llm_ttft_s=0.2, first_sentence_s=0.05, tts_ttfb_s=0.1)
    turn.reply_at_s = turn.final_at_s + first_audio_s
    timings = turn.timings("reply", "resp_1", "selftest")
    assert timings is not None
    return replace(timings, item_id=item_id)


@contextmanager
def traced(
    url: str, clock: Any = None, *, every_s: float = 0.01, **more: Any
) -> Iterator[TurnTraces]:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces", timeout=0.2)
    traces = TurnTraces(exporter, clock or SystemClock(), every_s=every_s, **more)
    with closing(traces):
        yield traces


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


def adds_up(turn: ReceivedTurn) -> bool:
    """The felt spans lie end to end and leave what is said to be unaccounted."""
    unaccounted_ms = turn.root.attributes["rtvc.unaccounted_ms"]
    told_ms = sum(span.duration_ms for span in turn.felt) + unaccounted_ms
    return bool(abs(told_ms - turn.root.duration_ms) <= 0.01 * (len(turn.felt) + 1))


# The outline of a trace.


@given(vad=lengths, wait=lengths, asked=lengths, queue=lengths, work=lengths, reply=st.booleans())
@settings(deadline=None, max_examples=80)
def test_the_spans_of_any_turn_add_up(
    vad: float, wait: float, asked: float, queue: float, work: float, reply: bool
) -> None:
    make = replied if reply else transcript
    timings = make(vad_s=vad, wait_s=wait, asked_after_s=asked, queue_s=queue, work_s=work)
    root, below = outline("sess", timings, NOW)
    felt = [span for span in below if not span.attributes["rtvc.hidden"]]
    total_ms = sum(span.end_ns - span.start_ns for span in felt) / 1e6
    turn_ms = (root.end_ns - root.start_ns) / 1e6
    # The parts are told to 0.01 ms each.
    assert total_ms + timings.unaccounted_ms == pytest.approx(turn_ms, abs=0.01 * (len(felt) + 1))
    assert turn_ms == pytest.approx(
        timings.response_latency_ms if reply else timings.transcription_delay_ms
    )
    assert all(span.start_ns >= root.start_ns for span in felt)
    assert len(below) == len(timings.segments) + len(timings.hidden)


def test_a_turn_ends_when_it_was_reported() -> None:
    root, below = outline("sess", transcript(), NOW)
    assert root.end_ns == 1_772_366_400_250_000_000
    assert root.end_ns - root.start_ns == 260_000_000
    assert below[0].start_ns == root.start_ns


def test_a_turn_says_whose_it_is_and_nothing_that_was_said() -> None:
    root, below = outline("sess_7", replied("item_3"), NOW)
    assert root.attributes == {
        "gen_ai.conversation.id": "sess_7",
        "gen_ai.response.id": "resp_1",
        "gen_ai.request.model": "selftest",
        "rtvc.item.id": "item_3",
        "rtvc.turn.ends_with": "reply",
        "rtvc.transcription_delay_ms": pytest.approx(260),
        "rtvc.response_latency_ms": pytest.approx(760),
        "rtvc.unaccounted_ms": pytest.approx(0, abs=0.1),
        "rtvc.audio_ms": 1000.0,
        "rtvc.batch_size": 2,
    }
    by_name = {span.name: span.attributes for span in below}
    assert by_name["llm_ttft"]["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.2)
    assert by_name["decode"] == {"rtvc.hidden": True}
    assert "hello" not in str(below) + str(root)


def test_work_of_the_turn_model_is_hidden_while_policy_waits() -> None:
    timings = a_judged_turn(0.1, 0.2, None).timings("transcript", None, "m")
    assert timings is not None
    _, below = outline("sess", timings, NOW)
    hidden = [span.name for span in below if span.attributes["rtvc.hidden"]]
    assert hidden[0] == "turn_model"


# What reaches a collector.


def test_a_transcript_without_a_reply_is_a_trace(collector: Collector) -> None:
    with traced(collector.url) as traces:
        traces.turn("sess", transcript())
        (turn,) = collector.wait_for_turns(1)
    assert turn.root.name == "turn"
    assert turn.root.resource["service.name"] == "rtvc"
    assert turn.root.resource["service.version"] == __version__
    assert {span.trace_id for span in turn.below} == {turn.root.trace_id}
    assert [span.name for span in turn.felt] == ["vad_delay", "endpoint_wait", "emit"]
    assert [span.name for span in turn.hidden] == ["features", "encode", "decode"]
    assert turn.root.duration_ms == pytest.approx(260)
    assert adds_up(turn)
    assert traces.outcomes == {"sent": 1, "failed": 0, "dropped": 0}


def test_a_transcript_and_its_reply_are_one_trace(collector: Collector) -> None:
    with traced(collector.url) as traces:
        traces.turn("sess", transcript(), replying=True)
        traces.turn("sess", replied())
        traces.turn("other", transcript("last"))
        collector.wait_for_turns(2)
    turns = {turn.item_id: turn for turn in collector.turns()}
    assert sorted(turns) == ["item", "last"]
    assert turns["item"].root.attributes["rtvc.turn.ends_with"] == "reply"
    names = [span.name for span in turns["item"].felt]
    assert names[-4:] == ["llm_ttft", "llm_sentence", "tts_ttfb", "send"]
    assert all(adds_up(turn) for turn in turns.values())


def test_a_reply_that_never_sounds_is_not_waited_for_for_ever(collector: Collector) -> None:
    clock = FakeClock(1e9)
    with traced(collector.url, clock) as traces:
        traces.turn("sess", transcript("cut off"), replying=True)
        traces.turn("sess", transcript("marker"))
        collector.wait_for_turns(1)
        assert [turn.item_id for turn in collector.turns()] == ["marker"]
        clock.advance(HOLD_S + 1)
        collector.wait_for_turns(2)
    assert [turn.item_id for turn in collector.turns()] == ["marker", "cut off"]


def test_what_is_left_is_sent_at_the_end(collector: Collector) -> None:
    with traced(collector.url, every_s=3600) as traces:
        for number in range(200):
            traces.turn("sess", transcript(f"item {number}"), replying=number % 2 == 0)
        assert collector.turns() == []
    assert len(collector.turns()) == 200
    assert len(collector.paths) > 1
    assert traces.outcomes["sent"] == 200


def test_turns_beyond_the_queue_are_counted_and_forgotten(collector: Collector) -> None:
    with traced(collector.url, every_s=3600, limit=10) as traces:
        for number in range(25):
            traces.turn("sess", transcript(f"item {number}"))
        assert traces.outcomes["dropped"] == 15
    assert [turn.item_id for turn in collector.turns()] == [f"item {n}" for n in range(10)]


def test_turns_that_wait_for_a_reply_are_bounded(collector: Collector) -> None:
    with traced(collector.url, limit=10) as traces:
        for number in range(30):
            wait_until(lambda: not traces._queue)
            traces.turn("sess", transcript(f"item {number}"), replying=True)
        early = collector.wait_for_turns(20)
        assert [turn.item_id for turn in early][:3] == ["item 0", "item 1", "item 2"]
    assert len(collector.turns()) == 30


def test_a_sampler_in_the_environment_holds(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "front desk")
    with traced(collector.url) as traces:
        traces.turn("sess", transcript())
    assert collector.paths == []
    monkeypatch.delenv("OTEL_TRACES_SAMPLER")
    with traced(collector.url) as traces:
        traces.turn("sess", transcript())
    assert collector.turns()[0].root.resource["service.name"] == "front desk"


# Collectors that do not do their part.


def test_a_collector_that_hangs_delays_nobody(collector: Collector) -> None:
    collector.open.clear()
    traces = open_traces(collector.url, SystemClock())
    traces.turn("sess", transcript())
    traces.close(0.05)
    # It still hangs: whoever closed was not kept.
    assert not collector.open.is_set()
    assert collector.turns() == []


def test_a_collector_that_is_not_there_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "rtvc")
    address = f"127.0.0.1:{free_port()}"
    with closing(TurnTraces(a_failing_exporter(), FakeClock(), every_s=0.001)) as quiet:
        for number in range(3):
            quiet.turn("sess", transcript(f"item {number}"))
            wait_until_failed(quiet, number + 1)
    assert len(caplog.records) == 1
    caplog.clear()
    traces = open_traces(f"http://me:{SECRET}@{address}/?token={SECRET}", SystemClock())
    traces.turn("sess", transcript())
    traces.close(20)
    assert traces.outcomes == {"sent": 0, "failed": 1, "dropped": 0}
    assert len(caplog.records) == 1
    assert f"http://{address}/v1/traces (said once)" in caplog.text
    assert SECRET not in caplog.text


def a_failing_exporter() -> Any:
    from opentelemetry.sdk.trace.export import SpanExporter

    class Broken(SpanExporter):
        def export(self, spans: Any) -> Any:
            raise OSError("no route to the collector")

    return Broken()


def wait_until_failed(traces: TurnTraces, count: int) -> None:
    wait_until(lambda: traces.outcomes["failed"] >= count)


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(4000):
        if holds():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come to that")


def test_a_collector_that_recovers_is_told_of(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.status = 400
    with traced(collector.url) as traces:
        traces.turn("sess", transcript("lost"))
        wait_until_failed(traces, 1)
        collector.status = 200
        traces.turn("sess", transcript("kept"))
        collector.wait_for_turns(1)
    said = [record.getMessage() for record in caplog.records]
    assert [message.split(" the collector")[0] for message in said] == [
        "traces do not reach",
        "traces reach",
    ]
    assert [turn.item_id for turn in collector.turns()] == ["kept"]


# The endpoint.


@pytest.mark.parametrize(
    ("given_url", "url", "user"),
    [
        ("http://box:4318", "http://box:4318/v1/traces", None),
        ("http://box:4318/", "http://box:4318/v1/traces", None),
        ("https://box/otlp/v1/traces/", "https://box/otlp/v1/traces", None),
        (f"https://me:{SECRET}@box", "https://box/v1/traces", f"me:{SECRET}"),
        ("https://me:p%40w@box", "https://box/v1/traces", "me:p@w"),
    ],
)
def test_an_endpoint(given_url: str, url: str, user: str | None) -> None:
    found = endpoint_of(given_url)
    assert found.url == url
    if user is None:
        assert found.headers is None
    else:
        assert found.headers is not None
        kind, _, encoded = found.headers["Authorization"].partition(" ")
        assert (kind, base64.b64decode(encoded).decode()) == ("Basic", user)
    assert SECRET not in found.shown


def test_credentials_reach_the_collector_and_only_it(collector: Collector) -> None:
    url = collector.url.replace("//", f"//me:{SECRET}@")
    found = load_settings(environment={"RTVC_SERVE_OTEL_ENDPOINT": url})
    for shown in (repr(found), str(found.public()), found.model_dump_json()):
        assert SECRET not in shown
    assert found.serve.otel_endpoint is not None
    with closing(open_traces(found.serve.otel_endpoint.get_secret_value(), SystemClock())) as made:
        made.turn("sess", transcript())
    assert collector.headers[0]["authorization"].startswith("Basic ")
    assert collector.paths == ["/v1/traces"]


def test_a_wrong_endpoint_is_refused_without_showing_it() -> None:
    with pytest.raises(UsageError, match="RTVC_SERVE_OTEL_ENDPOINT: expected a URL") as refused:
        load_settings(environment={"RTVC_SERVE_OTEL_ENDPOINT": f"me:{SECRET}@box"})
    assert SECRET not in str(refused.value)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"pip install 'rtvc\[otel\]'"):
        open_traces("http://box", SystemClock())


def test_traces_without_instruments_are_refused() -> None:
    chosen = load_settings(
        {
            "serve": {"otel_endpoint": "http://box", "instruments": False},
            "stt": {"model": "scripted"},
        },
        environment={},
    )
    with pytest.raises(UsageError, match="--otel-endpoint and --no-instruments"):
        build_services(chosen, SystemClock())


# The servers.


async def test_a_turn_in_realtimevoicechats_protocol_is_a_trace(collector: Collector) -> None:
    with closing(Hearing(SystemClock())) as hearing, traced(collector.url) as traces:
        world = World(hearing)
        world.services.traces = traces
        async with world.page() as page:
            page.speak(1.0)
            page.pause(1.0)
            await page.socket.until("final_assistant_answer")
    (turn,) = collector.turns()
    assert turn.root.attributes["rtvc.turn.ends_with"] == "reply"
    assert adds_up(turn)


@pytest.mark.model
@pytest.mark.slow
async def test_the_real_server_sends_what_it_tells_its_clients(collector: Collector) -> None:
    with running_server("--otel-endpoint", collector.url) as url:
        async with session(url) as peer:
            await peer.speak(utterance("turn on the lights."))
            await peer.until("rtvc.turn", count=2)
            told = peer.of("rtvc.turn")[1]
            await peer.until("response.done")
            said = peer.transcripts()[0]
        async with session(url, "rtvc=1&intent=transcription") as dictation:
            await dictation.speak(utterance("close the door."))
            alone = await dictation.until("rtvc.turn")
    # The server has stopped, and sent what was left.
    turns = {turn.item_id: turn for turn in collector.turns()}
    assert set(turns) == {told["item_id"], alone["item_id"]}
    conversation, dictated = turns[told["item_id"]], turns[alone["item_id"]]
    assert conversation.root.duration_ms == pytest.approx(told["response_latency_ms"])
    assert conversation.root.attributes["gen_ai.response.id"] == told["response_id"]
    assert [span.name for span in conversation.felt] == [each["name"] for each in told["segments"]]
    assert dictated.root.duration_ms == pytest.approx(alone["transcription_delay_ms"])
    assert dictated.root.attributes["rtvc.turn.ends_with"] == "transcript"
    assert all(adds_up(turn) for turn in turns.values())
    values = str([span.attributes for span in collector.spans]).lower()
    assert not [word for word in said.lower().strip(".").split() if f" {word} " in values]
