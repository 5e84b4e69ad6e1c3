"""One instance, event by event: people, sessions, the real scheduler, inferences that take time.

    Caller ─ask→ Instance ─submit→ Station ─run→ Processor      answers come back the same way

The clock is virtual, so nothing depends on the machine it runs on, and the same setup gives the
same outcome.
"""

import random
from dataclasses import dataclass, field
from functools import partial

from rtvc.errors import AdmissionRefused
from rtvc.plan.arrangement import Arrangement
from rtvc.plan.caller import Caller, Tally
from rtvc.plan.events import Calendar
from rtvc.plan.processor import Box, Processor
from rtvc.plan.service import ServiceTimes
from rtvc.plan.station import Station
from rtvc.plan.talk import Listening, Talk
from rtvc.stt.headroom import targets_for
from rtvc.stt.ladder import Step, rules_for
from rtvc.stt.tickets import Batch, Ticket
from rtvc.stt.transcriber import Job
from rtvc.voice.admission import Admission

GRACE_S = 10.0
"""A final that takes longer is missing, as in the load test."""

SETTLE_S = 20.0
"""Seconds after the last arrival from which on utterances count."""

UNLIMITED = 1_000_000
"""Sessions, where nothing but the work itself limits them."""


@dataclass(frozen=True, slots=True)
class Setup:
    """All that decides what comes of it."""

    sessions: int
    """People who want to talk."""
    arrangement: Arrangement
    """How the model is run."""
    times: ServiceTimes
    """How long its inferences take."""
    box: Box
    """What they share."""
    talk: Talk
    """How people behave."""
    listening: Listening = field(default_factory=Listening)
    """How sessions listen."""
    gpus: int = 1
    """Processors, each with its share of the engines."""
    load_s: float = 0.0
    """Seconds to load a model, for those who get one of their own."""
    arrive_every_s: float = 0.2
    """Seconds from one arrival to the next."""
    ramp_s: float = 5.0
    """All have come by then, however many they are."""
    by_headroom: bool = False
    """Whether a session is refused as soon as the engine sees no headroom for it."""
    max_sessions: int | None = None
    """Slots; None: no limit."""
    delay_target_s: float = 0.5
    """What the engine takes its advice from."""
    measure_s: float = 120.0
    """Seconds in which utterances that count begin."""
    seed: int = 0
    """Of everything that is drawn."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    delays_s: tuple[float, ...]
    """Of utterances: true end of speech → final at the client; infinite if none came."""
    intervals_s: tuple[float, ...]
    """Of utterances: median time between two texts; infinite if none came."""
    admitted: int
    """Sessions let in."""
    refused: int
    """Sessions turned away."""
    mean_batch: float | None
    """Utterances in an inference; None: there was none."""
    busy: float
    """Part of the workers' time that was taken up."""
    own_work: float
    """Part of one core that the server's own process wanted; from 1 on it falls behind."""
    headroom_sessions: float | None
    """More sessions that the engine itself would have let in at the end; None: it could not tell,
    or sessions have engines of their own."""


class Instance:
    """The server: engines, who meets in which, and what they advise."""

    def __init__(self, setup: Setup, calendar: Calendar) -> None:
        self.setup = setup
        self.calendar = calendar
        self.callers: dict[str, Caller] = {}
        limit = UNLIMITED if setup.max_sessions is None else setup.max_sessions
        self.admission = Admission(limit)
        self._rng = random.Random(f"{setup.seed}/service")
        self._processors = [
            Processor(calendar, self._slowdown, self._own_work) for _ in range(setup.gpus)
        ]
        self._homes: dict[str, Station] = {}
        self.stations: list[Station] = []
        """Engines, in the order they were started."""
        if not self._each_its_own:
            for number in range(setup.arrangement.engines):
                self._start_engine(number)

    @property
    def _each_its_own(self) -> bool:
        return self.setup.arrangement.sharing == "per-session"

    def _slowdown(self, running: int) -> float:
        return self.setup.box.slowdown(running, self.admission.sessions)

    def _own_work(self, running: int) -> float:
        """One server runs for each processor, with its share of the sessions."""
        share = -(-self.admission.sessions // self.setup.gpus)
        return self.setup.box.own_work(running, share)

    def _start_engine(self, number: int) -> Station:
        arrangement = self.setup.arrangement
        station = Station(
            self.calendar,
            self._processors[number % len(self._processors)],
            self,
            self._work_s,
            workers=arrangement.workers,
            limits=arrangement.limits,
            prior=arrangement.prior,
            targets=targets_for(self.setup.delay_target_s),
            rules=rules_for(
                self.setup.listening.partials,
                self.setup.listening.partial_interval_s,
                may_refuse=not self._each_its_own,
            ),
            watches_headroom=self.setup.by_headroom,
        )
        self.stations.append(station)
        return station

    def _work_s(self, batch: Batch) -> float:
        longest_s = max(ticket.audio_s for ticket in batch.tickets)
        return self.setup.times.draw_s(len(batch.tickets), longest_s, self._rng)

    @property
    def headroom_sessions(self) -> float | None:
        """Of all engines; None: unknown, or it is not theirs to say."""
        if self._each_its_own:
            return None
        known = [station.headroom_sessions for station in self.stations]
        said = [headroom for headroom in known if headroom is not None]
        return sum(said) if said else None

    @property
    def _refuses(self) -> bool:
        """Whether an engine has nothing left to give up; slots alone do not ask."""
        steps = [station.advisor.step for station in self.stations]
        return self.setup.by_headroom and Step.REFUSING in steps

    def enter(self, name: str) -> bool:
        """Take a session in; False: it is refused."""
        headroom = self.headroom_sessions if self.setup.by_headroom else None
        try:
            self.admission.enter(headroom, overloaded=self._refuses)
        except AdmissionRefused:
            return False
        if self._each_its_own:
            home = self._start_engine(len(self.stations))
        else:
            # Where it stays: with the engine that has the fewest.
            home = min(self.stations, key=lambda station: station.sessions)
        self._homes[name] = home
        home.open_session()
        return True

    def ask(self, job: Job) -> bool:
        return self._homes[job.session_id].submit(job)

    def interval_s(self) -> float:
        """As a pool, or engines of sessions, advise: the most cautious of them."""
        return max(station.advice.partial_interval_s for station in self.stations)

    def answered(self, ticket: Ticket) -> None:
        self.callers[ticket.job.session_id].answered(ticket)

    def lost(self, ticket: Ticket) -> None:
        self.callers[ticket.job.session_id].lost(ticket)

    @property
    def mean_batch(self) -> float | None:
        batches = sum(station.served.batches for station in self.stations)
        jobs = sum(station.served.jobs for station in self.stations)
        return jobs / batches if batches else None

    def own_work_s(self) -> float:
        """Seconds of work until now of the busiest server process."""
        return max(each.beside_s for each in self._processors)

    def busy(self) -> float:
        """Part of the workers' time until now."""
        workers = len(self.stations) * self.setup.arrangement.workers
        worked_s = sum(station.served.worker_s for station in self.stations)
        return worked_s / (workers * self.calendar.now_s) if workers else 0.0


def simulate(setup: Setup) -> Outcome:
    """Let people arrive, talk for a while, and count what came of it."""
    calendar, tally = Calendar(), Tally()
    instance = Instance(setup, calendar)
    every_s = min(setup.arrive_every_s, setup.ramp_s / max(setup.sessions, 1))
    own_model_s = setup.load_s if setup.arrangement.sharing == "per-session" else 0.0
    from_s = every_s * setup.sessions + own_model_s + SETTLE_S
    until_s = from_s + setup.measure_s

    def arrive(number: int) -> None:
        name = f"s{number}"
        if not instance.enter(name):
            return
        caller = Caller(
            calendar,
            instance,
            setup.talk,
            setup.listening,
            tally,
            name=name,
            rng=random.Random(f"{setup.seed}/{number}"),
            from_s=from_s,
            until_s=until_s,
        )
        instance.callers[name] = caller
        calendar.after(own_model_s, caller.start)

    for number in range(setup.sessions):
        calendar.at(number * every_s, partial(arrive, number))
    return _outcome(instance, tally, from_s, until_s)


def _outcome(instance: Instance, tally: Tally, from_s: float, until_s: float) -> Outcome:
    calendar = instance.calendar
    calendar.run_until(from_s)
    before_s = instance.own_work_s()
    calendar.run_until(until_s)
    own_work = (instance.own_work_s() - before_s) / (until_s - from_s)
    busy, headroom = instance.busy(), instance.headroom_sessions
    calendar.run_until(until_s + _longest_s(instance.setup.talk) + GRACE_S)
    for caller in instance.callers.values():
        caller.hang_up()
    return Outcome(
        tuple(tally.delays_s),
        tuple(tally.intervals_s),
        instance.admission.sessions,
        instance.admission.refused,
        instance.mean_batch,
        busy,
        own_work,
        headroom,
    )


def _longest_s(talk: Talk) -> float:
    """Whoever has begun is heard to the end."""
    return max(talk.speech_s) + talk.inner_pause_s[1]
