"""PocketSphinx hears people, says nothing of silence, and carries nothing over between sessions."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rtvc.clock import FakeClock, SystemClock
from rtvc.errors import ModelError
from rtvc.speech.corpus import Clip, folder_clips
from rtvc.stt import pocketsphinx
from rtvc.stt.pocketsphinx import PocketSphinxTranscriber
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray, Job, JobKind
from rtvc.transcript import wer, word_errors

HUMAN = Path(__file__).parents[2] / "shared" / "speech" / "human"

pytestmark = pytest.mark.model


@cache
def loaded() -> PocketSphinxTranscriber:
    transcriber = PocketSphinxTranscriber(clock=SystemClock())
    transcriber.load()
    return transcriber


@cache
def human_clips() -> list[Clip]:
    if not HUMAN.is_dir():
        pytest.skip(f"no recordings of people in {HUMAN}")
    return folder_clips(HUMAN)


def make_job(audio: AudioArray) -> Job:
    return Job("a", "1", JobKind.FINAL, 1, audio, 0.0)


def test_people_are_understood_more_or_less() -> None:
    short = [clip for clip in human_clips() if clip.duration_s < 3.2][:8]
    answers = loaded().transcribe([make_job(clip.audio) for clip in short])
    pairs = zip(short, answers, strict=True)
    rate = wer([word_errors(clip.text, answer.text) for clip, answer in pairs])
    assert rate is not None
    assert rate <= 0.5
    assert all(answer.batch_size == 1 and answer.decode_s > 0 for answer in answers)


def test_what_was_heard_before_changes_nothing() -> None:
    first, second = human_clips()[0], human_clips()[-1]
    alone = loaded().transcribe([make_job(first.audio)])[0].text
    after = loaded().transcribe([make_job(second.audio), make_job(first.audio)])[1].text
    assert alone
    assert after == alone


def test_silence_has_no_text() -> None:
    answer = loaded().transcribe([make_job(np.zeros(SAMPLE_RATE_HZ, np.float32))])[0]
    assert (answer.text, answer.guards) == ("", ("silence",))


def test_work_before_loading_is_an_error() -> None:
    noise = np.full(SAMPLE_RATE_HZ, 0.1, np.float32)
    with pytest.raises(ModelError, match="expected load"):
        PocketSphinxTranscriber(clock=SystemClock()).transcribe([make_job(noise)])


# Decoding while people speak


class CountingDecoder:
    """Says how many seconds it was given since its utterance began."""

    given: int = 0

    def __init__(self) -> None:
        self.samples = 0
        self.open = False

    def get_cmn(self, update: bool) -> str:
        return "fresh"

    def set_cmn(self, cmn: str) -> None:
        assert cmn == "fresh"

    def start_utt(self) -> None:
        assert not self.open
        self.open, self.samples = True, 0

    def process_raw(self, data: bytes, no_search: bool, full_utt: bool) -> None:
        assert self.open
        self.samples += len(data) // 2
        CountingDecoder.given += len(data) // 2

    def end_utt(self) -> None:
        assert self.open
        self.open = False

    def hyp(self) -> SimpleNamespace:
        return SimpleNamespace(hypstr=f"{self.samples / SAMPLE_RATE_HZ:.1f} s")


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> tuple[PocketSphinxTranscriber, FakeClock]:
    monkeypatch.setattr(pocketsphinx, "new_decoder", CountingDecoder)
    monkeypatch.setattr(CountingDecoder, "given", 0)
    clock = FakeClock()
    transcriber = PocketSphinxTranscriber(clock=clock, max_streams=2)
    transcriber.load()
    return transcriber, clock


SPEECH = np.random.default_rng(3).normal(0, 0.1, 10 * SAMPLE_RATE_HZ).astype(np.float32)


def ask(
    transcriber: PocketSphinxTranscriber,
    kind: JobKind,
    seconds: float,
    *,
    session: str = "a",
    item: str = "1",
    audio: AudioArray = SPEECH,
) -> str:
    spoken = audio[: round(seconds * SAMPLE_RATE_HZ)]
    return transcriber.transcribe([Job(session, item, kind, 1, spoken, 0.0)])[0].text


def given_s() -> float:
    return CountingDecoder.given / SAMPLE_RATE_HZ


Counting = tuple[PocketSphinxTranscriber, FakeClock]


def test_only_what_is_new_is_decoded(counting: Counting) -> None:
    transcriber, _ = counting
    kinds = [JobKind.PARTIAL, JobKind.PARTIAL, JobKind.SPECULATIVE, JobKind.FINAL]
    texts = [ask(transcriber, kind, at) for kind, at in zip(kinds, (1, 2, 2.5, 3), strict=True)]
    assert texts == ["1.0 s", "2.0 s", "2.5 s", "3.0 s"]
    assert given_s() == 3.0


def test_speakers_do_not_share_a_decoder(counting: Counting) -> None:
    transcriber, _ = counting
    ask(transcriber, JobKind.PARTIAL, 1, session="a")
    assert ask(transcriber, JobKind.PARTIAL, 4, session="b") == "4.0 s"
    assert ask(transcriber, JobKind.FINAL, 2, session="a") == "2.0 s"
    assert given_s() == 6.0


def test_another_utterance_or_other_audio_begins_anew(counting: Counting) -> None:
    transcriber, _ = counting
    ask(transcriber, JobKind.PARTIAL, 2)
    assert ask(transcriber, JobKind.PARTIAL, 1, item="2") == "1.0 s"
    assert ask(transcriber, JobKind.PARTIAL, 2, item="2", audio=-SPEECH) == "2.0 s"
    assert ask(transcriber, JobKind.PARTIAL, 1, item="2", audio=-SPEECH) == "1.0 s"


def test_one_speaker_too_many_is_decoded_from_the_start(counting: Counting) -> None:
    transcriber, _ = counting
    for session in ("a", "b"):
        ask(transcriber, JobKind.PARTIAL, 1, session=session)
    for seconds in (1.0, 2.0, 3.0):
        assert ask(transcriber, JobKind.PARTIAL, seconds, session="c") == f"{seconds} s"
    assert given_s() == 2 + 1 + 2 + 3
    assert ask(transcriber, JobKind.FINAL, 2, session="a") == "2.0 s"
    assert given_s() == 8 + 1


def test_an_abandoned_decoder_is_given_to_the_next(counting: Counting) -> None:
    transcriber, clock = counting
    for session in ("a", "b"):
        ask(transcriber, JobKind.PARTIAL, 1, session=session)
    clock.advance(6.0)
    for seconds in (1.0, 2.0):
        ask(transcriber, JobKind.PARTIAL, seconds, session="c")
    assert given_s() == 2 + 2


def test_a_final_while_speaking_says_what_it_would_alone() -> None:
    clip = next(clip for clip in human_clips() if clip.duration_s < 4)
    alone = loaded().transcribe([make_job(clip.audio)])[0].text
    for end in range(SAMPLE_RATE_HZ, len(clip.audio), SAMPLE_RATE_HZ):
        part = Job("s", "1", JobKind.PARTIAL, 1, clip.audio[:end], 0.0)
        loaded().transcribe([part])
    whole = Job("s", "1", JobKind.FINAL, 2, clip.audio, 0.0)
    assert loaded().transcribe([whole])[0].text == alone
