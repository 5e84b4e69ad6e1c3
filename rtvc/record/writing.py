"""The writer of a run directory.

Where the disk is full, rows wait in memory and are written when there is room again: nothing that
was measured is lost, and no file holds half a row for longer than that.
"""

import errno
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

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

_LOG = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No room: on the disk, in the user's share of it, or in a file."""

OpenFile = Callable[[Path], IO[bytes]]
"""Opens a new file without a buffer: what `write` took is on its way to the disk."""


def open_new(path: Path) -> IO[bytes]:
    """As a run's files are opened."""
    return path.open("wb", buffering=0)


class GrowingFile:
    """A file of rows; what does not fit on the disk waits here."""

    def __init__(self, path: Path, header: str, open_file: OpenFile = open_new) -> None:
        self._path = path
        self._open_file = open_file
        self._file: IO[bytes] | None = None
        self._waiting = bytearray(_encoded(header))

    @property
    def waiting_bytes(self) -> int:
        """What is not on the disk yet."""
        return len(self._waiting)

    def add(self, line: str) -> None:
        """Keep a line until `write`."""
        self._waiting += _encoded(line)

    def write(self) -> None:
        """All that waits, as far as there is room.

        Raises:
            OSError: something else than that is wrong.
        """
        try:
            if self._file is None:
                self._file = self._open_file(self._path)
            while self._waiting:
                # A full disk may take a part of it; the rest follows where that ends.
                taken = self._file.write(self._waiting)
                del self._waiting[:taken]
        except OSError as error:
            if error.errno not in _FULL:
                raise

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()


def _encoded(text: str) -> bytes:
    # A lone surrogate in a transcript must not end the run.
    return text.encode("utf-8", "backslashreplace")


class RunWriter:
    """The one writer of a run directory; safe to use from several threads."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        clock: Clock | None = None,
        open_file: OpenFile = open_new,
    ) -> None:
        self.folder = Path(folder)
        self.manifest = manifest
        self._clock = clock or SystemClock()
        self._started_s = self._clock.now()
        self._lock = threading.Lock()
        self._open_file = open_file
        self._files: dict[type[Row], GrowingFile] = {}
        self._manifest_waits = False
        self._full = False
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
            self._manifest_waits = True
            self._write()

    def append(self, *rows: Row) -> None:
        """Write rows and flush them; where there is no room, as soon as there is."""
        with self._lock:
            if self._closed:
                raise RecordError(f"expected an open run, but {self.folder} is closed")
            for row in rows:
                self._file(type(row)).add(line_of(row))
            self._write()

    def close(self) -> None:
        """Close the files and note the run's length; a second call does nothing.

        Raises:
            RecordError: there is still no room for some of it.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            length_s = self.manifest.duration_s or self._clock.now() - self._started_s
            self.manifest = replace(self.manifest, duration_s=length_s)
            self._manifest_waits = True
            try:
                self._write()
            finally:
                for file in self._files.values():
                    file.close()
            waiting_bytes = sum(file.waiting_bytes for file in self._files.values())
            if waiting_bytes or self._manifest_waits:
                raise RecordError(
                    f"no room in {self.folder}: {waiting_bytes} bytes of rows could not be written"
                )

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _file(self, kind: type[Row]) -> GrowingFile:
        if kind not in self._files:
            header = ",".join(COLUMNS[kind]) + "\n"
            self._files[kind] = GrowingFile(self.folder / FILES[kind], header, self._open_file)
        return self._files[kind]

    def _write(self) -> None:
        """What waits, in memory or because it is new."""
        for file in self._files.values():
            if file.waiting_bytes:
                file.write()
        if self._manifest_waits:
            self._try_manifest()
        waits = self._manifest_waits or any(file.waiting_bytes for file in self._files.values())
        if waits and not self._full:
            _LOG.warning("no room in %s: what is measured waits in memory until then", self.folder)
        elif self._full and not waits:
            _LOG.warning("there is room in %s again: all that waited is written", self.folder)
        self._full = waits

    def _try_manifest(self) -> None:
        try:
            self._write_manifest()
            self._manifest_waits = False
        except OSError as error:
            if error.errno not in _FULL:
                raise

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
