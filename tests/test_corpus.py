"""Sentences, built-in clips, recordings."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rtvc.audio import FloatArray, write_wav
from rtvc.errors import AudioError, UsageError
from rtvc.speech.corpus import (
    Clip,
    builtin_clips,
    corpus_hash,
    folder_clips,
    sentence,
    speech_bounds,
)
from rtvc.speech.sentences import MAX_WORDS, VOCABULARY, is_eval, words_of
from rtvc.speech.synthesis import VOICES
from rtvc.transcript import normalise

HUMAN = Path(__file__).parents[2] / "shared" / "speech" / "human"
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return builtin_clips(60, seed=5)


def burst(start_s: float, end_s: float, total_s: float, noise: float = 1e-4) -> FloatArray:
    rng = np.random.default_rng(1)
    audio = rng.standard_normal(round(total_s * RATE_HZ)) * noise
    at = slice(round(start_s * RATE_HZ), round(end_s * RATE_HZ))
    audio[at] += 0.1 * rng.standard_normal(at.stop - at.start)
    return audio.astype(np.float32)


def test_sentences_keep_to_their_split_and_vocabulary() -> None:
    rng = random.Random(2)
    for _ in range(200):
        text = sentence(rng, random_share=0.3)
        assert is_eval(text)
        assert set(words_of(text)) <= set(VOCABULARY)
        assert 3 <= len(words_of(text)) <= MAX_WORDS
    assert not any(is_eval(sentence(rng, "train")) for _ in range(200))


def test_texts_are_distinct_and_never_trained_on(clips: list[Clip]) -> None:
    assert len({normalise(clip.text) for clip in clips}) == len(clips) == 60
    assert len({clip.clip_id for clip in clips}) == 60
    assert all(is_eval(clip.text) for clip in clips)


def test_voices_vary_and_are_known(clips: list[Clip]) -> None:
    voices = Counter(clip.voice for clip in clips)
    assert len(voices) > 30
    assert set(voices) <= set(VOICES)


def test_annotations_lie_inside_the_clip_in_order(clips: list[Clip]) -> None:
    for clip in clips:
        assert 0 <= clip.speech_start_s < clip.speech_end_s <= clip.duration_s
        assert clip.speech_start_s < clip.first_word_end_s <= clip.speech_end_s
        assert clip.words is not None
        assert [w.text for w in clip.words] == clip.text.split()
        assert len(clip.words) == len(normalise(clip.text).split())


def test_a_seed_gives_the_same_clips_and_fewer_are_the_first(clips: list[Clip]) -> None:
    again = builtin_clips(5, seed=5)
    assert corpus_hash(again) == corpus_hash(clips[:5])
    assert {c.text for c in builtin_clips(5, seed=6)} != {c.text for c in again}


def test_length_can_be_asked_for() -> None:
    for clip in builtin_clips(5, min_words=4, max_words=6, rate_hz=24_000):
        assert 4 <= len(words_of(clip.text)) <= 6
        assert clip.rate_hz == 24_000


@pytest.mark.parametrize(("count", "longest"), [(0, 25), (-1, 25), (2, 2)])
def test_what_cannot_be_made_is_refused(count: int, longest: int) -> None:
    with pytest.raises(UsageError, match="expected"):
        builtin_clips(count, max_words=longest)


def test_the_hash_notices_every_difference(clips: list[Clip]) -> None:
    two = clips[:2]
    hashes = {corpus_hash(each) for each in (two, two[:1], two[::-1], clips[1:3], [])}
    assert len(hashes) == 5


@pytest.mark.parametrize("noise", [0.0, 1e-4, 3e-3])
def test_speech_is_found_by_level(noise: float) -> None:
    bounds = speech_bounds(burst(0.5, 1.3, 2.0, noise), RATE_HZ)
    assert bounds == pytest.approx((0.5, 1.3), abs=0.011)


def test_a_click_is_no_speech() -> None:
    audio = burst(0.5, 1.3, 2.0)
    audio[RATE_HZ * 19 // 10] = 0.9
    assert speech_bounds(audio, RATE_HZ) == pytest.approx((0.5, 1.3), abs=0.011)


@pytest.mark.parametrize("samples", [0, 5, 16_000])
def test_silence_has_no_bounds(samples: int) -> None:
    assert speech_bounds(np.zeros(samples, np.float32), RATE_HZ) is None


def test_level_and_synthesis_agree_on_the_end(clips: list[Clip]) -> None:
    for clip in clips[:20]:
        bounds = speech_bounds(clip.audio, clip.rate_hz)
        assert bounds is not None
        assert bounds[1] == pytest.approx(clip.speech_end_s, abs=0.15)


def test_texts_beside_the_recordings(tmp_path: Path) -> None:
    write_wav(tmp_path / "b.wav", burst(0.2, 0.6, 1.0), RATE_HZ)
    (tmp_path / "b.txt").write_text("Hello  there\n")
    write_wav(tmp_path / "a.WAV", burst(0.1, 0.4, 1.0), RATE_HZ)
    (tmp_path / "a.txt").write_text("Good morning")
    (tmp_path / "notes.md").write_text("not a recording")
    first, second = folder_clips(tmp_path)
    assert (first.clip_id, first.text, first.voice) == ("a", "Good morning", "a.WAV")
    assert second.text == "Hello there"
    assert second.words is None
    assert second.speech_end_s == pytest.approx(0.6, abs=0.02)
    assert second.first_word_end_s == pytest.approx(0.4, abs=0.03)


def test_a_manifest_knows_better(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", burst(0.1, 0.9, 1.0), 24_000)
    row = "file,text,speech_start_s,speech_end_s,source\na.wav,one two,0.15,,me\n"
    (tmp_path / "manifest.csv").write_text("\ufeff" + row, encoding="utf-8")
    (clip,) = folder_clips(tmp_path)
    assert clip.speech_start_s == 0.15
    assert clip.rate_hz == 24_000
    assert clip.speech_end_s == pytest.approx(0.9 * 16 / 24, abs=0.02)


@pytest.mark.parametrize(
    ("manifest", "named"),
    [
        ("file,text\ngone.wav,hello\n", r"gone\.wav"),
        ("file,text\nbad.wav,hello\n", r"bad\.wav"),
        ("file,text\nquiet.wav,hello\n", r"quiet\.wav"),
        ("file,text\ngood.wav,!\n", r"good\.wav"),
        ("file,text\ngood.wav\n", r"good\.wav"),
        ("file,text,speech_end_s\ngood.wav,hello,9\n", r"good\.wav"),
        ("file,text,speech_end_s\ngood.wav,hello,nan\n", r"good\.wav"),
        ("file,text,speech_end_s\ngood.wav,hello,soon\n", r"speech_end_s of .*good\.wav"),
        ("name,words\ngood.wav,hello\n", r"manifest\.csv"),
        ("", r"manifest\.csv"),
        ("file,text\n", "found none"),
    ],
)
def test_a_bad_manifest_names_the_file(tmp_path: Path, manifest: str, named: str) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    write_wav(tmp_path / "quiet.wav", np.zeros(16_000), RATE_HZ)
    write_wav(tmp_path / "good.wav", burst(0.1, 0.9, 1.0), RATE_HZ)
    (tmp_path / "manifest.csv").write_text(manifest)
    with pytest.raises(AudioError, match=named):
        folder_clips(tmp_path)


def test_a_recording_without_text_is_named(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", burst(0.1, 0.4, 1.0), RATE_HZ)
    with pytest.raises(AudioError, match=r"a\.wav"):
        folder_clips(tmp_path)
    with pytest.raises(AudioError, match="nowhere"):
        folder_clips(tmp_path / "nowhere")


@pytest.mark.skipif(not HUMAN.is_dir(), reason="the human recordings are not part of a checkout")
def test_the_human_recordings_load() -> None:
    human = folder_clips(HUMAN)
    assert len(human) == 14
    for clip in human:
        assert 0 <= clip.speech_start_s < clip.first_word_end_s < clip.speech_end_s
        assert clip.speech_end_s > 0.6 * clip.duration_s
