# mypy: disable-error-code="no-untyped-call, untyped-decorator"
"""What Locust runs: a generator, alone or as a worker, or the master of such workers. Importing
Locust patches the process, so this file is only ever loaded by `python -m locust -f` in a process
of its own.

Locust carries the messages of a distributed test, counts users and shows its own live figures.
Every sample we judge by is kept by us, because its percentiles are bucketed; and the speakers are
greenlets of ours, because it moves users between workers when it thinks that one is missing.
"""

import contextlib
import gc
import json
import os
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import gevent
import locust.runners
from gevent.event import Event
from locust import User, events, task
from locust.env import Environment
from locust.exception import RPCError, StopUser
from locust.runners import MasterRunner, WorkerRunner

from rtvc.clock import SystemClock
from rtvc.loadtest.scale.crew import TICK_S, Crew
from rtvc.loadtest.scale.gun import LISTEN_S, StartGun
from rtvc.loadtest.scale.recruit import Recruit
from rtvc.loadtest.scale.words import BEAT_S, FROM_MASTER, FROM_WORKER, PREFIX, Data
from rtvc.loadtest.speakers.clips import Cast, load_cast
from rtvc.loadtest.speakers.generator import Generator, Report
from rtvc.loadtest.spec import LoadSpec, load_spec
from rtvc.record import RunWriter, load_manifest

PRIORITY = -10
"""As of `nice`; takes a privilege."""

BUSY_S = 12
"""A worker that is busy for so long is still there, and so is a master."""

FAREWELL_S = 30.0
"""For the master to confirm that it has everything."""

locust.runners.HEARTBEAT_LIVENESS = BUSY_S
locust.runners.MASTER_HEARTBEAT_TIMEOUT = BUSY_S


class MissingError(Exception):
    """Something that should have come and did not, as Locust shows it."""


class Role(Protocol):
    """What this process is in the load test."""

    over: Event
    """Set when there is nothing more to do; Locust's users wait for it."""

    def start(self) -> None:
        """Locust has begun its test."""

    def stop(self) -> None:
        """Locust ends its test, because somebody pressed the button on its page or because
        we are done."""


def _reporter(environment: Environment) -> Report:
    def report(name: str, seconds: float | None, wrong: str | None) -> None:
        environment.events.request.fire(
            request_type="call",
            name=name,
            response_time=None if seconds is None else seconds * 1000,
            response_length=0,
            exception=MissingError(wrong) if wrong else None,
            context={},
        )

    return report


@events.init_command_line_parser.add_listener
def _add_options(parser: ArgumentParser, **_: Any) -> None:
    parser.add_argument("--rtvc-spec", help="file written by `rtvc loadtest`")
    parser.add_argument("--rtvc-worker", help="private folder of a worker")
    parser.add_argument("--rtvc-patience", type=float, default=120.0, help="seconds for workers")


def _leave(environment: Environment) -> None:
    """End this process in order."""
    if environment.web_ui is not None:
        environment.web_ui.stop()
    if environment.runner is not None:
        environment.runner.quit()


def _settle() -> None:
    """What exists now lives as long as the process: the collector need not look at it again, and
    a collection in the middle of a second would show as lag of every speaker. On a busy machine
    the clock of the measurement goes first; where that is not allowed, the run shows its lag as
    ever."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)


def _talk(
    environment: Environment,
    spec: LoadSpec,
    cast: Cast,
    zero_s: float | None,
    on_start: Callable[[], None] = lambda: None,
) -> None:
    """The speakers of this process, from the first to the last word."""
    writer = RunWriter(Path(spec.run_dir), load_manifest(Path(spec.work_dir)), SystemClock())
    report = _reporter(environment)
    generator = Generator(
        spec, writer, SystemClock(), cast.microphone, report, cast.frames, zero_s=zero_s
    )
    on_start()
    generator.start()
    generator.watch()


class _Alone:
    """A generator that was started from here; everything heavy is done before its clock starts."""

    def __init__(self, environment: Environment) -> None:
        options: Any = environment.parsed_options
        self._environment = environment
        self._spec = load_spec(Path(options.rtvc_spec))
        self._cast = load_cast(self._spec)
        self.over = Event()

    def start(self) -> None:
        gevent.spawn(self._run)

    def _run(self) -> None:
        try:
            _settle()
            _talk(self._environment, self._spec, self._cast, self._wait_for_shot())
            self._environment.process_exit_code = 0
        finally:
            self.over.set()
            _leave(self._environment)

    def _wait_for_shot(self) -> float | None:
        """When to begin, if there are others to begin with."""
        if self._spec.parts == 1:
            return None
        gun, parent = StartGun(Path(self._spec.work_dir)), os.getppid()
        gun.ready(self._spec.part)
        while (shot_s := gun.fired_at_s()) is None and os.getppid() == parent:
            gevent.sleep(LISTEN_S)
        if shot_s is not None:
            gevent.sleep(max(0.0, shot_s - SystemClock().now()))
        return shot_s

    def stop(self) -> None:
        if not self.over.is_set():
            self._spec.page_stop_file.touch()
            self._spec.stop_file.touch()


class _Conducting:
    """The master: says who speaks, and keeps what is heard; it makes no load itself."""

    def __init__(self, environment: Environment, runner: MasterRunner) -> None:
        options: Any = environment.parsed_options
        self._environment = environment
        self._spec = load_spec(Path(options.rtvc_spec))
        self._page = not options.headless
        self.over = Event()

        def send(kind: str, data: Data, client: str) -> None:
            runner.send_message(PREFIX + kind, data, client_id=client)

        manifest = json.loads(json.dumps(asdict(load_manifest(Path(self._spec.work_dir)))))
        clock = SystemClock()
        self._crew = Crew(self._spec, manifest, send, clock, options.rtvc_patience)
        for kind in FROM_WORKER:
            runner.register_message(PREFIX + kind, self._receive)
        gevent.spawn(self._conduct)

    def _receive(self, msg: Any, **_: Any) -> None:
        self._crew.receive(msg.type.removeprefix(PREFIX), msg.data, msg.node_id)

    def _conduct(self) -> None:
        self._environment.process_exit_code = 1
        parent = os.getppid()
        try:
            while not self._crew.over and os.getppid() == parent:
                self._crew.tick()
                gevent.sleep(TICK_S)
            self._crew.tick()
            if self._crew.failed is None:
                self._environment.process_exit_code = 0
        finally:
            self.over.set()
            _leave(self._environment)

    def start(self) -> None:
        """Our own messages decide when the speakers start."""

    def stop(self) -> None:
        # Without a page Locust ends its test only if it has lost sight of everybody.
        if self._page and not self.over.is_set():
            self._spec.page_stop_file.touch()
            self._spec.stop_file.touch()


class _Working:
    """A worker: what it says and hears goes to the master."""

    def __init__(self, environment: Environment, runner: WorkerRunner) -> None:
        options: Any = environment.parsed_options
        self._environment = environment
        self.over = Event()

        def send(kind: str, data: Data) -> None:
            try:
                runner.send_message(PREFIX + kind, data)
            except RPCError as error:
                raise ConnectionError(str(error)) from error

        self._recruit = Recruit(Path(options.rtvc_worker), send)
        for kind in FROM_MASTER:
            runner.register_message(PREFIX + kind, self._receive)
        environment.process_exit_code = 1
        gevent.spawn(self._work)

    def _receive(self, msg: Any, **_: Any) -> None:
        self._recruit.receive(msg.type.removeprefix(PREFIX), msg.data)

    def start(self) -> None:
        """Our own messages decide when the speakers start."""

    def stop(self) -> None:
        """So they do when they stop."""

    def _work(self) -> None:
        try:
            self._recruit.hello()
            self._serve()
        finally:
            self.over.set()
            _leave(self._environment)

    def _serve(self) -> None:
        recruit = self._recruit
        if not self._wait(lambda: recruit.spec is not None) or recruit.spec is None:
            return
        spec = recruit.spec
        # In a thread: who does not answer for a while is taken to be gone.
        cast: Cast = gevent.get_hub().threadpool.apply(load_cast, (spec,))
        _settle()
        recruit.ready()
        if not self._wait(lambda: recruit.called):
            return
        helpers = [gevent.spawn(self._ship), gevent.spawn(self._watch_door, spec)]
        try:
            _talk(self._environment, spec, cast, None, recruit.has_started)
        finally:
            gevent.killall(helpers)
        self._bid_farewell()

    def _wait(self, until: Callable[[], bool]) -> bool:
        """Whether it came to that; not if somebody ends this worker first, here or there."""
        parent = os.getppid()
        while not until():
            if self._recruit.refused is not None or os.getppid() != parent:
                return False
            if self._recruit.leave_file.exists():
                self._recruit.give_up("was stopped there")
                return False
            gevent.sleep(LISTEN_S)
        return True

    def _ship(self) -> None:
        while True:
            gevent.sleep(BEAT_S)
            self._recruit.report()

    def _watch_door(self, spec: LoadSpec) -> None:
        while not self._recruit.leave_file.exists():
            gevent.sleep(BEAT_S / 5)
        spec.stop_file.touch()

    def _bid_farewell(self) -> None:
        """Stay until the master has all of it."""
        for _ in range(int(FAREWELL_S / BEAT_S)):
            self._recruit.done()
            with gevent.Timeout(BEAT_S, exception=False):
                while not self._recruit.dismissed and self._recruit.refused is None:
                    gevent.sleep(LISTEN_S)
            if self._recruit.dismissed:
                self._environment.process_exit_code = 0
                return
            if self._recruit.refused is not None:
                return
        self._recruit.complain("the master did not confirm that it has all that was recorded")


_ROLES: dict[Environment, Role] = {}
"""One per environment, and there is one environment a process."""


@events.init.add_listener
def _prepare(environment: Environment, runner: Any, **_: Any) -> None:
    if isinstance(runner, MasterRunner):
        _ROLES[environment] = _Conducting(environment, runner)
    elif isinstance(runner, WorkerRunner):
        _ROLES[environment] = _Working(environment, runner)
    else:
        _ROLES[environment] = _Alone(environment)


@events.test_start.add_listener
def _start(environment: Environment, **_: Any) -> None:
    _ROLES[environment].start()


@events.test_stopping.add_listener
def _stop(environment: Environment, **_: Any) -> None:
    _ROLES[environment].stop()


class Caller(User):
    """A place for one simulated speaker in Locust's figures."""

    @task
    def attend(self) -> None:
        _ROLES[self.environment].over.wait()
        raise StopUser
