"""Word latency: from the end of each word to its first being read.

A word counts if the final transcript has it right. It is seen with the first text that holds it in
its place: the text is aligned with the words begun by then, so that an early "the" is not taken for
a later one. Words that were never timed (recordings) or shown (no partials kept) have no latency.
"""

import json
from collections.abc import Sequence
from functools import lru_cache

from rapidfuzz.distance import Levenshtein

from rtvc.record import TurnRow, decode_shown
from rtvc.transcript import normalise

REMEMBERED = 50_000
"""Utterances whose words are not looked for again: a run is summed up many times as it grows."""


def word_latencies_s(turn: TurnRow) -> tuple[float, ...]:
    """Seconds from the end of a word to the first text that showed it, in the order of speaking.

    Words are those of the normalised text. Negative where it was read before it was over.
    """
    if turn.heard is None or turn.word_ends is None or turn.shown is None:
        return ()
    return _latencies_s(turn.text, turn.word_ends, turn.heard, turn.shown)


@lru_cache(maxsize=REMEMBERED)
def _latencies_s(text: str, word_ends: str, heard: str, shown: str) -> tuple[float, ...]:
    words, ends_s = _timed_words(text, json.loads(word_ends))
    waiting = _right(words, normalise(heard).split())
    seen: dict[int, float] = {}
    for at_s, visible in decode_shown(shown):
        begun = words[: _begun(ends_s, at_s)]
        found = _right(begun, normalise(visible).split()) & waiting
        seen.update({word: at_s - ends_s[word] for word in found})
        waiting -= found
        if not waiting:
            break
    return tuple(seen[word] for word in sorted(seen))


def _timed_words(text: str, ends_s: Sequence[float]) -> tuple[list[str], list[float]]:
    """Normalised words and their ends; none where normalising joins or parts across words."""
    written = text.split()
    if len(written) != len(ends_s):
        return [], []
    parts = [normalise(word).split() for word in written]
    words = [word for part in parts for word in part]
    if words != normalise(text).split():
        return [], []
    return words, [end_s for part, end_s in zip(parts, ends_s, strict=True) for _ in part]


def _begun(ends_s: Sequence[float], at_s: float) -> int:
    """Words that had begun: all that are over, and the one after them."""
    return min(sum(end_s <= at_s for end_s in ends_s) + 1, len(ends_s))


def _right(said: Sequence[str], heard: Sequence[str]) -> set[int]:
    """Places of the words said that stand in what was heard, in order."""
    blocks = Levenshtein.opcodes(said, heard)
    return {
        place
        for block in blocks
        if block.tag == "equal"
        for place in range(block.src_start, block.src_end)
    }
