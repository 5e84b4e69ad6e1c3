"""A discrete-event simulation: speakers, the real scheduler and meter, made-up service times.

Its clock is virtual, so an hour of a hundred speakers takes seconds, and nothing depends on the
machine.
"""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from rtvc.stt.headroom import BatchCost, LoadMeter, partial_workers
from rtvc.stt.scheduler import Scheduler
from rtvc.stt.tickets import Batch, Limits, Ticket
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, Job, JobKind

SILENCE_S = 0.25
VAD_S = 0.06
NOTHING = np.float32(0)


@dataclass(frozen=True)
class World:
    """What is simulated."""

    speakers: int = 10
    workers: int = 2
    limits: Limits = field(default_factory=lambda: Limits(max_batch=4))
    urgent: BatchCost = field(default_factory=lambda: BatchCost(0.02, 0.02))
    per_audio_s: float = 0.1
    """A batch takes longer by this part for each second of its longest audio."""
    noise: float = 0.15
    interval_s: float = 0.1
    """Between partials at least; more where the engine advises it."""
    arrive_every_s: float = 0.0
    """Speakers come one by one, if the engine has headroom; 0: all at once, unasked."""
    duration_s: float = 120.0
    warm_up_s: float = 20.0
    pause_s: float = 3.0
    resumes: float = 0.2
    """Part of the first silences after which speech goes on."""
    seed: int = 1


@dataclass
class Outcome:
    """What came of it."""

    delays_s: list[float] = field(default_factory=list)
    """End of speech → final transcript."""
    intervals_s: list[float] = field(default_factory=list)
    """Between two hypotheses of one utterance."""
    admitted: int = 0
    partials: int = 0
    utterances: int = 0

    @property
    def p95_s(self) -> float:
        return sorted(self.delays_s)[int(0.95 * len(self.delays_s))]

    @property
    def median_interval_s(self) -> float:
        return sorted(self.intervals_s)[len(self.intervals_s) // 2]

    @property
    def held(self) -> bool:
        """What the issue asks of a server that holds its speakers."""
        return self.p95_s <= 0.5 and self.median_interval_s <= 1.5


@dataclass
class _Utterance:
    """One speaker's current utterance."""

    number: int
    began_at_s: float
    ends_at_s: float
    revision: int = 0
    asked_at_s: float = 0.0
    shown_at_s: float | None = None
    awaiting: bool = False
    silent_at_s: float | None = None
    final: int | None = None
    answered: dict[int, float] = field(default_factory=dict)


class Simulation:
    """One run; `outcome` holds what came of it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = random.Random(world.seed)
        reserved = replace(world.limits, partial_batches=partial_workers(world.workers))
        self.scheduler = Scheduler(reserved)
        self.meter = LoadMeter(world.workers, world.limits.max_batch, prior=world.urgent)
        self.outcome = Outcome()
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._idle = world.workers
        self._speaking: dict[str, _Utterance] = {}
        self._advised = (0.0, self.meter.advise(0.0))

    def run(self) -> Outcome:
        for number in range(self.world.speakers):
            self.at(number * self.world.arrive_every_s, partial(self.arrive, f"s{number}"))
        while self._events and self._events[0][0] < self.world.duration_s:
            self.now_s, _, action = heapq.heappop(self._events)
            action()
        return self.outcome

    def at(self, instant_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (instant_s, next(self._order), action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self.at(self.now_s + seconds, action)

    def arrive(self, session: str) -> None:
        if self.world.arrive_every_s:
            headroom = self.meter.advise(self.now_s).headroom_sessions
            if headroom is not None and headroom < 1:
                return
        self.outcome.admitted += 1
        self.meter.opened(self.now_s)
        self.after(self.random.uniform(0, 6), lambda: self.begin(session))

    # A speaker.

    def begin(self, session: str) -> None:
        self.outcome.utterances += 1
        length_s = self.random.uniform(1.5, 5.0)
        utterance = _Utterance(self.outcome.utterances, self.now_s, self.now_s + length_s)
        utterance.asked_at_s = self.now_s
        self._speaking[session] = utterance
        self.after(0.1, lambda: self.frame(session, utterance))

    def frame(self, session: str, utterance: _Utterance) -> None:
        """Every 32 ms while there is speech."""
        if self.now_s >= utterance.ends_at_s:
            self.fall_silent(session, utterance)
            return
        due = self.now_s - utterance.asked_at_s >= self.interval_s()
        if due and not utterance.awaiting:
            utterance.revision += 1
            utterance.asked_at_s, utterance.awaiting = self.now_s, True
            self.outcome.partials += 1
            self.ask(session, utterance, JobKind.PARTIAL)
        self.after(0.032, lambda: self.frame(session, utterance))

    def fall_silent(self, session: str, utterance: _Utterance) -> None:
        utterance.silent_at_s = self.now_s
        utterance.revision += 1
        self.ask(session, utterance, JobKind.SPECULATIVE)
        if self.random.random() < self.world.resumes:
            self.after(0.15, lambda: self.resume(session, utterance))
        else:
            self.after(SILENCE_S, lambda: self.end(session, utterance))

    def resume(self, session: str, utterance: _Utterance) -> None:
        utterance.revision += 1
        utterance.silent_at_s = None
        utterance.ends_at_s = self.now_s + self.random.uniform(0.5, 2.0)
        self.frame(session, utterance)

    def end(self, session: str, utterance: _Utterance) -> None:
        utterance.final = utterance.revision
        if utterance.revision in utterance.answered:
            self.finished(utterance)
        else:
            self.ask(session, utterance, JobKind.FINAL)
        self.after(self.world.pause_s, lambda: self.begin(session))

    def finished(self, utterance: _Utterance) -> None:
        if utterance.began_at_s >= self.world.warm_up_s and utterance.silent_at_s is not None:
            self.outcome.delays_s.append(self.now_s - utterance.silent_at_s + VAD_S)

    def interval_s(self) -> float:
        """The engine's advice, renewed four times a second."""
        at_s, advice = self._advised
        if self.now_s - at_s >= 0.25:
            advice = self.meter.advise(self.now_s)
            self._advised = (self.now_s, advice)
        return max(self.world.interval_s, advice.partial_interval_s)

    # The engine.

    def ask(self, session: str, utterance: _Utterance, kind: JobKind) -> None:
        samples = round((self.now_s - utterance.began_at_s + 0.3) * SAMPLE_RATE_HZ)
        audio = np.broadcast_to(NOTHING, samples)
        item, revision = str(utterance.number), utterance.revision
        job = Job(session, item, kind, revision, audio, self.now_s)
        self.meter.asked(session, kind, self.now_s)
        _, dropped = self.scheduler.submit(job, self.now_s)
        for ticket in dropped:
            self.lost(ticket)
        self.dispatch()

    def dispatch(self) -> None:
        while self._idle:
            batch = self.scheduler.next_batch(self.now_s)
            if batch is None:
                return
            self._idle -= 1
            seconds = self.service_s(batch)
            self.after(seconds, partial(self.done, batch, seconds))

    def service_s(self, batch: Batch) -> float:
        longest_s = max(ticket.audio_s for ticket in batch.tickets)
        grown = 1 + self.world.per_audio_s * (longest_s - 3.5)
        noise = self.random.lognormvariate(0, self.world.noise)
        return self.world.urgent.batch_s(len(batch.tickets)) * grown * noise

    def done(self, batch: Batch, seconds: float) -> None:
        self._idle += 1
        self.meter.served([ticket.job.kind for ticket in batch.tickets], seconds)
        for ticket in self.scheduler.finish(batch.batch_id):
            wait_s = batch.taken_at_s - ticket.since_s
            delay_s = self.now_s - ticket.since_s
            self.meter.answered(ticket.job.kind, wait_s, delay_s, self.now_s)
            self.take_answer(ticket)
        self.dispatch()

    def take_answer(self, ticket: Ticket) -> None:
        utterance = self._speaking[ticket.job.session_id]
        if str(utterance.number) != ticket.job.item_id:
            return
        if ticket.job.kind is JobKind.PARTIAL:
            utterance.awaiting = False
            self.show(utterance)
            return
        utterance.answered[ticket.job.revision] = self.now_s
        if utterance.final == ticket.job.revision:
            self.finished(utterance)

    def lost(self, ticket: Ticket) -> None:
        utterance = self._speaking[ticket.job.session_id]
        if str(utterance.number) == ticket.job.item_id and ticket.job.kind is JobKind.PARTIAL:
            utterance.awaiting = False

    def show(self, utterance: _Utterance) -> None:
        before_s = utterance.shown_at_s
        utterance.shown_at_s = self.now_s
        if utterance.began_at_s >= self.world.warm_up_s and before_s is not None:
            self.outcome.intervals_s.append(self.now_s - before_s)


def knee(world: World) -> int:
    """Most speakers that are held, by bisection."""

    def holds(speakers: int) -> bool:
        return Simulation(replace(world, speakers=speakers, arrive_every_s=0)).run().held

    low, high = 0, 1
    while holds(high):
        low, high = high, 2 * high
    while high - low > max(1, low // 40):
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
