"""Cuts streaming text into pieces worth speaking, each as early as it can be known. Pure."""

import re
from itertools import pairwise

CLOSERS = "\"'”’»)]}」』）】"
CJK_ENDS = "。！？｡"
CLAUSE_MARKS = ",;:，；、—–"

# These stand before a name, a number or an example: the sentence goes on.
NEVER_END = re.compile(
    r"(mr|mrs|ms|mx|dr|prof|st|sr|jr|rev|hon|gen|col|sgt|capt|lt|vs|vol|fig|eq|pp?|ca|cf|approx"
    r"|dept|e\.g|i\.e|viz|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)",
    re.IGNORECASE,
)
# These may end a sentence: the next letter decides.
MAY_END = re.compile(
    r"(etc|[ap]\.m|inc|ltd|co|corp|u\.s|u\.k|e\.u|ph\.d|b\.c|a\.d|al|nos?)", re.IGNORECASE
)

_LAST_WORD = re.compile(r"(\S+?)([.!?…]+)[" + re.escape(CLOSERS) + r"]*$")
_OPENERS = "\"'“‘«([{「『（【*_"
_SPEAKABLE = re.compile(r"\w")
_MARKUP = re.compile(r"\*\*|__|[*`#~|]|^\s*[-•]\s+", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


class SentenceSplitter:
    """Text in, as it streams; complete sentences out.

    The pieces joined are the text that went in (a blank remainder is dropped), and where the cuts
    fall does not depend on how the text was divided into deltas.

    >>> splitter = SentenceSplitter()
    >>> splitter.feed("Mr. Smith paid 3.50 euros. Then he le")
    ['Mr. Smith paid 3.50 euros.']
    >>> splitter.feed("ft. "), splitter.flush()
    ([' Then he left.'], [])
    """

    def __init__(
        self, *, clause_chars: int = 24, first_chars: int = 60, max_chars: int = 240
    ) -> None:
        self._clause_chars = clause_chars
        self._first_chars = first_chars
        self._max_chars = max_chars
        self._text = ""
        self._is_first = True

    def feed(self, delta: str) -> list[str]:
        """Pieces that became complete with `delta`."""
        pieces: list[str] = []
        for character in delta:
            self._text += character
            cut = self._cut()
            if cut is not None and self._text[:cut].strip():
                pieces.append(self._text[:cut])
                self._text = self._text[cut:]
                self._is_first = False
        return pieces

    def flush(self) -> list[str]:
        """What is left when the text has ended."""
        rest, self._text = self._text, ""
        return [rest] if rest.strip() else []

    def _cut(self) -> int | None:
        """Where to cut, judged as the newest character arrives; None: not yet."""
        newest = self._text[-1]
        if newest == "\n":
            return len(self._text)
        cut = self._sentence_end(newest)
        return cut if cut is not None else self._length_cut(newest)

    def _sentence_end(self, newest: str) -> int | None:
        before = self._text[:-1]
        if newest not in CJK_ENDS + CLOSERS and before.rstrip(CLOSERS).endswith(tuple(CJK_ENDS)):
            return len(before)
        if newest.isspace():
            return len(before) if ends_sentence(before) is True else None
        if before[-1:].isspace() and newest.isupper():
            end = len(before.rstrip())
            return end if ends_sentence(before[:end]) is None else None
        return None

    def _length_cut(self, newest: str) -> int | None:
        if self._is_first and newest.isspace():
            return self._first_cut()
        if len(self._text) < self._max_chars:
            return None
        marks = [i for i in _clause_ends(self._text) if i > self._max_chars // 2]
        spaces = [i for i, c in enumerate(self._text) if c.isspace() and self._text[:i].strip()]
        return (marks or spaces or [len(self._text)])[-1]

    def _first_cut(self) -> int | None:
        """The first audio should not wait for a long sentence to end."""
        length = len(self._text) - 1
        after_clause = self._text[length - 1 : length] in tuple(CLAUSE_MARKS)
        long_enough = self._clause_chars if after_clause else self._first_chars
        return length if length >= long_enough else None


def ends_sentence(text: str) -> bool | None:
    """Whether `text`, if white space follows, is a whole sentence; None: the next letter decides.

    >>> ends_sentence("It works."), ends_sentence("Ask Dr."), ends_sentence("At 5 p.m.")
    (True, False, None)
    """
    match = _LAST_WORD.search(text)
    if match is None:
        return False
    word, marks = match.group(1).lstrip(_OPENERS), match.group(2)
    if marks.endswith("…") or ".." in marks:
        return False
    if marks != ".":
        return True
    return _ends_with_dot(word, is_alone=text.strip() == match.group(0).strip())


def _ends_with_dot(word: str, *, is_alone: bool) -> bool | None:
    if MAY_END.fullmatch(word):
        return None
    is_initial = len(word) == 1 and word.isupper() and word != "I"
    is_list_number = is_alone and word.isdigit()
    return not (is_initial or is_list_number or NEVER_END.fullmatch(word))


def _clause_ends(text: str) -> list[int]:
    pairs = enumerate(pairwise(text), start=1)
    return [end for end, (mark, after) in pairs if mark in CLAUSE_MARKS and after == " "]


def speakable(text: str) -> str:
    """`text` as a voice should read it, without markup; empty if there is nothing to say.

    >>> speakable("**Sure!** See [the manual](https://example.org)."), speakable(" ... ")
    ('Sure! See the manual.', '')
    """
    plain = _MARKUP.sub("", _LINK.sub(r"\1", text)).strip()
    return plain if _SPEAKABLE.search(plain) else ""
