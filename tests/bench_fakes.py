"""Stand-ins for what a bench has around it: an engine, a cell's process, a screen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rtvc.bench.cell_process import Beat, Child
from rtvc.bench.clips import RATE_HZ, BenchClip, BenchInput
from rtvc.bench.engines.as_transcriber import AsTranscriber
from rtvc.bench.engines.contract import Setup, Text
from rtvc.bench.progress import Course
from rtvc.bench.runner import Order
from rtvc.bench.spec import CellSpec, Failed, save
from rtvc.clock import FakeClock
from rtvc.errors import ModelError
from rtvc.results.cells import RoundResult
from rtvc.results.reading import write_round
from rtvc.stt.transcriber import AudioArray


def a_clip(name: str, audio_s: float = 2.0, condition: str = "clean", **more: str) -> BenchClip:
    audio = np.full(round(audio_s * RATE_HZ), 0.1, np.float32)
    reference = more.get("reference", f"text of {name}")
    language = more.get("language", "en")
    return BenchClip(name, audio, reference, language, condition, speech_end_s=audio_s)


def an_input(turns: int = 3, long: int = 1, quiet: int = 1) -> BenchInput:
    return BenchInput(
        [a_clip(f"turn-{number}", 1.0 + number) for number in range(turns)],
        [a_clip(f"long-{number}", 40.0) for number in range(long)],
        [a_clip(f"quiet-{number}", 1.0, "silence", reference="") for number in range(quiet)],
        [],
    )


class FakeEngine:
    """Takes a tenth of the audio's time, the first inference a second more; never waits."""

    def __init__(self, setup: Setup, clock: FakeClock) -> None:
        self.model_kind = "whisper"
        self.packages = {"fake": "1.0"}
        self.most_at_once = setup.most_at_once
        self.workers = self.most_abreast = 1
        self.transcriber = AsTranscriber(self, clock, device="cpu")
        self.calls: list[str] = []
        """What was asked of it, in order."""
        self.loaded_for: list[int] = []
        """Inferences at once, load by load."""
        self.batches: list[list[int]] = []
        """Samples of each turn of each batch."""
        self.unprepared: ModelError | None = None
        """What `prepare` raises."""
        self.unloadable: Exception | None = None
        """What `load` raises."""
        self._clock = clock
        self._cold_s = 1.0

    def prepare(self) -> None:
        self.calls.append("prepare")
        self._clock.advance(5.0)
        if self.unprepared is not None:
            raise self.unprepared

    def load(self, abreast: int = 1) -> None:
        self.calls.append("load")
        self.loaded_for.append(abreast)
        self._clock.advance(3.0)
        if self.unloadable is not None:
            raise self.unloadable

    def transcribe(self, audio: AudioArray, language: str | None) -> Text:
        self.calls.append("transcribe")
        self._work(len(audio))
        return Text("heard", ("guard",))

    def transcribe_batch(self, audios: Sequence[AudioArray], language: str | None) -> list[Text]:
        self.calls.append("transcribe_batch")
        self.batches.append([len(audio) for audio in audios])
        self._work(sum(map(len, audios)))
        return [Text("heard") for _ in audios]

    def transcribe_long(self, audio: AudioArray, language: str | None) -> Text:
        self.calls.append("transcribe_long")
        self._work(len(audio))
        return Text("all of it")

    def _work(self, samples: int) -> None:
        self._clock.advance(0.1 * samples / RATE_HZ + self._cold_s)
        self._cold_s = 0.0


@dataclass
class Script:
    """How a cell's process goes: so many polls, then its end."""

    polls: int = 2
    """Times that it still runs when it is looked at; -1: for ever."""
    status: int = 0
    """Exit status."""
    result: bool = True
    """Whether it leaves a result."""
    interim: bool = False
    """Whether it leaves what it measured before something went wrong."""
    failed: Failed | None = None
    """What it says of its failure."""
    last_words: str = ""
    """The end of its log."""
    silent: bool = False
    """Whether it gives no sign of life."""
    interrupt: bool = False
    """Whether Ctrl-C is pressed while it runs."""


class FakeChild:
    """A process that follows its script."""

    def __init__(self, spec: CellSpec, script: Script) -> None:
        self.ended = False
        self._spec = spec
        self._script = script
        self._looks = 0

    def status(self) -> int | None:
        self._looks += 1
        if self._script.interim:
            write_round(Path(self._spec.interim), result_of(self._spec))
        if self._script.interrupt:
            raise KeyboardInterrupt
        if self._script.polls < 0 or self._looks <= self._script.polls:
            return None
        if self._script.failed is not None:
            save(Path(self._spec.failure_file), self._script.failed)
        if self._script.result:
            write_round(Path(self._spec.folder), result_of(self._spec))
        return self._script.status

    def beat(self) -> Beat:
        return Beat(0 if self._script.silent else self._looks, "turns", 1, 4)

    def end(self) -> None:
        self.ended = True

    def last_words(self) -> str:
        return self._script.last_words


def result_of(spec: CellSpec) -> RoundResult:
    return RoundResult(
        cell=spec.cell,
        round=spec.round,
        model_kind="whisper",
        load_s=1.0,
        load_is_cold=spec.cold,
        warm_up_s=0.5,
    )


@dataclass
class Children:
    """Starts them, each by the script of its model, and remembers whom it started."""

    scripts: dict[str, Script] = field(default_factory=dict)
    """By model; others go well."""
    specs: list[CellSpec] = field(default_factory=list)
    """Of each that was started."""
    started: list[FakeChild] = field(default_factory=list)
    """The same, themselves."""
    change: Callable[[CellSpec], Script | None] = lambda spec: None
    """Has the last word on a script."""

    def __call__(self, spec: CellSpec, order: Order) -> Child:
        Path(spec.failure_file).parent.mkdir(parents=True, exist_ok=True)
        script = self.change(spec) or self.scripts.get(spec.cell.model, Script())
        child = FakeChild(spec, script)
        self.specs.append(spec)
        self.started.append(child)
        return child


@dataclass
class FakeScreen:
    """Remembers what it was told."""

    courses: list[Course] = field(default_factory=list)
    """All of them."""
    lines: list[str] = field(default_factory=list)
    """What was to stay."""

    def course(self, course: Course) -> None:
        self.courses.append(course)

    def line(self, text: str) -> None:
        self.lines.append(text)
