"""Who says what: clips dealt out so that no two speakers share a text, ready for the wire.

The command prepares them and saves one file; the generator loads it before its clock starts.
"""

import json
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from rtvc.errors import UsageError
from rtvc.loadtest.call import Microphone, Mute
from rtvc.loadtest.realtime_client import WIRE_RATE_HZ, RealtimeClient
from rtvc.loadtest.rows import learn
from rtvc.loadtest.spec import LoadSpec
from rtvc.loadtest.transport import Frames
from rtvc.speech.corpus import Clip, builtin_clips, corpus_hash, folder_clips
from rtvc.speech.speaker import SCENARIOS, PreparedClip, Speaker, prepare
from rtvc.speech.synthesis import Word
from rtvc.transcript import normalise

BUILTIN_CLIPS = 400
"""Synthesized for a run at most, some 10 ms each, unless there are more speakers than that."""

SECONDS_PER_UTTERANCE = 4.0
"""A speaker says something new about as often."""

MAX_WORDS = 16
"""Of a built-in sentence: about 6 s of speech."""

Deal = list[list[Clip]]
"""Clips of each speaker."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is spoken in a run."""

    deal: Deal
    """Clips of each speaker."""
    kind: str
    """"synthetic" or "recordings"."""
    digest: str
    """Identifies the clips."""


def builtin_corpus(speakers: int, run_s: float, seed: int) -> Corpus:
    """Enough sentences for the run, or as many as can be had quickly; then they come again."""
    wanted = 1 + int(run_s / SECONDS_PER_UTTERANCE)
    each = max(1, min(wanted, BUILTIN_CLIPS // speakers))
    # Not on the main thread: espeak-ng calls back into Python, and an interrupt that is raised in
    # such a call is lost.
    with ThreadPoolExecutor(1) as elsewhere:
        work = elsewhere.submit(builtin_clips, speakers * each, seed, max_words=MAX_WORDS)
        clips = work.result()
    return Corpus(_dealt(clips, speakers), "synthetic", corpus_hash(clips))


def recorded_corpus(folder: Path, speakers: int) -> Corpus:
    """Recordings of a folder.

    Raises:
        UsageError: fewer different texts than speakers.
    """
    clips = folder_clips(folder)
    return Corpus(_dealt(clips, speakers), "recordings", corpus_hash(clips))


def _dealt(clips: Sequence[Clip], speakers: int) -> Deal:
    """Clips that share a text go to the same speaker."""
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


def save_clips(path: Path, deal: Deal) -> None:
    """Resample and write; plain arrays and JSON, nothing that is executed when read."""
    prepared = [[prepare(clip, WIRE_RATE_HZ) for clip in clips] for clips in deal]
    flat = [clip for clips in prepared for clip in clips]
    notes = [[_note(clip) for clip in clips] for clips in prepared]
    np.savez(
        path,
        pcm16=np.concatenate([clip.pcm16 for clip in flat]),
        notes=np.frombuffer(json.dumps(notes).encode(), dtype=np.uint8),
    )


def _note(prepared: PreparedClip) -> dict[str, Any]:
    fields = asdict(replace(prepared.clip, audio=np.zeros(0, np.float32)))
    del fields["audio"]
    return {**fields, "samples": len(prepared.pcm16)}


def load_clips(path: Path) -> list[list[PreparedClip]]:
    """As saved, without the original audio, which the wire does not need."""
    with np.load(path, allow_pickle=False) as saved:
        pcm16, notes = saved["pcm16"], json.loads(saved["notes"].tobytes())
    start = 0
    deal: list[list[PreparedClip]] = []
    for clips in notes:
        deal.append([])
        for note in clips:
            samples = note.pop("samples")
            deal[-1].append(PreparedClip(_clip(note), WIRE_RATE_HZ, pcm16[start : start + samples]))
            start += samples
    return deal


def _clip(note: dict[str, Any]) -> Clip:
    words = note.pop("words")
    return Clip(
        audio=np.zeros(0, np.float32),
        words=None if words is None else tuple(Word(**word) for word in words),
        **note,
    )


class Cast:
    """The speakers of a run, and all their audio as it goes over the wire."""

    def __init__(self, spec: LoadSpec, deal: list[list[PreparedClip]]) -> None:
        self._spec = spec
        self._deal = deal
        self.frames = Frames(RealtimeClient.append)
        """Made before the clock starts, not between two frames."""
        samples = round(WIRE_RATE_HZ * spec.frame_s)
        for prepared in chain.from_iterable(deal):
            for frame in prepared.frames(samples):
                self.frames.ready(frame)

    def microphone(self, number: int) -> Microphone:
        """The same seed and number give the same speaker."""
        if not self._deal:
            return Mute()
        rng = random.Random(f"{self._spec.seed}/{number}")
        return Speaker(
            self._deal[number],
            SCENARIOS[self._spec.scenario],
            rng,
            WIRE_RATE_HZ,
            self._spec.frame_s,
            aligned=True,
        )


def load_cast(spec: LoadSpec) -> Cast:
    """For a run that only connects, there is nothing to load."""
    if spec.kind == "connect-storm":
        return Cast(spec, [])
    deal = load_clips(spec.clips_file)
    learn(prepared.clip.text for clips in deal for prepared in clips)
    return Cast(spec, deal)
