"""Starts whatever a run is made of: one generator process, several, or a master of workers."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from rtvc.clock import Clock
from rtvc.loadtest.runner import LOG_FILE, Ended, GeneratorProcess
from rtvc.loadtest.scale.fleet import start_fleet
from rtvc.loadtest.scale.master import start_master
from rtvc.loadtest.scale.spread import Spread
from rtvc.loadtest.spec import LoadSpec


class Generators(Protocol):
    """One or more generators at work."""

    def wait(self, on_poll: Callable[[], None]) -> Ended:
        """Until they end; `on_poll` is called again and again meanwhile."""


def start_generators(
    spec: LoadSpec, spread: Spread, folder: Path, clock: Clock, say: Callable[[str], None]
) -> Generators:
    """`say` is told what is being waited for."""
    if spec.web_port is not None:
        say(f"Locust's page: http://127.0.0.1:{spec.web_port}")
    if spread.workers:
        return start_master(spec, spread, folder, clock, say)
    if spread.processes > 1:
        return start_fleet(spec, folder, clock, say)
    return GeneratorProcess(spec, folder / LOG_FILE, clock)
