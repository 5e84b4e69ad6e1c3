"""What a caller said joined with what came back, at exact times."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.loadtest.turns.measure import Measurement, Turn
from rtvc.loadtest.wire.observations import (
    ErrorReported,
    FinalFailed,
    FinalText,
    Garbage,
    ItemCommitted,
    PartialText,
    ReplyAudio,
    ReplyCreated,
    ReplyDone,
    SpeechStarted,
)

STREAM_START_S = 100.0


@dataclass
class Said:
    """An utterance of two words: speech for 2 s, the first word over after 0.4 s."""

    index: int
    speech_start_s: float
    speech_end_s: float = 0.0
    kind: str = "utterance"
    text: str = "hello there"
    voice: str = "en-us"
    complete: bool = True

    def __post_init__(self) -> None:
        self.speech_end_s = self.speech_end_s or self.speech_start_s + 2.0

    @property
    def first_word_end_s(self) -> float:
        return self.speech_start_s + 0.4

    @property
    def word_ends_s(self) -> tuple[float, ...] | None:
        return (self.first_word_end_s, self.speech_end_s)


def at(stream_s: float) -> float:
    return STREAM_START_S + stream_s


def measuring(*said: Said, conversation: bool = False) -> Measurement:
    measurement = Measurement(conversation=conversation, grace_s=10.0, settle_s=1.0)
    measurement.begin(STREAM_START_S, said)
    return measurement


def only(turns: list[Turn]) -> Turn:
    assert len(turns) == 1, turns
    return turns[0]


def test_an_answered_utterance_is_measured_from_the_end_of_speech() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(SpeechStarted(at(1.3), "a", None))
    measurement.observe(PartialText(at(1.6), "a", " "))
    measurement.observe(PartialText(at(1.9), "a", "hello"))
    measurement.observe(FinalText(at(3.25), "a", "hello there "))
    turn = only(measurement.settled(at(4.25)))
    assert turn.heard == "hello there"
    assert turn.item_id == "a"
    assert turn.first_word_end_at_s == at(1.4)
    assert turn.first_partial_at_s == at(1.9)
    assert turn.speech_end_at_s == at(3.0)
    assert turn.final_at_s == at(3.25)
    assert (turn.finals, turn.premature_finals) == (1, 0)
    assert not turn.reply_expected


def test_the_first_complaint_is_kept_that_of_a_lost_answer_before_others() -> None:
    measurement = measuring(Said(0, 1.0), conversation=True)
    complaints = [measurement.complaint]
    for seen in (
        ErrorReported(at(0.5), "no such item"),
        ReplyDone(at(3.5), "r", "failed", "quota exceeded"),
        ReplyDone(at(9.5), "s", "failed", "still exceeded"),
    ):
        measurement.observe(seen)
        complaints.append(measurement.complaint)
    assert complaints == [None, "no such item", "quota exceeded", "quota exceeded"]


def test_a_turn_is_told_once_and_not_before_it_has_settled() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(FinalText(at(3.25), "a", "hello there"))
    assert measurement.settled(at(4.2)) == []
    assert not measurement.all_settled(at(4.2))
    assert len(measurement.settled(at(4.3))) == 1
    assert measurement.settled(at(4.3)) == []
    assert measurement.all_settled(at(4.3))


def test_a_final_that_never_comes_is_missing_after_the_grace() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(PartialText(at(1.5), "a", "hello"))
    assert measurement.settled(at(12.9)) == []
    turn = only(measurement.settled(at(13.1)))
    assert turn.final_at_s is None
    assert turn.heard is None
    assert turn.first_partial_at_s == at(1.5)
    assert turn.item_id == "a"


def test_a_final_after_the_grace_is_missing_and_counted_as_late() -> None:
    told, waiting = measuring(Said(0, 1.0)), measuring(Said(0, 1.0))
    only(told.settled(at(13.1)))
    for measurement in (told, waiting):
        measurement.observe(FinalText(at(13.5), "a", "hello there"))
        assert measurement.counts["late_finals"] == 1
    assert only(waiting.settled(at(14.6))).final_at_s is None
    assert told.settled(at(20.0)) == []


def test_swapped_finals_go_to_the_utterance_of_their_item() -> None:
    measurement = measuring(Said(0, 1.0), Said(1, 6.0))
    measurement.observe(SpeechStarted(at(1.2), "a", None))
    measurement.observe(SpeechStarted(at(6.2), "b", None))
    measurement.observe(FinalText(at(8.3), "b", "second"))
    measurement.observe(FinalText(at(8.4), "a", "first"))
    first, second = measurement.settled(at(10.0))
    assert (first.heard, first.final_at_s) == ("first", at(8.4))
    assert (second.heard, second.final_at_s) == ("second", at(8.3))


def test_a_missing_final_is_not_filled_with_the_next_one() -> None:
    measurement = measuring(Said(0, 1.0), Said(1, 6.0))
    measurement.observe(SpeechStarted(at(1.2), "a", None))
    measurement.observe(SpeechStarted(at(6.2), "b", None))
    measurement.observe(FinalText(at(8.3), "b", "second"))
    first, second = measurement.settled(at(20.0))
    assert first.heard is None
    assert second.heard == "second"


def test_where_the_audio_began_wins_over_when_the_server_said_so() -> None:
    """A server three seconds behind reports the first utterance during the second."""
    measurement = measuring(Said(0, 1.0), Said(1, 4.0))
    measurement.observe(SpeechStarted(at(4.5), "a", 0.8))
    measurement.observe(SpeechStarted(at(7.1), "b", 3.7))
    measurement.observe(FinalText(at(7.2), "a", "first"))
    measurement.observe(FinalText(at(7.3), "b", "second"))
    first, second = measurement.settled(at(9.0))
    assert (first.heard, second.heard) == ("first", "second")
    assert first.final_at_s == at(7.2)


def test_a_position_in_audio_not_yet_sent_is_not_believed() -> None:
    measurement = measuring(Said(0, 1.0), Said(1, 6.0))
    measurement.observe(SpeechStarted(at(1.2), "a", 6.1))
    measurement.observe(FinalText(at(3.2), "a", "first"))
    assert only(measurement.settled(at(5.0))).heard == "first"


def test_what_was_to_be_read_is_kept_change_by_change() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(PartialText(at(1.9), "a", "hello"))
    measurement.observe(PartialText(at(1.91), "a", " hello "))
    measurement.observe(FinalText(at(2.0), "a", "hallo"))
    measurement.observe(SpeechStarted(at(2.2), "b", None))
    measurement.observe(PartialText(at(2.6), "b", "here"))
    measurement.observe(FinalText(at(3.3), "b", "there"))
    turn = only(measurement.settled(at(5.0)))
    assert turn.shown == (
        (at(1.9), "hello"),
        (at(2.0), "hallo"),
        (at(2.6), "hallo here"),
        (at(3.3), "hallo there"),
    )


def test_two_finals_of_one_utterance_are_joined_in_the_order_of_speaking() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(SpeechStarted(at(1.2), "a", None))
    measurement.observe(SpeechStarted(at(2.2), "b", None))
    measurement.observe(FinalText(at(3.3), "b", "there"))
    measurement.observe(FinalText(at(3.4), "a", "hello"))
    turn = only(measurement.settled(at(5.0)))
    assert turn.heard == "hello there"
    assert (turn.finals, turn.premature_finals) == (2, 1)
    assert turn.final_at_s == at(3.4)


def test_a_split_utterance_waits_for_its_second_half() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(SpeechStarted(at(1.2), "a", None))
    measurement.observe(FinalText(at(2.0), "a", "hello"))
    measurement.observe(SpeechStarted(at(2.2), "b", None))
    assert measurement.settled(at(5.0)) == []
    measurement.observe(FinalText(at(6.0), "b", "there"))
    turn = only(measurement.settled(at(7.0)))
    assert (turn.finals, turn.premature_finals, turn.final_at_s) == (2, 1, at(6.0))


def test_a_final_before_the_end_of_speech_is_premature_and_early() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(FinalText(at(2.9), "a", "hello there"))
    turn = only(measurement.settled(at(4.0)))
    assert turn.premature_finals == 1
    assert turn.final_at_s == at(2.9)


def test_a_final_that_came_before_the_end_was_spoken_is_not_the_last_one() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(FinalText(at(2.0), "a", "hello"))
    assert measurement.settled(at(12.9)) == [], "the rest of it may come"
    turn = only(measurement.settled(at(13.1)))
    assert (turn.heard, turn.final_at_s) == ("hello", None), "no delay of -1 s: it is missing"
    assert (turn.finals, turn.premature_finals) == (1, 1)


def test_hanging_up_holds_no_rest_missing_that_still_had_time() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(FinalText(at(2.0), "a", "hello"))
    assert measurement.cut(at(5.0)) == []


def test_an_empty_final_beside_one_with_text_changes_nothing() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(FinalText(at(3.2), "a", "hello there"))
    measurement.observe(FinalText(at(3.9), "noise", " "))
    turn = only(measurement.settled(at(5.0)))
    assert (turn.finals, turn.premature_finals, turn.final_at_s) == (1, 0, at(3.2))


def test_an_empty_final_alone_is_a_final_with_nothing_heard() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(FinalText(at(3.2), "a", ""))
    turn = only(measurement.settled(at(5.0)))
    assert turn.heard == ""
    assert turn.final_at_s == at(3.2)
    assert turn.first_partial_at_s is None


def test_text_before_anything_was_said_is_counted_and_credited_to_nobody() -> None:
    measurement = measuring(Said(0, 5.0))
    measurement.observe(FinalText(at(1.0), "a", "thank you"))
    assert measurement.counts["finals_without_utterance"] == 1
    assert only(measurement.settled(at(20.0))).heard is None


def test_a_second_final_of_the_same_item_is_counted_and_ignored() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(FinalText(at(3.2), "a", "hello there"))
    measurement.observe(FinalText(at(3.6), "a", "something else"))
    turn = only(measurement.settled(at(5.0)))
    assert (turn.heard, turn.finals) == ("hello there", 1)
    assert measurement.counts["duplicate_finals"] == 1


def test_a_failed_transcription_is_missing_under_its_own_name() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(FinalFailed(at(3.2), "a", "engine died"))
    assert only(measurement.settled(at(13.1))).final_at_s is None
    assert measurement.counts == {"failed_transcriptions": 1}


def test_garbage_and_errors_are_counted_by_name() -> None:
    measurement = measuring()
    measurement.observe(Garbage(at(0.0), "garbage_not_json"))
    measurement.observe(ErrorReported(at(0.0), "no"))
    assert measurement.counts == {"garbage_not_json": 1, "server_errors": 1}


def test_hanging_up_early_keeps_answers_and_holds_nothing_missing() -> None:
    measurement = measuring(Said(0, 1.0), Said(1, 6.0))
    measurement.observe(FinalText(at(3.2), "a", "first"))
    assert [turn.heard for turn in measurement.cut(at(8.5))] == ["first"]
    assert measurement.settled(at(30.0))[0].utterance.index == 1


def test_when_the_server_hangs_up_what_was_said_is_missing() -> None:
    measurement = measuring(Said(0, 1.0), Said(1, 6.0, complete=False))
    turn = only(measurement.lost(at(3.5)))
    assert (turn.utterance.index, turn.final_at_s) == (0, None)


@pytest.mark.parametrize(
    ("now_s", "spoken_s"), [(0.9, 0.0), (1.5, 0.5), (2.9, 1.9), (3.0, 0.0), (5.9, 0.0), (6.5, 0.5)]
)
def test_how_much_of_an_utterance_has_been_spoken(now_s: float, spoken_s: float) -> None:
    measurement = measuring(Said(0, 1.0), Said(1, 6.0, complete=False))
    assert measurement.under_way_s(at(now_s)) == pytest.approx(spoken_s)


def test_who_has_said_nothing_yet_is_not_speaking() -> None:
    assert measuring().under_way_s(at(5.0)) == 0.0


def reply(measurement: Measurement, name: str, *pieces: tuple[float, float]) -> None:
    for at_s, audio_s in pieces:
        measurement.observe(ReplyAudio(at(at_s), name, f"item of {name}", audio_s))


def conversing(*said: Said) -> Measurement:
    """The first utterance is over and transcribed; its reply has been created."""
    measurement = measuring(*said, conversation=True)
    measurement.observe(SpeechStarted(at(1.2), "a", None))
    measurement.observe(ItemCommitted(at(3.2), "a"))
    measurement.observe(FinalText(at(3.3), "a", "hello there"))
    measurement.observe(ReplyCreated(at(3.4), "r"))
    return measurement


def test_a_reply_is_measured_to_its_first_and_last_sample() -> None:
    measurement = conversing(Said(0, 1.0))
    reply(measurement, "r", (3.6, 1.0), (3.7, 2.0))
    assert measurement.settled(at(6.0)) == []
    measurement.observe(ReplyDone(at(3.8), "r", "completed"))
    turn = only(measurement.settled(at(6.0)))
    assert turn.reply_expected
    assert (turn.reply_first_audio_at_s, turn.reply_last_audio_at_s) == (at(3.6), at(3.7))
    assert measurement.replies["r"].playback.silent_at_s == pytest.approx(at(6.6))


@pytest.mark.parametrize(
    ("status", "reason", "heard"),
    [
        ("completed", None, True),
        ("incomplete", None, True),
        ("failed", None, False),
        ("failed", "llm_timeout", False),
        ("incomplete", "content_filter", False),
    ],
)
def test_an_apology_is_no_reply(status: str, reason: str | None, heard: bool) -> None:
    measurement = conversing(Said(0, 1.0))
    reply(measurement, "r", (3.6, 1.0))
    measurement.observe(ReplyDone(at(3.8), "r", status, reason))
    turn = only(measurement.settled(at(6.0)))
    assert turn.reply_expected
    assert turn.reply_first_audio_at_s == (at(3.6) if heard else None)
    assert measurement.counts["failed_replies"] == (not heard)


def test_a_reply_that_never_comes_was_expected() -> None:
    measurement = conversing(Said(0, 1.0))
    assert measurement.settled(at(12.9)) == []
    turn = only(measurement.settled(at(13.1)))
    assert turn.reply_expected
    assert turn.reply_first_audio_at_s is None


def test_the_reply_to_the_whole_utterance_counts_not_the_one_to_its_first_half() -> None:
    measurement = conversing(Said(0, 1.0, 6.0))
    reply(measurement, "r", (3.6, 1.0))
    measurement.observe(ReplyDone(at(3.9), "r", "cancelled"))
    measurement.observe(SpeechStarted(at(3.9), "b", None))
    measurement.observe(ItemCommitted(at(6.2), "b"))
    measurement.observe(FinalText(at(6.3), "b", "again"))
    assert measurement.settled(at(7.4)) == [], "the reply to the second half is to come"
    measurement.observe(ReplyCreated(at(7.5), "r2"))
    reply(measurement, "r2", (7.6, 1.0))
    measurement.observe(ReplyDone(at(7.7), "r2", "completed"))
    turn = only(measurement.settled(at(7.8)))
    assert turn.reply_first_audio_at_s == at(7.6)
    assert turn.premature_finals == 1


def test_barge_in_is_measured_to_the_last_sound_of_the_reply() -> None:
    measurement = conversing(Said(0, 1.0), Said(1, 5.0, kind="interruption"))
    reply(measurement, "r", (3.6, 1.5), (5.2, 3.0))
    measurement.observe(SpeechStarted(at(5.3), "b", None))
    measurement.replies["r"].playback.stop(at(5.3))
    measurement.observe(ReplyDone(at(5.3), "r", "cancelled"))
    measurement.observe(FinalText(at(7.2), "b", "stop"))
    _, turn = measurement.lost(at(9.0))
    assert turn.interrupted_reply
    assert turn.barge_in_stop_at_s == at(5.3)


def test_sound_that_comes_after_the_caller_stopped_listening_still_counts() -> None:
    measurement = conversing(Said(0, 1.0), Said(1, 5.0, kind="interruption"))
    reply(measurement, "r", (3.6, 3.0))
    measurement.replies["r"].playback.stop(at(5.3))
    reply(measurement, "r", (5.7, 0.2))
    _, turn = measurement.lost(at(9.0))
    assert turn.barge_in_stop_at_s == at(5.7)
    assert measurement.replies["r"].playback.heard_s(at(9.0)) == pytest.approx(1.7)


def test_an_utterance_after_the_reply_has_been_heard_interrupts_nothing() -> None:
    measurement = conversing(Said(0, 1.0), Said(1, 5.0))
    reply(measurement, "r", (3.6, 1.3))
    _, turn = measurement.lost(at(9.0))
    assert not turn.interrupted_reply
    assert turn.barge_in_stop_at_s is None


@settings(deadline=None, max_examples=60)
@given(delays=st.lists(st.floats(0.0, 9.0), min_size=1, max_size=8))
def test_finals_in_any_order_find_their_utterance(delays: list[float]) -> None:
    said = [Said(k, 1.0 + 4.0 * k) for k in range(len(delays))]
    measurement = measuring(*said)
    for u in said:
        measurement.observe(SpeechStarted(at(u.speech_start_s + 0.1), f"i{u.index}", None))
    arrivals = sorted((u.speech_end_s + d, u.index) for u, d in zip(said, delays, strict=True))
    for arrives_s, index in arrivals:
        measurement.observe(FinalText(at(arrives_s), f"i{index}", str(index)))
    turns = measurement.settled(at(arrivals[-1][0] + 100))
    assert [turn.heard for turn in turns] == [str(u.index) for u in said]
    measured = [(turn.final_at_s or 0) - turn.speech_end_at_s for turn in turns]
    assert measured == pytest.approx(delays, abs=1e-6)


@pytest.mark.parametrize(
    ("shown_s", "interval_s"),
    [
        ([], None),
        ([3.5], None),  # after the end of speech
        ([1.9], 0.8),  # 0.5 s after the first word, then nothing for 1.1 s
        ([1.2], 1.8),  # within the first word: only what follows is a wait
        ([1.9, 2.4, 2.9], 0.5),
        ([1.9, 1.91, 1.93, 2.4, 2.9], 0.5),  # a burst is one text
        ([1.6, 1.8, 2.0], 0.2),  # then nothing for a second
        ([1.9, 2.9], 0.75),
    ],
)
def test_the_wait_for_new_text_while_talking(
    shown_s: list[float], interval_s: float | None
) -> None:
    # Speech from 1 s to 3 s; the first word is over at 1.4 s.
    measurement = measuring(Said(0, 1.0))
    measurement.observe(SpeechStarted(at(1.1), "a", None))
    for shown in shown_s:
        measurement.observe(PartialText(at(shown), "a", "hello"))
    measurement.observe(FinalText(at(3.6), "a", "hello there"))
    turn = only(measurement.settled(at(5.0)))
    assert turn.partial_interval_s == (None if interval_s is None else pytest.approx(interval_s))


def test_texts_of_an_utterance_that_was_split_are_its_own() -> None:
    measurement = measuring(Said(0, 1.0))
    measurement.observe(PartialText(at(1.9), "a", "hello"))
    measurement.observe(FinalText(at(2.4), "a", "hello"))
    measurement.observe(PartialText(at(2.9), "b", "there"))
    measurement.observe(FinalText(at(3.6), "b", "there"))
    assert only(measurement.settled(at(5.0))).partial_interval_s == pytest.approx(0.5)


def test_text_before_anything_was_said_is_kept_apart() -> None:
    measurement = Measurement(conversation=False)
    measurement.begin(0.0, [])
    measurement.observe(PartialText(1.0, "a", "thank"))
    measurement.observe(PartialText(1.2, "a", "thank you"))
    measurement.observe(FinalText(1.5, "a", "Thank you."))
    measurement.observe(FinalText(2.0, "b", "  "))
    told = [(stray.at_s, stray.text, stray.final) for stray in measurement.drain_strays()]
    assert told == [(1.0, "thank", False), (1.5, "Thank you.", True)]
    assert measurement.drain_strays() == []
    assert measurement.counts["finals_without_utterance"] == 1


def test_after_an_early_final_the_rest_is_waited_for() -> None:
    """A monologue of 40 s that the server cuts at 30 s, and takes up again without a word."""
    measurement = measuring(Said(0, 1.0, 41.0))
    measurement.observe(SpeechStarted(at(1.2), "a", None))
    measurement.observe(FinalText(at(31.0), "a", "hello"))
    assert not measurement.settled(at(41.1)), "what was said after it is not answered"
    assert not measurement.all_settled(at(43.0))
    measurement.observe(SpeechStarted(at(43.1), "b", 31.0))
    measurement.observe(FinalText(at(43.2), "b", "there"))
    turn = only(measurement.settled(at(44.3)))
    assert (turn.heard, turn.final_at_s) == ("hello there", at(43.2))
    assert (turn.finals, turn.premature_finals) == (2, 1)
