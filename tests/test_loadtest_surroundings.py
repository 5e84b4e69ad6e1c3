"""What of a turn lies before and after the server's times."""

from itertools import pairwise

import pytest

from rtvc.loadtest.turns.surroundings import SendTimes, with_surroundings
from rtvc.loadtest.wire.observations import Segment, TurnTimed

STREAM_START_S = 100.0
FRAME_S = 0.02


class Said:
    """An utterance that ended 1 s into the stream; text 0.5 s later, a reply after 1 s."""

    def __init__(self, end_s: float | None = 1.0) -> None:
        self._end_s = end_s

    def speech_end_s(self, item_id: str) -> float | None:
        return self._end_s if item_id == "item" else None

    def answered_at_s(self, item_id: str, response_id: str | None) -> float | None:
        return STREAM_START_S + (1.5 if response_id is None else 2.0)


def on_time(seconds: float = 2.0, late_s: float = 0.0) -> SendTimes:
    times = SendTimes()
    for index in range(round(seconds / FRAME_S)):
        audio_s = (index + 1) * FRAME_S
        times.sent(audio_s, STREAM_START_S + audio_s + late_s)
    return times


def timed(last_speech_s: float | None = 1.01, received_s: float | None = 1.02) -> TurnTimed:
    """The server took 0.4 s."""
    segments = (
        Segment("vad_delay", 0.0, 0.1, hidden=False),
        Segment("endpoint_wait", 0.1, 0.3, hidden=False),
        Segment("decode", 0.2, 0.9, hidden=True),
    )
    return TurnTimed(0.0, "item", None, "transcript", segments, last_speech_s, received_s)


def lengths(found: TurnTimed) -> dict[str, float]:
    return {s.name: s.duration_s for s in found.segments if not s.hidden}


def test_all_segments_together_are_what_the_client_felt() -> None:
    found = lengths(with_surroundings(timed(), STREAM_START_S, on_time(), Said()))
    assert list(found) == ["vad_offset", "framing", "vad_delay", "endpoint_wait", "transport"]
    assert found["vad_offset"] == pytest.approx(0.01)
    assert found["framing"] == pytest.approx(0.01)
    assert found["transport"] == pytest.approx(1.5 - 1.02 - 0.4)
    assert sum(found.values()) == pytest.approx(0.5)


def test_they_follow_each_other_from_the_true_end_of_speech_on() -> None:
    found = with_surroundings(timed(), STREAM_START_S, on_time(), Said())
    felt = [segment for segment in found.segments if not segment.hidden]
    for before, after in pairwise(felt):
        assert before.start_s + before.duration_s == pytest.approx(after.start_s)


def test_speech_heard_to_end_early_has_a_negative_offset() -> None:
    heard = timed(last_speech_s=0.9, received_s=0.92)
    found = lengths(with_surroundings(heard, STREAM_START_S, on_time(), Said()))
    assert found["vad_offset"] == pytest.approx(-0.1)
    assert sum(found.values()) == pytest.approx(0.5)


def test_a_generator_that_is_late_shows_in_its_own_segment() -> None:
    late = lengths(with_surroundings(timed(), STREAM_START_S, on_time(late_s=0.05), Said()))
    assert late["framing"] == pytest.approx(0.06)
    assert late["transport"] == pytest.approx(0.03)


def test_a_server_that_claims_more_than_passed_is_not_believed() -> None:
    slow = (Segment("decode", 0.0, 0.7, hidden=False),)
    claimed = TurnTimed(0.0, "item", None, "transcript", slow, 1.01, 1.02)
    found = lengths(with_surroundings(claimed, STREAM_START_S, on_time(), Said()))
    assert found["transport"] == 0
    assert sum(found.values()) > 0.5


def test_a_reply_is_felt_until_its_first_sound() -> None:
    reply = TurnTimed(0.0, "item", "reply", "reply", timed().segments, 1.01, 1.02)
    found = lengths(with_surroundings(reply, STREAM_START_S, on_time(), Said()))
    assert sum(found.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("heard", "said", "times"),
    [
        (timed(last_speech_s=None), Said(), on_time()),
        (timed(received_s=None), Said(), on_time()),
        (timed(), Said(end_s=None), on_time()),
        (timed(), Said(), on_time(seconds=0.5)),
        (timed(), Said(), SendTimes()),
    ],
    ids=["no position", "no receipt", "nothing said", "not sent yet", "nothing sent"],
)
def test_what_is_not_known_is_left_out(heard: TurnTimed, said: Said, times: SendTimes) -> None:
    assert with_surroundings(heard, STREAM_START_S, times, said) == heard


def test_only_so_many_messages_are_remembered() -> None:
    times = SendTimes(kept=3)
    for index in range(5):
        times.sent(float(index + 1), 10.0 + index)
    assert times.when(1.0) is None
    assert [times.when(float(n)) for n in (3, 4, 5, 6)] == [12.0, 13.0, 14.0, None]
