"""What a bench listens to: turns of all lengths, conditions, long files, quiet; the same again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtvc.audio import rms
from rtvc.bench.clips import CLEAN, BenchClip, BenchInput
from rtvc.bench.conditions import QUIET_KINDS, parse_condition, quiet_clips
from rtvc.bench.input import TURN_LENGTHS, gather
from rtvc.errors import AudioError, UsageError
from rtvc.normalisers import normaliser_for
from rtvc.stt.guards import is_silent
from tests.bench_recordings import put, voice

ENGLISH = normaliser_for("en")


@pytest.fixture(scope="module")
def built_in() -> BenchInput:
    return gather(clips=9, conditions=("clean", "babble:10", "room:0.3"), long_s=40.0, quiet_s=2.0)


def by_name(clips: list[BenchClip], condition: str) -> dict[str, BenchClip]:
    return {clip.name: clip for clip in clips if clip.condition == condition}


def test_turns_are_of_all_lengths_alike(built_in: BenchInput) -> None:
    clean = by_name(built_in.short, CLEAN)
    assert len(clean) == 9
    for length in TURN_LENGTHS:
        fitting = [c for c in clean.values() if length.from_s <= c.audio_s < length.below_s]
        assert len(fitting) == 3


def test_no_two_turns_say_the_same(built_in: BenchInput) -> None:
    texts = [ENGLISH.text(c.reference or "") for c in built_in.short if c.condition == CLEAN]
    assert len(set(texts)) == 9
    assert all(texts)


def test_every_turn_is_heard_in_every_condition(built_in: BenchInput) -> None:
    conditions = list(dict.fromkeys(clip.condition for clip in built_in.short))
    assert conditions == [CLEAN, "babble 10 dB", "room 0.3 s"]
    clean = by_name(built_in.short, CLEAN)
    for condition in conditions[1:]:
        heard = by_name(built_in.short, condition)
        assert list(heard) == list(clean)
        for name, clip in heard.items():
            assert clip.reference == clean[name].reference
            assert clip.words_end_s == clean[name].words_end_s
            assert clip.end_s == clean[name].end_s
            assert not np.array_equal(clip.audio_16k, clean[name].audio_16k)


def test_noise_is_as_loud_as_asked_for(built_in: BenchInput) -> None:
    noisy = by_name(built_in.short, "babble 10 dB")
    found_db = []
    for name, clean in by_name(built_in.short, CLEAN).items():
        added = noisy[name].audio_16k - clean.audio_16k
        speech = clean.audio_16k[round(clean.speech_start_s * 16_000) : round(clean.end_s * 16_000)]
        found_db.append(20 * np.log10(rms(speech) / rms(added)))
    # Others pause for breath: what is right on the whole is not in every second.
    assert float(np.median(found_db)) == pytest.approx(10, abs=2.5)


def test_the_words_of_a_turn_end_in_order_and_within_it(built_in: BenchInput) -> None:
    for clip in built_in.short:
        assert clip.words_end_s is not None
        assert list(clip.words_end_s) == sorted(clip.words_end_s)
        assert len(clip.words_end_s) == len((clip.reference or "").split())
        assert clip.speech_start_s < clip.words_end_s[0]
        assert clip.words_end_s[-1] <= clip.end_s + 1e-6 <= clip.audio_s + 2e-6


def test_a_long_file_is_long_and_its_text_is_known(built_in: BenchInput) -> None:
    (long,) = built_in.long
    assert 40.0 <= long.audio_s < 60.0
    assert len((long.reference or "").split()) > 40
    assert long.language == "en"


def test_in_quiet_nobody_speaks(built_in: BenchInput) -> None:
    assert [clip.condition for clip in built_in.quiet] == list(QUIET_KINDS)
    for clip in built_in.quiet:
        assert clip.reference == ""
        assert clip.audio_s == pytest.approx(2.0)
        assert is_silent(clip.audio_16k) == (clip.condition == "silence")
        assert float(np.abs(clip.audio_16k).max()) <= 1.0


def test_the_same_arguments_give_the_same_samples() -> None:
    def found(seed: int) -> BenchInput:
        return gather(clips=3, conditions=("pink:5+room",), long_files=0, quiet_s=1.0, seed=seed)

    assert found(1).digest == found(1).digest
    assert found(1).digest != found(2).digest


def test_built_in_input_needs_no_note(built_in: BenchInput) -> None:
    assert built_in.notes == []


@pytest.mark.parametrize(
    ("text", "name", "clean"),
    [
        ("clean", "clean", True),
        (" Clean ", "clean", True),
        ("babble", "babble 10 dB", False),
        ("white:20dB", "white 20 dB", False),
        ("room", "room 0.4 s", False),
        ("room:0.8+pink:-3", "pink -3 dB, room 0.8 s", False),
    ],
)
def test_conditions_are_read(text: str, name: str, clean: bool) -> None:
    found = parse_condition(text)
    assert (found.name, found.clean) == (name, clean)


@pytest.mark.parametrize(
    "text",
    ["", "noise", "clean:3", "clean+room", "room+room", "pink+white:3", "babble:loud", "room:99"],
)
def test_conditions_that_cannot_be_heard_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_condition(text)


def test_quiet_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="expected quiet of silence"):
        quiet_clips(1.0, 0, kinds=("silence", "thunder"))


def test_a_condition_counts_once() -> None:
    found = gather(clips=1, conditions=("clean", "Clean"), long_files=0, quiet_s=0.0)
    assert [clip.condition for clip in found.short] == [CLEAN]
    assert found.quiet == []


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: gather(clips=0),
        lambda: gather(long_files=-1),
        lambda: gather(long_s=0.0),
        lambda: gather(quiet_s=-1.0),
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong: Callable[[], BenchInput]) -> None:
    with pytest.raises(UsageError, match="expected 1 clip or more"):
        wrong()


def test_no_condition_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a condition"):
        gather(conditions=())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, text in enumerate(("open the door", "close it", "what time is it")):
        put(tmp_path, f"turn{number}.wav", voice(1.0 + 0.2 * number), text)
    return tmp_path


def test_recordings_are_heard_as_they_were_recorded(folder: Path) -> None:
    found = gather(speech=folder, conditions=("clean", "white:10"), long_s=5.0, quiet_s=1.0)
    clean = by_name(found.short, CLEAN)
    assert list(clean) == ["turn0.wav", "turn1.wav", "turn2.wav"]
    assert np.allclose(clean["turn0.wav"].audio_16k, voice(1.0), atol=1e-3)
    assert clean["turn0.wav"].words_end_s is None
    assert list(by_name(found.short, "white 10 dB")) == list(clean)


def test_short_recordings_are_joined_to_a_long_one(folder: Path) -> None:
    found = gather(speech=folder, long_s=12.0)
    (long,) = found.long
    assert 12.0 <= long.audio_s < 16.0
    assert (long.reference or "").startswith("open the door close it what time is it open")
    assert any("joined to 1" in note for note in found.notes)


def test_a_recording_longer_than_a_window_is_a_long_file(folder: Path) -> None:
    put(folder, "lecture.wav", voice(31.0), "a long story")
    found = gather(speech=folder)
    assert [clip.name for clip in found.long] == ["lecture.wav"]
    assert "lecture.wav" not in {clip.name for clip in found.short}
    assert any("lecture.wav: 0.5 min" in note for note in found.notes)


@pytest.mark.slow
def test_half_an_hour_is_taken_whole(tmp_path: Path) -> None:
    audio = np.tile(voice(6.0, 8_000), 300)
    soundfile.write(str(tmp_path / "half.wav"), audio, 8_000)
    found = gather(speech=tmp_path, quiet_s=0.0)
    (long,) = found.long
    assert long.audio_s == pytest.approx(1800, abs=0.1)
    assert long.reference is None
    assert found.short == []
    assert any("30.0 min" in note for note in found.notes)
    assert any("no turn can be timed" in note for note in found.notes)


def test_a_recording_without_a_text_is_never_scored_in_noise_either(tmp_path: Path) -> None:
    put(tmp_path, "mute.wav", voice(1.0), None)
    found = gather(speech=tmp_path, conditions=("clean", "pink:10"), quiet_s=0.0)
    assert [clip.reference for clip in found.short] == [None, None]
    assert found.long == []


def test_a_silent_recording_joins_the_quiet(folder: Path) -> None:
    put(folder, "silent.wav", np.zeros(32_000, np.float32), None)
    found = gather(speech=folder, quiet_s=1.0)
    kinds = [clip.condition for clip in found.quiet]
    assert kinds == ["recorded", *QUIET_KINDS]
    assert found.quiet[0].name == "silent.wav"
    assert "silent.wav" not in {clip.name for clip in found.short}


def test_recordings_keep_their_language(folder: Path) -> None:
    found = gather(speech=folder, language="de", quiet_s=1.0)
    assert {clip.language for clip in [*found.short, *found.long, *found.quiet]} == {"de"}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="expected a folder of recordings"):
        gather(speech=tmp_path / "nowhere")
