"""The voice session, exactly and instantly: levels as VAD, scripted answers."""

from itertools import count, pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.voice.endpointing import EndpointingSettings
from rtvc.voice.session import (
    FinalTranscript,
    Frame,
    JudgeTurn,
    PartialTranscript,
    Purpose,
    SpeechStarted,
    SpeechStopped,
    Transcribe,
    TranscriptFailed,
    VoiceEvent,
    VoiceSession,
    VoiceSettings,
)

RATE = 16_000
FRAME = 512
FRAME_S = FRAME / RATE


class Driver:
    """Feeds speech and silence; keeps every event. Audio samples number themselves."""

    def __init__(self, chosen: VoiceSettings | None = None) -> None:
        numbers = count()
        self.session = VoiceSession(chosen or VoiceSettings(), lambda: f"item_{next(numbers)}")
        self.events: list[VoiceEvent] = []
        self.sample = 0
        self.answer: dict[Purpose, str | None] = {}
        self.verdicts: list[float | None] = []
        """Of the turn model, given at once, in order; empty: it does not answer."""

    def feed(self, seconds: float, probability: float) -> list[VoiceEvent]:
        before = len(self.events)
        for _ in range(round(seconds / FRAME_S)):
            audio = np.arange(self.sample, self.sample + FRAME, dtype=np.float32)
            self.sample += FRAME
            now_s = self.sample / RATE
            self.take(self.session.feed(Frame(audio, probability, now_s), now_s))
        return self.events[before:]

    def speech(self, seconds: float) -> list[VoiceEvent]:
        return self.feed(seconds, 1.0)

    def silence(self, seconds: float) -> list[VoiceEvent]:
        return self.feed(seconds, 0.0)

    def take(self, events: list[VoiceEvent]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, JudgeTurn):
                self.judge(event)
            if isinstance(event, Transcribe) and event.purpose in self.answer:
                text = self.answer[event.purpose]
                answer = (event.item_id, event.purpose, event.revision, text)
                self.take(self.session.hypothesis(*answer))

    def judge(self, request: JudgeTurn) -> None:
        if self.verdicts:
            now_s = self.sample / RATE
            verdict = self.verdicts.pop(0)
            self.take(
                self.session.turn_judged(request.item_id, request.revision, verdict, now_s + 0.01)
            )

    def of(self, kind: type) -> list[VoiceEvent]:
        return [event for event in self.events if isinstance(event, kind)]


def requests(driver: Driver, purpose: Purpose) -> list[Transcribe]:
    return [e for e in driver.events if isinstance(e, Transcribe) and e.purpose is purpose]


def test_a_turn_from_silence_to_final() -> None:
    driver = Driver()
    driver.answer = {Purpose.SPECULATIVE: "turn it off.", Purpose.PARTIAL: "turn"}
    driver.silence(1.0)
    driver.speech(1.0)
    driver.silence(1.0)
    (started,) = driver.of(SpeechStarted)
    (stopped,) = driver.of(SpeechStopped)
    (final,) = driver.of(FinalTranscript)
    assert isinstance(started, SpeechStarted)
    assert isinstance(stopped, SpeechStopped)
    assert isinstance(final, FinalTranscript)
    assert final.text == "turn it off."
    assert final.item_id == started.item_id == stopped.item_id
    speech_end_s = round(1.0 / FRAME_S) * 2 * FRAME_S
    assert stopped.last_speech_at_s == speech_end_s
    assert stopped.silence_seen_at_s == speech_end_s + FRAME_S
    assert 0.25 <= stopped.decided_at_s - stopped.last_speech_at_s < 0.25 + FRAME_S
    assert requests(driver, Purpose.FINAL) == []


def test_the_transcribed_audio_holds_the_padding_and_every_sample_of_the_speech() -> None:
    driver = Driver()
    driver.silence(1.0)
    start = driver.sample
    driver.speech(1.0)
    end = driver.sample
    driver.silence(1.0)
    audio = requests(driver, Purpose.SPECULATIVE)[0].audio
    assert start - round(0.3 * RATE) - FRAME <= audio[0] <= start - round(0.3 * RATE)
    assert audio[-1] >= end - 1
    assert np.all(np.diff(audio) == 1)


def test_speech_that_resumes_voids_what_was_tried() -> None:
    driver = Driver(VoiceSettings(endpointing=EndpointingSettings(silence_s=0.5)))
    driver.speech(1.0)
    driver.silence(0.2)
    driver.speech(0.5)
    (tried,) = requests(driver, Purpose.SPECULATIVE)
    driver.take(
        driver.session.hypothesis(tried.item_id, tried.purpose, tried.revision, "too early.")
    )
    driver.silence(1.0)
    assert driver.of(FinalTranscript) == []
    late = requests(driver, Purpose.SPECULATIVE)[1]
    assert late.audio[-1] > tried.audio[-1]
    driver.take(driver.session.hypothesis(late.item_id, late.purpose, late.revision, "all of it."))
    (final,) = driver.of(FinalTranscript)
    assert isinstance(final, FinalTranscript)
    assert final.text == "all of it."


def test_a_final_that_is_still_under_way_is_waited_for() -> None:
    driver = Driver()
    driver.speech(1.0)
    driver.silence(1.0)
    (final_request,) = requests(driver, Purpose.FINAL)
    (tried,) = requests(driver, Purpose.SPECULATIVE)
    assert final_request.tried
    assert final_request.revision == tried.revision
    driver.take(driver.session.hypothesis(tried.item_id, tried.purpose, tried.revision, "there."))
    (final,) = driver.of(FinalTranscript)
    assert isinstance(final, FinalTranscript)
    assert final.text == "there."


def test_an_unfinished_sentence_gets_more_time() -> None:
    ends = {}
    for text in ("the red one.", "the red one,"):
        driver = Driver()
        driver.answer = {Purpose.SPECULATIVE: text}
        driver.speech(1.0)
        driver.silence(1.0)
        (stopped,) = driver.of(SpeechStopped)
        assert isinstance(stopped, SpeechStopped)
        ends[text] = stopped.decided_at_s - stopped.last_speech_at_s
    assert ends["the red one,"] > 2 * ends["the red one."]


def test_one_partial_at_a_time() -> None:
    driver = Driver()
    driver.speech(3.0)
    (first,) = requests(driver, Purpose.PARTIAL)
    driver.take(driver.session.hypothesis(first.item_id, first.purpose, first.revision, "one two"))
    driver.speech(1.0)
    assert len(requests(driver, Purpose.PARTIAL)) == 2
    (partial,) = driver.of(PartialTranscript)
    assert isinstance(partial, PartialTranscript)
    assert partial.text == "one two"


def test_a_failed_final_is_said_to_have_failed() -> None:
    driver = Driver()
    driver.answer = {Purpose.SPECULATIVE: None}
    driver.speech(1.0)
    driver.silence(1.0)
    (request,) = requests(driver, Purpose.FINAL)
    driver.take(driver.session.failed(request.item_id, request.purpose, request.revision, "gone"))
    assert driver.of(TranscriptFailed) == [TranscriptFailed(request.item_id, "gone")]


def test_long_speech_is_cut_and_nothing_is_heard_twice_or_lost() -> None:
    driver = Driver(VoiceSettings(endpointing=EndpointingSettings(max_utterance_s=3.0)))
    driver.speech(10.0)
    driver.silence(1.0)
    finals = requests(driver, Purpose.FINAL)
    spans = sorted((int(r.audio[0]), int(r.audio[-1])) for r in finals)
    assert len(spans) >= 4
    for (_, end), (start, _) in pairwise(spans):
        assert start == end + 1


def test_manual_commit_takes_everything_since_the_last_one() -> None:
    driver = Driver(VoiceSettings(endpointing=None))
    assert driver.session.commit(0.0) == []
    driver.silence(0.5)
    driver.speech(1.0)
    assert driver.events == []
    driver.take(driver.session.commit(2.0))
    (request,) = requests(driver, Purpose.FINAL)
    assert request.audio[0] == 0
    assert request.audio[-1] == driver.sample - 1
    assert driver.session.commit(3.0) == []
    assert driver.session.held_s == 0


def test_a_commit_after_a_final_takes_only_what_came_since() -> None:
    driver = Driver()
    driver.answer = {Purpose.SPECULATIVE: "turn it off."}
    driver.speech(1.0)
    end = driver.sample
    driver.silence(0.6)
    assert len(driver.of(FinalTranscript)) == 1
    driver.take(driver.session.commit(9.0))
    (request,) = requests(driver, Purpose.FINAL)
    assert request.audio[0] >= end


def test_clear_forgets() -> None:
    driver = Driver()
    driver.speech(1.0)
    driver.session.clear()
    driver.silence(1.0)
    assert driver.of(SpeechStopped) == []


def test_silence_is_not_kept() -> None:
    driver = Driver()
    driver.silence(60.0)
    assert driver.session.held_s < 1.0


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.7, 1.5]), st.booleans()), max_size=12),
    st.lists(st.integers(0, 10), max_size=40),
    st.sampled_from([None, 0.2, 0.6]),
)
def test_every_utterance_that_stops_gets_one_final_whatever_the_order_of_answers(
    script: list[tuple[float, bool]], order: list[int], silence_s: float | None
) -> None:
    driver = Driver(VoiceSettings(endpointing=EndpointingSettings(silence_s=silence_s)))
    answered: set[int] = set()

    def answer_one(choice: int) -> None:
        asked = [e for e in driver.events if isinstance(e, Transcribe)]
        waiting = [r for number, r in enumerate(asked) if number not in answered]
        if waiting:
            chosen = waiting[choice % len(waiting)]
            answered.add(next(n for n, r in enumerate(asked) if r is chosen))
            key = (chosen.item_id, chosen.purpose, chosen.revision)
            driver.take(driver.session.hypothesis(*key, f"{chosen.item_id} words."))

    choices = iter(order)
    for seconds, spoken in script:
        driver.feed(seconds, 1.0 if spoken else 0.0)
        answer_one(next(choices, 0))
    driver.silence(2.0)
    for _ in range(200):
        answer_one(0)
    stopped = [e.item_id for e in driver.events if isinstance(e, SpeechStopped)]
    finals = [e.item_id for e in driver.events if isinstance(e, FinalTranscript)]
    started = [e.item_id for e in driver.events if isinstance(e, SpeechStarted)]
    assert sorted(finals) == sorted(stopped) == sorted(started)
    assert len(set(finals)) == len(finals)
    for event in driver.events:
        if isinstance(event, FinalTranscript | PartialTranscript):
            assert event.text == f"{event.item_id} words."


# A turn model decides.

ASKING = EndpointingSettings(silence_s=0.3, incomplete_silence_s=2.0)


def test_a_turn_called_incomplete_goes_on_with_what_is_said_next() -> None:
    driver = Driver(VoiceSettings(endpointing=ASKING))
    driver.answer = {Purpose.SPECULATIVE: "and then"}
    driver.verdicts = [0.1, 0.8]
    driver.speech(1.0)
    driver.silence(1.2)
    assert driver.of(SpeechStopped) == []
    driver.speech(1.0)
    driver.silence(0.4)
    (stopped,) = driver.of(SpeechStopped)
    assert isinstance(stopped, SpeechStopped)
    assert stopped.judgement is not None
    assert stopped.judgement.probability == 0.8
    assert stopped.judgement.held_up_from_s is None
    waited_s = stopped.decided_at_s - stopped.last_speech_at_s
    assert 0.3 <= waited_s < 0.3 + FRAME_S
    assert len(driver.of(FinalTranscript)) == 1


def test_the_turn_model_hears_the_end_of_the_utterance() -> None:
    driver = Driver(VoiceSettings(endpointing=ASKING))
    driver.speech(1.0)
    driver.silence(0.3)
    driver.speech(11.0)
    driver.silence(0.3)
    first, second = driver.of(JudgeTurn)
    assert isinstance(first, JudgeTurn)
    assert isinstance(second, JudgeTurn)
    assert first.audio[0] == 0
    assert len(second.audio) == 8 * RATE
    between = round(11.0 / FRAME_S) + round(0.3 / FRAME_S)
    assert second.audio[-1] - first.audio[-1] == between * FRAME


def test_a_judgement_that_comes_late_says_how_long_it_held_the_turn_up() -> None:
    driver = Driver(VoiceSettings(endpointing=ASKING))
    driver.speech(1.0)
    driver.silence(0.6)
    (request,) = driver.of(JudgeTurn)
    assert isinstance(request, JudgeTurn)
    now_s = driver.sample / RATE
    driver.take(driver.session.turn_judged(request.item_id, request.revision, 0.9, now_s))
    (stopped,) = driver.of(SpeechStopped)
    assert isinstance(stopped, SpeechStopped)
    assert stopped.judgement is not None
    assert stopped.judgement.held_up_from_s is not None
    assert stopped.decided_at_s == now_s
    held_s = stopped.judgement.held_up_from_s - stopped.last_speech_at_s
    assert 0.3 <= held_s < 0.3 + FRAME_S


def test_a_late_judgement_that_the_turn_goes_on_held_nothing_up() -> None:
    driver = Driver(VoiceSettings(endpointing=ASKING))
    driver.speech(1.0)
    driver.silence(0.6)
    (request,) = driver.of(JudgeTurn)
    assert isinstance(request, JudgeTurn)
    driver.session.turn_judged(request.item_id, request.revision, 0.1, driver.sample / RATE)
    driver.silence(2.0)
    (stopped,) = driver.of(SpeechStopped)
    assert isinstance(stopped, SpeechStopped)
    assert stopped.judgement is not None
    assert stopped.judgement.held_up_from_s is None


def test_a_judgement_of_a_pause_that_is_over_is_ignored() -> None:
    driver = Driver(VoiceSettings(endpointing=ASKING))
    driver.speech(1.0)
    driver.silence(0.25)
    driver.speech(0.5)
    (stale,) = driver.of(JudgeTurn)
    assert isinstance(stale, JudgeTurn)
    driver.silence(0.25)
    driver.session.turn_judged(stale.item_id, stale.revision, 1.0, driver.sample / RATE)
    driver.session.turn_judged("item_9", stale.revision, 1.0, driver.sample / RATE)
    driver.silence(1.0)
    assert driver.of(SpeechStopped) == []


def test_speech_tells_how_long_ago_the_turn_before_ended() -> None:
    driver = Driver(VoiceSettings(endpointing=EndpointingSettings(silence_s=0.32)))
    driver.speech(1.0)
    driver.silence(0.64)
    driver.speech(1.0)
    first, second = driver.of(SpeechStarted)
    assert isinstance(first, SpeechStarted)
    assert isinstance(second, SpeechStarted)
    assert first.silence_s is None
    assert second.silence_s is not None
    assert abs(second.silence_s - 0.32) < 1e-6


def test_a_turn_that_the_client_ended_was_not_ended_too_early() -> None:
    driver = Driver(VoiceSettings(endpointing=EndpointingSettings(silence_s=0.32)))
    driver.speech(1.0)
    driver.take(driver.session.commit(1.0))
    driver.speech(1.0)
    assert [e.silence_s for e in driver.of(SpeechStarted) if isinstance(e, SpeechStarted)] == [
        None,
        None,
    ]
