"""Why a cell has no result: pure, from an error or from how its process ended."""

import signal

from rtvc.bench.spec import Failed
from rtvc.errors import ModelError, why

SKIPPED, OUT_OF_MEMORY, FAILED, HUNG = "skipped", "out of memory", "failed", "hung"
"""Kinds of `CellFailure`, beside "unsupported"."""

_NO_MEMORY = (
    "out of memory",
    "bad_alloc",
    "cannot allocate memory",
    "can't allocate memory",
    "unable to allocate",
    "alloc_failed",
    "memoryallocation",
)
"""What the libraries below say where they have no error of its own for it, in small letters."""

SMALLER = "a smaller model, a smaller batch or int8 takes less"
"""What helps against too little memory."""


def of_error(error: BaseException, stage: str) -> Failed:
    """What the process itself knows; `stage` is what it was doing.

    >>> of_error(RuntimeError("CUDA failed with error out of memory"), "loading").kind
    'out of memory'
    >>> of_error(ModelError("the weights are not here"), "preparing")
    Failed(kind='skipped', reason='the weights are not here')
    """
    said = why(error)
    if isinstance(error, MemoryError) or speaks_of_memory(said):
        return Failed(OUT_OF_MEMORY, f"{stage}: {said}; {SMALLER}")
    if isinstance(error, ModelError) and stage == "preparing":
        return Failed(SKIPPED, said)
    name = "" if isinstance(error, ModelError) else f"{type(error).__name__}: "
    return Failed(FAILED, f"{stage}: {name}{said}")


def of_start(error: OSError) -> Failed:
    """What is known of a process that could not be started.

    >>> of_start(PermissionError(13, "Permission denied", "wx/bin/python")).reason
    'it could not be started: Permission denied'
    """
    return Failed(FAILED, f"it could not be started: {why(error)}")


def of_exit(status: int, last_words: str) -> Failed:
    """What is known of a process that could not say it: its status, and the end of its log.

    A negative status is the signal that killed it.

    >>> of_exit(-9, "").kind, of_exit(-6, "terminate: std::bad_alloc").kind, of_exit(3, "").kind
    ('out of memory', 'out of memory', 'failed')
    """
    said = " ".join(last_words.split())[-200:] or "it said nothing"
    if status == -signal.SIGKILL:
        return Failed(
            OUT_OF_MEMORY,
            f"killed by the system, as it does with what takes too much memory; {SMALLER}",
        )
    if speaks_of_memory(said):
        return Failed(OUT_OF_MEMORY, f"{said}; {SMALLER}")
    return Failed(FAILED, f"its process ended with {_status(status)}: {said}")


def of_silence(silent_s: float, stage: str) -> Failed:
    """Ended by us, because nothing had been heard of it for so long."""
    return Failed(
        HUNG,
        f"no sign of life for {silent_s:.0f} s while {stage or 'starting'}; "
        "--hang-limit lets it take longer",
    )


def speaks_of_memory(said: str) -> bool:
    """Whether an error is about too little memory: CTranslate2 and PyTorch raise a RuntimeError
    for everything, so only its words tell."""
    lower = said.lower()
    return any(words in lower for words in _NO_MEMORY)


def _status(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
