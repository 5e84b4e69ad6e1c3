"""Someone's checkout as the doctor reads it: its files, read once. Nothing is imported or run."""

import ast
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from rtvc.errors import why
from rtvc.profile.doctor.findings import Finding
from rtvc.profile.doctor.module import Module, read_module

MAX_FILE_BYTES = 1_000_000
MAX_FILES = 5000

_SKIPPED = {"node_modules", "__pycache__", "venv", "env", "build", "dist", "site-packages"}
_TESTS = {"test", "tests", "testing"}
_DEPLOYED = (
    "*Dockerfile*",
    "Containerfile*",
    "*compose*.y*ml",
    "*requirements*.txt",
    "*constraints*.txt",
    "pyproject.toml",
    "Procfile",
    "*.sh",
)
_PAGES = ("*.js", "*.mjs", "*.ts", "*.html")
_ON_PURPOSE = (
    "rtvc/bench/held.py",
    "rtvc/server/faults/active.py",
    "rtvc/server/faults/faulty_services.py",
    "rtvc/server/faults/neighbour.py",
    "rtvc/stt/faulty.py",
)
"""Ours: faults on demand (rtvc serve --inject), and a bench's sessions, whose times alone count."""
_LOCKS = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock"}


@dataclass(slots=True)
class Checkout:
    """Files of a folder, read once."""

    modules: list[Module] = field(default_factory=list)
    """Its Python, without tests."""
    texts: dict[str, str] = field(default_factory=dict)
    """Path → text of what deploys it."""
    pages: dict[str, str] = field(default_factory=dict)
    """Path → text of scripts and pages for browsers."""
    locked: bool = False
    """A lock file pins all versions."""
    unread: list[Finding] = field(default_factory=list)
    """What could not be read."""

    def texts_like(self, *patterns: str) -> dict[str, str]:
        return {
            path: text
            for path, text in self.texts.items()
            if any(fnmatch(Path(path).name, pattern) for pattern in patterns)
        }


def read_checkout(root: Path) -> Checkout:
    """Read a folder, or one file; what can't be read becomes a note."""
    checkout = Checkout()
    base = root if root.is_dir() else root.parent
    package = _package_name(base.absolute())
    for number, path in enumerate(_files(root) if root.is_dir() else [root]):
        if number >= MAX_FILES:
            found = f"more than {MAX_FILES} files"
            checkout.unread.append(_unread("only the first files were read", found))
            break
        _read(path, path.relative_to(base).as_posix(), package, checkout)
    return checkout


def _package_name(folder: Path) -> str:
    """By which its own files import it; empty: it is no package."""
    parts: list[str] = []
    while (folder / "__init__.py").is_file() and folder.name:
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if _is_read(Path(folder, name)))
        for name in sorted(names):
            path = Path(folder, name)
            if _is_wanted(name) and path.is_file() and not _is_on_purpose(path):
                yield path


def _is_on_purpose(path: Path) -> bool:
    return path.absolute().as_posix().endswith(tuple(f"/{name}" for name in _ON_PURPOSE))


def _is_read(folder: Path) -> bool:
    name = folder.name
    if name.startswith(".") or name in _SKIPPED or name.lower() in _TESTS:
        return False
    return not (folder / "pyvenv.cfg").exists()


def _is_wanted(name: str) -> bool:
    if name.endswith(".py"):
        return not (name.startswith("test_") or name.endswith("_test.py") or name == "conftest.py")
    return name in _LOCKS or any(fnmatch(name, pattern) for pattern in _DEPLOYED + _PAGES)


def _read(path: Path, shown: str, package: str, checkout: Checkout) -> None:
    if path.name in _LOCKS:
        checkout.locked = True
        return
    try:
        size = path.stat().st_size
        source = b"" if size > MAX_FILE_BYTES else path.read_bytes()
    except OSError as error:
        checkout.unread.append(_unread("a file could not be read", f"{shown}: {why(error)}"))
        return
    if size > MAX_FILE_BYTES:
        if not _is_page(path):
            found = f"{shown}: {size / 1e6:.1f} MB, more than {MAX_FILE_BYTES / 1e6:.0f} MB"
            checkout.unread.append(_unread("a file is too large", found))
    elif path.suffix == ".py":
        _read_python(source, shown, package, checkout)
    else:
        kept = checkout.pages if _is_page(path) else checkout.texts
        kept[shown] = source.decode("utf-8", "replace")


def _is_page(path: Path) -> bool:
    return any(fnmatch(path.name, pattern) for pattern in _PAGES)


def _read_python(source: bytes, shown: str, package: str, checkout: Checkout) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else why(error)
        checkout.unread.append(_unread("a file is no valid Python", f"{shown}{line}: {said}"))
        return
    checkout.modules.append(read_module(shown, tree, package))


def _unread(what: str, evidence: str) -> Finding:
    return Finding("not-read", "note", what, evidence)
