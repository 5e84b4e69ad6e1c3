"""What can be known about a model without loading it: whether its files are whole, whether the
device knows the compute type, whether there is memory enough. Takes a fraction of a second.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import psutil

from rtvc.errors import ModelError
from rtvc.stt.models import ALIASES, CATALOGUE, ResolvedModel, is_here, resolve_model
from rtvc.stt.whisper import chosen_compute_type, chosen_device

PROCESS_BYTES = 150_000_000
"""A process with the libraries and no model."""
KNOWN_VERSIONS = (6,)
"""Of CTranslate2's file format that are walked through; others are left to the loader."""
_CGROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """Memory that a new process could have, within the limit of this container."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, max(int(limit) - used, 0))


def check_model(
    name: str | None,
    *,
    device: str = "auto",
    compute_type: str = "auto",
    copies: int = 1,
    memory: Callable[[], int] = available_bytes,
) -> None:
    """Find out now what would otherwise fail while loading; a download is left for later.

    Raises:
        ModelError: the model, the device or the memory won't do; says what was expected.
    """
    if device != "auto" or compute_type != "auto":
        _check_device(device, compute_type)
    entry = None if name is None else CATALOGUE.get(ALIASES.get(name, name))
    if name is None or (entry is not None and not is_here(entry)):
        return
    check_resolved(resolve_model(name, offline=True), copies=copies, memory=memory)


def check_resolved(
    model: ResolvedModel, *, copies: int = 1, memory: Callable[[], int] = available_bytes
) -> None:
    """The files of a model that is here, and the memory for it.

    Raises:
        ModelError: a file is damaged, or the model is too large.
    """
    if model.path is None or not (model.path / "model.bin").is_file():
        return
    for name in ("config.json", "tokenizer.json"):
        _check_json(model.path / name)
    _check_weights(model.path / "model.bin")
    _check_memory(model.name, (model.path / "model.bin").stat().st_size, copies, memory())


def _check_device(device: str, compute_type: str) -> None:
    import ctranslate2  # only where the user chose something that may not exist

    chosen_compute_type(ctranslate2, chosen_device(ctranslate2, device), compute_type)


def _check_json(file: Path) -> None:
    try:
        json.loads(file.read_bytes())
    except FileNotFoundError:
        return  # which files a folder must have is checked where it is found
    except ValueError as error:
        raise ModelError(f"expected JSON in {file}, got: {error}") from None


def _check_memory(name: str, weights_bytes: int, copies: int, free_bytes: int) -> None:
    # The least it can be: converting the weights as they are loaded takes more for a while.
    needed = copies * (weights_bytes + PROCESS_BYTES)
    if needed > free_bytes:
        times = f"{copies} × " if copies > 1 else ""
        raise ModelError(
            f"expected {_gb(needed)} of free memory for {times}{name}, found {_gb(free_bytes)}; "
            f"choose a smaller model"
        )


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _check_weights(file: Path) -> None:
    """Walk from one variable's length to the next: a file cut short or overwritten is found."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            end = _walk(stream, size)
    except (struct.error, UnicodeDecodeError, EOFError):
        end = size + 1
    if end > size:
        raise ModelError(
            f"expected a whole CTranslate2 model in {file}, it is cut short or damaged"
        )


def _walk(stream: BinaryIO, size: int) -> int:
    """Where the last variable should end."""
    (version,) = _read(stream, "<I")
    if version not in KNOWN_VERSIONS:
        return 0
    _skip_name(stream)
    _revision, variables = _read(stream, "<II")
    for _ in range(variables):
        _skip_name(stream)
        (rank,) = _read(stream, "<B")
        _read(stream, f"<{rank}I")
        _kind, count = _read(stream, "<BI")
        if stream.seek(count, 1) > size:
            return stream.tell()
    return stream.tell()


def _skip_name(stream: BinaryIO) -> None:
    (length,) = _read(stream, "<H")
    if len(stream.read(length)) < length:
        raise EOFError


def _read(stream: BinaryIO, layout: str) -> tuple[int, ...]:
    values: tuple[int, ...] = struct.unpack(layout, stream.read(struct.calcsize(layout)))
    return values
