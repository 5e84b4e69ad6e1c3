"""Faults on demand: their names, what their amounts mean, and how they are written.

`rtvc serve --inject slow-llm=2 --inject blocked-loop@20+10` brings two of them about, the second
from 20 s after the server was ready, for 10 s. What they do is in `rtvc.server.faults.active`; this
file only knows the words.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rtvc.errors import UsageError
from rtvc.stt.window import Window


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
    DEVICE_OUT_OF_MEMORY = "device-out-of-memory"
    CLOCK_JUMP = "clock-jump"
    LLM_DOWN = "llm-down"
    LLM_GARBAGE = "llm-garbage"
    TTS_DOWN = "tts-down"
    RETRANSMISSION_STALLS = "retransmission-stalls"


Amounts = Mapping[FaultName, float]
"""Faults that are on, in the order given; 0 where a fault takes no amount."""

Windows = Mapping[FaultName, Window]
"""When they are on; those that are always on are not in it."""

LATEST_S = 86_400.0
"""No window begins later than so long after the server was ready, nor lasts longer."""


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
    windowed: bool = True
    """Whether it can be on for a while; others are a choice made at the start."""


FAULTS: Mapping[FaultName, Fault] = {
    FaultName.MODEL_PER_SESSION: Fault("s", 3, 0, 60, windowed=False),
    FaultName.DEVICE_CONTENTION: Fault("threads", 4, 0.1, 64),
    FaultName.INFERENCE_SLOW: Fault("×", 3, 1, 20),
    FaultName.SERIALISED_INFERENCE: Fault("", 0, 0, 0, windowed=False),
    FaultName.AUDIO_BACKLOG: Fault("s/s", 0.7, 0.01, 10),
    FaultName.HIDDEN_BACKLOG: Fault("s", 1, 0.01, 10),
    FaultName.PARTIALS_FLOOD: Fault("×", 1, 1, 20, windowed=False),
    FaultName.TURN_MODEL_SLOW: Fault("s", 0.5, 0.01, 10, windowed=False),
    FaultName.ENDPOINT_WAIT: Fault("ms", 500, 1, 5000, windowed=False),
    FaultName.BLOCKED_LOOP: Fault("ms", 200, 1, 2000),
    FaultName.SLOW_LLM: Fault("s", 2, 0.01, 60),
    FaultName.SLOW_TTS: Fault("s", 1, 0.01, 60),
    # Beyond 9 s the engine would take the first inference for one that hangs.
    FaultName.COLD_START: Fault("s", 2, 0.01, 9, windowed=False),
    FaultName.THROTTLING: Fault("×", 3, 1, 20, windowed=False),
    FaultName.MEMORY_EXHAUSTION: Fault("MB/s", 50, 0.1, 500, windowed=False),
    FaultName.SLOW_NETWORK: Fault("ms", 150, 1, 5000),
    FaultName.ENGINE_CRASH: Fault("s", 20, 0.1, 3600),
    FaultName.ENGINE_HANG: Fault("s", 20, 0.1, 3600),
    FaultName.DEVICE_OUT_OF_MEMORY: Fault("", 0, 0, 0),
    FaultName.CLOCK_JUMP: Fault("s", 3600, -86_400, 86_400),
    FaultName.LLM_DOWN: Fault("", 0, 0, 0),
    FaultName.LLM_GARBAGE: Fault("", 0, 0, 0),
    FaultName.TTS_DOWN: Fault("", 0, 0, 0),
    FaultName.RETRANSMISSION_STALLS: Fault("%", 1, 0.01, 50),
}
"""All of them; `docs/profile/faults.md` tells what each does and how it feels."""


def parse(texts: Sequence[str]) -> dict[FaultName, float]:
    """Amounts of `NAME` or `NAME=AMOUNT`, each name once; windows are checked too.

    >>> parse(["slow-llm=2.5", "slow-tts@20+10"])
    {<FaultName.SLOW_LLM: 'slow-llm'>: 2.5, <FaultName.SLOW_TTS: 'slow-tts'>: 1}

    Raises:
        UsageError: a name that there is none of, a name given twice, an amount or a window that
            is none.
    """
    amounts: dict[FaultName, float] = {}
    for text in texts:
        name, amount, _ = _one(text)
        if name in amounts:
            raise UsageError(f"--inject: expected each fault once, got {name} twice")
        amounts[name] = amount
    return amounts


def parse_windows(texts: Sequence[str]) -> dict[FaultName, Window]:
    """When those are on that are not always: `NAME@BEGIN` or `NAME=AMOUNT@BEGIN+LENGTH`.

    >>> parse_windows(["slow-llm=2.5", "slow-tts@20+10"])
    {<FaultName.SLOW_TTS: 'slow-tts'>: Window(begin_s=20.0, length_s=10.0)}

    Raises:
        UsageError: as `parse`.
    """
    found = [_one(text) for text in texts]
    return {name: window for name, _, window in found if window is not None}


def listing() -> str:
    """All names with their units, on one line."""
    return ", ".join(name + (f" ({fault.unit})" if fault.unit else "") for name, fault in _all())


def shown(amounts: Amounts, windows: Windows | None = None) -> str:
    """What is on, for a person.

    >>> texts = ["blocked-loop", "inference-slow=2@20+10"]
    >>> shown(parse(texts), parse_windows(texts))
    'blocked-loop = 200 ms, inference-slow = 2 × from 20 s to 30 s'
    """
    windows = windows or {}
    return ", ".join(
        _shown(name, amount) + _when(windows.get(name)) for name, amount in amounts.items()
    )


def _when(window: Window | None) -> str:
    if window is None:
        return ""
    until = "" if window.length_s is None else f" to {window.end_s:g} s"
    return f" from {window.begin_s:g} s{until}"


def _one(text: str) -> tuple[FaultName, float, Window | None]:
    said, at, when = text.partition("@")
    written, equals, amount = said.partition("=")
    name = _name(written.strip())
    meant = _amount(name, amount.strip()) if equals else FAULTS[name].usual
    return name, meant, _window(name, when.strip()) if at else None


def _window(name: FaultName, written: str) -> Window:
    if not FAULTS[name].windowed:
        able = ", ".join(each for each, fault in _all() if fault.windowed)
        raise UsageError(
            f"--inject {name}: it is on from the start to the end and takes no window, "
            f"got @{written}; these take one: {able}"
        )
    begin, plus, length = written.partition("+")
    begin_s, length_s = _seconds(begin), _seconds(length) if plus else None
    if not 0 <= begin_s <= LATEST_S or not (length_s is None or 0 < length_s <= LATEST_S):
        raise UsageError(
            f"--inject {name}: expected @BEGIN or @BEGIN+LENGTH, seconds after the server is ready "
            f"(such as @20+10), got '@{written}'"
        )
    return Window(begin_s, length_s)


def _seconds(written: str) -> float:
    try:
        return float(written)
    except ValueError:
        return math.nan


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
            "--inject: expected NAME or NAME=AMOUNT, and @BEGIN+LENGTH if it is on for a while, "
            f"with one of {listing()}; got {written!r}{hint}"
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
