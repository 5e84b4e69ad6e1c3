"""`rtvc profile doctor`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from rtvc.api_key import ApiKeyFile, find_api_key
from rtvc.clock import SystemClock
from rtvc.errors import UsageError
from rtvc.profile.doctor.checkout import read_checkout
from rtvc.profile.doctor.deployment import check_deployment
from rtvc.profile.doctor.driver import judge_gpu, read_gpu
from rtvc.profile.doctor.findings import (
    SEVERITIES,
    Finding,
    Severity,
    counted,
    exit_code,
    ordered,
    spared,
)
from rtvc.profile.doctor.process import judge_process, read_process
from rtvc.profile.doctor.server import NO_ANSWER, judge_server, read_server
from rtvc.profile.doctor.source import check_source
from rtvc.profile.target import NoAnswer, is_url

SCHEMA_VERSION = 1

_MARKS: dict[Severity, tuple[str, str]] = {
    "bad": ("✗", "bold red"),
    "warning": ("!", "yellow"),
    "note": ("·", "dim"),
    "good": ("✓", "green"),
}


@dataclass(frozen=True, slots=True)
class Examined:
    """One target and what was found there."""

    target: str
    """As given."""
    kind: str
    """folder, process or server."""
    findings: list[Finding]
    """The worst first."""

    @property
    def dead(self) -> str | None:
        """Why there was no server to be looked at; None: there was, or it is none."""
        return next((one.evidence for one in self.findings if one.id == NO_ANSWER), None)

    def to_wire(self) -> dict[str, Any]:
        found = [finding.to_wire() for finding in self.findings]
        return {"target": self.target, "kind": self.kind, "findings": found}


def doctor(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH|PID|URL",
            help=r"Folders with source and deployment files, processes, servers \[.]",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Check a voice chat for known causes of delay: its source, its process, its server.

    Nothing of it is run, imported or changed. Exit code: 0; 99 if something bad was found; 1 if no
    server answers at a URL.
    """
    key = find_api_key(api_key_file)
    examined = [examine(target, key) for target in targets or ["."]]
    everything = [finding for one in examined for finding in one.findings]
    dead = [one.dead for one in examined if one.dead is not None]
    code = NoAnswer.exit_code if dead else exit_code(everything)
    if as_json:
        typer.echo(json.dumps(_wire(examined, everything, code), indent=2))
    else:
        _print([one for one in examined if one.dead is None])
    if dead:
        raise NoAnswer("; ".join(dead))
    raise typer.Exit(code)


def _print(examined: Sequence[Examined]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for one in examined:
        for line in drawn(one):
            console.print(line)
    if examined:
        console.print(summed_up([finding for one in examined for finding in one.findings]))


def examine(target: str, api_key: str | None = None) -> Examined:
    """Look at a folder, a process or a server, whichever it is."""
    if is_url(target):
        _say_begun("server", target)
        found = judge_server(read_server(target, SystemClock(), api_key))
        return Examined(target, "server", ordered(found))
    path = Path(target)
    if target.isdecimal() and not path.exists():
        _say_begun("process", target)
        found = [*judge_process(read_process(int(target[:19]))), *judge_gpu(read_gpu())]
        return Examined(target, "process", ordered(found))
    if not path.exists():
        raise UsageError(f"expected a folder, a process id or a URL, got {target!r}")
    _say_begun("folder", target)
    return Examined(target, "folder", ordered(check_folder(path)))


def _say_begun(kind: str, target: str) -> None:
    typer.echo(f"looking at {kind} {target} …", err=True)


def check_folder(path: Path) -> list[Finding]:
    """All that files tell."""
    checkout = read_checkout(path)
    return [*check_source(checkout), *check_deployment(checkout), *checkout.unread]


def _wire(examined: list[Examined], everything: list[Finding], code: int) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "exit_code": code,
        "counts": counted(everything),
        "targets": [one.to_wire() for one in examined],
    }


def drawn(examined: Examined) -> Iterator[Text]:
    """One block for each kind of finding: what and where, then once why and the fix."""
    yield Text(f"{examined.kind} {examined.target}", "bold")
    if not examined.findings:
        yield Text("  nothing to say")
    shown = ordered(spared(examined.findings))
    for _, alike in groupby(shown, key=lambda one: (one.id, one.severity)):
        group = list(alike)
        for finding in group:
            mark, style = _MARKS[finding.severity]
            yield Text.assemble((f"{mark} {finding.what}", style), (f"  {finding.evidence}", "dim"))
        if group[0].severity != "good":
            yield from _advice(group[0])
    yield Text("")


def _advice(finding: Finding) -> Iterator[Text]:
    check = finding.check
    source = f" ({check.source})" if check.source else ""
    yield Text(f"    costs: {check.why}{source}")
    if check.fix:
        yield Text(f"    fix:   {check.fix}")


def summed_up(findings: Sequence[Finding]) -> Text:
    """How many of each, in the colour of the worst."""
    counts = counted(findings)
    found = [severity for severity in SEVERITIES if counts[severity]]
    worst: Severity = found[0] if found else "good"
    plural = {"warning": "warnings", "note": "notes"}
    parts = [
        f"{n} {severity if n == 1 else plural.get(severity, severity)}"
        for severity, n in counts.items()
    ]
    return Text(", ".join(parts), _MARKS[worst][1])
