"""A breakdown in a terminal: the table of segments, and a waterfall of the slowest turns."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rtvc.instruments.stages import Segment
from rtvc.profile.stages.breakdown import (
    UNACCOUNTED,
    Breakdown,
    DelayBreakdown,
    Kind,
    SegmentTimes,
    TurnTime,
    kind_of,
)
from rtvc.slo import shown

BAR = 20
"""Characters of a bar that is a whole delay, where there is room."""

FIGURES = 76
"""Characters of a row of the table without its bar."""

NAME = 15
"""Characters of a segment's name, at most."""

STYLES: dict[Kind, str] = {
    "policy": "yellow",
    "detection": "yellow",
    "queue": "red",
    "compute": "blue",
    "language model": "magenta",
    "synthesis": "magenta",
    "sending": "cyan",
    "unknown": "white",
}
"""How a terminal shows what time is spent on."""


def drawn(found: Breakdown, width: int) -> RenderableType:
    """The sentence, a table for each delay, and the slowest turns, `width` characters wide."""
    parts: list[RenderableType] = [Text(found.sentence, "bold")]
    for delay in found.delays:
        parts += [Text(""), Text(_heading(delay), "bold"), table(delay, width), *_remarks(delay)]
    parts += [Text(note, "dim") for note in found.notes]
    longest = found.delays[-1]
    if longest.slowest:
        heading = f"slowest turns, to the {'reply' if longest.stage == 'reply' else 'transcript'}"
        parts += [Text(""), Text(f"{heading} (░ is work hidden in a wait)", "bold")]
        parts += [line for turn in longest.slowest for line in waterfall(turn, width)]
    return Group(*parts)


def _heading(delay: DelayBreakdown) -> str:
    figures = {"p50": delay.p50_s, "p95": delay.p95_s, "max": delay.max_s}
    told = [f"{name} {shown(s, 's')}" for name, s in figures.items() if s is not None]
    return f"{delay.delay_name}: mean {shown(delay.mean_s, 's')}, {', '.join(told)}, n={delay.n}"


def table(delay: DelayBreakdown, width: int) -> Table:
    """A row a segment; the shares add up to the delay, hidden work stands apart."""
    bar = max(0, min(BAR, width - FIGURES))
    drawing = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    drawing.add_column("segment", no_wrap=True)
    drawing.add_column("spent on", no_wrap=True)
    for name in ("n", "p50", "p95", "max", "mean", "share"):
        drawing.add_column(name, justify="right", no_wrap=True)
    drawing.add_column("", no_wrap=True)
    for row in delay.rows:
        drawing.add_row(*_cells(row, bar))
    return drawing


def _cells(row: SegmentTimes, bar: int) -> list[Text]:
    style = "dim" if row.hidden else ""
    times = [row.p50_s, row.p95_s, row.max_s, row.mean_s]
    share = row.share
    return [
        Text(row.name, style),
        Text("hidden" if row.hidden else _spent_on(row), "dim"),
        Text(f"{row.n}", "dim"),
        *(Text("–" if s is None else shown(s, "s"), style) for s in times),
        Text("" if share is None else f"{round(100 * share)} %".replace("-", "−"), style),
        Text("█" * round(bar * max(0.0, min(share or 0.0, 1.0))), STYLES[row.kind]),
    ]


def _spent_on(row: SegmentTimes) -> str:
    return "not timed" if row.name == UNACCOUNTED else row.kind


def _remarks(delay: DelayBreakdown) -> Iterator[Text]:
    left = next(row for row in delay.felt_rows if row.name == UNACCOUNTED)
    if delay.explained is None:
        account = "by the server's own account: from its last speech sample to its answer"
        yield Text(account, "dim")
        return
    gaps_s = round(left.mean_s - (delay.outside_s or 0.0), 5) or 0.0
    around = (
        f"{shown(delay.outside_s, 's')} before and after the server's own times "
        "(true end of speech → the sample VAD took for the last, network, client), "
        if delay.outside_s is not None
        else ""
    )
    yield Text(
        f"unaccounted: {around}{shown(gaps_s, 's')} between its segments; at most 10 ms or 5 % on "
        f"{100 * delay.explained:.0f} % of turns",
        "dim",
    )


def waterfall(turn: TurnTime, width: int) -> list[Text]:
    """One turn: a bar a segment on a common axis, from the true end of speech to its answer.

    The server's clock is laid so that its end of the turn is the client's: what is unaccounted
    outside its own times is drawn first.
    """
    lead_s = turn.lead_s
    begin_s = min(0.0, lead_s, *(lead_s + segment.start_s for segment in turn.hidden))
    end_s = max(turn.delay_s, begin_s + 1e-6)
    lines = [Text(f"{turn.name}: {shown(turn.delay_s, 's')}", "bold")]
    unknown = lead_s > 0 and not turn.surrounded
    outside = [Segment(UNACCOUNTED, 0.0, lead_s)] if unknown else []
    felt = [*outside, *_moved(turn.felt, lead_s)]
    columns = max(10, width - NAME - 12)
    axis = _Axis(begin_s, end_s, columns)
    lines += [axis.line(segment, hidden=False) for segment in felt]
    return lines + [axis.line(segment, hidden=True) for segment in _moved(turn.hidden, lead_s)]


def _moved(segments: Sequence[Segment], by_s: float) -> list[Segment]:
    return [Segment(one.name, one.start_s + by_s, one.duration_s) for one in segments]


class _Axis:
    """Seconds → characters."""

    def __init__(self, begin_s: float, end_s: float, columns: int) -> None:
        self._begin_s = begin_s
        self._per_s = columns / (end_s - begin_s)
        self._columns = columns

    def line(self, segment: Segment, *, hidden: bool) -> Text:
        """Name, bar, length; a bar is never shorter than one character."""
        first = min(self._at(segment.start_s), self._columns - 1)
        last = max(first + 1, min(self._at(segment.end_s), self._columns))
        bar = " " * first + ("░" if hidden else "█") * (last - first)
        style = "dim" if hidden else STYLES[kind_of(segment.name)]
        name = segment.name[: NAME - 1]
        return Text.assemble(
            (f"  {name:<{NAME}}", "dim" if hidden else ""),
            (f"{bar:<{self._columns}}", style),
            f" {shown(segment.duration_s, 's')}",
        )

    def _at(self, instant_s: float) -> int:
        return max(0, round((instant_s - self._begin_s) * self._per_s))
