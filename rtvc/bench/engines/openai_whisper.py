"""OpenAI's own Whisper package, on PyTorch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from rtvc.config import cache_folder
from rtvc.errors import ModelError
from rtvc.stt.guards import RawAnswer, guarded, is_silent
from rtvc.stt.models import ALIASES
from rtvc.stt.synthetic import AUDIO_POSITIONS, TEXT, TEXT_POSITIONS, dimensions_of
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray
from rtvc.stt.whisper import MAX_TOKENS, WINDOW_S, pieces

NON_SPEECH = -1
"""Stands for the symbols that the package suppresses by default."""


class OpenAiWhisper:
    """A turn is one window, decoded once; a recording goes through the package's `transcribe`."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._torch: Any = None
        self._whisper: Any = None
        self._model: Any = None
        self._file: Path | None = None
        self._random = random_size(setup.cell.model)
        self.model_kind = "whisper" if self._random is None else RANDOM_KIND
        self.packages: dict[str, str] = {}
        # With a beam it repeats the texts of a batch but not their audio, and fails.
        self.most_at_once = 1 if setup.cell.beam > 1 else max(setup.most_at_once, setup.cell.batch)
        self.workers = self.most_abreast = 1
        self.transcriber = AsTranscriber(self, setup.clock, device=setup.cell.device)

    def prepare(self) -> None:
        cell = self._setup.cell
        self._torch = torch_with_threads(cell.threads)
        self._whisper = imported("whisper", package="openai-whisper", install=INSTALL)
        check_device(self._torch, cell.device)
        if torch_type(self._torch, cell) not in (self._torch.float16, self._torch.float32):
            raise ModelError(
                f"expected float16 or float32 for openai-whisper, got {cell.compute_type}"
            )
        if self._random is None:
            self._file = weights_file(cell.model)
        self.packages = versions("openai-whisper", "torch")

    def load(self, abreast: int = 1) -> None:
        device = self._setup.cell.device
        if self._file is None:
            self._model = self._random_model().to(device).eval()
            return
        try:
            self._model = self._whisper.load_model(str(self._file), device=device)
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            raise ModelError(f"expected Whisper weights in {self._file}, got: {error}") from error

    def transcribe(self, audio: AudioArray, language: str | None) -> Text:
        if len(audio) > WINDOW_S * SAMPLE_RATE_HZ:
            return self.transcribe_long(audio, language)
        return self.transcribe_batch([audio], language)[0]

    def transcribe_batch(self, audios: Sequence[AudioArray], language: str | None) -> list[Text]:
        heard = [audio for audio in audios if not is_silent(audio)]
        firsts = range(0, len(heard), self.most_at_once)
        groups = [heard[first : first + self.most_at_once] for first in firsts]
        answers = iter([text for group in groups for text in self._decoded(group, language)])
        return [Text("", ("silence",)) if is_silent(audio) else next(answers) for audio in audios]

    def transcribe_long(self, audio: AudioArray, language: str | None) -> Text:
        if self._random is not None:
            return joined([self.transcribe(piece, language) for piece in pieces(audio)])
        answer = self._whisper.transcribe(
            self._model, audio, language=self._language(language), **self._search()
        )
        return Text(str(answer["text"]).strip())

    def _decoded(self, audios: Sequence[AudioArray], language: str | None) -> list[Text]:
        whisper, torch = self._whisper, self._torch
        windows = [whisper.pad_or_trim(audio) for audio in audios]
        mels = torch.stack(
            [whisper.log_mel_spectrogram(each, self._model.dims.n_mels) for each in windows]
        ).to(self._setup.cell.device)
        options = whisper.DecodingOptions(
            language=self._language(language),
            without_timestamps=True,
            **self._search(),
            **self._bounds(audios),
        )
        results = whisper.decode(self._model, mels, options)
        return [self._text(result) for result in results]

    def _text(self, result: Any) -> Text:
        if self._random is not None:
            return Text(TEXT)
        answer = RawAnswer(
            str(result.text).strip(),
            len(result.tokens),
            MAX_TOKENS,
            result.no_speech_prob,
            result.avg_logprob,
        )
        return Text(*guarded(answer))

    def _search(self) -> dict[str, Any]:
        """The package decodes greedily where no beam is named."""
        half = torch_type(self._torch, self._setup.cell) is self._torch.float16
        beam = self._setup.cell.beam
        return {"fp16": half, "beam_size": None if beam == 1 else beam}

    def _bounds(self, audios: Sequence[AudioArray]) -> dict[str, Any]:
        """Random weights decode as many tokens as trained ones would, and never end before."""
        if self._random is None:
            return {}
        tokenizer = self._whisper.tokenizer.get_tokenizer(
            self._model.is_multilingual, num_languages=self._model.num_languages
        )
        return {
            "sample_len": min(max(map(random_tokens, audios)), MAX_TOKENS),
            "suppress_tokens": [NON_SPEECH, tokenizer.eot],
        }

    def _language(self, language: str | None) -> str | None:
        """An English model has no tokens for languages, and finds none out."""
        return language if self._model.is_multilingual else "en"

    def _random_model(self) -> Any:
        size = dimensions_of(self._random or "")
        model = self._whisper.Whisper(
            self._whisper.ModelDimensions(
                n_mels=size.mel_bins,
                n_audio_ctx=AUDIO_POSITIONS,
                n_audio_state=size.width,
                n_audio_head=size.heads,
                n_audio_layer=size.encoder_layers,
                n_vocab=size.vocabulary_size,
                n_text_ctx=TEXT_POSITIONS,
                n_text_state=size.width,
                n_text_head=size.heads,
                n_text_layer=size.decoder_layers,
            )
        )
        # The package leaves these as they are found in memory: numbers or not.
        self._torch.nn.init.normal_(model.decoder.positional_embedding, std=0.01)
        return model


def weights_file(model: str) -> Path:
    """Of a model's name, where the package keeps it; or the file that the name is.

    Raises:
        ModelError: it is not on this machine.
    """
    named = Path(model).expanduser()
    if named.suffix == ".pt":
        found = named
    else:
        # The package's own place, beside ours.
        found = cache_folder().parent / "whisper" / f"{ALIASES.get(model, model)}.pt"
    if not found.is_file():
        raise ModelError(
            f'expected the weights of "{model}" for openai-whisper in {found}, found none; fetch '
            f"them with: python -c \"import whisper; whisper.load_model('{model}')\""
        )
    return found
