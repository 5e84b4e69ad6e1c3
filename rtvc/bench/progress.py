"""How far a bench has come, how long it will still take, and what a terminal shows of it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from rtvc.bench.cell_process import Beat
from rtvc.results.cells import Cell
from rtvc.results.naming import label
from rtvc.stats import mean


@dataclass(frozen=True, slots=True)
class Turn:
    """One cell in one round: one process."""

    cell: Cell
    """What is measured."""
    round: int
    """Counted from 0."""


@dataclass(frozen=True, slots=True)
class Course:
    """A bench under way."""

    total: int
    """Turns that there are, those of earlier runs included."""
    left: tuple[Turn, ...]
    """Turns that have not begun."""
    took_s: Mapping[Cell, Sequence[float]] = field(default_factory=dict)
    """Seconds of those that are over, by cell, in the order of their rounds."""
    now: Turn | None = None
    """The one under way; None: none."""
    now_s: float = 0.0
    """Seconds since it began."""
    beat: Beat = field(default_factory=lambda: Beat(0))
    """Its last sign of life."""

    @property
    def done(self) -> int:
        """Turns that are over."""
        return self.total - len(self.left) - (self.now is not None)

    @property
    def left_s(self) -> float | None:
        """Seconds until everything is measured, if each cell takes what it took; None: no cell
        has been measured yet."""
        if not any(self.took_s.values()):
            return None
        waiting = sum(self._expected_s(turn) for turn in self.left)
        if self.now is None:
            return waiting
        return waiting + max(0.0, self._expected_s(self.now) - self.now_s)

    def _expected_s(self, turn: Turn) -> float:
        """What the cell took last; the first round, with all that is measured only once, is the
        best that is known of others."""
        own = self.took_s.get(turn.cell)
        if own:
            return own[-1]
        others = [seconds for each in self.took_s.values() for seconds in each]
        return mean(others) or 0.0

    def line(self) -> str:
        """All of it on one line.

        >>> turn = Turn(Cell("faster-whisper", "tiny.en"), 1)
        >>> course = Course(6, (turn,), {turn.cell: [61.0]}, turn, 1.0, Beat(1, "turns", 3, 24))
        >>> course.line()
        '4 of 6 · round 2 of tiny.en beam 1 · turns 3/24 · about 2 min left'
        """
        parts = [f"{self.done} of {self.total}"]
        if self.now is not None:
            parts.append(f"round {self.now.round + 1} of {label(self.now.cell)}")
        if self.beat.stage:
            counted = f" {self.beat.done}/{self.beat.total}" if self.beat.total > 1 else ""
            parts.append(f"{self.beat.stage}{counted}")
        if self.left_s is not None:
            parts.append(f"about {time_text(self.left_s)} left")
        return " · ".join(parts)


def time_text(seconds: float) -> str:
    """
    >>> time_text(41.0), time_text(130.0), time_text(7000.0)
    ('40 s', '2 min', '1 h 57 min')
    """
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Screen(Protocol):
    """Is told what happens."""

    def course(self, course: Course) -> None:
        """How things are, several times a second."""

    def line(self, text: str) -> None:
        """Something that is to stay."""


class Lines:
    """Without a terminal: a line when a cell has been measured, and nothing in between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._done: int | None = None

    def course(self, course: Course) -> None:
        if course.done != self._done:
            self._done = course.done
            self.line(course.line())

    def line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Bar:
    """On a terminal: a bar that fills, and what goes on under it."""

    def __init__(self, console: Console, bars: Progress, bar: TaskID) -> None:
        self._console = console
        self._bars = bars
        self._bar = bar

    def course(self, course: Course) -> None:
        """A cell that is half measured fills half of its part of the bar."""
        part = course.beat.done / course.beat.total if course.beat.total > 1 else 0.0
        counted, _, said = course.line().partition(" · ")
        completed = course.done + min(part, 0.9) * (course.now is not None)
        self._bars.update(
            self._bar, total=course.total, completed=completed, counted=counted, said=said
        )

    def line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def showing(console: Console) -> Iterator[Screen]:
    """A bar on a terminal, lines that follow each other elsewhere."""
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.fields[counted]}"),
        TextColumn("{task.fields[said]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield Bar(console, bars, bars.add_task("", total=None, counted="", said="starting"))
