"""How busy the engine is, how often partials fit, and how many more sessions would: pure.

Fed with what is asked and what is served, it knows each kind's rate, what a batch of n costs
(`base_s + n · each_s`), and how long urgent jobs wait. From these follow two pieces of advice:
the seconds between two partials of a session, and the sessions that still fit.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rtvc.stt.transcriber import JobKind

RATE_MEMORY_S = 120.0
"""Arrivals are averaged over about so long: some twenty utterances of a session."""
COST_MEMORY_BATCHES = 200.0
"""What a batch costs is averaged over about so many."""
RECENT_DELAYS = 200
"""Urgent delays that the measured percentile is taken of."""
RECENT_S = 30.0
"""Older delays say nothing about now."""
ENOUGH_SERVED = 20
"""Urgent jobs to have seen before there is an opinion on headroom."""
PRIOR_SESSION_S = 30.0
"""The weight of what sessions are thought to ask for until they have been measured."""
PRIOR_URGENT_PER_S = 0.25
"""Finals and speculative finals a second of one session: an utterance of 3 s, then 3 s pause."""
PRIOR_TALKING = 0.5
"""Part of the time in which a session's speaker speaks."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What the engine must keep to."""

    delay_s: float = 0.43
    """Asked at the first silence → answered, 95 of 100; the rest of 500 ms is VAD and network."""
    planned_share: float = 0.9
    """Part of it that a forecast may use up."""
    fastest_interval_s: float = 0.4
    """Between two partials of a session, when there is little to do."""
    slowest_interval_s: float = 1.4
    """The same when there is much; beyond it partials are skipped."""
    partial_share: float = 0.65
    """Part of the workers' time that partials and the rest may take together, at ease."""
    full_share: float = 0.9
    """The same with partials at their slowest: no more sessions beyond it."""


def targets_for(transcription_delay_s: float) -> Targets:
    """What is left for the engine of the delay a person feels: VAD and network come first.

    >>> round(targets_for(0.5).delay_s, 2)
    0.43
    """
    return Targets(delay_s=max(transcription_delay_s - 0.07, 0.05))


@dataclass(frozen=True, slots=True)
class BatchCost:
    """What a batch of n jobs keeps a worker busy."""

    base_s: float
    """Whatever the size."""
    each_s: float
    """Of each job."""

    def batch_s(self, jobs: float) -> float:
        return self.base_s + jobs * self.each_s

    def job_s(self, jobs: float) -> float:
        """One job's part."""
        return self.batch_s(jobs) / jobs


@dataclass(frozen=True, slots=True)
class Load:
    """What the engine is asked for and what it can do, as measured."""

    workers: int
    """Batches at once."""
    max_batch: int
    """Jobs in one batch at most."""
    sessions: int
    """Open."""
    urgent_per_s: float
    """Finals and speculative finals asked for."""
    talking: float
    """Sessions whose speaker speaks now."""
    urgent: BatchCost
    """Of finals and speculative finals."""
    partial: BatchCost
    """Of partials."""
    urgent_batch: float = 1.0
    """Mean size of their batches now."""
    partial_batch: float = 1.0
    """The same of partials."""
    urgent_variation: float = 0.3
    """Standard deviation of an urgent batch's seconds, as a part of their mean."""
    urgent_wait_s: float = 0.0
    """Mean wait of urgent jobs now."""
    urgent_delay_s: float | None = None
    """95th percentile of asked → answered now; None: too few to tell."""
    urgent_per_session_s: float = PRIOR_URGENT_PER_S
    """Urgent jobs a second and session, over the last minute or so."""
    talking_share: float = PRIOR_TALKING
    """Part of the sessions' time that was talked, over the last minute or so."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What follows from the load."""

    partial_interval_s: float
    """Between two partials of a session."""
    headroom_sessions: float | None
    """More sessions that fit; None: too little was measured yet."""

    def with_one_more_session(self) -> "Advice":
        """Until the next advice: a crowd that comes at once is counted."""
        if self.headroom_sessions is None:
            return self
        return replace(self, headroom_sessions=max(self.headroom_sessions - 1, 0.0))


def partial_interval_s(load: Load, targets: Targets) -> float:
    """Seconds between two partials of a session, so that urgent jobs keep their delay.

    >>> cost = BatchCost(0.0, 0.1)
    >>> idle = Load(2, 4, sessions=1, urgent_per_s=0.2, talking=1, urgent=cost, partial=cost)
    >>> partial_interval_s(idle, Targets())
    0.4
    >>> busy = Load(2, 4, sessions=30, urgent_per_s=4, talking=8, urgent=cost, partial=cost)
    >>> round(partial_interval_s(busy, Targets()), 2)
    1.34
    """
    urgent = load.urgent_per_s * load.urgent.job_s(load.urgent_batch)
    # The longer an answer takes by itself, the less of the delay may be spent behind partials.
    taken = min(load.urgent.batch_s(1) / targets.delay_s, 1.0)
    share = targets.partial_share * (1 - taken)
    spare = min(share * load.workers - urgent, 0.85 * partial_workers(load.workers))
    if spare <= 0:
        return targets.slowest_interval_s
    needed_s = load.talking * load.partial.job_s(load.partial_batch) / spare
    # Urgent jobs that wait are a sign of load that the sums above do not see.
    needed_s *= 1 + load.urgent_wait_s / (0.25 * targets.delay_s)
    return min(max(needed_s, targets.fastest_interval_s), targets.slowest_interval_s)


def headroom_sessions(load: Load, targets: Targets) -> float:
    """Sessions that would still fit; 0: not one more."""
    if load.urgent_delay_s is not None and load.urgent_delay_s > 0.87 * targets.delay_s:
        return 0.0
    fitting, too_many = 0.0, 1.0
    while fits(too_many, load, targets) and too_many < 1e5:
        fitting, too_many = too_many, 2 * too_many
    for _ in range(20):
        middle = (fitting + too_many) / 2
        if fits(middle, load, targets):
            fitting = middle
        else:
            too_many = middle
    return max(fitting - load.sessions, 0.0)


def partial_workers(workers: int) -> int:
    """Workers that partials may take: one is kept free for finals, where there is a second."""
    return max(workers - 1, 1)


def fits(sessions: float, load: Load, targets: Targets) -> bool:
    """Whether so many sessions get finals in time and partials at least at their slowest."""
    urgent_per_s = sessions * load.urgent_per_session_s
    partials_per_s = sessions * load.talking_share / targets.slowest_interval_s
    partial = partials_per_s * load.partial.job_s(load.max_batch)
    urgent = urgent_per_s * load.urgent.job_s(load.max_batch)
    if urgent + partial > targets.full_share * load.workers:
        return False
    if partial > targets.full_share * partial_workers(load.workers):
        return False
    delay_s = urgent_delay_s(urgent_per_s, partial, load)
    return delay_s <= targets.planned_share * targets.delay_s


def urgent_delay_s(urgent_per_s: float, partial: float, load: Load) -> float:
    """95th percentile of asked → answered at this rate; infinite where they would pile up.

    `partial`: workers that partials keep busy.
    """
    workers, blocking = float(load.workers), partial
    if partial_workers(load.workers) < load.workers:
        # What partials keep busy is nearly as good as not there.
        workers, blocking = workers - 0.85 * partial, 0.0
    one_by_one_s = _queued_delay_s(urgent_per_s, blocking, workers, load)
    return min(one_by_one_s, _gathered_delay_s(urgent_per_s, workers, load))


def _queued_delay_s(urgent_per_s: float, partial: float, workers: float, load: Load) -> float:
    """Were there no batches: Sakasegawa's M/G/c, non-preemptive."""
    mean_s = load.urgent.batch_s(1)
    urgent = urgent_per_s * mean_s
    if urgent >= workers:
        return math.inf
    used = min((urgent + partial) / workers, 1.0)
    all_busy = used ** (math.sqrt(2 * (workers + 1)) - 1)
    partial_s = load.partial.batch_s(load.partial_batch)
    left_s = (urgent * mean_s + partial * partial_s) / max(urgent + partial, 1e-9)
    noise = (1 + load.urgent_variation**2) / 2
    if_busy_s = noise * left_s / (workers - urgent)
    wait_s = if_busy_s * max(math.log(20 * all_busy), 0.0) if all_busy > 0 else 0.0
    return mean_s + math.hypot(wait_s, 1.65 * load.urgent_variation * mean_s)


def _gathered_delay_s(urgent_per_s: float, workers: float, load: Load) -> float:
    """Each worker, when free, takes all that came meanwhile; infinite if that is too much."""
    size = 1.0
    for _ in range(20):
        size = 1 + urgent_per_s * load.urgent.batch_s(size) / workers
    # Jobs of unlike length do not share a batch, and they come in bunches.
    bunch = 1.3 * (size + 1.65 * math.sqrt(size))
    if bunch > load.max_batch:
        return math.inf
    mean_s = load.urgent.batch_s(bunch)
    wait_s = 1.4 * load.urgent.batch_s(size) / workers
    return wait_s + mean_s * (1 + 0.8 * load.urgent_variation)


class Decaying:
    """A sum that forgets: what was added `memory` ago counts for 1/e."""

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._sum = 0.0
        self._at = 0.0

    def add(self, amount: float, at: float) -> None:
        self._sum = self.value(at) + amount
        self._at = at

    def value(self, at: float) -> float:
        return self._sum * math.exp(-max(at - self._at, 0.0) / self._memory)


class CostMeter:
    """Learns what a batch costs from batches: a straight line through their sizes and times."""

    def __init__(self, prior: BatchCost) -> None:
        self.prior = prior
        self._keep = 1 - 1 / COST_MEMORY_BATCHES
        self._count = self._sizes = self._squares = self._times = self._products = 0.0
        self._time_squares = 0.0
        self.mean_size = 1.0
        """Of the batches of late."""

    def served(self, size: int, seconds: float) -> None:
        keep = self._keep
        self._count = keep * self._count + 1
        self._sizes = keep * self._sizes + size
        self._squares = keep * self._squares + size * size
        self._times = keep * self._times + seconds
        self._products = keep * self._products + size * seconds
        self._time_squares = keep * self._time_squares + seconds * seconds
        self.mean_size += 0.1 * (size - self.mean_size)

    @property
    def cost(self) -> BatchCost:
        """The line; where all sizes were alike, one through their mean with the prior's bend."""
        if self._count < 3:
            return self.prior
        size, seconds = self._sizes / self._count, self._times / self._count
        spread = self._spread
        bend = self.prior.each_s / (self.prior.batch_s(1) or 1.0)
        guess = seconds / ((1 - bend) + bend * size)
        # The prior counts as a few batches one job apart.
        weight = 3 / self._count
        slope = (self._products / self._count - size * seconds + weight * bend * guess) / (
            spread + weight
        )
        slope = min(max(slope, 0.0), seconds / size)
        return BatchCost(seconds - slope * size, slope)

    @property
    def _spread(self) -> float:
        return self._squares / self._count - (self._sizes / self._count) ** 2

    @property
    def variation(self) -> float:
        """Standard deviation about the line, as a part of the mean."""
        if self._count < 10:
            return 0.3
        mean_s = self._times / self._count
        explained = self.cost.each_s**2 * self._spread
        variance = max(self._time_squares / self._count - mean_s * mean_s - explained, 0.0)
        return min(math.sqrt(variance) / mean_s, 1.0) if mean_s > 0 else 0.0


class LoadMeter:
    """Watches one engine; every call carries the instant."""

    def __init__(
        self,
        workers: int,
        max_batch: int,
        *,
        prior: BatchCost | None = None,
        targets: Targets | None = None,
    ) -> None:
        self.targets = targets or Targets()
        self._workers = workers
        self._max_batch = max_batch
        prior = prior or BatchCost(0.0, 0.0)
        self._urgent, self._partial = CostMeter(prior), CostMeter(prior)
        self._sessions = 0
        self._session_s = Decaying(RATE_MEMORY_S)
        self._talking_s = Decaying(RATE_MEMORY_S)
        self._urgent_asked = Decaying(RATE_MEMORY_S)
        self._urgent_now = Decaying(5.0)
        self._integrated_at_s: float | None = None
        self._talked_at_s: dict[str, float] = {}
        self._delays: deque[tuple[float, float]] = deque(maxlen=RECENT_DELAYS)
        self._wait_s = 0.0
        self._urgent_served = 0
        self._interval_s = self.targets.fastest_interval_s

    def opened(self, now_s: float) -> None:
        self._integrate(now_s)
        self._sessions += 1

    def closed(self, session_id: str, now_s: float) -> None:
        self._integrate(now_s)
        self._sessions -= 1
        self._talked_at_s.pop(session_id, None)

    def asked(self, session_id: str, kind: JobKind, now_s: float) -> None:
        if kind is JobKind.PARTIAL:
            self._talked(session_id, now_s)
            return
        self._urgent_asked.add(1, now_s)
        self._urgent_now.add(1, now_s)
        self._talked_at_s.pop(session_id, None)

    def _talked(self, session_id: str, now_s: float) -> None:
        """A partial stands for the speech since the one before."""
        last_s = self._talked_at_s.get(session_id)
        since_s = self._interval_s if last_s is None else now_s - last_s
        self._talking_s.add(min(since_s, self.targets.slowest_interval_s), now_s)
        self._talked_at_s[session_id] = now_s

    def served(self, kinds: Sequence[JobKind], seconds: float) -> None:
        """A batch took so long."""
        partials = sum(kind is JobKind.PARTIAL for kind in kinds)
        meter = self._partial if 2 * partials > len(kinds) else self._urgent
        meter.served(len(kinds), seconds)
        self._urgent_served += len(kinds) - partials

    def answered(self, kind: JobKind, wait_s: float, delay_s: float, now_s: float) -> None:
        """A job was answered that waited and took so long."""
        if kind is not JobKind.PARTIAL:
            self._wait_s += 0.1 * (wait_s - self._wait_s)
            self._delays.append((now_s, delay_s))

    def advise(self, now_s: float, *, with_headroom: bool = True) -> Advice:
        """`with_headroom`: whether to work that out as well, which is most of the work."""
        load = self.load(now_s)
        self._interval_s = partial_interval_s(load, self.targets)
        known = with_headroom and self._urgent_served >= ENOUGH_SERVED
        headroom = headroom_sessions(load, self.targets) if known else None
        return Advice(self._interval_s, headroom)

    def load(self, now_s: float) -> Load:
        self._integrate(now_s)
        session_s = self._session_s.value(now_s) + PRIOR_SESSION_S
        urgent = self._urgent_asked.value(now_s) + PRIOR_URGENT_PER_S * PRIOR_SESSION_S
        talking_s = self._talking_s.value(now_s) + PRIOR_TALKING * PRIOR_SESSION_S
        return Load(
            self._workers,
            self._max_batch,
            self._sessions,
            urgent_per_s=self._urgent_now.value(now_s) / 5.0,
            talking=self._talking(now_s),
            urgent=self._urgent.cost,
            partial=self._partial.cost,
            urgent_batch=self._urgent.mean_size,
            partial_batch=self._partial.mean_size,
            urgent_variation=self._urgent.variation,
            urgent_wait_s=self._wait_s,
            urgent_delay_s=self._delay_p95_s(now_s),
            urgent_per_session_s=urgent / session_s,
            talking_share=min(talking_s / session_s, 1.0),
        )

    def _talking(self, now_s: float) -> int:
        """Sessions that asked for a partial of late and for no final since."""
        if len(self._talked_at_s) > 2 * self._sessions + 16:
            recent = {s: at_s for s, at_s in self._talked_at_s.items() if now_s - at_s < 10}
            self._talked_at_s = recent
        return sum(now_s - at_s < 3.0 for at_s in self._talked_at_s.values())

    def _integrate(self, now_s: float) -> None:
        before_s = now_s if self._integrated_at_s is None else self._integrated_at_s
        self._session_s.add((now_s - before_s) * self._sessions, now_s)
        self._integrated_at_s = now_s

    def _delay_p95_s(self, now_s: float) -> float | None:
        recent = sorted(delay_s for at_s, delay_s in self._delays if now_s - at_s < RECENT_S)
        return recent[math.ceil(0.95 * len(recent)) - 1] if len(recent) >= 20 else None
