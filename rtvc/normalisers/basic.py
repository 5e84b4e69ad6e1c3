"""A clean-up for any language: it knows letters from marks, and no words.

It cannot know that "3" and "drei" are one word, nor that traditional and simplified characters
are one text: where a recogniser writes the one and the transcript the other, both count as errors.
English has a clean-up that knows (`rtvc.transcript`).
"""

import re
import unicodedata

NAME = "rtvc-basic-1"
"""Name and version of `normalise`; results under different names must not be compared."""

_OPTIONAL_MARKS = re.compile(
    "[\u0640\u064b-\u0652\u0670\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5]"
)
"""Arabic lengthening and vowel signs, Hebrew points: most writers leave them out."""

_OWN_LETTERS = {
    "tr": str.maketrans({"I": "ı", "İ": "i"}),
    "az": str.maketrans({"I": "ı", "İ": "i"}),
    "ru": str.maketrans({"ё": "е", "Ё": "Е"}),
}
"""Letters whose lower case, or whose common spelling, is another one than elsewhere."""


def normalise(text: str, language: str = "") -> str:
    """Lower case, no punctuation, digits as ASCII has them, optional vowel signs off.

    Marks that belong to a letter stay, and apostrophes inside words; hyphens part words. What
    cannot be seen (joiners, soft hyphens) is dropped. `language` is a primary tag, such as "tr".

    >>> normalise("Öffne das Fenster – bitte, um 7 Uhr!")
    'öffne das fenster bitte um 7 uhr'
    >>> normalise("L’été dernier"), normalise("KAPI", "tr")
    ("l'été dernier", 'kapı')
    """
    composed = unicodedata.normalize("NFKC", text).translate(_OWN_LETTERS.get(language, {}))
    folded = unicodedata.normalize("NFKC", composed.casefold())
    bare = _OPTIONAL_MARKS.sub("", folded.replace("’", "'").replace("‘", "'"))
    words = "".join(map(_kept, bare)).split()
    stripped = (word.strip("'") for word in words)
    return " ".join(word for word in stripped if word)


def _kept(character: str) -> str:
    """What is left of one character: itself, its digit, a space, or nothing."""
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Cf":
        return ""
    return character if character == "'" or category[0] in "LMN" else " "
