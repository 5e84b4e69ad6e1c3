"""What a user asks of a model and its settings: delay, word errors, memory. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from rtvc.errors import UsageError
from rtvc.results.wording import gibibytes, percent, seconds

DELAY_TARGET_S = 0.5
"""Seconds: asked of every model unless the user says otherwise."""

_GRAMMAR = re.compile(
    r"\s*(?P<name>[a-z][a-z0-9_]*)\s*<=?\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|[A-Za-z]*)\s*"
)

_UNITS: dict[str, dict[str, float]] = {
    "delay_p95": {"ms": 1000.0, "s": 1.0},
    "wer": {"%": 100.0, "": 1.0},
    "memory": {"MiB": 2.0**-20, "GiB": 2.0**-30, "MB": 1e-6, "GB": 1e-9},
}
"""Name → unit → how many of it make a second, the whole, or a byte."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Upper bounds; None: not asked for."""

    delay_p95_s: float | None = DELAY_TARGET_S
    """Seconds from handing in a short turn to its text, 95 of 100."""
    wer: float | None = None
    """Word error rate, or character error rate, on clean speech; 0.1 is 10 %."""
    memory_bytes: int | None = None
    """Where the model runs: of the device, or of the process."""

    @property
    def texts(self) -> tuple[str, ...]:
        """As they are written in a manifest and on the command line.

        >>> Targets(0.5, 0.1, 2**31).texts
        ('delay_p95<0.5s', 'wer<10%', 'memory<2048MiB')
        """
        written = (
            None if self.delay_p95_s is None else f"delay_p95<{self.delay_p95_s:g}s",
            None if self.wer is None else f"wer<{100 * self.wer:.10g}%",
            None if self.memory_bytes is None else f"memory<{self.memory_bytes / 2**20:.10g}MiB",
        )
        return tuple(text for text in written if text is not None)

    @property
    def said(self) -> str:
        """In a sentence.

        >>> Targets(0.5, 0.1).said, Targets(None).said
        ('delay p95 ≤ 500 ms, WER ≤ 10 %', '')
        """
        parts = (
            None if self.delay_p95_s is None else f"delay p95 ≤ {seconds(self.delay_p95_s)}",
            None if self.wer is None else f"WER ≤ {percent(self.wer)}",
            None if self.memory_bytes is None else f"memory ≤ {gibibytes(self.memory_bytes)}",
        )
        return ", ".join(part for part in parts if part is not None)


def parse_targets(texts: Iterable[str]) -> Targets:
    """Targets as written; one that is not there is not asked for, and of none at all the usual.

    >>> parse_targets(["wer < 12%", "memory<4GiB"])
    Targets(delay_p95_s=None, wer=0.12, memory_bytes=4294967296)

    Raises:
        UsageError: one that is not understood; says which there are.
    """
    found = dict(map(_parsed, texts))
    if not found:
        return Targets()
    memory = found.get("memory")
    return Targets(
        delay_p95_s=found.get("delay_p95"),
        wer=found.get("wer"),
        memory_bytes=None if memory is None else round(memory),
    )


def _parsed(text: str) -> tuple[str, float]:
    found = _GRAMMAR.fullmatch(text)
    units = _UNITS.get(found["name"]) if found is not None else None
    if found is None or units is None or found["unit"] not in units:
        raise UsageError(
            f"expected a target such as delay_p95<500ms, wer<10% or memory<4GiB, got {text!r}"
        )
    return found["name"], float(found["number"]) / units[found["unit"]]
