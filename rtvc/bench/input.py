"""What the cells of a bench listen to: built-in speakers, or a folder of the user's recordings.

The same arguments give the same samples in every process, so that cells can be compared.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, cycle, islice
from pathlib import Path

from rtvc.audio import pcm16_to_float
from rtvc.bench.clips import CLEAN, RATE_HZ, BenchClip, BenchInput
from rtvc.bench.conditions import (
    QUIET_KINDS,
    Condition,
    in_conditions,
    parse_condition,
    quiet_clips,
)
from rtvc.bench.recordings import Recording, read_folder
from rtvc.errors import UsageError
from rtvc.speech.corpus import Clip, builtin_clips
from rtvc.speech.monologue import joined, speech_s
from rtvc.speech.speaker import prepare

__all__ = ["BenchClip", "BenchInput", "gather"]

USUAL_CONDITIONS = (CLEAN, "babble:10")
"""A quiet room, and a busy one."""

WINDOW_S = 30.0
"""Longer recordings do not fit into one window of the model: they are long files."""


@dataclass(frozen=True, slots=True)
class _Length:
    """A class of turns."""

    from_s: float
    """Seconds: none is shorter."""
    below_s: float
    """Seconds: none is as long."""
    words: tuple[int, int]
    """Of a sentence in it."""
    sentences: int
    """In one turn."""

    def holds(self, clip: Clip) -> bool:
        return self.from_s <= clip.duration_s < self.below_s


TURN_LENGTHS = (
    _Length(0.0, 2.0, (3, 4), 1),
    _Length(2.0, 5.0, (6, 11), 1),
    _Length(5.0, 10.0, (7, 11), 2),
)
"""How long turns are; there are equally many of each."""

PAUSES_S = (0.3, 1.2)
"""Between the sentences of a long file."""

SHORT_PAUSES_S = (0.15, 0.35)
"""Between the sentences of a turn."""

SPARE, MOST_SPARE = 2, 30
"""Turns made beyond each that is wanted of a length, and at most: a voice may take its time."""


def gather(
    *,
    clips: int = 24,
    conditions: Sequence[str] = USUAL_CONDITIONS,
    speech: Path | str | None = None,
    language: str | None = None,
    long_files: int = 1,
    long_s: float = 300.0,
    quiet_s: float = 10.0,
    quiet_kinds: Sequence[str] = QUIET_KINDS,
    seed: int = 0,
) -> BenchInput:
    """All that a cell listens to.

    Built in: `clips` turns in equal parts of 0–2, 2–5 and 5–10 s, each in every condition, and
    `long_files` of `long_s` seconds of sentence after sentence. From a folder (`speech`): its
    recordings, at most `clips` of them; such as are longer than 30 s are long files, and where
    there are none the others are joined to some. Every kind of quiet lasts `quiet_s` seconds.
    `language` is what is said in a folder whose manifest does not say.

    Raises:
        UsageError: a number, a condition or a kind of quiet makes no sense.
        AudioError: the folder cannot be read, or nothing in it can be used.
    """
    if clips < 1 or long_files < 0 or long_s <= 0 or quiet_s < 0:
        raise UsageError(
            "expected 1 clip or more, no negative number of long files or seconds, "
            f"got {clips} clips, {long_files} files of {long_s:g} s and {quiet_s:g} s of quiet"
        )
    asked = _parsed(conditions)
    if speech is None:
        found = _built_in(clips, asked, long_files, long_s, seed)
    else:
        found = _recorded(speech, clips, asked, language, long_files, long_s, seed)
    told = language or "en"
    found.quiet.extend(quiet_clips(quiet_s, seed, told, quiet_kinds) if quiet_s > 0 else ())
    return found


def _parsed(conditions: Sequence[str]) -> list[Condition]:
    """Each once, in their order."""
    by_name = {condition.name: condition for condition in map(parse_condition, conditions)}
    if not by_name:
        raise UsageError("expected a condition to hear the clips in, got none")
    return list(by_name.values())


def _built_in(
    clips: int, conditions: Sequence[Condition], long_files: int, long_s: float, seed: int
) -> BenchInput:
    turns = _turns(clips, seed)
    named = [(_as_it_is(clip, clip.clip_id, clip.text, "en"), clip) for clip in turns]
    short = in_conditions(named, conditions, seed)
    long = [_talk(f"long-{number}", long_s, seed + 1 + number) for number in range(long_files)]
    return BenchInput(short, long, [], [])


def _turns(wanted: int, seed: int) -> list[Clip]:
    """So many turns, of all lengths alike: one of each length, again and again."""
    kinds = len(TURN_LENGTHS)
    by_length = [
        _of_length(length, len(range(index, wanted, kinds)), seed)
        for index, length in enumerate(TURN_LENGTHS)
    ]
    return [
        replace(by_length[index % kinds][index // kinds], clip_id=f"turn-{index:03d}")
        for index in range(wanted)
    ]


def _of_length(length: _Length, wanted: int, seed: int) -> list[Clip]:
    """So many turns of a length; where too few come out as long, the nearest to it."""
    if not wanted:
        return []
    made = _made(length, wanted + min(SPARE * wanted, MOST_SPARE), seed)
    middle_s = (length.from_s + length.below_s) / 2
    others = [clip for clip in made if not length.holds(clip)]
    others.sort(key=lambda clip: abs(clip.duration_s - middle_s))
    return [*filter(length.holds, made), *others][:wanted]


def _made(length: _Length, wanted: int, seed: int) -> list[Clip]:
    """Each turn in one voice; no two of them say the same."""
    low, high = length.words
    each = length.sentences
    rng = random.Random(f"{seed}/turns/{low}")
    said = builtin_clips(
        each * wanted, seed + 101 * each + low, min_words=low, max_words=high, in_one_voice=each
    )
    turns = [said[first : first + each] for first in range(0, len(said), each)]
    return [joined(turn, [rng.uniform(*SHORT_PAUSES_S) for _ in turn[1:]]) for turn in turns]


def _as_it_is(clip: Clip, name: str, reference: str | None, language: str) -> BenchClip:
    """A synthetic clip, at the usual level of speech."""
    prepared = prepare(clip, RATE_HZ)
    words = None if clip.words is None else tuple(word.end_s for word in clip.words)
    return BenchClip(
        name=name,
        audio_16k=pcm16_to_float(prepared.pcm16.astype("<i2").tobytes()),
        reference=reference,
        language=language,
        condition=CLEAN,
        words_end_s=words,
        speech_start_s=clip.speech_start_s,
        speech_end_s=clip.speech_end_s,
    )


def _talk(name: str, seconds: float, seed: int) -> BenchClip:
    """Sentence after sentence, in one voice for minutes."""
    whole = _until(seconds, _sentences(seed + 5_000), random.Random(f"{seed}/talk"))
    return _as_it_is(whole, name, whole.text, "en")


def _until(seconds: float, clips: Iterable[Clip], rng: random.Random) -> Clip:
    """As many of them as it takes, with pauses between."""
    said: list[Clip] = []
    gaps_s: list[float] = []
    length_s = 0.0
    for clip in clips:
        if said:
            gaps_s.append(rng.uniform(*PAUSES_S))
            length_s += gaps_s[-1]
        said.append(clip)
        length_s += speech_s(clip)
        if length_s >= seconds:
            break
    return joined(said, gaps_s)


def _sentences(seed: int) -> Iterator[Clip]:
    """Without an end; texts come back only after hundreds."""
    for number in count():
        yield from builtin_clips(50, seed + number, min_words=6, max_words=20, in_one_voice=50)


def _recorded(
    speech: Path | str,
    clips: int,
    conditions: Sequence[Condition],
    language: str | None,
    long_files: int,
    long_s: float,
    seed: int,
) -> BenchInput:
    recordings, notes = read_folder(speech, language=language, most=clips, seed=seed)
    spoken = [recording for recording in recordings if not recording.quiet]
    turns = [recording for recording in spoken if recording.clip.duration_s <= WINDOW_S]
    named = [(_of_recording(recording), recording.clip) for recording in turns]
    long = [_of_recording(recording) for recording in spoken if recording not in turns]
    for clip in long:
        notes.alone(clip.name, f"{clip.audio_s / 60:.1f} min: a long file, not a turn")
    if not long and long_files:
        long = _joined_turns(turns, long_files, long_s, seed)
        told = f"the others, joined to {len(long)} of about {long_s:g} s" if long else "none"
        notes.lines.append(f"no recording is longer than {WINDOW_S:g} s; long files: {told}")
    if not turns:
        notes.lines.append(f"no recording is shorter than {WINDOW_S:g} s: no turn can be timed")
    quiet = [_of_recording(recording) for recording in recordings if recording.quiet]
    return BenchInput(in_conditions(named, conditions, seed), long, quiet, notes.told())


def _of_recording(recording: Recording) -> BenchClip:
    """As it was recorded, at its own level."""
    clip = recording.clip
    return BenchClip(
        name=clip.clip_id,
        audio_16k=clip.audio,
        reference=recording.reference,
        language=recording.language,
        condition="recorded" if recording.quiet else CLEAN,
        speech_start_s=clip.speech_start_s,
        speech_end_s=clip.speech_end_s,
    )


def _joined_turns(
    turns: Sequence[Recording], files: int, seconds: float, seed: int
) -> list[BenchClip]:
    """Long files of recordings of which it is known what is said, all in one language.

    Each file begins with another recording; where there are too few for its length they come
    back. Two are needed at least.
    """
    known = [turn for turn in turns if turn.reference and turn.language == turns[0].language]
    if len(known) < 2:
        return []
    made = []
    for number in range(files):
        again = islice(cycle(turn.clip for turn in known), number, None)
        whole = _until(seconds, again, random.Random(f"{seed}/joined/{number}"))
        made.append(_as_it_is(whole, f"joined-{number}", whole.text, known[0].language))
    return made
