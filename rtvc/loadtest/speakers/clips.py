"""Who says what: clips dealt out so that no two speakers share a text, ready for the wire.

The command prepares them and saves one file; the generator loads it before its clock starts.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtvc.loadtest.speakers.call import Microphone, Mute
from rtvc.loadtest.speakers.sound import Sound
from rtvc.loadtest.speakers.texts import Corpus, Deal, builtin_corpus, recorded_corpus
from rtvc.loadtest.spec import LoadSpec
from rtvc.loadtest.turns.rows import learn
from rtvc.loadtest.wire.transport import Frames
from rtvc.loadtest.wire.wires import WIRES, Wire
from rtvc.speech.acoustics import floor_frames
from rtvc.speech.corpus import Clip
from rtvc.speech.scenario import Scenario
from rtvc.speech.speaker import PreparedClip, SilentSpeaker, Speaker
from rtvc.speech.synthesis import Word

__all__ = [
    "Cast",
    "Corpus",
    "Deal",
    "builtin_corpus",
    "load_cast",
    "load_clips",
    "recorded_corpus",
    "save_clips",
]


def save_clips(path: Path, deal: Deal, spec: LoadSpec, talk: Sequence[Clip] = ()) -> None:
    """As the wire wants them, with noise and room; plain arrays and JSON, nothing that is executed
    when read. `talk` is what babble is made of."""
    rate_hz = WIRES[spec.protocol].rate_hz
    sound = Sound(spec.behaviour, frame_samples(spec), rate_hz, spec.seed, talk)
    prepared = [
        [sound.of(number, index, clip) for index, clip in enumerate(clips)]
        for number, clips in enumerate(deal)
    ]
    floors = [sound.floor_of(number) for number in range(len(deal))]
    notes = {
        "rate_hz": rate_hz,
        "clips": [[_note(clip) for clip in clips] for clips in prepared],
        "floors": floors,
    }
    np.savez(
        path,
        pcm16=np.concatenate([np.zeros(0, np.int16), *(c.pcm16 for c in chain(*prepared))]),
        floors=np.concatenate([np.zeros(0, np.float32), *sound.floors]),
        notes=np.frombuffer(json.dumps(notes).encode(), dtype=np.uint8),
    )


def frame_samples(spec: LoadSpec) -> int:
    """Samples in one message."""
    return round(WIRES[spec.protocol].rate_hz * spec.frame_s)


def _note(prepared: PreparedClip) -> dict[str, Any]:
    fields = asdict(replace(prepared.clip, audio=np.zeros(0, np.float32)))
    del fields["audio"]
    return {**fields, "samples": len(prepared.pcm16)}


@dataclass(frozen=True, slots=True, eq=False)
class _Saved:
    """What was saved, read once."""

    notes: dict[str, Any]
    """As written by `save_clips`."""
    pcm16: NDArray[np.int16]
    """All clips, one after another."""
    floors: NDArray[np.float32]
    """All floors of noise, one after another; each has the same length."""

    def clips(self) -> list[list[PreparedClip]]:
        deal: list[list[PreparedClip]] = []
        start = 0
        for notes in self.notes["clips"]:
            deal.append([])
            for note in notes:
                end = start + note["samples"]
                clip, rate_hz = _clip(note), self.notes["rate_hz"]
                deal[-1].append(PreparedClip(clip, rate_hz, self.pcm16[start:end]))
                start = end
        return deal

    def frames_of_floors(self, samples: int) -> list[tuple[bytes, ...]]:
        """Of each speaker; empty where there is no noise."""
        which: list[int | None] = self.notes["floors"]
        count = 1 + max((number for number in which if number is not None), default=-1)
        cut = [floor_frames(floor, samples) for floor in np.split(self.floors, count or 1)]
        return [() if number is None else cut[number] for number in which]


def _read(path: Path) -> _Saved:
    with np.load(path, allow_pickle=False) as saved:
        notes = json.loads(saved["notes"].tobytes())
        return _Saved(notes, saved["pcm16"], saved["floors"])


def load_clips(path: Path) -> list[list[PreparedClip]]:
    """As saved, without the original audio, which the wire does not need."""
    return _read(path).clips()


def _clip(note: dict[str, Any]) -> Clip:
    fields = {key: value for key, value in note.items() if key not in ("samples", "words")}
    words = note["words"]
    return Clip(
        audio=np.zeros(0, np.float32),
        words=None if words is None else tuple(Word(**word) for word in words),
        **fields,
    )


class Cast:
    """The speakers of a run, and all their audio as it goes over the wire."""

    def __init__(
        self,
        spec: LoadSpec,
        deal: list[list[PreparedClip]],
        floors: Sequence[tuple[bytes, ...]] = (),
    ) -> None:
        """`floors` are what each speaker's microphone hears while nobody speaks."""
        self._spec = spec
        self._scenario: Scenario = spec.behaviour
        self._wire: Wire = WIRES[spec.protocol]
        self._samples = frame_samples(spec)
        self._deal = deal
        self._floors = floors
        self.frames = self._made_before()

    def _made_before(self) -> Frames | None:
        """Messages that are made before the clock starts, not between two frames; None: they are
        made for each call, because the same audio does not always make the same message."""
        if self._wire.append is None:
            return None
        frames = Frames(self._wire.append)
        for prepared in chain.from_iterable(self._deal):
            for frame in prepared.frames(self._samples):
                frames.ready(frame)
        for floor in self._floors:
            for frame in floor:
                frames.ready(frame)
        return frames

    def microphone(self, number: int) -> Microphone:
        """The same seed and number give the same speaker."""
        if not self._deal:
            return Mute()
        scenario = self._scenario.of(number)
        floor = self._floors[number] if self._floors else ()
        if scenario.silent:
            return SilentSpeaker(self._samples, floor)
        return Speaker(
            self._deal[number],
            scenario,
            random.Random(f"{self._spec.seed}/{number}"),
            self._wire.rate_hz,
            self._spec.frame_s,
            aligned=True,
            end_offset_s=number * scenario.turn_ends_apart_s,
            floor=floor,
        )


def load_cast(spec: LoadSpec) -> Cast:
    """For a run that only connects, there is nothing to load."""
    if spec.kind == "connect-storm":
        return Cast(spec, [])
    saved = _read(spec.clips_file)
    deal = saved.clips()
    learn(prepared.clip.text for clips in deal for prepared in clips)
    return Cast(spec, deal, saved.frames_of_floors(frame_samples(spec)))
