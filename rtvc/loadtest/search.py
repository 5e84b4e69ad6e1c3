"""Drives a search: reads what the generator records, judges each step, orders the next.

generator ── rows ──▶ RunTail ──▶ StepWatch ── outcome ──▶ CapacitySearch
    ▲                                                          │
    └────────────── order (a file) ◀───────────────────────────┘
"""

from collections.abc import Callable
from pathlib import Path

from rtvc.loadtest.capacity import CapacitySearch, StepOutcome
from rtvc.loadtest.spec import LoadSpec, Order
from rtvc.loadtest.steps import StepRules, StepWatch
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

ARRIVAL_S = 0.2
"""Between two new speakers of a step."""

LONGEST_RAMP_S = 5.0
"""For all new speakers of a step, however many."""

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
        self._rules = rules
        self._folder = Path(spec.run_dir)
        self._search = CapacitySearch(start, spec.speakers)
        self._on_step = on_step
        self._on_progress = on_progress
        self._tail: RunTail | None = None
        self._watch: StepWatch | None = None
        self._wanted = 0
        self._disturbed = False
        self._baseline: dict[str, float] | None = None
        self.over = False
        """Whether the last step is done."""

    def poll(self) -> None:
        """To be called about once a second while the generator runs."""
        if self.over or not (self._folder / MANIFEST_FILE).exists():
            return
        if self._tail is None:
            self._tail = RunTail(self._folder)
        run = self._tail.read()
        if run.generator:
            self._go_on(run)

    def _go_on(self, run: Run) -> None:
        if self._watch is None:
            self._begin(run)
            return
        row = self._watch.look(run)
        if row is None:
            self._on_progress(f"step {self._search.steps + 1}: {self._watch.line(run)}")
            return
        self._finish(self._watch, row)
        if self._tail is not None:
            self._tail.forget()
        self._begin(run)

    def _begin(self, run: Run) -> None:
        step = self._search.next_step()
        if step is None:
            self.over = True
            self._order(Order(self._search.steps, 0, 0.0, over=True))
            return
        newcomers = max(0, step.speakers - self._wanted)
        ramp_s = min(LONGEST_RAMP_S, ARRIVAL_S * newcomers)
        self._watch = StepWatch(
            step,
            self._rules,
            run.generator[-1].at_s,
            recover=self._disturbed,
            baseline=self._baseline,
        )
        self._wanted = step.speakers
        self._order(Order(step.number, step.speakers, ramp_s))

    def _order(self, order: Order) -> None:
        order.save(self._spec.order_file)

    def _finish(self, watch: StepWatch, row: StepRow) -> None:
        append_rows(self._folder, row)
        status = _status(row)
        self._search.result(StepOutcome(status, row.reason, row.binding))
        self._disturbed = status != "passed"
        if status == "passed":
            self._baseline = watch.parts
        self._watch = None
        self._on_step(step_line(row))


def _status(row: StepRow) -> StepStatus:
    return next(status for status in MARKS if status == row.outcome)


def step_line(row: StepRow) -> str:
    """A finished step in one line."""
    speakers = f"{row.speakers} speaker{'' if row.speakers == 1 else 's'}"
    mark = MARKS[_status(row)]
    if row.reason is not None:
        return f"{mark} {speakers}: {row.reason}"
    name, value = ("p95", row.delay_p95_s) if row.delay_p95_s else ("max", row.delay_max_s)
    delay = (
        "no delay measured" if value is None else f"transcription delay {name} {shown(value, 's')}"
    )
    return f"{mark} {speakers}: {delay}, n={row.utterances}"
