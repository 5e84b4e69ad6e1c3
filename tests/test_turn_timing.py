"""The segments of a turn add up to what was felt."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.server.replies.reply import ReplyTimings
from rtvc.server.sessions.listener import Cost
from rtvc.server.sessions.turn_timing import TurnClock
from rtvc.stt.transcriber import Hypothesis
from rtvc.voice.session import Judgement, SpeechStopped

lengths = st.floats(0, 2)


def a_hypothesis(queue_wait_s: float, work_s: float) -> Hypothesis:
    return Hypothesis(
        text="hello",
        audio_s=1.0,
        queue_wait_s=queue_wait_s,
        features_s=work_s / 4,
        encode_s=work_s / 4,
        decode_s=work_s / 2,
        batch_size=2,
        tokens=1,
    )


def a_turn(
    *,
    vad_s: float = 0.05,
    wait_s: float = 0.2,
    asked_after_s: float = 0.07,
    queue_s: float = 0.0,
    work_s: float = 0.04,
    last_speech_at_s: float = 100.0,
) -> TurnClock:
    decided_at_s = last_speech_at_s + vad_s + wait_s
    asked_at_s = last_speech_at_s + asked_after_s
    received_at_s = asked_at_s + queue_s + work_s
    stopped = SpeechStopped(
        "item", 9.0, 1.0, 8.5, 8.52, last_speech_at_s, last_speech_at_s + vad_s, decided_at_s
    )
    cost = Cost(asked_at_s, received_at_s, a_hypothesis(queue_s, work_s))
    return TurnClock(stopped, cost, final_at_s=max(decided_at_s, received_at_s) + 0.01)


def names(segments: Any) -> list[str]:
    return [segment.name for segment in segments]


def test_before_the_final_there_is_nothing_to_tell() -> None:
    turn = a_turn()
    assert TurnClock(turn.stopped).timings("transcript", None, "m") is None
    assert TurnClock(turn.stopped, turn.cost).timings("transcript", None, "m") is None


def test_work_done_while_waiting_is_hidden() -> None:
    timings = a_turn().timings("transcript", None, "selftest")
    assert timings is not None
    assert names(timings.segments) == ["vad_delay", "endpoint_wait", "emit"]
    assert names(timings.hidden) == ["features", "encode", "decode"]
    assert timings.transcription_delay_ms == pytest.approx(260)
    assert timings.unaccounted_ms == pytest.approx(0, abs=0.1)
    assert (timings.model, timings.batch_size, timings.audio_ms) == ("selftest", 2, 1000)
    assert (timings.last_speech_ms, timings.received_ms) == (8500, 8520)


def a_judged_turn(asked_after_s: float, took_s: float, held_after_s: float | None) -> TurnClock:
    turn = a_turn(wait_s=0.45)
    start_s = turn.stopped.last_speech_at_s
    asked_at_s = start_s + asked_after_s
    held_up_from_s = None if held_after_s is None else start_s + held_after_s
    judgement = Judgement(0.9, asked_at_s, asked_at_s + took_s, held_up_from_s)
    turn.stopped = replace(turn.stopped, judgement=judgement)
    return turn


def test_a_turn_model_that_answers_in_the_wait_is_hidden() -> None:
    timings = a_judged_turn(0.2, 0.05, None).timings("transcript", None, "m")
    assert timings is not None
    assert names(timings.segments) == ["vad_delay", "endpoint_wait", "emit"]
    (judged,) = [segment for segment in timings.hidden if segment.name == "turn_model"]
    assert [judged.start_ms, judged.duration_ms] == pytest.approx([200, 50])


def test_a_turn_model_that_answers_late_is_felt_from_when_it_was_waited_for() -> None:
    timings = a_judged_turn(0.2, 0.3, 0.3).timings("transcript", None, "m")
    assert timings is not None
    assert names(timings.segments) == ["vad_delay", "endpoint_wait", "turn_model", "emit"]
    felt = timings.segments[2]
    assert [felt.start_ms, felt.duration_ms] == pytest.approx([300, 200])
    (hidden,) = [segment for segment in timings.hidden if segment.name == "turn_model"]
    assert hidden.duration_ms == pytest.approx(100)
    assert timings.unaccounted_ms == pytest.approx(0, abs=0.1)


def test_work_left_after_the_decision_is_felt() -> None:
    timings = a_turn(queue_s=0.1, work_s=0.4).timings("transcript", None, "m")
    assert timings is not None
    assert names(timings.segments)[2:] == ["features", "encode", "decode", "emit"]
    assert "queue_wait" in names(timings.hidden)


@given(vad_s=lengths, wait_s=lengths, queue_s=lengths, work_s=lengths)
def test_the_segments_are_contiguous_and_add_up(
    vad_s: float, wait_s: float, queue_s: float, work_s: float
) -> None:
    # Asked at the first silence or, at the latest, at the decision.
    turn = a_turn(vad_s=vad_s, wait_s=wait_s, asked_after_s=vad_s, queue_s=queue_s, work_s=work_s)
    timings = turn.timings("transcript", None, "m")
    assert timings is not None
    total_ms = sum(segment.duration_ms for segment in timings.segments)
    assert total_ms + timings.unaccounted_ms == pytest.approx(
        timings.transcription_delay_ms, abs=0.1
    )
    assert timings.unaccounted_ms == pytest.approx(0, abs=0.1)
    at_ms = 0.0
    for segment in timings.segments:
        assert segment.start_ms == pytest.approx(at_ms, abs=0.1)
        at_ms = segment.start_ms + segment.duration_ms
    hidden_ms = sum(segment.duration_ms for segment in timings.hidden)
    assert hidden_ms <= 1000 * (queue_s + work_s) + 0.1


def test_a_reply_adds_its_own_segments() -> None:
    turn = a_turn()
    assert turn.final_at_s is not None
    turn.reply_asked_at_s = turn.final_at_s
    turn.reply = ReplyTimings(llm_ttft_s=0.1, first_sentence_s=0.05, tts_ttfb_s=0.02)
    turn.reply_at_s = turn.final_at_s + 0.2
    timings = turn.timings("reply", "resp", "m")
    assert timings is not None
    assert names(timings.segments)[-4:] == ["llm_ttft", "llm_sentence", "tts_ttfb", "send"]
    assert timings.response_latency_ms == pytest.approx(460)
    assert timings.unaccounted_ms == pytest.approx(0, abs=0.1)
    assert timings.response_id == "resp"


def test_instants_at_zero_are_instants() -> None:
    turn = a_turn(last_speech_at_s=-0.26)
    assert turn.final_at_s == pytest.approx(0.0)
    turn.final_at_s = -0.001
    turn.reply_asked_at_s, turn.reply_at_s = 0.0, 0.0
    timings = turn.timings("reply", "resp", "m")
    assert timings is not None
    assert timings.segments[-1].start_ms == pytest.approx(260)
    assert timings.response_latency_ms == pytest.approx(260)
