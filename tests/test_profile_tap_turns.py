"""Turns on a virtual clock, and where speech ends: what the tap makes of what it saw."""

import base64
import json
import struct
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.audio import FloatArray, float_to_pcm16
from rtvc.profile.tap.protocols import (
    ProtocolReader,
    RealtimeReader,
    RealtimeVoiceChatReader,
    WhisperLiveReader,
)
from rtvc.profile.tap.speech import FRAME_S, SpeechLevel
from rtvc.profile.tap.turns import Turn
from rtvc.profile.tap.wire import Message
from rtvc.speech.corpus import builtin_clips

TRANSCRIPTION = "conversation.item.input_audio_transcription"


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


class Call(ABC):
    """A reader, a microphone that speaks at given times, and whatever the server says."""

    def __init__(self, reader: ProtocolReader, rate_hz: int, packet_s: float) -> None:
        self.reader = reader
        self.turns: list[Turn] = []
        self._rate_hz = rate_hz
        self._packet_s = packet_s
        self._now_s = 0.0
        self._rng = np.random.default_rng(3)

    @abstractmethod
    def pack(self, audio: FloatArray) -> Message:
        """The microphone's samples as this protocol sends them."""

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
