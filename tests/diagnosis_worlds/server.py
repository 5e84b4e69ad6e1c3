"""The server: its event loop, its threads, its engines, and all that it tells of itself."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.diagnosis_worlds.engine import Engine, Place, throttle
from tests.diagnosis_worlds.faults import Faults
from tests.diagnosis_worlds.figures import Figures, Readings
from tests.diagnosis_worlds.hearing import Hearing
from tests.diagnosis_worlds.kernel import Kernel, Task
from tests.diagnosis_worlds.machine import Processor, Thread
from tests.diagnosis_worlds.session import Client, Session
from tests.diagnosis_worlds.world import World

PROBE_S = 0.05
BOOK_S = 0.5
LEFT_BYTES = 256_000_000
SERVER_BYTES = 160_000_000
ENOUGH_SERVED = 20


class Server:
    """Alive from the start of time on; the first phase begins at `begun_s`."""

    def __init__(self, kernel: Kernel, world: World, faults: Faults) -> None:
        self.kernel, self.world = kernel, world
        self.random = random.Random(f"server {world.seed}")
        self.cores = Processor(kernel, world.cpus)
        self.device = Processor(kernel, 1.0) if world.gpu else None
        self.used_bytes = self.random.uniform(0.1, 0.4) * world.memory_bytes
        """Of the machine's memory, by others."""
        self.faults = _within(faults, world, self.used_bytes)
        self.figures = Figures(world)
        self.begun_s = math.inf
        self.loop = Thread(kernel, self.cores, "server", self.random)
        self._ears = Thread(kernel, self.cores, "server", self.random)
        self._judge = Thread(kernel, self.cores, "server", self.random)
        self.hearing = Hearing(kernel, world, self.faults, self.cores, self._ears, self.loop)
        self.sessions: dict[str, Session] = {}
        self._engines: dict[str, Engine] = {}
        self.shared = self._new_engine()
        self.started = kernel.spawn(self.shared.load())
        self.cores.want("other", world.noise_cores)
        for task in (self._probe(), self._block(), self._meet_neighbour(), self._book()):
            kernel.spawn(task)

    @property
    def since_s(self) -> float:
        """Seconds since the first phase began; negative before."""
        return self.kernel.now - self.begun_s

    def active(self) -> bool:
        """Whether what begins some time has begun."""
        return self.since_s >= self.faults.onset_s or not self.faults.onset_s

    @property
    def throttled(self) -> float:
        """Times as long as the device takes for everything by now."""
        return throttle(self.faults, self.since_s)

    @property
    def judges(self) -> bool:
        """Whether a turn model is asked."""
        return self.world.turn_model_s is not None or self.faults.judging_s > 0

    # Sessions.

    def way_s(self) -> float:
        """How long the network takes now, one way."""
        way_s = self.world.network_s * self.random.uniform(1, 1 + self.world.jitter)
        if self.faults.way_s and self.active():
            way_s += self.faults.way_s * self.random.uniform(0.75, 1.25)
        return way_s

    def open(self, name: str, client: Client, created: Callable[[Session], None]) -> None:
        """The socket is accepted; `created` is called when the session is usable."""
        self.figures.opens += 1
        self.kernel.spawn(self._open(name, client, created))

    def _open(self, name: str, client: Client, created: Callable[[Session], None]) -> Task:
        engine = self.shared
        if self.faults.own_model_s is not None:
            engine = self._engines[name] = self._new_engine()
            yield self.kernel.spawn(engine.load(self.faults.own_model_s))
        yield self.loop.finish_s(0.0006) - self.kernel.now
        session = self.sessions[name] = Session(self, name, engine, client)
        created(session)

    def arrived(self, session: Session, received_s: float) -> None:
        """A message with audio up to there is at the socket."""
        self.figures.messages["in"] += 1
        self.figures.sent_bytes["in"] += 1330
        self.loop.call(self.world.message_s, self._take, session, received_s)

    def _take(self, session: Session, received_s: float) -> None:
        held_s = self.faults.held_s if self.active() else 0.0
        if not held_s and session.held_until_s <= self.kernel.now:
            session.append(received_s)
            return
        session.held_until_s = max(session.held_until_s, self.kernel.now + held_s)
        self.kernel.at(session.held_until_s, session.append, received_s)

    def send(self, session: Session, call: Callable[..., None], *told: Any, bytes_: int) -> None:
        """Tell the client of a session; it is told when it comes to it."""
        self.figures.messages["out"] += 1
        self.figures.sent_bytes["out"] += bytes_
        sent_s = self.loop.finish_s(self.world.message_s)
        self.kernel.at(sent_s, session.client.deliver, call, told)

    def close(self, session: Session) -> None:
        """The client has hung up."""
        session.closed = True
        self.figures.closes["1000"] += 1
        self.sessions.pop(session.name, None)
        session.engine.cancel(session.name)
        self.drop_engine(session.name)

    def drop_engine(self, name: str) -> None:
        """A session's own goes with it."""
        engine = self._engines.pop(name, None)
        if engine is not None:
            engine.close()

    def judge(self, answer: Callable[[], None]) -> None:
        """Ask whether a turn is over; one question at a time."""
        self._judge.finish_s((self.world.turn_model_s or 0.001) + 0.0005)
        done_s = self._judge.finish_s(self.faults.judging_s, computing=False)
        self.kernel.at(done_s, self.loop.call, 0.0002, answer)

    def _new_engine(self) -> Engine:
        return Engine(
            Place(
                self.kernel, self.world, self.faults, self.cores, self.device, self.figures,
                self.random, lambda: self.since_s,
            )
        )  # fmt: skip

    # What goes on beside them.

    def _probe(self) -> Task:
        while True:
            yield PROBE_S
            due_s = self.kernel.now
            yield self.loop.finish_s(0.00002) - due_s
            wake_s = self.random.expovariate(1 / 0.0003)
            self.figures.lag(self.kernel.now, self.kernel.now - due_s + wake_s)

    def _block(self) -> Task:
        if not self.faults.blocked_s:
            return
        while True:
            yield self.faults.running_s * self.random.uniform(0.9, 1.1)
            if self.active():
                # A library that waits, or computes, where it must not.
                yield self.loop.finish_s(self.faults.blocked_s, computing=False) - self.kernel.now

    def _meet_neighbour(self) -> Task:
        faults = self.faults
        if not faults.neighbour:
            return
        while not self.active() or self.since_s < -3:
            yield 0.1
        if self.device is not None:
            self.device.want("neighbour", faults.neighbour)
            self.cores.want("neighbour", min(faults.neighbour, 1.0) * 0.5)
        else:
            self.cores.want("neighbour", faults.neighbour)

    def _book(self) -> Task:
        """Small pieces of work take room on the cores, too."""
        before_s = 0.0
        while True:
            yield BOOK_S
            small_s = self.cores.small_s
            self.cores.want("(small)", (small_s - before_s) / BOOK_S)
            before_s = small_s

    # What it tells.

    @property
    def engines(self) -> list[Engine]:
        """Processes with a model."""
        own = [engine for engine in self._engines.values() if engine.state != "loading"]
        return own if self.faults.own_model_s is not None else [self.shared]

    @property
    def memory_bytes(self) -> float:
        """Of the server and its engines, in RAM."""
        loading = [e for e in self._engines.values() if e.state == "loading"]
        in_ram = 0.3 if self.world.gpu else 1.0
        models = sum(in_ram * e.model_bytes + e.grown for e in [*self.engines, *loading])
        return SERVER_BYTES + 2_000_000 * len(self.sessions) + models

    @property
    def cpu_s(self) -> float:
        """Of the server and all its descendants."""
        used_s = self.cores.used_s("server") + self.cores.used_s("engine")
        child = self.faults.neighbour_is_child
        return used_s + (self.cores.used_s("neighbour") if child else 0.0)

    def readings(self) -> Readings:
        """One scrape."""
        return self.figures.readings(self.kernel.now, self._gauges())

    def _gauges(self) -> dict[str, float | None]:
        engines, world = self.engines, self.world
        backlogs_s = [session.backlog_s for session in self.sessions.values()]
        alive = [engine for engine in engines if engine.state == "ready"]
        engine_bytes = sum(e.model_bytes + e.grown for e in engines)
        count = max(len(engines), 1)
        return {
            "rtvc_ready": 1.0,
            'rtvc_build_info{version="0.1.0"}': 1.0,
            "rtvc_open_sessions": float(len(self.sessions)),
            "rtvc_max_sessions": 32.0,
            "rtvc_refused_sessions_total": 0.0,
            "rtvc_headroom_sessions": self._headroom(),
            "rtvc_partial_interval_seconds": max((e.partial_s for e in engines), default=0.0),
            "restarting": float(any(e.state == "restarting" for e in engines)),
            "rtvc_engine_queued_jobs": float(sum(e.queued for e in engines)),
            "rtvc_engine_backlog_seconds": sum(e.backlog_s for e in engines),
            "rtvc_engine_max_batch_jobs": float(self.shared.max_batch),
            "rtvc_engine_workers": float(self.shared.workers * count),
            "rtvc_engine_worker_threads": float(world.threads),
            "rtvc_engine_processes": float(count),
            "rtvc_model_load_seconds": 0.6 * world.load_s,
            "rtvc_model_warm_up_seconds": 0.4 * world.load_s,
            "rtvc_inbox_backlog_seconds": sum(backlogs_s),
            "rtvc_inbox_backlog_max_seconds": max(backlogs_s, default=None),
            "rtvc_unsent_messages": 0.0,
            "rtvc_usable_cpus": float(world.cpus),
            'rtvc_processes{process="server"}': 1.0,
            'rtvc_processes{process="engine"}': float(len(alive)),
            'rtvc_process_cpu_seconds_total{process="server"}': self.cores.used_s("server"),
            'rtvc_process_cpu_seconds_total{process="engine"}': self.cores.used_s("engine"),
            'rtvc_process_resident_memory_bytes{process="server"}': float(SERVER_BYTES),
            'rtvc_process_resident_memory_bytes{process="engine"}': engine_bytes,
            'rtvc_process_threads{process="server"}': 10.0,
            'rtvc_process_threads{process="engine"}': 4.0 * len(alive),
            'rtvc_process_open_files{process="server"}': 20.0 + len(self.sessions),
            'rtvc_process_open_files{process="engine"}': 4.0 * len(alive),
        }

    def _headroom(self) -> float | None:
        engine, sessions = self.shared, len(self.sessions)
        if self.faults.own_model_s is not None or engine.served < ENOUGH_SERVED or not sessions:
            return None
        return max(sessions * (0.8 / max(engine.busy_share, 0.02) - 1), 0.0)


def _within(faults: Faults, world: World, used_bytes: float) -> Faults:
    """What grows is left no more than the machine has."""
    if not faults.memory_fill_s:
        return faults
    free = world.memory_bytes - used_bytes - SERVER_BYTES - 1.1 * world.model_bytes - LEFT_BYTES
    room = max(min(faults.memory_room_bytes, free), LEFT_BYTES)
    return replace(faults, memory_room_bytes=room)
