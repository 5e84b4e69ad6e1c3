"""`rtvc profile cpu`."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rtvc.clock import Clock, SystemClock
from rtvc.duration import parse_duration
from rtvc.errors import ProfileError, UsageError, why
from rtvc.profile.cpu.flamegraph import flamegraph, speedscope
from rtvc.profile.cpu.py_spy import (
    NOTHING_KEPT,
    Interrupted,
    Recording,
    Wish,
    py_spy_executable,
    record,
)
from rtvc.profile.cpu.rules import Stage, stage_of
from rtvc.profile.cpu.sampling import (
    FEW_SAMPLES,
    CpuProfile,
    StageTime,
    as_json,
    attribute,
    collapsed,
    headline,
    is_idle,
    process_title,
)
from rtvc.profile.cpu.target import pid_of_container, pid_of_url
from rtvc.profile.interrupts import terminable

SMALL = 0.005
"""Share of the CPU time below which a process without samples is not shown."""

LONGEST_S = 3600
"""Of a recording."""

INTERRUPTED = 130


def cpu(
    pid: Annotated[
        int | None,
        typer.Option("--pid", metavar="PID", min=1, help="The process.", show_default=False),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="The server of this machine that listens here."),
    ] = None,
    container: Annotated[
        str | None, typer.Option("--container", metavar="NAME", help="A container of this machine.")
    ] = None,
    duration: Annotated[
        str, typer.Option("--duration", metavar="TIME", help="Length: 10, 90s, 2m; at most 1h.")
    ] = "10",
    rate: Annotated[
        int, typer.Option("--rate", metavar="N", min=1, max=1000, help="Samples a second.")
    ] = 50,
    subprocesses: Annotated[
        bool, typer.Option("--subprocesses/--alone", help="With its children, or alone.")
    ] = True,
    native: Annotated[
        bool,
        typer.Option("--native", help="Frames of native libraries too: dearer for the server."),
    ] = False,
    gil: Annotated[
        bool,
        typer.Option(
            "--gil", help="Only threads that hold the interpreter's lock: cheapest for the server."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help=r"For profile.svg, .speedscope.json, .raw.txt \[reports/profiles/<time>-cpu]",
            show_default=False,
        ),
    ] = None,
    as_json_: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")] = False,
) -> None:
    """Sample a server's processes: CPU time by stage of the voice pipeline, and a flamegraph.

    Works on servers without rtvc's instruments. The server runs on; each sample stops it for about
    a millisecond. Needs the right to trace it: root, or SYS_PTRACE in a container.

    Exit code: 0; 1 if nothing listens at the URL or it may not be sampled; 130 if interrupted: what
    was sampled until then is reported.
    """
    clock = SystemClock()
    wish = Wish(
        chosen_pid(pid, url, container),
        whole_seconds(duration),
        rate,
        subprocesses,
        native=native,
        gil_only=gil,
    )
    executable = py_spy_executable()
    folder = _made(out or _default_folder(clock))
    console = Console(soft_wrap=True, highlight=False)
    if not as_json_:
        console.print(f"sampling process {wish.pid} for {wish.seconds} s …", style="dim")
    recording = _recorded(wish, executable, clock, folder)
    profile = attribute(
        recording.running, recording.present, recording.used, recording.window_s, gil_only=gil
    )
    files = write(folder, recording, profile)
    notes = doubts(recording, profile)
    if as_json_:
        typer.echo(json.dumps(_document(profile, recording, notes, files), indent=2))
    else:
        show(console, profile, notes)
        console.print(f"flamegraph: {files[0]}", markup=False)
        console.print(f"speedscope: {files[1]} (open it at speedscope.app)", markup=False)
    if recording.interrupted:
        raise typer.Exit(INTERRUPTED)


def _recorded(wish: Wish, executable: Path, clock: Clock, folder: Path) -> Recording:
    """A folder for which nothing came is not left behind."""
    try:
        with terminable():
            return record(wish, executable, clock)
    except (ProfileError, KeyboardInterrupt) as error:
        with suppress(OSError):
            folder.rmdir()
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(NOTHING_KEPT) from None
        raise


def whole_seconds(duration: str) -> int:
    """As py-spy counts its time.

    >>> whole_seconds("2m")
    120
    """
    seconds = parse_duration(duration, "--duration")
    if seconds % 1 or not 1 <= seconds <= LONGEST_S:
        raise UsageError(f"expected --duration of 1s to 1h in whole seconds, got {duration!r}")
    return int(seconds)


def chosen_pid(pid: int | None, url: str | None, container: str | None) -> int:
    if sum(each is not None for each in (pid, url, container)) != 1:
        raise UsageError("expected one of --pid PID, --url URL and --container NAME")
    if url is not None:
        return pid_of_url(url)
    if container is not None:
        return pid_of_container(container)
    return pid or 0


def _default_folder(clock: Clock) -> Path:
    return Path("reports/profiles") / f"{clock.utc():%Y%m%dT%H%M%SZ}-cpu"


def _made(folder: Path) -> Path:
    """Before the recording, so that none is lost for want of a place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {why(error)}") from None
    return folder


def write(folder: Path, recording: Recording, profile: CpuProfile) -> list[Path]:
    """The recording as flamegraph, for speedscope, and as collapsed stacks."""
    names = recording.names
    stacks = [each for each in recording.running.stacks if stage_of(each.frames) is not Stage.IDLE]
    title = headline(profile)
    native_s = sum(time.native_s for time in profile.stages.values())
    note = (
        f"Drawn: {profile.samples} samples of running Python threads, {profile.duration_s:.0f} s. "
        f"Not drawn: {native_s:.1f} of {profile.cpu_s:.1f} s of CPU time, by native threads."
    )
    scope = speedscope(stacks, names, title, recording.running.rate_hz)
    written = {
        "profile.svg": flamegraph(stacks, names, title, note),
        "profile.speedscope.json": json.dumps(scope),
        "profile.raw.txt": collapsed(recording.running.stacks, names),
    }
    try:
        for name, content in written.items():
            (folder / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise ProfileError(f"cannot write into {folder}: {why(error)}") from None
    return [folder / name for name in written]


def doubts(recording: Recording, profile: CpuProfile) -> list[str]:
    """What to know before believing the figures."""
    notes = []
    if recording.behind_s is not None:
        notes.append(
            f"py-spy fell {recording.behind_s:.1f} s behind in sampling: the machine is too busy "
            "or the stacks are many; shares may be wrong. Try --rate 20, or --gil"
        )
    if recording.cut:
        notes.append("py-spy did not end in time and was ended: the recording is incomplete")
    if recording.errors > profile.samples / 10:
        notes.append(f"{recording.errors} samples could not be taken")
    if recording.interrupted:
        notes.append(f"interrupted: the figures are of {recording.window_s:.1f} s")
    if 0 < profile.samples < FEW_SAMPLES and not is_idle(profile):
        notes.append(f"only {profile.samples} samples: shares are rough")
    if recording.present is None and not profile.gil_only:
        notes.append(
            "waiting threads could not be sampled: CPU time of native threads is shared out by "
            "running ones"
        )
    return notes


def show(console: Console, profile: CpuProfile, notes: list[str]) -> None:
    """One sentence, then the table by stage, then what was hottest."""
    console.print(Text(headline(profile), "bold"))
    for note in notes:
        console.print(Text(f"! {note}", "yellow"))
    if not profile.stages or is_idle(profile):
        return
    console.print(_table(profile))
    cores = profile.cpu_s / profile.duration_s
    spent = "holding the lock" if profile.gil_only else "of CPU time"
    console.print(
        f"{profile.cpu_s:.2f} s {spent} in {profile.duration_s:.1f} s ({cores:.2f} cores), "
        f"{profile.samples} samples. Native: computed by threads of native libraries, given to "
        "the stages that waited for them. Threads: Python threads in a stage, waiting ones too.",
        style="dim",
    )
    for call in profile.hottest[:5]:
        share = f"{100 * call.samples / profile.samples:3.0f} %"
        where = f"{call.frame.function} ({call.frame.file})"
        console.print(Text.assemble((share, "bold"), f"  {where}  ", (call.stage, "dim")))


def _table(profile: CpuProfile) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("stage", no_wrap=True)
    for name in ("share", "CPU s", "native", "threads"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = [
        process
        for process in profile.processes
        if process.samples or process.cpu_s > SMALL * profile.cpu_s
    ]
    if len(shown) > 1:
        _add(table, "all processes", profile.stages, profile.cpu_s)
    for process in shown:
        title = process_title(process.pid, {process.pid: process.name})
        _add(table, f"process {title}", process.stages, profile.cpu_s)
    return table


def _add(table: Table, title: str, stages: Any, whole_s: float) -> None:
    total_s = sum(time.cpu_s for time in stages.values())
    table.add_row(Text(title, "bold"), _share(total_s, whole_s), f"{total_s:.2f}", "", "")
    for stage, time in sorted(stages.items(), key=lambda each: (-each[1].cpu_s, each[0])):
        table.add_row(*_cells(stage, time, whole_s))


def _cells(stage: Stage, time: StageTime, whole_s: float) -> list[str]:
    threads = f"{time.threads:.2f}" if time.threads else ""
    if stage is Stage.IDLE:
        return [f"  {stage}", "", "", "", threads]
    native = f"{time.native_s:.2f}" if time.native_s else ""
    return [f"  {stage}", _share(time.cpu_s, whole_s), f"{time.cpu_s:.2f}", native, threads]


def _share(seconds: float, whole_s: float) -> str:
    return f"{100 * seconds / whole_s:.0f} %" if whole_s else ""


def _document(
    profile: CpuProfile, recording: Recording, notes: list[str], files: list[Path]
) -> dict[str, Any]:
    return {
        **as_json(profile),
        "rate_hz": recording.running.rate_hz,
        "behind_s": recording.behind_s,
        "sampling_errors": recording.errors,
        "cut": recording.cut,
        "interrupted": recording.interrupted,
        "notes": notes,
        "files": [str(path) for path in files],
    }
