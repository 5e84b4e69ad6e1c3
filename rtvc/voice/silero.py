"""Silero VAD through onnxruntime: weights shared by all sessions, state kept per session.

The model file comes with faster-whisper (Silero VAD v6, MIT). Its state is an LSTM's h and c,
shape (1, 1, 128) each, and the last 64 samples before a frame.
"""

from pathlib import Path
from typing import Any

import faster_whisper
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rtvc.voice.vad import FRAME_SAMPLES

_CONTEXT_SAMPLES = 64
_WINDOW_SAMPLES = _CONTEXT_SAMPLES + FRAME_SAMPLES
_STATE_SHAPE = (1, 1, 128)


class SileroModel:
    """The shared weights; one onnxruntime session of one thread, safe to call from many."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = Path(faster_whisper.__file__).parent / "assets" / "silero_vad_v6.onnx"
        self._session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(
        self, frames: NDArray[np.float32], h: NDArray[np.float32], c: NDArray[np.float32]
    ) -> tuple[Any, Any, Any]:
        """Probabilities, h and c after `frames`, shape (count, 576)."""
        result: tuple[Any, Any, Any] = tuple(
            self._session.run(self._outputs, {"input": frames, "h": h, "c": c})
        )
        return result

    def session(self) -> "SileroVad":
        """A detector with a state of its own."""
        return SileroVad(self)


class SileroVad:
    """One session's detector."""

    def __init__(self, model: SileroModel) -> None:
        self._model = model
        self._h = np.zeros(_STATE_SHAPE, np.float32)
        self._c = np.zeros(_STATE_SHAPE, np.float32)
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)

    def probabilities(self, frames: NDArray[np.float32]) -> list[float]:
        """Probability of speech for each of `frames`, shape (count, 512), in order."""
        if not len(frames):
            return []
        stream = np.concatenate([self._context, frames.ravel()])
        self._context = stream[-_CONTEXT_SAMPLES:].copy()
        starts = range(0, len(stream) - _CONTEXT_SAMPLES, FRAME_SAMPLES)
        windows = np.array([stream[at : at + _WINDOW_SAMPLES] for at in starts])
        found, self._h, self._c = self._model.run(windows, self._h, self._c)
        return [float(p) for p in np.ravel(found)]
