"""`rtvc profile logs`."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rtvc.errors import UsageError, why
from rtvc.profile.logs.alerts import DEFAULT_ALERTS, Alert, Watch, parse_alert
from rtvc.profile.logs.lines import EXAMPLES, Server
from rtvc.profile.logs.reader import LogReader
from rtvc.profile.logs.summary import (
    COUNTS,
    FIGURES,
    STEP_S,
    LoggedTurn,
    LogSummary,
    News,
    Observation,
)
from rtvc.slo import shown
from rtvc.stats import Quantile

LONGEST_LINE_BYTES = 1 << 16
"""A longer one is read in pieces, of which only the first can be understood."""

POLL_S = 0.2
"""Seconds between two looks at a file that is followed."""

LISTED = 8
"""Model loads and changes of clients that are listed in text."""

FEW_LINES, FEW_SHARE, LEAST_SHARE = 10, 0.25, 0.01
"""Known lines that are hardly any: so few and no larger share, or a share below the last."""

UNDECIDED, ALERTED, INTERRUPTED = 3, 99, 130


def logs(
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="A log; - or nothing: standard input"),
    ] = None,
    container: Annotated[
        str | None, typer.Option(metavar="NAME", help="Read docker logs of this container instead")
    ] = None,
    server: Annotated[
        Literal["auto", "realtimevoicechat", "whisperlive"],
        typer.Option(help="Whose log it is"),
    ] = "auto",
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            "-f",
            help="Go on as the log grows; a line per turn and alert; ends on Ctrl-C",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; with --follow one object per line")
    ] = False,
    alert: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXPR",
            help=f"Such as {' '.join(DEFAULT_ALERTS)} (those by default); repeatable",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Read the log of RealtimeVoiceChat or WhisperLive: turns, waits, drops, model loads, clients.

    Lines look like "59:58.07 transcribe INFO 👂⏳ New waiting time: 0.46 for text: Hi." or
    "INFO:root:New client connected".

    Exit code: 0 read, 3 a named alert is on what this log cannot show, 99 a named alert fired.
    """
    watch = Watch([parse_alert(text) for text in alert or DEFAULT_ALERTS])
    reader = LogReader(None if server == "auto" else Server(server))
    show = _Show(as_json=as_json, live=follow)
    with _source(file, container, follow=follow) as lines:
        ended = _read(lines, reader, watch, show)
    summary = reader.summary()
    if summary.server is None or not summary.known_lines:
        raise UsageError(
            "expected the log of RealtimeVoiceChat or WhisperLive, got "
            f"{_counted(reader.lines, 'line')} and none that either writes, such as {_examples()}"
        )
    show.summary(summary, watch)
    raise typer.Exit(_exit_code(summary, watch, named=bool(alert), ended=ended or follow))


def _exit_code(summary: LogSummary, watch: Watch, *, named: bool, ended: bool) -> int:
    if not ended:
        return INTERRUPTED
    if named and watch.fired:
        return ALERTED
    return UNDECIDED if named and watch.blind(summary) else 0


def _read(lines: Iterable[bytes], reader: LogReader, watch: Watch, show: "_Show") -> bool:
    """Whether the log came to its end; Ctrl-C keeps what was read."""
    ended = True
    try:
        for raw in lines:
            for news in reader.feed(raw):
                _take(news, watch, show)
    except KeyboardInterrupt:
        ended = False
    for news in reader.finish():
        _take(news, watch, show)
    return ended


def _take(news: News, watch: Watch, show: "_Show") -> None:
    if isinstance(news, LoggedTurn):
        show.turn(news)
        return
    for alert in watch.see(news):
        show.alert(alert, news)


# Where the lines come from.


@contextmanager
def _source(file: str | None, container: str | None, *, follow: bool) -> Iterator[Iterable[bytes]]:
    if container is not None:
        if file is not None:
            raise UsageError(f"expected a file or --container, got both: {file} and {container}")
        with _container_lines(container, follow=follow) as lines:
            yield lines
    elif file is None or file == "-":
        if file is None and sys.stdin.isatty():
            raise UsageError("expected a log: a file, --container NAME, or text on standard input")
        yield stream_lines(sys.stdin.buffer)
    else:
        with _opened(file) as stream:
            yield followed_lines(stream, _pause) if follow else stream_lines(stream)


def _opened(file: str) -> IO[bytes]:
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {why(error)}") from error


def stream_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Its lines, up to its end."""
    return iter(lambda: stream.readline(LONGEST_LINE_BYTES), b"")


def followed_lines(stream: IO[bytes], pause: Callable[[], None]) -> Iterator[bytes]:
    """Its lines, whole, for ever; from its beginning again if it was cut off there."""
    held = b""
    while True:
        piece = stream.readline(LONGEST_LINE_BYTES)
        if not piece:
            pause()
            if os.fstat(stream.fileno()).st_size < stream.tell():
                stream.seek(0)
                held = b""
            continue
        held += piece
        if held.endswith(b"\n") or len(held) >= LONGEST_LINE_BYTES:
            yield held
            held = b""


def _pause() -> None:
    time.sleep(POLL_S)


@contextmanager
def _container_lines(name: str, *, follow: bool) -> Iterator[Iterable[bytes]]:
    """Of `docker logs`, which adds the time that RealtimeVoiceChat leaves out."""
    flags = ["--timestamps", *(["--follow"] if follow else [])]
    try:
        child = subprocess.Popen(
            ["docker", "logs", *flags, "--", name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        raise UsageError(f"cannot run docker logs: {why(error)}") from error
    with child:
        try:
            yield _until_it_ends(child, name)
        finally:
            if child.poll() is None:
                child.terminate()


def _until_it_ends(child: "subprocess.Popen[bytes]", name: str) -> Iterator[bytes]:
    last = b""
    assert child.stdout is not None
    for last in stream_lines(child.stdout):
        yield last
    if child.wait():
        said = last.decode("utf-8", "replace").strip()
        raise UsageError(f"docker logs {name} failed: {said or child.returncode}")


# What is shown.


class _Show:
    """Prints turns and alerts as they happen (if `live`), and the summary."""

    def __init__(self, *, as_json: bool, live: bool) -> None:
        self._as_json = as_json
        self._live = live
        self._console = Console(soft_wrap=True, highlight=False)

    def turn(self, turn: LoggedTurn) -> None:
        if self._live:
            self._print({"turn": asdict(turn)}, Text(turn_line(turn)))

    def alert(self, alert: Alert, seen: Observation) -> None:
        if self._live:
            told = {"text": alert.text, "value": seen.value, "at_s": seen.at_s}
            line = f"{_instant(seen.at_s)}  ALERT {alert.text}: {alert.shown(seen.value)}"
            self._print({"alert": told}, Text(line, "bold red"))

    def _print(self, record: dict[str, object], line: Text) -> None:
        if self._as_json:
            typer.echo(json.dumps(record))
        else:
            self._console.print(line)

    def summary(self, summary: LogSummary, watch: Watch) -> None:
        if self._as_json:
            record = {**summary.as_json(), "alerts": _alerts_json(summary, watch)}
            typer.echo(json.dumps({"summary": record} if self._live else record))
            return
        for line in _headline(summary):
            self._console.print(line, markup=False)
        self._console.print(_figure_table(summary))
        for line in _lines_below(summary):
            self._console.print(line, markup=False)
        for note in summary.unknown:
            self._console.print(Text(f"not known: {note}", "dim"))
        for text in _alert_lines(summary, watch):
            self._console.print(text)


def turn_line(turn: LoggedTurn) -> str:
    """A turn in one line.

    >>> turn = LoggedTurn(7, 61.5, False, 4, 0.46, 0.5, 0.2, 0.7, 0.31, None, None)
    >>> turn_line(turn)
    '0:01:01.5  turn 7  wait 500 ms  final 200 ms  TTFT 310 ms  TTFA –  total –'
    """
    start = f"{_instant(turn.at_s)}  turn {turn.number}"
    if turn.mixed:
        return f"{start}  several clients: times not known"
    parts = {
        "wait": turn.endpoint_wait_s,
        "final": turn.final_s,
        "TTFT": turn.ttft_s,
        "TTFA": turn.ttfa_s,
        "total": turn.total_s,
    }
    return "  ".join([start, *(f"{name} {_time(value_s)}" for name, value_s in parts.items())])


def _instant(at_s: float | None) -> str:
    if at_s is None:
        return "–"
    tenths = max(0, round(10 * at_s))
    minutes, rest = divmod(tenths, 600)
    return f"{minutes // 60}:{minutes % 60:02}:{rest / 10:04.1f}"


def _time(value_s: float | None) -> str:
    return "–" if value_s is None else shown(value_s, "s")


def _counted(number: int, noun: str) -> str:
    """
    >>> _counted(1, "turn"), _counted(1200, "turn")
    ('1 turn', '1,200 turns')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _examples() -> str:
    return " or ".join(repr(example) for example in EXAMPLES.values())


def _headline(summary: LogSummary) -> list[str]:
    span = "no times" if summary.span_s is None else f"{_instant(summary.span_s)} long"
    exact = (
        ""
        if summary.resolution_s is None
        else f", times to within {shown(max(summary.resolution_s, STEP_S), 's')}"
    )
    lines = [f"{summary.server}: {_counted(summary.lines, 'line')}, {span}{exact}", _known(summary)]
    if summary.turns is not None:
        mixed = f", {summary.mixed_turns} of them mixed" if summary.mixed_turns else ""
        lines.append(f"{_counted(summary.turns, 'turn')}{mixed}")
    return lines


def _known(summary: LogSummary) -> str:
    known, of = summary.known_lines, summary.lines
    said = f"known: {known:,} of {_counted(of, 'line')}"
    if (known < FEW_LINES and known < FEW_SHARE * of) or known < LEAST_SHARE * of:
        return f"{said}, hardly any; one looks like {_examples()}"
    return said


def _figure_table(summary: LogSummary) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("figure", "p50", "p95", "n"):
        table.add_column(heading, justify="left" if heading == "figure" else "right", no_wrap=True)
    table.add_column("")
    for name, meaning in FIGURES.items():
        pair = summary.figures[name]
        if pair is not None:
            cells = (_cell(pair[0]), _cell(pair[1]), Text(f"n={pair[0].n}", "dim"))
            table.add_row(Text(name), *cells, Text(meaning, "dim"))
    return table


def _cell(quantile: Quantile) -> Text:
    """Of samples too few for the quantile, the largest."""
    if quantile.value is None:
        return Text(f"max {_time(quantile.maximum)}", "dim")
    return Text(_time(quantile.value))


def _lines_below(summary: LogSummary) -> list[str]:
    parts = (_count_lines, _client_lines, _load_lines, _fault_lines)
    return [line for part in parts for line in part(summary)]


def _count_lines(summary: LogSummary) -> list[str]:
    lines = [
        f"{COUNTS[name]}: {count}" for name, count in summary.counts.items() if count is not None
    ]
    if summary.dropped_s:
        lines.append(f"audio dropped: {_time(summary.dropped_s)}")
    if summary.backlog_s is not None:
        lines.append(f"largest queue logged: {_time(summary.backlog_s)} of audio")
    if summary.boot_latency_s is not None:
        floor_s = summary.boot_latency_s + 0.1
        lines.append(f"floor of every wait, from the latency at boot: {_time(floor_s)}")
    return lines


def _load_lines(summary: LogSummary) -> list[str]:
    if not summary.loaded_per_session:
        return []
    loads = [f"{_instant(load.at_s)} ({_time(load.took_s)})" for load in summary.loads]
    return [f"models are loaded while the server runs, as if per session: {_first(loads)}"]


def _client_lines(summary: LogSummary) -> list[str]:
    moments = [f"{_instant(moment.at_s)} {moment.clients}" for moment in summary.clients]
    return [f"clients over time: {_first(moments)}"] if moments else []


def _first(texts: Sequence[str]) -> str:
    more = len(texts) - LISTED
    return ", ".join(texts[:LISTED]) + (f" and {more} more (--json has them)" if more > 0 else "")


def _fault_lines(summary: LogSummary) -> list[str]:
    worst = sorted(summary.faults.items(), key=lambda fault: -fault[1])[:5]
    return [f"error ×{times}: {message}" for message, times in worst]


def _alert_lines(summary: LogSummary, watch: Watch) -> Iterator[Text]:
    blind = watch.blind(summary)
    for alert, tally in watch.tallies.items():
        if tally.times:
            worst = alert.shown(tally.worst)
            first = _instant(tally.first_at_s)
            yield Text(
                f"ALERT {alert.text}: {_counted(tally.times, 'time')}, worst {worst}, "
                f"first at {first}",
                "bold red",
            )
        elif alert in blind:
            yield Text(f"alert {alert.text}: not to be seen in this log", "yellow")


def _alerts_json(summary: LogSummary, watch: Watch) -> Sequence[dict[str, object]]:
    blind = watch.blind(summary)
    return [
        {"text": alert.text, **asdict(tally), "visible": bool(tally.times) or alert not in blind}
        for alert, tally in watch.tallies.items()
    ]
