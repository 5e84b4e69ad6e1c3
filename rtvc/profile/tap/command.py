"""`rtvc profile tap`."""

import asyncio
import json
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from rtvc.clock import SystemClock
from rtvc.duration import parse_duration
from rtvc.errors import UsageError
from rtvc.profile.tap.protocols import PROTOCOLS
from rtvc.profile.tap.proxy import Tap, Target, parse_listen, parse_target
from rtvc.profile.tap.summary import Tally, TurnsFile, connection_line, turn_line
from rtvc.profile.tap.turns import Turn
from rtvc.profile.tap.watch import Connection

AUTO = "auto"


class Teller:
    """Prints and records in a thread of its own: a full pipe or disk must not stop the relay."""

    def __init__(self, file: TurnsFile | None, *, as_json: bool) -> None:
        self.tally = Tally()
        self._file = file
        self._as_json = as_json
        self._thread = ThreadPoolExecutor(1, "tap-teller")
        self._failed: BaseException | None = None

    def turn(self, turn: Turn) -> None:
        self._later(self._thread.submit(self._tell_turn, turn))

    def connection(self, connection: Connection) -> None:
        self._later(self._thread.submit(self._tell_connection, connection))

    def close(self) -> None:
        """All that was seen is told.

        Raises:
            RecordError: some of it could not be written.
        """
        self._thread.shutdown()
        if self._failed is not None:
            raise self._failed

    def _later(self, telling: "Future[None]") -> None:
        telling.add_done_callback(self._told)

    def _told(self, telling: "Future[None]") -> None:
        self._failed = self._failed or telling.exception()

    def _tell_turn(self, turn: Turn) -> None:
        self.tally.turn(turn)
        if self._file is not None:
            self._file.append(turn)
        self._say(turn_line(turn), {"turn": asdict(turn)})

    def _tell_connection(self, connection: Connection) -> None:
        self.tally.connection(connection)
        # Ordinary requests, a page and its files, are counted only.
        if connection.outcome != "http":
            self._say(connection_line(connection), {"connection": asdict(connection)})

    def _say(self, line: str, content: dict[str, Any]) -> None:
        typer.echo(json.dumps(content, allow_nan=False) if self._as_json else line)


def tap(
    listen: Annotated[
        str,
        typer.Argument(metavar="LISTEN", help="Address for the clients, such as 127.0.0.1:9000"),
    ],
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="The server behind it, such as ws://127.0.0.1:8000"),
    ],
    protocol: Annotated[
        str, typer.Option("--protocol", metavar="NAME", help=f"{AUTO}, {', '.join(PROTOCOLS)}")
    ] = AUTO,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Folder for tap_turns.csv, a row a turn as it ends"
        ),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option("--duration", metavar="TIME", help="90, 90s, 2m: then it ends by itself"),
    ] = None,
    keep_text: Annotated[
        bool, typer.Option("--keep-text", help="Show and record what was heard")
    ] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Accept any certificate of the target (wss)")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line; the summary is the last")
    ] = False,
) -> None:
    """Time every turn between clients and a voice server that knows nothing of it.

    Clients connect to LISTEN instead of TARGET. Every byte passes unchanged; no text or audio is
    kept. Ends with Ctrl-C or after --duration, and then prints a summary.
    """
    if protocol not in (AUTO, *PROTOCOLS):
        known = ", ".join((AUTO, *PROTOCOLS))
        raise UsageError(f"expected a protocol of {known}, got {protocol!r}")
    address, server = parse_listen(listen), parse_target(target)
    duration_s = None if duration is None else parse_duration(duration, "--duration")
    with ExitStack() as open_files:
        file = open_files.enter_context(TurnsFile(out)) if out is not None else None
        teller = Teller(file, as_json=as_json)
        relay = Tap(
            server,
            teller,
            SystemClock(),
            protocol=None if protocol == AUTO else protocol,
            keep_text=keep_text,
            insecure=insecure,
        )
        try:
            asyncio.run(_run(relay, address, server, duration_s))
        finally:
            teller.close()
        _summarise(teller.tally, file, as_json=as_json)


async def _run(
    relay: Tap, address: tuple[str, int], target: Target, duration_s: float | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    host, port = address
    async with relay.listening(host, port) as actual_port:
        shown = f"[{host}]" if ":" in host else host
        typer.echo(
            f"tap: clients connect to ws://{shown}:{actual_port}{target.path}, "
            f"the server is {target.host}:{target.port}; Ctrl-C ends it",
            err=True,
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(duration_s):
                await stop.wait()


def _summarise(tally: Tally, file: TurnsFile | None, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"summary": tally.to_json()}, allow_nan=False))
        return
    console = Console(soft_wrap=True, highlight=False)
    console.print()
    console.print(tally.table())
    for note in tally.notes():
        console.print(note, markup=False)
    if file is not None:
        console.print(f"turns: {file.path}", markup=False)
