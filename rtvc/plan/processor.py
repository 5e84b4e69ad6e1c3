"""What inferences share: the cores of a machine, or a GPU. Pure.

Pieces of work that run at once all slow down alike (egalitarian processor sharing, as in Kleinrock,
"Queueing Systems", volume 2, 1976, §4.4, with a rate that depends on how many there are).
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, pairwise

from rtvc.plan.events import Action, Calendar

Contention = tuple[tuple[int, float], ...]
"""(inferences at once, times as long as alone), both rising; at least one."""

HUNDRED = 100
"""Sessions for which the cores that they take are told."""

SERVER_POWER = 0.67
"""What sessions take together of the server's own process grows with this power of their number.
Measured with 1 to 140 sessions of dictation on the machine of docs/plan.md: 0.031, 0.13, 0.33, 0.68
and 0.87 cores for 1, 8, 40, 96 and 140."""

BESIDE_POWER = 0.5
"""The same of `rtvc loadtest`: 0.013, 0.030, 0.12 and 0.14 cores for 1, 8, 96 and 140 speakers."""

DISTURBANCE = 1.35
"""Times its share of the cores that something else costs inferences on them. Measured beside bursts
of 1.5 ms: docs/plan.md."""

_ROUNDING_S = 1e-12
"""Pieces that end so close to each other end together."""


@dataclass(frozen=True, slots=True)
class Box:
    """One machine, as far as it decides how fast inferences run at once."""

    device: str
    """"cpu" or "cuda"."""
    cores: int
    """Logical cores."""
    inference_cores: float
    """Cores that one inference keeps busy: its threads, less what they wait for each other."""
    contention: Contention = ((1, 1.0),)
    """As measured; beyond what was measured a full machine shares itself out evenly."""
    session_cores: float = 0.0
    """Cores that each of a hundred sessions takes of the server's own process: sockets, resampling,
    VAD."""
    beside_cores: float = 0.0
    """Cores that something else here takes for each of a hundred, such as a load generator."""

    def slowdown(self, running: int, sessions: int = 0) -> float:
        """Times as long as alone, with so many inferences at once.

        >>> Box("cpu", cores=2, inference_cores=1).slowdown(3)
        1.5
        >>> Box("cuda", cores=8, inference_cores=1).slowdown(2)
        2.0
        """
        slower = self._among_themselves(running)
        if self.device == "cuda":
            return slower
        return slower * (1 + DISTURBANCE * (self._crowded(running, sessions) - 1))

    def own_work(self, running: int, sessions: int) -> float:
        """Part of the time that the server's own process, which runs on one core, is at work for
        so many sessions; from 1 on it falls behind.

        >>> Box("cpu", cores=2, inference_cores=1, session_cores=0.005).own_work(2, 100)
        0.625
        """
        inferences = 0 if self.device == "cuda" else running
        own = cores_taken(self.session_cores, sessions, SERVER_POWER)
        return own * self._crowded(inferences, sessions)

    def _crowded(self, running: int, sessions: int) -> float:
        """How many want to run for each core; 1 where there are cores for all."""
        used = min(running * self.inference_cores, self.cores)
        own = cores_taken(self.session_cores, sessions, SERVER_POWER)
        others = cores_taken(self.beside_cores, sessions, BESIDE_POWER)
        return max(1.0, (used + own + others) / self.cores)

    def _among_themselves(self, running: int) -> float:
        most, slowest = self.contention[-1]
        if running <= most:
            return interpolated(self.contention, running)
        # A GPU takes turns; cores are shared out once all of them are taken.
        full = 1.0 if self.device == "cuda" else max(self.cores / self.inference_cores, 1.0)
        return slowest * max(1.0, running / max(full, most))


def cores_taken(each: float, sessions: int, power: float) -> float:
    """By so many sessions together, where each of a hundred takes `each`.

    >>> [round(cores_taken(0.007, sessions, 0.67), 3) for sessions in (1, 100)]
    [0.032, 0.7]
    """
    return each * HUNDRED * math.pow(sessions / HUNDRED, power)


def interpolated(points: Sequence[tuple[int, float]], at: float) -> float:
    """On straight lines through the points; outside of them as at the nearest.

    >>> interpolated(((1, 1.0), (3, 2.0)), 2)
    1.5
    """
    for (low, before), (high, after) in pairwise(points):
        if low <= at <= high:
            return before + (at - low) / (high - low) * (after - before)
    return points[0][1] if at < points[0][0] else points[-1][1]


class Processor:
    """Runs pieces of work at once. Work is counted in the seconds that it would take alone."""

    def __init__(
        self,
        calendar: Calendar,
        slowdown: Callable[[int], float],
        beside: Callable[[int], float] = lambda running: 0.0,
    ) -> None:
        """`slowdown`: pieces at once → times as long as alone, at least 1; `beside`: pieces at once
        → whatever is to be added up over time."""
        self._calendar = calendar
        self._slowdown = slowdown
        self._beside = beside
        self._pieces: list[tuple[float, int, Action]] = []
        self._order = count()
        # Work that a piece which was there from the start would have had done.
        self._worked_s = 0.0
        self._known_at_s = 0.0
        self._planned = 0
        self.busy_s = 0.0
        """Seconds for which at least one piece ran."""
        self.beside_s = 0.0
        """`beside`, added up over the seconds until the last change."""

    @property
    def running(self) -> int:
        """Pieces under way."""
        return len(self._pieces)

    def run(self, work_s: float, done: Action) -> None:
        """Begin a piece; `done` is called when it ends."""
        self._catch_up()
        heapq.heappush(self._pieces, (self._worked_s + work_s, next(self._order), done))
        self._plan_end()

    def _catch_up(self) -> None:
        passed_s = self._calendar.now_s - self._known_at_s
        self._known_at_s = self._calendar.now_s
        self.beside_s += passed_s * self._beside(len(self._pieces))
        if self._pieces:
            self._worked_s += passed_s / self._slowdown(len(self._pieces))
            self.busy_s += passed_s

    def _plan_end(self) -> None:
        """Whoever came or went meanwhile changed the pace, and made earlier plans void."""
        self._planned += 1
        if not self._pieces:
            return
        plan = self._planned
        left_s = max(self._pieces[0][0] - self._worked_s, 0.0)
        self._calendar.after(left_s * self._slowdown(len(self._pieces)), lambda: self._end(plan))

    def _end(self, plan: int) -> None:
        if plan != self._planned:
            return
        self._catch_up()
        # What was planned to end now has ended, whatever rounding says.
        self._worked_s = max(self._worked_s, self._pieces[0][0])
        ended: list[Action] = []
        while self._pieces and self._pieces[0][0] <= self._worked_s + _ROUNDING_S:
            ended.append(heapq.heappop(self._pieces)[2])
        self._plan_end()
        for done in ended:
            done()
