"""A terminal that is drawn on and listened to: the alternate screen, q, and its changing size."""

import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from rtvc.clock import Clock
from rtvc.profile.live.screen import screen
from rtvc.profile.live.watch import Status

LOOK_S = 0.2
"""Between two looks at the terminal's size."""

ENDS = frozenset("qQ\x03\x04")
"""Keys that end the watch; the last two are Ctrl-C and Ctrl-D, where they come as keys."""


class Terminal:
    """Draws the status, and again whenever the terminal has another size."""

    def __init__(self, console: Console, live: Live, clock: Clock, keys: int | None) -> None:
        """`keys`: file descriptor of the keyboard; None: there is none."""
        self._console = console
        self._live = live
        self._clock = clock
        self._keys = keys
        self._drawn = (0, 0)
        self._status: Status | None = None

    def show(self, status: Status) -> None:
        self._status = status
        self._draw()

    def wait(self, until_s: float) -> bool:
        """Until an instant of the clock; False as soon as the user wants to end."""
        while (left_s := until_s - self._clock.now()) > 0:
            if self._pressed(min(left_s, LOOK_S)):
                return False
            if self._size() != self._drawn:
                self._draw()
        return not self._pressed(0.0)

    def _draw(self) -> None:
        self._drawn = self._size()
        if self._status is not None:
            self._live.update(screen(self._status, *self._drawn), refresh=True)

    def _size(self) -> tuple[int, int]:
        return self._console.size.width, self._console.size.height

    def _pressed(self, seconds: float) -> bool:
        """Whether a key that ends came within `seconds`."""
        watched = [] if self._keys is None else [self._keys]
        ready, _, _ = select.select(watched, [], [], seconds)
        if not ready or self._keys is None:
            return False
        pressed = os.read(self._keys, 64)
        if not pressed:
            # The keyboard is gone: a closed window would otherwise be asked without end.
            self._keys = None
        return bool(ENDS & set(pressed.decode(errors="replace")))


@contextmanager
def full_screen(console: Console, clock: Clock) -> Iterator[Terminal]:
    """The alternate screen; what was there before comes back."""
    live = Live(console=console, screen=True, auto_refresh=False, redirect_stderr=False)
    with _keyboard() as keys, live:
        yield Terminal(console, live, clock, keys)


@contextmanager
def _keyboard() -> Iterator[int | None]:
    """Keys as they are pressed, unseen; Ctrl-C still interrupts. None: stdin is no keyboard."""
    if not sys.stdin.isatty():
        yield None
        return
    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    tty.setcbreak(keys)
    try:
        yield keys
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)
