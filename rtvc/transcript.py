"""Comparing what was said with what was heard: normalisation, word errors, cross-talk."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import jiwer

NORMALISER = "rtvc-en-1"
"""Name and version of `normalise`; results under different names must not be compared."""


def _listed(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_BELOW_TWENTY = _listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_TENS = _listed("twenty thirty forty fifty sixty seventy eighty ninety")
_SCALES = ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_CURRENCIES = {"$": ("dollars", "cents"), "£": ("pounds", "pence"), "€": ("euros", "cents")}
_SAME_WORD = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "ok": "okay",
    "colour": "color",
    "favourite": "favorite",
    "theatre": "theater",
    "grey": "gray",
}
_FUNCTION_WORDS = frozenset(
    _listed(
        "a an the this that these those of to in on at for from by with and or but if so as than "
        "then i i'm you he she it it's we they me my your his her its our their is am are was were "
        "be been do does did don't not no yes will would can could should have has had there here "
        "what which who when where why how up down off out some any very too please"
    )
)


def cardinal(number: int) -> str:
    """A number below a billion billions in words, without "and".

    >>> cardinal(1042)
    'one thousand forty two'
    """
    if number < 20:
        return _BELOW_TWENTY[number]
    if number < 100:
        return _joined(_TENS[number // 10 - 2], number % 10)
    if number < 1000:
        return _joined(f"{_BELOW_TWENTY[number // 100]} hundred", number % 100)
    size, name = next(scale for scale in _SCALES if number >= scale[0])
    return _joined(f"{cardinal(number // size)} {name}", number % size)


def _joined(head: str, rest: int) -> str:
    return f"{head} {cardinal(rest)}" if rest else head


def _ordinal(number: int) -> str:
    *head, last = cardinal(number).split()
    if last in _ORDINALS:
        spoken = _ORDINALS[last]
    else:
        spoken = f"{last[:-1]}ie" if last.endswith("y") else last
        spoken += "th"
    return " ".join([*head, spoken])


def _digits(digits: str) -> str:
    """As people read them out: a code digit by digit, a year in pairs, else as one number."""
    if len(digits) > 4 or (len(digits) > 1 and digits[0] == "0"):
        return " ".join(_BELOW_TWENTY[int(digit)] for digit in digits)
    number = int(digits)
    if 1100 <= number <= 1999 or 2010 <= number <= 2099:
        return _year(number)
    return cardinal(number)


def _year(number: int) -> str:
    century, year = divmod(number, 100)
    if year == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if year < 10 else ''}{cardinal(year)}"


def _number(match: re.Match[str]) -> str:
    whole, _, fraction = match.group().partition(".")
    spoken = cardinal(int(whole.replace(",", ""))) if "," in whole else _digits(whole)
    if fraction:
        spoken += " point " + " ".join(_BELOW_TWENTY[int(digit)] for digit in fraction)
    return f" {spoken} "


def _money(match: re.Match[str]) -> str:
    big, small = _CURRENCIES[match["sign"]]
    spoken = f"{match['whole']} {big}"
    return f" {spoken} and {int(match['cents'])} {small} " if match["cents"] else f" {spoken} "


def _time_of_day(match: re.Match[str]) -> str:
    hour, minute = int(match["hour"]), int(match["minute"])
    if minute == 0:
        return f" {cardinal(hour)} o'clock "
    return f" {cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)} "


_WHOLE = r"[0-9]{1,3}(?:,[0-9]{3}){1,3}(?![0-9])|[0-9]+"
_SPOKEN: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (
        re.compile(rf"(?P<sign>[$£€]) ?(?P<whole>{_WHOLE})(?:\.(?P<cents>[0-9]{{2}})(?![0-9]))?"),
        _money,
    ),
    (re.compile(r"%"), lambda _: " percent "),
    (re.compile(r"\b(?P<hour>[01]?[0-9]|2[0-3]):(?P<minute>[0-5][0-9])\b"), _time_of_day),
    (re.compile(r"\b([0-9]{1,4})(?:st|nd|rd|th)\b"), lambda m: f" {_ordinal(int(m[1]))} "),
    (re.compile(rf"(?:{_WHOLE})(?:\.[0-9]+)?"), _number),
    (re.compile(r"\b(?:[a-z]\.){2,}"), lambda m: m.group().replace(".", "")),
)


def normalise(text: str) -> str:
    """Lower case, no punctuation, numbers in words, one spelling: what `NORMALISER` names.

    Apostrophes inside words stay; hyphens part words. Numbers are read as people read them: a
    run of five digits or more, or with a leading zero, digit by digit; 1100 to 1999 and 2010 to
    2099 as years; hours with minutes; money and percent.

    >>> normalise("At 7:30, Mr. O'Neil paid $42 for the twenty-first!")
    "at seven thirty mister o'neil paid forty two dollars for the twenty first"
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = text.replace("’", "'").replace("‘", "'")
    for pattern, spoken in _SPOKEN:
        text = pattern.sub(spoken, text)
    words = "".join(c if _in_word(c) else " " for c in text).split()
    stripped = (word.strip("'") for word in words)
    return " ".join(_SAME_WORD.get(word, word) for word in stripped if word)


def _in_word(character: str) -> bool:
    return character == "'" or unicodedata.category(character)[0] in "LMN"


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Counts of one comparison; pool counts, never rates."""

    substitutions: int
    """Words heard as other words."""
    deletions: int
    """Words lost."""
    insertions: int
    """Words invented."""
    reference_words: int
    """Words said, after normalisation."""
    hypothesis_words: int
    """Words heard, after normalisation."""

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """The fewest word edits from what was said to what was heard, both normalised here.

    >>> word_errors("Play some jazz.", "play sum jazz please")
    WordErrors(substitutions=1, deletions=0, insertions=1, reference_words=3, hypothesis_words=4)
    """
    said, heard = normalise(reference).split(), normalise(hypothesis).split()
    if not said or not heard:
        return WordErrors(0, len(said), len(heard), len(said), len(heard))
    compared = jiwer.process_words(" ".join(said), " ".join(heard))
    return WordErrors(
        compared.substitutions, compared.deletions, compared.insertions, len(said), len(heard)
    )


def wer(comparisons: Iterable[WordErrors]) -> float | None:
    """Word error rate of pooled counts; may exceed 1; None where no word was said.

    >>> wer([word_errors("one two three", "one two three"), word_errors("four", "for")])
    0.25
    """
    counted = list(comparisons)
    said = sum(each.reference_words for each in counted)
    return sum(each.errors for each in counted) / said if said else None


def aligned_words(reference: str, hypothesis: str) -> list[tuple[int, int]]:
    """Index pairs (said, heard) of correctly recognised words, both normalised here, rising.

    >>> aligned_words("Play some jazz", "now play sum jazz")
    [(0, 1), (2, 3)]
    """
    said, heard = normalise(reference), normalise(hypothesis)
    if not said or not heard:
        return []
    chunks = jiwer.process_words(said, heard).alignments[0]
    return [
        (chunk.ref_start_idx + k, chunk.hyp_start_idx + k)
        for chunk in chunks
        if chunk.type == "equal"
        for k in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]


def lost_ends(reference: str, hypothesis: str) -> tuple[bool, bool]:
    """Whether the first, and whether the last word said is missing in what was heard.

    It is if what was said without that word explains what was heard with fewer edits: always, if
    words were cut off there, and not if the word was only misheard. Of equal words side by side
    nobody can tell which one was lost; then it is the one at the end.

    >>> lost_ends("turn on the light", "on the light")
    (True, False)
    >>> lost_ends("turn on the light", "burn on the")
    (False, True)
    """
    said, heard = normalise(reference).split(), normalise(hypothesis).split()
    if not said or said == heard:
        return False, False
    without_last, edits = _edits(said, heard)
    without_first, _ = _edits(said[::-1], heard[::-1])
    return without_first < edits, without_last < edits


def _edits(said: list[str], heard: list[str]) -> tuple[int, int]:
    """The fewest word edits from what was said to what was heard: without the last word said,
    and with it. Counted here because one pass gives both."""
    row = list(range(len(heard) + 1))
    without_last = row[-1]
    for number, word in enumerate(said, 1):
        without_last = row[-1]
        corner, row[0] = row[0], number
        for at, other in enumerate(heard):
            best = min(row[at + 1] + 1, row[at] + 1, corner + (word != other))
            corner, row[at + 1] = row[at + 1], best
    return without_last, row[-1]


def cross_talk_words(heard: str, own: str, others: Iterable[str]) -> int:
    """Words of another's utterance that surfaced in this speaker's transcript.

    A *foreign run* is a longest stretch of consecutive words of `heard` that stands, in the same
    order and without gaps, in one other text. Its *evidence* is its content words (no articles,
    pronouns, auxiliaries, …) that `own` lacks. A run counts its evidence if that is two words or
    more: one wrong word, even between right ones, is what a misrecognition looks like. Where all
    of `heard` is all of another text, one such word is enough, and where there is none any word
    that `own` lacks. No word of `heard` counts twice.

    >>> cross_talk_words("turn on play some jazz", "turn on the lights", ["please play some jazz"])
    2
    >>> cross_talk_words("open the big window", "open the pink window", ["find the big window"])
    0
    """
    words, own_words = normalise(heard).split(), set(normalise(own).split())
    evidence = [word not in own_words and word not in _FUNCTION_WORDS for word in words]
    counted: set[int] = set()
    for other in map(normalise, others):
        if other.split() == words:
            strange = [k for k, word in enumerate(words) if word not in own_words]
            counted.update([k for k in strange if evidence[k]] or strange)
        for start, stop in _foreign_runs(words, other):
            strange = [k for k in range(start, stop) if evidence[k]]
            counted.update(strange if len(strange) >= 2 else [])
    return len(counted)


def _foreign_runs(words: list[str], other: str) -> Iterable[tuple[int, int]]:
    """Longest stretches of `words` that stand in `other`, as (start, stop)."""
    spaced, reached = f" {other} ", 0
    for start in range(len(words)):
        stop = max(start, reached)
        while stop < len(words) and f" {' '.join(words[start : stop + 1])} " in spaced:
            stop += 1
        if stop > reached and f" {' '.join(words[start:stop])} " in spaced:
            yield start, stop
            reached = stop
