"""Documents taken apart: their commands, links, headings and names, for tests that hold these
against what there is.
"""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from rtvc.cli import build_app
from tests.servers import ROOT

TERRAFORM = ROOT / "infra" / "terraform"

# Typer exports only the child of the class that all its errors of usage share.
_WrongUsage: Any = typer.BadParameter.__base__

_FENCE = re.compile(r" *```(\w*)$")
_INDENT = "    "
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"(?m)^#+ (.+)$")
_OPERATORS = frozenset("|&;<>()")
_KEYWORDS = frozenset(("sudo", "time", "until", "while", "do", "done", "export"))
_OURS = frozenset(("rtvc", "rtvc-loadtest", "aws", "terraform", "make"))


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of code."""

    language: str
    """As its fence says; "sh" for what is only indented."""
    body: str
    """Without its fence, and without the indentation of a list."""


def _parts(text: str) -> Iterator[tuple[str | None, str]]:
    """Its lines, each with the language of its block; None: prose."""
    language: str | None = None
    for line in text.splitlines():
        fence = _FENCE.match(line)
        if fence is not None:
            language = fence[1] if language is None else None
        elif language is None and line.startswith(_INDENT):
            yield "sh", line.strip()
        else:
            yield language, line
    assert language is None, "expected the last fence to be closed"


def prose(text: str) -> str:
    """All but blocks of code."""
    return "\n".join(line for language, line in _parts(text) if language is None)


def blocks(text: str, language: str) -> list[Block]:
    """Those in a language. Neighbours are one if no prose stands between them."""
    found: list[list[str]] = []
    inside = False
    for spoken, line in _parts(text):
        if spoken == language and not inside:
            found.append([])
        inside = spoken == language
        if inside:
            found[-1].append(line)
    return [Block(language, "\n".join(lines)) for lines in found]


def inline(text: str) -> list[str]:
    """Code within prose."""
    return _INLINE.findall(prose(text))


# Links.


def slug(heading: str) -> str:
    """What a link to a heading ends with.

    >>> slug("`rtvc serve`: the reference server")
    'rtvc-serve-the-reference-server'
    """
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def broken_links(document: Path, text: str) -> list[str]:
    """Links to files and headings that are not there."""
    targets = [link for link in _LINK.findall(prose(text)) if "://" not in link]
    return [link for link in targets if not _leads_somewhere(document, text, link)]


def _leads_somewhere(document: Path, text: str, link: str) -> bool:
    path, _, anchor = link.partition("#")
    file = document.parent / path if path else document
    if not file.exists():
        return False
    if not anchor:
        return True
    there = file.read_text("utf-8") if path else text
    return anchor in {slug(heading) for heading in _HEADING.findall(prose(there))}


# Commands.


def commands(text: str) -> list[str]:
    """Lines of shell, each whole."""
    lines = []
    for block in blocks(text, "sh"):
        lines += re.sub(r"\\\n\s*", "", block.body).splitlines()
    return [line.strip() for line in lines if simple_commands(line)]


def mentions(text: str) -> list[str]:
    """Commands within prose."""
    return [code for code in inline(text) if " " in code and code.split()[0] in _OURS]


def simple_commands(line: str) -> list[list[str]]:
    """What a line of shell runs: programs with their arguments.

    >>> simple_commands("until curl -f URL > all.txt; do sleep 1; done  # soon")
    [['curl', '-f', 'URL'], ['sleep', '1']]
    >>> simple_commands('NOW=$(date -u) && sudo rtvc plan "$RUN"')
    [['date', '-u'], ['rtvc', 'plan', '$RUN']]
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars="".join(sorted(_OPERATORS)))
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    redirected = False
    for word in lexer:
        if set(word) <= _OPERATORS:
            redirected = word in (">", "<", ">>")
            if not redirected:
                found.append([])
        elif redirected:
            redirected = False
        else:
            found[-1].append(word)
    return [words for each in found if (words := _program(each))]


def _program(words: Sequence[str]) -> list[str]:
    """Without what stands before the program."""
    left = list(words)
    while left and (left[0] in _KEYWORDS or re.match(r"\w+=", left[0])):
        left.pop(0)
    return left


def wrong_usage(arguments: Sequence[str], *, mentioned: bool = False) -> str | None:
    """What rtvc has against being called so; None: nothing. A verb that is only mentioned may lack
    what it needs.
    """
    command: Any = get_command(build_app(arguments))
    left = list(arguments)
    while verbs := getattr(command, "commands", None):
        if not left or left[0] not in verbs:
            return f"expected a verb of {', '.join(verbs)}, got {left[:1]}"
        command = verbs[left.pop(0)]
    if mentioned and not left:
        return None
    try:
        command.make_context("rtvc", left)
    except _WrongUsage as error:
        return str(error.format_message())
    return None


# Terraform.


@cache
def declared(folder: str, kind: str) -> frozenset[str]:
    """Names of variables or outputs of a module or composition."""
    texts = [file.read_text("utf-8") for file in sorted((TERRAFORM / folder).glob("*.tf"))]
    return frozenset(re.findall(rf'(?m)^{kind} "(\w+)"', "\n".join(texts)))


@cache
def known_to_terraform() -> frozenset[str]:
    """Variables of all, fields of those that are objects, and the numbers of scaling.json."""
    found = set(json.loads((TERRAFORM / "modules/voice_server/scaling.json").read_text("utf-8")))
    for file in TERRAFORM.glob("**/variables*.tf"):
        text = file.read_text("utf-8")
        found |= set(re.findall(r'(?m)^variable "(\w+)"', text))
        found |= set(
            re.findall(r"(?m)^ {4}(\w+) += (?:optional|string|number|bool|list|map)", text)
        )
    return frozenset(found)
