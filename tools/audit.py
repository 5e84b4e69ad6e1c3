"""Is what is installed what was pinned, and is anything known to be wrong with it?

    python -m tools.audit

Exit code: 0 pinned, and nothing known; 1 something is wrong; 3 pinned, but nobody could be asked
for known vulnerabilities, so nothing is said about them.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from tools.closure import ROOT, closure, installed

CONSTRAINTS = ROOT / "constraints.txt"
EXTRAS = ("dev",)
WRONG, UNKNOWN = 1, 3
ASKING_S = 300.0
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;#*]+)$")


@dataclass(frozen=True, slots=True)
class Lookup:
    """What whoever knows of vulnerabilities said."""

    asked: bool
    """Whether there was an answer."""
    found: list[str] = field(default_factory=list)
    """One line each."""
    why: str = ""
    """There was none; in a few words."""


def pins(text: str) -> tuple[dict[str, str], list[str]]:
    """Versions by canonical name, and the lines that pin nothing.

    >>> pins("# all\\nHttpx==0.28.1\\nrich>=13\\n")
    ({'httpx': '0.28.1'}, ['rich>=13'])
    """
    found: dict[str, str] = {}
    loose: list[str] = []
    for line in (each.partition(" #")[0].strip() for each in text.splitlines()):
        pin = _PIN.match(line)
        if pin is not None:
            found[canonicalize_name(pin[1])] = pin[2]
        elif line and not line.startswith("#"):
            loose.append(line)
    return found, loose


def problems(
    needed: Mapping[str, str], pinned: Mapping[str, str], version_of: Callable[[str], str | None]
) -> list[str]:
    """One line for each distribution that is not what was pinned."""
    lines = []
    for name, by in sorted(needed.items()):
        here, wanted = version_of(name), pinned.get(name)
        if here is None:
            lines.append(f"{name}: needed by {by}, but not installed")
        elif wanted is None:
            lines.append(f"{name} {here}: needed by {by}, but not pinned in constraints.txt")
        elif not _same(here, wanted):
            lines.append(f"{name}: expected {wanted} as pinned, found {here} installed")
    return lines


def _same(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def look_up(constraints: Path) -> Lookup:
    """Ask pip-audit, which asks a database elsewhere."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(constraints)]
    flags = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run(
            [*command, *flags], capture_output=True, text=True, timeout=ASKING_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return Lookup(asked=False, why="pip-audit did not answer")
    if "No module named" in done.stderr:
        return Lookup(asked=False, why="pip-audit is not installed")
    return understood(done.stdout)


def understood(answer: str) -> Lookup:
    """pip-audit's JSON; anything else means that it did not get that far.

    >>> understood("").asked
    False
    """
    try:
        told: list[dict[str, Any]] = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Lookup(asked=False, why="pip-audit could not reach its database")
    skipped = [each["name"] for each in told if "skip_reason" in each]
    if skipped or not told:
        return Lookup(asked=False, why=f"pip-audit left out {len(skipped) or 'all'} of them")
    found = [
        f"{each['name']} {each['version']}: {one['id']}"
        for each in told
        for one in each.get("vulns", [])
    ]
    return Lookup(asked=True, found=found)


def verdict(wrong: list[str], lookup: Lookup, checked: int) -> tuple[int, list[str]]:
    """The exit code, and what to say."""
    lines = list(wrong)
    if not wrong:
        lines.append(f"pins: {checked} distributions are installed as constraints.txt has them")
    if not lookup.asked:
        lines.append(f"vulnerabilities: not looked up, {lookup.why}; nothing is known either way")
    elif lookup.found:
        lines += [f"vulnerability: {one}" for one in lookup.found]
    else:
        lines.append("vulnerabilities: none known today")
    code = WRONG if wrong or lookup.found else (0 if lookup.asked else UNKNOWN)
    return code, lines


def main() -> int:
    pinned, loose = pins(CONSTRAINTS.read_text("utf-8"))
    needed = closure(EXTRAS)

    def version_of(name: str) -> str | None:
        found = installed(name)
        return None if found is None else found.version

    wrong = [f"constraints.txt: expected NAME==VERSION, got {line!r}" for line in loose]
    wrong += problems(needed, pinned, version_of)
    code, lines = verdict(wrong, look_up(CONSTRAINTS), len(needed))
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
