"""Durations as a person writes them: "90", "90s", "2m", "1h30m"."""

import re

from rtvc.errors import UsageError

_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"
_DURATION = re.compile(rf"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s?)?")


def parse_duration(text: str, what: str = "a duration") -> float:
    """Seconds; `what` is the flag that an error names.

    >>> [parse_duration(text) for text in ("90", "1.5s", "2m", "1h30m")]
    [90.0, 1.5, 120.0, 5400.0]
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise UsageError(f"expected {what} such as 90, 90s, 2m or 1h30m, got {text!r}")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def parse_positive_duration(text: str, what: str = "a duration") -> float:
    """The same, and longer than none."""
    seconds = parse_duration(text, what)
    if not seconds:
        raise UsageError(f"expected {what} of more than 0 s, got {text!r}")
    return seconds
