"""Whisper models with the right architecture and random weights: a box's capacity, nothing pulled.

What a model costs depends on its dimensions, not on what its weights have learnt. So a folder of
seeded random weights is built that CTranslate2 and faster-whisper load like any other. It never
ends a text by itself; how many tokens it decodes follows from the seconds of audio.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtvc.config import cache_folder
from rtvc.errors import ModelError, why
from rtvc.stt.transcriber import ReportProgress

PREFIX = "synthetic:"
"""Before the name of a size, wherever a model is named."""
KIND = "synthetic weights"
TEXT = "Synthetic weights know no words."
"""Stands for whatever random weights say: no transcript, never scored; it prolongs no turn."""
TOKENS_PER_S = 4.0
"""Tokens decoded per second of audio: 170 words a minute at 1.35 tokens and a full stop."""
CARD_FILE = "synthetic.json"
FORMAT = 1
"""Counts up when the same name and seed would give another folder."""

AUDIO_POSITIONS = 1500
TEXT_POSITIONS = 448
TEXT_TOKENS = 50256
"""Of GPT-2's vocabulary without the end of text; multilingual models have an empty one more."""
TIMESTAMPS = 1501
NEVER = -10_000.0
"""Added to the score of the end of text and its like: representable in float16."""
UNLIKELY = -30.0
"""Added to the score of timestamps: written only where a caller's rules ask for one."""
_LANGUAGES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th "
    "ur hr bg lt la mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr "
    "pa si km sn yo so af oc ka be tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt "
    "haw ln ha ba jw su yue"
)
LANGUAGES = tuple(_LANGUAGES.split())
"""In the order of their tokens; the last only in large-v3 and what came from it."""


@dataclass(frozen=True, slots=True)
class Dimensions:
    """What a Whisper model's cost depends on."""

    width: int
    """Of the states."""
    heads: int
    """Of each attention."""
    encoder_layers: int
    """Blocks."""
    decoder_layers: int
    """Blocks."""
    mel_bins: int = 80
    """Bands of the features."""
    languages: int = 99
    """Languages the vocabulary names: 99, or 100."""
    english_only: bool = False
    """Whether the vocabulary is that of a .en model, one token smaller."""

    @property
    def vocabulary_size(self) -> int:
        """51864 for .en, 51865 for multilingual models, 51866 for large-v3 and its children."""
        return len(vocabulary(self))

    @property
    def parameters(self) -> int:
        """Weights of the matrices, which are nearly all there are."""
        block = 12 * self.width**2
        layers = self.encoder_layers * block + self.decoder_layers * (block + 4 * self.width**2)
        return layers + self.vocabulary_size * self.width


# Widths, heads and layers: Radford et al., "Robust Speech Recognition via Large-Scale Weak
# Supervision" (2022), table 1; large-v3 and its turbo: OpenAI's model cards (128 bands, one more
# language, 4 decoder layers); distil-*: Gandhi et al., "Distil-Whisper" (2023), table 3 (the
# whole encoder, 2 decoder layers; 4 in small.en's).
DIMENSIONS = {
    "tiny.en": Dimensions(384, 6, 4, 4, english_only=True),
    "tiny": Dimensions(384, 6, 4, 4),
    "base.en": Dimensions(512, 8, 6, 6, english_only=True),
    "base": Dimensions(512, 8, 6, 6),
    "small.en": Dimensions(768, 12, 12, 12, english_only=True),
    "small": Dimensions(768, 12, 12, 12),
    "medium.en": Dimensions(1024, 16, 24, 24, english_only=True),
    "medium": Dimensions(1024, 16, 24, 24),
    "large-v2": Dimensions(1280, 20, 32, 32),
    "large-v3": Dimensions(1280, 20, 32, 32, mel_bins=128, languages=100),
    "large-v3-turbo": Dimensions(1280, 20, 32, 4, mel_bins=128, languages=100),
    "distil-small.en": Dimensions(768, 12, 12, 4, english_only=True),
    "distil-medium.en": Dimensions(1024, 16, 24, 2, english_only=True),
    "distil-large-v2": Dimensions(1280, 20, 32, 2),
    "distil-large-v3": Dimensions(1280, 20, 32, 2, mel_bins=128, languages=100),
}


@dataclass(frozen=True, slots=True)
class Card:
    """What a synthetic folder says of itself."""

    name: str
    """Size, such as tiny.en."""
    seed: int
    """Of the weights."""
    tokens_per_s: float
    """Tokens to decode per second of audio."""
    format: int
    """Version of the way it was made."""


def synthetic_folder(name: str, *, seed: int = 0, cache: Path | None = None) -> Path:
    """Where the model of that size is, or would be; `cache` None: the user's."""
    return (cache or cache_folder()) / "synthetic" / f"{name}-{seed}-v{FORMAT}"


def synthesized(
    name: str, report: ReportProgress, *, seed: int = 0, cache: Path | None = None
) -> Path:
    """The folder of that size, made now unless it is there.

    Raises:
        ModelError: an unknown size, or no room on the disk.
    """
    dimensions = dimensions_of(name)
    folder = synthetic_folder(name, seed=seed, cache=cache)
    if read_card(folder) is None or not (folder / "model.bin").is_file():
        try:
            _make(folder, Card(name, seed, TOKENS_PER_S, FORMAT), dimensions, report)
        except OSError as error:
            raise ModelError(f"cannot make synthetic weights in {folder}: {why(error)}") from error
    return folder


def dimensions_of(name: str) -> Dimensions:
    """Of a size by its name.

    Raises:
        ModelError: there is no such size.
    """
    if name not in DIMENSIONS:
        raise ModelError(
            f'expected {PREFIX}NAME with NAME one of {", ".join(DIMENSIONS)}, got "{PREFIX}{name}"'
        )
    return DIMENSIONS[name]


def read_card(folder: Path) -> Card | None:
    """What a folder says of itself; None: it holds no synthetic model."""
    try:
        return Card(**json.loads((folder / CARD_FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def forget(name: str) -> int:
    """Remove the folder of that size. Returns the bytes freed.

    Raises:
        ModelError: it cannot be removed.
    """
    folder = synthetic_folder(name)
    freed = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise ModelError(f"cannot remove {folder}: {why(error)}") from error
    return freed


def _make(folder: Path, card: Card, dimensions: Dimensions, report: ReportProgress) -> None:
    """Write beside the folder, then rename: a folder that is there is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    needed, free = dimensions.parameters, shutil.disk_usage(folder.parent).free
    if free < 1.2 * needed:
        raise ModelError(
            f"expected {needed / 1e6:.0f} MB of room in {folder.parent}, found {free / 1e6:.0f}"
        )
    made = Path(tempfile.mkdtemp(prefix=f".{card.name}-", dir=folder.parent))
    try:
        _write(made, card, dimensions, report)
        shutil.rmtree(folder, ignore_errors=True)
        _rename(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _rename(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        # Another process may have been quicker.
        if read_card(folder) is None:
            raise


def _write(folder: Path, card: Card, dimensions: Dimensions, report: ReportProgress) -> None:
    weights = _Weights(card.seed, dimensions, report)
    spec = _specification(dimensions, weights)
    report(0.9, f"writing synthetic {card.name} weights")
    spec.save(str(folder))
    _write_json(folder / "tokenizer.json", tokenizer(dimensions))
    _write_json(folder / "preprocessor_config.json", preprocessor(dimensions))
    _write_json(folder / CARD_FILE, asdict(card))
    report(1.0, f"made synthetic {card.name} weights")


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


# Weights


class _Weights:
    """Draws random weights, scaled so that what goes through them keeps its size."""

    def __init__(self, seed: int, dimensions: Dimensions, report: ReportProgress) -> None:
        self._random = np.random.default_rng(seed)
        self._total = dimensions.parameters
        self._drawn = 0
        self._report = report

    def matrix(self, target: Any, rows: int, columns: int, *, gain: float = 1.0) -> None:
        """8-bit weights and a scale per row, as CTranslate2 keeps them on disk.

        At loading it turns them into whatever compute type was asked for.
        """
        drawn: NDArray[np.int8] = np.frombuffer(self._random.bytes(rows * columns), np.int8)
        target.weight = np.maximum(drawn, -127).reshape(rows, columns)
        # Evenly spread bytes have a deviation of 73.9; a weight is its byte ÷ the scale.
        scale = 73.9 * np.sqrt(columns) / gain
        target.weight_scale = np.full(rows, scale, np.float32)
        self._tell(rows * columns)

    def linear(self, target: Any, outputs: int, inputs: int) -> None:
        """A matrix with a bias of nothing."""
        self.matrix(target, outputs, inputs)
        target.bias = np.zeros(outputs, np.float32)

    def convolution(self, target: Any, outputs: int, inputs: int, width: int = 3) -> None:
        """Kept in float32, as CTranslate2 does not quantize it."""
        drawn = self._random.standard_normal((outputs, inputs, width), np.float32)
        target.weight = drawn / np.float32(np.sqrt(inputs * width))
        target.bias = np.zeros(outputs, np.float32)

    def positions(self, count: int, width: int) -> NDArray[np.float32]:
        """Learnt positions of the decoder."""
        return self._random.standard_normal((count, width), np.float32) * np.float32(0.1)

    def _tell(self, count: int) -> None:
        self._drawn += count
        done = 0.9 * min(self._drawn / self._total, 1.0)
        self._report(done, f"making synthetic weights, {self._drawn / 1e6:.0f} million")


def _specification(dimensions: Dimensions, weights: _Weights) -> Any:
    from ctranslate2.specs.whisper_spec import WhisperSpec  # heavy, and rarely needed

    d = dimensions
    spec = WhisperSpec(d.encoder_layers, d.heads, d.decoder_layers, d.heads)
    _fill_encoder(spec.encoder, d, weights)
    _fill_decoder(spec.decoder, d, weights)
    tokens = vocabulary(d)
    spec.register_vocabulary(tokens)
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = []
    spec.config.lang_ids = [] if d.english_only else language_ids(tokens)
    upper_half = range(d.decoder_layers // 2, d.decoder_layers)
    spec.config.alignment_heads = [[layer, head] for layer in upper_half for head in range(d.heads)]
    spec.validate()
    # One matrix both reads and writes tokens; an alias is a name, put in after the validation.
    spec.decoder.projection.weight = "decoder/embeddings/weight"
    spec.decoder.projection.weight_scale = "decoder/embeddings/weight_scale"
    return spec


def _fill_encoder(encoder: Any, dimensions: Dimensions, weights: _Weights) -> None:
    width = dimensions.width
    weights.convolution(encoder.conv1, width, dimensions.mel_bins)
    weights.convolution(encoder.conv2, width, width)
    encoder.position_encodings.encodings = _sinusoids(AUDIO_POSITIONS, width)
    _norm(encoder.layer_norm, width)
    for layer in encoder.layer:
        _self_attention(layer, width, weights)
        _feed_forward(layer, width, weights)


def _fill_decoder(decoder: Any, dimensions: Dimensions, weights: _Weights) -> None:
    width, size = dimensions.width, dimensions.vocabulary_size
    weights.matrix(decoder.embeddings, size, width)
    decoder.projection.weight = decoder.embeddings.weight
    decoder.projection.bias = _token_biases(vocabulary(dimensions))
    decoder.position_encodings.encodings = weights.positions(TEXT_POSITIONS, width)
    _norm(decoder.layer_norm, width)
    for layer in decoder.layer:
        _self_attention(layer, width, weights)
        _cross_attention(layer, width, weights)
        _feed_forward(layer, width, weights)


def _self_attention(layer: Any, width: int, weights: _Weights) -> None:
    _norm(layer.self_attention.layer_norm, width)
    weights.linear(layer.self_attention.linear[0], 3 * width, width)
    weights.linear(layer.self_attention.linear[1], width, width)


def _cross_attention(layer: Any, width: int, weights: _Weights) -> None:
    _norm(layer.attention.layer_norm, width)
    weights.linear(layer.attention.linear[0], width, width)
    weights.linear(layer.attention.linear[1], 2 * width, width)
    weights.linear(layer.attention.linear[2], width, width)


def _feed_forward(layer: Any, width: int, weights: _Weights) -> None:
    _norm(layer.ffn.layer_norm, width)
    weights.linear(layer.ffn.linear_0, 4 * width, width)
    weights.linear(layer.ffn.linear_1, width, 4 * width)


def _norm(target: Any, width: int) -> None:
    target.gamma = np.ones(width, np.float32)
    target.beta = np.zeros(width, np.float32)


def _sinusoids(count: int, width: int) -> NDArray[np.float32]:
    """Positions of the encoder, as in the paper: sines, then cosines."""
    step = np.log(10_000) / (width // 2 - 1)
    angles = np.arange(count)[:, None] * np.exp(-step * np.arange(width // 2))[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def _token_biases(tokens: list[str]) -> NDArray[np.float32]:
    """Text goes on for as long as it is let: its end never wins."""
    special = tokens.index("<|endoftext|>")
    first_timestamp = len(tokens) - TIMESTAMPS
    biases = np.zeros(len(tokens), np.float32)
    biases[special:first_timestamp] = NEVER
    biases[first_timestamp:] = UNLIKELY
    return biases


# Vocabulary


def vocabulary(dimensions: Dimensions) -> list[str]:
    """All tokens in order, as many as the real model has; the special ones are where they were."""
    letters = _letters()
    text = [*letters, *(f"Ġw{number}" for number in range(len(letters), TEXT_TOKENS))]
    # By the empty token CTranslate2 knows a multilingual model.
    empty = [] if dimensions.english_only else [""]
    return [*text, *empty, *_special_tokens(dimensions.languages), *_timestamps()]


def _letters() -> list[str]:
    """GPT-2's 256 characters, one for each byte: enough to write anything."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def _special_tokens(languages: int) -> Iterator[str]:
    yield "<|endoftext|>"
    yield "<|startoftranscript|>"
    yield from (f"<|{language}|>" for language in LANGUAGES[:languages])
    for name in ("translate", "transcribe", "startoflm", "startofprev", "nospeech"):
        yield f"<|{name}|>"
    yield "<|notimestamps|>"


def _timestamps() -> Iterator[str]:
    return (f"<|{number * 0.02:.2f}|>" for number in range(TIMESTAMPS))


def language_ids(tokens: list[str]) -> list[int]:
    """Where the languages are among the tokens."""
    first = tokens.index("<|startoftranscript|>") + 1
    return list(range(first, tokens.index("<|translate|>")))


def tokenizer(dimensions: Dimensions) -> dict[str, Any]:
    """A byte-level tokenizer.json over the vocabulary, without merges: a token a letter."""
    tokens = vocabulary(dimensions)
    special = tokens.index("<|endoftext|>")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added_token(number, tokens[number]) for number in range(special, len(tokens))
        ],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": True},
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "vocab": {token: number for number, token in enumerate(tokens[:special])},
            "merges": [],
        },
    }


def _added_token(number: int, token: str) -> dict[str, Any]:
    return {
        "id": number,
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def preprocessor(dimensions: Dimensions) -> dict[str, Any]:
    """Tells faster-whisper how many bands the features have."""
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": dimensions.mel_bins,
        "sampling_rate": 16_000,
        "hop_length": 160,
        "chunk_length": 30,
        "n_fft": 400,
        "n_samples": 480_000,
        "nb_max_frames": 3000,
        "padding_value": 0.0,
    }
