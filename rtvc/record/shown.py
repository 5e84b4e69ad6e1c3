"""What a caller read, change by change, as one cell of a row.

    [[0.412, 0, "turn"], [0.731, 4, " on the"], …]      after 0.731 s: "turn on the"

Each change is (seconds, characters kept of the text before, what follows them): hypotheses mostly
grow, so a long utterance does not repeat itself with every word.
"""

import json
from collections.abc import Iterable
from itertools import takewhile

Shown = list[tuple[float, str]]
"""(seconds, all that was to be read from then on), in the order of time."""


def encode_shown(shown: Iterable[tuple[float, str]]) -> str | None:
    """None where nothing was ever shown; seconds to the millisecond.

    >>> encode_shown([(0.5, "turn"), (0.9, "turn on")])
    '[[0.5,0,"turn"],[0.9,4," on"]]'
    """
    changes: list[tuple[float, int, str]] = []
    before = ""
    for at_s, text in shown:
        if text != before:
            kept = _common(before, text)
            changes.append((round(at_s, 3), kept, text[kept:]))
            before = text
    return json.dumps(changes, separators=(",", ":"), ensure_ascii=False) if changes else None


def _common(before: str, after: str) -> int:
    """Characters with which both begin."""
    pairs = zip(before, after, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def decode_shown(cell: str | None) -> Shown:
    """What was encoded; a text that did not change is not repeated.

    Raises:
        ValueError: it is nothing that `encode_shown` makes.
    """
    shown: Shown = []
    text = ""
    for change in json.loads(cell) if cell else []:
        try:
            at_s, kept, rest = change
            text = text[:kept] + rest
            shown.append((float(at_s), text))
        except TypeError:
            raise ValueError(f"expected [seconds, characters kept, text], got {change!r}") from None
    return shown
