"""The processes that NVML lists on a device, and what they are called here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from rtvc.instruments.program import program_of


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process with memory on a device."""

    pid: int
    """Its number, as NVML lists it."""
    name: str | None
    """Program; None: no such process here, so the number is the host's (or it just ended)."""
    memory_bytes: int | None
    """Device memory it holds; None if NVML does not tell."""


NameOf = Callable[[int], str | None]
"""The program of a process; None if there is no such process here."""


def process_name(pid: int) -> str | None:
    """Such as "rtvc serve"; None if no process of that number here uses a GPU.

    Arguments are left out: they may hold secrets.
    """
    name = None
    try:
        process = psutil.Process(pid)
        name = process.name()
        if not _maps_nvidia(pid):
            return None
        return program_of(process.cmdline()) or name
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:
        return name


def _maps_nvidia(pid: int) -> bool:
    """False if it surely does not: the number is then another process's, on the host."""
    try:
        text = Path(f"/proc/{pid}/maps").read_text("utf-8", errors="replace")
    except OSError:
        return True
    return not text or "nvidia" in text or "libcuda.so" in text
