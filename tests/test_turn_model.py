"""Is the turn complete? The model's file is found, fed and answered for; its absence is told."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor

from rtvc.errors import ModelError
from rtvc.speech.corpus import builtin_clips
from rtvc.voice import turn_model
from rtvc.voice.turn_model import (
    LONGEST_S,
    SAMPLE_RATE_HZ,
    LogMel,
    ScriptedTurnModel,
    SmartTurn,
    TurnModel,
    load_smart_turn,
    window_of,
)


class FakeFile:
    """A file of an installed distribution."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path

    def match(self, pattern: str) -> bool:
        return self._path.match(pattern)

    def locate(self) -> Path:
        return self._path


class FakeDistribution:
    """An installed distribution."""

    def __init__(self, *paths: Path) -> None:
        self.files = [FakeFile(path) for path in paths]


def install(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    monkeypatch.setattr(turn_model, "distribution", lambda _: FakeDistribution(*paths))


def test_without_the_package_the_message_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(turn_model, "distribution", missing)
    with pytest.raises(ModelError, match=r"not installed.*pip install --no-deps pipecat-ai"):
        load_smart_turn()


def test_a_package_without_the_file_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Path("pipecat/__init__.py"), Path("pipecat/smart-turn-v2.onnx"))
    with pytest.raises(ModelError, match=r"found none.*--upgrade"):
        load_smart_turn()


def test_of_several_models_the_one_for_processors_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = ("smart-turn-v3.2-gpu.onnx", "smart-turn-v3.2-cpu.onnx")
    install(monkeypatch, *(tmp_path / name for name in names))
    assert turn_model.smart_turn_path() == tmp_path / names[1]


def test_a_broken_file_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "smart-turn-v3.2-cpu.onnx"
    broken.write_bytes(b"not a model")
    install(monkeypatch, broken)
    with pytest.raises(ModelError, match=f"expected the Smart Turn model in {broken}"):
        load_smart_turn()


def test_the_scripted_model_gives_its_answers_in_order() -> None:
    model: TurnModel = ScriptedTurnModel([0.1, None, 0.9])
    audio = np.zeros(100, np.float32)
    assert model.completeness(audio) == 0.1
    with pytest.raises(ModelError):
        model.completeness(audio)
    assert [model.completeness(audio) for _ in range(2)] == [0.9, 0.9]


def test_the_features_are_whispers() -> None:
    rng = np.random.default_rng(0)
    loud = rng.normal(0, 0.1, 5 * SAMPLE_RATE_HZ).astype(np.float32)
    clip = builtin_clips(1, seed=31)[0].audio
    for audio in (loud, clip, 0 * loud, loud[:10]):
        window = window_of(audio)
        expected = FeatureExtractor(chunk_length=LONGEST_S)(window, padding=0)
        found = LogMel()(window)
        assert found.shape == (80, 100 * LONGEST_S)
        assert np.abs(found - expected).max() < 1e-4


def test_a_window_is_the_last_eight_seconds_with_silence_in_front() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 9 * SAMPLE_RATE_HZ).astype(np.float32)
    for audio in (noise, noise[:SAMPLE_RATE_HZ]):
        window = window_of(audio)
        assert len(window) == LONGEST_S * SAMPLE_RATE_HZ
        assert abs(window.mean()) < 1e-3
        assert abs(window.std() - 1) < 1e-3
        last = audio[-len(window) :]
        assert np.corrcoef(window[-len(last) :], last)[0, 1] > 0.999
    assert np.ptp(window[:-SAMPLE_RATE_HZ]) == 0


def smart_turn() -> SmartTurn:
    try:
        return load_smart_turn()
    except ModelError as error:
        pytest.skip(str(error))


@pytest.mark.model
def test_smart_turn_answers_with_a_probability_whatever_it_hears() -> None:
    model = smart_turn()
    noise = np.random.default_rng(0).normal(0, 0.1, 12 * SAMPLE_RATE_HZ).astype(np.float32)
    for audio in (noise[:0], noise[:100], 0 * noise[:SAMPLE_RATE_HZ], noise[:SAMPLE_RATE_HZ]):
        assert 0 <= model.completeness(audio) <= 1
    assert model.completeness(noise) == model.completeness(noise[-LONGEST_S * SAMPLE_RATE_HZ :])


@pytest.mark.model
def test_smart_turn_does_not_mind_how_loud_it_is() -> None:
    model = smart_turn()
    clip = builtin_clips(1, seed=31)[0]
    loud, quiet = (model.completeness(gain * clip.audio) for gain in (1.0, 0.2))
    assert abs(loud - quiet) < 0.05
