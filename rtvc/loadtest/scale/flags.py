"""Flags of `rtvc loadtest` that say where the speakers live."""

from typing import Annotated, Any

import typer

from rtvc.errors import UsageError
from rtvc.loadtest.scale.spread import BIND_PORT, WEB_PORT, Spread

PATIENCE_S = 120.0
"""For workers to come."""


def _flag(name: str, text: str, metavar: str | None = None) -> Any:
    # Brackets hold defaults here, not markup.
    shown = text.replace("[", r"\[")
    return typer.Option(name, help=shown, show_default=False, metavar=metavar)


Processes = Annotated[int, _flag("--processes", "Generator processes on this machine [1]", "N")]
Master = Annotated[bool, _flag("--master", "Let workers on other machines do the speaking")]
ExpectWorkers = Annotated[int, _flag("--expect-workers", "Of the master: how many [1]", "N")]
MaxWait = Annotated[
    float,
    _flag("--expect-workers-max-wait", "Of the master: give up after so long [120]", "SECONDS"),
]
BindHost = Annotated[
    str, _flag("--bind-host", "Of the master: where workers reach it [127.0.0.1]", "HOST")
]
BindPort = Annotated[int, _flag("--bind-port", f"Of the master: its port [{BIND_PORT}]", "PORT")]
IsWorker = Annotated[bool, _flag("--worker", "Lend this machine's speakers to a master; no URL")]
Join = Annotated[
    str | None, _flag("--join", f"Of a worker: its master, HOST or HOST:PORT [{BIND_PORT}]", "HOST")
]
Web = Annotated[bool, _flag("--web", "Locust's page beside the run, on this machine only")]
WebPort = Annotated[int, _flag("--web-port", f"Port of that page [{WEB_PORT}]", "PORT")]


def spread_of(
    *,
    processes: int,
    master: bool,
    expect_workers: int,
    max_wait_s: float,
    bind_host: str,
    bind_port: int,
    web_port: int | None,
) -> Spread:
    """Raises UsageError for flags that do not go together."""
    if master and expect_workers < 1:
        raise UsageError(f"expected at least one of --expect-workers, got {expect_workers}")
    if not 1 <= max_wait_s <= 86_400:
        raise UsageError(
            f"expected --expect-workers-max-wait of 1 to 86400 s, got {max_wait_s:g} s"
        )
    for name, port in (("--bind-port", bind_port), ("--web-port", web_port or WEB_PORT)):
        if not 0 < port < 65536:
            raise UsageError(f"expected a {name} of 1 to 65535, got {port}")
    return Spread(
        processes=processes,
        workers=expect_workers if master else 0,
        bind_host=bind_host,
        bind_port=bind_port,
        patience_s=max_wait_s,
        web_port=web_port,
    )


def check_roles(
    *, url: str | None, master: bool, worker: bool, join: str | None, processes: int
) -> None:
    """Raises UsageError unless it is a run, a master or a worker."""
    if worker and (url is not None or master):
        raise UsageError("expected --worker without a URL: its master says where to speak")
    if worker and join is None:
        raise UsageError("expected --worker with --join HOST:PORT")
    if not worker and join is not None:
        raise UsageError("expected --join with --worker")
    if not worker and url is None:
        raise UsageError("expected the server's URL, such as ws://127.0.0.1:8000")
    if processes < 1:
        raise UsageError(f"expected at least one of --processes, got {processes}")
