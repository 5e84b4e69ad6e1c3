"""`rtvc fleet vars`."""

from pathlib import Path
from typing import Annotated

import typer

from rtvc.plan.tfvars import UNIT, VARIABLE, capacity_found, doubts, write_vars
from rtvc.record import load_run


def vars(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="Folder of a rtvc loadtest --find-capacity"),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help="Such as capacity.auto.tfvars.json"),
    ],
) -> None:
    """Write the capacity that a search found as a variable for Terraform, with where it comes from.

    The file holds capacity_per_instance; what else stands in it stays. Terraform reads files that
    end with .auto.tfvars.json by itself, in the folder where it is called.

    Exit code: 0, 2 the run has no capacity, 3 its load generator was late.
    """
    read = load_run(run)
    found = capacity_found(read)
    write_vars(out, read, found)
    typer.echo(f"{out}: {VARIABLE} = {found.holds} ({UNIT})")
    typer.echo(f"because {read.folder.resolve().name} {found.sentence}")
    for line in doubts(read, found):
        typer.echo(f"note: {line}")
