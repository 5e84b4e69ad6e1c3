"""What the server gives up under overload, step by step, so that no final is lost: pure.

    0 none  →  1 slower partials  →  2 no partials  →  3 refusing new sessions

Up goes quickly: what called for a step twice in a row gets it. Down goes one step at a time, after
a stretch of calm, and only if the load at the step below would be bearable. A step that is needed
again soon after it was left must be calm for twice as long the next time, so nothing flaps.
"""

from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

CALM_S = 5.0
"""Calm before the first step down."""
LONGEST_CALM_S = 60.0
"""The most that is asked for, however often a step was needed again."""
RELAPSE_S = 30.0
"""A step up so soon after a step down makes the next calm twice as long."""
SETTLE_S = 3.0
"""What no partials help is seen after so long; before, no session is refused for it."""
LATE_S = 10.0
"""Finals answered longer ago say nothing about now."""
LATE_FEWEST = 5
"""Late finals that make the target missed: one or two are bad luck."""
LATE_SHARE = 0.25
"""Part of the finals that is late when the target (5 of 100) is missed beyond doubt."""
WAITED_PART = 0.25
"""Part of the target that a late final waited at least: a slow model is no overload."""
CALM_LATE_SHARE = 0.05
"""Part of the finals that may be late while it is calm."""
SLOWER = 1.25
"""Partials so many times as far apart as usual are slower."""
USUAL = 1.1
"""The same, when they are back to what is usual."""
BEARABLE = 0.95
"""Part of the workers' time that may be asked for at the step below; partials can be skipped."""


class Step(IntEnum):
    """What is given up; each step also gives up what those before it do."""

    NONE = 0
    SLOWER_PARTIALS = 1
    NO_PARTIALS = 2
    REFUSING = 3

    @property
    def label(self) -> str:
        """As /readyz, the metrics and the log say it.

        >>> [step.label for step in Step]
        ['none', 'slower-partials', 'no-partials', 'refusing']
        """
        return self.name.lower().replace("_", "-")


Partials = Literal["adaptive", "flat-out", "off"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a ladder may do."""

    steps: tuple[Step, ...] = tuple(Step)
    """Those that there are, upwards; the first is NONE."""
    usual_interval_s: float = 0.4
    """Between two partials of a session, at ease."""


def rules_for(partials: Partials, interval_s: float, *, may_refuse: bool = True) -> Rules:
    """Without partials there are none to give up; flat out they are left as the user wants them.

    >>> [step.label for step in rules_for("off", 0.4).steps]
    ['none', 'refusing']
    >>> [step.label for step in rules_for("flat-out", 0.4).steps]
    ['none']
    """
    steps: tuple[Step, ...] = tuple(Step)
    if partials == "off":
        steps = (Step.NONE, Step.REFUSING)
    elif partials == "flat-out":
        steps = (Step.NONE,)
    if not may_refuse:
        steps = tuple(step for step in steps if step is not Step.REFUSING)
    return Rules(steps, max(interval_s, Rules().usual_interval_s))


@dataclass(frozen=True, slots=True)
class Strain:
    """How hard an engine is pressed, now."""

    interval_s: float
    """Between two partials of a session, as advised."""
    finals_share: float
    """Part of the workers' time that finals and speculative finals ask for."""
    partials_share: float
    """The same of partials at their slowest, made or not."""
    backlog_s: float = 0.0
    """Until a final that waits now is taken, or since the oldest waits, whichever is longer."""


@dataclass(frozen=True, slots=True)
class Change:
    """One step taken."""

    before: Step
    """Where the ladder stood."""
    step: Step
    """Where it stands."""
    reason: str
    """Why, in figures."""

    def __str__(self) -> str:
        way = "up" if self.step > self.before else "down"
        return f"degradation {way} to {self.step.label} ({self.step:d} of 3): {self.reason}"


@dataclass(frozen=True, slots=True)
class _Final:
    """One that was answered."""

    answered_at_s: float
    """When."""
    asked_at_s: float
    """When it was asked for."""
    late: bool
    """Later than the target, for having waited."""


class Ladder:
    """Fed with finals as they are answered and, a few times a second, with the strain."""

    def __init__(self, target_s: float, rules: Rules | None = None) -> None:
        """`target_s`: seconds from asked to answered within which a final is in time."""
        self.target_s = target_s
        self.rules = rules or Rules()
        self.step = Step.NONE
        """What is given up now."""
        self._finals: deque[_Final] = deque(maxlen=500)
        self._changed_at_s = 0.0
        self._stepped_down_at_s: float | None = None
        self._called_for = Step.NONE
        self._calm_since_s: float | None = None
        self._seen_at_s = 0.0
        self._patience_s = CALM_S

    def answered(self, wait_s: float, delay_s: float, now_s: float) -> None:
        """A final, or a speculative one, was answered that waited and took so long."""
        late = delay_s > self.target_s and wait_s >= WAITED_PART * self.target_s
        self._finals.append(_Final(now_s, now_s - delay_s, late))

    def observe(self, strain: Strain, now_s: float) -> tuple[Change, ...]:
        """Take the steps that are due: one up, or as many down as there was calm for.

        Whoever has nothing to do may observe rarely: time in which nothing was asked was calm.
        """
        self._forget(now_s)
        wanted, why = self._wanted(strain, now_s)
        if wanted > self.step:
            self._calm_since_s = None
            self._seen_at_s = now_s
            # Twice in a row, and no further than both times.
            step, self._called_for = min(wanted, self._called_for), wanted
            return (self._go_up(step, why, now_s),) if step > self.step else ()
        self._called_for = Step.NONE
        changes = self._come_down(strain, now_s)
        self._seen_at_s = now_s
        return changes

    # Up.

    def _wanted(self, strain: Strain, now_s: float) -> tuple[Step, str]:
        """The step that the strain calls for, whatever it was before; and why."""
        missed = self._missed(strain, now_s)
        if missed is not None:
            # Without partials to give up, refusing is what is left.
            give_up = Step.REFUSING if self.step >= Step.NO_PARTIALS else Step.NO_PARTIALS
            return self._allowed(give_up), f"{missed}; {_shares(strain)}"
        usual_s = self.rules.usual_interval_s
        if strain.interval_s > SLOWER * usual_s and Step.SLOWER_PARTIALS in self.rules.steps:
            return Step.SLOWER_PARTIALS, self._of_interval(strain)
        return Step.NONE, ""

    def _allowed(self, step: Step) -> Step:
        """The nearest step upwards that there is; the highest, if there is none."""
        steps = self.rules.steps
        return next((each for each in steps if each >= step), steps[-1])

    def _missed(self, strain: Strain, now_s: float) -> str | None:
        """How the target is missed, in spite of what was given up; None: it is not."""
        if self.step >= Step.NO_PARTIALS and now_s - self._changed_at_s < SETTLE_S:
            return None
        late, of = self._late(self._changed_at_s if self.step >= Step.NO_PARTIALS else None)
        if late >= LATE_FEWEST and late > LATE_SHARE * of:
            return f"{self._of_late(late, of)}, {_seconds(strain.backlog_s)} of them waiting"
        if strain.backlog_s > self.target_s:
            return f"{_seconds(strain.backlog_s)} of finals waiting, target {self._target}"
        return None

    def _go_up(self, step: Step, why: str, now_s: float) -> Change:
        came_down_s = self._stepped_down_at_s
        if came_down_s is not None and now_s - came_down_s < RELAPSE_S + self._patience_s:
            self._patience_s = min(2 * self._patience_s, LONGEST_CALM_S)
        else:
            self._patience_s = CALM_S
        return self._change(step, why, now_s)

    # Down.

    def _come_down(self, strain: Strain, now_s: float) -> tuple[Change, ...]:
        if not self._is_calm(strain):
            self._calm_since_s = None
            return ()
        if self._calm_since_s is None:
            # It was calm since anybody looked: who asks for something also looks.
            idle = now_s - max(self._seen_at_s, self._last_answer_s) > 1.0
            self._calm_since_s = self._seen_at_s if idle else now_s
        changes: list[Change] = []
        while self._is_calm(strain):
            calm_s = now_s - self._calm_since_s
            if calm_s < self._patience_s:
                break
            self._calm_since_s += self._patience_s
            changes.append(self._go_down(strain, now_s))
        return tuple(changes)

    @property
    def _last_answer_s(self) -> float:
        return self._finals[-1].answered_at_s if self._finals else 0.0

    def _is_calm(self, strain: Strain) -> bool:
        """Whether there is a step below, and it would be bearable."""
        if self.step is Step.NONE:
            return False
        if self.step is Step.SLOWER_PARTIALS:
            return strain.interval_s <= USUAL * self.rules.usual_interval_s
        late, of = self._late(None)
        if late > CALM_LATE_SHARE * of or strain.backlog_s > 0.5 * self.target_s:
            return False
        back = self._below() < Step.NO_PARTIALS and Step.NO_PARTIALS in self.rules.steps
        partials = strain.partials_share if back else 0.0
        return strain.finals_share + partials <= BEARABLE

    def _below(self) -> Step:
        return max(step for step in self.rules.steps if step < self.step)

    def _go_down(self, strain: Strain, now_s: float) -> Change:
        late, of = self._late(None)
        calm = f"calm for {self._patience_s:.0f} s"
        why = f"{calm}, {self._of_late(late, of)}; {_shares(strain)}"
        self._stepped_down_at_s = now_s
        return self._change(self._below(), why, now_s)

    # Both.

    def _change(self, step: Step, why: str, now_s: float) -> Change:
        change = Change(self.step, step, why)
        self.step, self._changed_at_s, self._called_for = step, now_s, Step.NONE
        return change

    def _forget(self, now_s: float) -> None:
        while self._finals and now_s - self._finals[0].answered_at_s > LATE_S:
            self._finals.popleft()

    def _late(self, asked_from_s: float | None) -> tuple[int, int]:
        """Late finals and all of them, of those asked for since an instant; None: any."""
        finals = [f for f in self._finals if asked_from_s is None or f.asked_at_s >= asked_from_s]
        return sum(final.late for final in finals), len(finals)

    # In words.

    @property
    def _target(self) -> str:
        return _seconds(self.target_s)

    def _of_late(self, late: int, of: int) -> str:
        return f"{late} of {of} finals in {LATE_S:.0f} s later than {self._target}"

    def _of_interval(self, strain: Strain) -> str:
        usual_s = self.rules.usual_interval_s
        return f"partials every {_seconds(strain.interval_s)}, usually {_seconds(usual_s)}; " + (
            _shares(strain)
        )


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s"


def _shares(strain: Strain) -> str:
    return (
        f"finals ask for {100 * strain.finals_share:.0f} % of the workers' time, "
        f"partials at their slowest for {100 * strain.partials_share:.0f} %"
    )
