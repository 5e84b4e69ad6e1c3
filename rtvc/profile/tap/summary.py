"""What a tap saw, added up: quantiles with n beside them, counts of what went wrong, a CSV file."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from rich.table import Table

from rtvc.errors import RecordError, why
from rtvc.profile.tap.turns import Turn
from rtvc.profile.tap.watch import Connection
from rtvc.stats import Quantile

TURNS_FILE = "tap_turns.csv"

METRICS = {
    "handshake_s": "handshake",
    "connection_s": "connection time",
    "first_partial_delay_s": "speech start to first text",
    "partial_interval_s": "between texts while talking",
    "transcription_delay_s": "transcription delay",
    "response_latency_s": "response latency",
    "barge_in_latency_s": "barge-in latency",
}
"""Field of a turn or a connection → its name in the table."""

ABSENT = "–"


def milliseconds(value_s: float | None) -> str:
    """
    >>> milliseconds(0.3124), milliseconds(None)
    ('312 ms', '–')
    """
    return ABSENT if value_s is None else f"{1000 * value_s:.0f} ms"


def turn_line(turn: Turn) -> str:
    """A turn for a person, on one line."""
    parts = [
        f"transcript {milliseconds(turn.transcription_delay_s)}",
        f"reply {milliseconds(turn.response_latency_s)}",
        f"first text {milliseconds(turn.first_partial_delay_s)}",
        f"texts every {milliseconds(turn.partial_interval_s)}",
    ]
    if turn.barge_in_latency_s is not None:
        parts.append(f"interrupted a reply in {milliseconds(turn.barge_in_latency_s)}")
    if turn.final_at_s is None:
        parts.append("no final")
    if turn.spoke_on:
        parts.append("spoke on")
    line = f"connection {turn.connection} turn {turn.turn}: {', '.join(parts)}"
    return line if turn.heard is None else f"{line}: {' '.join(turn.heard.split())}"


def connection_line(connection: Connection) -> str:
    """A connection that is closed, on one line."""
    what = connection.protocol or "no known protocol"
    because = f" ({connection.reason})" if connection.reason else ""
    usable = f", usable after {milliseconds(connection.connection_s)}"
    odd = f", {connection.odd_messages} odd messages" if connection.odd_messages else ""
    return (
        f"connection {connection.connection}: {what}, {connection.outcome}{because}, "
        f"handshake {milliseconds(connection.handshake_s)}{usable}, {connection.turns} turns{odd}"
    )


class Tally:
    """Sums of everything seen."""

    def __init__(self) -> None:
        self.turns = 0
        self.without_final = 0
        self.spoke_on = 0
        self.without_end = 0
        self.odd_messages = 0
        self.outcomes: Counter[str] = Counter()
        self._values: dict[str, list[float]] = {name: [] for name in METRICS}

    def turn(self, turn: Turn) -> None:
        self.turns += 1
        self.without_final += turn.final_at_s is None
        self.without_end += turn.speech_end_at_s is None
        self.spoke_on += turn.spoke_on
        self._add(turn)

    def connection(self, connection: Connection) -> None:
        self.outcomes[connection.outcome] += 1
        self.odd_messages += connection.odd_messages
        self._add(connection)

    def _add(self, seen: Turn | Connection) -> None:
        for name, values in self._values.items():
            value = getattr(seen, name, None)
            if value is not None:
                values.append(value)

    def quantiles(self) -> Iterator[tuple[str, Quantile, Quantile]]:
        """Field, median and 95th percentile; each says how many samples it has."""
        for name, values in self._values.items():
            yield name, Quantile.of(values, 0.5), Quantile.of(values, 0.95)

    def to_json(self) -> dict[str, Any]:
        metrics = {
            name: {"p50": p50.value, "p95": p95.value, "max": p95.maximum, "n": p95.n}
            for name, p50, p95 in self.quantiles()
        }
        return {
            "turns": self.turns,
            "turns_without_final": self.without_final,
            "turns_without_speech_end": self.without_end,
            "turns_spoke_on": self.spoke_on,
            "connections": dict(self.outcomes),
            "odd_messages": self.odd_messages,
            "metrics": metrics,
        }

    def table(self) -> Table:
        """A quantile that n cannot support is left out; the maximum stands for it."""
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        table.add_column("")
        for name in ("p50", "p95", "max", "n"):
            table.add_column(name, justify="right", no_wrap=True)
        for name, p50, p95 in self.quantiles():
            cells = [milliseconds(value) for value in (p50.value, p95.value, p95.maximum)]
            table.add_row(METRICS[name], *cells, str(p95.n))
        return table

    def notes(self) -> list[str]:
        """What the table cannot say."""
        outcomes = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        notes = [f"{self.turns} turns; connections: {outcomes or 'none'}"]
        if self.without_final:
            notes.append(f"{self.without_final} of {self.turns} turns without a final")
        if self.without_end:
            notes.append(f"{self.without_end} of {self.turns} turns whose end of speech is unknown")
        if self.spoke_on:
            notes.append(f"{self.spoke_on} of {self.turns} turns were cut or late: speech went on")
        if self.odd_messages:
            notes.append(f"{self.odd_messages} messages did not keep to their protocol")
        return notes


class TurnsFile:
    """`tap_turns.csv`: a row a turn, written and flushed as it ends.

    Text is quoted and nothing else is; an empty cell is "not observable".
    """

    def __init__(self, folder: Path) -> None:
        """Raises:
        RecordError: it cannot be written, or there is one already.
        """
        self.path = folder / TURNS_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = self.path.open(
                "x", encoding="utf-8", errors="backslashreplace", newline=""
            )
        except OSError as error:
            raise RecordError(f"cannot write to {self.path}: {why(error)}") from error
        self._write(",".join(field.name for field in fields(Turn)))

    def __enter__(self) -> "TurnsFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, turn: Turn) -> None:
        """Raises:
        RecordError: it cannot be written.
        """
        self._write(",".join(_cell(value) for value in asdict(turn).values()))

    def _write(self, line: str) -> None:
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            raise RecordError(f"cannot write to {self.path}: {why(error)}") from error


def _cell(value: str | float | None) -> str:
    """
    >>> [_cell(value) for value in (None, 0.5, True, "one", 'a "b" c')]
    ['', '0.5', '1', '"one"', '"a ""b"" c"']
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return str(int(value)) if isinstance(value, int) else repr(value)
