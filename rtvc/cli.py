"""The command line: assembles the verbs; each loads its package only when called."""

import importlib
import sys
from typing import Any

import click
import typer
from typer.core import TyperGroup

from rtvc import __version__
from rtvc.errors import RtvcError

VERBS = {
    "serve": ("rtvc.server.command", "Run the reference server."),
    "demo": ("rtvc.demo", "Start the server, let three speakers talk, print the verdict."),
    "loadtest": ("rtvc.loadtest.command", "Simulated speakers against any voice server."),
    "report": ("rtvc.report.command", "Rebuild the report of a run."),
}


class _Verbs(TyperGroup):
    """Imports a verb's package when it is asked for: `rtvc --help` stays instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module, _ = VERBS[name]
        verb = typer.Typer(add_completion=False)
        verb.command(name)(getattr(importlib.import_module(module), name))
        return typer.main.get_command(verb)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


app = typer.Typer(
    cls=_Verbs,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def rtvc(
    version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True),
) -> None:
    """Operations and profiling toolkit for real-time voice chat, with a reference server."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> Any:
    """Run a verb; an error made on purpose is one line on stderr and an exit code."""
    try:
        app(arguments)
    except RtvcError as error:
        typer.echo(f"rtvc: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
