"""The course of a watch: reading at even intervals, and what to make of a server that is away."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from rtvc.clock import Clock
from rtvc.errors import UsageError
from rtvc.profile.live.figures import View
from rtvc.profile.live.view import view_of
from rtvc.profile.live.window import Scrape, Window
from rtvc.profile.target import NoAnswer

PATIENCE_S = 10.0
"""Seconds that a server which was never there is waited for: it may be starting."""

ELSEWHERE = (
    "of a server other than rtvc's, or one with --no-instruments, `rtvc profile tap`, "
    "`rtvc profile logs` and `rtvc profile cpu` tell what they can"
)


@dataclass(frozen=True, slots=True)
class Missing:
    """There were no figures."""

    reason: str
    """One line."""
    foreign: bool = False
    """Somebody answers, and has no metrics of rtvc's."""
    hopeless: bool = False
    """Asking again as before will not help."""


@dataclass(frozen=True, slots=True)
class Status:
    """What is known at one instant of the watch."""

    url: str
    """Of the server."""
    at_s: float
    """Since the begin of the watch."""
    interval_s: float
    """Between two readings."""
    view: View | None
    """As of the last reading that succeeded; None: there was none yet."""
    missing: Missing | None
    """Why there is no reading now; None: there is one."""
    missing_s: float
    """For how long."""
    news: str | None
    """What has changed with this reading: gone, back, restarted; None: nothing."""
    no_gpu: str | None = None
    """Why no GPU is shown, in one line."""


Read = Callable[[], Scrape | Missing]
Wait = Callable[[float], bool]
"""Wait until an instant of the clock; False: the user wants to end."""


class Watch:
    """Reads a server again and again, whether it is there or not."""

    def __init__(
        self, url: str, clock: Clock, interval_s: float, *, no_gpu: str | None = None
    ) -> None:
        self._url = url
        self._clock = clock
        self._interval_s = interval_s
        self._no_gpu = no_gpu
        self._window = Window()
        self._view: View | None = None
        self._missing: Missing | None = Missing(f"no server answers at {url}: nothing came yet")
        self._began_s = clock.now()
        self._missing_since_s: float | None = None

    def run(
        self, read: Read, show: Callable[[Status], None], wait: Wait, duration_s: float | None
    ) -> None:
        """Until the user or `duration_s` ends it; what was missed is not made up for.

        Raises:
            NoAnswer: the server was never there, or is lost at the end.
            UsageError: it is not one of rtvc's.
        """
        due_s = self._began_s
        end_s = math.inf if duration_s is None else self._began_s + duration_s
        going_on = True
        while going_on:
            status = self._status(read())
            due_s = max(due_s + self._interval_s, self._clock.now())
            self._give_up(status, min(end_s, self._began_s + PATIENCE_S), due_s)
            show(status)
            going_on = due_s <= end_s + 1e-9 and wait(due_s)
        self.check()

    def check(self) -> None:
        """However the watch ended: was there a server in the end?

        Raises:
            NoAnswer: it was never there, or is lost.
        """
        if self._missing is None:
            return
        if self._view is None or self._missing_since_s is None:
            raise NoAnswer(self._missing.reason)
        lost_s = max(0.0, self._clock.now() - self._missing_since_s)
        raise NoAnswer(f"the server was lost {lost_s:.0f} s before the end: {self._missing.reason}")

    def _give_up(self, status: Status, last_s: float, due_s: float) -> None:
        """A server that was never there is an error; so is another one, at once."""
        missing = status.missing
        if missing is None or status.view is not None:
            return
        if missing.foreign:
            raise UsageError(f"{missing.reason}; {ELSEWHERE}")
        if due_s > last_s or missing.hopeless:
            raise NoAnswer(missing.reason)

    def _status(self, outcome: Scrape | Missing) -> Status:
        now_s = self._clock.now()
        missing = self._missing = outcome if isinstance(outcome, Missing) else None
        news = self._there(outcome) if isinstance(outcome, Scrape) else self._gone(outcome, now_s)
        since_s = self._missing_since_s
        return Status(
            self._url,
            now_s - self._began_s,
            self._interval_s,
            self._view,
            missing,
            0.0 if since_s is None else now_s - since_s,
            news,
            self._no_gpu,
        )

    def _gone(self, missing: Missing, now_s: float) -> str | None:
        if self._missing_since_s is not None:
            return None
        self._missing_since_s = now_s
        return f"{missing.reason}; asked again every {self._interval_s:g} s"

    def _there(self, scrape: Scrape) -> str | None:
        restarts, since_s = self._window.restarts, self._missing_since_s
        self._window.add(scrape)
        self._view = view_of(self._window)
        self._missing_since_s = None
        again = ", restarted" if self._window.restarts > restarts else ""
        if since_s is None:
            return "the server was restarted" if again else None
        return f"the server is there{again}, after {scrape.at_s - since_s:.0f} s"
