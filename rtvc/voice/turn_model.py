"""Has the person finished, or are they only pausing? A model's judgement of the last few seconds.

The contract, Smart Turn v3 behind it, and a fake that keeps to it. Smart Turn (BSD-2) hears the
audio, not the words. It was trained on at most 8 s of 16 kHz mono that end in a pause of about
0.2 s, silence in front where there is less, as Whisper's log-mel features of the waveform brought
to mean 0 and variance 1; it answers with one probability. The file comes with the `pipecat-ai`
distribution, of which nothing else is used and nothing is imported.
"""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

from rtvc.errors import ModelError

SAMPLE_RATE_HZ = 16_000
LONGEST_S = 8
"""A turn model hears so many last seconds at most."""

_DISTRIBUTION = "pipecat-ai"
_HOW_TO_GET_IT = "pip install --no-deps pipecat-ai"
_SAMPLES = LONGEST_S * SAMPLE_RATE_HZ
_LEAST_VARIANCE = 1e-7
_WINDOW, _HOP, _BANDS = 400, 160, 80
"""Whisper's: samples of a spectrum, samples between two, mel bands."""


class TurnModel(Protocol):
    """One for all sessions; safe to call from many threads."""

    name: str
    """As a person knows it."""

    def completeness(self, audio: NDArray[np.float32]) -> float:
        """Probability that the turn is complete, at a pause that `audio` (16 kHz) ends in.

        Raises:
            ModelError: no judgement could be had.
        """


class SmartTurn:
    """Smart Turn v3 through onnxruntime: one session of one thread."""

    name = "Smart Turn v3"

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
            self._input = self._session.get_inputs()[0].name
        except Exception as error:  # onnxruntime's errors have no common root of their own
            raise ModelError(f"expected the Smart Turn model in {path}, got: {error}") from error
        self._features = LogMel()

    def completeness(self, audio: NDArray[np.float32]) -> float:
        features = self._features(window_of(audio))
        try:
            answers = self._session.run(None, {self._input: features[None]})
        except Exception as error:  # as above
            raise ModelError(f"{self.name} gave no judgement: {error}") from error
        return float(np.ravel(answers[0])[0])


class LogMel:
    """Whisper's features, as faster-whisper makes them but for the matrix product.

    The linear algebra library would start threads for it, which go on spinning for longer than the
    features take. Most of the matrix is zeros, so a band at a time costs no more.
    """

    def __init__(self) -> None:
        filters = FeatureExtractor(feature_size=_BANDS).mel_filters
        self._taper = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
        self._bands = [
            (int(bins[0]), row[bins[0] : bins[-1] + 1, None])
            for row, bins in ((row, np.flatnonzero(row)) for row in filters)
        ]

    def __call__(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Shape (80, samples // 160)."""
        spectrum = FeatureExtractor.stft(
            audio, _WINDOW, _HOP, window=self._taper, return_complex=True
        )[:, :-1]
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        mel = [(row * power[at : at + len(row)]).sum(axis=0) for at, row in self._bands]
        logs = np.log10(np.maximum(np.stack(mel), 1e-10))
        return np.asarray((np.maximum(logs, logs.max() - 8.0) + 4.0) / 4.0, np.float32)


class ScriptedTurnModel:
    """Gives its answers in order, the last one for ever: for tests and instant pipelines."""

    name = "scripted"

    def __init__(self, answers: Sequence[float | None] = (1.0,)) -> None:
        self._answers = list(answers)
        self.heard: list[NDArray[np.float32]] = []
        """What it was asked about."""

    def completeness(self, audio: NDArray[np.float32]) -> float:
        self.heard.append(audio)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            raise ModelError("scripted to give no judgement")
        return answer


def load_smart_turn() -> SmartTurn:
    """Smart Turn, if its file is installed.

    Raises:
        ModelError: it is not, or can't be read; says how to get it.
    """
    return SmartTurn(smart_turn_path())


def smart_turn_path() -> Path:
    """Where the installed model file lies.

    Raises:
        ModelError: it is not installed; says how to get it.
    """
    try:
        files = distribution(_DISTRIBUTION).files or []
    except PackageNotFoundError:
        raise ModelError(
            f"the Smart Turn model is not installed; get it with: {_HOW_TO_GET_IT}"
        ) from None
    found = [file for file in files if file.match("smart-turn-v3*.onnx")]
    # Where there are several, the one for processors; the other is for graphics cards.
    found.sort(key=lambda file: ("cpu" not in file.name, file.name))
    if not found:
        raise ModelError(
            f"expected smart-turn-v3*.onnx in the installed {_DISTRIBUTION}, found none; "
            f"get it with: {_HOW_TO_GET_IT} --upgrade"
        )
    return Path(str(found[0].locate()))


def window_of(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """The last 8 s, silence in front, at mean 0 and variance 1."""
    window = np.zeros(_SAMPLES, np.float32)
    last = audio[-_SAMPLES:]
    window[_SAMPLES - len(last) :] = last
    scaled = (window - window.mean()) / np.sqrt(window.var() + _LEAST_VARIANCE)
    return np.asarray(scaled, np.float32)
