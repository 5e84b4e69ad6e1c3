"""A run directory: what one run measured, appended row by row, read by every later step.

    run.json  connections.csv  turns.csv  server_turns.csv  samples.csv  generator.csv
    steps.csv  summary.json  report.html

Instants (`*_at_s`) are seconds since the run's start on the load generator's clock, except in
`server_turns.csv`, where they are durations only. `None` (an empty cell) is absent, never 0.

In the CSV files text is always quoted and nothing else is: an empty cell is None, a quoted
empty cell is empty text. Each row is flushed as it is written, so a run that is cut off keeps
all that it measured; a reader leaves out the row that was being written.
"""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import NoneType, TracebackType
from typing import Any, Generic, TextIO, TypeVar, get_args, get_type_hints

import psutil
from pydantic import TypeAdapter, ValidationError

from rtvc import __version__
from rtvc.clock import Clock, SystemClock
from rtvc.errors import RecordError

SCHEMA_VERSION = 1
"""Raised when a reader of older files would misread newer ones."""

MANIFEST_FILE = "run.json"

PACKAGES = (
    "ctranslate2",
    "espeakng-loader",
    "fastapi",
    "faster-whisper",
    "gevent",
    "jiwer",
    "locust",
    "numpy",
    "onnxruntime",
    "pocketsphinx",
    "torch",
    "uvicorn",
    "websocket-client",
    "websockets",
)
"""Packages whose version can change a figure."""


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """One attempt of one speaker to connect."""

    speaker: int
    """Number of the simulated speaker, from 0."""
    session_id: str | None
    """As the server named it; None if it never did."""
    opened_at_s: float
    """Just before TCP connect."""
    handshake_s: float | None
    """TCP connect → HTTP 101; None if it failed."""
    setup_s: float | None
    """HTTP 101 → the session is usable; None if it failed."""
    connection_s: float | None
    """Connection time: before TCP connect → usable; None if it failed."""
    outcome: str
    """"ok", "refused" (503 or 1013), "failed" or "lost" (closed by the server mid-run)."""
    reason: str | None
    """Why not ok, one line; of a session that was, the first thing the server complained of."""
    close_code: int | None
    """WebSocket close code, if there was one."""
    closed_at_s: float | None
    """When it ended."""
    failure: str | None = None
    """Why not ok, a name of `rtvc.failures` that stays the same; None if ok."""


@dataclass(frozen=True, slots=True)
class TurnRow:
    """One utterance as the client saw it. `s(a)`: the instant at which offset a was spoken."""

    speaker: int
    """Number of the simulated speaker."""
    session_id: str | None
    """Joins with server_turns.csv."""
    item_id: str | None
    """The last item the utterance became; joins with server_turns.csv."""
    utterance: int
    """Number of the utterance within its speaker, from 0."""
    kind: str
    """"utterance" or "interruption" (spoken over a reply)."""
    voice: str
    """Voice or file it was spoken with."""
    text: str
    """What was said (the corpus's text)."""
    heard: str | None
    """Final transcript(s), joined; None if no final came."""
    speech_start_at_s: float
    """s(start of the first word)."""
    first_word_end_at_s: float
    """s(end of the first word)."""
    speech_end_at_s: float
    """s(a_eos), the annotated true end of speech."""
    first_partial_at_s: float | None
    """First partial (or final) holding text received."""
    final_at_s: float | None
    """Last final transcript received; None: missing, counts as infinite."""
    finals: int
    """Finals received for this utterance."""
    premature_finals: int
    """Finals of utterances that went on: received before the last one, or before s(a_eos)."""
    reply_first_audio_at_s: float | None
    """First reply sample received."""
    reply_last_audio_at_s: float | None
    """Last reply sample received."""
    reply_expected: bool
    """Whether a reply was asked for and not interrupted before it began."""
    interrupted_reply: bool
    """Whether this utterance was spoken over a reply."""
    barge_in_stop_at_s: float | None
    """Last reply sample received after the interruption began; None if none was interrupted."""
    time_to_first_partial_s: float | None
    """s(first word's end) → first partial."""
    transcription_delay_s: float | None
    """s(a_eos) → last final."""
    response_latency_s: float | None
    """s(a_eos) → first reply sample received."""
    barge_in_latency_s: float | None
    """s(first word of the interruption) → last reply sample received."""
    substitutions: int | None
    """Word errors of `heard` against `text`; None if not observable."""
    deletions: int | None
    """Words lost."""
    insertions: int | None
    """Words invented."""
    reference_words: int
    """Words in `text` after normalisation."""
    cross_talk_words: int
    """Words of another speaker's concurrent utterance found in `heard` and not in `text`."""
    warm_up: bool
    """Left out of the summary."""
    partial_interval_s: float | None = None
    """Median time between visible texts while talking; None: none came, or too short to tell."""
    first_word_lost: bool | None = None
    """Whether the first word said is missing in `heard`; None without one."""
    last_word_lost: bool | None = None
    """Whether the last word said is missing in `heard`; None without one."""


@dataclass(frozen=True, slots=True)
class ServerTurnRow:
    """One segment of one turn as the server timed it; the segments of a turn are contiguous."""

    session_id: str
    """The server's session."""
    item_id: str
    """The utterance."""
    stage: str
    """"transcript" or "reply"."""
    segment: str
    """vad_delay, endpoint_wait, queue_wait, features, encode, decode, emit, llm_ttft, …"""
    start_s: float
    """Since the last speech sample arrived; negative for what came before."""
    duration_s: float
    """Length of the segment; negative for a vad_offset where speech was heard to end early."""
    hidden: bool
    """Work hidden by speculation: shown, not counted in the sum."""


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One reading of one gauge."""

    at_s: float
    """When."""
    source: str
    """"server" or "generator"."""
    name: str
    """Metric name with its unit."""
    value: float
    """The reading."""


@dataclass(frozen=True, slots=True)
class GeneratorRow:
    """The load generator watching itself, one row a second and process."""

    at_s: float
    """End of the second."""
    process: int
    """Process id; 0: several generators, added up."""
    speakers: int
    """Speakers connected."""
    frames: int
    """Frames sent in this second."""
    late_frames: int
    """Frames sent more than 20 ms late."""
    lag_max_s: float
    """Largest actual send − due."""
    lag_histogram: str
    """Sparse counts of lag in 0.1 ms bins, "bin:count bin:count"; histograms add up."""
    cpu_ratio: float | None
    """CPU seconds per second of this process; None if unknown."""
    loop_lag_max_s: float | None
    """Largest oversleep of a 50 ms probe."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step of a search for the largest load that meets the targets."""

    step: int
    """Number of the step, from 0."""
    speakers: int
    """Concurrent speakers wanted."""
    purpose: str
    """"climb", "bisect" or "confirm"."""
    ordered_at_s: float
    """Speakers began to come or go."""
    measured_from_s: float | None
    """Speech from here on counts; None if it never came to that."""
    measured_until_s: float
    """End of the last utterance that counts, with its final."""
    outcome: str
    """"passed", "failed", "void" (the generator was saturated) or "undecided"."""
    reason: str | None
    """Why not passed, one line."""
    binding: str | None
    """What held it back, as far as the server tells: "inference", "turn policy", …"""
    stopped_early: bool
    """Whether it was decided before its measuring time was over."""
    utterances: int
    """Utterances that count."""
    errors: int
    """Connections refused, failed or lost, finals and replies missing."""
    cut_utterances: int
    """Utterances with a premature final."""
    delay_p50_s: float | None
    """Transcription delay; None where the utterances do not support it."""
    delay_p95_s: float | None
    """Transcription delay; None where the utterances do not support it."""
    delay_max_s: float | None
    """Largest transcription delay; infinite if a final is missing; None without utterances."""
    partial_interval_p50_s: float | None
    """Time between visible texts while talking; None if unknown."""
    trend: float | None
    """Seconds of delay added per second of the step; None if there is no upward trend."""
    lag_p99_s: float | None
    """The generator's own lag."""
    throughput_per_s: float | None = None
    """Utterances a second that got their final transcript; None if unknown."""
    goodput_per_s: float | None = None
    """Utterances a second within every target on a single utterance; None if unknown."""
    goodput_share: float | None = None
    """Share of utterances within every such target; None without utterances."""
    good_speakers: int | None = None
    """Speakers of whom every utterance was; None if unknown."""
    evidence: str | None = None
    """What the server's metrics said of the cause, or that it has none; None if not asked."""


Row = ConnectionRow | TurnRow | ServerTurnRow | SampleRow | GeneratorRow | StepRow
RowT = TypeVar("RowT", ConnectionRow, TurnRow, ServerTurnRow, SampleRow, GeneratorRow, StepRow)

FILES: dict[type[Row], str] = {
    ConnectionRow: "connections.csv",
    TurnRow: "turns.csv",
    ServerTurnRow: "server_turns.csv",
    SampleRow: "samples.csv",
    GeneratorRow: "generator.csv",
    StepRow: "steps.csv",
}
"""Where rows of each kind live."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine a run was made on."""

    cpu: str
    """Model name of the processor."""
    cores: int
    """Logical cores this process may use."""
    memory_bytes: int
    """Physical memory."""
    platform: str
    """Operating system and kernel."""
    python: str
    """Version of Python."""
    gpus: tuple[str, ...] = ()
    """Names of GPUs; empty if there are none or none were looked for."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was run, where and when; written at the start, completed at the end."""

    schema_version: int
    """Version of the files in this directory."""
    rtvc_version: str
    """Version of rtvc that wrote it."""
    command: str
    """As typed, secrets hidden."""
    started_at: str
    """UTC, ISO 8601: the only wall time of a run."""
    machine: Machine
    """Where the load generator ran."""
    commit: str | None = None
    """Git commit of rtvc's source tree, with "-dirty" if changed; None if not run from one."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Every setting of the run, secrets hidden."""
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of the installed packages that can change a figure."""
    url: str | None = None
    """The server under test; None if there was none."""
    protocol: str | None = None
    """Wire protocol spoken."""
    model: str | None = None
    """Speech-to-text model as the server named it; None if it did not say."""
    model_kind: str | None = None
    """"self-test model", "whisper", …; None if the server did not say."""
    server: dict[str, Any] = field(default_factory=dict)
    """What the server said of itself."""
    corpus: str | None = None
    """"synthetic" (texts are ours and may be shown) or "recordings" (they may not)."""
    corpus_hash: str | None = None
    """Identifies the clips spoken."""
    targets: tuple[str, ...] = ()
    """Objectives the run is judged by; empty means the default ones."""
    colocated: bool | None = None
    """Whether server and generator shared a machine; None if unknown."""
    duration_s: float | None = None
    """Length of the run; None if it was cut off before it could say."""
    planned_duration_s: float | None = None
    """Seconds that were to be measured after the warm-up; None if that was left open."""
    interrupted: bool = False
    """Whether somebody stopped it before its time."""
    ready: str | None = None
    """How sessions are known to be usable: "message" or "inferred"; None if not recorded."""
    not_observable: tuple[str, ...] = ()
    """What the protocol cannot show, named as objectives name it."""
    lost_generators: tuple[str, ...] = ()
    """Generators of the run that ended before their time, each with what happened."""
    aborted: str | None = None
    """The objective that ended it before its time; None: none did."""

    @property
    def is_self_test(self) -> bool:
        return self.model_kind == "self-test model" or self.model == "selftest"

    @property
    def text_observable(self) -> bool:
        """Synthetic weights cost what a model costs, but what they write means nothing."""
        return self.model_kind != "synthetic weights"


def new_manifest(command: Sequence[str], clock: Clock, **more: Any) -> Manifest:
    """A manifest of this machine and moment; `more` are further fields of Manifest."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        rtvc_version=__version__,
        command=_command_line(command),
        started_at=clock.utc().isoformat(timespec="seconds"),
        machine=more.pop("machine", None) or this_machine(),
        commit=_git_commit(),
        settings=without_secrets(more.pop("settings", {})),
        server=without_secrets(more.pop("server", {})),
        packages=_package_versions(),
        targets=tuple(more.pop("targets", ())),
        **more,
    )


def this_machine(gpus: Iterable[str] = ()) -> Machine:
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _all_cores(),
        memory_bytes=psutil.virtual_memory().total,
        platform=platform.platform(),
        python=platform.python_version(),
        gpus=tuple(gpus),
    )


def _all_cores() -> int:
    return psutil.cpu_count() or 1


def _cpu_model() -> str:
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        cpuinfo = ""
    named = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()


def _package_versions() -> dict[str, str]:
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _git_commit() -> str | None:
    """Of the tree this file belongs to: an installed copy inside another's tree has none."""
    tree = Path(__file__).resolve().parents[1]
    if not (tree / ".git").exists():
        return None
    command = ["git", "-C", str(tree), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(
            [*command, "--abbrev=40"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


HIDDEN = "(hidden)"
_SECRET_WORDS = {"key", "token", "secret", "password", "passwd", "authorization", "credentials"}
_SECRET_IN_TEXT = re.compile(
    r"(?i)((?:api[_-]?key|token|secret|password|authorization)=)[^\s&]+|(?<=://)[^/@\s]+@"
)


def is_secret_name(name: str) -> bool:
    """
    >>> is_secret_name("openai_api_key"), is_secret_name("max_tokens")
    (True, False)
    """
    return not _SECRET_WORDS.isdisjoint(re.split(r"[^a-z0-9]+", name.lower()))


def without_secrets(value: Any) -> Any:
    """The same settings, what is named like a secret or looks like one in a URL hidden.

    >>> without_secrets({"api_key": "k", "url": "ws://me:pw@box/?token=t", "n": 1})
    {'api_key': '(hidden)', 'url': 'ws://box/?token=(hidden)', 'n': 1}
    """
    if isinstance(value, dict):
        return {name: _unless_secret(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in value]
    return _hide_in_text(value) if isinstance(value, str) else value


def _unless_secret(name: str, value: Any) -> Any:
    hide = is_secret_name(name) and value is not None
    return HIDDEN if hide else without_secrets(value)


def _hide_in_text(text: str) -> str:
    return _SECRET_IN_TEXT.sub(lambda found: found[1] + HIDDEN if found[1] else "", text)


def _command_line(command: Sequence[str]) -> str:
    """Arguments joined; the value after a flag named like a secret is hidden."""
    shown = []
    previous = ""
    for argument in command:
        follows_secret = previous.startswith("-") and is_secret_name(previous)
        shown.append(HIDDEN if follows_secret else _hide_in_text(argument))
        previous = argument
    return " ".join(shown)


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
                self._file(type(row)).write(_line(row))
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
            file.write(",".join(_COLUMNS[kind]) + "\n")
            self._files[kind] = file
        return self._files[kind]

    def _write_manifest(self) -> None:
        _write_json(self.folder / MANIFEST_FILE, asdict(self.manifest))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all: a reader never meets half a file."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(content, indent=2, default=str) + "\n", "utf-8")
    draft.replace(path)


@dataclass(frozen=True, slots=True)
class _Column:
    """How one field becomes a cell and back."""

    name: str
    type: type
    """bool, int, float or str."""
    optional: bool
    """Whether the cell may be empty."""

    def encode(self, value: Any) -> str:
        if value is None:
            return ""
        if self.type is str:
            return '"' + str(value).replace('"', '""') + '"'
        if self.type is float:
            return repr(float(value))
        return str(int(value))

    def decode(self, cell: str | None) -> Any:
        if cell is None:
            if self.optional:
                return None
            raise ValueError(f"column {self.name} expects a value, but the cell is empty")
        return bool(int(cell)) if self.type is bool else self.type(cell)


def _column(name: str, hint: Any) -> _Column:
    choices = get_args(hint) or (hint,)
    (plain,) = [choice for choice in choices if choice is not NoneType]
    return _Column(name, plain, NoneType in choices)


_COLUMNS = {
    kind: {name: _column(name, hint) for name, hint in get_type_hints(kind).items()}
    for kind in FILES
}


def _line(row: Row) -> str:
    columns = _COLUMNS[type(row)].values()
    return ",".join(column.encode(getattr(row, column.name)) for column in columns) + "\n"


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


def complete_manifest(folder: Path, **changes: Any) -> None:
    """Note what became known only after the run was closed."""
    _write_json(Path(folder) / MANIFEST_FILE, asdict(replace(load_manifest(folder), **changes)))


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(
            f"this is no run folder: {path.parent} (expected {path.name} in it)"
        ) from error
    except ValueError as error:
        raise RecordError(f"{path}: expected JSON, but {error}") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def check_version(path: Path, found: object, known: int) -> None:
    if found != known:
        raise RecordError(f"{path}: expected schema version {known}, got {found!r}")


def _load(folder: Path, kind: type[RowT]) -> list[RowT]:
    path = folder / FILES[kind]
    try:
        # Bytes that are no UTF-8 can only be half a character in the row being written.
        text = path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error
    rows = _cells(text, path)
    header = next(rows, None)
    return [] if header is None else list(_decoded(kind, header[1], rows, path))


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
        rows = _cells(text, self._path)
        if self._header is None:
            first = next(rows, None)
            if first is None:
                return []
            self._header = first[1]
        return list(_decoded(self._kind, self._header, rows, self._path))

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


def append_rows(folder: Path, *rows: Row) -> None:
    """Write rows of a kind of which this process is the only writer, beside a `RunWriter`'s."""
    for row in rows:
        path = Path(folder) / FILES[type(row)]
        try:
            with path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file:
                if not file.tell():
                    file.write(",".join(_COLUMNS[type(row)]) + "\n")
                file.write(_line(row))
        except OSError as error:
            raise RecordError(f"cannot write to {path}: {error.strerror}") from error


def _decoded(
    kind: type[RowT],
    header: list[str | None],
    rows: Iterator[tuple[int, list[str | None]]],
    path: Path,
) -> Iterator[RowT]:
    decoders = _decoders(kind, header, path)
    for line, cells in rows:
        if len(cells) != len(header):
            raise RecordError(f"{path}:{line}: expected {len(header)} cells, got {len(cells)}")
        try:
            yield kind(**{name: decode(cells[at]) for name, at, decode in decoders})
        except ValueError as error:
            raise RecordError(f"{path}:{line}: {error}") from error


def _decoders(
    kind: type[Row], header: list[str | None], path: Path
) -> list[tuple[str, int, Callable[[str | None], Any]]]:
    """Columns that are unknown are left out; those that may be empty may be missing."""
    decoders: list[tuple[str, int, Callable[[str | None], Any]]] = []
    for name, column in _COLUMNS[kind].items():
        if name in header:
            decoders.append((name, header.index(name), column.decode))
        elif not column.optional:
            raise RecordError(f"{path}: expected a column {name}, but there is none")
    return decoders


_CELL = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n)')
_CUT_OFF = re.compile(r'(?:"(?:[^"]|"")*"?|[^",\r\n]*)\r?\Z')


def _cells(text: str, path: Path) -> Iterator[tuple[int, list[str | None]]]:
    """(line, cells) of every complete row; a row without its line end is left out."""
    at, start, line, cells = 0, 0, 1, list[str | None]()
    while at < len(text):
        found = _CELL.match(text, at)
        if found is None:
            if _CUT_OFF.match(text, at):
                return
            raise RecordError(f"{path}:{line}: expected a cell, got {text[at : at + 20]!r}")
        quoted, bare, end = found.groups()
        cells.append(bare or None if quoted is None else quoted.replace('""', '"'))
        at = found.end()
        if end != ",":
            yield line, cells
            line += text.count("\n", start, at)
            start, cells = at, []


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
    columns = _COLUMNS[kind]
    # Types come from the fields, so that a column of only None keeps its type.
    table = pyarrow.table(
        {name: [getattr(row, name) for row in rows] for name in columns},
        pyarrow.schema([(name, arrow[column.type]) for name, column in columns.items()]),
    )
    path = (folder / FILES[kind]).with_suffix(".parquet")
    pyarrow.parquet.write_table(table, path)
    return path
