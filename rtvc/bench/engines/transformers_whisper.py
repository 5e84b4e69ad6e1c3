"""Whisper in Hugging Face's transformers, on PyTorch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtvc.bench.engines.as_transcriber import AsTranscriber
from rtvc.bench.engines.contract import Setup, Text, imported, versions
from rtvc.bench.engines.served_whisper import joined
from rtvc.bench.engines.torch_side import (
    INSTALL,
    RANDOM_KIND,
    check_device,
    random_size,
    random_tokens,
    torch_type,
    torch_with_threads,
)
from rtvc.errors import ModelError
from rtvc.stt.guards import is_silent
from rtvc.stt.models import ALIASES
from rtvc.stt.synthetic import (
    AUDIO_POSITIONS,
    TEXT,
    TEXT_POSITIONS,
    Dimensions,
    dimensions_of,
    vocabulary,
)
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray
from rtvc.stt.whisper import MAX_TOKENS, pieces

START, END = "<|startoftranscript|>", "<|endoftext|>"


class TransformersWhisper:
    """Turns in one `generate`; a recording in pieces of at most 30 s, cut where it is quiet."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._torch: Any = None
        self._transformers: Any = None
        self._processor: Any = None
        self._features: Any = None
        self._model: Any = None
        self._random = random_size(setup.cell.model)
        self.model_kind = "whisper" if self._random is None else RANDOM_KIND
        self.packages: dict[str, str] = {}
        self.most_at_once = max(setup.most_at_once, setup.cell.batch)
        self.workers = self.most_abreast = 1
        self.transcriber = AsTranscriber(self, setup.clock, device=setup.cell.device)

    def prepare(self) -> None:
        cell = self._setup.cell
        self._torch = torch_with_threads(cell.threads)
        self._transformers = imported("transformers", package="transformers", install=INSTALL)
        check_device(self._torch, cell.device)
        torch_type(self._torch, cell)
        self._find()
        self.packages = versions("transformers", "torch", "tokenizers")

    def _find(self) -> None:
        if self._random is not None:
            bands = dimensions_of(self._random).mel_bins
            self._features = self._transformers.WhisperFeatureExtractor(feature_size=bands)
            return
        name = repository(self._setup.cell.model)
        try:
            found = self._transformers.WhisperProcessor.from_pretrained(name, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelError(
                f'expected "{name}" in the local cache of the model hub, found none; fetch it '
                f"with: huggingface-cli download {name}"
            ) from error
        self._processor, self._features = found, found.feature_extractor

    def load(self, abreast: int = 1) -> None:
        cell = self._setup.cell
        model = self._trained_model() if self._random is None else self._random_model()
        self._model = model.to(cell.device, torch_type(self._torch, cell)).eval()

    def transcribe(self, audio: AudioArray, language: str | None) -> Text:
        return joined(self.transcribe_batch(list(pieces(audio)), language))

    def transcribe_batch(self, audios: Sequence[AudioArray], language: str | None) -> list[Text]:
        heard = [audio for audio in audios if not is_silent(audio)]
        answers = iter(self._decoded(heard, language) if heard else [])
        return [Text("", ("silence",)) if is_silent(audio) else next(answers) for audio in audios]

    def transcribe_long(self, audio: AudioArray, language: str | None) -> Text:
        cut, size = list(pieces(audio)), self._setup.cell.batch
        groups = [cut[at : at + size] for at in range(0, len(cut), size)]
        return joined([text for group in groups for text in self.transcribe_batch(group, language)])

    def _decoded(self, audios: Sequence[AudioArray], language: str | None) -> list[Text]:
        found = self._features(
            [np.asarray(audio) for audio in audios],
            sampling_rate=SAMPLE_RATE_HZ,
            return_tensors="pt",
            return_attention_mask=True,
        )
        features = found.input_features.to(self._model.device, self._model.dtype)
        with self._torch.inference_mode():
            if self._random is not None:
                return self._random_answers(features, audios)
            mask = found.attention_mask.to(self._model.device)
            tokens = self._model.generate(
                features, attention_mask=mask, **self._search(), **self._spoken(language)
            )
        texts = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [Text(text.strip()) for text in texts]

    def _search(self) -> dict[str, Any]:
        return {"num_beams": self._setup.cell.beam, "do_sample": False}

    def _spoken(self, language: str | None) -> dict[str, Any]:
        """An English model refuses to be told a language."""
        if not getattr(self._model.generation_config, "is_multilingual", True):
            return {}
        return {"language": language, "task": "transcribe"}

    def _trained_model(self) -> Any:
        name = repository(self._setup.cell.model)
        whisper = self._transformers.WhisperForConditionalGeneration
        try:
            return whisper.from_pretrained(name, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f'expected Whisper weights in "{name}", got: {error}') from error

    def _random_model(self) -> Any:
        size = dimensions_of(self._random or "")
        end = vocabulary(size).index(END)
        config = self._transformers.WhisperConfig(
            vocab_size=size.vocabulary_size,
            num_mel_bins=size.mel_bins,
            d_model=size.width,
            encoder_layers=size.encoder_layers,
            encoder_attention_heads=size.heads,
            encoder_ffn_dim=4 * size.width,
            decoder_layers=size.decoder_layers,
            decoder_attention_heads=size.heads,
            decoder_ffn_dim=4 * size.width,
            max_source_positions=AUDIO_POSITIONS,
            max_target_positions=TEXT_POSITIONS,
            decoder_start_token_id=_start(size),
            pad_token_id=end,
            bos_token_id=end,
            eos_token_id=end,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        )
        return self._transformers.WhisperForConditionalGeneration(config)

    def _random_answers(self, features: Any, audios: Sequence[AudioArray]) -> list[Text]:
        """As many tokens as trained weights would decode, by the search that all models share:
        Whisper's own wants to know tokens that only a trained model's folder names."""
        size = dimensions_of(self._random or "")
        end = vocabulary(size).index(END)
        tokens = min(max(map(random_tokens, audios)), MAX_TOKENS)
        plan = self._transformers.GenerationConfig(
            decoder_start_token_id=_start(size),
            pad_token_id=end,
            eos_token_id=end,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            **self._search(),
        )
        self._transformers.GenerationMixin.generate(
            self._model, inputs=features, generation_config=plan
        )
        return [Text(TEXT) for _ in audios]


def _start(size: Dimensions) -> int:
    return vocabulary(size).index(START)


def repository(model: str) -> str:
    """Where the hub has a model, or the folder that the name is.

    >>> repository("tiny.en"), repository("distil-small.en"), repository("turbo")
    ('openai/whisper-tiny.en', 'distil-whisper/distil-small.en', 'openai/whisper-large-v3-turbo')
    """
    if Path(model).expanduser().is_dir():
        return str(Path(model).expanduser())
    name = ALIASES.get(model, model)
    return f"distil-whisper/{name}" if name.startswith("distil-") else f"openai/whisper-{name}"
