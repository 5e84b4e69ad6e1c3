"""Synthetic weights: the right shape, loaded by everyone, as long as speech, never a transcript."""

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from rtvc.clock import SystemClock
from rtvc.errors import ModelError
from rtvc.stt import synthetic
from rtvc.stt.models import missing_files, resolve_model
from rtvc.stt.synthetic import CARD_FILE, DIMENSIONS, TEXT, Dimensions, read_card, synthesized
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, Job, JobKind
from rtvc.stt.whisper import WhisperTranscriber

model = pytest.mark.model


def tell_nobody(progress: float, detail: str) -> None:
    pass


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def tiny(cache_folder: Path) -> Path:
    return synthesized("tiny.en", tell_nobody, cache=cache_folder)


@pytest.fixture
def small_size(monkeypatch: pytest.MonkeyPatch) -> str:
    """A size made in no time."""
    small = Dimensions(32, 2, 1, 1, languages=100)
    monkeypatch.setitem(DIMENSIONS, "mini", small)
    return "mini"


def speech(seconds: float) -> Job:
    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * SAMPLE_RATE_HZ))
    audio = noise.astype(np.float32)
    return Job("a", "1", JobKind.FINAL, 1, audio, 0.0, language="en")


@cache
def loaded(folder: Path) -> WhisperTranscriber:
    transcriber = WhisperTranscriber(
        folder, clock=SystemClock(), device="cpu", encoder_context="short"
    )
    transcriber.load()
    return transcriber


# Vocabulary


@pytest.mark.parametrize(
    ("name", "size", "bands"),
    [("tiny.en", 51864, 80), ("base", 51865, 80), ("large-v3", 51866, 128)],
)
def test_vocabulary_and_features_are_as_large_as_the_real_ones(
    name: str, size: int, bands: int
) -> None:
    dimensions = DIMENSIONS[name]
    tokens = synthetic.vocabulary(dimensions)
    assert len(tokens) == len(set(tokens)) == dimensions.vocabulary_size == size
    assert synthetic.preprocessor(dimensions)["feature_size"] == bands


@pytest.mark.parametrize(
    ("name", "special"),
    [
        ("tiny.en", {"endoftext": 50256, "startoftranscript": 50257, "notimestamps": 50362}),
        ("tiny", {"endoftext": 50257, "en": 50259, "transcribe": 50359, "notimestamps": 50363}),
        ("large-v3", {"su": 50357, "yue": 50358, "transcribe": 50360, "nospeech": 50363}),
    ],
)
def test_special_tokens_are_where_they_really_are(name: str, special: dict[str, int]) -> None:
    described = json.dumps(synthetic.tokenizer(DIMENSIONS[name]))
    known = tokenizers.Tokenizer.from_str(described)
    assert {token: known.token_to_id(f"<|{token}|>") for token in special} == special
    assert known.decode(known.encode("Any text – 文字").ids) == "Any text – 文字"


@pytest.mark.parametrize(
    ("name", "millions"),
    [("tiny.en", 37), ("base.en", 72), ("small.en", 240), ("medium.en", 762), ("large-v3", 1540)],
)
def test_sizes_are_those_of_the_paper(name: str, millions: int) -> None:
    assert DIMENSIONS[name].parameters / 1e6 == pytest.approx(millions, rel=0.03)


# Folders


def test_the_same_seed_makes_the_same_bytes_and_another_does_not(
    tmp_path: Path, small_size: str
) -> None:
    folders = [
        synthesized(small_size, tell_nobody, seed=seed, cache=tmp_path / place)
        for seed, place in ((1, "a"), (1, "b"), (2, "a"))
    ]
    first, again, other = (folder.joinpath("model.bin").read_bytes() for folder in folders)
    assert first == again
    assert first != other


def test_it_is_made_once_and_says_how_far_it_is(tmp_path: Path, small_size: str) -> None:
    told: list[float] = []
    folder = synthesized(small_size, lambda progress, detail: told.append(progress), cache=tmp_path)
    assert missing_files(folder) == []
    assert told == sorted(told)
    assert (told[-1], len(told) > 3) == (1.0, True)
    told.clear()
    synthesized(small_size, lambda progress, detail: told.append(progress), cache=tmp_path)
    assert told == []


def test_an_interrupted_one_leaves_nothing(tmp_path: Path, small_size: str) -> None:
    def interrupt(progress: float, detail: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesized(small_size, interrupt, cache=tmp_path)
    assert list((tmp_path / "synthetic").iterdir()) == []


def test_a_folder_that_lost_its_weights_is_made_again(tmp_path: Path, small_size: str) -> None:
    folder = synthesized(small_size, tell_nobody, cache=tmp_path)
    (folder / "model.bin").unlink()
    assert missing_files(synthesized(small_size, tell_nobody, cache=tmp_path)) == []


def test_a_folder_of_another_version_is_made_again(tmp_path: Path, small_size: str) -> None:
    folder = synthesized(small_size, tell_nobody, cache=tmp_path)
    card = json.loads((folder / CARD_FILE).read_text("utf-8"))
    (folder / CARD_FILE).write_text(json.dumps({**card, "text": "(synthetic)"}), "utf-8")
    assert read_card(folder) is None
    assert read_card(synthesized(small_size, tell_nobody, cache=tmp_path)) is not None


def test_no_room_is_an_error_before_anything_is_written(
    tmp_path: Path, small_size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Disk:
        free = 1000

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Disk)
    with pytest.raises(ModelError, match="MB of room"):
        synthesized(small_size, tell_nobody, cache=tmp_path)
    assert list((tmp_path / "synthetic").iterdir()) == []


# Names


def test_a_size_that_does_not_exist_is_told_those_that_do() -> None:
    with pytest.raises(ModelError, match=r'NAME one of tiny\.en, .*, got "synthetic:tiny\.de"'):
        resolve_model("synthetic:tiny.de", offline=True)


def test_it_is_made_on_demand_and_not_when_only_asked_about(
    tmp_path: Path, small_size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = resolve_model("synthetic:mini", offline=True)
    assert asked.path is not None
    assert not asked.path.exists()
    found = resolve_model("synthetic:mini")
    assert (found.name, found.kind, found.encoder_context, found.path) == (
        "synthetic:mini",
        "synthetic weights",
        "full",
        asked.path,
    )
    assert resolve_model(str(found.path)).kind == "synthetic weights"
    assert found.notice is not None
    assert "understand nothing" in found.notice
    assert resolve_model("synthetic:mini", encoder_context="short").encoder_context == "short"


# Loading and decoding


@model
@pytest.mark.parametrize("compute_type", ["int8", "float32"])
def test_faster_whisper_loads_and_runs_it(tiny: Path, compute_type: str) -> None:
    from faster_whisper import WhisperModel

    whisper = WhisperModel(str(tiny), device="cpu", compute_type=compute_type, cpu_threads=1)
    segments, _info = whisper.transcribe(
        speech(2.0).audio, without_timestamps=True, max_new_tokens=8, temperature=0
    )
    found = list(segments)
    assert sum(len(segment.tokens) for segment in found) > 0
    assert all(np.isfinite(segment.avg_logprob) for segment in found)


@model
def test_ctranslate2_takes_a_multilingual_one_for_what_it_is(
    tmp_path: Path, small_size: str
) -> None:
    folder = synthesized(small_size, tell_nobody, cache=tmp_path)
    transcriber = loaded(folder)
    assert transcriber._whisper.model.is_multilingual
    assert transcriber._whisper.model.n_mels == 80
    without_language = Job("a", "1", JobKind.FINAL, 1, speech(1.0).audio, 0.0)
    assert transcriber.transcribe([without_language])[0].text == TEXT


@model
@pytest.mark.parametrize("seconds", [1.0, 2.5, 6.0])
def test_tokens_follow_the_seconds(tiny: Path, seconds: float) -> None:
    answer = loaded(tiny).transcribe([speech(seconds)])[0]
    assert answer.tokens == round(4 * seconds)
    assert answer.text == TEXT
    assert "runaway" not in answer.guards
    assert "second_try" not in answer.guards


@model
def test_audio_beyond_a_window_and_silence(tiny: Path) -> None:
    silence = Job("a", "1", JobKind.FINAL, 1, np.zeros(SAMPLE_RATE_HZ, np.float32), 0.0)
    long, nothing = loaded(tiny).transcribe([speech(31.0), silence])
    assert (long.text, nothing.text) == (TEXT, "")
    # Both windows share an inference, and each is decoded for as long as the longer one.
    assert 4 * 31 <= long.tokens <= 2 * 4 * 30


@model
def test_a_batch_is_decoded_together(tiny: Path) -> None:
    answers = loaded(tiny).transcribe([speech(2.0)] * 3)
    assert [answer.batch_size for answer in answers] == [3, 3, 3]
    assert {answer.tokens for answer in answers} == {8}
