"""When speech begins and ends, frame by frame."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.voice.endpointing import SAMPLE_RATE_HZ, Decision, Endpointer, EndpointingSettings

FRAME = 512
FRAME_S = FRAME / SAMPLE_RATE_HZ


def judge(
    endpointer: Endpointer, probabilities: list[float], *, reply_playing: bool = False
) -> list[tuple[int, Decision]]:
    decided = []
    for number, probability in enumerate(probabilities):
        decision = endpointer.frame(
            probability, number * FRAME, (number + 1) * FRAME, reply_playing=reply_playing
        )
        if decision is not None:
            decided.append((number, decision))
    return decided


def frames(seconds: float) -> int:
    return round(seconds / FRAME_S)


def test_speech_begins_after_three_frames_and_ends_after_the_silence() -> None:
    endpointer = Endpointer(EndpointingSettings(silence_s=0.25))
    decided = judge(endpointer, [0.0] * 10 + [0.9] * 20 + [0.0] * 20)
    assert [decision for _, decision in decided] == [
        Decision.BEGAN,
        Decision.PAUSED,
        Decision.ENDED,
    ]
    assert endpointer.speech_start_sample == 10 * FRAME
    assert endpointer.speech_end_sample == 30 * FRAME
    assert decided[0][0] == 12
    assert decided[2][0] == 30 + frames(0.25) - 1


def test_a_click_is_no_speech() -> None:
    endpointer = Endpointer(EndpointingSettings())
    assert judge(endpointer, [0.0, 0.9, 0.9, 0.0] * 20) == []


def test_an_interruption_needs_more_speech_than_a_turn() -> None:
    short = [0.0] * 3 + [0.9] * 5 + [0.0] * 3
    assert judge(Endpointer(EndpointingSettings()), short)
    assert not judge(Endpointer(EndpointingSettings()), short, reply_playing=True)


def test_speech_that_resumes_voids_the_pause() -> None:
    endpointer = Endpointer(EndpointingSettings(silence_s=0.4))
    decided = judge(endpointer, [0.9] * 10 + [0.0] * 4 + [0.9] * 5 + [0.0] * 20)
    kinds = [decision for _, decision in decided]
    assert kinds == [
        Decision.BEGAN,
        Decision.PAUSED,
        Decision.RESUMED,
        Decision.PAUSED,
        Decision.ENDED,
    ]


def test_an_explicit_silence_is_kept_to_whatever_the_text_says() -> None:
    endpointer = Endpointer(EndpointingSettings(silence_s=0.3))
    judge(endpointer, [0.9] * 10 + [0.0] * 3)
    endpointer.text("and then,")
    assert endpointer.required_silence_s() == 0.3


def test_an_unset_silence_waits_longer_for_a_sentence_that_goes_on() -> None:
    chosen = EndpointingSettings()
    endpointer = Endpointer(chosen)
    judge(endpointer, [0.9] * 10 + [0.0] * 3)
    waits = {}
    for text in ("turn it off.", "turn it off", "first,", "well...", "", "hello."):
        endpointer.expect_text()
        endpointer.text(text)
        waits[text] = endpointer.required_silence_s()
    assert waits["turn it off."] == waits[""] == chosen.unset_silence_s
    assert waits["turn it off"] == waits["hello."] == chosen.unmarked_silence_s
    assert waits["first,"] == waits["well..."] == chosen.unfinished_silence_s


def test_a_hypothesis_on_its_way_is_waited_for_a_little() -> None:
    endpointer = Endpointer(EndpointingSettings())
    judge(endpointer, [0.9] * 10 + [0.0] * 3)
    endpointer.expect_text()
    waiting_s = endpointer.required_silence_s()
    endpointer.text(None)
    assert waiting_s > endpointer.required_silence_s()


def test_endless_speech_is_cut() -> None:
    endpointer = Endpointer(EndpointingSettings(max_utterance_s=2.0))
    decided = judge(endpointer, [0.9] * frames(7.0))
    ends = [number for number, decision in decided if decision is Decision.ENDED]
    assert len(ends) == 3
    assert ends[1] - ends[0] <= frames(2.0) + 3


@settings(deadline=None, max_examples=150)
@given(st.lists(st.floats(0, 1), max_size=300), st.booleans())
def test_decisions_come_in_an_order_that_makes_sense(
    probabilities: list[float], playing: bool
) -> None:
    endpointer = Endpointer(EndpointingSettings())
    speaking = paused = False
    for _, decision in judge(endpointer, probabilities, reply_playing=playing):
        assert speaking is (decision is not Decision.BEGAN)
        if decision is Decision.RESUMED:
            assert paused
        speaking = decision is not Decision.ENDED
        paused = decision is Decision.PAUSED
    assert endpointer.speaking is speaking
