"""What the engines on PyTorch share."""

from types import ModuleType
from typing import Any

from rtvc.bench.engines.contract import imported
from rtvc.errors import ModelError
from rtvc.results.cells import Cell
from rtvc.stt import synthetic
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray

INSTALL = "pip install 'rtvc[torch]'"
"""What brings PyTorch and the engines on it."""

RANDOM_KIND = "random weights"
"""Of a model of the right shape that has learnt nothing."""

SEED = 0
"""Of random weights."""


def torch_with_threads(threads: int) -> ModuleType:
    """PyTorch, kept to so many CPU threads.

    Raises:
        MissingEngineError: it is not installed.
    """
    torch = imported("torch", package="torch", install=INSTALL)
    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    return torch


def torch_type(torch: Any, cell: Cell) -> Any:
    """Of weights and arithmetic: as asked for; else float16 on a GPU and float32 elsewhere.

    Raises:
        ModelError: PyTorch has no such type.
    """
    usual = "float16" if cell.device == "cuda" else "float32"
    name = usual if cell.compute_type == "auto" else cell.compute_type
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ModelError(f'expected a type that PyTorch has, such as float16, got "{name}"')
    return found


def check_device(torch: Any, device: str) -> str:
    """The device, if it is there.

    Raises:
        ModelError: there is no such device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError('expected a CUDA device for device "cuda", PyTorch sees none; use "cpu"')
    return device


def random_size(model: str) -> str | None:
    """The size that random weights are to have; None: trained weights are meant.

    >>> random_size("synthetic:tiny.en"), random_size("tiny.en")
    ('tiny.en', None)
    """
    if not model.startswith(synthetic.PREFIX):
        return None
    return model.removeprefix(synthetic.PREFIX)


def random_tokens(audio: AudioArray) -> int:
    """Tokens to decode for such audio: random weights end no text by themselves."""
    return max(round(len(audio) / SAMPLE_RATE_HZ * synthetic.TOKENS_PER_S), 1)
