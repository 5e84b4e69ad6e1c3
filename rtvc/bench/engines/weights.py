"""CTranslate2 weights of a cell, found on this machine; nothing is fetched here."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from rtvc.bench.engines.contract import imported
from rtvc.errors import ModelError
from rtvc.instruments.process import usable_cpus
from rtvc.results.cells import Cell
from rtvc.stt.limits import GPU_WORKERS
from rtvc.stt.models import ResolvedModel, WantedContext, resolve_model
from rtvc.stt.synthetic import TEXT, Card, read_card
from rtvc.stt.whisper import chosen_compute_type, chosen_device

LIBRARY = ("faster-whisper", "ctranslate2", "onnxruntime")
"""Packages whose versions change what faster-whisper costs."""

MAX_LIBRARY_TOKENS = 440
"""Of a window, those of its prompt left out: what faster-whisper accepts."""

TRAINED = "whisper"
"""Kind of a model with OpenAI's vocabulary and training."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A folder of weights, and what is known of them."""

    found: ResolvedModel
    """As the server would find it."""
    path: Path
    """CTranslate2 folder."""
    card: Card | None
    """Of synthetic weights; None: they have been trained."""

    def shown(self, text: str) -> str:
        """What stands for the text: what random weights write is nobody's."""
        return text if self.card is None or not text else TEXT

    def options(self, audio_s: float) -> dict[str, Any]:
        """What faster-whisper must be told of these weights, for so many seconds of audio.

        Random ones never end a text by themselves, and CTranslate2 decodes half of the tokens that
        it is allowed. Others are used as the library comes, but for the empty answer to silence
        that some were trained to give.
        """
        blank = self.found.suppress_blank
        suppressed = [-1] if blank else None
        plain: dict[str, Any] = {"suppress_blank": blank, "suppress_tokens": suppressed}
        if self.found.kind != TRAINED:
            # Ours have never learnt to write them.
            plain["without_timestamps"] = True
        if self.card is None:
            return plain
        tokens = 2 * round(audio_s * self.card.tokens_per_s) + 2
        return {
            **plain,
            "max_new_tokens": min(tokens, MAX_LIBRARY_TOKENS),
            "temperature": 0.0,
            "condition_on_previous_text": False,
        }


def library() -> ModuleType:
    """faster-whisper.

    Raises:
        MissingEngineError: it is not there.
    """
    install = "pip install faster-whisper"
    return imported("faster_whisper", package="faster-whisper", install=install)


def weights_of(cell: Cell) -> Weights:
    """Of the model that the cell names.

    Raises:
        ModelError: they are not on this machine, or are none of Whisper's.
    """
    context: WantedContext = "short" if cell.context == "short" else "full"
    found = resolve_model(cell.model, device=cell.device, encoder_context=context, offline=True)
    if found.path is None or not found.path.is_dir():
        raise ModelError(f'expected Whisper weights for "{cell.model}" on this machine, found none')
    return Weights(found, found.path, read_card(found.path))


def usual_workers(cell: Cell) -> int:
    """Inferences of CTranslate2 at once, as `rtvc serve` would have them: on a CPU as many as there
    are cores for."""
    return GPU_WORKERS if cell.device == "cuda" else max(usable_cpus() // cell.threads, 1)


def load_library_model(cell: Cell, weights: Weights, *, workers: int = 1) -> Any:
    """faster-whisper's own model object, its threads as the cell has them.

    Raises:
        ModelError: it cannot be loaded with these settings.
    """
    ctranslate2 = imported(
        "ctranslate2", package="ctranslate2", install="pip install faster-whisper"
    )
    device = chosen_device(ctranslate2, cell.device)
    compute_type = chosen_compute_type(ctranslate2, device, cell.compute_type)
    try:
        return library().WhisperModel(
            str(weights.path),
            device=device,
            compute_type=compute_type,
            cpu_threads=cell.threads,
            num_workers=workers,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"expected a Whisper model in {weights.path}, got: {error}") from error
