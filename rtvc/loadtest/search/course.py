"""The course of a search: what follows from the run as far as it is recorded. Pure.

    run ──▶ look ──▶ a step that is over, orders to obey

After a step that left a backlog far beyond the target all but one speaker rest until the server
has worked it off: held against the next step, it would make that one fail as well, and the next.
"""

from itertools import takewhile

from rtvc.loadtest.search.binding import Account
from rtvc.loadtest.search.capacity import CapacitySearch, StepOutcome
from rtvc.loadtest.search.rules import StepRules
from rtvc.loadtest.search.steps import StepWatch
from rtvc.loadtest.spec import Order
from rtvc.record import Run, StepRow
from rtvc.slo import Capacity, StepStatus
from rtvc.stats import quantile
from rtvc.summary import transcription_delay

ARRIVAL_S = 0.2
"""Between two new speakers of a step."""

LONGEST_RAMP_S = 5.0
"""For all new speakers of a step, however many."""

BACKLOG = 2.0
"""Times the target: a delay that is typically longer, at the end of a step, leaves a backlog."""

LATEST = 10
"""Utterances told last, of which that is said."""

REST_S = 180.0
"""Longest rest; what has not been worked off by then never will be."""

RESTED = 2
"""Utterances of the one who stays, in a row, that must be within the target."""

STATUSES: dict[str, StepStatus] = {
    "passed": "passed",
    "failed": "failed",
    "void": "void",
    "undecided": "undecided",
}


class Rest:
    """Until a backlog is worked off."""

    def __init__(self, ordered_at_s: float, target_s: float) -> None:
        self._ordered_at_s = ordered_at_s
        self._target_s = target_s

    def over(self, run: Run) -> bool:
        here = run.generator[-1]
        if here.at_s > self._ordered_at_s + REST_S:
            return True
        since = takewhile(lambda t: t.speech_start_at_s > self._ordered_at_s, reversed(run.turns))
        delays = [transcription_delay(turn) for turn in since][:RESTED]
        well = len(delays) == RESTED and max(delays) <= self._target_s
        return well and here.speakers <= 1


class Course:
    """One search, from its first order to its last."""

    def __init__(self, rules: StepRules, start: int, limit: int) -> None:
        self._rules = rules
        self._search = CapacitySearch(start, limit)
        self._watch: StepWatch | None = None
        self._rest: Rest | None = None
        self._orders = 0
        self._wanted = 0
        self._disturbed = False
        self._baseline: Account | None = None
        self.over = False
        """Whether the last step is done."""

    @property
    def steps(self) -> int:
        """Steps that are over."""
        return self._search.steps

    def answer(self) -> Capacity:
        """What is known so far."""
        return self._search.answer()

    def look(self, run: Run) -> list[StepRow | Order]:
        """What has come to its end since the last look, and what is to be done next."""
        if self.over or not run.generator:
            return []
        if self._rest is not None:
            if not self._rest.over(run):
                return []
            self._rest = None
        elif self._watch is not None:
            row = self._watch.look(run)
            return [] if row is None else [row, self._after(self._watch, row, run)]
        return [self._next(run)]

    def line(self, run: Run) -> str:
        """How it goes."""
        if self._rest is not None:
            return "letting the server work off its backlog"
        watched = "" if self._watch is None else self._watch.line(run)
        return f"step {self.steps + 1}: {watched}"

    def _after(self, watch: StepWatch, row: StepRow, run: Run) -> Order:
        status = STATUSES[row.outcome]
        self._search.result(StepOutcome(status, row.reason, row.binding, row.evidence))
        self._disturbed = status != "passed"
        if status == "passed":
            self._baseline = watch.account
        self._watch = None
        target_s = self._rules.delay_target_s
        if target_s is None or not self._left_backlog(run, target_s) or self._is_last():
            return self._next(run)
        self._rest = Rest(run.generator[-1].at_s, target_s)
        self._disturbed = False
        return self._order(1)

    def _left_backlog(self, run: Run, target_s: float) -> bool:
        delays = [transcription_delay(turn) for turn in run.turns[-LATEST:]]
        typical_s = quantile(delays, 0.5)
        return self._disturbed and (typical_s or 0.0) > BACKLOG * target_s

    def _is_last(self) -> bool:
        return self._search.next_step() is None

    def _next(self, run: Run) -> Order:
        step = self._search.next_step()
        if step is None:
            self.over = True
            return Order(self._orders, 0, 0.0, over=True)
        self._watch = StepWatch(
            step,
            self._rules,
            run.generator[-1].at_s,
            recover=self._disturbed,
            baseline=self._baseline,
        )
        return self._order(step.speakers)

    def _order(self, speakers: int) -> Order:
        newcomers = max(0, speakers - self._wanted)
        self._wanted = speakers
        self._orders += 1
        ramp_s = min(LONGEST_RAMP_S, ARRIVAL_S * newcomers)
        return Order(self._orders - 1, speakers, ramp_s)
