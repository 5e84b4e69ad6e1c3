"""What another process of this user may open or write, taken away from outside and given back."""

from collections.abc import Callable, Sequence
from typing import Any

import psutil

from rtvc.errors import UsageError

NO_BYTES = 1
"""No file may grow beyond this: none that holds anything can grow at all."""


class Limits:
    """A soft limit of some processes, lowered for a while; the kernel does the rest."""

    def __init__(self, name: str, find: Callable[[], Sequence[psutil.Process]]) -> None:
        """`name` as in psutil, without RLIMIT_; `find` tells whose when it begins."""
        self._limit = getattr(psutil, f"RLIMIT_{name}", None)
        if self._limit is None:
            raise UsageError(f"expected Linux for RLIMIT_{name}: leave this fault out")
        self._find = find
        self._before: list[tuple[psutil.Process, tuple[int, int]]] = []

    def lower(self, to: Callable[[psutil.Process], int]) -> int:
        """To how much, process by process; returns of how many."""
        for process in self._find():
            soft, hard = self._call(process)
            self._before.append((process, (soft, hard)))
            self._call(process, (to(process), hard))
        return len(self._before)

    def restore(self) -> None:
        """As it was; of those that are still there."""
        for process, limits in self._before:
            try:
                self._call(process, limits)
            except psutil.NoSuchProcess:
                continue
        self._before.clear()

    def _call(self, process: psutil.Process, *limits: tuple[int, int]) -> tuple[int, int]:
        found: Any = process.rlimit(self._limit, *limits)  # type: ignore[arg-type]
        return (0, 0) if found is None else (int(found[0]), int(found[1]))


def no_more_descriptors(process: psutil.Process) -> int:
    """As many as it has now: a new one must have a number below this."""
    return max(process.num_fds(), 8)


def no_room(process: psutil.Process) -> int:
    """In any file."""
    return NO_BYTES
