"""RealtimeVoiceChat's messages as observations, and the other way; a whole call with it."""

import base64
import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.loadtest.speakers.call import Call
from rtvc.loadtest.turns.measure import Measurement
from rtvc.loadtest.wire.client import Seen
from rtvc.loadtest.wire.observations import (
    FinalFailed,
    FinalText,
    Garbage,
    ItemCommitted,
    PartialText,
    PlaybackStopped,
    ReplyAudio,
    ReplyCreated,
    ReplyDone,
    TurnedAway,
)
from rtvc.loadtest.wire.realtimevoicechat import WIRE_RATE_HZ, RealtimeVoiceChatClient
from rtvc.loadtest.wire.wires import WIRES
from rtvc.protocol.realtimevoicechat import decode_packet
from rtvc.speech.corpus import Clip
from rtvc.speech.scenario import Scenario
from rtvc.speech.speaker import PreparedClip, Speaker

EPOCH_MS = 1_700_000_000_000


def client() -> RealtimeVoiceChatClient:
    return RealtimeVoiceChatClient(epoch_ms=EPOCH_MS)


def says(made: RealtimeVoiceChatClient, kind: str, content: Any = "") -> Seen:
    return made.receive(json.dumps({"type": kind, "content": content}), 1.0)


def sound(seconds: float) -> str:
    return base64.b64encode(bytes(2 * round(48_000 * seconds))).decode()


def test_packets_carry_a_clock_that_goes_and_whether_a_reply_plays() -> None:
    made = client()
    packets = [decode_packet(made.append(bytes(4096))) for _ in range(100)]
    assert packets[0].timestamp_ms == EPOCH_MS % 2**32
    assert packets[99].timestamp_ms - packets[0].timestamp_ms == round(99 * 2048 / 48)
    assert not any(packet.playing for packet in packets)
    assert [json.loads(message) for message in made.playing(True)] == [{"type": "tts_start"}]
    assert decode_packet(made.append(bytes(4096))).playing
    assert [json.loads(message) for message in made.playing(False)] == [{"type": "tts_stop"}]
    assert not decode_packet(made.append(bytes(4096))).playing


def test_a_turn_lasts_until_its_final() -> None:
    made = client()
    assert says(made, "partial_user_request", "play") == PartialText(1.0, "turn-0", "play")
    assert says(made, "partial_user_request", "play ") is None, "nothing new"
    assert says(made, "final_user_request", "play jazz") == (
        ItemCommitted(1.0, "turn-0"),
        FinalText(1.0, "turn-0", "play jazz"),
    )
    assert says(made, "partial_user_request", "play") == PartialText(1.0, "turn-1", "play")


def test_a_partial_that_is_withdrawn_has_no_final() -> None:
    made = client()
    assert says(made, "partial_user_request", "") is None, "there was none"
    says(made, "partial_user_request", "hm")
    withdrawn = says(made, "partial_user_request", "")
    assert isinstance(withdrawn, FinalFailed)
    assert withdrawn.item_id == "turn-0"


def test_a_reply_lasts_until_the_next_final() -> None:
    made = client()
    says(made, "final_user_request", "hello")
    assert says(made, "partial_assistant_answer", "Hi") == ReplyCreated(1.0, "reply-1")
    assert says(made, "tts_chunk", sound(0.5)) == ReplyAudio(1.0, "reply-1", "reply-1", 0.5)
    assert says(made, "final_assistant_answer", "Hi.") == ReplyDone(1.0, "reply-1", "completed")
    assert says(made, "stop_tts") == PlaybackStopped(1.0)
    assert says(made, "tts_interruption") is None
    assert says(made, "tts_chunk", sound(0.1)) == ReplyAudio(1.0, "reply-1", "reply-1", 0.1)
    says(made, "final_user_request", "stop")
    assert says(made, "tts_chunk", sound(0.1)) == ReplyAudio(1.0, "reply-2", "reply-2", 0.1)


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (b"\xff\xfe", "garbage_not_json"),
        ('"x"', "garbage_not_object"),
        ("{}", "garbage_no_type"),
        ('{"type":"tts_chunk","content":"=?="}', "garbage_fields"),
        ('{"type":"partial_user_request","content":7}', "garbage_fields"),
        ('{"type":"final_user_request","content":null}', "garbage_fields"),
    ],
    ids=str,
)
def test_garbage_has_a_name(message: str | bytes, name: str) -> None:
    assert client().receive(message, 1.0) == Garbage(1.0, name)


def test_another_protocol_is_named() -> None:
    seen = client().receive('{"type":"session.created","session":{}}', 1.0)
    assert isinstance(seen, TurnedAway)
    assert seen.failure == "wrong_protocol"


JSON_VALUES = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
KINDS = [
    *("partial_user_request", "final_user_request", "partial_assistant_answer"),
    *("final_assistant_answer", "tts_chunk", "stop_tts", "tts_interruption", "hello"),
]


@settings(deadline=None, max_examples=200)
@given(messages=st.lists(st.tuples(st.sampled_from(KINDS), JSON_VALUES), max_size=8))
def test_nothing_a_server_sends_raises(messages: list[tuple[str, Any]]) -> None:
    made = client()
    for kind, content in messages:
        says(made, kind, content)


@settings(deadline=None, max_examples=100)
@given(message=st.binary(max_size=40) | st.text(max_size=40))
def test_no_bytes_raise(message: str | bytes) -> None:
    client().receive(message, 1.0)


class Line:
    """A call over this protocol, packet by packet."""

    START_S = 50.0

    def __init__(self, scenario: Scenario) -> None:
        said = Clip("c", "one two", np.zeros(0, np.float32), 16_000, None, 0.4, 0.1, 1.1, "v")
        pcm16 = np.zeros(int(1.2 * WIRE_RATE_HZ), np.int16)
        clip = PreparedClip(said, WIRE_RATE_HZ, pcm16)
        wire = WIRES["realtimevoicechat"]
        self.frame_s = wire.frame_s(None)
        speaker = Speaker([clip], scenario, random.Random(1), WIRE_RATE_HZ, self.frame_s)
        self.call = Call(client(), speaker, Measurement(conversation=True))
        self.sent: list[str] = []
        self.playing: list[bool] = []
        assert self.call.upgraded(self.START_S - 0.1) == []
        self.call.begin(self.START_S)
        self.frames = 0

    def flags(self) -> list[bool]:
        """Whether a reply played, by packet."""
        return list(self.playing)

    def _send(self, messages: list[Any]) -> None:
        self.sent += [json.loads(message)["type"] for message in messages]

    def until(self, at_s: float) -> None:
        while self.START_S + self.frames * self.frame_s < at_s - 1e-9:
            self.frames += 1
            self._send(self.call.tick(self.START_S + self.frames * self.frame_s))
            packet = self.call.append(self.call.next_pcm16())
            assert isinstance(packet, bytes)
            self.playing.append(decode_packet(packet).playing)

    def server(self, at_s: float, kind: str, content: str = "") -> None:
        self.until(at_s)
        self._send(self.call.receive(json.dumps({"type": kind, "content": content}), at_s))


AT_ONCE = Scenario(think_s=(0.5, 0.5), start_within_s=0.0, reply_timeout_s=5.0)


def test_a_call_speaks_at_once_and_hears_its_reply_out() -> None:
    line = Line(AT_ONCE)
    assert line.call.usable_at_s == line.START_S - 0.1
    line.server(50.7, "partial_user_request", "one")
    line.server(51.4, "final_user_request", "one two")
    line.server(51.6, "tts_chunk", sound(2.0))
    line.server(51.7, "final_assistant_answer", "Three.")
    line.until(53.4)
    assert line.sent == ["tts_start"]
    assert line.flags()[-1]
    line.until(54.0)
    assert line.sent == ["tts_start", "tts_stop"]
    assert not line.flags()[-1]
    (turn,) = line.call.measurement.settled(60.0)[:1]
    assert (turn.heard, turn.final_at_s, turn.reply_first_audio_at_s) == ("one two", 51.4, 51.6)


def test_an_interruption_stops_the_reply_and_says_so() -> None:
    eager = Scenario(interruption_probability=1.0, interrupt_after_s=(1.0, 1.0), start_within_s=0.0)
    line = Line(eager)
    line.server(51.4, "final_user_request", "one two")
    line.server(51.6, "tts_chunk", sound(9.0))
    line.server(53.0, "final_assistant_answer", "Three f")
    line.server(53.0, "stop_tts")
    assert line.sent == ["tts_start", "tts_stop"]
    line.server(53.01, "tts_interruption")
    line.server(54.2, "final_user_request", "one two")
    line.server(54.4, "tts_chunk", sound(0.5))
    line.server(54.5, "final_assistant_answer", "Five.")
    first, second = line.call.measurement.settled(56.0)[:2]
    assert second.interrupted_reply
    assert second.barge_in_stop_at_s == 53.0
    assert (first.reply_first_audio_at_s, second.reply_first_audio_at_s) == (51.6, 54.4)
