"""What the server does when it is sent a signal: SIGTERM and SIGINT stop it, SIGHUP reloads.

A second signal to stop, of either kind, stops at once. A terminal that closes sends SIGHUP too:
then nobody is there who wanted a reload, and it stops the server as SIGTERM does, unless it was
started with `nohup`.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

_HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(Enum):
    """How a server is told to stop."""

    GENTLY = "gently"
    """SIGTERM: sessions may finish."""
    SOON = "soon"
    """SIGINT, a person at a terminal: they have a few seconds."""
    NOW = "now"
    """The second time."""


Told = Stop | Literal["reload"]


def has_terminal() -> bool:
    """Whether this process has a controlling terminal that is still there."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    os.close(terminal)
    return True


@dataclass(slots=True)
class Reading:
    """What the signals that came so far amount to; pure."""

    at_terminal: bool
    """Whether the server was started at a terminal."""
    immune: bool = False
    """Whether it was started so that a terminal's end leaves it alone (`nohup`)."""
    stopping: bool = field(default=False, init=False)
    """Whether it was told to stop."""

    def of(self, number: int, *, terminal_there: Callable[[], bool]) -> Told | None:
        """What this signal asks for; None: nothing.

        >>> reading = Reading(at_terminal=False)
        >>> reading.of(signal.SIGHUP, terminal_there=lambda: False)
        'reload'
        >>> reading.of(signal.SIGTERM, terminal_there=lambda: False)
        <Stop.GENTLY: 'gently'>
        """
        if number != signal.SIGHUP:
            return self._stop(Stop.SOON if number == signal.SIGINT else Stop.GENTLY)
        if self.at_terminal and not terminal_there():
            # The shell may pass it on once more, which is no second wish.
            return None if self.immune or self.stopping else self._stop(Stop.GENTLY)
        return None if self.stopping else "reload"

    def _stop(self, how: Stop) -> Stop:
        if self.stopping:
            return Stop.NOW
        self.stopping = True
        return how


class StopSignals:
    """Hears the signals while entered; those that come early are told once somebody listens."""

    def __init__(self, terminal_there: Callable[[], bool] = has_terminal) -> None:
        self._terminal_there = terminal_there
        self._reading = Reading(at_terminal=False)
        self._tell: Callable[[Told], None] | None = None
        self._early: list[Told] = []
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        immune = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._reading = Reading(self._terminal_there(), immune)
        self._before = {number: signal.signal(number, self._came) for number in _HEARD}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def listen(self, tell: Callable[[Told], None]) -> None:
        """From now on `tell`, on the running event loop; first of what came already."""
        loop = asyncio.get_running_loop()

        def safely(told: Told) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell, told)

        self._tell = safely
        for told in self._early:
            safely(told)

    def _came(self, number: int, _: object) -> None:
        told = self._reading.of(number, terminal_there=self._terminal_there)
        if told is None:
            return
        if self._tell is None:
            self._early.append(told)
        else:
            self._tell(told)
