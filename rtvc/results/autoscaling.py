"""Days of a fleet that grows and shrinks, as simulated: records and a file.

    run.json  fleet.json  report.html

Seconds and shares are stored; units are converted where they are drawn.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rtvc.errors import RecordError, why
from rtvc.record import check_version, read_json
from rtvc.record.files import write_json

SCHEMA = 1
"""Of the file; a reader refuses another one."""

FLEET_FILE = "fleet.json"

REFUSED_AT_MOST = 0.001
"""Part of a day's callers."""

TIMES_AT_MOST = 1.35
"""Instance-hours, as a multiple of the fewest that anybody could have paid."""


@dataclass(frozen=True, slots=True)
class DayRow:
    """One day under one policy."""

    name: str
    """As it is told from others."""
    seed: int
    """Of all that is drawn."""
    calls: int
    """That came."""
    refused: int
    """Of these."""
    cut: int
    """Calls that scale-in ended."""
    instance_s: float
    """Paid, over all instances."""
    bound_s: float
    """Nobody who serves the same calls pays less, even if every call is known beforehand."""
    packed_s: float | None
    """Somebody who knows every call beforehand pays no more; None: not worked out."""
    most: int
    """Instances wanted at most."""
    least: int
    """Instances wanted at least."""
    wait_p50_s: float | None
    """After which a refused caller would have found room; None: nobody was refused."""
    wait_max_s: float | None
    """The longest of these; infinite: not that day."""

    @property
    def refused_share(self) -> float:
        return self.refused / self.calls if self.calls else 0.0

    @property
    def times(self) -> float:
        """As much as was needed.

        >>> DayRow("", 0, 10, 0, 0, 90.0, 60.0, None, 2, 1, None, None).times
        1.5
        """
        return self.instance_s / self.bound_s if self.bound_s else math.inf

    @property
    def met(self) -> bool:
        """Whether it is as a day should be."""
        return (
            self.refused_share <= REFUSED_AT_MOST and not self.cut and self.times <= TIMES_AT_MOST
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """A few minutes of a day."""

    at_s: float
    """Since midnight: they begin."""
    arrivals: int
    """Callers who came in them."""
    refused: int
    """Of these."""
    calls: int
    """At once, at their beginning."""
    instances: int
    """Paid, at their beginning."""
    wanted: int
    """By target tracking."""
    aside: int
    """Instances that get no more calls."""
    optimum: int
    """Instances of whoever pays least and knows every call beforehand."""


@dataclass(frozen=True, slots=True)
class FleetRun:
    """All of it."""

    sentence: str
    """The answer, for a person."""
    capacity: int
    """Sessions that an instance holds."""
    capacity_from: str
    """Where that number comes from."""
    policy: dict[str, float]
    """Numbers of the policy, by their names in its file."""
    days: tuple[DayRow, ...]
    """As the fleet is set up; at least one."""
    moments: tuple[Moment, ...]
    """Of the first of them."""
    every_s: float
    """Length of a moment."""
    others: tuple[DayRow, ...] = ()
    """The first day again, as it would be otherwise."""
    assumptions: tuple[str, ...] = ()
    """What it rests on, a line each."""
    seconds: float | None = None
    """It took; None: not written down."""
    schema: int = field(default=SCHEMA)
    """Of the file."""

    @property
    def met(self) -> bool:
        """Whether every day is as it should be."""
        return all(day.met for day in self.days)


def worst(days: Sequence[DayRow]) -> tuple[float, int, float]:
    """(share refused, calls cut, times the least): each the worst of any day; at least one."""
    return (
        max(day.refused_share for day in days),
        max(day.cut for day in days),
        max(day.times for day in days),
    )


def to_json(run: FleetRun) -> dict[str, Any]:
    """Plain JSON values; JSON has no infinity, so what never happened is "inf"."""
    plain: dict[str, Any] = _plain(asdict(run))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return "inf" if value == math.inf else value


def is_fleet(folder: Path) -> bool:
    """Whether a folder holds a simulated fleet rather than a run."""
    return (Path(folder) / FLEET_FILE).is_file()


def write_fleet(folder: Path, run: FleetRun) -> Path:
    """Whole or not at all; returns the file's path.

    Raises:
        RecordError: it cannot be written.
    """
    path = Path(folder) / FLEET_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, to_json(run))
    except OSError as error:
        raise RecordError(f"cannot write {path}: {why(error)}") from error
    return path


def load_fleet(folder: Path) -> FleetRun:
    """Read what `write_fleet` wrote.

    Raises:
        RecordError: there is none, or it cannot be understood.
    """
    path = Path(folder) / FLEET_FILE
    content = read_json(path)
    check_version(path, content.get("schema"), SCHEMA)
    try:
        return TypeAdapter(FleetRun).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {where}: {first['msg']}") from error
