"""Text with positions → utterances: for servers that know stretches of audio and no utterances.

final text       belongs to every utterance of which it covers half or more; its words are then
                 divided where they fit best. Else to the one it overlaps most, else the nearest.
changing text    belongs to the utterance that was begun last before its end.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from rtvc.loadtest.wire.observations import TextSpan
from rtvc.transcript import aligned_words, normalise

COVERED = 0.5
"""Of an utterance's speech, for a text to be held for its words."""


class Spoken(Protocol):
    """The part of an utterance that matters here; times in seconds of the audio stream."""

    @property
    def text(self) -> str: ...
    @property
    def speech_start_s(self) -> float: ...
    @property
    def speech_end_s(self) -> float: ...


SpokenT = TypeVar("SpokenT", bound=Spoken)


def owners(span: TextSpan, begun: Sequence[SpokenT]) -> list[tuple[SpokenT, str]]:
    """Whose words a text holds, and which; `begun` is at least one, in order of speaking."""
    if not span.final:
        before = [said for said in begun if said.speech_start_s < span.end_s]
        return [(before[-1] if before else _nearest(span, begun), span.text)]
    covered = [said for said in begun if _overlap_s(span, said) >= COVERED * _length_s(said)]
    if len(covered) > 1:
        texts = divide(span.text, [said.text for said in covered])
        return list(zip(covered, texts, strict=True))
    return [(covered[0] if covered else _nearest(span, begun), span.text)]


def divide(heard: str, said: Sequence[str]) -> list[str]:
    """Cut what was heard into one part for each text that was said, where the words fit best.

    >>> divide("turn on the light and play sum jazz", ["Turn on the lights.", "Play some jazz!"])
    ['turn on the light', 'and play sum jazz']
    """
    words = normalise(heard).split()
    pairs = aligned_words(" ".join(said), heard)
    cuts = [0]
    spoken = 0
    for text in said[:-1]:
        spoken += len(normalise(text).split())
        cuts.append(max(cuts[-1], _cut(pairs, spoken, len(words))))
    ends = [*cuts[1:], len(words)]
    return [" ".join(words[start:end]) for start, end in zip(cuts, ends, strict=True)]


def _cut(pairs: Sequence[tuple[int, int]], spoken: int, words: int) -> int:
    """Where in the words heard the first `spoken` words said are over.

    Words between two recognised ones were heard for something: as many go to the left as had
    been said there.
    """
    last = max((pair for pair in pairs if pair[0] < spoken), default=(-1, -1))
    first = min((pair for pair in pairs if pair[0] >= spoken), default=(spoken, words))
    unheard = spoken - 1 - last[0]
    return min(last[1] + 1 + unheard, first[1])


def _nearest(span: TextSpan, begun: Sequence[SpokenT]) -> SpokenT:
    """The one overlapped most; of those not overlapped, the nearest; of equals, the later."""
    return max(reversed(begun), key=lambda said: _overlap_s(span, said))


def _overlap_s(span: TextSpan, said: Spoken) -> float:
    """Negative: the distance between the two."""
    return min(span.end_s, said.speech_end_s) - max(span.start_s, said.speech_start_s)


def _length_s(said: Spoken) -> float:
    return said.speech_end_s - said.speech_start_s
