"""Drives a search: reads what the generator records, judges each step, orders the next.

generator ── rows ──▶ RunTail ──▶ Course ── steps ──▶ steps.csv
    ▲                               │
    └────── order (a file) ◀────────┘
"""

from collections.abc import Callable
from pathlib import Path

from rtvc.loadtest.search.course import STATUSES, Course
from rtvc.loadtest.search.rules import StepRules
from rtvc.loadtest.spec import LoadSpec
from rtvc.record import (
    MANIFEST_FILE,
    ConnectionRow,
    GeneratorRow,
    RowTail,
    Run,
    SampleRow,
    ServerTurnRow,
    StepRow,
    TurnRow,
    append_rows,
    load_manifest,
)
from rtvc.slo import StepStatus, shown

MARKS: dict[StepStatus, str] = {"passed": "✓", "failed": "✗", "void": "–", "undecided": "?"}


class RunTail:
    """A run as far as it is recorded, kept up to date at the cost of what is new."""

    def __init__(self, folder: Path) -> None:
        self.run = Run(folder, load_manifest(folder), [], [], [], [], [])
        self._connections = RowTail(folder, ConnectionRow)
        self._turns = RowTail(folder, TurnRow)
        self._server_turns = RowTail(folder, ServerTurnRow)
        self._samples = RowTail(folder, SampleRow)
        self._generator = RowTail(folder, GeneratorRow)

    def read(self) -> Run:
        # The generator's own row closes a second: read first, it never runs ahead of the others.
        generator = self._generator.read()
        self.run.connections.extend(self._connections.read())
        self.run.turns.extend(self._turns.read())
        self.run.server_turns.extend(self._server_turns.read())
        self.run.samples.extend(self._samples.read())
        self.run.generator.extend(generator)
        return self.run

    def forget(self) -> None:
        """What a finished step was judged by does not count for the next; sessions stay."""
        self.run.turns.clear()
        self.run.server_turns.clear()
        self.run.samples.clear()
        del self.run.generator[:-1]


class Search:
    """One search over one run."""

    def __init__(
        self,
        spec: LoadSpec,
        rules: StepRules,
        start: int,
        *,
        on_step: Callable[[str], None],
        on_progress: Callable[[str], None],
    ) -> None:
        """`on_step` is told of every step that is over, `on_progress` how the current one goes."""
        self._spec = spec
        self._folder = Path(spec.run_dir)
        self._course = Course(rules, start, spec.speakers)
        self._on_step = on_step
        self._on_progress = on_progress
        self._tail: RunTail | None = None

    @property
    def over(self) -> bool:
        """Whether the last step is done."""
        return self._course.over

    def poll(self) -> None:
        """To be called about once a second while the generator runs."""
        if self.over or not (self._folder / MANIFEST_FILE).exists():
            return
        if self._tail is None:
            self._tail = RunTail(self._folder)
        self._go_on(self._tail)

    def _go_on(self, tail: RunTail) -> None:
        run = tail.read()
        followed = self._course.look(run)
        for each in followed:
            if isinstance(each, StepRow):
                append_rows(self._folder, each)
                tail.forget()
                self._on_step(step_line(each))
            else:
                each.save(self._spec.order_file)
        if run.generator and not followed:
            self._on_progress(self._course.line(run))


def step_line(row: StepRow) -> str:
    """A finished step in one line."""
    speakers = f"{row.speakers} speaker{'' if row.speakers == 1 else 's'}"
    mark = MARKS[STATUSES[row.outcome]]
    if row.reason is not None:
        return f"{mark} {speakers}: {row.reason}"
    name, value = ("p95", row.delay_p95_s) if row.delay_p95_s else ("max", row.delay_max_s)
    delay = (
        "no delay measured" if value is None else f"transcription delay {name} {shown(value, 's')}"
    )
    share = row.goodput_share
    good = "" if share is None or share == 1 else f", goodput {shown(share, '%')}"
    return f"{mark} {speakers}: {delay}, n={row.utterances}{good}"
