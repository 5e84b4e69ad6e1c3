"""A run as it goes on, on a terminal: the targets with their marks, the delay, what is left.

Elsewhere, lines that follow each other. Both are told the same: a line, every second or so; the
view reads the rest from the run directory.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from rtvc.errors import RecordError
from rtvc.loadtest.progress import Glance, RunSoFar, Tally, glance
from rtvc.loadtest.spec import LoadSpec, load_order
from rtvc.profile.gpu.view import sparkline
from rtvc.slo import Objective, Status, Verdict, capacity, shown
from rtvc.summary import FRAME_S

Say = Callable[[str], None]
"""Told in a line how things are."""

STARTING = "starting the speakers"

ROUTINE = re.compile(r"\d+ s · |step \d+: ")
"""How lines begin whose content the view shows by itself."""

BAR = 30
"""Characters of the bar that fills with time."""

LEAST_SPARK = 12
"""Characters of a sparkline below which there is none."""

NAME, VALUE, TARGET = 34, 18, 12
"""Characters of the columns of the targets."""

_MARKS: dict[Status, tuple[str, str]] = {
    "passed": ("✓", "green"),
    "failed": ("✗", "red"),
    "undecided": ("?", "yellow"),
    "no data": ("…", "dim"),
    "not observable": ("–", "dim"),
}
"""Mark and style; what has no samples yet is not failed while the run goes on."""


@contextmanager
def watching(console: Console, spec: LoadSpec, objectives: Sequence[Objective]) -> Iterator[Say]:
    """A view that is drawn anew whenever something is said; without a terminal, only what is."""
    if not console.is_terminal:
        yield lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    with Live(Text(STARTING), console=console, auto_refresh=False, transient=True) as live:
        view = LiveView(spec, objectives)

        def say(line: str) -> None:
            if view.shows_run and not ROUTINE.match(line):
                # Above the view, where it stays: a generator that was lost, say.
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            live.update(view.drawn(line, console.width, console.height), refresh=True)

        yield say


class LiveView:
    """What is drawn of one run."""

    def __init__(self, spec: LoadSpec, objectives: Sequence[Objective]) -> None:
        self._spec = spec
        self._objectives = objectives
        self._so_far: RunSoFar | None = None
        self._current = "looking for the capacity" if spec.kind == "search" else ""

    @property
    def shows_run(self) -> bool:
        """Whether there is a run to show yet; before, the line alone is shown."""
        return self._so_far is not None

    def drawn(self, line: str, width: int, height: int) -> RenderableType:
        """The run as far as it is recorded; before that, the line alone."""
        seen = self._look()
        if seen is None:
            return Text(line)
        if self._spec.kind == "search" and ROUTINE.match(line):
            self._current = line
        current = self._current
        return Group(*lines(seen, current, width, height))

    def _look(self) -> Glance | None:
        try:
            if self._so_far is None:
                self._so_far = RunSoFar(Path(self._spec.run_dir))
            run = self._so_far.read()
        except RecordError:
            return None
        return glance(run, self._spec, self._objectives, self._asked())

    def _asked(self) -> int | None:
        if self._spec.kind == "search":
            order = load_order(self._spec.order_file)
            return order.speakers if order else 0
        return None if self._spec.arrivals_per_minute is not None else self._spec.speakers


def lines(seen: Glance, current: str, width: int, height: int) -> list[Text]:
    """At most `height` - 1 lines of at most `width` characters, the most telling first.

    `current` is what a search says of the step under way; empty: no search.
    """
    head = [_counts(seen), *_time_line(seen)]
    if current:
        head = [*_capacity_line(seen), Text(current, "bold"), _counts(seen)]
    targets = [_target_line(verdict) for verdict in seen.verdicts]
    drawn = [*head, *targets, *_spark_lines(seen, width)]
    fitted = drawn[: max(1, height - 1)]
    for each in fitted:
        each.no_wrap = True
        each.truncate(width, overflow="ellipsis")
    return fitted


def _counts(seen: Glance) -> Text:
    tally = seen.tally
    if tally.only_connects:
        return _with_errors(f"{_counted(tally.connected, 'connection')}", tally)
    wanted = "" if seen.asked is None else f" of {seen.asked}"
    noun = "speaker" if (seen.asked or tally.speakers) == 1 else "speakers"
    parts = [
        f"{tally.speakers}{wanted} {noun}",
        _counted(tally.connected, "connection"),
        _counted(tally.utterances, "utterance"),
    ]
    return _with_errors(" · ".join(parts), tally)


def _with_errors(said: str, tally: Tally) -> Text:
    wrong = tally.not_connected + tally.missing
    line = Text(f"{said} · ")
    return line.append(_counted(wrong, "error"), "red" if wrong else "dim")


def _counted(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def _time_line(seen: Glance) -> list[Text]:
    """A bar that fills, and what is left."""
    if seen.length_s is None or seen.left_s is None:
        return [Text(f"{seen.tally.at_s:.0f} s")]
    filled = round(BAR * min(1.0, seen.tally.at_s / max(seen.length_s, 1e-9)))
    line = Text().append("━" * filled, "cyan").append("━" * (BAR - filled), "dim")
    left = f" {seen.left_s:.0f} s left" if seen.left_s else " the last words"
    return [line.append(left).append(", warming up" if seen.warming_up else "", "yellow")]


def _capacity_line(seen: Glance) -> list[Text]:
    """What the steps so far say together."""
    steps = len(seen.steps)
    if not steps:
        return []
    found = capacity(seen.steps)
    holds = f"holds {found.holds}" if found.holds else "holds none"
    fails = "" if found.fails_at is None else f", not {found.fails_at}"
    return [Text(f"so far {holds}{fails}, after {_counted(steps, 'step')}", "dim")]


def _target_line(verdict: Verdict) -> Text:
    mark, style = _MARKS[verdict.status]
    value = "" if verdict.measured is None else verdict.bare_text
    n = " ".join(filter(None, (f"n={verdict.n}", verdict.objective.counted)))
    line = Text().append(f"{mark} ", style).append(f"{verdict.objective.name:<{NAME}}", "default")
    line.append(f"{value:>{VALUE}}  ", style)
    return line.append(f"{verdict.objective.target_text:<{TARGET}}", "default").append(n, "dim")


def _spark_lines(seen: Glance, width: int) -> list[Text]:
    room = min(len(seen.lags_s), width - 44)
    if room < LEAST_SPARK:
        return []
    found = [] if seen.tally.only_connects else [_delay_line(seen, room)]
    return [*found, _lag_line(seen, room)]


def _delay_line(seen: Glance, room: int) -> Text:
    """The target stands at the middle of a block's height."""
    target_s = delay_target_s([verdict.objective for verdict in seen.verdicts])
    recent = [delay for delay in seen.delays_s if delay is not None]
    finite = [delay for delay in recent if math.isfinite(delay)]
    top = 2 * target_s if target_s else max(finite, default=None)
    line = Text("delay ").append(sparkline(seen.delays_s, top, room).rjust(room), "cyan")
    if recent:
        late = target_s is not None and recent[-1] > target_s
        line.append(f" {shown(recent[-1], 's')}", "red" if late else "default")
        line.append(f", largest {shown(max(recent), 's')} in {len(seen.delays_s)} s", "dim")
    return line


def _lag_line(seen: Glance, room: int) -> Text:
    """Of the generator: what voids a run is red."""
    last = seen.tally.lag_max_s
    line = Text("lag   ").append(sparkline(seen.lags_s, FRAME_S, room).rjust(room), "cyan")
    if last is not None:
        line.append(f" {shown(last, 's')}", "red" if last > FRAME_S else "default")
    used = "" if seen.cpu_ratio is None else f", CPU {shown(seen.cpu_ratio, '%')}"
    return line.append(f" generator{used}", "dim")


def delay_target_s(objectives: Sequence[Objective]) -> float | None:
    """Seconds: the tightest upper bound on transcription delay; None if there is none."""
    bounds = [
        objective.target
        for objective in objectives
        if objective.metric == "transcription_delay" and objective.comparison.startswith("<")
    ]
    return min(bounds, default=None)
