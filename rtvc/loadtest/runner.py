"""Runs the generator as a subprocess and makes of its run directory a verdict and a report.

Locust patches the process that imports it, so it has one of its own, in a session of its own:
Ctrl-C reaches us, and we ask the generator to stop in order. If it dies, what it had written is
still read.
"""

import contextlib
import json
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rtvc.clock import Clock
from rtvc.errors import RtvcError, UsageError
from rtvc.loadtest.locust_process import LocustProcess, users_flags
from rtvc.loadtest.progress import Tally, read_tally
from rtvc.loadtest.spec import LAST_WORD_S, LoadSpec
from rtvc.record import (
    FILES,
    ConnectionRow,
    Manifest,
    RowTail,
    RunWriter,
    TurnRow,
    append_rows,
    load_run,
)
from rtvc.record.redaction import Names

LOG_FILE = "generator.log"
"""What Locust said, in the run directory."""

INTERRUPTED = 130
"""Exit code of a run that somebody stopped."""

POLL_S = 0.1
"""How often the generator is looked after."""

ORDERLY_STOP_S = 10.0
"""From asking the generator to stop to insisting."""

START_S = 60.0
"""For the generator to start and load its clips."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the generator ended."""

    interrupted: bool
    """Somebody pressed Ctrl-C."""
    exit_status: int
    """Of the generator process; negative: killed by that signal."""

    @property
    def in_order(self) -> bool:
        return self.exit_status == 0


class GeneratorProcess(LocustProcess):
    """The generator, from start to end."""

    def __init__(self, spec: LoadSpec, log: Path, clock: Clock) -> None:
        self._spec = spec
        self._clock = clock
        spec_file = Path(spec.work_dir) / f"spec-{spec.part}.json"
        spec.save(spec_file)
        flags = users_flags(spec, len(spec.numbers))
        super().__init__([*flags, "--rtvc-spec", str(spec_file)], Path(spec.work_dir), log)

    def wait(self, on_poll: Callable[[], None]) -> Ended:
        """Until it ends. Ctrl-C once: in order; twice: at once."""
        try:
            interrupted = await_end(
                self._spec, self._clock, running=lambda: self.status() is None, poll=on_poll
            )
        finally:
            status = self.insist()
        # The stop button of Locust's page asks as Ctrl-C does.
        return Ended(interrupted or self._spec.page_stop_file.exists(), status)


def await_end(
    spec: LoadSpec,
    clock: Clock,
    *,
    running: Callable[[], bool],
    poll: Callable[[], None],
    patience_s: float = 0.0,
) -> bool:
    """Until it is over, or has taken longer than any run does, and `patience_s` more.

    Ctrl-C once: it is asked to end in order; twice: no more waiting. Tells whether it was pressed.
    """
    interrupted = False
    deadline_s = clock.now() + longest_s(spec) + patience_s
    while running() and clock.now() < deadline_s:
        try:
            poll()
            time.sleep(POLL_S)
        except KeyboardInterrupt:
            if interrupted:
                break
            interrupted = True
            spec.stop_file.touch()
            deadline_s = clock.now() + ORDERLY_STOP_S
    return interrupted


def longest_s(spec: LoadSpec) -> float:
    """No run takes longer; one that does hangs."""
    rounds_s = spec.rounds * 3 * spec.connect_timeout_s
    calls_s = spec.ramp_s + spec.connect_timeout_s + spec.warm_up_s + spec.duration_s
    return START_S + calls_s + LAST_WORD_S + rounds_s


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends a run like Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def claim_folder(folder: Path) -> Path:
    """The run's folder, new and empty.

    Raises:
        UsageError: there is something in it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = next(folder.iterdir(), None)
    except OSError as error:
        raise UsageError(f"cannot use {folder} as a run's folder: {error.strerror}") from None
    if taken is not None:
        raise UsageError(f"expected an empty folder for the run, but {folder} has {taken.name}")
    return folder.resolve()


def not_there_yet(folder: Path) -> list[Path]:
    """The folder and those above it that would have to be made, the innermost first."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """A start that was refused leaves no empty folders; what holds anything stays."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """Private to this user: clips, the spec and, if there is one, the key."""
    with TemporaryDirectory(prefix="rtvc-loadtest-") as folder:
        yield Path(folder)


def hand_over(manifest: Manifest, api_key: str | None, spec: LoadSpec) -> None:
    """Files the generator reads when it starts; the key is never in the spec or the manifest."""
    folder = Path(spec.work_dir)
    (folder / "run.json").write_text(json.dumps(asdict(manifest)), encoding="utf-8")
    if api_key:
        spec.key_file.touch(mode=0o600)
        spec.key_file.write_text(api_key, encoding="utf-8")


def tell_progress(
    folder: Path, clock: Clock, every_s: float, show: Callable[[Tally], None]
) -> Callable[[], None]:
    """To be called often; reads the run's files no oftener than is cheap."""
    next_s = clock.now() + min(every_s, 1.0)

    def poll() -> None:
        nonlocal next_s
        began_s = clock.now()
        if began_s < next_s:
            return
        seen = read_tally(folder)
        if seen is not None:
            show(seen)
        now_s = clock.now()
        next_s = now_s + max(every_s, 20 * (now_s - began_s))

    return poll


def every(clock: Clock, seconds: float, do: Callable[[], None]) -> Callable[[], None]:
    """The same, to be called oftener than it does something."""
    next_s = clock.now()

    def poll() -> None:
        nonlocal next_s
        if clock.now() >= next_s:
            do()
            next_s = clock.now() + seconds

    return poll


def keep_last_rows(folder: Path) -> None:
    """One row an attempt: a session has a row when it opens, so that a generator that is killed
    leaves it behind, and one more when it closes."""
    path = folder / FILES[ConnectionRow]
    run = load_run(folder)
    last = {(row.speaker, row.opened_at_s): row for row in run.connections}
    if len(last) == len(run.connections):
        return
    with TemporaryDirectory(dir=folder, prefix=".closing-") as draft:
        with RunWriter(Path(draft), run.manifest) as writer:
            writer.append(*last.values())
        shutil.move(Path(draft) / path.name, path)


def hide_texts(folder: Path) -> None:
    """What people said and what was heard of it, out of the record; the counts stay.

    The same words keep the same name within a run, and nobody can tell them from it.
    """
    names = Names()
    for path in sorted(Path(folder).rglob(FILES[TurnRow])):
        rows = [
            replace(
                row,
                text=names.of(row.text),
                heard=None if row.heard is None else names.of(row.heard),
                shown=None,
            )
            for row in RowTail(path.parent, TurnRow).read()
        ]
        with TemporaryDirectory(dir=path.parent, prefix=".closing-") as draft:
            append_rows(Path(draft), *rows)
            if rows:
                shutil.move(Path(draft) / path.name, path)


def why_nothing_ran(log: Path) -> RtvcError:
    """The generator left no run behind: its own last words."""
    lines = log.read_text("utf-8", errors="replace").strip().splitlines() if log.exists() else []
    last = lines[-1].strip() if lines else "it said nothing"
    return RtvcError(f"the load generator did not start: {last} (all of it: {log})")
