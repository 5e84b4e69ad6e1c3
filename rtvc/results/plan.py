"""A plan: what was assumed, what instances would hold, what a fleet would cost. Records and a file.

    run.json  plan.json  report.html

Seconds, bytes and dollars are stored; units are converted where they are drawn.
"""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rtvc.errors import RecordError, why
from rtvc.record import check_version, read_json
from rtvc.record.files import write_json

SCHEMA = 1
"""Of the file; a reader refuses another one."""

PLAN_FILE = "plan.json"

CLOSE_SHARE = 0.15
"""Of what was measured: by so much a prediction may be off."""

CLOSE_SPEAKERS = 1
"""Or by so many speakers."""


@dataclass(frozen=True, slots=True)
class Point:
    """One number of sessions, simulated."""

    sessions: int
    """Who wanted to talk."""
    n: int
    """Utterances that count."""
    delay_p50_s: float | None
    """True end of speech → final transcript; None: too few utterances."""
    delay_p95_s: float | None
    """The same; infinite if so many finals never came."""
    delay_p99_s: float | None
    """The same."""
    partial_interval_p50_s: float | None
    """Between two texts of an utterance while it goes on; None: no partials."""
    missing: int
    """Finals that never came."""
    refused: int
    """Sessions turned away."""
    mean_batch: float | None
    """Utterances in an inference; None: there was none."""
    busy: float
    """Part of the workers' time that was taken up."""
    own_work: float
    """Part of one core that the server's own process wanted; from 1 on it falls behind."""
    headroom_sessions: float | None
    """More sessions that the server's own estimate would have let in; None: it has none."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a load test found of the same."""

    folder: str
    """Name of its run directory."""
    holds: int
    """Most speakers that met every target."""
    fails_at: int | None
    """Fewest that did not; None: not found."""
    target_s: float | None
    """Transcription delay p95 that it was searched for; None: by other objectives only."""


@dataclass(frozen=True, slots=True)
class Service:
    """How long inferences take, as fitted."""

    base_s: float
    """Of an inference, whatever its size."""
    each_s: float
    """Of each utterance in it."""
    audio_s: float
    """Seconds of audio of the utterances measured, on average."""
    grows_per_s: float
    """Part by which a second more of audio lengthens it."""
    variation: float
    """Standard deviation about the line, as a part of it."""
    n: int
    """Inferences measured."""
    most_jobs: int
    """Utterances in the largest of them."""
    contention: tuple[tuple[int, float], ...]
    """(inferences at once, times as long as alone), as measured."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run a model, and what it would hold."""

    name: str
    """As it is told from the others."""
    model: str
    """As the user named it."""
    model_kind: str
    """"whisper", "synthetic weights", …"""
    device: str
    """"cpu" or "cuda"."""
    sharing: str
    """"shared", "pool:K" or "per-session"."""
    gpus: int
    """GPUs; 1 where there is none."""
    workers: int
    """Inferences at once, of each engine."""
    threads: int
    """CPU threads of one."""
    max_batch: int
    """Utterances in one, while few wait."""
    partials: str
    """"adaptive", "flat-out" or "off"."""
    partial_interval_s: float
    """Audio between two partials at least."""
    silence_s: float | None
    """Silence that ends a turn; None: 0.25 s, longer while the text is not there."""
    service: Service
    """What it was worked out from."""
    holds: int
    """Most sessions that met every target; 0: not even one."""
    fails_at: int | None
    """Fewest that did not; None: the search ended before one was found."""
    binding: str | None
    """What a session more would miss; None: nothing was found."""
    points: tuple[Point, ...] = ()
    """Numbers of sessions that were simulated, rising."""
    load_s: float | None = None
    """Seconds that a session waits for a model of its own; None: it waits for none."""
    memory_bytes: int | None = None
    """Of all models at `holds` sessions; None: it was not measured."""
    serve_flags: tuple[str, ...] = ()
    """Of `rtvc serve`; empty: it does not run this engine."""
    measured: Measured | None = None
    """What a load test found; None: none was named."""

    @property
    def off_by(self) -> float | None:
        """Predicted ÷ measured − 1; None: nothing was measured, or not one speaker was held."""
        if self.measured is None or not self.measured.holds:
            return None
        return self.holds / self.measured.holds - 1

    @property
    def close(self) -> bool | None:
        """Whether prediction and measurement agree; None: nothing was measured, or a search ended
        before anything failed, which refutes only a prediction of less."""
        if self.measured is None:
            return None
        apart = abs(self.holds - self.measured.holds)
        near = apart <= max(CLOSE_SPEAKERS, CLOSE_SHARE * self.measured.holds)
        if self.measured.fails_at is None:
            return None if near or self.holds > self.measured.holds else False
        return near


@dataclass(frozen=True, slots=True)
class Demand:
    """Who calls, in the busiest hour."""

    users: int
    """People who use the service at all."""
    calls_per_day: float
    """Calls of one of them on a busy day."""
    call_s: float
    """Seconds of a call, on average."""
    busy_hour_share: float
    """Part of the day's calls that come in its busiest hour."""

    @property
    def calls_per_hour(self) -> float:
        """In the busiest hour."""
        return self.users * self.calls_per_day * self.busy_hour_share

    @property
    def erlangs(self) -> float:
        """Calls at once on average, were none refused: arrivals × length (Little's law).

        >>> Demand(10_000, 1.0, 300.0, 0.15).erlangs
        125.0
        """
        return self.calls_per_hour * self.call_s / 3600


@dataclass(frozen=True, slots=True)
class FleetRow:
    """One kind of instance, and how many of it the demand takes."""

    instance: str
    """As the provider names it; "this machine" for the one that was measured."""
    gpu: str | None
    """Its GPUs; None: it has none."""
    gpus: int
    """How many; 0: none."""
    speed: float | None
    """Times as fast as what was measured; None: nothing is known."""
    basis: str
    """"measured", "given" or "extrapolated"; or why nothing can be said."""
    sessions_each: int | None
    """What one holds; None: nothing can be said."""
    limited_by: str | None
    """"inference", "memory of the GPU" or "vCPUs"; None: nothing can be said."""
    instances: int | None
    """Needed; None: nothing can be said, or one does not hold a single session."""
    refused: float | None
    """Part of the calls of the busiest hour that would be refused."""
    waiting: float | None
    """Part that would have to wait, were callers queued instead of refused."""
    simulated_refused: float | None
    """As `refused`, from calls that were counted one by one; None: not simulated."""
    usd_per_hour: float | None
    """Of one instance, on demand; None: no price is known."""

    @property
    def fleet_usd_per_hour(self) -> float | None:
        if self.instances is None or self.usd_per_hour is None:
            return None
        return self.instances * self.usd_per_hour

    @property
    def fleet_usd_per_month(self) -> float | None:
        """Running all the time: 730 hours."""
        hourly = self.fleet_usd_per_hour
        return None if hourly is None else 730 * hourly


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it."""

    sentence: str
    """The answer, for a person."""
    sources: tuple[str, ...]
    """Names of the runs that service times came from."""
    delay_target_s: float
    """Transcription delay p95 that a held session has."""
    partial_target_s: float | None
    """Median time between texts that it has at most; None: not asked for."""
    scenario: str
    """What people do."""
    variants: tuple[Variant, ...]
    """What was asked about."""
    assumptions: tuple[str, ...]
    """What it rests on, a line each."""
    demand: Demand | None = None
    """None: no fleet was asked for."""
    refused_target: float | None = None
    """Part of the calls that may be refused; None: no fleet was asked for."""
    fleet: tuple[FleetRow, ...] = ()
    """Kinds of instances, the cheapest first."""
    prices: str | None = None
    """Where prices come from, and when; None: none are shown."""
    seed: int = 0
    """Of everything that is drawn."""
    seconds: float | None = None
    """It took; None: not written down."""
    schema: int = field(default=SCHEMA)
    """Of the file."""

    @property
    def agrees(self) -> bool | None:
        """Whether all predictions were near what was measured; None: nothing was."""
        judged = [variant.close for variant in self.variants if variant.close is not None]
        return all(judged) if judged else None


def to_json(plan: Plan) -> dict[str, Any]:
    """Plain JSON values; JSON has no infinity, so an answer that never came is "inf"."""
    plain: dict[str, Any] = _plain(asdict(plan))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return "inf" if value == math.inf else value


def is_plan(folder: Path) -> bool:
    """Whether a folder holds a plan rather than a run."""
    return (Path(folder) / PLAN_FILE).is_file()


def write_plan(folder: Path, plan: Plan) -> Path:
    """Whole or not at all; returns the file's path.

    Raises:
        RecordError: it cannot be written.
    """
    path = Path(folder) / PLAN_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, to_json(plan))
    except OSError as error:
        raise RecordError(f"cannot write {path}: {why(error)}") from error
    return path


def load_plan(folder: Path) -> Plan:
    """Read what `write_plan` wrote.

    Raises:
        RecordError: there is none, or it cannot be understood.
    """
    path = Path(folder) / PLAN_FILE
    content = read_json(path)
    check_version(path, content.get("schema"), SCHEMA)
    try:
        return TypeAdapter(Plan).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {where}: {first['msg']}") from error
