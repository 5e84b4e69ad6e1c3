"""A folder of recordings, as users have them: what cannot be used is named, and stops nothing."""

from pathlib import Path

import numpy as np
import pytest

from rtvc.bench.recordings import SHORTEST_S, Recording, language_of_letters, read_folder
from rtvc.errors import AudioError
from tests.bench_recordings import put, voice


def read(
    folder: Path, *, language: str | None = None, most: int | None = None, seed: int = 0
) -> tuple[dict[str, Recording], list[str]]:
    found, notes = read_folder(folder, language=language, most=most, seed=seed)
    return {recording.clip.clip_id: recording for recording in found}, notes.told()


def note_about(name: str, notes: list[str]) -> str:
    about = [note for note in notes if name in note]
    assert len(about) == 1, notes
    assert "\n" not in about[0]
    return about[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One good recording, of which there is nothing to say."""
    put(tmp_path, "good.wav", voice(1.0))
    return tmp_path


def test_a_plain_recording_needs_no_note(folder: Path) -> None:
    found, notes = read(folder)
    good = found["good.wav"]
    assert notes == []
    assert (good.reference, good.language, good.quiet) == ("open the door", "en", False)
    assert good.clip.rate_hz == 16_000
    assert good.clip.speech_start_s == pytest.approx(0.2, abs=0.05)
    assert good.clip.speech_end_s == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.wav", b""),
        ("text.wav", b"this is not a recording at all, whatever its name says" * 20),
        ("header.wav", b"RIFF\xff\xff\xff\xffWAVEfmt \x10\x00\x00\x00" + b"\xff" * 200),
        ("header.flac", b"fLaC" + b"\x00" * 100),
    ],
)
def test_what_cannot_be_read_is_named_and_left_out(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    found, notes = read(folder)
    assert list(found) == ["good.wav"]
    assert "left out" in note_about(name, notes)


def test_a_folder_that_is_called_like_a_recording_is_left_out(folder: Path) -> None:
    (folder / "album.wav").mkdir()
    found, notes = read(folder)
    assert list(found) == ["good.wav"]
    assert "left out" in note_about("album.wav", notes)


def test_a_recording_that_was_cut_off_is_used_as_far_as_it_goes(folder: Path) -> None:
    put(folder, "cut.wav", voice(2.0))
    whole = (folder / "cut.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    found, notes = read(folder)
    assert found["cut.wav"].clip.duration_s == pytest.approx(1.0, abs=0.05)
    assert "cut off: 15989 of 32000 samples are there" in note_about("cut.wav", notes)


def test_a_recording_whose_header_never_learnt_its_length_is_not_cut_off(folder: Path) -> None:
    put(folder, "streamed.wav", voice(2.0))
    whole = (folder / "streamed.wav").read_bytes()
    at = whole.index(b"data") + 4
    (folder / "streamed.wav").write_bytes(whole[:at] + b"\xff" * 4 + whole[at + 4 :])
    found, notes = read(folder)
    assert found["streamed.wav"].clip.duration_s == pytest.approx(2.0)
    assert notes == []


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_a_tenth_of_a_second_holds_no_word(folder: Path, seconds: float) -> None:
    put(folder, "tiny.wav", np.full(round(seconds * 16_000), 0.1, np.float32))
    found, notes = read(folder)
    assert list(found) == ["good.wav"]
    assert f"{seconds:.2f} s is too short" in note_about("tiny.wav", notes)
    assert seconds < SHORTEST_S


def test_silence_without_a_transcript_is_quiet(folder: Path) -> None:
    put(folder, "silent.wav", np.zeros(16_000, np.float32), None)
    found, notes = read(folder)
    assert found["silent.wav"].quiet
    assert found["silent.wav"].reference == ""
    assert "silent" in note_about("silent.wav: ", notes)


def test_silence_with_a_transcript_is_a_mistake(folder: Path) -> None:
    put(folder, "silent.wav", np.zeros(16_000, np.float32))
    found, notes = read(folder)
    assert list(found) == ["good.wav"]
    assert "left out" in note_about("silent.wav: ", notes)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_every_rate_is_brought_to_16_khz(folder: Path, rate_hz: int) -> None:
    put(folder, "other.wav", voice(1.0, rate_hz), rate_hz=rate_hz)
    found, notes = read(folder)
    other = found["other.wav"].clip
    assert len(other.audio) == pytest.approx(16_000, abs=2)
    assert float(np.abs(other.audio).max()) == pytest.approx(0.1, abs=0.02)
    assert str(rate_hz) in note_about("other.wav", notes)


def test_at_a_telephones_rate_it_says_what_is_missing(folder: Path) -> None:
    put(folder, "call.wav", voice(1.0, 8_000), rate_hz=8_000)
    assert "above 4000 Hz" in note_about("call.wav", read(folder)[1])


def test_a_rate_at_which_nothing_can_be_heard_is_left_out(folder: Path) -> None:
    put(folder, "slow.wav", voice(4.0, 1_000), rate_hz=1_000)
    found, notes = read(folder)
    assert list(found) == ["good.wav"]
    assert "1000 Hz" in note_about("slow.wav", notes)


@pytest.mark.parametrize("kind", ["PCM_24", "PCM_32", "PCM_U8", "DOUBLE", "ULAW"])
def test_every_width_of_sample_is_read(folder: Path, kind: str) -> None:
    put(folder, "wide.wav", voice(1.0), kind=kind)
    found, notes = read(folder)
    assert float(np.abs(found["wide.wav"].clip.audio).max()) == pytest.approx(0.1, abs=0.02)
    assert "read as they are" in note_about("wide.wav", notes)


def test_channels_are_averaged(folder: Path) -> None:
    mono = voice(1.0)
    put(folder, "stereo.wav", np.stack([mono, 0.5 * mono], axis=1))
    found, notes = read(folder)
    assert np.allclose(found["stereo.wav"].clip.audio, 0.75 * mono, atol=1e-3)
    assert "2 channels" in note_about("stereo.wav", notes)


def test_channels_that_cancel_out_are_not(folder: Path) -> None:
    mono = voice(1.0)
    put(folder, "mirror.wav", np.stack([mono, -0.99 * mono], axis=1))
    found, notes = read(folder)
    assert np.allclose(found["mirror.wav"].clip.audio, mono, atol=1e-3)
    assert "cancel out: channel 1" in note_about("mirror.wav", notes)


def test_samples_that_are_no_numbers_are_left_out(folder: Path) -> None:
    audio = voice(1.0)
    audio[100] = np.nan
    put(folder, "nan.wav", audio, kind="FLOAT")
    found, notes = read(folder)
    assert list(found) == ["good.wav"]
    assert "not numbers" in note_about("nan.wav", notes)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no transcript"),
        (b"", "no word in the transcript"),
        (b" ... !", "no word in the transcript"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_without_a_transcript_a_recording_is_timed_only(
    folder: Path, content: bytes | None, said: str
) -> None:
    put(folder, "mute.wav", voice(1.0), None)
    if content is not None:
        (folder / "mute.txt").write_bytes(content)
    found, notes = read(folder)
    assert found["mute.wav"].reference is None
    assert not found["mute.wav"].quiet
    note = note_about("mute.wav", notes)
    assert said in note
    assert "left out of error rates" in note


def test_what_is_alike_is_said_once(folder: Path) -> None:
    for number in range(5):
        put(folder, f"take{number}.wav", voice(1.0, 8_000), rate_hz=8_000)
    notes = read(folder)[1]
    assert len(notes) == 1
    assert notes[0].startswith("take0.wav, take1.wav, take2.wav and 2 more: ")


def test_a_manifest_names_files_texts_languages_and_bounds(folder: Path) -> None:
    put(folder, "b.wav", voice(1.0), None)
    (folder / "manifest.csv").write_text(
        "file,text,language,speech_start_s,speech_end_s\n"
        "b.wav,öffne die Tür,de-AT,0.25,0.75\n"
        "good.wav,,,,\n"
        "missing.wav,not here,,,\n"
        "b.wav,twice,,,\n",
        "utf-8",
    )
    found, notes = read(folder)
    assert (found["b.wav"].reference, found["b.wav"].language) == ("öffne die Tür", "de")
    assert found["b.wav"].clip.speech_start_s == 0.25
    assert found["b.wav"].clip.speech_end_s == 0.75
    assert found["good.wav"].reference == "open the door"
    assert "left out" in note_about("missing.wav", notes)
    assert "twice" in note_about("b.wav", notes)
    assert "rtvc-basic-1" in note_about('in "de"', notes)


@pytest.mark.parametrize("bounds", ["0.9,0.1", "-1,0.5", "0.1,99", "nan,0.5", "early,late"])
def test_bounds_that_make_no_sense_are_found_by_level(folder: Path, bounds: str) -> None:
    (folder / "manifest.csv").write_text(
        f"file,text,speech_start_s,speech_end_s\ngood.wav,open,{bounds}\n", "utf-8"
    )
    found, notes = read(folder)
    assert found["good.wav"].clip.speech_start_s == pytest.approx(0.2, abs=0.05)
    assert "found by level" in note_about("good.wav", notes)


def test_a_manifest_without_files_is_refused(folder: Path) -> None:
    (folder / "manifest.csv").write_text("name,text\na.wav,hello\n", "utf-8")
    with pytest.raises(AudioError, match="expected a column file"):
        read(folder)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("打开客厅的灯", "zh"),
        ("リビングの電気をつけて", "ja"),
        ("불을 켜 주세요", "ko"),
        ("เปิดไฟ", "th"),
        ("включи свет", "ru"),
        ("allume la lumière", None),
        ("42!", None),
        ("", None),
    ],
)
def test_letters_give_a_language_away(text: str, language: str | None) -> None:
    assert language_of_letters(text) == language


def test_other_letters_are_taken_for_their_language_unless_one_is_named(folder: Path) -> None:
    put(folder, "lamp.wav", voice(1.0), "打开客厅的灯")
    found, notes = read(folder)
    assert found["lamp.wav"].language == "zh"
    assert '"zh"' in note_about("lamp.wav", notes)
    assert "characters" in note_about('in "zh"', notes)
    found, notes = read(folder, language="en")
    assert found["lamp.wav"].language == "en"
    assert "not in the letters of English" in note_about("lamp.wav", notes)
    found, notes = read(folder, language="yue")
    assert found["lamp.wav"].language == "yue"


def test_of_many_recordings_some_are_drawn_and_the_same_again(folder: Path) -> None:
    for number in range(9):
        put(folder, f"take{number}.wav", voice(1.0))
    found, notes = read(folder, most=4, seed=3)
    assert len(found) == 4
    assert list(found) == sorted(found)
    assert list(read(folder, most=4, seed=3)[0]) == list(found)
    assert "4 of 10 recordings" in notes[0]
    assert len({tuple(read(folder, most=4, seed=seed)[0]) for seed in range(6)}) > 1


def test_a_folder_without_anything_usable_says_why(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="found none: no file ends in"):
        read_folder(tmp_path)
    (tmp_path / "broken.wav").write_bytes(b"nothing")
    with pytest.raises(AudioError, match=r"broken\.wav: left out"):
        read_folder(tmp_path)
    with pytest.raises(AudioError, match="expected a folder of recordings"):
        read_folder(tmp_path / "nowhere")
