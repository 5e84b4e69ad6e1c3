"""`rtvc profile diagnose`."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from rtvc.api_key import ApiKeyFile, find_api_key
from rtvc.clock import Clock, SystemClock
from rtvc.errors import RtvcError, UsageError
from rtvc.profile.diagnose.comparison import Comparison, compare
from rtvc.profile.diagnose.procedure import Order, Procedure, started
from rtvc.profile.diagnose.reading import phase_folders
from rtvc.profile.diagnose.text import lines, to_json, write
from rtvc.profile.diagnose.verdict import Diagnosis
from rtvc.profile.diagnose.verdict import diagnose as diagnosed
from rtvc.profile.interrupts import terminable
from rtvc.profile.target import http_address, is_url
from rtvc.record import load_manifest
from rtvc.slo import Objective, parse_objectives

INTERRUPTED = 130
SERVER_LOG = "server.log"
"""What the server of --start said."""

AFTER = "after"
"""Folder of the phases with --start, within the earlier diagnosis."""


def diagnose(
    target: Annotated[
        str,
        typer.Argument(metavar="URL|RUN", help="A server, or the folder of a diagnosis or a run"),
    ],
    speakers: Annotated[
        int, typer.Option("--speakers", metavar="N", min=1, help="Of the last phase.")
    ] = 4,
    duration: Annotated[
        float, typer.Option("--duration", metavar="SECONDS", min=5, help="Of each phase.")
    ] = 20.0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Where to keep it; phases that are there already are not run again.",
            show_default="reports/runs/<time>-diagnosis",
        ),
    ] = None,
    pid: Annotated[
        int | None, typer.Option("--pid", help="The server's process, if its port does not tell.")
    ] = None,
    slo: Annotated[
        list[str] | None,
        typer.Option("--slo", metavar="OBJECTIVE", help="As of rtvc loadtest; repeatable."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="FOLDER", help="An earlier diagnosis to compare with."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--start", metavar="COMMAND", help="Starts the server with the fix; measured again."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Accept a self-signed certificate (wss).")
    ] = False,
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api-key",
            metavar="KEY",
            help="A key, for all users of this machine to see: rather --api-key-file.",
        ),
    ] = None,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Find out why a voice server is slow: one speaker, then two at once, then many.

    Joins what callers felt with what the server and the machine did meanwhile, and names the
    causes: evidence, share of the delay, fix, expected gain.

    Exit code: 0 healthy, 99 a cause was found, 3 void or undecided, 130 interrupted (what was
    measured is kept and told, not judged).
    """
    objectives = parse_objectives(slo or ())
    wish = _Wish(target, out, against, start, objectives)
    order = Order(
        url=wish.url or "",
        folder=wish.folder,
        speakers=speakers,
        duration_s=duration,
        pid=pid,
        objectives=tuple(slo or ()),
        insecure=insecure,
        api_key=find_api_key(api_key_file, api_key),
    )
    with terminable():
        code = _run(wish, order, as_json=as_json)
    raise typer.Exit(code)


class _Wish:
    """What was asked for, checked and put in order."""

    def __init__(
        self,
        target: str,
        out: Path | None,
        against: Path | None,
        start: str | None,
        objectives: tuple[Objective, ...],
    ) -> None:
        self.start = start
        self.objectives = objectives
        self.before = against
        self.url: str | None = None
        self.kept_in = out
        """Where to write what was found; None: a run that is only read stays as it is."""
        if is_url(target):
            http_address(target, "/")
            self.url = target
            self.folder = self.kept_in = out or _default_folder(SystemClock())
            return
        earlier = Path(target)
        is_run = phase_folders(earlier)[0][1] == earlier
        self.folder = earlier
        self.kept_in = out or (None if is_run else earlier)
        if start is not None:
            # The folder is the earlier diagnosis: the server is measured anew.
            self.before = against or earlier
            self.url = _url_of(earlier)
            self.folder = self.kept_in = out or earlier / AFTER

    @property
    def measures(self) -> bool:
        return self.url is not None


def _url_of(folder: Path) -> str:
    first = phase_folders(folder)[0][1]
    url = load_manifest(first).url
    if url is None:
        raise UsageError(f"expected {first} to say which server it measured, but it does not")
    return url


def _default_folder(clock: Clock) -> Path:
    return Path("reports/runs") / f"{clock.utc():%Y%m%dT%H%M%SZ}-diagnosis"


def _run(wish: _Wish, order: Order, *, as_json: bool) -> int:
    """The exit code."""
    said = Console(stderr=True, soft_wrap=True, highlight=False)
    before = None if wish.before is None else diagnosed(wish.before, wish.objectives)
    interrupted = _measured(wish, order, said) if wish.measures else False
    diagnosis = _diagnosed(wish, interrupted=interrupted)
    if diagnosis is None:
        said.print("interrupted before anything was measured")
        return INTERRUPTED
    comparison = None if before is None else compare(before, diagnosis)
    if wish.kept_in is not None:
        write(wish.kept_in, diagnosis, comparison)
    _show(diagnosis, comparison, wish, as_json=as_json)
    return INTERRUPTED if interrupted else diagnosis.exit_code


def _measured(wish: _Wish, order: Order, said: Console) -> bool:
    """Whether it was interrupted."""

    def tell(line: str) -> None:
        said.print(line, markup=False)

    clock = SystemClock()
    try:
        with ExitStack() as leaving:
            if wish.start is not None:
                log = order.folder / SERVER_LOG
                server = started(wish.start, order.url, log, clock, tell)
                leaving.enter_context(server)
            return Procedure(order, clock, tell).run()
    except KeyboardInterrupt:
        return True
    except RtvcError as error:
        # A server that went away in the middle leaves phases that tell of it.
        if isinstance(error, UsageError) or not _has_phases(order.folder):
            raise
        tell(f"rtvc: {error}")
        return False


def _has_phases(folder: Path) -> bool:
    try:
        return bool(phase_folders(folder))
    except RtvcError:
        return False


def _diagnosed(wish: _Wish, *, interrupted: bool) -> Diagnosis | None:
    """None: it was interrupted before there was anything to diagnose."""
    try:
        return diagnosed(wish.folder, wish.objectives, interrupted=interrupted)
    except RtvcError:
        if interrupted:
            return None
        raise


def _show(
    diagnosis: Diagnosis, comparison: Comparison | None, wish: _Wish, *, as_json: bool
) -> None:
    if as_json:
        content = {**to_json(diagnosis, comparison), "folder": str(wish.folder)}
        typer.echo(json.dumps(content, indent=2, allow_nan=False))
        return
    console = Console(soft_wrap=True, highlight=False)
    for text, style in lines(diagnosis, comparison):
        console.print(Text(text, style))
    console.print(Text(f"folder: {wish.folder}", "dim"))
