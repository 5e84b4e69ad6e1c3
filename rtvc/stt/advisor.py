"""What an engine is advised: cadence and headroom by its load, and what to give up under overload.

The server and the plan's simulation of it ask the same advisor.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rtvc.stt.headroom import Advice, Load, LoadMeter, Targets
from rtvc.stt.ladder import Change, Ladder, Rules, Step, Strain
from rtvc.stt.scheduler import Scheduler
from rtvc.stt.tickets import Ticket
from rtvc.stt.transcriber import JobKind

ADVICE_EVERY_S = 0.25
"""How often cadence, headroom and the ladder's step are worked out anew."""


@dataclass(frozen=True, slots=True)
class _Held:
    """Finals and speculative finals that wait."""

    jobs: int
    """How many."""
    since_s: float | None
    """Since when the oldest waits; None: there is none."""


class Advisor:
    """Of one engine: its meter and its ladder, and the scheduler that has to do as they say."""

    def __init__(
        self,
        meter: LoadMeter,
        scheduler: Scheduler,
        *,
        rules: Rules | None = None,
        on_change: Callable[[Change], None] | None = None,
        on_shed: Callable[[Sequence[Ticket]], None] | None = None,
    ) -> None:
        """`on_shed` gets partials that waited when partials were given up."""
        self._meter = meter
        self._scheduler = scheduler
        self._ladder = Ladder(meter.targets.delay_s, rules)
        self._on_change = on_change
        self._on_shed = on_shed
        self._advised_at_s: float | None = None
        self.advice = Advice(0.0, None)
        """The latest."""
        self.changes: dict[str, int] = {step.label: 0 for step in self._ladder.rules.steps}
        """Times each step was taken, by its label."""

    @property
    def step(self) -> Step:
        """What is given up now."""
        return self._ladder.step

    def measure_with(self, meter: LoadMeter) -> None:
        """Another engine process, other costs; what was given up stays so until it is calm."""
        self._meter = meter
        self._ladder.target_s = meter.targets.delay_s
        self._advised_at_s = None

    def aim(self, targets: Targets) -> None:
        """From now on another delay target holds."""
        self._meter.targets = targets
        self._ladder.target_s = targets.delay_s

    # What happens.

    def opened(self, now_s: float) -> None:
        self._meter.opened(now_s)
        self.advice = self.advice.with_one_more_session()

    def closed(self, session_id: str, now_s: float) -> None:
        self._meter.closed(session_id, now_s)

    def asked(self, session_id: str, kind: JobKind, now_s: float) -> None:
        """Partials that are not made count, too: they are what would come back."""
        self._meter.asked(session_id, kind, now_s)

    def served(self, kinds: Sequence[JobKind], seconds: float) -> None:
        self._meter.served(kinds, seconds)

    def answered(self, kind: JobKind, wait_s: float, delay_s: float, now_s: float) -> None:
        self._meter.answered(kind, wait_s, delay_s, now_s)
        if kind is not JobKind.PARTIAL:
            self._ladder.answered(wait_s, delay_s, now_s)

    # What follows.

    def renew(self, now_s: float, *, with_headroom: bool = True) -> bool:
        """Work the advice out anew, if it is due; whether it was."""
        at_s = self._advised_at_s
        if at_s is not None and now_s - at_s < ADVICE_EVERY_S:
            return False
        self._advised_at_s = now_s
        self.advice = self._meter.advise(now_s, with_headroom=with_headroom)
        strain = strain_of(self._meter.load(now_s), self.advice, self._held(), self._meter, now_s)
        for change in self._ladder.observe(strain, now_s):
            self._follow(change)
        return True

    def headroom_sessions(self, now_s: float) -> float | None:
        """Worked out now, whether or not anybody is let in by it."""
        return self._meter.advise(now_s).headroom_sessions

    def _held(self) -> _Held:
        scheduler = self._scheduler
        return _Held(scheduler.urgent_waiting, scheduler.urgent_since_s)

    def _follow(self, change: Change) -> None:
        self.changes[change.step.label] += 1
        self._scheduler.takes_partials = change.step < Step.NO_PARTIALS
        if not self._scheduler.takes_partials:
            shed = self._scheduler.shed_partials()
            if shed and self._on_shed is not None:
                self._on_shed(shed)
        if self._on_change is not None:
            self._on_change(change)


def strain_of(load: Load, advice: Advice, held: _Held, meter: LoadMeter, now_s: float) -> Strain:
    """How hard the engine is pressed, from what the meter and the scheduler know."""
    slowest_s = meter.targets.slowest_interval_s
    urgent_s, partial_s = load.urgent.job_s(load.max_batch), load.partial.job_s(load.max_batch)
    # Means of a minute or two: what a few seconds ask for swings by a fifth, and finals that come
    # late because of it are seen by themselves.
    finals = load.sessions * load.urgent_per_session_s * urgent_s
    partials = load.sessions * load.talking_share * partial_s / slowest_s
    return Strain(
        advice.partial_interval_s,
        finals / load.workers,
        partials / load.workers,
        _backlog_s(load, held, now_s),
    )


def _backlog_s(load: Load, held: _Held, now_s: float) -> float:
    """Of a hanging engine the cost says nothing; of a burst that just came, the age."""
    if held.since_s is None:
        return 0.0
    size = min(max(held.jobs / load.workers, 1.0), float(load.max_batch))
    work_s = held.jobs * load.urgent.job_s(size) / load.workers
    return max(work_s, now_s - held.since_s)
