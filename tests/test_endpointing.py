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
    texts = ("turn it off.", "turn it off", "first,", "well...", "", "hello.")
    for text in (*texts, "If it is late.", "if it is late, stay."):
        endpointer.expect_text()
        endpointer.text(text)
        waits[text] = endpointer.required_silence_s()
    assert waits["turn it off."] == waits[""] == chosen.unset_silence_s
    assert waits["turn it off"] == waits["hello."] == chosen.unmarked_silence_s
    assert waits["If it is late."] == chosen.unmarked_silence_s
    assert waits["if it is late, stay."] == chosen.unset_silence_s
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


ASKING = EndpointingSettings(silence_s=0.3, incomplete_silence_s=2.0, unjudged_silence_s=0.5)


def ended_after_s(verdict: float | None, *, answer_after_frames: int = 2) -> float:
    """Silence that ended a turn of which the turn model says so, so many frames later."""
    endpointer = Endpointer(ASKING)
    judge(endpointer, [0.9] * 10)
    asked_at: int | None = None
    for number in range(10, 200):
        decision = endpointer.frame(0.0, number * FRAME, (number + 1) * FRAME)
        if decision is Decision.JUDGE:
            assert asked_at is None, "asked twice in a pause"
            asked_at = number
        if asked_at is not None and number == asked_at + answer_after_frames:
            decision = endpointer.judged(verdict) or decision
        if decision is Decision.ENDED:
            return (number + 1 - 10) * FRAME_S
    raise AssertionError("the turn never ended")


def within_a_frame(seconds: float, least_s: float) -> bool:
    return least_s <= seconds < least_s + FRAME_S


def test_a_turn_model_decides_how_long_a_pause_may_be() -> None:
    assert within_a_frame(ended_after_s(0.5), 0.3)
    assert within_a_frame(ended_after_s(0.49), 2.0)
    assert within_a_frame(ended_after_s(None), 0.5)


def test_a_turn_waits_for_the_judgement_and_then_ends_at_once() -> None:
    asked_after = frames(ASKING.judge_after_s)
    assert frames(ended_after_s(0.9, answer_after_frames=20)) == asked_after + 20


def test_a_judgement_that_never_comes_ends_the_turn_at_the_longest_wait() -> None:
    assert within_a_frame(ended_after_s(0.9, answer_after_frames=1000), 2.0)


def test_the_turn_is_held_up_only_by_a_judgement_that_is_missing() -> None:
    endpointer = Endpointer(ASKING)
    held_up = []
    for number, probability in enumerate([0.9] * 10 + [0.0] * 16):
        endpointer.frame(probability, number * FRAME, (number + 1) * FRAME)
        held_up.append(endpointer.held_up)
        if number == 22:
            endpointer.judged(0.1)
    first = 10 + frames(0.3)
    assert held_up == [False] * first + [True] * (23 - first) + [False] * 3


def test_every_pause_is_judged_anew() -> None:
    endpointer = Endpointer(ASKING)
    decided = []
    for number, probability in enumerate(([0.9] * 10 + [0.0] * 12) * 3):
        decision = endpointer.frame(probability, number * FRAME, (number + 1) * FRAME)
        decided.append(decision)
        if decision is Decision.JUDGE:
            endpointer.judged(0.1)
    assert decided.count(Decision.JUDGE) == 3
    assert decided.count(Decision.RESUMED) == 2
    assert Decision.ENDED not in decided


def test_a_judgement_of_a_pause_that_is_over_changes_nothing() -> None:
    endpointer = Endpointer(ASKING)
    judge(endpointer, [0.9] * 10 + [0.0] * 7 + [0.9])
    endpointer.judged(1.0)
    assert endpointer.required_silence_s() == ASKING.incomplete_silence_s


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.floats(0, 1), max_size=300),
    st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=5),
)
def test_with_a_turn_model_no_turn_ends_unasked_and_no_pause_asks_twice(
    probabilities: list[float], verdicts: list[float | None]
) -> None:
    endpointer = Endpointer(ASKING)
    asked = 0
    for number, probability in enumerate(probabilities):
        decision = endpointer.frame(probability, number * FRAME, (number + 1) * FRAME)
        if endpointer.silence_start_sample is None:
            asked = 0
        if decision is Decision.JUDGE:
            asked += 1
            assert asked == 1
            # Silence asked about is shorter than what any judgement ends.
            assert endpointer.judged(verdicts[number % len(verdicts)]) is None
        if decision is Decision.ENDED and endpointer.silence_start_sample is not None:
            assert asked == 1
