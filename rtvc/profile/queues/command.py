"""`rtvc profile queues`."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rtvc.api_key import ApiKeyFile, bearer, find_api_key
from rtvc.clock import SystemClock
from rtvc.duration import parse_positive_duration
from rtvc.errors import RecordError, RtvcError
from rtvc.profile.queues.backlog import (
    Origin,
    QueueHistory,
    Reading,
    from_samples,
    from_turns,
    histories,
    sentence,
    sparkline,
    to_json,
    watch,
)
from rtvc.profile.run_folder import recorded
from rtvc.profile.target import NoAnswer, http_address, is_url, no_answer
from rtvc.slo import shown
from rtvc.stats import Quantile

HTTP_TIMEOUT_S = 5.0
"""For one answer."""

WIDTH = 120
"""Characters of a line where there is no terminal."""

FIGURES = 80
"""Characters of a row without its sparkline."""

INTERRUPTED = 130

_NOTES: dict[Origin, str] = {
    "samples": "from samples.csv",
    "server": "from GET /v1/sessions; – is what it does not tell",
    "turns": "this run has no samples of queues: these are the waits of its turns' jobs, each at "
    "the instant at which it was taken. To see queues, watch the server while it is under load: "
    "rtvc profile queues URL",
}


def queues(
    target: Annotated[
        str, typer.Argument(metavar="RUN|URL", help="Folder of a run, or a running server")
    ],
    duration: Annotated[
        str,
        typer.Option("--duration", metavar="TIME", help="How long to watch a server: 20, 90s, 5m."),
    ] = "20",
    interval: Annotated[
        float,
        typer.Option("--interval", metavar="SECONDS", min=0.05, help="How often to ask it."),
    ] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Do not check the server's certificate.")
    ] = False,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Show what waited in the queues of a run or of a running server, and for how long.

    Depth, seconds of audio waiting, age of the oldest, drops, and all of it over time.

    Exit code: 0; 1 if no server answers; 2 if the folder is no run; 130 if interrupted.
    """
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    duration_s = parse_positive_duration(duration, "--duration")
    origin: Origin = "server"
    ended: BaseException | None = None
    if is_url(target):
        url = http_address(target, "/v1/sessions")
        typer.echo(f"watching {url} for {shown(duration_s, 's')} …", err=True)
        shown_key = bearer(find_api_key(api_key_file))
        with httpx.Client(timeout=HTTP_TIMEOUT_S, verify=not insecure, headers=shown_key) as client:
            readings, ended = _watched(
                lambda: _ask(client, url), duration_s, interval, None if as_json else console
            )
    else:
        readings, origin = _recorded(Path(target))
    found = histories(readings)
    if as_json:
        typer.echo(json.dumps(to_json(found, origin), indent=2, allow_nan=False))
    else:
        console.print(drawn(found, origin, console.width))
    if ended is not None:
        raise ended if isinstance(ended, RtvcError) else typer.Exit(INTERRUPTED)


def _recorded(folder: Path) -> tuple[list[Reading], Origin]:
    run = recorded(folder)
    sampled = from_samples(run.samples)
    if sampled:
        return sampled, "samples"
    waits = from_turns(run)
    if not waits:
        raise RecordError(
            f"expected samples of queues in {folder}, but there are none, nor do its turns say how "
            "long they waited: watch the server while it is under load: rtvc profile queues URL"
        )
    return waits, "turns"


def _watched(
    ask: Callable[[], Any], duration_s: float, interval_s: float, console: Console | None
) -> tuple[list[Reading], BaseException | None]:
    """The readings, and what ended them too soon; a terminal shows them as they come."""
    readings: list[Reading] = []
    with _shown(console, readings) as show:

        def add(more: list[Reading]) -> None:
            readings.extend(more)
            show()

        try:
            watch(
                ask,
                clock=SystemClock(),
                sleep=time.sleep,
                duration_s=duration_s,
                interval_s=interval_s,
                on_readings=add,
            )
        except (KeyboardInterrupt, RtvcError) as ended:
            if not readings:
                raise
            return readings, ended
    return readings, None


@contextmanager
def _shown(console: Console | None, readings: list[Reading]) -> Iterator[Callable[[], None]]:
    """What to call when readings were added; it draws them where there is a terminal."""
    if console is None or not console.is_terminal:
        yield lambda: None
        return
    with Live(console=console, transient=True, auto_refresh=False) as screen:
        yield lambda: screen.update(
            drawn(histories(readings), "server", console.width), refresh=True
        )


def _ask(client: httpx.Client, url: str) -> Any:
    try:
        answer = client.get(url)
    except httpx.TransportError as error:
        raise NoAnswer(no_answer(url, error)) from None
    try:
        return answer.json()
    except ValueError:
        return None


def drawn(queues: Sequence[QueueHistory], origin: Origin, width: int) -> RenderableType:
    """The sentence, then a line a queue, `width` characters wide."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("queue", no_wrap=True)
    for name in ("n", "items max", "audio p50", "audio max", "oldest max", "dropped"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(_span(queues), no_wrap=True)
    for queue in queues:
        table.add_row(*_cells(queue, max(8, width - FIGURES)))
    said = Text(sentence(queues), "bold")
    return Group(said, Text(""), table, Text(_NOTES[origin], "dim"))


def _span(queues: Sequence[QueueHistory]) -> str:
    ends_s = [reading.at_s for queue in queues for reading in queue.readings]
    return f"over {shown(max(ends_s) - min(ends_s), 's')}" if ends_s else ""


def _cells(queue: QueueHistory, columns: int) -> list[Text]:
    backlog = queue.told("backlog_s")
    middle = Quantile.of(backlog, 0.5).value
    depth, dropped = max(queue.told("depth"), default=None), queue.dropped
    return [
        Text(queue.name),
        Text(f"{len(queue.readings)}", "dim"),
        Text("–" if depth is None else f"{depth:g}"),
        Text(_seconds(middle)),
        Text(_seconds(max(backlog, default=None))),
        Text(_seconds(max(queue.told("oldest_age_s"), default=None))),
        Text("–" if dropped is None else f"{dropped:g}", "red" if dropped else ""),
        Text(sparkline(queue.line, columns), "red" if queue.growth is not None else "cyan"),
    ]


def _seconds(value: float | None) -> str:
    return "–" if value is None else shown(value, "s")
