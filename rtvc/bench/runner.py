"""Runs the cells of a bench, one process after the other, a round of all before the next round.

Rounds are interleaved, so that whatever slows the machine for a while slows every cell a little
instead of one a lot. What is measured is kept at once: a bench that is stopped goes on where it
was, and a cell that fails is a row with its reason.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rtvc.bench.cell_process import WHISPERX, Beat, CellProcess, Child
from rtvc.bench.outcome import of_exit, of_silence, of_start
from rtvc.bench.progress import Course, Screen, Turn
from rtvc.bench.spec import CellSpec, Failed, Measures, load_failed
from rtvc.clock import Clock
from rtvc.results.cells import Cell, CellFailure
from rtvc.results.naming import label
from rtvc.results.reading import (
    FAILURE_FILE,
    cell_folder,
    load_round,
    round_path,
    write_failure,
    write_round,
)

POLL_S = 0.25
"""How often a cell's process is looked after: seldom enough not to disturb it."""

HANG_S = 900.0
"""Without a sign of life for so long, a cell hangs; the longest is one long file."""

LOG_FILE = "log.txt"
"""What a cell's processes said on stderr, in the cell's folder."""

FAILED_FILE = "why.json"
"""Where a cell's process says why it has no result, in its private folder."""

_SHARED_FILES = frozenset({"faster-whisper", "faster-whisper-batched", WHISPERX})
"""Engines that load the same files."""


@dataclass(frozen=True, slots=True)
class Order:
    """A bench to be run."""

    cells: tuple[Cell, ...]
    """In the order of each round."""
    rounds: int
    """Times that each is measured."""
    folder: Path
    """Of the bench: results go there."""
    input: Path
    """Folder with the clips."""
    work: Path
    """Private to this run; may vanish afterwards."""
    measures: Measures = field(default_factory=Measures)
    """What is measured."""
    hang_s: float = HANG_S
    """Seconds without a sign of life after which a cell is ended."""
    pythons: Mapping[str, Path] = field(default_factory=dict)
    """Engine → the interpreter whose packages it runs with; ours where none is named."""
    weights: Mapping[str, Path] = field(default_factory=dict)
    """Model → CTranslate2 folder, for engines that cannot find it by themselves."""


Start = Callable[[CellSpec, Order], Child]
"""Starts the process of a cell."""


def start_process(spec: CellSpec, order: Order) -> Child:
    """The real one."""
    work = order.work / spec.cell.key
    log = cell_folder(order.folder, spec.cell) / LOG_FILE
    return CellProcess(spec, work, log, order.pythons.get(spec.cell.engine))


def schedule(cells: Sequence[Cell], rounds: int) -> list[Turn]:
    """All turns: a round of all cells, then the next round.

    >>> one, two = Cell("faster-whisper", "tiny.en"), Cell("faster-whisper", "base.en")
    >>> [(turn.cell.model, turn.round) for turn in schedule([one, two], 2)]
    [('tiny.en', 0), ('base.en', 0), ('tiny.en', 1), ('base.en', 1)]
    """
    return [Turn(cell, number) for number in range(rounds) for cell in cells]


def to_measure(order: Order) -> list[Turn]:
    """Turns whose results are not there yet."""
    turns = schedule(order.cells, order.rounds)
    return [turn for turn in turns if not round_path(order.folder, turn.cell, turn.round).exists()]


class BenchRunner:
    """One run of a bench, from the first turn that is missing to the last."""

    def __init__(
        self,
        order: Order,
        clock: Clock,
        screen: Screen,
        *,
        start: Start = start_process,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._order = order
        self._clock = clock
        self._screen = screen
        self._start = start
        self._sleep = sleep
        self._left = to_measure(order)
        self._took_s: dict[Cell, list[float]] = {}
        self._old_failures = {turn.cell for turn in self._left if _failure(order, turn).exists()}
        self._loaded = {_files(cell) for cell in order.cells if _has_rounds(order, cell)}

    def run(self) -> bool:
        """Measure what is missing; tells whether somebody stopped it with Ctrl-C."""
        try:
            while self._left:
                self._one(self._left.pop(0))
        except KeyboardInterrupt:
            return True
        return False

    def _one(self, turn: Turn) -> None:
        began_s = self._clock.now()
        try:
            child = self._start(self._spec(turn), self._order)
        except OSError as error:
            self._note(turn, of_start(error), measured=False)
            return
        try:
            failed = self._wait(turn, child, began_s)
        finally:
            child.end()
        self._loaded.add(_files(turn.cell))
        if failed is not None:
            self._rescue(turn)
        measured = round_path(self._order.folder, turn.cell, turn.round).exists()
        if measured:
            self._took_s.setdefault(turn.cell, []).append(self._clock.now() - began_s)
        if failed is not None:
            self._note(turn, failed, measured=measured)
        elif turn.cell in self._old_failures:
            self._old_failures.discard(turn.cell)
            _failure(self._order, turn).unlink(missing_ok=True)
        self._show()

    def _wait(self, turn: Turn, child: Child, began_s: float) -> Failed | None:
        """Until it ends; None: as it should."""
        beat, alive_s = Beat(-1), began_s
        while (status := child.status()) is None:
            now_s = self._clock.now()
            latest = child.beat()
            if latest.number != beat.number:
                beat, alive_s = latest, now_s
            if now_s - alive_s > self._order.hang_s:
                return of_silence(now_s - alive_s, beat.stage)
            self._show(turn, now_s - began_s, beat)
            self._sleep(POLL_S)
        return self._why(turn, status, child)

    def _why(self, turn: Turn, status: int, child: Child) -> Failed | None:
        if status == 0 and round_path(self._order.folder, turn.cell, turn.round).exists():
            return None
        return load_failed(self._failed_file(turn)) or of_exit(status, child.last_words())

    def _rescue(self, turn: Turn) -> None:
        """Keep what was measured before something went wrong."""
        interim = round_path(self._interim(turn), turn.cell, turn.round)
        if interim.exists():
            write_round(self._order.folder, load_round(interim))

    def _note(self, turn: Turn, failed: Failed, *, measured: bool) -> None:
        """A cell that failed is not tried again, unless only the last part of it failed."""
        self._old_failures.discard(turn.cell)
        write_failure(self._order.folder, CellFailure(turn.cell, failed.kind, failed.reason))
        self._screen.line(f"{failed.kind}: {label(turn.cell)}: {failed.reason}")
        if not measured:
            self._left = [each for each in self._left if each.cell != turn.cell]

    def _spec(self, turn: Turn) -> CellSpec:
        order, cell = self._order, turn.cell
        failed_file = self._failed_file(turn)
        failed_file.unlink(missing_ok=True)
        weights = order.weights.get(cell.model) if cell.engine == WHISPERX else None
        result = round_path(order.folder, cell, turn.round)
        result.parent.mkdir(parents=True, exist_ok=True)
        return CellSpec(
            cell=cell,
            round=turn.round,
            folder=str(order.folder),
            input=str(order.input),
            failure_file=str(failed_file),
            interim=str(self._interim(turn)),
            cold=_files(cell) not in self._loaded,
            measures=order.measures,
            weights=None if weights is None else str(weights),
            result_file=str(result),
        )

    def _interim(self, turn: Turn) -> Path:
        return self._order.work / turn.cell.key / "interim"

    def _failed_file(self, turn: Turn) -> Path:
        return self._order.work / turn.cell.key / FAILED_FILE

    def _show(self, turn: Turn | None = None, now_s: float = 0.0, beat: Beat | None = None) -> None:
        total = len(self._order.cells) * self._order.rounds
        took_s = {cell: tuple(seconds) for cell, seconds in self._took_s.items()}
        self._screen.course(Course(total, tuple(self._left), took_s, turn, now_s, beat or Beat(0)))


def _failure(order: Order, turn: Turn) -> Path:
    return cell_folder(order.folder, turn.cell) / FAILURE_FILE


def _has_rounds(order: Order, cell: Cell) -> bool:
    return any(round_path(order.folder, cell, number).exists() for number in range(order.rounds))


def _files(cell: Cell) -> tuple[str, str]:
    """What cells have in common that load the same files."""
    return ("ctranslate2" if cell.engine in _SHARED_FILES else cell.engine), cell.model


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM, and a terminal that hangs up, end a bench like Ctrl-C."""
    signals = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(each, signal.default_int_handler) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
