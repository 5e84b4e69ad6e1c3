"""What simulated speakers say: built-in synthetic clips, or a folder of recordings."""

import csv
import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rtvc.audio import FloatArray, float_to_pcm16, read_audio
from rtvc.errors import AudioError, UsageError, why
from rtvc.speech.sentences import Split, sentence, words_of
from rtvc.speech.synthesis import VOICES, Synthesizer, Word
from rtvc.transcript import normalise

__all__ = ["Clip", "Split", "builtin_clips", "corpus_hash", "folder_clips", "sentence"]

AUDIO_SUFFIXES = (".wav", ".flac")

# "caleb" whispers with noise that is never the same: clips would not be reproducible, and nothing
# that listens for voices would hear it.
_CLIP_VOICES = tuple(voice for voice in VOICES if not voice.endswith("+caleb"))


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One utterance to be spoken, with the truth about it."""

    clip_id: str
    """Unique within a corpus."""
    text: str
    """What is said."""
    audio: FloatArray = field(repr=False)
    """Mono samples, shape (samples,)."""
    rate_hz: int
    """Hertz."""
    words: tuple[Word, ...] | None = field(repr=False)
    """Each word with its times; None for recordings, whose word times nobody knows."""
    first_word_end_s: float
    """Seconds from the first sample; for recordings a guess by the length of the first word."""
    speech_start_s: float
    """Seconds from the first sample: where speech begins."""
    speech_end_s: float
    """Seconds from the first sample: the true end of speech."""
    voice: str
    """Voice it was synthesised with, or the file it was read from."""

    @property
    def duration_s(self) -> float:
        return len(self.audio) / self.rate_hz


@dataclass(frozen=True, slots=True)
class _Manner:
    """How somebody speaks."""

    voice: str
    """One of VOICES."""
    words_per_minute: int
    """How fast."""
    pitch: int
    """As espeak-ng counts it, from 0 to 99."""
    pitch_range: int
    """The same: how much it varies."""


def builtin_clips(
    count: int,
    seed: int = 0,
    *,
    voices: Sequence[str] = _CLIP_VOICES,
    words_per_minute: tuple[int, int] = (130, 200),
    min_words: int = 3,
    max_words: int = 25,
    rate_hz: int = 16_000,
    in_one_voice: int = 1,
) -> list[Clip]:
    """Synthetic clips that the self-test model understands but never saw in training.

    No two clips share a text. The same arguments give the same samples, and a smaller `count` the
    first of them. So many clips in a row are spoken `in_one_voice` and manner. About 10 ms of work
    each.

    Raises:
        UsageError: `count` is below 1, or there are not so many sentences of such a length.
    """
    if count < 1:
        raise UsageError(f"expected at least 1 clip, got {count}")
    rng, synthesizer = random.Random(seed), Synthesizer(reproducible=True)
    clips: list[Clip] = []
    speaker: _Manner | None = None
    for number, text in enumerate(_distinct_sentences(rng, count, min_words, max_words)):
        clip_id = f"builtin-{seed}-{number:04d}"
        if speaker is None or number % in_one_voice == 0:
            speaker = _Manner(
                voice=rng.choice(voices),
                words_per_minute=rng.randint(*words_per_minute),
                pitch=rng.randint(35, 70),
                pitch_range=rng.randint(40, 60),
            )
        clips.append(_spoken(synthesizer, clip_id, text, speaker, rate_hz))
    return clips


def _distinct_sentences(
    rng: random.Random, count: int, min_words: int, max_words: int
) -> Iterator[str]:
    seen: set[str] = set()
    attempts = 0
    while len(seen) < count:
        attempts += 1
        if attempts > 1000 + 100 * count:
            raise UsageError(
                f"expected {count} sentences of {min_words} to {max_words} words, found {len(seen)}"
            )
        text = sentence(rng)
        if min_words <= len(words_of(text)) <= max_words and normalise(text) not in seen:
            seen.add(normalise(text))
            yield text


def _spoken(
    synthesizer: Synthesizer, clip_id: str, text: str, manner: _Manner, rate_hz: int
) -> Clip:
    speech = synthesizer.say(
        text, manner.voice, manner.words_per_minute, manner.pitch, manner.pitch_range, rate_hz
    )
    return Clip(
        clip_id=clip_id,
        text=text,
        audio=speech.audio,
        rate_hz=rate_hz,
        words=speech.words,
        first_word_end_s=speech.words[0].end_s,
        speech_start_s=speech.speech_start_s,
        speech_end_s=speech.speech_end_s,
        voice=manner.voice,
    )


def folder_clips(folder: Path | str) -> list[Clip]:
    """The recordings of a folder, at their own rates, in the order of their names.

    Either `manifest.csv` lists them (columns `file`, `text` and, where known, `speech_start_s` and
    `speech_end_s`; others are ignored), or each .wav and .flac has its text in a .txt beside it.
    Where speech begins and ends is found by level unless the manifest says so (`speech_bounds`).

    Raises:
        AudioError: a file is missing, unreadable, silent or without text; it is named.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AudioError(f"expected a folder of recordings, got {folder}")
    manifest = folder / "manifest.csv"
    rows = _manifest_rows(manifest) if manifest.exists() else _text_rows(folder)
    clips = [_recorded(folder / row["file"], row) for row in rows]
    if not clips:
        raise AudioError(f"expected .wav or .flac recordings in {folder}, found none")
    return clips


def _manifest_rows(manifest: Path) -> list[dict[str, str]]:
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            rows = [{key: value or "" for key, value in row.items() if key} for row in reader]
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AudioError(f"expected a readable CSV file, got {manifest}: {why(error)}") from error
    if not {"file", "text"} <= set(columns):
        found = ", ".join(columns) or "none"
        raise AudioError(f"expected columns file and text in {manifest}, found {found}")
    return rows


def _text_rows(folder: Path) -> list[dict[str, str]]:
    rows = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in AUDIO_SUFFIXES:
            continue
        try:
            text = path.with_suffix(".txt").read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise AudioError(
                f"expected the text of {path} in a .txt beside it: {why(error)}"
            ) from error
        rows.append({"file": path.name, "text": " ".join(text.split())})
    return rows


def _recorded(path: Path, row: dict[str, str]) -> Clip:
    text = row["text"].strip()
    if not normalise(text):
        raise AudioError(f"expected what is said in {path}, got no text")
    audio, rate_hz = read_audio(path)
    start_s, end_s = _annotated_bounds(path, row, audio, rate_hz)
    words = normalise(text).split()
    share = len(words[0]) / sum(map(len, words))
    return Clip(
        clip_id=path.stem,
        text=text,
        audio=audio,
        rate_hz=rate_hz,
        words=None,
        first_word_end_s=start_s + (end_s - start_s) * share,
        speech_start_s=start_s,
        speech_end_s=end_s,
        voice=path.name,
    )


def _annotated_bounds(
    path: Path, row: dict[str, str], audio: FloatArray, rate_hz: int
) -> tuple[float, float]:
    """The manifest's bounds where it has them, the level's elsewhere."""
    found = speech_bounds(audio, rate_hz)
    if found is None:
        raise AudioError(f"expected speech in {path}, got silence")
    start_s = _seconds(path, row, "speech_start_s", found[0])
    end_s = _seconds(path, row, "speech_end_s", found[1])
    if not 0 <= start_s < end_s <= len(audio) / rate_hz + 1e-3:
        raise AudioError(
            f"expected 0 <= speech_start_s < speech_end_s <= {len(audio) / rate_hz:.3f} in {path}, "
            f"got {start_s:g} and {end_s:g}"
        )
    return start_s, min(end_s, len(audio) / rate_hz)


def _seconds(path: Path, row: dict[str, str], column: str, otherwise_s: float) -> float:
    cell = row.get(column, "").strip()
    try:
        return float(cell) if cell else otherwise_s
    except ValueError as error:
        raise AudioError(f"expected seconds as {column} of {path}, got {cell!r}") from error


_LEVEL_FRAME_S = 0.01
_SHORTEST_FRAMES = 3


def speech_bounds(audio: FloatArray, rate_hz: int) -> tuple[float, float] | None:
    """Where speech begins and ends in a recording, by level, in seconds; None if it is silent.

    The level is that of 10 ms frames. Speech is what lies within 25 dB of the loud frames' level
    (95th percentile) and 8 dB above the quiet ones' (5th percentile; at most 12 dB below the
    loud), for 30 ms at a stretch or more. Right to some 50 ms; a manifest can know better.
    """
    samples = max(1, round(rate_hz * _LEVEL_FRAME_S))
    frames = audio[: len(audio) // samples * samples].reshape(-1, samples).astype(np.float64)
    levels_db = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-10)
    if not len(levels_db) or levels_db.max() < -70:
        return None
    quiet_db, loud_db = np.percentile(levels_db, [5, 95])
    threshold_db = max(loud_db - 25, min(quiet_db + 8, loud_db - 12))
    starts, ends = _runs(levels_db >= threshold_db)
    long_enough = ends - starts >= _SHORTEST_FRAMES
    if not long_enough.any():
        return None
    first, last = int(starts[long_enough][0]), int(ends[long_enough][-1])
    return first * samples / rate_hz, last * samples / rate_hz


def _runs(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First index of each run of true flags, and the index after its last."""
    edges = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


def corpus_hash(clips: Iterable[Clip]) -> str:
    """Sixteen hex digits that differ when a text, a sample or an annotation does."""
    digest = hashlib.sha256()
    for clip in clips:
        annotation = (clip.speech_start_s, clip.speech_end_s, clip.first_word_end_s, clip.words)
        digest.update(repr((clip.clip_id, clip.text, clip.rate_hz, annotation)).encode())
        digest.update(float_to_pcm16(clip.audio))
    return digest.hexdigest()[:16]
