"""Faults on demand: their names, what their amounts mean, and how they are written.

`rtvc serve --inject slow-llm=2 --inject blocked-loop` brings two of them about. What they do is in
`rtvc.server.faults`; this file only knows the words.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rtvc.errors import UsageError


class FaultName(StrEnum):
    """As written after --inject."""

    MODEL_PER_SESSION = "model-per-session"
    DEVICE_CONTENTION = "device-contention"
    INFERENCE_SLOW = "inference-slow"
    SERIALISED_INFERENCE = "serialised-inference"
    AUDIO_BACKLOG = "audio-backlog"
    HIDDEN_BACKLOG = "hidden-backlog"
    PARTIALS_FLOOD = "partials-flood"
    TURN_MODEL_SLOW = "turn-model-slow"
    ENDPOINT_WAIT = "endpoint-wait"
    BLOCKED_LOOP = "blocked-loop"
    SLOW_LLM = "slow-llm"
    SLOW_TTS = "slow-tts"
    COLD_START = "cold-start"
    THROTTLING = "throttling"
    MEMORY_EXHAUSTION = "memory-exhaustion"
    SLOW_NETWORK = "slow-network"
    ENGINE_CRASH = "engine-crash"
    ENGINE_HANG = "engine-hang"


Amounts = Mapping[FaultName, float]
"""Faults that are on, in the order given; 0 where a fault takes no amount."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What an amount means, and which ones make sense."""

    unit: str
    """Of the amount; "": it takes none."""
    usual: float
    """Amount where none is given."""
    least: float
    """Smallest amount taken."""
    most: float
    """Largest amount taken."""


FAULTS: Mapping[FaultName, Fault] = {
    FaultName.MODEL_PER_SESSION: Fault("s", 3, 0, 60),
    FaultName.DEVICE_CONTENTION: Fault("threads", 4, 0.1, 64),
    FaultName.INFERENCE_SLOW: Fault("×", 3, 1, 20),
    FaultName.SERIALISED_INFERENCE: Fault("", 0, 0, 0),
    FaultName.AUDIO_BACKLOG: Fault("s/s", 0.7, 0.01, 10),
    FaultName.HIDDEN_BACKLOG: Fault("s", 1, 0.01, 10),
    FaultName.PARTIALS_FLOOD: Fault("×", 1, 1, 20),
    FaultName.TURN_MODEL_SLOW: Fault("s", 0.5, 0.01, 10),
    FaultName.ENDPOINT_WAIT: Fault("ms", 500, 1, 5000),
    FaultName.BLOCKED_LOOP: Fault("ms", 200, 1, 2000),
    FaultName.SLOW_LLM: Fault("s", 2, 0.01, 60),
    FaultName.SLOW_TTS: Fault("s", 1, 0.01, 60),
    # Beyond 9 s the engine would take the first inference for one that hangs.
    FaultName.COLD_START: Fault("s", 2, 0.01, 9),
    FaultName.THROTTLING: Fault("×", 3, 1, 20),
    FaultName.MEMORY_EXHAUSTION: Fault("MB/s", 50, 0.1, 500),
    FaultName.SLOW_NETWORK: Fault("ms", 150, 1, 5000),
    FaultName.ENGINE_CRASH: Fault("s", 20, 0.1, 3600),
    FaultName.ENGINE_HANG: Fault("s", 20, 0.1, 3600),
}
"""All of them; `docs/profile/faults.md` tells what each does and how it feels."""


def parse(texts: Sequence[str]) -> dict[FaultName, float]:
    """`NAME` or `NAME=AMOUNT`, each name once.

    >>> parse(["slow-llm=2.5", "slow-tts"])
    {<FaultName.SLOW_LLM: 'slow-llm'>: 2.5, <FaultName.SLOW_TTS: 'slow-tts'>: 1}

    Raises:
        UsageError: a name that there is none of, a name given twice, an amount that is none.
    """
    amounts: dict[FaultName, float] = {}
    for text in texts:
        written, equals, amount = text.partition("=")
        name = _name(written.strip())
        if name in amounts:
            raise UsageError(f"--inject: expected each fault once, got {name} twice")
        amounts[name] = _amount(name, amount.strip()) if equals else FAULTS[name].usual
    return amounts


def listing() -> str:
    """All names with their units, on one line."""
    return ", ".join(name + (f" ({fault.unit})" if fault.unit else "") for name, fault in _all())


def shown(amounts: Amounts) -> str:
    """What is on, for a person.

    >>> shown(parse(["blocked-loop", "inference-slow=2"]))
    'blocked-loop = 200 ms, inference-slow = 2 ×'
    """
    return ", ".join(_shown(name, amount) for name, amount in amounts.items())


def _all() -> list[tuple[str, Fault]]:
    return [(name.value, fault) for name, fault in FAULTS.items()]


def _shown(name: FaultName, amount: float) -> str:
    unit = FAULTS[name].unit
    return f"{name} = {amount:g} {unit}" if unit else name.value


def _name(written: str) -> FaultName:
    try:
        return FaultName(written)
    except ValueError:
        near = difflib.get_close_matches(written, [name.value for name in FaultName], n=1)
        hint = f", did you mean {near[0]}?" if near else ""
        raise UsageError(
            f"--inject: expected NAME or NAME=AMOUNT with one of {listing()}; got {written!r}{hint}"
        ) from None


def _amount(name: FaultName, written: str) -> float:
    fault = FAULTS[name]
    if not fault.unit:
        raise UsageError(f"--inject {name}: it takes no amount, got {written!r}")
    try:
        amount = float(written)
    except ValueError:
        amount = math.nan
    if not fault.least <= amount <= fault.most:
        raise UsageError(
            f"--inject {name}: expected {fault.least:g} to {fault.most:g} {fault.unit}, "
            f"got {written!r}; all names and units: {listing()}"
        )
    return amount
