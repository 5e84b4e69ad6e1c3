"""Flags of `rtvc plan` that hold lists, pairs and shares. Pure: text in, values out."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast, get_args

from rtvc.errors import UsageError
from rtvc.plan.arrangement import Sharing
from rtvc.plan.talk import Partials

T = TypeVar("T")

AUTO = "auto"
"""Stands for what the server would do by itself."""

MOST_ENGINES = 64
"""Of a pool."""


def listed(text: str) -> tuple[str, ...]:
    """What stands between commas, each once.

    >>> listed("tiny.en, base.en,tiny.en")
    ('tiny.en', 'base.en')
    """
    parts = (part.strip() for part in text.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def parse_each(text: str, flag: str, parse: Callable[[str], T]) -> tuple[T, ...]:
    """Every part of a list, at least one.

    Raises:
        UsageError: a part is not as it should be, or there is none; names the flag.
    """
    parts = listed(text)
    if not parts:
        raise UsageError(f"expected something after {flag}, got {text!r}")
    found = []
    for part in parts:
        try:
            found.append(parse(part))
        except ValueError as error:
            raise UsageError(f"expected {flag} {error}, got {part!r}") from None
    return tuple(found)


def sharing(text: str) -> tuple[Sharing, int]:
    """
    >>> sharing("pool:3"), sharing("pool"), sharing("shared")
    (('pool', 3), ('pool', 2), ('shared', 1))
    """
    name, colon, count = text.partition(":")
    if name not in get_args(Sharing) or (colon and name != "pool"):
        raise ValueError("shared, pool, pool:K or per-session")
    if name != "pool":
        return cast(Sharing, name), 1
    engines = 2 if not colon else whole(count)
    if engines > MOST_ENGINES:
        raise ValueError(f"pool:K with K up to {MOST_ENGINES}")
    return "pool", engines


def whole(text: str) -> int:
    """
    >>> whole("8")
    8
    """
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise ValueError("a whole number from 1 on")
    return int(text)


def whole_or_auto(text: str) -> int | None:
    """None: as the server would by itself."""
    return None if text == AUTO else whole(text)


def partials(text: str) -> Partials:
    if text not in get_args(Partials):
        raise ValueError(" or ".join(get_args(Partials)))
    return cast(Partials, text)


def milliseconds(text: str) -> float:
    """Seconds.

    >>> milliseconds("400")
    0.4
    """
    if not re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text):
        raise ValueError("milliseconds such as 400")
    return float(text) / 1000


def interval_s(text: str) -> float:
    """Seconds between two partials, as `rtvc serve` accepts them."""
    seconds = milliseconds(text)
    if seconds < 0.05:
        raise ValueError("50 ms or more")
    return seconds


def silence_s(text: str) -> float | None:
    """Seconds; None: as the server would by itself."""
    return None if text == AUTO else milliseconds(text)


def share(text: str, flag: str, *, all_of_it: bool = False) -> float:
    """A part of 1, written as a percentage or not; `all_of_it`: it may be 1.

    >>> share("1%", "--refused"), share("0.02", "--refused")
    (0.01, 0.02)
    >>> share("100%", "--busy-hour", all_of_it=True)
    1.0

    Raises:
        UsageError: it is none, or not between 0 and 1.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", text)
    value = math.nan if found is None else float(found[1]) / (100 if found[2] else 1)
    if not (0 < value < 1 or (all_of_it and value == 1)):
        most = "at most" if all_of_it else "less than"
        raise UsageError(f"expected {flag} of more than 0 and {most} 100 %, got {text!r}")
    return value


def pairs(texts: Sequence[str], flag: str, what: str) -> dict[str, str]:
    """NAME=VALUE, repeatable.

    >>> pairs(["g5.xlarge=0.9"], "--price", "USD")
    {'g5.xlarge': '0.9'}

    Raises:
        UsageError: a name or a value is missing, or a name stands there twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        # A name may hold "=", a value may not: folders with one can be moved.
        name, equals, value = (part.strip() for part in text.rpartition("="))
        if not (name and equals and value):
            raise UsageError(f"expected {flag} NAME={what}, got {text!r}")
        if name in found:
            raise UsageError(f"expected {flag} for {name} once, got it twice")
        found[name] = value
    return found


def numbers(texts: Sequence[str], flag: str, what: str, known: Sequence[str]) -> dict[str, float]:
    """The same where values are numbers above 0 and names are known ones.

    Raises:
        UsageError: as of `pairs`; or a value is no number, or a name is unknown.
    """
    found: dict[str, float] = {}
    for name, value in pairs(texts, flag, what).items():
        if name not in known:
            raise UsageError(f"expected {flag} for one of {', '.join(known)}, got {name!r}")
        found[name] = _number(value, flag, what)
    return found


def _number(value: str, flag: str, what: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise UsageError(f"expected {flag} NAME={what} with a number above 0, got {value!r}")
    return number


def folders(texts: Sequence[str], flag: str) -> Mapping[str, Path]:
    """The same where values are folders."""
    return {name: Path(value) for name, value in pairs(texts, flag, "FOLDER").items()}
