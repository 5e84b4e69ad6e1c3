"""What a cell's process measures, on an engine whose times are known."""

import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.bench.cell import Around, CellRun, Telling
from rtvc.bench.clips import BenchClip, BenchInput
from rtvc.bench.engines.contract import Setup, Text
from rtvc.bench.handover import load_input, save_input
from rtvc.bench.measuring import Measuring, alike
from rtvc.bench.spec import CellSpec, Measures, load_spec, save
from rtvc.clock import FakeClock
from rtvc.errors import ModelError, RecordError, UsageError
from rtvc.results.cells import Cell, RoundResult
from rtvc.stt.transcriber import AudioArray, Job, JobKind
from tests.bench_fakes import FakeEngine, a_clip, an_input

QUICK = Measures(most_at_once=4, batch_runs=2, streaming=1, held=False)


def a_spec(cell: Cell | None = None, *, number: int = 0, measures: Measures = QUICK) -> CellSpec:
    cell = cell or Cell("faster-whisper", "tiny.en")
    files = ("bench", "input", "why.json", "interim")
    return CellSpec(cell, number, *files, cold=True, measures=measures)


class World:
    """A cell's process with a fake engine."""

    def __init__(self, heard: BenchInput, spec: CellSpec | None = None) -> None:
        self.clock = FakeClock()
        self.told: list[tuple[str, int, int]] = []
        self.setup: Setup | None = None
        self.engine: FakeEngine | None = None
        around = Around(self.clock, self._tell, self._make)
        self.run = CellRun(spec or a_spec(), heard, around)

    def _tell(self, stage: str, done: int, total: int) -> None:
        self.told.append((stage, done, total))

    def _make(self, setup: Setup) -> FakeEngine:
        self.setup = setup
        self.engine = FakeEngine(setup, self.clock)
        return self.engine


def measured(heard: BenchInput, spec: CellSpec | None = None) -> tuple[World, RoundResult]:
    world = World(heard, spec)
    return world, world.run.with_more(world.run.measure())


def test_imports_are_no_loading_and_warm_up_is_in_no_figure() -> None:
    world, result = measured(an_input())
    assert result.load_s == pytest.approx(3.0)
    assert result.load_is_cold
    # The engine's first inference takes a second more than any other.
    assert result.warm_up_s >= 1.0
    assert [turn.delay_s for turn in result.heard] == pytest.approx([0.1, 0.2, 0.3])
    assert world.engine is not None
    assert world.engine.calls[:2] == ["prepare", "load"]


def test_every_clip_is_heard_once_with_what_is_known_of_it() -> None:
    _, result = measured(an_input(turns=4, long=2, quiet=3))
    assert [turn.clip for turn in result.heard] == [f"turn-{number}" for number in range(4)]
    assert result.heard[0].reference == "text of turn-0"
    assert result.heard[0].guards == ("guard",)
    assert [file.clip for file in result.long] == ["long-0", "long-1"]
    assert [file.seconds for file in result.long] == pytest.approx([4.0, 4.0])
    assert result.long[0].text == "all of it"
    assert [quiet.kind for quiet in result.quiet] == ["silence"] * 3


def test_batches_of_each_size_are_timed() -> None:
    world, result = measured(an_input(turns=5))
    assert [batch.jobs for batch in result.batches] == [1, 1, 2, 2, 4, 4]
    for batch in result.batches:
        assert batch.seconds == pytest.approx(0.1 * batch.jobs * batch.audio_s)
    assert world.engine is not None
    assert {len(group) for group in world.engine.batches} == {2, 4}


class Abreast(FakeEngine):
    """Answers nobody until as many as it has workers have asked."""

    def __init__(self, setup: Setup, clock: FakeClock, workers: int) -> None:
        super().__init__(setup, clock)
        self.workers = self.most_abreast = workers
        self._barrier = threading.Barrier(workers, timeout=10)

    def transcribe(self, audio: AudioArray, language: str | None) -> Text:
        with suppress(threading.BrokenBarrierError):
            self._barrier.wait()
        return super().transcribe(audio, language)


class Faulty(Abreast):
    """One of those who ask gets no answer."""

    def transcribe(self, audio: AudioArray, language: str | None) -> Text:
        raise ModelError("out of memory")


def measuring(engine: FakeEngine, clock: FakeClock) -> Measuring:
    return Measuring(engine, an_input(), QUICK, clock, lambda *said: None)


def test_inferences_at_once_are_timed_as_such() -> None:
    clock = FakeClock()
    engine = Abreast(Setup(Cell("faster-whisper", "tiny.en"), clock, 4), clock, workers=2)
    found = measuring(engine, clock).at_once()
    assert [(each.jobs, each.workers) for each in found] == [(1, 2)] * 2 * QUICK.batch_runs


def test_what_one_inference_takes_is_measured_of_an_engine_loaded_for_one() -> None:
    world = World(an_input())
    engine = world.engine
    assert engine is not None
    engine.most_abreast = 2
    found = world.run.measure()
    assert engine.loaded_for == [1]
    world.run.with_more(found)
    assert engine.loaded_for == [1, 2]


def test_sessions_are_held_by_an_engine_loaded_for_as_many_as_serve_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(an_input(), a_spec(measures=replace(QUICK, held=True)))
    engine = world.engine
    assert engine is not None
    engine.most_abreast = 2
    found = world.run.with_more(world.run.measure())
    loaded_for: list[int] = []

    def instead(*_given: object, workers: int, **_more: object) -> None:
        loaded_for.extend([engine.loaded_for[-1], workers])

    monkeypatch.setattr("rtvc.bench.cell.sessions_held", instead)
    assert found.held is None
    assert world.run.held() is None
    assert loaded_for == [1, 1]


def test_an_engine_for_one_is_not_timed_at_once() -> None:
    clock = FakeClock()
    engine = FakeEngine(Setup(Cell("faster-whisper", "tiny.en"), clock, 4), clock)
    assert measuring(engine, clock).at_once() == ()


def test_inferences_at_once_that_fail_end_the_cell_and_not_hang_it() -> None:
    clock = FakeClock()
    engine = Faulty(Setup(Cell("faster-whisper", "tiny.en"), clock, 4), clock, workers=3)
    with pytest.raises(ModelError, match="out of memory"):
        measuring(engine, clock).at_once()


class Narrow(FakeEngine):
    """Has no room for more than two turns at once."""

    def transcribe_batch(self, audios: Sequence[AudioArray], language: str | None) -> list[Text]:
        if len(audios) > 2:
            raise RuntimeError("CUDA out of memory")
        return super().transcribe_batch(audios, language)


def test_batches_that_the_machine_has_no_room_for_are_left_out() -> None:
    clock = FakeClock()
    engine = Narrow(Setup(Cell("faster-whisper", "tiny.en"), clock, 8), clock)
    found = measuring(engine, clock).larger()
    assert [each.jobs for each in found] == [2] * QUICK.batch_runs


def test_the_memory_of_a_cell_is_not_that_of_larger_batches() -> None:
    clock = FakeClock()
    engine = FakeEngine(Setup(Cell("faster-whisper", "tiny.en"), clock, 4), clock)
    cell = measuring(engine, clock)
    cell.warm_up()
    assert {each.jobs for each in cell.batches()} == {1}
    assert engine.batches == []
    assert {each.jobs for each in cell.larger()} == {2, 4}


def test_a_cells_own_batch_is_always_timed() -> None:
    cell = Cell("faster-whisper", "tiny.en", batch=6)
    world, result = measured(an_input(), a_spec(cell))
    assert world.setup is not None
    assert world.setup.most_at_once == 6
    assert {batch.jobs for batch in result.batches} == {1, 2, 4, 6}


def test_the_times_of_measuring_leave_streaming_out() -> None:
    _, with_it = measured(an_input())
    _, without = measured(an_input(), a_spec(measures=Measures(4, 2, streaming=0, held=False)))
    assert len(with_it.streamed) == 1
    assert without.streamed == ()
    assert with_it.measured_s == pytest.approx(without.measured_s)


def test_only_clean_turns_are_streamed_where_there_are_any() -> None:
    heard = an_input(turns=0)
    heard.short.extend([a_clip("a", 2.0, "babble 10 dB"), a_clip("a", 3.0)])
    _, result = measured(heard)
    assert [each.audio_s for each in result.streamed] == [3.0]
    heard.short.pop()
    _, result = measured(heard)
    assert [each.audio_s for each in result.streamed] == [2.0]


def test_nothing_to_hear_is_nothing_measured() -> None:
    _, result = measured(BenchInput([], [], [], []))
    assert (result.heard, result.long, result.quiet, result.batches) == ((), (), (), ())
    assert result.streamed == ()


@pytest.mark.parametrize(
    "spec", [a_spec(number=1, measures=Measures(held=True)), a_spec(measures=QUICK)]
)
def test_sessions_are_held_in_the_first_round_only_and_if_asked_for(spec: CellSpec) -> None:
    world, _ = measured(an_input(), spec)
    assert world.run.held() is None


def test_what_goes_on_is_told_and_known_when_something_goes_wrong() -> None:
    world, _ = measured(an_input(turns=2))
    stages = list(dict.fromkeys(stage for stage, _, _ in world.told))
    assert stages == [
        "preparing",
        "loading",
        "warming up",
        "turns",
        "long files",
        "quiet",
        "batches",
        "streaming",
    ]
    assert all(0 <= done < total for _, done, total in world.told)
    broken = World(an_input())
    assert broken.engine is not None
    broken.engine.unloadable = RuntimeError("no")
    with pytest.raises(RuntimeError, match="no"):
        broken.run.measure()
    assert broken.run.stage == "loading"
    missing = World(an_input())
    assert missing.engine is not None
    missing.engine.unprepared = ModelError("not here")
    with pytest.raises(ModelError):
        missing.run.measure()
    assert missing.run.stage == "preparing"


def test_a_cell_gives_signs_of_life_while_sessions_are_held() -> None:
    clock, told = FakeClock(), list[str]()
    engine = FakeEngine(Setup(Cell("x", "y"), clock), clock)
    telling = Telling(engine.transcriber, clock, lambda stage, done, total: told.append(stage))
    job = Job("a", "1", JobKind.FINAL, 0, a_clip("a", 10.0).audio_16k, 0.0)
    answers = [telling.transcribe([job])[0] for _ in range(12)]
    assert {answer.text for answer in answers} == {"heard"}
    # Twelve seconds of work and one of warming up.
    assert told == ["sessions held"] * 3


@given(
    st.lists(st.floats(0.5, 9.0), min_size=1, max_size=9),
    st.integers(1, 12),
)
@settings(deadline=None, max_examples=50)
def test_alike_are_as_many_as_wanted_and_of_neighbouring_lengths(
    lengths_s: list[float], size: int
) -> None:
    clips = [a_clip(f"clip-{number}", length) for number, length in enumerate(lengths_s)]
    chosen = alike(clips, size)
    assert len(chosen) == size
    by_length = sorted(clips, key=lambda clip: (clip.audio_s, clip.name))
    names = [clip.name for clip in by_length]
    places = sorted({names.index(clip.name) for clip in chosen})
    assert places == list(range(places[0], places[0] + min(size, len(clips))))
    # As many shorter ones are left out as longer ones, or one fewer.
    assert 0 <= len(clips) - len(places) - 2 * places[0] <= 1


# Files between the processes


@given(st.lists(st.floats(-1, 1, width=32), max_size=50), st.none() | st.text(max_size=20))
@settings(deadline=None, max_examples=30)
def test_clips_come_back_as_they_were_handed_over(
    tmp_path_factory: pytest.TempPathFactory, samples: list[float], reference: str | None
) -> None:
    heard = an_input()
    odd = BenchClip("ö", np.array(samples, np.float32), reference, "de", "pink", (0.5, 1.0))
    heard.short.append(odd)
    folder = tmp_path_factory.mktemp("handed")
    save_input(folder, heard)
    back = load_input(folder)
    assert back.digest == heard.digest
    assert back.short[-1].audio_16k.tolist() == odd.audio_16k.tolist()
    assert (back.short[-1].reference, back.short[-1].words_end_s) == (reference, (0.5, 1.0))
    assert [len(back.short), len(back.long), len(back.quiet)] == [4, 1, 1]


def test_half_of_the_clips_are_none(tmp_path: Path) -> None:
    save_input(tmp_path, an_input())
    (tmp_path / "short-0001.npy").unlink()
    with pytest.raises(RecordError, match="expected the clips of a bench"):
        load_input(tmp_path)


def test_a_spec_comes_back_as_it_was(tmp_path: Path) -> None:
    spec = a_spec(Cell("transformers", "tiny.en", batch=8), number=2)
    save(tmp_path / "spec.json", spec)
    assert load_spec(tmp_path / "spec.json") == spec
    content = json.loads((tmp_path / "spec.json").read_bytes())
    (tmp_path / "spec.json").write_text(json.dumps({**content, "round": "two"}))
    with pytest.raises(UsageError, match="round"):
        load_spec(tmp_path / "spec.json")
