# mypy: disable-error-code="no-untyped-call, untyped-decorator"
"""What Locust runs: one user per simulated speaker. Importing Locust patches the process, so
this file is only ever loaded by `python -m locust -f` in a process of its own.

Locust counts users and shows its own live figures; every sample we judge by is kept by us,
because its percentiles are bucketed.
"""

import contextlib
import gc
import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import gevent
from locust import User, events, task
from locust.env import Environment
from locust.exception import StopUser

from rtvc.clock import SystemClock
from rtvc.loadtest.clips import load_cast
from rtvc.loadtest.generator import Generator, Report
from rtvc.loadtest.spec import load_spec
from rtvc.record import RunWriter, load_manifest

PRIORITY = -10
"""As of `nice`; takes a privilege."""


class MissingError(Exception):
    """Something that should have come and did not, as Locust shows it."""


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
def _add_spec_option(parser: ArgumentParser, **_: Any) -> None:
    parser.add_argument("--rtvc-spec", required=True, help="file written by `rtvc loadtest`")


def _ask_for_priority() -> None:
    """On a busy machine the clock of the measurement goes first; where that is not allowed, the
    run shows its lag as ever."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)


class _Prepared:
    """Everything heavy, done before the clock starts."""

    def __init__(self, environment: Environment) -> None:
        options: Any = environment.parsed_options
        self.spec = load_spec(Path(options.rtvc_spec))
        self._environment = environment
        self._cast = load_cast(self.spec)
        self._generator: Generator | None = None

    def start(self) -> None:
        manifest = load_manifest(Path(self.spec.work_dir))
        writer = RunWriter(Path(self.spec.run_dir), manifest, SystemClock())
        # What exists now lives as long as the process: the collector need not look at it again,
        # and a collection in the middle of a second would show as lag of every speaker.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        _ask_for_priority()
        report = _reporter(self._environment)
        cast = self._cast
        self._generator = Generator(
            self.spec, writer, SystemClock(), cast.microphone, report, cast.frames
        )
        gevent.spawn(self._watch, self._generator)

    def _watch(self, generator: Generator) -> None:
        runner = self._environment.runner
        try:
            generator.watch()
            self._environment.process_exit_code = 0
        finally:
            if runner is not None:
                runner.quit()

    def run_speaker(self) -> None:
        if self._generator is not None:
            self._generator.run_speaker()


_PREPARED: dict[Environment, _Prepared] = {}
"""One per environment, and there is one environment a process."""


@events.init.add_listener
def _prepare(environment: Environment, **_: Any) -> None:
    _PREPARED[environment] = _Prepared(environment)


@events.test_start.add_listener
def _start(environment: Environment, **_: Any) -> None:
    _PREPARED[environment].start()


class Caller(User):
    """One simulated speaker; everything it does is in `Generator.run_speaker`."""

    @task
    def call(self) -> None:
        _PREPARED[self.environment].run_speaker()
        raise StopUser
