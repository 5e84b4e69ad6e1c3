"""`rtvc profile live`."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Protocol

import typer
from rich.console import Console

from rtvc.api_key import ApiKeyFile, find_api_key
from rtvc.clock import Clock, SystemClock
from rtvc.errors import UsageError
from rtvc.profile.interrupts import terminable
from rtvc.profile.live.plain import LEGEND, heading, line, to_json
from rtvc.profile.live.source import Source, gpus_of
from rtvc.profile.live.terminal import full_screen
from rtvc.profile.live.watch import Status, Watch

INTERRUPTED = 130

URL = "http://127.0.0.1:8000"


def live(
    url: Annotated[str, typer.Argument(metavar="URL", help="Of rtvc's server")] = URL,
    interval: Annotated[
        float,
        typer.Option("--interval", metavar="SECONDS", min=0.5, max=60.0, help="Between readings."),
    ] = 1.0,
    duration: Annotated[
        float | None,
        typer.Option(
            "--duration",
            metavar="SECONDS",
            min=0.0,
            help="End by itself after so long (else at q or Ctrl-C).",
            show_default=False,
        ),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="A line a reading, as where there is no terminal.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Do not check the server's certificate.")
    ] = False,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Watch a running server: sessions, stages of the turns, queues, engine, GPU, event loop.

    From its /metrics and /v1/sessions. What happened is told of the last minute, what is of now.
    q or Ctrl-C ends.

    Exit code: 0; 1 if the server was never there, or is lost at the end; 2 if it is not one of
    rtvc's; 130 if interrupted before --duration.
    """
    if plain and as_json:
        raise UsageError("expected --plain or --json, got both")
    console = Console(highlight=False)
    key = find_api_key(api_key_file)
    drawn = not (plain or as_json) and sys.stdout.isatty() and not console.is_dumb_terminal
    with terminable():
        raise typer.Exit(
            _watch(url, interval, duration, console if drawn else None, as_json, insecure, key)
        )


def _watch(
    target: str,
    interval_s: float,
    duration_s: float | None,
    console: Console | None,
    as_json: bool,
    insecure: bool,
    api_key: str | None = None,
) -> int:
    """The exit code; `console` None: lines are printed instead."""
    clock = SystemClock()
    gpus, no_gpu, end_gpus = gpus_of(target, clock)
    source = Source(target, clock, gpus=gpus, insecure=insecure, api_key=api_key)
    watch = Watch(source.url, clock, interval_s, no_gpu=no_gpu)
    try:
        with _display(console, clock, as_json=as_json) as display:
            watch.run(source.read, display.show, display.wait, duration_s)
    except KeyboardInterrupt:
        watch.check()
        # Without a duration, Ctrl-C is how a watch ends.
        return 0 if duration_s is None else INTERRUPTED
    except BrokenPipeError:
        # The reader has had enough; at exit Python would flush into the pipe once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        source.close()
        end_gpus()
    return 0


class Display(Protocol):
    """Where a watch is seen."""

    def show(self, status: Status) -> None:
        """The latest."""

    def wait(self, until_s: float) -> bool:
        """Until an instant of the clock; False: the user wants to end."""


@contextmanager
def _display(console: Console | None, clock: Clock, *, as_json: bool) -> Iterator[Display]:
    if console is None:
        yield Lines(clock, as_json=as_json)
        return
    with full_screen(console, clock) as terminal:
        yield terminal


class Lines:
    """A line a reading on stdout, for programs; what changed, on stderr, for people."""

    def __init__(self, clock: Clock, *, as_json: bool) -> None:
        self._clock = clock
        self._as_json = as_json
        self._begun = False

    def show(self, status: Status) -> None:
        if not self._begun and not self._as_json:
            if status.no_gpu is not None:
                typer.echo(f"no GPU: {status.no_gpu}", err=True)
            for text in LEGEND:
                typer.echo(f"# {text}")
            typer.echo(heading())
        self._begun = True
        if status.news is not None:
            typer.echo(f"{status.at_s:.1f} s: {status.news}", err=True)
        typer.echo(to_json(status) if self._as_json else line(status))
        sys.stdout.flush()

    def wait(self, until_s: float) -> bool:
        time.sleep(max(0.0, until_s - self._clock.now()))
        return True
