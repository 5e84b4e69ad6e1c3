"""What is measured of one engine in one process, each kind by itself and in a fixed order."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from rtvc.bench.clips import CLEAN, RATE_HZ, BenchClip, BenchInput
from rtvc.bench.engines.contract import BenchEngine
from rtvc.bench.spec import BATCH_SIZES, Measures
from rtvc.bench.streaming import Cadence, stream_clip
from rtvc.clock import Clock
from rtvc.errors import TranscriberError
from rtvc.results.cells import Batch, Heard, LongFile, Quiet, Streamed

Tell = Callable[[str, int, int], None]
"""Takes what goes on, how many of it are done, and how many there are."""

LOADING = "loading"
"""What is told while weights are."""

WARM_UP_S = 10.0
"""Longest audio that the way of long recordings is warmed up with."""

S = TypeVar("S")
T = TypeVar("T")


class Measuring:
    """An engine that has loaded, and what it is to listen to."""

    def __init__(
        self,
        engine: BenchEngine,
        heard: BenchInput,
        measures: Measures,
        clock: Clock,
        tell: Tell,
        *,
        batch: int = 1,
        short_context: bool = False,
    ) -> None:
        """`batch`: utterances in an inference of the cell; `short_context`: whether an inference
        takes as long as its audio is."""
        self._batch_size = batch
        self._short_context = short_context
        self._engine = engine
        self._heard = heard
        self._measures = measures
        self._clock = clock
        self._tell = tell

    def warm_up(self) -> float:
        """Seconds of the first inference of each shape, which no figure contains."""
        began_s = self._clock.now()
        turns = self._heard.short
        groups = [alike(turns, size) for size in self._own_sizes()] if turns else []
        if self._short_context:
            # Every length is a shape of its own.
            groups += [[clip] for clip in turns]
        for done, group in enumerate(groups):
            self._tell("warming up", done, len(groups))
            self._batch(group)
        first = [*turns[:1], *self._heard.long[:1]]
        if first and self._heard.long:
            samples = round(WARM_UP_S * RATE_HZ)
            self._engine.transcribe_long(first[0].audio_16k[:samples], first[0].language)
        return self._clock.now() - began_s

    def short(self) -> tuple[Heard, ...]:
        """Every turn by itself, in order."""
        return self._each("turns", self._heard.short, self._turn)

    def long(self) -> tuple[LongFile, ...]:
        """Every long recording, whole."""
        return self._each("long files", self._heard.long, self._long_file)

    def quiet(self) -> tuple[Quiet, ...]:
        """What is made of audio in which nobody speaks."""
        return self._each("quiet", self._heard.quiet, self._in_quiet)

    def batches(self) -> tuple[Batch, ...]:
        """Service times: turns of about the middle length, as many at once as the cell has."""
        return self._each("batches", self._groups(self._own_sizes()), self._timed)

    def larger(self) -> tuple[Batch, ...]:
        """Service times of larger batches, up to the first that the machine has no room for."""
        found: list[Batch] = []
        for size in self._sizes():
            if size in self._own_sizes():
                continue
            groups = self._groups([size])
            try:
                for group in groups[:1]:
                    self._batch(group)
                found.extend(self._each("batches", groups, self._timed))
            except (MemoryError, RuntimeError, TranscriberError):
                return tuple(found)
        return tuple(found)

    def at_once(self) -> tuple[Batch, ...]:
        """How much inferences slow each other down: single turns, more and more workers at once."""
        most = self._engine.most_abreast
        if most == 1 or not self._heard.short:
            return ()
        self.load_for(most)
        sizes = [*(size for size in BATCH_SIZES if 1 < size < most), most]
        return tuple(one for crowd in self._each("at once", sizes, self._crowd) for one in crowd)

    def load_for(self, abreast: int) -> None:
        """Load the engine anew, for so many inferences at once, and warm each of them up.

        Whatever is measured of one inference alone is measured before: a tiny model of CTranslate2
        that was loaded for two at once was 11 % slower alone (docs/bench.md).
        """
        self._tell(LOADING, 0, 1)
        self._engine.load(abreast)
        if self._heard.short:
            self._crowd(abreast)

    def _crowd(self, workers: int) -> list[Batch]:
        """Each of them goes on until all have done their part, so that none is ever alone."""
        clips = alike(self._heard.short, 1)
        done, enough = threading.Semaphore(0), threading.Event()

        def work(_: int) -> list[Batch]:
            made: list[Batch] = []
            try:
                while not enough.is_set():
                    made.append(replace(self._timed(clips), workers=workers))
                    if len(made) == self._measures.batch_runs:
                        done.release()
            except Exception:
                # Nobody has to wait for this one.
                done.release()
                raise
            return made[: self._measures.batch_runs]

        with ThreadPoolExecutor(workers) as pool:
            crowd = [pool.submit(work, number) for number in range(workers)]
            for _ in crowd:
                done.acquire()
            enough.set()
            return [batch for each in crowd for batch in each.result()]

    def streamed(self) -> tuple[Streamed, ...]:
        """Some clean turns, heard as they are spoken."""
        clean = [clip for clip in self._heard.short if clip.condition == CLEAN]
        chosen = (clean or self._heard.short)[: self._measures.streaming]
        cadence = Cadence(every_s=self._measures.partial_interval_s)

        def stream(clip: BenchClip) -> Streamed:
            return stream_clip(self._engine, clip, self._clock, cadence=cadence)

        return self._each("streaming", chosen, stream)

    def _sizes(self) -> tuple[int, ...]:
        return self._measures.sizes(self._engine.most_at_once)

    def _own_sizes(self) -> tuple[int, ...]:
        """Up to the cell's own batch."""
        return self._measures.sizes(min(self._batch_size, self._engine.most_at_once))

    def _groups(self, sizes: Sequence[int]) -> list[list[BenchClip]]:
        """Each size as often as it is to be timed; none where there is nothing to hear."""
        if not self._heard.short:
            return []
        runs = [size for size in sizes for _ in range(self._measures.batch_runs)]
        return [alike(self._heard.short, size) for size in runs]

    def _each(self, stage: str, given: Sequence[S], measure: Callable[[S], T]) -> tuple[T, ...]:
        found: list[T] = []
        for one in given:
            self._tell(stage, len(found), len(given))
            found.append(measure(one))
        return tuple(found)

    def _turn(self, clip: BenchClip) -> Heard:
        began_s = self._clock.now()
        text = self._engine.transcribe(clip.audio_16k, clip.language)
        return Heard(
            clip=clip.name,
            condition=clip.condition,
            audio_s=clip.audio_s,
            delay_s=self._clock.now() - began_s,
            text=text.text,
            reference=clip.reference,
            language=clip.language,
            guards=text.guards,
        )

    def _long_file(self, clip: BenchClip) -> LongFile:
        began_s = self._clock.now()
        text = self._engine.transcribe_long(clip.audio_16k, clip.language)
        seconds = self._clock.now() - began_s
        return LongFile(clip.name, clip.audio_s, seconds, text.text, clip.reference, clip.language)

    def _in_quiet(self, clip: BenchClip) -> Quiet:
        text = self._engine.transcribe(clip.audio_16k, clip.language)
        return Quiet(clip.condition, clip.audio_s, text.text)

    def _timed(self, group: Sequence[BenchClip]) -> Batch:
        began_s = self._clock.now()
        answered = self._batch(group)
        seconds = self._clock.now() - began_s
        return Batch(answered, sum(clip.audio_s for clip in group) / len(group), seconds)

    def _batch(self, group: Sequence[BenchClip]) -> int:
        """How many were answered."""
        audios, language = [clip.audio_16k for clip in group], group[0].language
        if len(audios) == 1:
            return len([self._engine.transcribe(audios[0], language)])
        return len(self._engine.transcribe_batch(audios, language))


def alike(clips: Sequence[BenchClip], size: int) -> list[BenchClip]:
    """So many clips whose lengths lie around the middle one; some again where there are too few.

    At least one clip is needed.
    """
    ordered = sorted(clips, key=lambda clip: (clip.audio_s, clip.name, clip.condition))
    first = max(0, (len(ordered) - size) // 2)
    window = ordered[first : first + size]
    return [window[number % len(window)] for number in range(size)]
