"""Which words of a changing hypothesis can be shown as settled.

LocalAgreement-2: a word is stable once two successive hypotheses agree on it and on every word
before it (Liu et al., "Low-Latency Sequence-to-Sequence Speech Recognition and Translation by
Partial Hypothesis Selection", Interspeech 2020; Macháček et al., "Turning Whisper into Real-Time
Transcription System", 2023).
"""

from itertools import takewhile

_MARKS = ".,?!;:…\"'()-"


def plain(word: str) -> str:
    """A word as compared: lower case, without the marks around it."""
    return word.strip(_MARKS).lower()


class LocalAgreement:
    """Grows a stable prefix that never shrinks and never changes.

    >>> agreement = LocalAgreement()
    >>> agreement.update("turn on")
    ()
    >>> agreement.update("turn on the light")
    ('turn', 'on')
    >>> agreement.stable
    ('turn', 'on')
    """

    def __init__(self) -> None:
        self._previous: tuple[str, ...] = ()
        self.stable: tuple[str, ...] = ()
        """Words that will not change, as they were first agreed on."""

    def update(self, text: str) -> tuple[str, ...]:
        """Take the next hypothesis; return the words that became stable by it."""
        words = tuple(text.split())
        agreed = sum(1 for _ in takewhile(_same, zip(self._previous, words, strict=False)))
        self._previous = words
        fresh = words[len(self.stable) : agreed] if self._extends(words) else ()
        self.stable += fresh
        return fresh

    def _extends(self, words: tuple[str, ...]) -> bool:
        """Whether a hypothesis keeps what was already promised."""
        return len(words) >= len(self.stable) and all(
            map(_same, zip(self.stable, words, strict=False))
        )


def _same(pair: tuple[str, str]) -> bool:
    return plain(pair[0]) == plain(pair[1])
