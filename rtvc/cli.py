"""The command line: assembles the verbs; each loads its package only when called."""

import importlib
import sys
from collections.abc import Sequence

import typer

from rtvc import __version__
from rtvc.errors import RtvcError

VERBS = {
    "serve": ("rtvc.server.command", "Run the reference server."),
    "demo": ("rtvc.demo", "Start the server, let three speakers talk, print the verdict."),
    "loadtest": ("rtvc.loadtest.command", "Let simulated speakers talk to a voice server."),
    "report": ("rtvc.report.command", "Rebuild the report of a run."),
}
"""Verb → the module with a function of its name, and its line in `rtvc --help`."""


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """The verbs; only the one that `arguments` name is imported, so that help stays instant."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Operations and profiling toolkit for real-time voice chat, with a reference server.",
    )
    app.callback(invoke_without_command=True)(_top)
    for verb, (module, text) in VERBS.items():
        chosen = verb in arguments
        command = getattr(importlib.import_module(module), verb) if chosen else _not_called
        app.command(verb, help=None if chosen else text)(command)
    return app


def _top(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version."),
) -> None:
    if version:
        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _not_called() -> None:
    """Stands in the list of verbs for one that was not imported."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb; an error made on purpose is one line on stderr and an exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        build_app(given)(given)
    except RtvcError as error:
        typer.echo(f"rtvc: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
