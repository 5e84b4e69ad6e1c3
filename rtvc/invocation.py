"""The call of rtvc that is running: what was typed, or what a program called `main` with."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_arguments: ContextVar[tuple[str, ...] | None] = ContextVar("arguments", default=None)


@contextmanager
def invoked(arguments: Sequence[str]) -> Iterator[None]:
    """Inside the block, rtvc was called with these arguments."""
    before = _arguments.set(tuple(arguments))
    try:
        yield
    finally:
        _arguments.reset(before)


def invocation() -> list[str]:
    """The command that is running, `rtvc` first: what a record keeps of how it was made.

    Outside any `invoked`, this process's own arguments.
    """
    arguments = _arguments.get()
    return ["rtvc", *(sys.argv[1:] if arguments is None else arguments)]
