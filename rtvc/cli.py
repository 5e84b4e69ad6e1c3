"""The command line: assembles the verbs; each loads its package only when called."""

import importlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import typer

from rtvc import __version__
from rtvc.errors import RtvcError
from rtvc.hiding import hide
from rtvc.invocation import invoked

# Typer exports only the child of the class that all its errors of usage share.
_WrongUsage: Any = typer.BadParameter.__base__

Verbs = Mapping[str, tuple[str, str]]

VERBS = {
    "serve": ("rtvc.server.command", "Run the reference server."),
    "demo": ("rtvc.demo", "Start the server, let three speakers talk, print the verdict."),
    "loadtest": ("rtvc.loadtest.command", "Let simulated speakers talk to a voice server."),
    "chaos": ("rtvc.chaos.command", "Bring faults about under load; say what users felt."),
    "plan": ("rtvc.plan.command", "Predict what a server would hold, and what a fleet costs."),
    "fleet": ("rtvc.plan.fleet_verbs", "Simulate a fleet that scales; set its capacity."),
    "profile": ("rtvc.profile.command", "See where the time goes, and be told the cause."),
    "bench": ("rtvc.bench.command", "Compare models and settings here; say which to run."),
    "report": ("rtvc.report.command", "Rebuild the report of a run."),
    "compare": ("rtvc.report.compare_command", "Compare two runs; say what is a regression."),
    "keys": ("rtvc.server.access.command", "Make keys for callers of the server."),
    "redact": ("rtvc.report.redact_command", "Copy a run without words, addresses and names."),
    "models": ("rtvc.stt.command", "List, fetch, make and remove speech-to-text models."),
}
"""Verb → the module with a function, an app or a table of verbs, of its name; its line in the
help."""


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """The verbs; only the one that `arguments` name is imported, so that help stays instant."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help=(
            "Measure real-time voice chat: how soon and how well a server answers, where the time "
            "goes, and how many speakers it holds. Comes with a reference server."
        ),
    )
    app.callback(invoke_without_command=True)(_top)
    _add(app, VERBS, arguments)
    return app


def _add(app: typer.Typer, verbs: Verbs, arguments: Sequence[str]) -> None:
    for verb, (module, text) in verbs.items():
        chosen = verb in arguments
        command = getattr(importlib.import_module(module), verb) if chosen else _not_called
        if isinstance(command, dict):
            group = typer.Typer(help=text, no_args_is_help=True)
            _add(group, command, arguments)
            app.add_typer(group, name=verb)
        elif isinstance(command, typer.Typer):
            app.add_typer(command, name=verb)
        else:
            app.command(verb, help=_reflowed(command.__doc__ or text) if chosen else text)(command)


def _reflowed(documentation: str) -> str:
    """Paragraphs on one line each: the terminal breaks them where it ends, and nowhere else."""
    paragraphs = inspect.cleandoc(documentation).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


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
        with invoked(given):
            code = build_app(given)(given, prog_name="rtvc", standalone_mode=False)
    except RtvcError as error:
        _fail(str(error), error.exit_code)
    except _WrongUsage as error:
        where = "rtvc" if error.ctx is None else error.ctx.command_path
        _fail(f"{' '.join(error.format_message().split())} (see {where} --help)", 2)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, exit_code: int) -> NoReturn:
    typer.echo(f"rtvc: {hide(message)}", err=True)
    sys.exit(exit_code)
