"""Which faults there are, how each is brought about, and when."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rtvc.errors import UsageError
from rtvc.stt.window import Window

Deed = Literal[
    "inject", "no room", "vanish", "half-open", "slow-readers", "no descriptors", "SIGTERM"
]
"""Who does it: the server itself, or chaos from outside."""

MOMENT_S = 5.0
"""Window of what happens once: somebody has spoken by then. It is noticed later than that, and so
does not happen twice."""

RESTARTS = ("rtvc_engine_restarts_total",)
FAILURES = ("rtvc_reply_failures_total",)

START_S = 9.0
"""For the speakers to be made and to connect, once the server is ready."""


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """One fault."""

    name: str
    """As after --only."""
    done: str
    """What is done, in words."""
    deed: Deed
    """How."""
    length_s: float
    """For how long; 0: it takes no time."""
    injected: str = ""
    """NAME or NAME=AMOUNT of `rtvc serve --inject`, where the server does it itself."""
    ends_sessions: bool = False
    """Whether ending sessions is what it does."""
    longer_s: float = 0.0
    """Time more that recovering is given."""
    marks: tuple[str, ...] = ()
    """Counters of the server, one of which must have risen if it came about; none: nothing of what
    the server counts tells."""

    def inject(self, window: Window) -> str | None:
        """As after --inject; None: it is done from outside."""
        if self.deed != "inject":
            return None
        # What takes no time still needs a window in which it happens: to the next inference.
        length_s = window.length_s or MOMENT_S
        return f"{self.injected}@{Window(window.begin_s, length_s)}"


FAULTS = (
    PlannedFault(
        "engine-crash",
        "SIGKILL to the engine's process, and to each that replaces it 2.5 s after it was ready",
        "inject",
        9.0,
        "engine-crash=2.5",
        marks=RESTARTS,
    ),
    PlannedFault(
        "engine-hang",
        "the engine stops answering",
        "inject",
        0.0,
        "engine-hang",
        longer_s=10.0,
        marks=RESTARTS,
    ),
    PlannedFault(
        "device-out-of-memory",
        "each inference fails for want of memory",
        "inject",
        3.0,
        "device-out-of-memory",
        marks=RESTARTS,
    ),
    PlannedFault(
        "full-disk",
        "no file of the load test can grow (RLIMIT_FSIZE)",
        "no room",
        8.0,
    ),
    PlannedFault(
        "clock-jump",
        "the server's wall clock is an hour ahead, then back",
        "inject",
        6.0,
        "clock-jump=3600",
    ),
    PlannedFault(
        "llm-down",
        "the language model cannot be reached",
        "inject",
        8.0,
        "llm-down",
        marks=FAILURES,
    ),
    PlannedFault(
        "llm-slow",
        # The server would wait for 10 s; people lose patience before, and speak again.
        "the first word of a reply comes 12 s later",
        "inject",
        8.0,
        "slow-llm=12",
    ),
    PlannedFault(
        "llm-garbage",
        "the language model breaks off, writes nonsense without end, or nothing",
        "inject",
        8.0,
        "llm-garbage",
        marks=FAILURES,
    ),
    PlannedFault(
        "tts-down",
        "the synthesizer cannot be reached",
        "inject",
        8.0,
        "tts-down",
        marks=FAILURES,
    ),
    PlannedFault(
        "client-vanishing",
        "clients connect, talk and are gone without a close frame",
        "vanish",
        8.0,
    ),
    PlannedFault(
        "half-open",
        "60 sockets connect and never finish what they say",
        "half-open",
        8.0,
    ),
    PlannedFault(
        "retransmission-stalls-1",
        "1 % of the pieces that TCP carries are lost, each way",
        "inject",
        8.0,
        "retransmission-stalls=1",
    ),
    PlannedFault(
        "retransmission-stalls-20",
        "20 % of the pieces that TCP carries are lost, each way",
        "inject",
        8.0,
        "retransmission-stalls=20",
        longer_s=4.0,
    ),
    PlannedFault(
        "slow-readers",
        "clients talk and read nothing of what comes back",
        "slow-readers",
        8.0,
    ),
    PlannedFault(
        "blocked-loop",
        "the event loop stands still for 0.5 s, again and again",
        "inject",
        6.0,
        "blocked-loop=500",
    ),
    PlannedFault(
        "descriptors",
        "the server may open no more files or sockets (RLIMIT_NOFILE), and clients keep coming",
        "no descriptors",
        6.0,
    ),
    PlannedFault(
        "sigterm",
        "SIGTERM; a supervisor starts the server again",
        "SIGTERM",
        0.0,
        ends_sessions=True,
    ),
)
"""All of them, in the order in which they are brought about."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When, in seconds after the server is ready."""

    calm_s: float = 13.0
    """Speakers talk undisturbed."""
    recovery_s: float = 15.0
    """Speakers go on talking when the fault is over."""

    def window(self, fault: PlannedFault) -> Window:
        """Of the fault."""
        return Window(START_S + self.calm_s, fault.length_s)

    def load_s(self, fault: PlannedFault) -> float:
        """How long the speakers talk."""
        return self.calm_s + fault.length_s + fault.longer_s + self.recovery_s


def chosen(only: Sequence[str]) -> tuple[PlannedFault, ...]:
    """Those that were asked for, in their usual order; none named: all.

    >>> [fault.name for fault in chosen(["llm-down", "engine-crash"])]
    ['engine-crash', 'llm-down']

    Raises:
        UsageError: a fault that there is none of.
    """
    names = [fault.name for fault in FAULTS]
    for written in only:
        if written not in names:
            near = difflib.get_close_matches(written, names, n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise UsageError(f"--only: expected one of {', '.join(names)}; got {written!r}{hint}")
    return tuple(fault for fault in FAULTS if not only or fault.name in only)
