"""Every engine keeps the same contract; those that are not installed say how to install them."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.bench.clips import BenchClip
from rtvc.bench.engines.as_transcriber import AsTranscriber
from rtvc.bench.engines.batched_whisper import dealt
from rtvc.bench.engines.contract import BenchEngine, Setup, imported
from rtvc.bench.engines.making import make_engine
from rtvc.bench.engines.openai_whisper import weights_file
from rtvc.bench.engines.torch_side import random_tokens
from rtvc.bench.engines.weights import MAX_LIBRARY_TOKENS, Weights
from rtvc.bench.input import gather
from rtvc.clock import FakeClock, SystemClock
from rtvc.errors import MissingEngineError, ModelError, UsageError
from rtvc.results.cells import Cell
from rtvc.stt.models import ResolvedModel
from rtvc.stt.synthetic import TEXT, Card
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray, Job, JobKind
from rtvc.transcript import word_errors
from tests.bench_fakes import FakeEngine

model = pytest.mark.model
slow = pytest.mark.slow

HERE = [
    Cell("faster-whisper", "selftest", compute_type="int8", context="short"),
    Cell("faster-whisper", "selftest", compute_type="int8", vad_filter=True),
    Cell("faster-whisper-batched", "selftest", compute_type="int8", batch=2, vad_filter=True),
    Cell("pocketsphinx", "pocketsphinx"),
]
"""Cells that every machine can measure."""

ON_TORCH = [
    Cell("openai-whisper", "synthetic:tiny.en"),
    Cell("openai-whisper", "synthetic:tiny.en", beam=2),
    Cell("transformers", "synthetic:tiny.en"),
    Cell("transformers", "synthetic:tiny.en", beam=2),
]
"""Cells of the extra `torch`."""

NEEDS = {"openai-whisper": ("torch", "whisper"), "transformers": ("torch", "transformers")}


def named(cell: Cell) -> str:
    return cell.key


def is_installed(engine: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in NEEDS[engine])


@cache
def loaded(cell: Cell) -> BenchEngine:
    engine = make_engine(Setup(cell, SystemClock(), most_at_once=3))
    engine.prepare()
    engine.load()
    return engine


@cache
def turns() -> tuple[BenchClip, ...]:
    return tuple(gather(clips=3, conditions=("clean",), long_files=0, quiet_s=0).short)


def silence(seconds: float) -> AudioArray:
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)


@model
@slow
@pytest.mark.parametrize("cell", HERE, ids=named)
def test_an_engine_answers_turns_alone_together_and_as_a_recording(cell: Cell) -> None:
    engine = loaded(cell)
    audios = [clip.audio_16k for clip in turns()]
    alone = [engine.transcribe(audio, "en").text for audio in audios]
    together = [text.text for text in engine.transcribe_batch(audios, "en")]
    assert len(together) == len(audios)
    assert all(alone)
    # Members of a batch are padded to its longest, so a word may differ now and then.
    pairs = zip(alone, together, strict=True)
    differing = sum(word_errors(one, other).errors for one, other in pairs)
    assert differing <= 0.3 * sum(len(text.split()) for text in alone)
    pause = silence(0.6)
    talk = np.concatenate([part for audio in audios for part in (audio, pause)])
    assert engine.transcribe_long(talk, "en").text


@model
@slow
@pytest.mark.parametrize("cell", HERE, ids=named)
def test_an_engine_says_what_it_is_and_hears_nothing_in_silence(cell: Cell) -> None:
    engine = loaded(cell)
    assert engine.packages
    assert engine.model_kind in ("self-test model", "pocketsphinx")
    assert engine.most_at_once >= 1
    assert engine.transcribe(silence(1.0), "en").text == ""


@model
@slow
@pytest.mark.parametrize("cell", HERE, ids=named)
def test_sessions_can_be_given_to_an_engine(cell: Cell) -> None:
    engine = loaded(cell)
    clip = turns()[0]
    job = Job("a", "1", JobKind.SPECULATIVE, 1, clip.audio_16k, 0.0, "en")
    answer = engine.transcriber.transcribe([job])[0]
    assert answer.text == engine.transcribe(clip.audio_16k, "en").text
    assert answer.audio_s == pytest.approx(clip.audio_s)


@model
@slow
# openai-whisper leaves its table of tokens open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
# And sorts torch's numbers by numpy's function, which is going away.
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
@pytest.mark.parametrize("cell", ON_TORCH, ids=named)
def test_random_weights_cost_time_and_say_nothing(cell: Cell) -> None:
    if not is_installed(cell.engine):
        pytest.skip(f"{cell.engine} is not installed (the extra torch)")
    engine = loaded(cell)
    audios = [clip.audio_16k for clip in turns()]
    assert engine.model_kind == "random weights"
    assert [text.text for text in engine.transcribe_batch(audios, "en")] == [TEXT] * 3
    assert engine.transcribe(audios[0], "en").text == TEXT
    assert engine.transcribe(silence(1.0), "en").text == ""
    assert TEXT in engine.transcribe_long(np.concatenate(audios * 4), "en").text


@pytest.mark.parametrize("engine", sorted(NEEDS))
def test_an_engine_that_is_not_installed_says_how_to_install_it(engine: str) -> None:
    if is_installed(engine):
        pytest.skip(f"{engine} is installed")
    made = make_engine(Setup(Cell(engine, "tiny.en"), FakeClock()))
    with pytest.raises(MissingEngineError, match=r"pip install 'rtvc\[torch\]'"):
        made.prepare()


def test_a_module_that_is_not_there_is_named_with_what_helps() -> None:
    with pytest.raises(MissingEngineError, match="expected Nothing to be installed, but No module"):
        imported("no_such_module_here", package="Nothing", install="pip install nothing")


def test_an_engine_of_another_process_cannot_be_made_in_this_one() -> None:
    with pytest.raises(UsageError, match="whisperx"):
        make_engine(Setup(Cell("whisperx", "tiny.en"), FakeClock()))


@pytest.mark.parametrize("cell", HERE[:3], ids=named)
def test_an_engine_that_was_not_prepared_says_so(cell: Cell) -> None:
    with pytest.raises(ModelError, match="prepare"):
        make_engine(Setup(cell, FakeClock())).load()


def test_weights_that_are_not_here_are_named() -> None:
    cell = Cell("faster-whisper", "no-such-model")
    with pytest.raises(ModelError, match="no-such-model"):
        make_engine(Setup(cell, FakeClock())).prepare()


def test_weights_of_openai_whisper_are_looked_for_where_it_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=r"large-v3-turbo\.pt"):
        weights_file("turbo")
    kept = tmp_path / "whisper" / "large-v3-turbo.pt"
    kept.parent.mkdir()
    kept.touch()
    assert weights_file("turbo") == kept
    own = tmp_path / "own.pt"
    with pytest.raises(ModelError, match=r"own\.pt"):
        weights_file(str(own))
    own.touch()
    assert weights_file(str(own)) == own


# Pure parts


@dataclass(frozen=True)
class Piece:
    """As faster-whisper gives it."""

    start: float


@given(
    st.lists(st.floats(0.1, 30.0), min_size=1, max_size=6),
    st.lists(st.floats(0.0, 0.999), max_size=6),
)
@settings(deadline=None)
def test_segments_are_dealt_to_the_clip_in_which_they_begin(
    lengths_s: list[float], parts: Sequence[float]
) -> None:
    starts = [0.0, *np.cumsum(lengths_s)[:-1].tolist()]
    # One at the very start of each clip, rounded as the library does, and some within.
    first = [Piece(round(start, 3)) for start in starts]
    within = [
        [Piece(start + part * length) for part in parts if (1 - part) * length > 0.01]
        for start, length in zip(starts, lengths_s, strict=True)
    ]
    found = dealt([piece for own in within for piece in own] + first, starts)
    assert found == [[*own, piece] for own, piece in zip(within, first, strict=True)]


def test_random_weights_are_bounded_and_trained_ones_are_not() -> None:
    found = ResolvedModel("m", "whisper", Path("m"))
    trained = Weights(found, Path("m"), None)
    random = Weights(found, Path("m"), Card("tiny.en", 0, 4.0, 1))
    assert trained.options(5.0) == {"suppress_blank": True, "suppress_tokens": [-1]}
    assert trained.shown("hello") == "hello"
    # CTranslate2 decodes half of what it is allowed.
    assert random.options(5.0)["max_new_tokens"] // 2 == 21
    assert random.options(1000.0)["max_new_tokens"] == MAX_LIBRARY_TOKENS
    assert random.shown("w1 w2") == TEXT
    assert random.shown("") == ""


def test_random_weights_decode_as_many_tokens_as_speech_has() -> None:
    assert random_tokens(silence(5.0)) == 20
    assert random_tokens(silence(0.01)) == 1


def test_an_engine_behind_the_servers_contract_times_what_it_does() -> None:
    clock = FakeClock()
    engine = FakeEngine(Setup(Cell("x", "y"), clock), clock)
    transcriber = AsTranscriber(engine, clock, device="cpu")
    jobs = [Job("a", str(number), JobKind.FINAL, 1, silence(5.0), 0.0) for number in range(2)]
    engine.transcribe(silence(5.0), None)
    assert transcriber.transcribe(jobs[:1])[0].decode_s == pytest.approx(0.5)
    together = transcriber.transcribe(jobs)
    assert [(answer.batch_size, answer.text) for answer in together] == [(2, "heard")] * 2
    assert together[0].decode_s == pytest.approx(1.0)
    assert engine.calls == ["transcribe", "transcribe", "transcribe_batch"]
