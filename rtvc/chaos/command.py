"""`rtvc chaos`."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from rtvc.chaos.course import Course, Setting
from rtvc.chaos.plan import FAULTS, PlannedFault, Schedule, chosen
from rtvc.clock import Clock, SystemClock
from rtvc.errors import RecordError, UsageError, why
from rtvc.invocation import invocation
from rtvc.record import MANIFEST_FILE, complete_manifest, load_manifest, new_manifest
from rtvc.record.manifest import Manifest
from rtvc.record.writing import RunWriter
from rtvc.report.chaos_page import write_chaos_report
from rtvc.report.chaos_terminal import chaos_panel, fault_line
from rtvc.report.terminal import terminal_width
from rtvc.results.chaos import KIND, SCHEMA, Chaos, Fault, load_fault, write_chaos

FAULTS_FOLDER = "faults"


def _flag(name: str, text: str, **more: Any) -> Any:
    return typer.Option(name, help=text.replace("[", r"\["), show_default=False, **more)


def chaos(
    model: Annotated[
        str, _flag("--model", "Speech-to-text model of the server [selftest]", metavar="NAME")
    ] = "selftest",
    speakers: Annotated[
        int, _flag("--speakers", "Speakers who talk all the while [4]", metavar="N", min=1)
    ] = 4,
    only: Annotated[
        list[str] | None,
        _flag("--only", "Only this fault; repeatable [all; see --list]", metavar="FAULT"),
    ] = None,
    out: Annotated[
        Path | None,
        _flag(
            "--out",
            "Run directory; faults that are done in it are not done again "
            "[reports/runs/<time>-chaos]",
            metavar="DIR",
        ),
    ] = None,
    calm: Annotated[
        float, _flag("--calm", "Before each fault [13]", metavar="SECONDS", min=5, max=600)
    ] = 13.0,
    recovery: Annotated[
        float, _flag("--recovery", "After each fault [15]", metavar="SECONDS", min=5, max=600)
    ] = 15.0,
    listed: Annotated[bool, _flag("--list", "Only list the faults")] = False,
) -> None:
    """Bring faults about, one after another, while people talk; say what they felt.

    For each fault: a server of its own on this machine, simulated speakers, calm, the fault,
    recovery. All of them take about 17 minutes.

    Exit code: 0 no final lost, no word in the wrong session, recovered each time without a
    restart; 99 otherwise; 3 if nothing is proven, as the load generator did not keep up.
    """
    faults = chosen(only or ())
    if listed:
        for fault in faults:
            typer.echo(f"{fault.name:<26}{fault.done}")
        return
    clock = SystemClock()
    # Whoever stops chaos stops all of it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = out or Path("reports/runs") / f"{clock.utc():%Y%m%dT%H%M%SZ}-chaos"
    setting = Setting(model, speakers, Schedule(calm, recovery))
    raise typer.Exit(Chaotic(folder, setting, clock).run(faults))


class Chaotic:
    """One run, or what is left of one."""

    def __init__(self, folder: Path, setting: Setting, clock: Clock) -> None:
        self._folder = folder
        self._setting = setting
        self._clock = clock
        self._console = Console(stderr=True)

    def run(self, faults: Sequence[PlannedFault]) -> int:
        """The exit code."""
        manifest = self._manifest()
        began_s = self._clock.now()
        for fault in faults:
            folder = self._folder / FAULTS_FOLDER / fault.name
            if load_fault(folder) is None:
                found = Course(fault, self._setting, folder, self._clock, self._say).run()
                self._say(fault_line(found))
                self._keep(manifest)
        length_s = (manifest.duration_s or 0.0) + self._clock.now() - began_s
        complete_manifest(self._folder, duration_s=length_s)
        return self._tell(self._keep(manifest))

    def _manifest(self) -> Manifest:
        """That of the folder, whose settings must be these; a new one if it is new.

        Raises:
            UsageError: the folder holds something else.
        """
        settings = {
            "kind": KIND,
            "model": self._setting.model,
            "speakers": self._setting.speakers,
            "calm_s": self._setting.schedule.calm_s,
            "recovery_s": self._setting.schedule.recovery_s,
        }
        if (self._folder / MANIFEST_FILE).exists():
            manifest = load_manifest(self._folder)
            if manifest.settings != settings:
                raise UsageError(
                    f"expected a new folder or a run with the same settings, but {self._folder} "
                    f"was made with {_differences(manifest.settings, settings)}"
                )
            return manifest
        return self._new_manifest(settings)

    def _new_manifest(self, settings: dict[str, Any]) -> Manifest:
        if self._folder.is_dir() and any(self._folder.iterdir()):
            raise UsageError(f"expected an empty folder or one of rtvc chaos, got {self._folder}")
        made = new_manifest(
            invocation(), self._clock, settings=settings, model=self._setting.model, colocated=True
        )
        with RunWriter(self._folder, made) as writer:
            return writer.manifest

    def _keep(self, manifest: Manifest) -> Chaos:
        """Write what is known so far: a run that is cut off has its page too."""
        found = Chaos(
            schema=SCHEMA,
            kind=KIND,
            started_at=manifest.started_at,
            model=self._setting.model,
            speakers=self._setting.speakers,
            faults=tuple(self._done()),
        )
        try:
            write_chaos(self._folder, found)
            write_chaos_report(self._folder, found, manifest)
        except OSError as error:
            raise RecordError(f"cannot write to {self._folder}: {why(error)}") from error
        return found

    def _done(self) -> list[Fault]:
        """Every fault that was done in this folder, in the usual order."""
        folders = [self._folder / FAULTS_FOLDER / fault.name for fault in FAULTS]
        return [fault for folder in folders if (fault := load_fault(folder)) is not None]

    def _tell(self, found: Chaos) -> int:
        console = Console(soft_wrap=True, highlight=False)
        console.print(chaos_panel(found, terminal_width(console)))
        console.print(f"report: {self._folder / 'report.html'}", markup=False)
        return found.exit_code

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    other = {name: value for name, value in theirs.items() if ours.get(name) != value}
    return ", ".join(f"{name} = {value}" for name, value in other.items()) or "other settings"
