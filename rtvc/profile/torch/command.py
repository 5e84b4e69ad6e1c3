"""`rtvc profile torch`."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from rtvc.clock import SystemClock
from rtvc.config import child_environment
from rtvc.duration import parse_positive_duration
from rtvc.errors import RecordError, RtvcError, UsageError, why
from rtvc.profile.interrupts import terminable
from rtvc.profile.torch.trace import (
    HOW_TO_GET_IT,
    NOT_SHOWN,
    OPERATORS_FILE,
    OUTCOME_FILE,
    TRACE_FILE,
    Operator,
    Outcome,
    has_torch,
    program_arguments,
)

MOST_SHOWN = 15
"""Operators in the terminal; all are in the file."""

PATIENCE_S = 60.0
"""For a program to end, and its trace to be written, once its time is up."""


def torch(
    command: Annotated[
        list[str],
        typer.Argument(metavar="-- CMD ARGS", help="A script, or -m and a module; then arguments"),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help=r"New folder for the trace \[reports/torch/<time>]",
            metavar="FOLDER",
            show_default=False,
        ),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            "--duration",
            help=r"End the program after 90, 90s, 2m \[when it ends]",
            metavar="TIME",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The operators as JSON at the end")
    ] = False,
) -> None:
    """Run a Python program under torch.profiler: a Chrome trace, and a table of its operators.

    CTranslate2, which faster-whisper runs on, is no part of PyTorch: none of its operators show.
    Recording costs time, and memory with every call: choose --duration for a server.

    Exit code: the program's; 1 without PyTorch.
    """
    duration_s = None if duration is None else parse_positive_duration(duration, "--duration")
    arguments = program_arguments(command)
    if not has_torch():
        raise RtvcError(f"PyTorch is not installed here: {HOW_TO_GET_IT}. {NOT_SHOWN}")
    folder = _new_folder(out)
    outcome = _run(arguments, folder, duration_s)
    _tell(outcome, folder, as_json=as_json)
    raise typer.Exit(outcome.exit_code)


def _new_folder(out: Path | None) -> Path:
    folder = out or Path("reports/torch") / f"{SystemClock().utc():%Y%m%d-%H%M%S}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"expected a new or empty folder, got {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"cannot write to {folder}: {why(error)}") from None
    return folder


def _run(arguments: Sequence[str], folder: Path, duration_s: float | None) -> Outcome:
    """In a process of its own, which the program may end as it likes."""
    child = [sys.executable, "-m", "rtvc.profile.torch.trace"]
    child += [str(folder.absolute()), "-" if duration_s is None else str(duration_s), *arguments]
    patience_s = None if duration_s is None else duration_s + PATIENCE_S
    # In a session of its own: Ctrl-C reaches it once, and from us.
    with (
        terminable(),
        subprocess.Popen(child, env=child_environment(), start_new_session=True) as process,
    ):
        try:
            process.wait(patience_s)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            _wait_for_the_trace(process)
        except subprocess.TimeoutExpired:
            # It may be that only its threads would not end.
            process.kill()
        code = process.wait()
    return _outcome(folder / OUTCOME_FILE, code)


def _wait_for_the_trace(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(PATIENCE_S)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        process.kill()


def _outcome(file: Path, code: int) -> Outcome:
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError):
        raise RtvcError(
            f"the program's process ended with {code} before the trace could be written"
        ) from None
    file.unlink()
    if "error" in found:
        raise RtvcError(found["error"])
    return TypeAdapter(Outcome).validate_python(found)


def _tell(outcome: Outcome, folder: Path, *, as_json: bool) -> None:
    console = Console(stderr=as_json, soft_wrap=True, highlight=False)
    if as_json:
        found = [asdict(operator) for operator in outcome.operators]
        typer.echo(json.dumps({"operators": found, "note": NOT_SHOWN}, indent=2))
    elif outcome.operators:
        console.print(_table(outcome.operators[:MOST_SHOWN]))
    if not outcome.operators:
        console.print("PyTorch ran no operator in that time.", style="yellow")
    for line in _notes(outcome):
        console.print(line, markup=False)
    for name, about in ((TRACE_FILE, "open in ui.perfetto.dev"), (OPERATORS_FILE, "all operators")):
        console.print(f"{folder / name}  ({about})", markup=False)


def _notes(outcome: Outcome) -> list[str]:
    notes = []
    if outcome.time_was_up:
        notes.append("The program was ended when its time was up.")
    if outcome.ctranslate2:
        notes.append(f"The program loaded CTranslate2. {NOT_SHOWN}")
    else:
        notes.append(NOT_SHOWN)
    return notes


def _table(operators: Sequence[Operator]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("operator", no_wrap=True)
    for name in ("calls", "device ms", "CPU ms", "CPU ms with callees"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in operators:
        cells = (one.device_s, one.cpu_s, one.cpu_total_s)
        table.add_row(one.name.replace("[", r"\["), str(one.calls), *map(_ms, cells))
    return table


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:.2f}"
