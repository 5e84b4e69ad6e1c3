"""What may stand at a key of a settings file: strict, and clear about what was expected."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rtvc.errors import UsageError


class UnfitError(ValueError):
    """A value that is not what its key expects."""


class Check(Protocol):
    """What one key expects."""

    @property
    def expected(self) -> str: ...
    def read(self, value: object) -> Any: ...


def _is_number(value: object) -> bool:
    # A truth value is a number to Python, and never meant as one.
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Number:
    """A number within bounds.

    >>> Number(0, 1).read(1)
    1.0
    """

    low: float
    """Least."""
    high: float
    """Most."""
    whole: bool = False
    """Whether it counts something."""

    @property
    def expected(self) -> str:
        what = "a whole number" if self.whole else "a number"
        return f"{what} from {self.low:g} to {self.high:g}"

    def read(self, value: object) -> float | int:
        if not _is_number(value) or (self.whole and not isinstance(value, int)):
            raise UnfitError
        assert isinstance(value, int | float)
        if not self.low <= value <= self.high:
            raise UnfitError
        return value if self.whole else float(value)


@dataclass(frozen=True, slots=True)
class Range:
    """Two numbers within bounds, the smaller one first.

    >>> Range(0, 60).read([1, 2.5])
    (1.0, 2.5)
    """

    low: float
    """Least."""
    high: float
    """Most."""
    whole: bool = False
    """Whether they count something."""

    @property
    def expected(self) -> str:
        what = "whole numbers" if self.whole else "numbers"
        return f"two {what} [low, high], {self.low:g} <= low <= high <= {self.high:g}"

    def read(self, value: object) -> tuple[Any, Any]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise UnfitError
        number = Number(self.low, self.high, self.whole)
        first, second = (number.read(each) for each in value)
        if first > second:
            raise UnfitError
        return first, second


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    @property
    def expected(self) -> str:
        return "true or false"

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise UnfitError
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """Some text."""

    @property
    def expected(self) -> str:
        return "text"

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise UnfitError
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few names."""

    names: Collection[str]
    """All of them."""

    @property
    def expected(self) -> str:
        return f"one of {', '.join(self.names)}"

    def read(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.names:
            raise UnfitError
        return value


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of texts, of names where those are given."""

    names: Collection[str] = ()
    """What may be listed; empty: anything."""

    @property
    def expected(self) -> str:
        among = f" such as {', '.join(list(self.names)[:3])}" if self.names else ""
        return f"a list of {'names' if self.names else 'texts'}{among}"

    def read(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise UnfitError
        if not all(isinstance(each, str) for each in value):
            raise UnfitError
        if self.names and not set(value) <= set(self.names):
            raise UnfitError
        return tuple(value)


def read_table(
    table: object, checks: Mapping[str, Check], file: str, place: str = ""
) -> dict[str, Any]:
    """The values of a table, each as its key expects it.

    `file` and `place`, the table's own name and a dot, are told where something is wrong.

    >>> read_table({"loss": 2}, {"loss": Number(0, 1)}, "busy.toml", "network.")
    Traceback (most recent call last):
    rtvc.errors.UsageError: busy.toml: network.loss: expected a number from 0 to 1, got 2
    """
    if not isinstance(table, Mapping):
        name = place.rstrip(".") or "the whole"
        raise UsageError(f"{file}: {name}: expected a table, got {table!r}")
    known_keys(table, checks, file, place)
    return {key: _read(value, checks[key], f"{file}: {place}{key}") for key, value in table.items()}


def known_keys(
    table: Mapping[str, object], known: Collection[str], file: str, place: str = ""
) -> None:
    """Refuse a key that means nothing here, rather than leave it out in silence."""
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"{near[0]}?" if near else f"one of {', '.join(known)}"
            raise UsageError(f"{file}: {place}{key}: unknown key; expected {hint}")


def _read(value: object, check: Check, where: str) -> Any:
    try:
        return check.read(value)
    except UnfitError:
        raise UsageError(f"{where}: expected {check.expected}, got {value!r}") from None


def check_fields(record: object, checks: Mapping[str, Check]) -> None:
    """The same for a record made in code; a field that is None says nothing."""
    for name, check in checks.items():
        value = getattr(record, name)
        if value is not None:
            _read(value, check, name)
