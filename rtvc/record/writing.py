"""The writer of a run directory."""

import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from rtvc.clock import Clock, SystemClock
from rtvc.errors import RecordError
from rtvc.hiding import without_secrets
from rtvc.record.cells import COLUMNS, line_of
from rtvc.record.files import write_json
from rtvc.record.manifest import MANIFEST_FILE, Manifest
from rtvc.record.reading import load_manifest, load_run
from rtvc.record.rows import (
    FILES,
    ConnectionRow,
    GeneratorRow,
    Row,
    SampleRow,
    ServerTurnRow,
    StepRow,
    TurnRow,
)


class RunWriter:
    """The one writer of a run directory; safe to use from several threads."""

    def __init__(self, folder: Path, manifest: Manifest, clock: Clock | None = None) -> None:
        self.folder = Path(folder)
        self.manifest = manifest
        self._clock = clock or SystemClock()
        self._started_s = self._clock.now()
        self._lock = threading.Lock()
        self._files: dict[type[Row], TextIO] = {}
        self._closed = False
        self._create()

    def _create(self) -> None:
        if (self.folder / MANIFEST_FILE).exists():
            raise RecordError(f"expected a new folder, but {self.folder} already holds a run")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write_manifest()
        except OSError as error:
            raise RecordError(f"cannot write to {self.folder}: {error.strerror}") from error

    def update(self, **changes: Any) -> None:
        """Complete the manifest with what became known only after the start."""
        for name in ("settings", "server"):
            if name in changes:
                changes[name] = without_secrets(changes[name])
        with self._lock:
            self.manifest = replace(self.manifest, **changes)
            self._write_manifest()

    def append(self, *rows: Row) -> None:
        """Write rows and flush them."""
        with self._lock:
            if self._closed:
                raise RecordError(f"expected an open run, but {self.folder} is closed")
            touched = {type(row) for row in rows}
            for row in rows:
                self._file(type(row)).write(line_of(row))
            for kind in touched:
                self._files[kind].flush()

    def close(self) -> None:
        """Close the files and note the run's length; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for file in self._files.values():
                file.close()
            length_s = self.manifest.duration_s or self._clock.now() - self._started_s
            self.manifest = replace(self.manifest, duration_s=length_s)
            self._write_manifest()

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _file(self, kind: type[Row]) -> TextIO:
        if kind not in self._files:
            path = self.folder / FILES[kind]
            # A lone surrogate in a transcript must not end the run.
            file = path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
            file.write(",".join(COLUMNS[kind]) + "\n")
            self._files[kind] = file
        return self._files[kind]

    def _write_manifest(self) -> None:
        write_json(self.folder / MANIFEST_FILE, asdict(self.manifest))


def append_rows(folder: Path, *rows: Row) -> None:
    """Write rows of a kind of which this process is the only writer, beside a `RunWriter`'s."""
    for row in rows:
        path = Path(folder) / FILES[type(row)]
        try:
            with path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file:
                if not file.tell():
                    file.write(",".join(COLUMNS[type(row)]) + "\n")
                file.write(line_of(row))
        except OSError as error:
            raise RecordError(f"cannot write to {path}: {error.strerror}") from error


def complete_manifest(folder: Path, **changes: Any) -> None:
    """Note what became known only after the run was closed."""
    write_json(Path(folder) / MANIFEST_FILE, asdict(replace(load_manifest(folder), **changes)))


def write_parquet(folder: Path) -> list[Path]:
    """A typed Parquet copy beside each CSV file; returns the files written."""
    run = load_run(folder)
    tables: list[tuple[type[Row], Sequence[Row]]] = [
        (ConnectionRow, run.connections),
        (TurnRow, run.turns),
        (ServerTurnRow, run.server_turns),
        (SampleRow, run.samples),
        (GeneratorRow, run.generator),
        (StepRow, run.steps),
    ]
    return [_write_table(run.folder, kind, rows) for kind, rows in tables if rows]


def _write_table(folder: Path, kind: type[Row], rows: Sequence[Row]) -> Path:
    # Loaded here: reading and writing CSV must not cost the import of pyarrow.
    import pyarrow
    import pyarrow.parquet

    arrow = {str: pyarrow.string(), float: pyarrow.float64(), int: pyarrow.int64()}
    arrow[bool] = pyarrow.bool_()
    columns = COLUMNS[kind]
    # Types come from the fields, so that a column of only None keeps its type.
    table = pyarrow.table(
        {name: [getattr(row, name) for row in rows] for name in columns},
        pyarrow.schema([(name, arrow[column.type]) for name, column in columns.items()]),
    )
    path = (folder / FILES[kind]).with_suffix(".parquet")
    pyarrow.parquet.write_table(table, path)
    return path
