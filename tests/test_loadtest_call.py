"""One call, with a real simulated speaker, a fake server and exact times."""

import base64
import json
import random
from typing import Any

import numpy as np
import pytest

from rtvc.loadtest.speakers.call import SILENT_REPLY_S, Call
from rtvc.loadtest.speakers.meter import FRAME_S, Meter
from rtvc.loadtest.turns.measure import Measurement
from rtvc.loadtest.wire.realtime import WIRE_RATE_HZ, RealtimeClient
from rtvc.speech.corpus import Clip
from rtvc.speech.speaker import PreparedClip, Scenario, Speaker

START_S = 50.0
SPEECH_S = 1.0
CLIP_S = 1.2


def clip(text: str) -> PreparedClip:
    """One second of sound after 0.1 s of silence."""
    said = Clip(text, text, np.zeros(0, np.float32), 16_000, None, 0.4, 0.1, 0.1 + SPEECH_S, "v")
    pcm16 = np.zeros(int(CLIP_S * WIRE_RATE_HZ), np.int16)
    pcm16[int(0.1 * WIRE_RATE_HZ) : int(1.1 * WIRE_RATE_HZ)] = 8000
    return PreparedClip(said, WIRE_RATE_HZ, pcm16)


class Line:
    """A call and its clock; the clock moves frame by frame."""

    def __init__(self, scenario: Scenario) -> None:
        clips = [clip("one two"), clip("three four")]
        self.speaker = Speaker(clips, scenario, random.Random(1), WIRE_RATE_HZ)
        self.call = Call(
            RealtimeClient(transcription=False), self.speaker, Measurement(conversation=True)
        )
        self.frames = 0
        self.sent: list[dict[str, Any]] = []
        self.call.begin(START_S)

    @property
    def now_s(self) -> float:
        return START_S + self.frames * FRAME_S

    def run_until(self, at_s: float) -> None:
        while self.now_s < at_s - 1e-9:
            self.frames += 1
            self.call.tick(self.now_s)
            self.sent.append(json.loads(self.call.next_frame()))

    def server(self, at_s: float, kind: str, **fields: Any) -> list[dict[str, Any]]:
        self.run_until(at_s)
        return [
            json.loads(m) for m in self.call.receive(json.dumps({"type": kind, **fields}), at_s)
        ]

    def sound(self, at_s: float, seconds: float, reply: str = "r") -> None:
        delta = base64.b64encode(bytes(2 * int(seconds * WIRE_RATE_HZ))).decode()
        kind = "response.output_audio.delta"
        self.server(at_s, kind, response_id=reply, item_id="assistant", delta=delta)

    def answer(self, at_s: float, item: str, reply: str = "r") -> None:
        """Committed, transcribed, and a reply set about."""
        self.server(at_s, "input_audio_buffer.committed", item_id=item)
        kind = "conversation.item.input_audio_transcription.completed"
        self.server(at_s, kind, item_id=item, transcript="one two")
        self.server(at_s, "response.created", response={"id": reply})


AT_ONCE = Scenario(think_s=(0.5, 0.5), start_within_s=0.0, reply_timeout_s=5.0)


def started(scenario: Scenario = AT_ONCE) -> Line:
    """The first utterance is over at 51.1 and has been answered at 51.4."""
    line = Line(scenario)
    line.server(50.3, "input_audio_buffer.speech_started", item_id="a", audio_start_ms=100)
    line.answer(51.4, "a")
    return line


def test_every_frame_of_the_stream_is_sent_and_the_speech_is_in_it() -> None:
    line = Line(AT_ONCE)
    line.run_until(52.0)
    assert {message["type"] for message in line.sent} == {"input_audio_buffer.append"}
    stream = b"".join(base64.b64decode(message["audio"]) for message in line.sent)
    heard = np.flatnonzero(np.frombuffer(stream, "<i2"))
    assert len(stream) == 2 * 2 * WIRE_RATE_HZ
    assert (heard[0], heard[-1]) == (2_400, 26_399)


def test_the_speaker_waits_until_the_reply_has_been_heard_not_only_received() -> None:
    line = started()
    line.sound(51.6, 2.0)
    line.server(51.7, "response.done", response={"id": "r", "status": "completed"})
    line.run_until(56.0)
    second = line.speaker.utterances[1]
    assert START_S + second.start_s == pytest.approx(51.6 + 2.0 + 0.5)


def test_a_reply_that_never_ends_is_over_once_it_has_been_silent_long_enough() -> None:
    line = started()
    line.sound(51.6, 1.0)
    line.run_until(52.6 + SILENT_REPLY_S - 0.1)
    assert len(line.speaker.utterances) == 1
    line.run_until(52.6 + SILENT_REPLY_S + 0.7)
    assert len(line.speaker.utterances) == 2


def test_barge_in_stops_the_playback_and_tells_the_server_how_much_was_heard() -> None:
    interrupting = Scenario(
        interruption_probability=1.0, interrupt_after_s=(1.0, 1.0), start_within_s=0.0
    )
    line = started(interrupting)
    line.sound(51.6, 6.0)
    line.run_until(52.8)
    assert line.speaker.utterances[1].kind == "interruption"
    (truncate,) = line.server(53.0, "input_audio_buffer.speech_started", item_id="b")
    assert truncate["type"] == "conversation.item.truncate"
    assert truncate["item_id"] == "assistant"
    assert truncate["audio_end_ms"] == 1400
    line.server(53.01, "response.done", response={"id": "r", "status": "cancelled"})
    line.answer(54.2, "b", "r2")
    line.sound(54.4, 0.5, "r2")
    line.server(54.5, "response.done", response={"id": "r2", "status": "completed"})
    first, second = line.call.measurement.settled(56.0)
    assert second.interrupted_reply
    assert second.barge_in_stop_at_s == 53.0
    assert second.speech_start_at_s == pytest.approx(52.7)
    assert first.reply_first_audio_at_s == 51.6
    assert second.reply_first_audio_at_s == 54.4


def test_speech_noticed_while_nothing_plays_truncates_nothing() -> None:
    line = started()
    assert line.server(51.5, "input_audio_buffer.speech_started", item_id="b") == []


def test_sound_of_a_reply_already_cut_off_is_not_listened_to() -> None:
    line = started()
    line.sound(51.6, 3.0)
    line.server(52.0, "input_audio_buffer.speech_started", item_id="b")
    line.sound(52.1, 3.0)
    assert line.server(52.2, "input_audio_buffer.speech_started", item_id="c") == []


def test_a_reply_without_sound_lets_the_conversation_go_on() -> None:
    line = started()
    line.server(51.6, "response.done", response={"id": "r", "status": "completed"})
    line.run_until(52.3)
    assert START_S + line.speaker.utterances[1].start_s == pytest.approx(52.1, abs=0.021)


def test_stopping_finishes_the_utterance_and_waits_for_its_answers() -> None:
    line = Line(AT_ONCE)
    line.run_until(50.5)
    line.call.stop(50.5)
    assert not line.call.finished(50.5)
    line.run_until(51.3)
    assert line.speaker.done
    assert not line.call.finished(51.3), "the final is to come"
    line.server(51.4, "input_audio_buffer.speech_started", item_id="a", audio_start_ms=100)
    line.answer(51.4, "a")
    assert not line.call.finished(53.0), "the reply is to come"
    line.sound(51.6, 1.0)
    line.server(51.7, "response.done", response={"id": "r", "status": "completed"})
    assert line.call.finished(53.0)


def test_what_was_said_meanwhile_is_known_for_cross_talk() -> None:
    line = Line(AT_ONCE)
    line.run_until(52.0)
    assert line.call.said(50.5, 50.6) == ["one two"]
    assert line.call.said(51.2, 60.0) == []


def test_the_meter_counts_a_second_and_starts_anew() -> None:
    meter = Meter(process=7)
    for lag_s in (0.0004, 0.00041, 0.0201, 0.02):
        meter.frame(lag_s)
    meter.probe(0.003)
    meter.probe(0.001)
    row = meter.drain(1.0, speakers=2, cpu_ratio=None)
    assert (row.frames, row.late_frames, row.lag_max_s) == (4, 1, 0.0201)
    assert row.lag_histogram == "4:2 200:1 201:1"
    assert row.loop_lag_max_s == 0.003
    empty = meter.drain(2.0, speakers=2, cpu_ratio=None)
    assert (empty.frames, empty.lag_histogram, empty.loop_lag_max_s) == (0, "", None)
