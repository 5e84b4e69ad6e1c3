"""Whisper on the model that ships: accurate, silent on silence, the same alone and in company."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.clock import SystemClock
from rtvc.errors import ModelError
from rtvc.speech.corpus import Clip, builtin_clips
from rtvc.stt import whisper
from rtvc.stt.guards import RawAnswer, doubts, guarded, is_silent, without_repetition
from rtvc.stt.models import SELFTEST_PATH
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray, Hypothesis, Job, JobKind
from rtvc.stt.whisper import WhisperTranscriber
from rtvc.transcript import wer, word_errors

model = pytest.mark.model


def make_job(audio: AudioArray, *, prompt: str | None = None, language: str | None = None) -> Job:
    return Job("a", "1", JobKind.FINAL, 1, audio, 0.0, language, prompt)


@cache
def clips() -> list[Clip]:
    return builtin_clips(40, seed=20261122)


@cache
def selftest() -> WhisperTranscriber:
    transcriber = WhisperTranscriber(
        SELFTEST_PATH,
        clock=SystemClock(),
        device="cpu",
        encoder_context="short",
        suppress_blank=False,
    )
    transcriber.load()
    return transcriber


def one(audio: AudioArray, **asked: str) -> Hypothesis:
    return selftest().transcribe([make_job(audio, **asked)])[0]


def in_batches(jobs: Sequence[Job], size: int) -> list[Hypothesis]:
    starts = range(0, len(jobs), size)
    return [answer for at in starts for answer in selftest().transcribe(jobs[at : at + size])]


# Accuracy


@model
def test_fresh_sentences_are_understood() -> None:
    errors = [word_errors(clip.text, one(clip.audio).text) for clip in clips()]
    rate = wer(errors)
    assert rate is not None
    assert rate <= 0.10


@model
def test_a_batch_says_what_each_would_say_alone() -> None:
    ordered = sorted(clips(), key=lambda clip: len(clip.audio))
    jobs = [make_job(clip.audio) for clip in ordered]
    alone = [selftest().transcribe([job])[0].text for job in jobs]
    together = in_batches(jobs, 4)
    assert [answer.batch_size for answer in together] == [4] * len(jobs)
    # Members of a batch are padded to its longest, so a word may differ now and then.
    differing = sum(a != b.text for a, b in zip(alone, together, strict=True))
    assert differing <= 2


@model
def test_members_of_a_batch_keep_their_order_whatever_their_length() -> None:
    quiet = np.zeros(SAMPLE_RATE_HZ, np.float32)
    some = clips()[:3]
    audio = [some[0].audio, quiet, some[1].audio, some[2].audio]
    answers = selftest().transcribe([make_job(samples) for samples in audio])
    assert answers[1].text == ""
    assert answers[1].guards == ("silence",)
    assert answers[0].batch_size == 3
    errors = [
        word_errors(clip.text, answers[at].text) for clip, at in zip(some, (0, 2, 3), strict=True)
    ]
    assert (wer(errors) or 0.0) <= 0.25


@model
def test_audio_beyond_thirty_seconds_is_cut_and_joined() -> None:
    pause = np.zeros(SAMPLE_RATE_HZ // 2, np.float32)
    parts = [part for clip in clips()[:16] for part in (clip.audio, pause)]
    audio = np.concatenate(parts)
    assert len(audio) > 31 * SAMPLE_RATE_HZ
    answer = one(audio)
    # Several utterances in one window are the model's weak point: most words must be there.
    said = " ".join(clip.text for clip in clips()[:16])
    assert word_errors(said, answer.text).errors < 0.6 * word_errors(said, "").errors
    assert answer.audio_s == pytest.approx(len(audio) / SAMPLE_RATE_HZ)


@model
def test_a_prompt_and_none_may_share_a_call() -> None:
    clip = clips()[0]
    jobs = [make_job(clip.audio), make_job(clip.audio, prompt="the meeting")]
    plain, prompted = selftest().transcribe(jobs)
    assert plain.text == one(clip.audio).text
    assert isinstance(prompted.text, str)


@model
def test_a_language_the_model_lacks_does_not_stop_it() -> None:
    clip = clips()[0]
    assert one(clip.audio, language="de").text == one(clip.audio).text


@model
def test_the_whole_context_gives_text_too() -> None:
    transcriber = WhisperTranscriber(
        SELFTEST_PATH, clock=SystemClock(), device="cpu", suppress_blank=False
    )
    transcriber.load()
    some = clips()[:6]
    answers = [transcriber.transcribe([make_job(clip.audio)])[0] for clip in some]
    pairs = zip(some, answers, strict=True)
    rate = wer([word_errors(clip.text, answer.text) for clip, answer in pairs])
    assert rate is not None
    assert rate <= 0.25


# Silence


@model
@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.5, 2.0, 8.0, 31.0])
def test_silence_has_no_text(seconds: float) -> None:
    answer = one(np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32))
    assert (answer.text, answer.guards) == ("", ("silence",))


@model
@pytest.mark.parametrize("level", [0.001, 0.01, 0.1])
def test_noise_has_no_text(level: float) -> None:
    rng = np.random.default_rng(7)
    for _ in range(5):
        noise = rng.normal(0, level, 2 * SAMPLE_RATE_HZ).astype(np.float32)
        answer = one(noise)
        assert answer.text == ""
        assert answer.no_speech_prob is not None
        assert answer.no_speech_prob > 0.5


# Prompts of multilingual models, on a fake that keeps what it is asked


class FakeModel:
    """CTranslate2's Whisper as far as decoding needs it: hears French, says one word."""

    is_multilingual = True

    def __init__(self) -> None:
        self.prompts: list[list[int]] = []
        self.options: dict[str, object] = {}

    def detect_language(self, encoded: object) -> list[list[tuple[str, float]]]:
        return [[("<|fr|>", 0.8), ("<|en|>", 0.2)]] * 2

    def generate(
        self, encoded: object, prompts: list[list[int]], **options: object
    ) -> list[SimpleNamespace]:
        self.prompts, self.options = prompts, options
        said = SimpleNamespace(sequences_ids=[[5]], scores=[-0.2], no_speech_prob=0.1)
        return [said for _ in prompts]


@pytest.fixture
def multilingual(monkeypatch: pytest.MonkeyPatch) -> tuple[WhisperTranscriber, FakeModel]:
    vocabulary = tokenizers.Tokenizer.from_file(str(SELFTEST_PATH / "tokenizer.json"))
    vocabulary.add_special_tokens(["<|fr|>", "<|en|>"])
    fake = FakeModel()
    transcriber = WhisperTranscriber(SELFTEST_PATH, clock=SystemClock())
    loaded = SimpleNamespace(model=fake, hf_tokenizer=vocabulary)
    monkeypatch.setattr(transcriber, "_whisper", loaded)
    return transcriber, fake


def windows(*languages: str | None, prompt: str | None = None) -> list[whisper._Window]:
    audio = np.full(2 * SAMPLE_RATE_HZ, 0.1, np.float32)
    return [whisper._Window(0, audio, prompt, language) for language in languages]


def test_a_multilingual_prompt_names_the_language_asked_for_or_heard(
    multilingual: tuple[WhisperTranscriber, FakeModel],
) -> None:
    transcriber, fake = multilingual
    transcriber._decode(windows("en", None), encoded=None)
    token = transcriber._whisper.hf_tokenizer.token_to_id
    assert fake.prompts == [
        [
            token("<|startoftranscript|>"),
            token(name),
            token("<|transcribe|>"),
            token("<|notimestamps|>"),
        ]
        for name in ("<|en|>", "<|fr|>")
    ]
    assert fake.options["suppress_blank"] is True


@pytest.mark.parametrize(("language", "most"), [("en", 30), ("fr", 60)])
def test_the_answer_is_bounded_by_the_seconds_of_audio(
    multilingual: tuple[WhisperTranscriber, FakeModel], language: str, most: int
) -> None:
    transcriber, fake = multilingual
    transcriber._decode(windows(language), encoded=None)
    # CTranslate2 decodes half of what it is told, and no more than what a prompt leaves.
    told = fake.options["max_length"]
    assert isinstance(told, int)
    assert min(told // 2, told - len(fake.prompts[0])) == most


@given(prompt=st.integers(1, 447), wanted=st.integers(1, 224))
def test_as_many_tokens_are_decoded_as_wanted_unless_positions_run_out(
    prompt: int, wanted: int
) -> None:
    told = whisper._max_length(prompt, wanted)
    decoded = min(told // 2, told - prompt)
    assert decoded == min(wanted, 448 - prompt)


def test_context_stands_before_the_transcript(
    multilingual: tuple[WhisperTranscriber, FakeModel],
) -> None:
    transcriber, fake = multilingual
    transcriber._decode(windows("en", prompt="the meeting " * 500), encoded=None)
    token = transcriber._whisper.hf_tokenizer.token_to_id
    prompt = fake.prompts[0]
    assert prompt[0] == token("<|startofprev|>")
    assert prompt[-4] == token("<|startoftranscript|>")
    assert len(prompt) == 224 + 4


# Times and settings


@model
def test_each_part_is_timed() -> None:
    answer = one(clips()[0].audio)
    assert answer.features_s > 0
    assert answer.encode_s > 0
    assert answer.decode_s > 0
    assert answer.tokens > 0
    assert answer.avg_logprob is not None
    assert answer.avg_logprob < 0


@model
def test_warm_up_reports_its_progress() -> None:
    seen: list[tuple[float, str]] = []
    selftest().warm_up(lambda progress, detail: seen.append((progress, detail)))
    assert seen == [(0.0, "warming up: batch of 1"), (0.5, "warming up: batch of 4")]


class Shapes:
    """CTranslate2's model, and what its encoder was given."""

    def __init__(self, behind: Any) -> None:
        self._behind = behind
        self.met: set[tuple[int, int]] = set()

    def encode(self, features: Any) -> Any:
        self.met.add((features.shape[0], features.shape[2]))
        return self._behind.encode(features)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)


def watched(encoder_context: whisper.EncoderContext = "short") -> tuple[WhisperTranscriber, Shapes]:
    transcriber = WhisperTranscriber(
        SELFTEST_PATH,
        clock=SystemClock(),
        device="cpu",
        encoder_context=encoder_context,
        max_batch=3,
        suppress_blank=False,
    )
    transcriber.load()
    shapes = Shapes(transcriber._whisper.model)
    transcriber._whisper.model = shapes
    return transcriber, shapes


@model
def test_nobody_is_the_first_to_bring_a_length_that_was_warmed_up() -> None:
    transcriber, shapes = watched()
    assert transcriber.warm_up_lengths(2.5, lambda _progress, _detail: None) == 0
    warmed = set(shapes.met)
    shapes.met.clear()
    noise = np.random.default_rng(1).normal(0, 0.05, round(2.5 * SAMPLE_RATE_HZ))
    for samples in range(SAMPLE_RATE_HZ // 10, len(noise) + 1, SAMPLE_RATE_HZ // 10):
        job = make_job(noise[:samples].astype(np.float32))
        transcriber.transcribe([job] * (1 + samples % 3))
    assert len(shapes.met) > 6
    assert shapes.met <= warmed
    contexts = {frames for _, frames in warmed}
    assert contexts == {200, 220, 240, 260, 280, 300, 320}  # 0.5 s more than 2.51 s, rounded up
    assert warmed == {(size, frames) for size in (1, 2, 3) for frames in contexts}


@model
@pytest.mark.parametrize(
    ("encoder_context", "contexts"), [("full", {3000}), ("guarded", {200, 3000})]
)
def test_the_whole_window_is_a_length_where_it_is_used(
    encoder_context: whisper.EncoderContext, contexts: set[int]
) -> None:
    transcriber, shapes = watched(encoder_context)
    assert transcriber.warm_up_lengths(1.0, lambda _progress, _detail: None) == 0
    assert shapes.met == {(size, frames) for size in (1, 2, 3) for frames in contexts}


@model
def test_warming_up_lengths_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    transcriber, shapes = watched()
    monkeypatch.setattr(whisper, "LENGTHS_BUDGET_S", 0.0)
    assert transcriber.warm_up_lengths(2.5, lambda _progress, _detail: None) == 21
    assert not shapes.met


@given(st.integers(200, whisper.WINDOW_FRAMES))
def test_a_context_holds_what_is_wanted_and_little_more(frames: int) -> None:
    context = whisper.rounded_context(frames)
    assert frames <= context <= 1.1 * frames
    assert whisper.rounded_context(context) == context


def test_few_lengths_of_context_occur() -> None:
    lengths = {whisper.rounded_context(frames) for frames in range(200, whisper.WINDOW_FRAMES + 1)}
    assert len(lengths) == 40


@model
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"compute_type": "float99"}, r'supports \(.*int8.*\), got "float99"'),
        ({"device": "tpu"}, 'expected device "auto", "cpu" or "cuda", got "tpu"'),
    ],
)
def test_a_setting_the_device_lacks_is_named(setting: dict[str, str], message: str) -> None:
    asked = {"device": "cpu", "compute_type": "auto", **setting}
    transcriber = WhisperTranscriber(
        SELFTEST_PATH,
        clock=SystemClock(),
        device=asked["device"],
        compute_type=asked["compute_type"],
    )
    with pytest.raises(ModelError, match=message):
        transcriber.load()


@model
def test_a_broken_model_file_is_an_error_of_load(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"not a model")
    transcriber = WhisperTranscriber(tmp_path, clock=SystemClock(), device="cpu")
    with pytest.raises(ModelError, match="expected a Whisper model in"):
        transcriber.load()


# Cutting


@given(seconds=st.floats(0.0, 100.0), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_pieces_are_short_enough_and_lose_nothing(seconds: float, seed: int) -> None:
    count = round(seconds * SAMPLE_RATE_HZ)
    audio = np.random.default_rng(seed).random(count, np.float32)
    pieces = list(whisper.pieces(audio))
    assert all(len(piece) <= 30 * SAMPLE_RATE_HZ for piece in pieces)
    assert np.array_equal(np.concatenate(pieces), audio)


def test_long_audio_is_cut_in_a_pause() -> None:
    audio = np.full(35 * SAMPLE_RATE_HZ, 0.1, np.float32)
    audio[26 * SAMPLE_RATE_HZ : 27 * SAMPLE_RATE_HZ] = 0
    first = next(iter(whisper.pieces(audio)))
    assert 26 <= len(first) / SAMPLE_RATE_HZ <= 27


# Guards


def answer(text: str, **parts: float) -> RawAnswer:
    return RawAnswer(
        text,
        tokens=int(parts.get("tokens", 5)),
        max_tokens=50,
        no_speech_prob=parts.get("no_speech_prob", 0.0),
        avg_logprob=parts.get("avg_logprob", -0.2),
    )


@pytest.mark.parametrize(
    ("raw", "text", "fired"),
    [
        (answer("turn it on"), "turn it on", ()),
        (answer("thanks", no_speech_prob=0.7, avg_logprob=-1.2), "", ("no_speech",)),
        (answer("thanks", no_speech_prob=0.7, avg_logprob=-0.5), "thanks", ()),
        (answer("so " * 9 + "long"), "so long", ("repetition",)),
        (answer("see you " * 20, tokens=50), "see you", ("runaway", "repetition")),
        (answer("abcdefghij" * 30), "", ("compression",)),
    ],
)
def test_guards(raw: RawAnswer, text: str, fired: tuple[str, ...]) -> None:
    assert guarded(raw) == (text, fired)


@given(st.lists(st.sampled_from("abcdefg"), max_size=12))
def test_nothing_is_collapsed_without_a_long_run(words: list[str]) -> None:
    text = " ".join(words)
    phrases = [" ".join(words[i : i + n]) for n in range(1, 9) for i in range(len(words))]
    if not any(f"{phrase} {phrase} {phrase} {phrase} {phrase}" in text for phrase in phrases):
        assert without_repetition(text) == text


@pytest.mark.parametrize(("level", "silent"), [(0.0, True), (0.0003, True), (0.002, False)])
def test_the_level_below_which_no_model_is_asked(level: float, silent: bool) -> None:
    audio = np.zeros(2 * SAMPLE_RATE_HZ, np.float32)
    audio[8000:16000] = level
    assert is_silent(audio) is silent


# Doubted answers, on a fake that says what it is told to


class ToldModel:
    """Says one text after the other, and keeps how much context and luck each was asked with."""

    is_multilingual = False

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.contexts: list[int] = []
        self.temperatures: list[object] = []

    def encode(self, features: Any) -> object:
        self.contexts.append(features.shape[2])
        return features

    def generate(
        self, encoded: Any, prompts: list[list[int]], **options: object
    ) -> list[SimpleNamespace]:
        self.temperatures.append(options.get("sampling_temperature", 0.0))
        return [self._say() for _ in prompts]

    def _say(self) -> SimpleNamespace:
        vocabulary = tokenizers.Tokenizer.from_file(str(SELFTEST_PATH / "tokenizer.json"))
        ids = vocabulary.encode(" " + self.texts.pop(0)).ids
        return SimpleNamespace(sequences_ids=[ids], scores=[-0.2], no_speech_prob=0.1)


def told(context: whisper.EncoderContext, *texts: str) -> tuple[WhisperTranscriber, ToldModel]:
    fake = ToldModel(*texts)
    transcriber = WhisperTranscriber(SELFTEST_PATH, clock=SystemClock(), encoder_context=context)
    transcriber._whisper = SimpleNamespace(
        model=fake,
        hf_tokenizer=tokenizers.Tokenizer.from_file(str(SELFTEST_PATH / "tokenizer.json")),
        feature_extractor=lambda audio: np.zeros((80, len(audio) // 160), np.float32),
    )
    return transcriber, fake


RUNAWAY = "the door " * 8
LOUD = np.full(2 * SAMPLE_RATE_HZ, 0.1, np.float32)


def test_a_short_context_that_is_doubted_is_done_over_in_full() -> None:
    transcriber, fake = told("guarded", RUNAWAY, "open the door")
    answer = transcriber.transcribe([make_job(LOUD)])[0]
    assert (answer.text, answer.guards) == ("open the door", ("full_context",))
    assert fake.contexts == [260, 3000]
    assert fake.temperatures == [0.0, 0.0]


def test_a_short_context_that_nobody_doubts_is_done_once() -> None:
    transcriber, fake = told("guarded", "open the door")
    assert transcriber.transcribe([make_job(LOUD)])[0].guards == ()
    assert fake.contexts == [260]


def test_only_the_doubted_of_a_batch_are_done_over() -> None:
    transcriber, _fake = told("guarded", "one", RUNAWAY, "three", "two")
    answers = transcriber.transcribe([make_job(LOUD)] * 3)
    assert [answer.text for answer in answers] == ["one", "two", "three"]
    assert [answer.guards for answer in answers] == [(), ("full_context",), ()]


def test_a_doubted_final_gets_one_more_try_and_the_better_answer_counts() -> None:
    transcriber, fake = told("full", RUNAWAY, "open the door")
    answer = transcriber.transcribe([make_job(LOUD)])[0]
    assert (answer.text, answer.guards) == ("open the door", ("second_try",))
    assert fake.temperatures == [0.0, 0.4]


def test_a_second_try_that_is_no_better_changes_nothing() -> None:
    transcriber, fake = told("full", RUNAWAY, "no " * 40)
    answer = transcriber.transcribe([make_job(LOUD)])[0]
    assert answer.text == "the door"
    assert answer.guards == ("second_try", "repetition")
    assert len(fake.temperatures) == 2


def test_a_partial_is_never_worth_a_second_try() -> None:
    transcriber, fake = told("full", RUNAWAY)
    job = Job("a", "1", JobKind.PARTIAL, 1, LOUD, 0.0)
    assert transcriber.transcribe([job])[0].guards == ("repetition",)
    assert fake.temperatures == [0.0]


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (answer("turn it on"), ()),
        (answer(""), ()),
        (answer("thanks", no_speech_prob=0.7, avg_logprob=-1.2), ()),
        (answer("turn it on", avg_logprob=-1.2), ("unlikely",)),
        (answer("see you " * 20, tokens=50), ("runaway", "repetition", "compression")),
        (replace(answer("a b c d e f g h", tokens=20), audio_s=1.0), ("pace",)),
        (replace(answer("a b", tokens=5), audio_s=0.3), ()),
    ],
)
def test_doubts(raw: RawAnswer, found: tuple[str, ...]) -> None:
    assert doubts(raw) == found


@given(st.integers(1, 30), st.sampled_from([0.5, 1.0]))
def test_short_contexts_come_in_few_lengths_and_hold_all_audio(
    seconds: int, headroom_s: float
) -> None:
    transcriber = WhisperTranscriber(SELFTEST_PATH, clock=SystemClock(), headroom_s=headroom_s)
    frames = transcriber._context_frames(seconds * 100 - 7)
    assert frames % 20 == 0
    assert min(seconds * 100 - 7 + headroom_s * 100, 3000) <= frames <= 3000
    assert frames >= 200
