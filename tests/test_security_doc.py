"""docs/security.md: every threat is stopped by something, and a test that exists proves it."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.servers import ROOT

DOCUMENT = ROOT / "docs" / "security.md"
HEAD = "| Threat | What stops it | Test |"
NAME = re.compile(r"`(tests/test_\w+\.py)::(test_\w+)`")


def rows(text: str) -> list[list[str]]:
    """Cells of the table of threats."""
    _, found, below = text.partition(f"{HEAD}\n|---|---|---|\n")
    assert found, f"expected a table with the head {HEAD}"
    lines = below.partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@cache
def functions(path: Path) -> frozenset[str]:
    """Tests of a file, as pytest would find them."""
    body = ast.parse(path.read_text("utf-8")).body if path.is_file() else []
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in body if isinstance(node, kinds))


def complaints(text: str) -> list[str]:
    """One line for each thing that is wrong with the table."""
    found, seen = [], set()
    for row in rows(text):
        threat, *others = row
        if len(row) != 3 or not all(row):
            found.append(f"{threat}: expected three cells, got {len(list(filter(None, row)))}")
            continue
        if threat.lower() in seen:
            found.append(f"{threat}: stands there twice")
        seen.add(threat.lower())
        found += [f"{threat}: {wrong}" for wrong in _wrong_tests(others[-1])]
    return found


def _wrong_tests(cell: str) -> list[str]:
    named: list[tuple[str, str]] = NAME.findall(cell)
    if not named or NAME.sub("", cell).strip(", "):
        return [f"expected tests as `tests/test_x.py::test_name`, got {cell}"]
    twice = [] if len(set(named)) == len(named) else ["a test is named twice"]
    gone = [f"there is no {file}::{name}" for file, name in named if not _there(file, name)]
    return twice + gone


def _there(file: str, name: str) -> bool:
    return name in functions(ROOT / file)


def test_every_threat_has_tests_that_exist() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert complaints(text) == []
    assert len(rows(text)) >= 20


def test_all_of_the_table_is_read() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert len(rows(text)) == sum(line.startswith("| ") for line in text.splitlines()) - 1


GOOD = "`tests/test_security_doc.py::test_all_of_the_table_is_read`"
ROW = f"| One | stopped | {GOOD} |"


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        ([ROW], []),
        ([ROW, ROW.replace("One", "Two")], []),
        ([ROW, ROW], ["One: stands there twice"]),
        (
            ["| One | stopped | `tests/test_security_doc.py::test_made_up` |"],
            ["One: there is no tests/test_security_doc.py::test_made_up"],
        ),
        (
            [f"| One | stopped | {GOOD}, `tests/test_nowhere.py::test_x` |"],
            ["One: there is no tests/test_nowhere.py::test_x"],
        ),
        ([f"| One | stopped | {GOOD}, {GOOD} |"], ["One: a test is named twice"]),
        (
            ["| One | stopped | trust us |"],
            ["One: expected tests as `tests/test_x.py::test_name`, got trust us"],
        ),
        (
            [f"| One | stopped | {GOOD} and more |"],
            [f"One: expected tests as `tests/test_x.py::test_name`, got {GOOD} and more"],
        ),
        ([f"| One | {GOOD} |"], ["One: expected three cells, got 2"]),
        # A helper is no test, nor is one inside another function.
        (
            ["| One | stopped | `tests/test_security_doc.py::test_inner` |"],
            ["One: there is no tests/test_security_doc.py::test_inner"],
        ),
    ],
)
def test_the_check_finds_what_is_wrong(table: list[str], wrong: list[str]) -> None:
    def test_inner() -> None:
        """Not a test of the file."""

    assert test_inner() is None  # type: ignore[func-returns-value]
    assert complaints("\n".join([HEAD, "|---|---|---|", *table, "", "| more |"])) == wrong
