"""faster-whisper as most servers call it: `WhisperModel.transcribe`, one utterance at a time."""

from collections.abc import Iterable, Sequence
from typing import Any

from rtvc.bench.engines.as_transcriber import AsTranscriber
from rtvc.bench.engines.contract import Setup, Text, versions
from rtvc.bench.engines.weights import (
    LIBRARY,
    Weights,
    library,
    load_library_model,
    usual_workers,
    weights_of,
)
from rtvc.errors import ModelError
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray
from rtvc.stt.whisper import WINDOW_S


class LibraryWhisper:
    """Everything as the library has it by default, but for the beam and the VAD filter."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._weights: Weights | None = None
        self._model: Any = None
        self.model_kind = "whisper"
        self.packages: dict[str, str] = {}
        self.most_at_once = 1
        self.workers = self.most_abreast = usual_workers(setup.cell)
        self.transcriber = AsTranscriber(self, setup.clock, device=setup.cell.device)

    @property
    def weights(self) -> Weights:
        """Known after `prepare`."""
        if self._weights is None:
            raise ModelError("expected prepare() before anything else")
        return self._weights

    def prepare(self) -> None:
        library()
        self._weights = weights_of(self._setup.cell)
        self.model_kind = self._weights.found.kind
        self.packages = versions(*LIBRARY)

    def load(self, abreast: int = 1) -> None:
        self._model = None
        self._model = load_library_model(self._setup.cell, self.weights, workers=abreast)

    def transcribe(self, audio: AudioArray, language: str | None) -> Text:
        audio_s = min(len(audio) / SAMPLE_RATE_HZ, WINDOW_S)
        segments, _ = self._model.transcribe(
            audio,
            language=language,
            beam_size=self._setup.cell.beam,
            vad_filter=self._setup.cell.vad_filter,
            **self.weights.options(audio_s),
        )
        return Text(self.weights.shown(text_of(segments)))

    def transcribe_batch(self, audios: Sequence[AudioArray], language: str | None) -> list[Text]:
        return [self.transcribe(audio, language) for audio in audios]

    def transcribe_long(self, audio: AudioArray, language: str | None) -> Text:
        return self.transcribe(audio, language)


def text_of(segments: Iterable[Any]) -> str:
    """What was said in segments as faster-whisper gives them: the model works while they come."""
    return " ".join(filter(None, (segment.text.strip() for segment in segments)))
