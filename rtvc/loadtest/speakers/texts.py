"""What is said in a run: enough for its length, and no text with two speakers."""

import math
import random
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtvc.errors import UsageError
from rtvc.speech.corpus import Clip, builtin_clips, corpus_hash, folder_clips
from rtvc.speech.monologue import monologues
from rtvc.speech.scenario import Scenario, SpeechMix
from rtvc.transcript import normalise

BUILTIN_CLIPS = 400
"""Synthesized for a run at most, some 10 ms each, unless there are more speakers than that."""

MONOLOGUE_CLIPS = 1000
"""The same of sentences that are joined to monologues."""

SECONDS_PER_UTTERANCE = 4.0
"""A speaker says something new about as often."""

BABBLE_CLIPS = 12
"""Sentences that babble is made of; nobody else says them."""

SHORT = 0.5
"""Of its average length, a sentence may well be: so many more are made to be joined."""

Deal = list[list[Clip]]
"""Clips of each speaker."""

USUAL = Scenario()


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is spoken in a run."""

    deal: Deal
    """Clips of each speaker; empty for those who say nothing."""
    kind: str
    """"synthetic" or "recordings"."""
    digest: str
    """Identifies the clips, as they are without noise and room."""
    talk: Sequence[Clip] = ()
    """What others say in the background; empty where nobody does."""


def builtin_corpus(speakers: int, run_s: float, seed: int, scenario: Scenario = USUAL) -> Corpus:
    """Enough sentences for the run, or as many as can be had quickly; then they come again."""
    # Not on the main thread: espeak-ng calls back into Python, and an interrupt that is raised in
    # such a call is lost.
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(_synthesized, speakers, run_s, seed, scenario).result()


def _synthesized(speakers: int, run_s: float, seed: int, scenario: Scenario) -> Corpus:
    studio = _Studio(seed)
    deal: Deal = [[] for _ in range(speakers)]
    stay_s = scenario.arrivals.stay_s
    said_s = run_s if stay_s is None else min(run_s, stay_s[1])
    for mix, numbers in _by_mix(scenario, speakers).items():
        for number, clips in zip(numbers, studio.deal(mix, numbers, said_s), strict=True):
            deal[number] = clips
    digest = corpus_hash(studio.clips)
    return Corpus(deal, "synthetic", digest, studio.talk() if _babbles(scenario) else ())


def _talkers(scenario: Scenario, speakers: int) -> list[int]:
    return [number for number in range(speakers) if not scenario.of(number).silent]


def _by_mix(scenario: Scenario, speakers: int) -> dict[SpeechMix, list[int]]:
    """Speakers who say the same kind of thing."""
    groups: dict[SpeechMix, list[int]] = {}
    for number in _talkers(scenario, speakers):
        groups.setdefault(scenario.of(number).speech, []).append(number)
    return groups


def _babbles(scenario: Scenario) -> bool:
    return any(kind.acoustics.noise == "babble" for kind in scenario.kinds)


def told_apart(clips: Sequence[Clip], known: Iterable[str]) -> list[Clip]:
    """Clips of which none holds all the words of another, nor of a known text: what is left of
    one when words are lost must never read like another, or it would pass for cross-talk."""
    seen = [frozenset(text.split()) for text in known]
    kept = []
    for clip in clips:
        words = frozenset(normalise(clip.text).split())
        if not any(words <= other or other <= words for other in seen):
            seen.append(words)
            kept.append(clip)
    return kept


class _Studio:
    """Synthesizes; no text twice."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._texts: set[str] = set()
        self._sessions = 0
        self.clips: list[Clip] = []
        """All that speakers say, before it is joined."""

    def deal(self, mix: SpeechMix, numbers: Sequence[int], said_s: float) -> Deal:
        """Clips for each of some speakers, enough for so long where that can be had quickly."""
        if mix.monologue_s is None:
            wanted = 1 + int(said_s / SECONDS_PER_UTTERANCE)
            each = max(1, min(wanted, BUILTIN_CLIPS // len(numbers)))
            clips = self._record(mix, each * len(numbers))
            self.clips += clips
            return _dealt(clips, len(numbers))
        pieces = _pieces(mix)
        wanted = 1 + int(said_s / mix.monologue_s[0])
        each = pieces * max(1, min(wanted, MONOLOGUE_CLIPS // (len(numbers) * pieces)))
        clips = self._record(mix, each * len(numbers), in_one_voice=each)
        self.clips += clips
        return [
            monologues(clips[k * each : (k + 1) * each], mix, self._rng(number))
            for k, number in enumerate(numbers)
        ]

    def _rng(self, number: int) -> random.Random:
        return random.Random(f"{self._seed}/{number}/monologue")

    def talk(self) -> list[Clip]:
        """What others say."""
        return self._record(SpeechMix(), BABBLE_CLIPS)

    def _record(self, mix: SpeechMix, count: int, *, in_one_voice: int = 1) -> list[Clip]:
        seed = self._seed + 1_000_003 * self._sessions
        self._sessions += 1
        manner: dict[str, Any] = {"voices": mix.voices} if mix.voices else {}
        wanted = count
        while True:
            clips = builtin_clips(
                wanted,
                seed,
                words_per_minute=mix.words_per_minute,
                min_words=mix.words[0],
                max_words=mix.words[1],
                in_one_voice=in_one_voice,
                **manner,
            )
            fresh = told_apart(clips, self._texts)
            if len(fresh) >= count:
                break
            wanted += count - len(fresh)
        self._texts |= {normalise(clip.text) for clip in fresh[:count]}
        return fresh[:count]


def _pieces(mix: SpeechMix) -> int:
    """Sentences of which one monologue can surely be made."""
    longest_s = (mix.monologue_s or (0.0, 0.0))[1]
    sentence_s = 60 * sum(mix.words) / sum(mix.words_per_minute)
    return max(2, math.ceil(longest_s / (SHORT * sentence_s)))


def recorded_corpus(
    folder: Path, speakers: int, scenario: Scenario = USUAL, seed: int = 0
) -> Corpus:
    """Recordings of a folder.

    Raises:
        UsageError: fewer different texts than speakers.
    """
    clips = folder_clips(folder)
    deal: Deal = [[] for _ in range(speakers)]
    talkers = _talkers(scenario, speakers)
    for number, mine in zip(talkers, _dealt(clips, len(talkers)), strict=True):
        rng = random.Random(f"{seed}/{number}/monologue")
        deal[number] = monologues(mine, scenario.of(number).speech, rng)
    talk: Sequence[Clip] = ()
    if _babbles(scenario):
        with ThreadPoolExecutor(1) as elsewhere:
            talk = elsewhere.submit(_Studio(seed).talk).result()
    return Corpus(deal, "recordings", corpus_hash(clips), talk)


def _dealt(clips: Sequence[Clip], speakers: int) -> Deal:
    """Clips that share a text go to the same speaker."""
    if not speakers:
        return []
    owners: dict[str, int] = {}
    deal: Deal = [[] for _ in range(speakers)]
    for clip in clips:
        deal[owners.setdefault(normalise(clip.text), len(owners) % speakers)].append(clip)
    if len(owners) < speakers:
        raise UsageError(
            f"expected at least {speakers} recordings with different texts, one for each speaker "
            f"(a shared text would hide cross-talk), got {len(owners)}"
        )
    return deal
