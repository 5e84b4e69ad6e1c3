"""A run directory for strangers: figures kept; words, addresses, names and paths taken out.

Tables and JSON are rewritten value by value. What cannot be rewritten (logs, pictures, pages, what
nobody knows) is left out. At the end everything that was written is read again and searched for
what should not be there: a copy that holds any of it is not made.
"""

import hashlib
import json
import platform
import re
import secrets
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rtvc.errors import RecordError
from rtvc.hiding import HIDDEN, PLACE, places, without_places
from rtvc.record.cells import cells_of
from rtvc.record.manifest import MANIFEST_FILE

REWRITTEN = (".csv", ".json", ".jsonl", ".parquet")
TEXTS = frozenset(
    [
        "delta",
        "heard",
        "hotwords",
        "hypothesis",
        "instructions",
        "prompt",
        "reference",
        "reply",
        "said",
        "shown",
        "stable_text",
        "system",
        "text",
        "transcript",
        "words",
    ]
)
"""Columns and keys under which words stand."""
TELLING = frozenset(["host", "hostname", "lost_generators", "node", "url", "user", "username"])
"""Those under which a machine or a person is named."""
EVERYBODY = frozenset(
    ["admin", "app", "client", "localhost", "main", "root", "runner", "server", "ubuntu", "user"]
)
"""Names that tell nothing."""
_LEAST_WORDS = 3
"""A shorter text may stand anywhere; it is hidden where texts stand, and not looked for."""
_HOME = re.compile(r"(?i)(?:/home/|/users/|[a-z]:\\users\\)([\w.-]{1,64})")
_NUMBER = re.compile(r"-?(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|inf|nan)", re.IGNORECASE)
_AMOUNT = re.compile(r"[\d.,:]+(?:ms|s|m|h|%)?|[a-z_0-9]+[<>=]+[\d.]+\S{0,3}")
_FILE_NAME = re.compile(r"\.(?:toml|json|wav|flac|txt|csv|pem|log|py)\b")


class Names:
    """The same words get the same name, and nobody can tell them from it."""

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(16)

    def of(self, text: str) -> str:
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), key=self._salt, digest_size=6)
        return f"{HIDDEN} {digest.hexdigest()}"


@dataclass(slots=True)
class Known:
    """What is looked for by its value, lower case."""

    names: set[str] = field(default_factory=set)
    """Hosts and users: whole words."""
    texts: set[str] = field(default_factory=set)
    """What was said or heard, and is long enough to be looked for."""

    def learn(self, key: str, value: str) -> None:
        """From one value and the name it stands under."""
        if key in TEXTS and len(value.split()) >= _LEAST_WORDS:
            self.texts.add(_plain(value))
        if key in TELLING and re.fullmatch(r"[\w.-]{3,64}", value):
            self.add(value)
        for place in places(value):
            self.add(_host(place))
        for found in _HOME.finditer(value):
            self.add(found[1])

    def add(self, name: str | None) -> None:
        if name is not None and len(name) >= 3 and name.lower() not in EVERYBODY:
            self.names.add(name.lower())

    def found_in(self, text: str) -> str | None:
        """What kind of thing is there that should not be; None: nothing."""
        plain = _plain(text)
        if any(said in plain for said in self.texts):
            return "words"
        pattern = self.pattern()
        return "a name" if pattern is not None and pattern.search(text) else None

    def pattern(self) -> "re.Pattern[str] | None":
        if not self.names:
            return None
        longest_first = sorted(self.names, key=lambda name: (-len(name), name))
        return re.compile(rf"(?i)(?<![\w])(?:{'|'.join(map(re.escape, longest_first))})(?![\w])")


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _host(place: str) -> str | None:
    """Of a URL or of host:port; None: it is a path."""
    if place[:1] in "/~":
        return None
    try:
        return urlsplit(place if "://" in place else f"//{place}").hostname
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Redacted:
    """What became of a run directory."""

    kept: tuple[str, ...]
    """Files rewritten."""
    left_out: tuple[str, ...]
    """Files that nobody can rewrite."""


def redact(run: Path, out: Path) -> Redacted:
    """Write what may be shown of `run` to `out`, a folder that is there and empty.

    Raises:
        RecordError: a file cannot be read.
    """
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and not path.is_symlink()]
    known, names = learned(run, files), Names()
    redactor = _Redactor(known, names)
    kept, left_out = [], []
    for path in files:
        name = path.relative_to(run)
        if path.suffix not in REWRITTEN or known.found_in(str(name)):
            left_out.append(str(name))
            continue
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _WRITERS[path.suffix](redactor, path, target)
        kept.append(str(name))
    return Redacted(tuple(kept), tuple(left_out))


def learned(run: Path, files: Iterable[Path]) -> Known:
    """All that is to be looked for."""
    known = Known()
    known.add(platform.node())
    known.add(Path.home().name)
    for path in files:
        for key, value in strings(path):
            known.learn(key, value)
    return known


def verify(out: Path, known: Known) -> None:
    """
    Raises:
        RecordError: something is there that should not be; says in which file, and not what.
    """
    for path in sorted(out.rglob("*")):
        for key, value in strings(path) if path.is_file() else ():
            bare = value.replace(PLACE, "").replace(HIDDEN, "")
            what = known.found_in(bare) or ("an address or a path" if places(bare) else None)
            if what is not None:
                raise RecordError(
                    f"expected nothing of anyone in {path.name}, but {key or 'it'} still holds "
                    f"{what}: no copy is made"
                )
        if path.suffix in (".html", ".svg"):
            _verify_page(path, known)


def _verify_page(path: Path, known: Known) -> None:
    """A page has addresses of its own: namespaces, links."""
    telling = Known({name for name in known.names if not name.isalpha()}, known.texts)
    what = telling.found_in(path.read_text("utf-8", "replace"))
    if what is not None:
        raise RecordError(f"expected no {what} of the run's in {path.name}: no copy is made")


# Reading


def strings(path: Path) -> Iterator[tuple[str, str]]:
    """Every text in a file of a kind that is rewritten, and the name it stands under.

    Raises:
        RecordError: the file is not what its name says.
    """
    match path.suffix:
        case ".csv":
            header, rows = _table(path)
            for row in rows:
                yield from (
                    (name, cell)
                    for name, cell in zip(header, row, strict=False)
                    if cell and not _NUMBER.fullmatch(cell)
                )
        case ".json":
            yield from _leaves("", _json(path.read_text("utf-8", "replace"), path))
        case ".jsonl":
            for line in path.read_text("utf-8", "replace").splitlines():
                yield from _leaves("", _json(line, path))
        case ".parquet":
            yield from _parquet_strings(path)


def _leaves(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(key, inner)
    elif isinstance(value, dict):
        for name, inner in value.items():
            # Under a key of texts everything is one.
            yield from _leaves(key if key in TEXTS else str(name), inner)


def _json(text: str, path: Path) -> Any:
    try:
        return json.loads(text) if text.strip() else None
    except ValueError:
        raise RecordError(f"{path}: expected JSON that can be read") from None


def _table(path: Path) -> tuple[list[str], list[list[str | None]]]:
    rows = [cells for _, cells in cells_of(path.read_text("utf-8", "replace"), path)]
    return [cell or "" for cell in rows[0]] if rows else [], rows[1:]


def _parquet_strings(path: Path) -> Iterator[tuple[str, str]]:
    table = _parquet(path)
    for name in table.column_names:
        for value in set(table.column(name).to_pylist()):
            if isinstance(value, str):
                yield name, value


def _parquet(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path, partitioning=None)
    except (OSError, pyarrow.ArrowException):
        raise RecordError(f"{path}: expected a Parquet file that can be read") from None


# Writing


class _Redactor:
    """One value after another."""

    def __init__(self, known: Known, names: Names) -> None:
        self._names = names
        self._texts = known.texts
        pattern = known.pattern()
        self._scrub = lru_cache(maxsize=100_000)(self._scrubbed)
        self._pattern = pattern

    def text(self, key: str, value: str) -> str | None:
        """None where nothing may stand."""
        if key == "shown":
            return None
        if key in TEXTS:
            return self._names.of(value)
        if key == "url":
            return None
        if key in TELLING:
            return HIDDEN
        return command(value) if key == "command" else self._scrub(value)

    def value(self, key: str, value: Any) -> Any:
        """JSON, whole."""
        if isinstance(value, str):
            return self.text(key, value)
        if isinstance(value, list):
            return [self.value(key, inner) for inner in value]
        if isinstance(value, dict):
            return {
                self._scrub(str(name)): self.value(key if key in TEXTS else str(name), inner)
                for name, inner in value.items()
            }
        return value

    def _scrubbed(self, value: str) -> str:
        plain = _plain(value)
        if any(said in plain for said in self._texts):
            return self._names.of(value)
        bare = without_places(value)
        bare = bare if self._pattern is None else self._pattern.sub(HIDDEN, bare)
        return HIDDEN if _FILE_NAME.search(bare) and "/" in bare else bare


def command(line: str) -> str:
    """Verb, flags and amounts of a command line.

    >>> command("rtvc loadtest ws://box --speakers 4 --slo 'errors<1%' --out runs/acme")
    "rtvc loadtest '(hidden)' --speakers 4 --slo 'errors<1%' --out '(hidden)'"
    """
    try:
        words = shlex.split(line)
    except ValueError:
        return HIDDEN
    shown = []
    for at, word in enumerate(words):
        flag, is_set, value = word.partition("=")
        if word.startswith("--") and re.fullmatch(r"--[a-z-]{1,40}", flag):
            shown.append(f"{flag}={_amount(value)}" if is_set else flag)
        else:
            verb = (at == 0 and word == "rtvc") or (at == 1 and word.isalpha())
            shown.append(word if verb else _amount(word))
    return shlex.join(shown)


def _amount(word: str) -> str:
    return word if _AMOUNT.fullmatch(word) else HIDDEN


def _write_csv(redactor: _Redactor, path: Path, target: Path) -> None:
    header, rows = _table(path)
    lines = [",".join(header)]
    for row in rows:
        told = [_cell(redactor, name, cell) for name, cell in zip(header, row, strict=False)]
        lines.append(",".join(told))
    target.write_text("\n".join(lines) + "\n" if header else "", "utf-8")


def _cell(redactor: _Redactor, name: str, cell: str | None) -> str:
    """As `Column.encode` writes it: only what is absent is empty."""
    if cell is None or (_NUMBER.fullmatch(cell) and name not in TEXTS):
        return cell or ""
    told = redactor.text(name, cell)
    return "" if told is None else '"' + told.replace('"', '""') + '"'


def _write_json(redactor: _Redactor, path: Path, target: Path) -> None:
    content = redactor.value("", _json(path.read_text("utf-8", "replace"), path))
    target.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _write_jsonl(redactor: _Redactor, path: Path, target: Path) -> None:
    lines = path.read_text("utf-8", "replace").splitlines()
    told = [json.dumps(redactor.value("", _json(line, path))) for line in lines]
    target.write_text("".join(f"{line}\n" for line in told), "utf-8")


def _write_parquet(redactor: _Redactor, path: Path, target: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    # Metadata, which may name files and programs, is left behind.
    table = _parquet(path).replace_schema_metadata(None)
    columns = {}
    for name in table.column_names:
        values = [
            redactor.text(name, value) if isinstance(value, str) else value
            for value in table.column(name).to_pylist()
        ]
        columns[name] = pyarrow.array(values, table.schema.field(name).type)
    pyarrow.parquet.write_table(pyarrow.table(columns), target)


_WRITERS = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}


def is_run(folder: Path) -> bool:
    return (folder / MANIFEST_FILE).is_file()
