"""What a speaker's microphone hears: the voice in its room, at the wire's rate, in noise. Pure."""

import random
from collections.abc import Sequence

import numpy as np

from rtvc.audio import FloatArray
from rtvc.speech.acoustics import in_room, noise_floor, room_response, with_noise
from rtvc.speech.corpus import Clip
from rtvc.speech.scenario import Acoustics, Scenario
from rtvc.speech.speaker import PreparedClip, prepare

FLOOR_S = 4.8
"""Length of a loop of noise, to within a frame."""

FLOORS = 8
"""Different loops for speakers who are alike: nobody hears two of them at once."""


class Sound:
    """Noise and rooms of one run: the same seed gives the same."""

    def __init__(
        self,
        scenario: Scenario,
        frame_samples: int,
        rate_hz: int,
        seed: int,
        talk: Sequence[Clip] = (),
    ) -> None:
        self._scenario = scenario
        self._frame_samples = frame_samples
        self._rate_hz = rate_hz
        self._seed = seed
        self._talk = talk
        self._rooms: dict[tuple[int, int], FloatArray] = {}
        self._numbers: dict[tuple[Acoustics, int], int] = {}
        self.floors: list[FloatArray] = []
        """All loops of noise that were asked for, each of the same length."""

    def _rng(self, *what: object) -> np.random.Generator:
        name = "/".join(map(str, (self._seed, *what)))
        return np.random.default_rng(random.Random(name).getrandbits(64))

    def of(self, number: int, index: int, clip: Clip) -> PreparedClip:
        """The `index`th clip of a speaker, as it goes over the wire."""
        rt60_s = self._scenario.of(number).acoustics.rt60_s
        if rt60_s is not None:
            clip = in_room(clip, self._room(number, rt60_s, clip.rate_hz))
        prepared = prepare(clip, self._rate_hz)
        floor = self.floor_of(number)
        if floor is None:
            return prepared
        start = int(self._rng(number, index, "noise").integers(len(self.floors[floor])))
        return with_noise(prepared, self.floors[floor], start, self._frame_samples)

    def _room(self, number: int, rt60_s: float, rate_hz: int) -> FloatArray:
        """Each speaker sits in a room of their own."""
        key = (number, rate_hz)
        if key not in self._rooms:
            self._rooms[key] = room_response(rt60_s, rate_hz, self._rng(number, "room"))
        return self._rooms[key]

    def floor_of(self, number: int) -> int | None:
        """Which loop of noise a speaker hears; None: silence."""
        acoustics = self._scenario.of(number).acoustics
        if acoustics.noise is None:
            return None
        key = (acoustics, number % FLOORS)
        if key not in self._numbers:
            self._numbers[key] = len(self.floors)
            self.floors.append(self._floor(acoustics.noise, acoustics.snr_db, number % FLOORS))
        return self._numbers[key]

    def _floor(self, kind: str, snr_db: float, which: int) -> FloatArray:
        frames = max(1, round(FLOOR_S * self._rate_hz / self._frame_samples))
        samples = frames * self._frame_samples
        rng = self._rng(which, kind, "floor")
        return noise_floor(kind, snr_db, samples, self._rate_hz, rng, self._talk)
