"""Phoneme spelling of every vocabulary word per accent (from espeak-ng), for an auxiliary loss."""

from rtvc.speech.sentences import VOCABULARY
from rtvc.speech.synthesis import ACCENTS, Synthesizer

_STRESS = str.maketrans("", "", "',%=;|")
VOWEL_START = "aAeEiIoOuUV03@"


def phone_table() -> tuple[dict[tuple[str, str], list[int]], list[str]]:
    """(accent, word) -> phoneme classes (1..n; 0 is "no phoneme"), and the phoneme names."""
    synthesizer = Synthesizer()
    numbers: dict[str, int] = {}
    table = {}
    for accent in ACCENTS:
        for word in VOCABULARY:
            spelled = [p.translate(_STRESS) for p in synthesizer.phonemes(word, accent)]
            table[accent, word] = [numbers.setdefault(p, len(numbers) + 1) for p in spelled if p]
    return table, list(numbers)


if __name__ == "__main__":
    table, names = phone_table()
    print(len(names), names)
    for w in ("hello", "forty", "thursday", "i'm"):
        print(w, [names[i - 1] for i in table["en-us", w]], [names[i - 1] for i in table["en", w]])
