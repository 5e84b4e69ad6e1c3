"""`rtvc profile stages`."""

import json
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from rtvc.api_key import ApiKeyFile, bearer, find_api_key
from rtvc.errors import RtvcError, UsageError
from rtvc.instruments.chrome_trace import marks_of_turns, trace, write_trace
from rtvc.profile.run_folder import recorded
from rtvc.profile.stages.breakdown import Breakdown, breakdown, to_json
from rtvc.profile.stages.live import live_breakdown
from rtvc.profile.stages.waterfall import drawn
from rtvc.profile.target import NoAnswer, http_address, is_url, no_answer

WIDTH = 100
"""Characters of a line where there is no terminal."""

HTTP_TIMEOUT_S = 5.0
"""For one answer."""


def stages(
    target: Annotated[
        str, typer.Argument(metavar="RUN|URL", help="Folder of a run, or a running server")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    trace_file: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Also write the turns as a Chrome trace, to be opened in ui.perfetto.dev.",
            show_default=False,
        ),
    ] = None,
    slowest: Annotated[
        int, typer.Option("--slowest", metavar="N", min=0, help="Turns drawn one by one.")
    ] = 5,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Do not check the server's certificate.")
    ] = False,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Show where the delay of turns went, in a run or since a server's start.

    The segments of each delay, what none of them explains, work hidden in a wait, and the slowest
    turns as a waterfall.

    Exit code: 0; 1 if no server answers; 2 if the folder is no run.
    """
    if is_url(target):
        key = find_api_key(api_key_file)
        found = _of_server(target, trace_file, insecure=insecure, api_key=key)
    else:
        found = _of_run(Path(target), trace_file, slowest)
    if as_json:
        typer.echo(json.dumps(to_json(found), indent=2, allow_nan=False))
        return
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(drawn(found, console.width))
    if trace_file is not None:
        console.print(f"trace: {trace_file} (open it in ui.perfetto.dev)", markup=False)


def _of_run(folder: Path, trace_file: Path | None, slowest: int) -> Breakdown:
    run = recorded(folder)
    found = breakdown(run, slowest)
    if trace_file is not None:
        marks = marks_of_turns(run.turns, run.server_turns)
        write_trace(trace_file, trace(marks, run=run.folder.name))
    return found


def _of_server(
    target: str, trace_file: Path | None, *, insecure: bool, api_key: str | None
) -> Breakdown:
    if trace_file is not None:
        raise UsageError(
            "expected the folder of a run for --trace: a running server counts its turns and "
            "keeps none; record some: rtvc loadtest URL --out RUN"
        )
    url = http_address(target, "/metrics")
    try:
        answer = httpx.get(
            url, timeout=HTTP_TIMEOUT_S, verify=not insecure, headers=bearer(api_key)
        )
    except httpx.TransportError as error:
        raise NoAnswer(no_answer(url, error)) from None
    if answer.status_code != httpx.codes.OK:
        raise RtvcError(f"expected metrics at {url}, got HTTP {answer.status_code}")
    return live_breakdown(answer.text)
