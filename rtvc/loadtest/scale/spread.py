"""Where the speakers of a run live: one process, several, or workers on other machines.

Speaker k belongs to part k mod N. So parts differ by one speaker at most, and whoever comes first,
by the ramp or by an order of a search, arrives evenly at all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from rtvc.errors import UsageError
from rtvc.loadtest.spec import LoadSpec

PARTS_FOLDER = "parts"
"""Of a run directory: what each generator records, until it is put together."""

MAX_PARTS = 256

BIND_PORT = 5557
WEB_PORT = 8089

Clip = TypeVar("Clip")


@dataclass(frozen=True, slots=True)
class Spread:
    """How many generators, and where they meet."""

    processes: int = 1
    """Generator processes on this machine."""
    workers: int = 0
    """Workers expected from other machines, which then do all the speaking; 0: none."""
    bind_host: str = "127.0.0.1"
    """Address at which workers are awaited; by default nobody else's."""
    bind_port: int = BIND_PORT
    """Its port."""
    patience_s: float = 120.0
    """Seconds until all workers must have come."""
    web_port: int | None = None
    """Port of Locust's page on this machine; None: no page."""

    @property
    def parts(self) -> int:
        """Generators of the run."""
        return self.workers or self.processes

    def check(self, speakers: int, *, storm: bool) -> None:
        """Raises UsageError for what cannot be spread so."""
        if not 1 <= self.parts <= MAX_PARTS:
            raise UsageError(f"expected 1 to {MAX_PARTS} generators, got {self.parts}")
        if self.workers and self.processes > 1:
            raise UsageError("expected --processes with each --worker, not with --master")
        if speakers < self.parts:
            raise UsageError(
                f"expected a speaker for each of {self.parts} generators, got {speakers}"
            )
        if storm and self.parts > 1:
            raise UsageError("expected one process for a connect storm: all come at one instant")
        if self.web_port is not None and self.processes > 1:
            raise UsageError(
                "expected --web with one process or with --master: Locust's page would show one "
                f"of {self.processes} processes"
            )


def shares(spec: LoadSpec) -> list[LoadSpec]:
    """What each generator of this machine is to do."""
    if spec.parts == 1:
        return [spec]
    return [share(spec, part) for part in range(spec.parts)]


def share(spec: LoadSpec, part: int) -> LoadSpec:
    return replace(spec, part=part, run_dir=str(part_folder(Path(spec.run_dir), part)))


def part_folder(run_dir: Path, part: int) -> Path:
    return run_dir / PARTS_FOLDER / str(part)


def only(deal: Sequence[Sequence[Clip]], numbers: range) -> list[list[Clip]]:
    """Clips of those speakers alone: a generator holds no more than it speaks."""
    return [list(clips) if number in numbers else [] for number, clips in enumerate(deal)]


def who(spec: LoadSpec) -> str:
    """The speakers of a part, as a person would say it."""
    numbers = list(spec.numbers)
    if len(numbers) == 1:
        return f"speaker {numbers[0]}"
    if len(numbers) <= 4:
        return f"speakers {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
    return f"{len(numbers)} speakers: {', '.join(map(str, numbers[:3]))}, …"
