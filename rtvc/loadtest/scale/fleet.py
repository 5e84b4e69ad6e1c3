"""Several generator processes on this machine, under one runner.

Each is an ordinary generator with its share of the speakers and a folder of its own. Nothing
connects them but a few files: the starting gun, the order of a search, the request to stop. One
that dies takes nobody with it, and none has to answer to another while it should be sending.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from rtvc.clock import Clock
from rtvc.errors import RtvcError
from rtvc.loadtest.runner import LOG_FILE, GeneratorProcess, why_nothing_ran
from rtvc.loadtest.scale.gather import Gathering
from rtvc.loadtest.scale.gun import AHEAD_S, StartGun
from rtvc.loadtest.scale.spread import shares, who
from rtvc.loadtest.spec import LoadSpec


class Fleet:
    """The processes, and how they are (`gather.Roster`)."""

    def __init__(self, spec: LoadSpec, folder: Path, clock: Clock) -> None:
        self._specs = shares(spec)
        self._clock = clock
        self._gun = StartGun(Path(spec.work_dir))
        self._started_at_s: float | None = None
        self._logs = [folder / _log_name(part) for part in range(spec.parts)]
        self._processes: list[GeneratorProcess] = []
        try:
            for each, log in zip(self._specs, self._logs, strict=True):
                self._processes.append(GeneratorProcess(each, log, clock))
        except BaseException:
            self.insist()
            raise
        self._status: dict[int, int] = {}
        self._ended: dict[int, str | None] = {}
        self._failure: RtvcError | None = None

    def look(self) -> None:
        for part, process in enumerate(self._processes):
            status = process.status()
            if status is not None and part not in self._status:
                self._note_end(part, status)
        if self._started_at_s is None and self._failure is None:
            self._start()

    def _note_end(self, part: int, status: int) -> None:
        self._status[part] = status
        if self._started_at_s is None:
            self._failure = self._failure or why_nothing_ran(self._logs[part])
            self.insist()
        self._ended[part] = None if status == 0 else self._what_happened(part, status)

    def _what_happened(self, part: int, status: int) -> str:
        after_s = self._clock.now() - (self._started_at_s or self._clock.now())
        return (
            f"generator process {part + 1} of {len(self._specs)} ({who(self._specs[part])}) "
            f"ended with status {status} after {max(0.0, after_s):.0f} s"
        )

    def _start(self) -> None:
        if not self._gun.not_ready(len(self._specs)):
            self._started_at_s = self._clock.now() + AHEAD_S
            self._gun.fire(self._started_at_s)

    @property
    def started(self) -> bool:
        return self._started_at_s is not None

    @property
    def running(self) -> bool:
        return self._failure is None and len(self._status) < len(self._processes)

    @property
    def ended(self) -> Mapping[int, str | None]:
        return self._ended

    @property
    def line(self) -> str:
        return f"starting {len(self._specs)} generator processes"

    @property
    def exit_status(self) -> int:
        return min(self._status.values(), key=abs, default=1)

    @property
    def failure(self) -> RtvcError | None:
        return self._failure

    def generators(self) -> list[dict[str, object]]:
        return [
            {"part": each.part, "process": process.pid, "speakers": len(each.numbers)}
            for each, process in zip(self._specs, self._processes, strict=True)
        ]

    def insist(self) -> None:
        for process in self._processes:
            process.insist()


def _log_name(part: int) -> str:
    """
    >>> _log_name(0), _log_name(1)
    ('generator.log', 'generator-1.log')
    """
    log = Path(LOG_FILE)
    return LOG_FILE if part == 0 else f"{log.stem}-{part}{log.suffix}"


def start_fleet(
    spec: LoadSpec, folder: Path, clock: Clock, say: Callable[[str], None]
) -> Gathering:
    """Raises RtvcError if a process cannot be started."""
    return Gathering(spec, Fleet(spec, folder, clock), clock, say)
