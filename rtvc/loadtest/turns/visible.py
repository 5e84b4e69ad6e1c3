"""What was to be read of an utterance while it was spoken, and how often that changed."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from rtvc.loadtest.turns.heard import Item


def shown_texts(items: Sequence[Item]) -> tuple[tuple[float, str], ...]:
    """What was to be read at each change, of all items together: final text before what changes."""
    ordered = sorted(items, key=lambda item: item.end_s is None)
    changes = sorted(
        (at_s, place, text) for place, item in enumerate(ordered) for at_s, text in item.texts
    )
    now, seen = [""] * len(ordered), list[tuple[float, str]]()
    for at_s, place, text in changes:
        now[place] = text
        if seen and seen[-1][0] == at_s:
            seen.pop()
        visible = " ".join(filter(None, now))
        if not seen or visible != seen[-1][1]:
            seen.append((at_s, visible))
    return tuple(seen)


def interval_s(first_word_end_s: float, shown_at_s: Sequence[float], end_s: float) -> float | None:
    """Median of the waits for new text: from the first word's end to the first text, then from
    text to text. From the last text to the end of speech counts if it was longer than usual."""
    talking = [at_s for at_s in shown_at_s if at_s <= end_s]
    if not talking:
        return None
    late = [first_word_end_s] if talking[0] > first_word_end_s else []
    waits = [after - before for before, after in pairwise([*late, *talking])]
    rest_s = end_s - talking[-1]
    if not waits or rest_s > median(waits):
        waits.append(rest_s)
    return median(waits)
