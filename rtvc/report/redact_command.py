"""`rtvc redact`."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from rtvc.errors import RecordError, RtvcError, why
from rtvc.record import load_run
from rtvc.record.redaction import Redacted, is_run, learned, verify
from rtvc.record.redaction import redact as redacted
from rtvc.report.chaos_page import build_chaos_report
from rtvc.report.page import build_report
from rtvc.results.chaos import is_chaos
from rtvc.results.plan import is_plan
from rtvc.results.reading import is_bench

REPORT = "report.html"


def redact(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Where the copy goes; it must not be there yet",
            show_default="RUN-redacted",
        ),
    ] = None,
) -> None:
    """Copy a run without what was said, addresses, names of users and machines, and paths.

    Figures stay, but word latency, which is made from the words. Logs and all that cannot be
    rewritten are left out, the report of a load test or of chaos is built again. The copy is
    searched before it is yours.

    Exit code: 0; 2 if RUN is no run, DIR is there, or something was found in the copy.
    """
    source = run.resolve()
    target = out or source.with_name(f"{source.name}-redacted")
    _check(run, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix=".redacting-") as draft:
            told = _copy(source, Path(draft) / "run")
            (Path(draft) / "run").rename(target)
    except OSError as error:
        raise RecordError(f"cannot write {target}: {why(error)}") from None
    for name in told.left_out:
        typer.echo(f"left out: {name}", err=True)
    typer.echo(f"redacted: {target} ({len(told.kept)} files, {len(told.left_out)} left out)")


def _check(run: Path, target: Path) -> None:
    if not is_run(run):
        raise RecordError(f"this is no run folder: {run} (expected run.json in it)")
    if target.exists() or target.is_symlink():
        raise RecordError(f"expected a folder that is not there yet, but {target} is")
    if target.resolve().is_relative_to(run.resolve()):
        raise RecordError(f"expected a folder outside {run}, got {target}")


def _copy(source: Path, draft: Path) -> Redacted:
    draft.mkdir()
    told = redacted(source, draft)
    if (source / REPORT).exists() and not (is_bench(source) or is_plan(source)):
        _rebuild(draft)
    left_out = [name for name in told.left_out if not (draft / name).exists()]
    files = [path for path in source.rglob("*") if path.is_file() and not path.is_symlink()]
    verify(draft, learned(source, files))
    return Redacted(told.kept, tuple(left_out))


def _rebuild(draft: Path) -> None:
    """The page and its pictures, from the copy; what cannot be built is not there."""
    try:
        if is_chaos(draft):
            build_chaos_report(draft)
            return
        load_run(draft)
        build_report(draft, with_text=False, png=True)
    except RtvcError:
        for left in (draft / REPORT, draft / "figures"):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
