"""Inference: who waits, who goes next, what it costs, and what becomes of a process."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.diagnosis_worlds.faults import Faults
from tests.diagnosis_worlds.figures import Figures
from tests.diagnosis_worlds.kernel import Kernel, Task
from tests.diagnosis_worlds.machine import Processor
from tests.diagnosis_worlds.world import World

HANG_SEEN_S = 10.0
ATTEMPTS = 2
STARVED_S = 1.0
IDLE_S = 10.0
LOOK_S = 0.25
SLOWEST_PARTIAL_S = 1.4
_RANK = {"final": 0, "speculative": 1, "partial": 2}


@dataclass(slots=True, eq=False)
class Job:
    """One utterance, or the beginning of one, to be transcribed."""

    session: str
    """Whose."""
    item: str
    """The utterance."""
    kind: str
    """"final", "speculative" or "partial"."""
    revision: int
    """Of the utterance."""
    audio_s: float
    """Its length."""
    asked_at_s: float
    """When it was asked for."""
    answer: Callable[["Job", "Cost | None", bool], None]
    """Called with what it cost; None: nobody wants it any more, or (True) it failed."""
    attempt: int = 0
    """Times that it failed."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an answer took."""

    queue_wait_s: float
    """Asked → taken."""
    features_s: float
    """Part of the inference."""
    encode_s: float
    """Part of the inference."""
    decode_s: float
    """Part of the inference."""
    batch: int
    """Jobs in it."""

    @property
    def inference_s(self) -> float:
        return self.features_s + self.encode_s + self.decode_s


@dataclass(slots=True, eq=False)
class _Batch:
    jobs: list[Job]
    taken_at_s: float


@dataclass(frozen=True, slots=True)
class Place:
    """What an engine is put into."""

    kernel: Kernel
    """Time."""
    world: World
    """What it costs."""
    faults: Faults
    """What is wrong."""
    cores: Processor
    """The machine's."""
    device: Processor | None
    """The graphics card; None: there is none."""
    figures: Figures
    """Where it tells of itself."""
    random: random.Random
    """For noise."""
    since_s: Callable[[], float]
    """Seconds since the first phase began."""


@dataclass(slots=True)
class Coldness:
    """Which sessions of an engine's process are warm, and since when they have been idle."""

    warm_at_s: dict[str, float] = field(default_factory=dict)
    used_at_s: dict[str, float] = field(default_factory=dict)

    def rest_s(self, sessions: list[str], cold_s: float, now_s: float) -> float:
        for name, used_s in list(self.used_at_s.items()):
            if now_s - used_s > IDLE_S:
                del self.used_at_s[name], self.warm_at_s[name]
        for name in sessions:
            warm_s = self.warm_at_s.setdefault(name, now_s + cold_s)
            self.used_at_s[name] = max(now_s, warm_s)
        return max(self.warm_at_s[name] - now_s for name in sessions)


class Engine:
    """One process with a model, and who waits for it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        world, faults = place.world, place.faults
        self.workers = 1 if faults.serialised else world.workers
        self.max_batch = 1 if faults.serialised else world.max_batch
        self.state = "loading"
        self.partial_s = world.partial_s
        """Advised between two partials of a session."""
        self._waiting: list[Job] = []
        self._running: list[_Batch] = []
        self._life = 0
        self._hung = False
        self._grown_from_s: float | None = None
        self._cold = Coldness()
        self._partial_taken_at_s = 0.0
        self._closed = False
        self._load = 0.0
        self._served = 0

    # What others see.

    @property
    def queued(self) -> int:
        return len(self._waiting)

    @property
    def backlog_s(self) -> float:
        return sum(job.audio_s for job in self._waiting)

    @property
    def busy_share(self) -> float:
        """Of the workers, lately."""
        return self._load

    @property
    def served(self) -> int:
        """Finals and tries of them, so far."""
        return self._served

    @property
    def model_bytes(self) -> float:
        """Of the loaded model."""
        return (
            0.1 * self.place.world.model_bytes
            if self.state == "restarting"
            else float(self.place.world.model_bytes)
        )

    @property
    def grown(self) -> float:
        """Bytes taken and not given back."""
        if self._grown_from_s is None:
            return 0.0
        faults = self.place.faults
        share = (self.place.kernel.now - self._grown_from_s) / faults.memory_fill_s
        return min(share, 1.0) * faults.memory_room_bytes

    # Its life.

    def load(self, least_s: float = 0.0) -> Task:
        """Until it is ready; the first 60 % of loading compute."""
        place = self.place
        began_s = place.kernel.now
        yield place.cores.work("engine", 0.6 * place.world.load_s)
        yield 0.4 * place.world.load_s
        rest_s = began_s + least_s - place.kernel.now
        if rest_s > 0:
            # Reading and unpacking weights.
            yield place.cores.work("engine", 0.7 * rest_s, 1.0)
            yield 0.3 * rest_s
        self._ready()

    def _ready(self) -> None:
        place = self.place
        self.state, self._hung = "ready", False
        self._life += 1
        if place.faults.memory_fill_s:
            self._grown_from_s = place.kernel.now
        if place.faults.crash_s is not None:
            place.kernel.after(place.faults.crash_s, self._lose, self._life)
        if place.faults.hang_s is not None:
            place.kernel.after(place.faults.hang_s, self._hang, self._life)
        if self._life == 1:
            place.kernel.spawn(self._look())
        self._dispatch()

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()

    def _hang(self, life: int) -> None:
        if life == self._life:
            self._hung = True

    def _lose(self, life: int) -> None:
        """The process is gone: what it worked on goes back, and another one is started."""
        if life != self._life or self.state != "ready" or self._closed:
            return
        self.state, self._grown_from_s = "restarting", None
        self._cold = Coldness()
        self.place.figures.restarts += 1
        lost, self._running = self._running, []
        for batch in reversed(lost):
            self._try_again(batch)
        self.place.kernel.spawn(self.load())

    def _try_again(self, batch: _Batch) -> None:
        for job in reversed(batch.jobs):
            job.attempt += 1
            if job.attempt >= ATTEMPTS:
                self.place.figures.jobs["failed"] += 1
                job.answer(job, None, True)
            elif job.kind == "partial" and self._partial_waits(job.session):
                self._drop(job)
            else:
                self.place.figures.retried += 1
                self._waiting.insert(0, job)

    # Who waits.

    def submit(self, job: Job) -> None:
        self.place.figures.submitted += 1
        if job.kind != "speculative":
            self._supersede(lambda old: old.session == job.session and old.kind == "partial")
        if job.kind != "partial":
            self._supersede(lambda old: old.item == job.item and old.kind == "speculative")
        self._waiting.append(job)
        self._dispatch()

    def promote(self, job: Job) -> None:
        """A try that becomes the final it was for."""
        self._supersede(lambda old: old.session == job.session and old.kind == "partial")
        job.kind = "final"
        self.place.figures.jobs["promoted"] += 1
        self._dispatch()

    def cancel(self, session: str) -> None:
        """It has left."""
        gone = [job for job in self._waiting if job.session == session]
        self.place.figures.jobs["cancelled"] += len(gone)
        self._waiting = [job for job in self._waiting if job.session != session]

    def _partial_waits(self, session: str) -> bool:
        return any(job.session == session and job.kind == "partial" for job in self._waiting)

    def _supersede(self, old: Callable[[Job], bool]) -> None:
        for job in [job for job in self._waiting if old(job)]:
            self._waiting.remove(job)
            self._drop(job)

    def _drop(self, job: Job) -> None:
        self.place.figures.jobs["superseded"] += 1
        job.answer(job, None, False)

    # Who goes next.

    def _dispatch(self) -> None:
        while self.state == "ready" and len(self._running) < self.workers:
            jobs = self._next()
            if not jobs:
                return
            for job in jobs:
                self._waiting.remove(job)
            batch = _Batch(jobs, self.place.kernel.now)
            self._running.append(batch)
            self.place.kernel.spawn(self._infer(batch, self._life))

    def _next(self) -> list[Job]:
        partials = self._ready_partials()
        urgent = sorted(
            (job for job in self._waiting if job.kind != "partial"),
            key=lambda job: _RANK[job.kind],
        )
        lead = self._lead(urgent, partials)
        if lead is None:
            return []
        alike = partials if lead.kind == "partial" else urgent
        if self.place.world.gpu:
            alike = [*urgent, *partials]
        company = [job for job in alike if job is not lead and not job.attempt]
        room = 0 if lead.attempt else self.max_batch - 1
        if lead.kind == "partial":
            self._partial_taken_at_s = self.place.kernel.now
        return [lead, *company[:room]]

    def _lead(self, urgent: list[Job], partials: list[Job]) -> Job | None:
        now_s = self.place.kernel.now
        first = partials[0] if partials and self._partials_may_lead() else None
        if self.place.faults.flood:
            return first or (urgent[0] if urgent else None)
        starved = (
            first is not None
            and now_s - first.asked_at_s > STARVED_S
            and now_s - self._partial_taken_at_s > STARVED_S
        )
        return urgent[0] if urgent and not starved else first

    def _partials_may_lead(self) -> bool:
        """One worker is kept for finals where there is a second."""
        if self.place.faults.flood or self.workers == 1:
            return True
        led = sum(batch.jobs[0].kind == "partial" for batch in self._running)
        return led < self.workers - 1

    def _ready_partials(self) -> list[Job]:
        """A session has one running at most."""
        running = {
            job.session for batch in self._running for job in batch.jobs if job.kind == "partial"
        }
        return [j for j in self._waiting if j.kind == "partial" and j.session not in running]

    # What it costs.

    def _infer(self, batch: _Batch, life: int) -> Task:
        place = self.place
        if self._hung:
            yield HANG_SEEN_S
            self._lose(life)
            return
        faults = place.faults
        if faults.memory_fill_s and self.grown >= faults.memory_room_bytes:
            yield 0.002
            self._lose(life)
            return
        began_s = place.kernel.now
        cold_s = 0.0
        if faults.cold_s:
            names = [job.session for job in batch.jobs]
            cold_s = self._cold.rest_s(names, faults.cold_s, began_s)
        if cold_s > 0:
            yield place.cores.work("engine", cold_s)
        warm_s = place.kernel.now
        yield from self._compute(self._work_s(batch.jobs))
        if batch in self._running:  # else it went down with its process
            self._answered(batch, warm_s - began_s, place.kernel.now - warm_s)

    def _work_s(self, jobs: list[Job]) -> float:
        world, faults = self.place.world, self.place.faults
        audio_s = sum(job.audio_s for job in jobs)
        more = 1 + world.marginal * (len(jobs) - 1)
        usual_s = world.fixed_s * more + world.per_audio_s * audio_s
        times = faults.slower * throttle(faults, self.place.since_s())
        if faults.flood and all(job.kind == "partial" for job in jobs):
            times *= faults.flood
        return usual_s * times * math.exp(self.place.random.gauss(0.0, world.spread))

    def _compute(self, seconds: float) -> Task:
        world, device = self.place.world, self.place.device
        if device is None:
            yield self.place.cores.work("engine", seconds, world.threads)
            return
        yield self.place.cores.work("engine", seconds * world.host_share)
        yield device.work("engine", seconds * (1 - world.host_share))

    def _answered(self, batch: _Batch, cold_s: float, took_s: float) -> None:
        place = self.place
        self._running.remove(batch)
        features_s = 0.01 * took_s
        decode_s = place.world.decode_share * took_s
        encode_s = took_s - features_s - decode_s + cold_s
        for job in batch.jobs:
            wait_s = max(batch.taken_at_s - job.asked_at_s, 0.0)
            cost = Cost(wait_s, features_s, encode_s, decode_s, len(batch.jobs))
            place.figures.jobs["done"] += 1
            self._served += job.kind != "partial"
            job.answer(job, cost, False)
        self._dispatch()

    def _look(self) -> Task:
        """How busy it is, and how often partials fit."""
        world, faults = self.place.world, self.place.faults
        while not self._closed:
            yield LOOK_S
            busy = min(len(self._running) / self.workers, 1.0)
            self._load += 0.15 * (busy - self._load)
            factor = 1.1 if self._load > 0.6 else 0.93 if self._load < 0.45 else 1.0
            slowest_s = max(SLOWEST_PARTIAL_S, world.partial_s)
            self.partial_s = min(max(self.partial_s * factor, world.partial_s), slowest_s)
            if faults.flood:
                self.partial_s = world.partial_s


def throttle(faults: Faults, now_s: float) -> float:
    """Times as long as an inference takes by now."""
    share = min(max(now_s, 0.0) / faults.throttling_s, 1.0)
    return 1.0 + (faults.throttled - 1.0) * share
