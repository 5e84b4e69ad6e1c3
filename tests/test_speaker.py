"""The simulated speaker: sample-exact, orderly under any events."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.audio import rms
from rtvc.errors import AudioError, UsageError
from rtvc.speech.corpus import Clip, builtin_clips
from rtvc.speech.scenario import load_scenario
from rtvc.speech.speaker import PreparedClip, Scenario, SilentSpeaker, Speaker, prepare
from rtvc.speech.synthesis import Word

RATE_HZ = 1_000
FRAME_S = 0.02
FRAME_SAMPLES = 20
EXACT = Scenario(think_s=(0.5, 0.5), pause_s=(3.0, 3.0), start_within_s=0.0, reply_timeout_s=5.0)
INTERRUPTING = replace(EXACT, interruption_probability=1.0, interrupt_after_s=(0.25, 0.25))


def clip_of(number: int, samples: int) -> PreparedClip:
    """A clip whose every sample is `number`, which is never silence."""
    duration_s = samples / RATE_HZ
    words = (Word("hello", 0.1 * duration_s, 0.5 * duration_s), Word("you", 0.5 * duration_s, 0.9))
    clip = Clip(
        clip_id=f"clip-{number}",
        text=f"hello {number}",
        audio=np.full(samples, 0.1, np.float32),
        rate_hz=RATE_HZ,
        words=words,
        first_word_end_s=0.5 * duration_s,
        speech_start_s=0.1 * duration_s,
        speech_end_s=0.9 * duration_s,
        voice="test",
    )
    return PreparedClip(clip, RATE_HZ, np.full(samples, number, np.int16))


def speaker_of(scenario: Scenario, lengths: Sequence[int] = (330, 200, 70)) -> Speaker:
    clips = [clip_of(k + 1, samples) for k, samples in enumerate(lengths)]
    return Speaker(clips, scenario, random.Random(4), RATE_HZ, FRAME_S)


class Tape:
    """Pulls frames, in order, and keeps them."""

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.frames: list[bytes] = []

    @property
    def now_s(self) -> float:
        return len(self.frames) * FRAME_S

    def until(self, at_s: float) -> "Tape":
        while self.now_s < at_s - 1e-9:
            self.frames.append(self.speaker.frame(len(self.frames)))
        return self

    def samples(self) -> np.ndarray:
        return np.frombuffer(b"".join(self.frames), "<i2")


def starts_s(speaker: Speaker) -> list[float]:
    return [round(u.start_s, 3) for u in speaker.utterances]


def check_tape(tape: Tape, clips: Sequence[PreparedClip]) -> None:
    """Every clip lies bit-exact where its utterance says, and nothing lies elsewhere."""
    samples, expected = tape.samples(), np.zeros(len(tape.frames) * FRAME_SAMPLES, np.int16)
    ends = []
    for index, utterance in enumerate(tape.speaker.utterances):
        assert utterance.index == index
        pcm16 = clips[index % len(clips)].pcm16
        assert utterance.clip is clips[index % len(clips)].clip
        start = round(utterance.start_s * RATE_HZ)
        assert utterance.start_s == start / RATE_HZ
        ends.append((start, start + len(pcm16)))
        room = expected[start : start + len(pcm16)]
        room += pcm16[: len(room)]
        assert utterance.complete == (start + len(pcm16) <= len(samples))
    np.testing.assert_array_equal(samples, expected)
    assert all(before[1] <= after[0] for before, after in pairwise(ends))


events = st.lists(
    st.tuples(
        st.sampled_from(["started", "ended", "final", "stop"]),
        st.integers(0, 60),  # frames pulled before the event
        st.floats(-0.5, 0.5),  # its time, relative to the microphone's
    ),
    max_size=25,
)
scenarios = st.builds(
    Scenario,
    pause_s=st.just((0.0, 0.3)),
    think_s=st.just((0.0, 0.2)),
    wait_for_reply=st.booleans(),
    reply_timeout_s=st.floats(0, 2),
    interruption_probability=st.sampled_from([0.0, 0.5, 1.0]),
    interrupt_after_s=st.just((0.0, 0.4)),
    start_within_s=st.floats(0, 0.5),
)


@settings(deadline=None, max_examples=150)
@given(scenarios, events, st.lists(st.integers(1, 90), min_size=1, max_size=4), st.booleans())
def test_events_in_any_order_break_nothing(
    scenario: Scenario,
    happened: list[tuple[str, int, float]],
    lengths: list[int],
    aligned: bool,
) -> None:
    clips = [clip_of(k + 1, samples) for k, samples in enumerate(lengths)]
    speaker = Speaker(clips, scenario, random.Random(4), RATE_HZ, FRAME_S, aligned=aligned)
    tape = Tape(speaker)
    tell = {
        "started": speaker.reply_started,
        "ended": speaker.reply_ended,
        "final": speaker.final_received,
        "stop": speaker.stop,
    }
    for name, frames, offset_s in happened:
        tape.until(tape.now_s + frames * FRAME_S)
        begun = len(speaker.utterances)
        tell[name](tape.now_s + offset_s)
        assert len(speaker.utterances) == begun
    tape.until(tape.now_s + 1.0)
    check_tape(tape, clips)
    if any(name == "stop" for name, _, _ in happened):
        assert speaker.done


def test_the_first_utterance_begins_within_the_phase() -> None:
    begun_s = set()
    for seed in range(20):
        scenario = replace(EXACT, start_within_s=1.0)
        speaker = Speaker([clip_of(1, 50)], scenario, random.Random(seed), RATE_HZ)
        Tape(speaker).until(1.1)
        begun_s.add(starts_s(speaker)[0])
    assert len(begun_s) > 10
    assert 0 <= min(begun_s) < max(begun_s) <= 1.0


def test_dictation_goes_on_after_the_pause_whatever_is_heard() -> None:
    speaker = speaker_of(replace(EXACT, wait_for_reply=False, interruption_probability=1.0))
    tape = Tape(speaker).until(0.5)
    speaker.reply_started(0.5)
    speaker.reply_ended(0.9)
    tape.until(8.0)
    assert starts_s(speaker) == [0.0, 3.33, 6.53]
    assert {u.kind for u in speaker.utterances} == {"utterance"}


def test_a_conversation_goes_on_after_the_reply_was_heard() -> None:
    speaker = speaker_of(EXACT)
    tape = Tape(speaker).until(1.0)
    speaker.reply_started(1.0)
    tape.until(4.0)
    speaker.reply_ended(4.0)
    tape.until(5.0)
    assert starts_s(speaker) == [0.0, 4.5]


def test_without_a_reply_the_speaker_tries_again() -> None:
    speaker = speaker_of(EXACT)
    Tape(speaker).until(6.0)
    assert starts_s(speaker) == [0.0, 5.33]


def test_a_final_gives_the_reply_more_time() -> None:
    speaker = speaker_of(EXACT)
    tape = Tape(speaker).until(2.0)
    speaker.final_received(2.0)
    tape.until(8.0)
    assert starts_s(speaker) == [0.0, 7.0]


def test_a_reply_without_sound_counts() -> None:
    speaker = speaker_of(EXACT)
    tape = Tape(speaker).until(2.0)
    speaker.reply_ended(2.0)
    tape.until(3.0)
    assert starts_s(speaker) == [0.0, 2.5]


def test_an_interruption_is_spoken_into_the_reply() -> None:
    speaker = speaker_of(INTERRUPTING)
    tape = Tape(speaker).until(1.0)
    speaker.reply_started(1.0)
    tape.until(1.4)
    assert starts_s(speaker) == [0.0, 1.25]
    assert [u.kind for u in speaker.utterances] == ["utterance", "interruption"]
    speaker.reply_ended(1.4)
    tape.until(6.0)
    assert len(speaker.utterances) == 2
    tape.until(1.25 + 0.2 + 5.1)
    assert [u.kind for u in speaker.utterances][2:] == ["utterance"]


def test_a_reply_that_ends_before_is_not_interrupted() -> None:
    speaker = speaker_of(INTERRUPTING)
    tape = Tape(speaker).until(1.0)
    speaker.reply_started(1.0)
    tape.until(1.2)
    speaker.reply_ended(1.2)
    tape.until(2.0)
    assert starts_s(speaker) == [0.0, 1.7]
    assert speaker.utterances[1].kind == "utterance"


def test_a_reply_that_begins_before_the_clip_is_over_can_be_interrupted_after_it() -> None:
    speaker = speaker_of(INTERRUPTING)
    tape = Tape(speaker).until(0.3)
    speaker.reply_started(0.3)
    tape.until(1.0)
    assert starts_s(speaker) == [0.0, 0.55]
    assert speaker.utterances[1].kind == "interruption"


@pytest.mark.parametrize(("probability", "interrupted"), [(0.0, 0), (1.0, 40), (0.5, None)])
def test_the_share_of_interruptions(probability: float, interrupted: int | None) -> None:
    speaker = speaker_of(replace(INTERRUPTING, interruption_probability=probability), [20])
    tape = Tape(speaker)
    for _ in range(40):
        speaker.reply_ended(tape.now_s)
        tape.until(tape.now_s + 0.6)
        speaker.reply_started(tape.now_s)
        tape.until(tape.now_s + 0.4)
    got = sum(u.kind == "interruption" for u in speaker.utterances)
    assert got == interrupted if interrupted is not None else 8 < got < 32


def test_stopping_lets_the_utterance_end() -> None:
    speaker = speaker_of(EXACT)
    tape = Tape(speaker).until(0.1)
    speaker.stop(0.1)
    done = [speaker.done, tape.until(0.34).speaker.done]
    assert done == [False, True]
    assert speaker.utterances[0].complete
    tape.until(20.0)
    assert len(speaker.utterances) == 1


def test_stopping_in_silence_is_at_once() -> None:
    speaker = speaker_of(EXACT)
    tape = Tape(speaker).until(1.0)
    speaker.stop(1.0)
    speaker.reply_ended(1.0)
    assert speaker.done
    tape.until(10.0)
    assert len(speaker.utterances) == 1


def test_every_word_has_its_instant() -> None:
    speaker = speaker_of(replace(EXACT, start_within_s=1.0))
    Tape(speaker).until(1.5)
    spoken = speaker.utterances[0]
    assert spoken.speech_start_s == pytest.approx(spoken.start_s + 0.033)
    assert spoken.first_word_end_s == pytest.approx(spoken.start_s + 0.165)
    assert spoken.speech_end_s == pytest.approx(spoken.start_s + 0.297)
    assert spoken.word_ends_s is not None
    assert spoken.word_ends_s[0] == spoken.first_word_end_s
    assert (spoken.text, spoken.voice) == ("hello 1", "test")


def test_frames_are_asked_for_in_order() -> None:
    speaker = speaker_of(EXACT)
    speaker.frame(0)
    with pytest.raises(ValueError, match="expected frame 1, got 3"):
        speaker.frame(3)


def test_a_seed_repeats_the_speaker() -> None:
    first, again = (Tape(speaker_of(load_scenario("dictation"))).until(12.0) for _ in range(2))
    assert first.frames == again.frames


def test_a_prepared_clip_has_the_level_and_the_rate() -> None:
    (clip,) = builtin_clips(1, seed=3)
    prepared = prepare(clip, 24_000, speech_level_dbfs=-26.0)
    assert len(prepared.pcm16) == round(len(clip.audio) * 1.5)
    start, end = round(clip.speech_start_s * 24_000), round(clip.speech_end_s * 24_000)
    assert 20 * np.log10(rms(prepared.pcm16[start:end] / 32768)) == pytest.approx(-26, abs=0.1)
    assert np.abs(prepare(clip, 24_000, speech_level_dbfs=20.0).pcm16).max() == pytest.approx(
        0.89 * 32768, abs=2
    )
    plain = prepare(clip, clip.rate_hz, speech_level_dbfs=None)
    np.testing.assert_allclose(plain.pcm16 / 32768, clip.audio, atol=1 / 32768)


def test_what_cannot_be_spoken_is_refused() -> None:
    (clip,) = builtin_clips(1, seed=3)
    with pytest.raises(AudioError, match="builtin-3-0000"):
        prepare(replace(clip, audio=np.zeros(0, np.float32)), 16_000)
    with pytest.raises(UsageError, match="at least one clip"):
        Speaker([], EXACT, random.Random(1), RATE_HZ)
    with pytest.raises(UsageError, match="at 8000 Hz in clip clip-1"):
        Speaker([clip_of(1, 5)], EXACT, random.Random(1), 8_000)
    with pytest.raises(UsageError, match="whole samples"):
        Speaker([clip_of(1, 5)], EXACT, random.Random(1), RATE_HZ, frame_s=0.0205)


@pytest.mark.parametrize(
    "change",
    [
        {"pause_s": (2.0, 1.0)},
        {"think_s": (-1.0, 1.0)},
        {"interruption_probability": 1.5},
        {"reply_timeout_s": -1.0},
    ],
)
def test_an_impossible_scenario_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(change))):
        Scenario(**change)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=50)
@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=4),
    frame_s=st.sampled_from([0.02, 0.04, 0.06, 0.1]),
    seed=st.integers(0, 99),
)
def test_an_aligned_speaker_begins_with_a_frame_and_says_the_same(
    lengths: list[int], frame_s: float, seed: int
) -> None:
    clips = [clip_of(k + 1, samples) for k, samples in enumerate(lengths)]
    scenario = replace(EXACT, wait_for_reply=False, pause_s=(0.1, 0.4), start_within_s=1.0)
    speaker = Speaker(clips, scenario, random.Random(seed), RATE_HZ, frame_s, aligned=True)
    frame = round(frame_s * RATE_HZ)
    tape = np.frombuffer(b"".join(speaker.frame(index) for index in range(120)), "<i2")
    expected = np.zeros(len(tape), np.int16)
    end = 0
    for index, utterance in enumerate(speaker.utterances):
        pcm16 = clips[index % len(clips)].pcm16
        start = round(utterance.start_s * RATE_HZ)
        assert start % frame == 0
        assert start >= end, "never before the one before is over"
        piece = pcm16[: len(tape) - start]
        expected[start : start + len(piece)] = piece
        end = start + len(pcm16)
        assert utterance.complete == (end <= len(tape))
    assert np.array_equal(tape, expected)


def test_frames_of_a_clip_are_cut_once() -> None:
    clip = clip_of(7, 50)
    frames = clip.frames(20)
    assert clip.frames(20) is frames
    assert [np.frombuffer(frame, "<i2").tolist() for frame in frames] == [
        [7] * 20,
        [7] * 20,
        [7] * 10 + [0] * 10,
    ]


def off_the_beat_s(speaker: Speaker, began_at_s: float, every_s: float, offset_s: float) -> float:
    """Largest distance of an end of speech from the instants at which all end."""
    ends_s = [began_at_s + said.speech_end_s - offset_s for said in speaker.utterances]
    return max(abs(end_s - round(end_s / every_s) * every_s) for end_s in ends_s)


@settings(deadline=None, max_examples=100)
@given(
    lengths=st.lists(st.integers(20, 900), min_size=1, max_size=4),
    began_at_s=st.floats(0, 1000),
    every_s=st.floats(1.0, 5.0),
    offset_s=st.floats(0, 2),
    seed=st.integers(0, 99),
    aligned=st.booleans(),
)
def test_turns_end_together_to_within_a_frame(
    lengths: list[int],
    began_at_s: float,
    every_s: float,
    offset_s: float,
    seed: int,
    aligned: bool,
) -> None:
    scenario = replace(
        EXACT,
        wait_for_reply=False,
        pause_s=(0.1, 0.4),
        start_within_s=1.0,
        turn_ends_every_s=every_s,
    )
    clips = [clip_of(k + 1, samples) for k, samples in enumerate(lengths)]
    speaker = Speaker(
        clips,
        scenario,
        random.Random(seed),
        RATE_HZ,
        FRAME_S,
        aligned=aligned,
        end_offset_s=offset_s,
    )
    speaker.begin(began_at_s)
    Tape(speaker).until(20.0)
    assert len(speaker.utterances) >= 2
    exact_s = FRAME_S / 2 if aligned else 0.5 / RATE_HZ
    assert off_the_beat_s(speaker, began_at_s, every_s, offset_s) <= exact_s + 1e-6


def test_speakers_who_came_at_different_times_end_at_the_same_instants() -> None:
    scenario = replace(EXACT, wait_for_reply=False, pause_s=(0.1, 0.1), turn_ends_every_s=2.0)
    ends_s = []
    for began_at_s, length in ((0.0, 900), (0.377, 450), (1.91, 120)):
        speaker = Speaker([clip_of(1, length)], scenario, random.Random(1), RATE_HZ)
        speaker.begin(began_at_s)
        Tape(speaker).until(12.0 - began_at_s)
        ends_s.append([round(began_at_s + said.speech_end_s, 2) for said in speaker.utterances])
    assert ends_s[0] == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    assert ends_s[1] == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    assert ends_s[2] == [4.0, 6.0, 8.0, 10.0, 12.0]


def test_after_a_reply_the_next_common_end_is_taken() -> None:
    speaker = speaker_of(replace(EXACT, turn_ends_every_s=4.0), [1000])
    speaker.begin(0.0)
    tape = Tape(speaker).until(4.5)
    speaker.reply_started(4.5)
    tape.until(7.0)
    speaker.reply_ended(7.0)
    tape.until(13.0)
    assert [round(said.speech_end_s, 3) for said in speaker.utterances] == [4.0, 12.0]


@pytest.mark.parametrize("aligned", [True, False])
def test_the_background_is_heard_whenever_nothing_is_said(aligned: bool) -> None:
    floor = [np.full(FRAME_SAMPLES, level, "<i2").tobytes() for level in (100, 101, 102)]
    scenario = replace(EXACT, wait_for_reply=False, pause_s=(0.5, 0.5), start_within_s=0.3)
    speaker = Speaker(
        [clip_of(7, 60)],
        scenario,
        random.Random(1),
        RATE_HZ,
        FRAME_S,
        aligned=aligned,
        floor=floor,
    )
    tape = Tape(speaker).until(6.0)
    heard = tape.samples()
    speech = np.zeros(len(heard), bool)
    for said in speaker.utterances:
        start = round(said.start_s * RATE_HZ)
        speech[start : start + 60] = True
    assert speech.any()
    assert set(heard[speech]) == {7}
    expected = np.repeat(100 + np.arange(len(tape.frames)) % 3, FRAME_SAMPLES)
    np.testing.assert_array_equal(heard[~speech], expected[~speech])


def test_a_silent_speaker_says_nothing_and_leaves_when_asked() -> None:
    floor = [bytes([k]) * 2 * FRAME_SAMPLES for k in (1, 2)]
    quiet, noisy = SilentSpeaker(FRAME_SAMPLES), SilentSpeaker(FRAME_SAMPLES, floor)
    assert quiet.frame(5) == bytes(2 * FRAME_SAMPLES)
    assert [noisy.frame(k) for k in range(3)] == [floor[0], floor[1], floor[0]]
    noisy.begin(1.0)
    noisy.reply_started(1.0)
    noisy.final_received(1.1)
    noisy.reply_ended(2.0)
    assert (noisy.done, list(noisy.utterances)) == (False, [])
    noisy.stop(3.0)
    assert noisy.done
