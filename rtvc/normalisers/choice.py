"""Which clean-up a language gets, and whether its errors are counted in words or in characters."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from rtvc import transcript
from rtvc.normalisers import basic

Unit = Literal["wer", "cer"]
"""Errors per word said, or per character said."""

WITHOUT_SPACES = frozenset({"zh", "yue", "ja", "th", "lo", "km", "my"})
"""Languages written without spaces between words: what a word is, only a dictionary could say."""


@dataclass(frozen=True, slots=True)
class Normaliser:
    """A clean-up and what is counted after it."""

    name: str
    """Name and version; results under different names must not be compared."""
    unit: Unit
    """What its language is counted in."""
    text: Callable[[str], str]
    """Cleans a text up; words are parted by single spaces."""

    def words(self, text: str) -> tuple[str, ...]:
        """The words of a text, cleaned up."""
        return tuple(self.text(text).split())

    def characters(self, text: str) -> tuple[str, ...]:
        """The characters (code points) of a text, cleaned up, without its spaces."""
        return tuple(self.text(text).replace(" ", ""))

    def tokens(self, text: str, unit: Unit) -> tuple[str, ...]:
        """What is counted."""
        return self.words(text) if unit == "wer" else self.characters(text)


def primary_tag(language: str) -> str:
    """The language without its script and region.

    >>> primary_tag("en-US"), primary_tag("zh_Hans"), primary_tag(" DE ")
    ('en', 'zh', 'de')
    """
    return language.strip().replace("_", "-").partition("-")[0].casefold()


def normaliser_for(language: str) -> Normaliser:
    """The clean-up of a language, named by an ISO-639 tag.

    >>> normaliser_for("en-GB").name, normaliser_for("de").name, normaliser_for("ja").unit
    ('rtvc-en-1', 'rtvc-basic-1', 'cer')
    """
    tag = primary_tag(language)
    if tag == "en":
        return Normaliser(transcript.NORMALISER, "wer", transcript.normalise)
    unit: Unit = "cer" if tag in WITHOUT_SPACES else "wer"
    return Normaliser(basic.NAME, unit, partial(basic.normalise, language=tag))
