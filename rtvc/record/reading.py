"""A run directory, read: whole, or as it grows."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

from pydantic import TypeAdapter, ValidationError

from rtvc.errors import RecordError
from rtvc.record.cells import cells_of, decoded
from rtvc.record.files import check_version, read_json
from rtvc.record.manifest import MANIFEST_FILE, SCHEMA_VERSION, Manifest
from rtvc.record.rows import (
    FILES,
    ConnectionRow,
    GeneratorRow,
    RowT,
    SampleRow,
    ServerTurnRow,
    StepRow,
    TurnRow,
)


@dataclass(frozen=True)
class Run:
    """A run directory, read."""

    folder: Path
    """Where it lies."""
    manifest: Manifest
    """What, where, when."""
    connections: list[ConnectionRow]
    """Attempts to connect."""
    turns: list[TurnRow]
    """Utterances as the client saw them."""
    server_turns: list[ServerTurnRow]
    """Segments of turns as the server timed them; empty if it sends none."""
    samples: list[SampleRow]
    """Gauges over time."""
    generator: list[GeneratorRow]
    """The load generator watching itself."""
    steps: list[StepRow] = field(default_factory=list)
    """Steps of a search for the capacity; empty if it was none."""

    @property
    def attempts(self) -> list[ConnectionRow]:
        """Connections, each once: an attempt may be written as it opens and again as it ends."""
        latest = {(row.speaker, row.opened_at_s): row for row in self.connections}
        return list(latest.values())

    @property
    def cut_off(self) -> bool:
        """Whether the run ended before it was closed."""
        return self.manifest.duration_s is None


def load_run(folder: Path) -> Run:
    """Read a run directory, also one that was cut off; RecordError if it cannot be."""
    folder = Path(folder)
    return Run(
        folder=folder,
        manifest=load_manifest(folder),
        connections=_load(folder, ConnectionRow),
        turns=_load(folder, TurnRow),
        server_turns=_load(folder, ServerTurnRow),
        samples=_load(folder, SampleRow),
        generator=_load(folder, GeneratorRow),
        steps=_load(folder, StepRow),
    )


def load_manifest(folder: Path) -> Manifest:
    path = Path(folder) / MANIFEST_FILE
    content = read_json(path)
    check_version(path, content.get("schema_version"), SCHEMA_VERSION)
    try:
        return TypeAdapter(Manifest).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {where}: {first['msg']}") from error


def _load(folder: Path, kind: type[RowT]) -> list[RowT]:
    path = folder / FILES[kind]
    try:
        # Bytes that are no UTF-8 can only be half a character in the row being written.
        text = path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error
    rows = cells_of(text, path)
    header = next(rows, None)
    return [] if header is None else list(decoded(kind, header[1], rows, path))


class RowTail(Generic[RowT]):
    """Rows of one kind as they are appended by another process; each is read once."""

    def __init__(self, folder: Path, kind: type[RowT]) -> None:
        self._path = Path(folder) / FILES[kind]
        self._kind: type[RowT] = kind
        self._offset = 0
        self._header: list[str | None] | None = None

    def read(self) -> list[RowT]:
        """The rows that were completed since the last call."""
        text = self._complete_lines()
        rows = cells_of(text, self._path)
        if self._header is None:
            first = next(rows, None)
            if first is None:
                return []
            self._header = first[1]
        return list(decoded(self._kind, self._header, rows, self._path))

    def _complete_lines(self) -> str:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                fresh = file.read()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise RecordError(f"cannot read {self._path}: {error.strerror}") from error
        end = fresh.rfind(b"\n") + 1
        # A line end between quotes belongs to a text.
        while end and fresh.count(b'"', 0, end) % 2:
            end = fresh.rfind(b"\n", 0, end - 1) + 1
        self._offset += end
        return fresh[:end].decode("utf-8", errors="replace")
