"""What several generators record → the one run directory that everybody reads, as it comes.

    parts/0 ─┐
    parts/1 ─┼─▶ Merger ─▶ connections.csv  turns.csv  server_turns.csv  samples.csv  generator.csv
    parts/2 ─┘

Rows of connections, turns, segments and the server's gauges are put together as they are. What the
generators say of themselves is added up second by second; the rows of each stay beside it as
generator-0.csv, generator-1.csv, …
"""

import math
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rtvc.loadtest.turns.rows import LOOK_BACK_S, foreign_words
from rtvc.record import (
    FILES,
    MANIFEST_FILE,
    ConnectionRow,
    GeneratorRow,
    Manifest,
    Row,
    RowTail,
    RunWriter,
    SampleRow,
    ServerTurnRow,
    TurnRow,
    complete_manifest,
    load_manifest,
    load_run,
)
from rtvc.stats import Histogram

STALLED_S = 10.0
"""A generator that says nothing for so long is not waited for; what it says later counts still."""

ALL_OF_THEM = 0
"""In a row that adds up several processes, instead of a process's id."""


class GeneratorSum:
    """What several generators say of themselves, added up second by second; pure."""

    def __init__(self, parts: int) -> None:
        self._newest = dict.fromkeys(range(parts), -1)
        self._pending: defaultdict[int, list[tuple[int, GeneratorRow]]] = defaultdict(list)
        self._speakers: dict[int, int] = {}
        self._told = -1
        self._last_at_s = 0.0

    def add(self, part: int, rows: Iterable[GeneratorRow]) -> None:
        for row in rows:
            second = int(row.at_s)
            if part in self._newest:
                self._newest[part] = max(self._newest[part], second)
            # One that comes late is added to the next second: nothing is left out.
            self._pending[max(second, self._told + 1)].append((part, row))

    def over(self, part: int) -> None:
        """It says nothing more."""
        self._newest.pop(part, None)

    def take(self, *, rest: bool = False) -> list[GeneratorRow]:
        """Seconds of which everybody has told; with `rest`, all there are."""
        until = math.inf if rest else self._complete_until()
        return [self._told_of(second) for second in sorted(self._pending) if second <= until]

    def _complete_until(self) -> float:
        if not self._newest:
            return math.inf
        return max(min(self._newest.values()), max(self._newest.values()) - STALLED_S)

    def _told_of(self, second: int) -> GeneratorRow:
        entries = self._pending.pop(second)
        self._told = second
        rows = [row for _, row in entries]
        self._speakers.update(self._gone_quiet(part for part, _ in entries))
        self._speakers.update({part: row.speakers for part, row in entries})
        self._last_at_s = max(self._last_at_s, *(row.at_s for row in rows))
        lags = Histogram()
        for row in rows:
            lags.merge(Histogram.parse(row.lag_histogram))
        return GeneratorRow(
            at_s=self._last_at_s,
            process=ALL_OF_THEM,
            speakers=sum(self._speakers.values()),
            frames=sum(row.frames for row in rows),
            late_frames=sum(row.late_frames for row in rows),
            lag_max_s=max(row.lag_max_s for row in rows),
            lag_histogram=lags.text(),
            cpu_ratio=_largest(row.cpu_ratio for row in rows),
            loop_lag_max_s=_largest(row.loop_lag_max_s for row in rows),
        )

    def _gone_quiet(self, heard: Iterable[int]) -> dict[int, int]:
        """Nobody speaks at those that are over and of whom nothing more is to come."""
        to_come = {part for entries in self._pending.values() for part, _ in entries}
        return dict.fromkeys(self._speakers.keys() - self._newest.keys() - to_come - {*heard}, 0)


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


class CountSum:
    """Running counts of several generators, added up; pure."""

    def __init__(self) -> None:
        self._latest: defaultdict[str, dict[int, float]] = defaultdict(dict)

    def add(self, part: int, row: SampleRow) -> SampleRow:
        """The row as the run has it; other gauges are as they are."""
        if row.source != "generator" or not row.name.endswith("_count"):
            return row
        self._latest[row.name][part] = row.value
        return replace(row, value=math.fsum(self._latest[row.name].values()))


class _PartTail:
    """A part as far as it is recorded."""

    def __init__(self, folder: Path) -> None:
        self._connections = RowTail(folder, ConnectionRow)
        self._turns = RowTail(folder, TurnRow)
        self._server_turns = RowTail(folder, ServerTurnRow)
        self._samples = RowTail(folder, SampleRow)
        self._generator = RowTail(folder, GeneratorRow)

    def read(self) -> tuple[list[GeneratorRow], list[Row], list[SampleRow]]:
        """What is new. The generator's own row closes a second: read first, it never runs ahead
        of the others."""
        generator = self._generator.read()
        others: list[Row] = [
            *self._connections.read(),
            *self._turns.read(),
            *self._server_turns.read(),
        ]
        return generator, others, self._samples.read()


class Merger:
    """Writes the run that its parts are."""

    def __init__(self, folder: Path, manifest: Manifest, parts: Sequence[Path]) -> None:
        self._folder = folder
        self._parts = list(parts)
        self._tails = [_PartTail(part) for part in parts]
        self._writer = RunWriter(folder, manifest)
        self._seconds = GeneratorSum(len(parts))
        self._counts = CountSum()
        self._over: set[int] = set()
        self._lost: dict[int, str] = {}

    def poll(self) -> None:
        """Take over what was recorded since."""
        for part in range(len(self._parts)):
            if part not in self._over:
                self._take(part)
        self._writer.append(*self._seconds.take())

    def over(self, part: int, lost: str | None = None) -> bool:
        """A part has ended; `lost` says what happened if it was before its time. False: known."""
        if part in self._over:
            return False
        self._take(part)
        self._over.add(part)
        self._seconds.over(part)
        if lost is not None:
            self._lost[part] = lost
            self._writer.update(lost_generators=tuple(self._lost.values()))
        return True

    def note(self, generators: Sequence[dict[str, object]]) -> None:
        """Who they are, into the run's manifest."""
        settings = {**self._writer.manifest.settings, "generators": list(generators)}
        self._writer.update(settings=settings)

    def finish(self) -> None:
        """The rest, and what only the whole run shows; then the parts are not needed any more."""
        for part in range(len(self._parts)):
            self.over(part)
        self._writer.append(*self._seconds.take(rest=True))
        self._writer.close()
        # A run of which no part came to its end is cut off, like that of one generator.
        complete_manifest(self._folder, duration_s=self._length_s())
        _find_cross_talk(self._folder, len(self._parts))
        self._tidy()

    def _take(self, part: int) -> None:
        generator, others, samples = self._tails[part].read()
        rows: list[Row] = [*others, *(self._counts.add(part, row) for row in samples)]
        if rows:
            self._writer.append(*rows)
        self._seconds.add(part, generator)

    def _length_s(self) -> float | None:
        manifests = [load_manifest(p) for p in self._parts if (p / MANIFEST_FILE).exists()]
        lengths = [m.duration_s for m in manifests if m.duration_s is not None]
        return max(lengths, default=None)

    def _tidy(self) -> None:
        """Each generator's account of itself stays; the parts too, if one of them was lost."""
        name = Path(FILES[GeneratorRow])
        for number, part in enumerate(self._parts):
            if (part / name).exists():
                shutil.copyfile(part / name, self._folder / f"{name.stem}-{number}{name.suffix}")
        if not self._lost:
            for parts in {part.parent for part in self._parts}:
                shutil.rmtree(parts, ignore_errors=True)


def cross_talk(turns: Sequence[TurnRow], parts: int) -> list[TurnRow]:
    """The same turns, with words of speakers of other parts that were found in them.

    A generator knows what its own speakers said; only here are those of all of them together.
    """
    spoken = sorted(turns, key=lambda turn: turn.speech_start_at_s)

    def elsewhere(turn: TurnRow) -> list[str]:
        until_s = turn.final_at_s or turn.speech_end_at_s
        return [
            other.text
            for other in spoken
            if other.speaker % parts != turn.speaker % parts
            and other.speech_start_at_s < until_s
            and other.speech_end_at_s > turn.speech_start_at_s - LOOK_BACK_S
        ]

    return [_with_foreign(turn, elsewhere) for turn in turns]


def _with_foreign(turn: TurnRow, elsewhere: Callable[[TurnRow], list[str]]) -> TurnRow:
    found = foreign_words(turn.heard or "", turn.text, lambda: elsewhere(turn))
    return replace(turn, cross_talk_words=found) if found > turn.cross_talk_words else turn


def _find_cross_talk(folder: Path, parts: int) -> None:
    run = load_run(folder)
    found = cross_talk(run.turns, parts)
    if found != run.turns:
        replace_rows(folder, run.manifest, found)


def replace_rows(folder: Path, manifest: Manifest, rows: Sequence[Row]) -> None:
    """Rows of one kind instead of those that are there; whole or not at all."""
    path = folder / FILES[type(rows[0])]
    with TemporaryDirectory(dir=folder, prefix=".closing-") as draft:
        with RunWriter(Path(draft), manifest) as writer:
            writer.append(*rows)
        shutil.move(Path(draft) / path.name, path)
