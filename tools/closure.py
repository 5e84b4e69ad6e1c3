"""What rtvc needs, by the names in pyproject.toml and what is installed here."""

import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = "rtvc"


def closure(extras: Iterable[str] = (), project: Path = ROOT / "pyproject.toml") -> dict[str, str]:
    """Every distribution that is needed, and who asked for it first; installed or not."""
    told = tomllib.loads(project.read_text("utf-8"))["project"]
    found: dict[str, str] = {}
    waiting = [(each, PROJECT) for each in _own(told, extras)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted, by = waiting.pop()
        name = canonicalize_name(wanted.name)
        step = (name, frozenset(wanted.extras))
        if step in seen:
            continue
        seen.add(step)
        if name == PROJECT:
            waiting += [(each, PROJECT) for each in _own(told, wanted.extras, only_extras=True)]
            continue
        found.setdefault(name, by)
        waiting += [(each, name) for each in needs(installed(name), wanted.extras)]
    return found


def _own(
    told: dict[str, Any], extras: Iterable[str], *, only_extras: bool = False
) -> Iterator[Requirement]:
    lists = [[] if only_extras else told["dependencies"]]
    lists += [told["optional-dependencies"][extra] for extra in extras]
    for texts in lists:
        yield from _wanted(map(Requirement, texts), ())


def needs(found: Distribution | None, extras: Iterable[str] = ()) -> list[Requirement]:
    """What a distribution asks for on this machine; nothing of one that is not here."""
    texts = [] if found is None else found.requires or []
    return list(_wanted(map(Requirement, texts), extras))


def _wanted(all_of: Iterable[Requirement], extras: Iterable[str]) -> Iterator[Requirement]:
    for each in all_of:
        cases = [{"extra": extra} for extra in ("", *extras)]
        if each.marker is None or any(each.marker.evaluate(case) for case in cases):
            yield each


def installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None
