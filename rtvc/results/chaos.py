"""A run of `rtvc chaos`: for each fault, what was done and what users felt. Records and a file.

    run.json  summary.json  faults.csv  chaos.md  report.html  faults/NAME/

Seconds are stored; units are converted where they are drawn.
"""

import csv
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from rtvc.errors import RecordError, why
from rtvc.record import check_version, read_json
from rtvc.record.files import write_json

SCHEMA = 1
"""Of the files; a reader refuses another one."""

KIND = "chaos"
"""Tells this summary.json from that of a load test."""

SUMMARY_FILE, TABLE_FILE, FAULT_FILE = "summary.json", "faults.csv", "fault.json"

NOT_RECOVERED = "not recovered"

Status = Literal["passed", "failed", "void"]


@dataclass(frozen=True, slots=True)
class Span:
    """Turns before, during or after a fault."""

    turns: int
    """Turns; n of the delay."""
    finals_missing: int
    """Of these, without a final transcript."""
    replies_expected: int
    """Turns that a reply should have followed."""
    replies_missing: int
    """Of these, without one."""
    delay_s: float | None
    """Transcription delay: p95 if n supports it, else the longest; infinite: a final is missing;
    None without turns."""
    delay_name: str
    """What it is: "p95" or "max"."""
    delay_max_s: float | None
    """The longest; None without turns."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what was done, what was felt, and the verdict."""

    name: str
    """As after --only."""
    done: str
    """What was done, in words."""
    before: Span
    """Turns that were over before it began."""
    during: Span
    """Turns that it met."""
    after: Span
    """Turns that were spoken when it was over."""
    finals_lost: int
    """Said in a session that lived on (or before the one that the fault ended was closed), and
    never written down."""
    sessions_ended: int
    """Sessions of speakers that the server ended."""
    ended_by_fault: bool
    """Whether the fault itself ends sessions: then that is no failure."""
    cross_words: int
    """Words of one speaker found in the transcript of another."""
    refused: int
    """Attempts to connect that were refused, those of uninvited clients included."""
    rows_lost: int
    """Utterances that the load test has no row of."""
    limit_s: float
    """Delay up to which a turn counts as well served: 1.5 × that before, or the target."""
    recovery_s: float | None
    """From its end to the last turn (or reply) that was still late or missing; None: it was never
    well again."""
    recovery_n: int
    """Turns that this is known from."""
    ended_beside: int = 0
    """Of the sessions that were ended those that even a fault that ends sessions does not explain:
    at another time, or not as a server that stops does."""
    begin_s: float = 0.0
    """When it began, in seconds of the load test's clock."""
    end_s: float = 0.0
    """When it was over; the same where it takes no time."""
    restart_needed: bool = False
    """Whether the server was gone, was another process or did not get ready again by itself."""
    valid: bool = True
    """Whether the load generator kept up, and there were turns to compare."""
    why_void: str | None = None
    """Why not; None if it was."""
    seconds: float = 0.0
    """How long all of it took."""
    evidence: dict[str, float | None] = field(default_factory=dict)
    """What the server counted meanwhile; None: it has no such figure."""
    notes: tuple[str, ...] = ()
    """What else is worth knowing, a line each."""

    @property
    def failures(self) -> list[str]:
        """Why it is not passed; empty if it is."""
        told = {
            "finals lost": self.finals_lost,
            "words in the wrong session": self.cross_words,
            "sessions ended": self.ended_beside if self.ended_by_fault else self.sessions_ended,
            "rows of the load test lost": self.rows_lost,
        }
        found = [f"{count} {what}" for what, count in told.items() if count]
        if self.recovery_s is None:
            found.append(NOT_RECOVERED)
        if self.restart_needed:
            found.append("needed a restart")
        return found

    @property
    def status(self) -> Status:
        """What was lost is lost, whoever kept up; only good news needs a valid run."""
        lost = [why for why in self.failures if why != NOT_RECOVERED]
        if not self.valid and not lost:
            return "void"
        return "failed" if self.failures else "passed"


@dataclass(frozen=True, slots=True)
class Chaos:
    """All faults of one run."""

    schema: int
    """Version of this structure."""
    kind: str
    """"chaos"."""
    started_at: str
    """UTC, ISO 8601."""
    model: str
    """Speech-to-text model."""
    speakers: int
    """Simulated speakers that talked all the while."""
    faults: tuple[Fault, ...]
    """In the order in which they were brought about."""

    @property
    def exit_code(self) -> int:
        """0: nothing was lost and all recovered; 99: something was; 3: nothing is proven."""
        found = {fault.status for fault in self.faults}
        if "failed" in found:
            return 99
        return 3 if "void" in found or not found else 0

    @property
    def sentence(self) -> str:
        """The verdict."""
        failed = [fault.name for fault in self.faults if fault.status == "failed"]
        void = [fault.name for fault in self.faults if fault.status == "void"]
        total = len(self.faults)
        if failed:
            return f"{len(failed)} of {total} faults were felt for good: {', '.join(failed)}."
        if void or not total:
            return f"{len(void)} of {total} faults prove nothing: {', '.join(void) or 'none ran'}."
        turns = sum(f.before.turns + f.during.turns + f.after.turns for f in self.faults)
        return (
            f"{total} {'fault' if total == 1 else 'faults'}, {turns:,} turns: no final lost, no "
            "word in the wrong session, recovered each time without a restart."
        )


def is_chaos(folder: Path) -> bool:
    """Whether a folder holds such a run rather than a load test."""
    return (Path(folder) / TABLE_FILE).is_file()


def write_chaos(folder: Path, chaos: Chaos) -> None:
    """summary.json and faults.csv.

    Raises:
        RecordError: it cannot be written.
    """
    try:
        write_json(Path(folder) / SUMMARY_FILE, _to_json(chaos))
        _write_table(Path(folder) / TABLE_FILE, chaos)
    except OSError as error:
        raise RecordError(f"cannot write to {folder}: {why(error)}") from error


def load_chaos(folder: Path) -> Chaos:
    """Read what `write_chaos` wrote.

    Raises:
        RecordError: there is none, or it cannot be understood.
    """
    path = Path(folder) / SUMMARY_FILE
    content = read_json(path)
    check_version(path, content.get("schema"), SCHEMA)
    found: Chaos = _validated(Chaos, path, content)
    return found


def write_fault(folder: Path, fault: Fault) -> None:
    """What makes a fault one that is done.

    Raises:
        RecordError: it cannot be written.
    """
    try:
        content = {"schema": SCHEMA, **asdict(fault)}
        write_json(Path(folder) / FAULT_FILE, _plain(content))
    except OSError as error:
        raise RecordError(f"cannot write to {folder}: {why(error)}") from error


def load_fault(folder: Path) -> Fault | None:
    """None: it is not done yet.

    Raises:
        RecordError: it cannot be understood.
    """
    path = Path(folder) / FAULT_FILE
    if not path.is_file():
        return None
    content = read_json(path)
    check_version(path, content.pop("schema", None), SCHEMA)
    found: Fault = _validated(Fault, path, content)
    return found


def _validated(kind: type[Any], path: Path, content: dict[str, Any]) -> Any:
    known = {each.name for each in fields(kind)}
    try:
        return TypeAdapter(kind).validate_python(
            {name: value for name, value in content.items() if name in known}
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {where}: {first['msg']}") from error


def _to_json(chaos: Chaos) -> dict[str, Any]:
    verdicts = {
        fault.name: {"status": fault.status, "failures": fault.failures} for fault in chaos.faults
    }
    told = {"sentence": chaos.sentence, "exit_code": chaos.exit_code, "verdicts": verdicts}
    return dict(_plain({**asdict(chaos), **told}))


def _plain(value: Any) -> Any:
    """JSON has no infinity, so an answer that never came is "inf"."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return "inf" if value == math.inf else value


def _write_table(path: Path, chaos: Chaos) -> None:
    rows = [_flat(fault) for fault in chaos.faults]
    columns = list(rows[0]) if rows else ["name"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _flat(fault: Fault) -> dict[str, Any]:
    """One row: spans side by side."""
    row: dict[str, Any] = {"name": fault.name, "status": fault.status, "done": fault.done}
    for name, value in asdict(fault).items():
        if isinstance(value, dict) and name != "evidence":
            row |= {f"{name}_{key}": "" if v is None else v for key, v in value.items()}
        elif name not in ("evidence", "notes", "name", "done"):
            row[name] = "" if value is None else value
    return row
