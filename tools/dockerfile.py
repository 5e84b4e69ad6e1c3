"""A Dockerfile, read: its stages and their steps. Pure.

What our own does not use is not understood: heredocs, ONBUILD, the escape directive.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

_FLAG = re.compile(r"--([a-z-]+)(?:=(\S+))?\s+")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})")
_BASE = re.compile(r"(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction, its continued lines joined."""

    line: int
    """Where it begins."""
    word: str
    """Upper case, such as RUN."""
    flags: tuple[tuple[str, str], ...]
    """What stands before the rest as --name=value."""
    text: str
    """The rest."""
    notes: tuple[str, ...] = ()
    """Comments right above it."""

    def flag(self, name: str) -> list[str]:
        """Its values, one for each time it is given."""
        return [value for known, value in self.flags if known == name]


@dataclass(slots=True)
class Stage:
    """From one FROM to the next."""

    base: str
    """Image or stage, its variables put in."""
    name: str
    """After AS; empty: it has none."""
    line: int
    """Where it begins."""
    steps: list[Step] = field(default_factory=list)
    """Without the FROM."""


def steps(text: str) -> Iterator[Step]:
    """
    >>> [(step.word, step.text) for step in steps("FROM a AS b\\nRUN x \\\\\\n  && y\\n")]
    [('FROM', 'a AS b'), ('RUN', 'x && y')]
    """
    begun, joined, notes = 0, list[str](), list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if bare.startswith("#"):
            # Within an instruction a comment is nothing.
            notes += [] if begun else [bare.lstrip("# ")]
        elif bare:
            begun = begun or number
            joined.append(bare.removesuffix("\\").strip())
            if not bare.endswith("\\"):
                yield _step(begun, " ".join(joined), tuple(notes))
                begun, joined, notes = 0, [], []
        elif not begun:
            notes = []


def _step(line: int, whole: str, notes: tuple[str, ...]) -> Step:
    word, _, rest = whole.partition(" ")
    flags: list[tuple[str, str]] = []
    rest = rest.strip()
    while (flag := _FLAG.match(rest)) is not None:
        flags.append((flag[1], flag[2] or ""))
        rest = rest[flag.end() :]
    return Step(line, word.upper(), tuple(flags), rest, notes)


def stages(
    text: str, arguments: Mapping[str, str] | None = None
) -> tuple[dict[str, str], list[Stage]]:
    """The values of the ARGs that stand before the first stage, and the stages.

    `arguments`: values that stand in for defaults, as after --build-arg.
    """
    known: dict[str, str] = {}
    found: list[Stage] = []
    for step in steps(text):
        if step.word == "FROM":
            base, name = _base(expanded(step.text, known))
            found.append(Stage(base, name, step.line))
        elif found:
            found[-1].steps.append(step)
        elif step.word == "ARG":
            known |= argument(step, known, arguments or {})
    return known, found


def _base(text: str) -> tuple[str, str]:
    matched = _BASE.match(text)
    return (matched[1], matched[2] or "") if matched else ("", "")


def argument(step: Step, known: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """What an ARG makes known: what was given for it, else its default, else what was known."""
    name, _, default = step.text.partition("=")
    value = given.get(name, expanded(default, known).strip("\"'") or known.get(name, ""))
    return {name: value}


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Variables put in, as a builder does outside of RUN; unknown ones are empty.

    >>> expanded("$A/${B:-b}${C}", {"A": "a"})
    'a/b'
    """

    def value(found: "re.Match[str]") -> str:
        return variables.get(found[1] or found[2]) or found[3] or ""

    return _VARIABLE.sub(value, text)


def ignored(path: str, patterns: Iterable[str]) -> bool:
    """Whether a .dockerignore of these lines keeps a path out of the context.

    >>> lines = ["*", "!kept", "**/*.pyc"]
    >>> [ignored(path, lines) for path in ("other", "kept/a.py", "kept/b/a.pyc")]
    [True, False, True]
    """
    out = False
    for line in patterns:
        bare = line.strip()
        if bare and not bare.startswith("#"):
            negated = bare.startswith("!")
            if _covers(bare.removeprefix("!").strip("/"), path):
                out = not negated
    return out


def _covers(pattern: str, path: str) -> bool:
    """A pattern covers what it matches, and all that is below it."""
    parts = path.split("/")
    ways = ("/".join(parts[: count + 1]) for count in range(len(parts)))
    matcher = re.compile(_regular(pattern))
    return any(matcher.fullmatch(way) for way in ways)


def _regular(pattern: str) -> str:
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(meaning.get(piece, re.escape(piece)) for piece in pieces)
