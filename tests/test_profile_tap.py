"""The tap: bytes pass unchanged whatever they are, and turns are timed as a client sees them."""

import asyncio
import base64
import csv
import json
import random
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from rtvc.audio import FloatArray, float_to_pcm16, resample
from rtvc.clock import SystemClock
from rtvc.errors import ProtocolError, RecordError, UsageError
from rtvc.profile.tap.protocols import (
    ProtocolReader,
    RealtimeReader,
    RealtimeVoiceChatReader,
    WhisperLiveReader,
)
from rtvc.profile.tap.proxy import Tap, Target, parse_listen, parse_target
from rtvc.profile.tap.speech import FRAME_S, SpeechLevel
from rtvc.profile.tap.summary import Tally, TurnsFile, connection_line, turn_line
from rtvc.profile.tap.turns import Turn
from rtvc.profile.tap.watch import Connection, Watch
from rtvc.profile.tap.wire import FrameReader, Message, Wire
from rtvc.server.tls import certificate_files
from rtvc.speech.corpus import builtin_clips
from tests.realtime_peer import session, silence, speech
from tests.sink_server import Sink

TRANSCRIPTION = "conversation.item.input_audio_transcription"


# What passes on the wire.


class Recorded:
    """What one side sent, in the order in which it left."""

    def __init__(self, *, deflate: bool) -> None:
        client_extensions = [ClientPerMessageDeflateFactory()] if deflate else None
        server_extensions = [ServerPerMessageDeflateFactory()] if deflate else None
        self.client = ClientProtocol(parse_uri("ws://tap/ws"), extensions=client_extensions)
        self.server = ServerProtocol(extensions=server_extensions)
        self.sent: list[tuple[bool, bytes]] = []
        self.client.send_request(self.client.connect())
        self.flush(from_client=True)
        (request,) = self.server.events_received()
        assert isinstance(request, Request)
        self.server.send_response(self.server.accept(request))
        self.flush(from_client=False)

    def flush(self, *, from_client: bool) -> None:
        sender, receiver = (self.client, self.server) if from_client else (self.server, self.client)
        for data in sender.data_to_send():
            self.sent.append((from_client, data))
            receiver.receive_data(data)

    def say(self, message: bytes, cuts: Sequence[int], *, from_client: bool, text: bool) -> None:
        """One message in as many frames as there are cuts, and a ping between two of them."""
        sender = self.client if from_client else self.server
        pieces = [message[a:b] for a, b in zip([0, *cuts], [*cuts, len(message)], strict=True)]
        last = len(pieces) - 1
        (sender.send_text if text else sender.send_binary)(pieces[0], fin=last == 0)
        for number, piece in enumerate(pieces[1:], start=1):
            sender.send_ping(b"still there?")
            sender.send_continuation(piece, fin=number == last)
        self.flush(from_client=from_client)


def chunks(data: bytes, rng: random.Random) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = rng.choice((1, 2, 3, 7, 40, 1000))
        yield data[at : at + size]
        at += size


messages = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.binary(max_size=3000), st.integers(0, 3)),
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(messages, st.booleans(), st.integers(0, 2**32))
def test_messages_are_read_however_the_bytes_are_cut(
    said: list[tuple[bool, bool, bytes, int]], deflate: bool, seed: int
) -> None:
    rng = random.Random(seed)
    wire_record = Recorded(deflate=deflate)
    expected = []
    for from_client, text, data, cuts in said:
        payload = base64.b64encode(data) if text else data
        places = sorted(rng.randrange(len(payload) + 1) for _ in range(cuts))
        wire_record.say(payload, places, from_client=from_client, text=text)
        expected.append((from_client, "text" if text else "binary", payload))
    wire, read = Wire(), []
    for from_client, sent in wire_record.sent:
        for piece in chunks(sent, rng):
            found = (wire.from_client if from_client else wire.from_server)(piece)
            read += [(from_client, message.kind, message.data) for message in found]
    assert (wire.state, wire.path, wire.status) == ("open", "/ws", 101)
    assert read == expected


@pytest.mark.parametrize(
    "frame",
    [
        b"\x83\x80abcd",  # opcode 3
        b"\x81\x02hi",  # a client without a mask
        b"\xc1\x80abcd",  # compressed, and nobody agreed on it
        b"\xa1\x80abcd",  # RSV2
        b"\x80\x80abcd",  # goes on with nothing
        b"\x89\xfe\x00\x80abcd",  # a ping of 128 bytes
        b"\x82\xff" + struct.pack(">Q", 2**40) + b"abcd",  # a terabyte
    ],
)
def test_what_is_no_websocket_is_noticed(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        FrameReader(masked=True, deflated=False).feed(frame)


def test_a_small_message_that_inflates_without_end_is_not_inflated() -> None:
    bomb = Recorded(deflate=True)
    bomb.say(bytes(30_000_000), [], from_client=False, text=False)
    wire = Wire()
    *handshake, (_, small) = bomb.sent
    for from_client, sent in handshake:
        (wire.from_client if from_client else wire.from_server)(sent)
    assert len(small) < 100_000
    with pytest.raises(ProtocolError, match="inflated"):
        wire.from_server(small)


garbage = st.lists(st.tuples(st.booleans(), st.binary(max_size=200)), max_size=10)


def a_watch(protocol: str | None = None) -> Watch:
    return Watch(0, 0.0, protocol=protocol, keep_text=False)


@settings(deadline=None, max_examples=100)
@given(garbage, st.booleans())
def test_garbage_is_never_raised_only_counted(
    passed: list[tuple[bool, bytes]], after_a_handshake: bool
) -> None:
    watch = a_watch()
    start = Recorded(deflate=False).sent if after_a_handshake else []
    for from_client, data in [*start, *passed]:
        assert (watch.from_client if from_client else watch.from_server)(1.0, data) == []
    watch.rest()
    assert watch.seen().outcome in {"ok", "http", "failed", "refused", "not observed"}


NAMES = [
    *("session.created", "input_audio_buffer.append", "input_audio_buffer.committed"),
    *("input_audio_buffer.speech_started", f"{TRANSCRIPTION}.completed", "response.created"),
    *("response.output_audio.delta", "response.done", "final_user_request", "tts_chunk"),
]
FIELDS = ["audio", "delta", "content", "item_id", "session", "response", "segments", "transcript"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner),
    max_leaves=5,
)
odd_events = st.builds(
    lambda kind, more: {"type": kind, **more},
    st.sampled_from(NAMES),
    st.dictionaries(st.sampled_from([*FIELDS, "audio_start_ms", "status"]), values, max_size=4),
)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(["openai-realtime", "realtimevoicechat", "whisperlive"]),
    st.lists(st.tuples(st.booleans(), odd_events | values), max_size=12),
)
def test_odd_messages_of_any_shape_leave_the_watch_looking(
    protocol: str, said: list[tuple[bool, Any]]
) -> None:
    record = Recorded(deflate=False)
    for from_client, event in said:
        text = json.dumps(event).encode()
        record.say(text, [], from_client=from_client, text=True)
    watch = a_watch(protocol)
    for from_client, data in record.sent:
        (watch.from_client if from_client else watch.from_server)(1.0, data)
    watch.rest()
    assert watch.seen().outcome != "not observed", watch.seen().reason


# Where speech ends.


def noise(seconds: float, rate_hz: int, level_db: float) -> FloatArray:
    rng = np.random.default_rng(7)
    samples = rng.normal(0, 10 ** (level_db / 20), round(seconds * rate_hz))
    return samples.astype(np.float32)


def feed_in_packets(
    level: SpeechLevel, audio: FloatArray, rate_hz: int, samples: int, start_s: float = 0.0
) -> None:
    for at in range(0, len(audio), samples):
        piece = audio[at : at + samples]
        level.feed(start_s + (at + len(piece)) / rate_hz, piece, rate_hz)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([8_000, 16_000, 24_000, 48_000]),
    st.integers(100, 5000),
    st.floats(0.6, 3.0),
    st.floats(-75, -55),
)
def test_the_end_of_speech_is_found_to_a_frame_at_any_rate_and_packet_size(
    rate_hz: int, packet: int, spoken_s: float, quiet_db: float
) -> None:
    audio = np.concatenate(
        [
            noise(1.0, rate_hz, quiet_db),
            noise(spoken_s, rate_hz, -20),
            noise(1.5, rate_hz, quiet_db),
        ]
    )
    level = SpeechLevel()
    feed_in_packets(level, audio, rate_hz, packet, start_s=100.0)
    end = level.last()
    assert end is not None
    assert abs(end.end_s - (1.0 + spoken_s)) <= FRAME_S + 1e-3
    assert abs(end.at_s - 100 - end.end_s) < 1e-3
    assert abs(level.onset(end, 0.0, 1.0).start_s - 1.0) <= FRAME_S + 1e-3
    assert level.position_s == pytest.approx(len(audio) / rate_hz)


def test_the_end_of_speech_of_voices_is_found() -> None:
    errors_s = []
    for clip in builtin_clips(30, seed=5):
        level = SpeechLevel()
        quiet = noise(1.0, clip.rate_hz, -70)
        audio = np.concatenate([quiet, clip.audio, quiet])
        feed_in_packets(level, audio, clip.rate_hz, 320)
        end = level.last()
        assert end is not None
        errors_s.append(end.end_s - 1.0 - clip.speech_end_s)
    assert abs(float(np.median(errors_s))) < 0.04
    assert float(np.quantile(np.abs(errors_s), 0.9)) < 0.1


def test_a_click_is_not_speech() -> None:
    level = SpeechLevel()
    audio = np.concatenate([noise(0.5, 16_000, -20), noise(1.0, 16_000, -70)])
    audio[16_000 : 16_000 + 200] = 0.9
    feed_in_packets(level, audio, 16_000, 320)
    end = level.last()
    assert end is not None
    assert end.end_s == pytest.approx(0.5)


def test_audio_that_is_sent_at_once_was_spoken_when_it_was_sent() -> None:
    level = SpeechLevel()
    level.feed(10.0, noise(1.0, 16_000, -70), 16_000)
    level.feed(10.1, noise(2.0, 16_000, -20), 16_000)
    level.feed(10.2, noise(1.0, 16_000, -70), 16_000)
    end = level.last()
    assert end is not None
    assert end.at_s == pytest.approx(10.1)


# Turns on a virtual clock.


class Call:
    """A reader, a microphone that speaks at given times, and whatever the server says."""

    def __init__(self, reader: ProtocolReader, rate_hz: int, packet_s: float) -> None:
        self.reader = reader
        self.turns: list[Turn] = []
        self._rate_hz = rate_hz
        self._packet_s = packet_s
        self._now_s = 0.0
        self._rng = np.random.default_rng(3)

    def pack(self, audio: FloatArray) -> Message:
        raise NotImplementedError

    def until(self, at_s: float, *, speaking: bool = False) -> None:
        """The microphone runs on, one packet after the other."""
        while self._now_s + self._packet_s <= at_s + 1e-9:
            size = round(self._packet_s * self._rate_hz)
            audio = self._rng.normal(0, 0.1 if speaking else 1e-4, size).astype(np.float32)
            self._now_s += self._packet_s
            self.turns += self.reader.from_client(self._now_s, self.pack(audio))

    def send(self, kind: str, **fields: Any) -> None:
        message = text_message({"type": kind, **fields})
        self.turns += self.reader.from_client(self._now_s, message)

    def say(self, kind: str, **fields: Any) -> None:
        """The server says something."""
        message = text_message({"type": kind, **fields})
        self.turns += self.reader.from_server(self._now_s, message)

    def hang_up(self) -> list[Turn]:
        return [*self.turns, *self.reader.turns.rest()]


def text_message(content: Any) -> Message:
    return Message("text", json.dumps(content).encode())


class RealtimeCall(Call):
    def __init__(self, *, keep_text: bool = False) -> None:
        super().__init__(RealtimeReader(4, keep_text=keep_text), 24_000, 0.02)
        self.until(0.1)
        self.say("session.created", session={"type": "realtime"})

    def pack(self, audio: FloatArray) -> Message:
        encoded = base64.b64encode(float_to_pcm16(audio)).decode()
        return text_message({"type": "input_audio_buffer.append", "audio": encoded})

    def utterance(self, item: str, start_s: float, end_s: float) -> None:
        """Spoken, and taken by the server half a second after its end."""
        self.until(start_s)
        self.until(start_s + 0.2, speaking=True)
        begun_ms = 1000 * (start_s - 0.3)
        self.say("input_audio_buffer.speech_started", item_id=item, audio_start_ms=begun_ms)
        self.until(end_s, speaking=True)
        self.until(end_s + 0.5)
        stopped_ms = 1000 * (end_s + 0.46)
        self.say("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=stopped_ms)
        self.say("input_audio_buffer.committed", item_id=item)

    def final(self, item: str, text: str = "hello") -> None:
        self.say(f"{TRANSCRIPTION}.completed", item_id=item, transcript=text)

    def reply_audio(self, seconds: float) -> None:
        delta = base64.b64encode(bytes(round(seconds * 24_000) * 2)).decode()
        self.say("response.output_audio.delta", delta=delta)


def test_a_realtime_turn_is_timed_from_the_last_speech() -> None:
    call = RealtimeCall()
    call.utterance("a", 1.0, 2.0)
    call.until(2.6)
    call.final("a")
    call.say("response.created", response={"id": "r"})
    call.until(3.0)
    call.reply_audio(2.0)
    call.until(3.1)
    assert call.turns == []
    call.say("response.done", response={"id": "r", "status": "completed"})
    (turn,) = call.turns
    assert (turn.connection, turn.turn, turn.protocol) == (4, 0, "openai-realtime")
    assert turn.speech_start_at_s == pytest.approx(1.0, abs=FRAME_S)
    assert turn.speech_end_at_s == pytest.approx(2.0, abs=FRAME_S)
    assert turn.transcription_delay_s == pytest.approx(0.6, abs=FRAME_S)
    assert turn.response_latency_s == pytest.approx(1.0, abs=FRAME_S)
    assert turn.reply_last_audio_at_s == pytest.approx(3.0)
    # Not observable is absent: there were no partials, and no reply was interrupted.
    assert turn.partial_interval_s is None
    assert turn.barge_in_latency_s is None
    assert turn.heard is None
    assert (turn.partials, turn.spoke_on) == (0, False)
    assert call.reader.usable_at_s == pytest.approx(0.1)
    assert call.hang_up() == [turn]


def test_a_silent_response_that_calls_a_tool_is_not_the_reply() -> None:
    call = RealtimeCall()
    call.utterance("a", 1.0, 2.0)
    call.final("a")
    call.say("response.created", response={"id": "tool"})
    call.say("response.done", response={"id": "tool", "status": "completed"})
    call.until(3.5)
    call.say("response.created", response={"id": "r"})
    call.until(4.0)
    call.reply_audio(0.5)
    call.say("response.done", response={"id": "r", "status": "completed"})
    (turn,) = call.turns
    assert turn.response_latency_s == pytest.approx(2.0, abs=FRAME_S)


@pytest.mark.parametrize("ours", [False, True])
def test_partials_have_a_cadence(ours: bool) -> None:
    call = RealtimeCall(keep_text=True)
    call.until(1.0)
    for at_s in (1.4, 1.42, 1.7, 2.0):  # the first two are one burst
        call.until(at_s, speaking=True)
        if ours:
            call.say("rtvc.hypothesis", item_id="a", text="hel")
        else:
            call.say(f"{TRANSCRIPTION}.delta", item_id="a", delta="hel")
    call.until(2.5)
    call.say("input_audio_buffer.committed", item_id="a")
    call.final("a", "hello there")
    (turn,) = call.hang_up()
    assert turn.partials == 3
    assert turn.first_partial_delay_s == pytest.approx(0.4, abs=2 * FRAME_S)
    assert turn.partial_interval_s == pytest.approx(0.3)
    assert turn.heard == "hello there"


def replying(call: RealtimeCall) -> None:
    """A reply of 8 s, sent at once at 2.6."""
    call.utterance("a", 1.0, 2.0)
    call.final("a")
    call.say("response.created", response={"id": "r"})
    call.until(2.6)
    call.reply_audio(8.0)


def test_a_reply_that_is_spoken_over_and_cut_has_a_barge_in_latency() -> None:
    call = RealtimeCall()
    replying(call)
    call.until(4.0)
    call.until(4.26, speaking=True)
    call.say("input_audio_buffer.speech_started", item_id="b", audio_start_ms=3700)
    call.say("response.done", response={"id": "r", "status": "cancelled"})
    call.until(5.0, speaking=True)
    call.until(5.5)
    call.say("input_audio_buffer.committed", item_id="b")
    call.final("b")
    first, second = call.hang_up()
    assert first.barge_in_latency_s is None
    assert second.barge_in_latency_s == pytest.approx(0.26, abs=2 * FRAME_S)


def test_a_reply_sent_in_full_is_cut_by_its_client_who_says_so() -> None:
    call = RealtimeCall()
    replying(call)
    call.say("response.done", response={"id": "r", "status": "completed"})
    call.until(4.0)
    call.until(4.3, speaking=True)
    call.send("conversation.item.truncate", item_id="x", audio_end_ms=1400)
    call.until(5.0, speaking=True)
    call.until(5.5)
    call.say("input_audio_buffer.committed", item_id="b")
    call.final("b")
    _, second = call.hang_up()
    assert second.barge_in_latency_s == pytest.approx(0.3, abs=2 * FRAME_S)


@pytest.mark.parametrize("speech_s", [4.0, 11.5])
def test_a_reply_that_nobody_cut_or_that_was_over_has_none(speech_s: float) -> None:
    call = RealtimeCall()
    replying(call)
    call.say("response.done", response={"id": "r", "status": "completed"})
    call.utterance("b", speech_s, speech_s + 1)
    if speech_s > 11:
        call.send("conversation.item.truncate", item_id="x", audio_end_ms=8000)
    call.final("b")
    assert call.hang_up()[1].barge_in_latency_s is None


def test_a_final_that_never_comes_is_told_as_absent_and_one_that_comes_late_is_not_told_twice() -> (
    None
):
    call = RealtimeCall()
    call.utterance("a", 1.0, 2.0)
    call.until(12.4)
    assert call.turns == []
    call.until(12.6)
    (turn,) = call.turns
    assert (turn.final_at_s, turn.transcription_delay_s) == (None, None)
    assert turn.speech_end_at_s == pytest.approx(2.0, abs=FRAME_S)
    call.final("a")
    call.utterance("b", 14.0, 15.0)
    call.final("b")
    assert [turn.turn for turn in call.hang_up()] == [0, 1]


def test_a_session_without_replies_waits_for_none() -> None:
    call = RealtimeCall()
    call.say("session.updated", session={"type": "transcription"})
    call.utterance("a", 1.0, 2.0)
    call.final("a")
    assert len(call.turns) == 1
    call.utterance("b", 3.0, 4.0)
    call.say(f"{TRANSCRIPTION}.failed", item_id="b")
    assert call.turns[1].final_at_s is None


def test_speech_that_goes_on_before_the_final_is_said_so_and_moves_no_end() -> None:
    call = RealtimeCall()
    call.utterance("a", 1.0, 2.0)
    call.until(3.0, speaking=True)
    call.final("a")
    (turn,) = call.hang_up()
    assert turn.spoke_on
    assert turn.speech_end_at_s == pytest.approx(2.0, abs=FRAME_S)
    assert turn.transcription_delay_s == pytest.approx(1.0, abs=FRAME_S)


def test_a_client_that_commits_while_it_speaks_is_believed() -> None:
    call = RealtimeCall()
    call.until(1.0)
    call.until(2.0, speaking=True)
    call.send("input_audio_buffer.commit")
    call.until(2.2)
    call.say("input_audio_buffer.committed", item_id="a")
    call.until(2.5)
    call.final("a")
    (turn,) = call.hang_up()
    assert turn.transcription_delay_s == pytest.approx(0.5, abs=FRAME_S)
    assert not turn.spoke_on


def test_telephone_audio_and_the_beta_names_are_understood() -> None:
    reader = RealtimeReader(0)
    beta = {"input_audio_format": "g711_ulaw", "output_audio_format": "g711_alaw"}
    reader.from_server(0.0, text_message({"type": "session.created", "session": beta}))
    audio = base64.b64encode(bytes(800)).decode()
    event = {"type": "input_audio_buffer.append", "audio": audio}
    reader.from_client(0.1, text_message(event))
    assert reader.speech.position_s == pytest.approx(0.1)


class VoiceChatCall(Call):
    def __init__(self) -> None:
        super().__init__(RealtimeVoiceChatReader(0), 48_000, 2048 / 48_000)

    def pack(self, audio: FloatArray) -> Message:
        header = struct.pack(">II", round(1000 * self._now_s), 0)
        return Message("binary", header + float_to_pcm16(audio))


def test_a_turn_of_realtimevoicechat() -> None:
    call = VoiceChatCall()
    call.until(1.0)
    for at_s in (1.5, 2.0):
        call.until(at_s, speaking=True)
        call.say("partial_user_request", content="hel")
    end_s = call._now_s
    call.until(2.7)
    final_s = call._now_s
    call.say("final_user_request", content="hello")
    call.until(3.2)
    first_s = call._now_s
    call.say("tts_chunk", content=base64.b64encode(bytes(96_000 * 4)).decode())
    call.say("final_assistant_answer", content="hi")
    (turn,) = call.turns
    assert turn.protocol == "realtimevoicechat"
    assert turn.transcription_delay_s == pytest.approx(final_s - end_s, abs=FRAME_S)
    assert turn.response_latency_s == pytest.approx(first_s - end_s, abs=FRAME_S)
    assert turn.partials == 2
    assert call.reader.usable_at_s is None

    # Spoken over: stop_tts is what silences the page.
    call.until(4.5)
    onset_s = call._now_s
    call.until(4.9, speaking=True)
    call.say("stop_tts", content="")
    stop_s = call._now_s
    call.until(5.5, speaking=True)
    call.until(6.2)
    call.say("final_user_request", content="no")
    second = call.hang_up()[1]
    assert second.barge_in_latency_s == pytest.approx(stop_s - onset_s, abs=2 * FRAME_S)


def test_a_final_in_the_middle_of_speech_has_no_delay() -> None:
    call = VoiceChatCall()
    call.until(1.0)
    call.until(2.0, speaking=True)
    call.say("final_user_request", content="hel")
    call.until(3.0, speaking=True)
    call.until(3.7)
    call.say("final_user_request", content="hello")
    cut, whole = call.hang_up()
    assert (cut.spoke_on, cut.speech_end_at_s, cut.transcription_delay_s) == (True, None, None)
    assert not whole.spoke_on
    assert whole.transcription_delay_s == pytest.approx(0.7, abs=0.06)


class WhisperLiveCall(Call):
    def __init__(self, audio_format: str | None = None) -> None:
        super().__init__(WhisperLiveReader(0, keep_text=True), 16_000, 0.1)
        hello = {"uid": "u", "model": "small", "task": "transcribe", "language": None}
        if audio_format:
            hello["audio_format"] = audio_format
        self._int16 = audio_format == "int16"
        self.turns += self.reader.from_client(0.0, text_message(hello))

    def pack(self, audio: FloatArray) -> Message:
        return Message("binary", float_to_pcm16(audio) if self._int16 else audio.tobytes())

    def segments(self, *segments: tuple[float, float, str, bool]) -> None:
        wire = [
            {"start": f"{a:.3f}", "end": f"{b:.3f}", "text": text, "completed": done}
            for a, b, text, done in segments
        ]
        message = text_message({"uid": "u", "segments": wire})
        self.turns += self.reader.from_server(self._now_s, message)


@pytest.mark.parametrize("audio_format", [None, "int16"])
def test_a_turn_of_whisperlive_is_a_stretch_of_speech(audio_format: str | None) -> None:
    call = WhisperLiveCall(audio_format)
    call.until(0.5)
    ready = text_message({"uid": "u", "message": "SERVER_READY"})
    call.turns += call.reader.from_server(0.5, ready)
    call.until(1.0)
    call.until(2.5, speaking=True)
    call.segments((1.0, 2.4, "turn on", False))
    call.until(3.5, speaking=True)
    call.segments((1.0, 2.5, "turn on", True), (2.5, 3.4, "the", False))
    call.until(4.0, speaking=True)
    call.until(5.5)
    assert call.turns == []
    call.segments((1.0, 2.5, "turn on", True), (2.5, 3.9, "the lights", True))
    (turn,) = call.turns
    assert turn.transcription_delay_s == pytest.approx(1.5, abs=FRAME_S)
    assert turn.heard == "turn on the lights"
    assert (turn.reply_first_audio_at_s, turn.response_latency_s) == (None, None)
    assert turn.partial_interval_s == pytest.approx(1.0)
    assert call.reader.usable_at_s == 0.5
    call.until(7.0)
    call.until(8.0, speaking=True)
    call.until(10.0)
    call.segments((2.5, 3.9, "the lights", True), (7.0, 8.0, "off", True))
    assert call.turns[1].heard == "off"
    assert call.turns[1].transcription_delay_s == pytest.approx(2.0, abs=FRAME_S)


def test_a_whisperlive_that_is_full_refuses() -> None:
    reader = WhisperLiveReader(0)
    reader.from_server(0.1, text_message({"uid": "u", "status": "WAIT", "message": 3.5}))
    assert reader.refusal == "WAIT"


# What is said of it.


def some_turn(**changes: Any) -> Turn:
    known: dict[str, Any] = {field.name: None for field in fields(Turn)}
    known |= {"connection": 0, "turn": 0, "protocol": "whisperlive", "partials": 0}
    return Turn(**(known | {"spoke_on": False} | changes))


def test_n_stands_beside_every_quantile_and_few_samples_have_only_a_maximum() -> None:
    tally = Tally()
    for number in range(12):
        tally.turn(some_turn(transcription_delay_s=0.1 + number / 100, final_at_s=1.0))
    tally.turn(some_turn(spoke_on=True))
    told = tally.to_json()
    delay = told["metrics"]["transcription_delay_s"]
    assert delay["n"] == 12
    assert delay["p50"] == pytest.approx(0.155)
    assert delay["p95"] is None
    assert delay["max"] == pytest.approx(0.21)
    assert told["metrics"]["response_latency_s"] == {"p50": None, "p95": None, "max": None, "n": 0}
    assert told["turns_without_final"] == 1
    assert "1 of 13 turns without a final" in tally.notes()
    assert len(list(tally.table().rows)) == len(told["metrics"])


def test_what_is_absent_is_drawn_so() -> None:
    line = turn_line(some_turn(transcription_delay_s=0.3, final_at_s=2.0, heard="a\nb"))
    assert line == (
        "connection 0 turn 0: transcript 300 ms, reply –, first text –, texts every –: a b"
    )
    closed = Connection(3, 0.0, None, None, None, "failed", "connection refused", 0, 0)
    assert "failed (connection refused)" in connection_line(closed)


def test_turns_are_written_as_they_end_and_an_empty_cell_is_absent(tmp_path: Path) -> None:
    with TurnsFile(tmp_path / "new") as file:
        file.append(some_turn(heard='say "hi", twice', final_at_s=0.5))
        with file.path.open(newline="") as written:
            (row,) = csv.DictReader(written)
    assert row["heard"] == 'say "hi", twice'
    assert row["final_at_s"] == "0.5"
    assert row["response_latency_s"] == ""
    with pytest.raises(RecordError):
        TurnsFile(tmp_path / "new")


@pytest.mark.parametrize("text", ["", "ftp://x:1", "ws://", "ws://x:99999", "http://[::1"])
def test_a_target_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_target(text)


@pytest.mark.parametrize("text", ["", "localhost", "x:y", "99999", "[::1"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_listen(text)


# The relay.


class Seen:
    """What a tap told."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.connections: list[Connection] = []
        self.told = asyncio.Event()

    def turn(self, turn: Turn) -> None:
        self.turns.append(turn)
        self.told.set()

    def connection(self, connection: Connection) -> None:
        self.connections.append(connection)
        self.told.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                self.told.clear()
                await self.told.wait()


@asynccontextmanager
async def tapped(port: int, **options: Any) -> AsyncIterator[tuple[int, Seen]]:
    """A tap in front of a port of this machine."""
    seen = Seen()
    target = options.pop("target", Target("127.0.0.1", port, False, ""))
    tap = Tap(target, seen, SystemClock(), **options)
    async with tap.listening("127.0.0.1", 0) as tap_port:
        yield tap_port, seen


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def target(serve_one: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve_one(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()


HANDSHAKE = b"".join(data for from_client, data in Recorded(deflate=False).sent if from_client)
ANSWER = b"".join(data for from_client, data in Recorded(deflate=False).sent if not from_client)


async def exchange(
    there: Iterable[bytes], back: Iterable[bytes], tls: ssl.SSLContext | None = None, **options: Any
) -> tuple[bytes, bytes, list[Connection]]:
    """Bytes the target got, bytes the client got, what the tap says of it."""
    got, finished = bytearray(), asyncio.Event()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def answer() -> None:
            for piece in back:
                writer.write(piece)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

        answering = asyncio.create_task(answer())
        while data := await reader.read(1000):
            got.extend(data)
        await answering
        finished.set()

    async with target(serve_one, tls) as port:
        server = Target("127.0.0.1", port, tls is not None, "")
        async with tapped(port, target=server, **options) as (tap_port, seen):
            reader, writer = await asyncio.open_connection("127.0.0.1", tap_port)
            try:
                for piece in there:
                    writer.write(piece)
                    await writer.drain()
                if tls is None:
                    writer.write_eof()
                    received = await reader.read()
                else:
                    received = await reader.readexactly(sum(len(piece) for piece in back))
            finally:
                writer.close()
            await seen.until(lambda: bool(seen.connections))
            await finished.wait()
    return bytes(got), received, seen.connections


@settings(deadline=None, max_examples=25)
@given(
    st.binary(max_size=20_000),
    st.binary(max_size=20_000),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_every_byte_passes_unchanged_however_it_is_cut(
    there: bytes, back: bytes, after_a_handshake: bool, seed: int
) -> None:
    rng = random.Random(seed)
    if after_a_handshake:
        there, back = HANDSHAKE + there, ANSWER + back
    got, received, connections = asyncio.run(
        exchange(list(chunks(there, rng)), list(chunks(back, rng)))
    )
    assert got == there
    assert received == back
    assert len(connections) == 1


async def test_a_reader_that_breaks_does_not_break_the_relay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: Wire, data: bytes) -> list[Message]:
        raise RuntimeError("a mistake in the parser")

    monkeypatch.setattr(Wire, "from_client", broken)
    got, received, (connection,) = await exchange([HANDSHAKE], [ANSWER])
    assert (got, received) == (HANDSHAKE, ANSWER)
    assert connection.outcome == "not observed"
    assert connection.reason == "RuntimeError while reading"


async def test_a_target_behind_tls_is_spoken_to_plainly(tmp_path: Path) -> None:
    files = certificate_files("self-signed", tmp_path, "127.0.0.1", SystemClock())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    got, received, _ = await exchange([HANDSHAKE, b"x" * 500], [ANSWER], context, insecure=True)
    assert (got, received) == (HANDSHAKE + b"x" * 500, ANSWER)


async def test_an_unknown_certificate_is_not_believed(tmp_path: Path) -> None:
    files = certificate_files("self-signed", tmp_path, "127.0.0.1", SystemClock())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await exchange([HANDSHAKE], [ANSWER], context)


async def test_a_client_that_does_not_read_stops_the_server() -> None:
    total, sent = 96_000_000, 0
    piece = bytes(100_000)

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < total:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    async with target(pour) as port, tapped(port) as (tap_port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", tap_port)
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < total / 2
        received = 0
        while data := await reader.read(1_000_000):
            received += len(data)
        assert received == total
        writer.close()
        await writer.wait_closed()


async def test_a_target_that_is_not_there_hangs_up_and_is_counted() -> None:
    async with tapped(1) as (tap_port, seen):
        reader, writer = await asyncio.open_connection("127.0.0.1", tap_port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        await seen.until(lambda: bool(seen.connections))
    assert seen.connections[0].outcome == "failed"


async def test_the_end_of_the_tap_ends_its_connections() -> None:
    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with target(wait) as port:
        async with tapped(port) as (tap_port, seen):
            reader, writer = await asyncio.open_connection("127.0.0.1", tap_port)
            writer.write(HANDSHAKE)
            await asyncio.sleep(0.05)
        assert len(seen.connections) == 1
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


@asynccontextmanager
async def sink(mode: str = "answer") -> AsyncIterator[tuple[Sink, int]]:
    known = Sink(mode, 0.5)
    server = await known.listen(0)
    try:
        yield known, int(next(iter(server.sockets)).getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.slow
async def test_a_server_with_a_known_delay_is_timed_as_it_times_itself() -> None:
    spoken = resample(builtin_clips(1, seed=2, max_words=5)[0].audio, 16_000, 24_000)
    async with sink() as (known, port), tapped(port) as (tap_port, seen):
        async with session(f"http://127.0.0.1:{tap_port}", "") as peer:
            await peer.speak(np.concatenate([silence(0.4), spoken, silence(0.8)]))
            await peer.until("response.done")
            await seen.until(lambda: bool(seen.turns))
        await seen.until(lambda: bool(seen.connections))
    turn, (waited_s,) = seen.turns[-1], known.notes.waits_s()[-1:]
    assert turn.transcription_delay_s is not None
    assert turn.response_latency_s is not None
    assert abs(turn.transcription_delay_s - waited_s) < 0.15
    assert turn.response_latency_s >= turn.transcription_delay_s
    (connection,) = seen.connections
    assert (connection.outcome, connection.protocol) == ("ok", "openai-realtime")
    assert connection.connection_s is not None
    assert connection.handshake_s is not None
    assert 0 < connection.handshake_s <= connection.connection_s


async def test_a_server_that_is_full_is_counted_as_refusing() -> None:
    async with sink("refuse-503") as (_, port), tapped(port) as (tap_port, seen):
        with pytest.raises(InvalidStatus):
            async with connect(f"ws://127.0.0.1:{tap_port}/v1/realtime"):
                pass
        await seen.until(lambda: bool(seen.connections))
    (connection,) = seen.connections
    assert (connection.outcome, connection.reason) == ("refused", "HTTP 503")


async def test_a_refusal_by_close_code_is_seen_through_compression() -> None:
    async def refuse(wire: ServerConnection) -> None:
        await wire.send("{}")
        await wire.close(1013, "try again later")

    async with serve(refuse, "127.0.0.1", 0) as server:
        port = int(next(iter(server.sockets)).getsockname()[1])
        async with tapped(port) as (tap_port, seen):
            async with connect(f"ws://127.0.0.1:{tap_port}/v1/realtime") as wire:
                assert wire.response is not None
                assert "permessage-deflate" in wire.response.headers["Sec-WebSocket-Extensions"]
                await wire.wait_closed()
            await seen.until(lambda: bool(seen.connections))
    (connection,) = seen.connections
    assert (connection.outcome, connection.reason) == ("refused", "closed with 1013")


# The real server.


@pytest.mark.model
@pytest.mark.slow
async def test_a_spoken_turn_with_the_real_server(server_url: str) -> None:
    port = int(server_url.rpartition(":")[2])
    async with tapped(port, keep_text=True) as (tap_port, seen):
        url = f"http://127.0.0.1:{tap_port}"
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{url}/readyz")).json()["state"] == "ready"
        async with session(url) as peer:
            said = speech("turn on the lights.").audio
            await peer.speak(np.concatenate([silence(0.4), said, silence(0.8)]))
            await peer.until("response.done")
            await seen.until(lambda: bool(seen.turns))
            own = peer.of("rtvc.turn")[-1]
            heard = peer.transcripts()[0]
        await seen.until(lambda: len(seen.connections) == 2)
    (turn,) = seen.turns
    assert turn.heard == heard
    assert turn.transcription_delay_s is not None
    assert turn.response_latency_s is not None
    # The server counts from the last sample its VAD takes for speech, the tap from the level's.
    assert abs(turn.transcription_delay_s - own["transcription_delay_ms"] / 1000) < 0.2
    assert turn.response_latency_s > turn.transcription_delay_s
    assert turn.partials >= 1
    assert sorted(connection.outcome for connection in seen.connections) == ["http", "ok"]


# The command.


def tap_command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "rtvc", "profile", "tap", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_the_command_ends_by_itself_and_sums_up(tmp_path: Path) -> None:
    done = tap_command(
        *("127.0.0.1:0", "ws://127.0.0.1:1/ws", "--duration", "0.2"),
        *("--out", str(tmp_path), "--json"),
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["summary"]["turns"] == 0
    assert done.stderr.startswith("tap: clients connect to ws://127.0.0.1:")
    header = (tmp_path / "tap_turns.csv").read_text().splitlines()
    assert header == [",".join(field.name for field in fields(Turn))]


@pytest.mark.slow
def test_the_command_refuses_on_one_line() -> None:
    done = tap_command("127.0.0.1:0", "ws://127.0.0.1:1", "--protocol", "sip")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "expected a protocol of auto" in done.stderr
