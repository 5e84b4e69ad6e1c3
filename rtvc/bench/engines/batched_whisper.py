"""faster-whisper's own batches: `BatchedInferencePipeline`, pieces of speech side by side."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rtvc.bench.engines.as_transcriber import AsTranscriber
from rtvc.bench.engines.contract import Setup, Text, versions
from rtvc.bench.engines.library_whisper import text_of
from rtvc.bench.engines.weights import LIBRARY, Weights, library, load_library_model, weights_of
from rtvc.errors import ModelError
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray
from rtvc.stt.whisper import WINDOW_S

_ROUNDING_S = 0.002
"""The library rounds times to milliseconds."""


class BatchedWhisper:
    """A long recording is cut by voice activity, as the library insists on; a turn if asked to."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._weights: Weights | None = None
        self._pipeline: Any = None
        self.model_kind = "whisper"
        self.packages: dict[str, str] = {}
        self.most_at_once = max(setup.most_at_once, setup.cell.batch)
        self.workers = self.most_abreast = 1
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
        model = load_library_model(self._setup.cell, self.weights)
        self._pipeline = library().BatchedInferencePipeline(model)

    def transcribe(self, audio: AudioArray, language: str | None) -> Text:
        too_long = len(audio) >= WINDOW_S * SAMPLE_RATE_HZ
        segments = self._run(
            audio,
            language,
            longest_s=min(len(audio) / SAMPLE_RATE_HZ, WINDOW_S),
            batch_size=self._setup.cell.batch,
            vad_filter=too_long or self._setup.cell.vad_filter,
        )
        return Text(self.weights.shown(text_of(segments)))

    def transcribe_batch(self, audios: Sequence[AudioArray], language: str | None) -> list[Text]:
        """The library batches pieces of one recording: the turns become one, and its pieces."""
        ends = np.cumsum([len(audio) for audio in audios]) / SAMPLE_RATE_HZ
        starts = [0.0, *(float(end) for end in ends[:-1])]
        clips = [{"start": at, "end": float(end)} for at, end in zip(starts, ends, strict=True)]
        segments = self._run(
            np.concatenate(audios),
            language,
            longest_s=max(len(audio) for audio in audios) / SAMPLE_RATE_HZ,
            batch_size=len(audios),
            clip_timestamps=clips,
        )
        return [Text(self.weights.shown(text_of(own))) for own in dealt(segments, starts)]

    def transcribe_long(self, audio: AudioArray, language: str | None) -> Text:
        return self.transcribe(audio, language)

    def _run(
        self, audio: AudioArray, language: str | None, *, longest_s: float, **more: Any
    ) -> Iterable[Any]:
        segments: Iterable[Any]
        segments, _ = self._pipeline.transcribe(
            audio,
            language=language,
            beam_size=self._setup.cell.beam,
            **self.weights.options(longest_s),
            **more,
        )
        return segments


def dealt(segments: Iterable[Any], starts: Sequence[float]) -> list[list[Any]]:
    """Each segment to the clip in which it begins; `starts` are those of the clips, rising."""
    own: list[list[Any]] = [[] for _ in starts]
    for segment in segments:
        own[max(bisect_right(starts, segment.start + _ROUNDING_S) - 1, 0)].append(segment)
    return own
