"""`rtvc models`: what there is, what is here, fetching, making and removing it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from rtvc.errors import ModelError
from rtvc.stt import hub, synthetic
from rtvc.stt.models import (
    CATALOGUE,
    CatalogueEntry,
    catalogue_entry,
    is_here,
    resolve_model,
)
from rtvc.stt.transcriber import ReportProgress

models = typer.Typer(
    help="Speech-to-text models: what there is, what is here; fetch, make and remove them.",
    pretty_exceptions_enable=False,
)

_Name = Annotated[str, typer.Argument(help="Such as base.en; rtvc models list shows them all.")]


@models.callback(invoke_without_command=True)
def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@models.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """List every model with size, languages, licence, memory, and whether it is here."""
    rows = [*_built_in(), *(_row(entry) for entry in CATALOGUE.values()), *_made()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    console = Console(highlight=False)
    console.print(_table(rows))
    console.print(
        "memory: a process with the model as int8 on a CPU; GPU: its weights alone as float16. "
        "synthetic:NAME is any size with random weights, to measure what a machine can do.",
        style="dim",
    )


@models.command("pull")
def pull(name: _Name) -> None:
    """Fetch a model from the hub; what an earlier attempt fetched is not fetched again."""
    entry = catalogue_entry(name)
    console = Console(stderr=True, highlight=False)
    if is_here(entry):
        console.print(f"{entry.name} is here already")
        return
    with _progress(console, entry.name) as report:
        folder = resolve_model(entry.name, report=report).path
    console.print(f"{entry.name} is here now: {folder}", soft_wrap=True)


@models.command("synthesize")
def synthesize(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(synthetic.DIMENSIONS)}.")],
) -> None:
    """Make a model of that size with random weights: it measures a machine, and hears nothing."""
    size = name.removeprefix(synthetic.PREFIX)
    console = Console(stderr=True, highlight=False)
    with _progress(console, f"{synthetic.PREFIX}{size}") as report:
        folder = synthetic.synthesized(size, report)
    console.print(f"use it as --model {synthetic.PREFIX}{size}: {folder}", soft_wrap=True)


@models.command("remove")
def remove(
    name: _Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a model, or what was fetched of it, from this machine."""
    console = Console(stderr=True, highlight=False)
    size = _synthetic_size(name)
    repository = None if size else catalogue_entry(name).repository
    here_bytes = hub.bytes_here(repository) if repository else _made_bytes(size)
    if not here_bytes:
        raise ModelError(f"expected {name} on this machine, nothing of it is here")
    if not yes:
        typer.confirm(f"Remove {name} ({here_bytes / 1e6:.0f} MB)?", abort=True, err=True)
    freed_bytes = hub.forget(repository) if repository else synthetic.forget(size)
    console.print(f"removed {name}: {freed_bytes / 1e6:.0f} MB")


def _synthetic_size(name: str) -> str:
    """The size named by synthetic:SIZE; nothing for other names."""
    if not name.startswith(synthetic.PREFIX):
        return ""
    size = name.removeprefix(synthetic.PREFIX)
    synthetic.dimensions_of(size)
    return size


def _made_bytes(size: str) -> int:
    folder = synthetic.synthetic_folder(size)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _built_in() -> Iterator[dict[str, Any]]:
    common = {"download_mb": 0, "gpu_memory_mb": None, "memory_mb": None, "here": True}
    yield {
        **common,
        "name": "selftest",
        "languages": 1,
        "licence": "MIT",
        "note": "synthetic speakers",
    }
    yield {
        **common,
        "name": "pocketsphinx",
        "languages": 1,
        "licence": "BSD-2",
        "note": "rough English",
    }


def _row(entry: CatalogueEntry) -> dict[str, Any]:
    here = is_here(entry)
    part_mb = 0 if here else hub.bytes_here(entry.repository) / 1e6
    return {
        "name": entry.name,
        "languages": entry.languages,
        "download_mb": entry.size_mb,
        "memory_mb": entry.memory_mb,
        "gpu_memory_mb": entry.gpu_memory_mb,
        "licence": entry.licence,
        "here": here,
        "note": f"{part_mb:.0f} MB of it fetched" if part_mb >= 1 else "",
    }


def _made() -> Iterator[dict[str, Any]]:
    for size, dimensions in synthetic.DIMENSIONS.items():
        folder = synthetic.synthetic_folder(size)
        if synthetic.read_card(folder) is None:
            continue
        yield {
            "name": f"{synthetic.PREFIX}{size}",
            "languages": 0,
            "download_mb": 0,
            "memory_mb": round(1.15 * dimensions.parameters / 1e6 + 140),
            "gpu_memory_mb": round(2 * dimensions.parameters / 1e6),
            "licence": "",
            "here": True,
            "note": "random weights",
        }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("model", no_wrap=True)
    for right in ("download", "memory", "GPU"):
        table.add_column(right, justify="right", no_wrap=True)
    for left in ("licence", "understands"):
        table.add_column(left, no_wrap=True)
    for row in rows:
        sizes = (row["download_mb"], row["memory_mb"], row["gpu_memory_mb"])
        mark = "[green]✓[/]" if row["here"] else " "
        about = row["note"] or _languages(row["languages"])
        table.add_row(mark, row["name"], *map(_megabytes, sizes), row["licence"], about)
    return table


def _megabytes(size: int | None) -> str:
    return f"{size:,} MB" if size else "–"


def _languages(count: int) -> str:
    return "English" if count == 1 else f"{count} languages"


@contextmanager
def _progress(console: Console, name: str) -> Iterator[ReportProgress]:
    """A bar on a terminal, a line now and then elsewhere."""
    if not console.is_terminal:
        yield _lines(console, name)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("[dim]{task.fields[detail]}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task(name, total=1.0, detail="")
        yield lambda progress, detail: bars.update(bar, completed=progress, detail=detail)


def _lines(console: Console, name: str) -> ReportProgress:
    told = -1

    def report(progress: float, detail: str) -> None:
        nonlocal told
        tenth = int(progress * 10)
        if tenth > told:
            told = tenth
            console.print(f"{name}: {detail}", markup=False)

    return report
