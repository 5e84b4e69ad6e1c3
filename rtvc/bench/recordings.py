"""A folder of recordings as a bench takes it: what cannot be used is named, and never stops it.

Each .wav, .flac, .ogg or .mp3 has its text in a .txt beside it, or `manifest.csv` lists the files
(columns `file` and, where known, `text`, `language`, `speech_start_s`, `speech_end_s`).
"""

import csv
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from rtvc.audio import FloatArray, resample
from rtvc.bench.clips import RATE_HZ
from rtvc.errors import AudioError, why
from rtvc.normalisers import normaliser_for, primary_tag
from rtvc.speech.corpus import Clip, speech_bounds

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
"""Files that are taken for recordings."""

SHORTEST_S = 0.2
"""Shorter audio holds no word."""

MANIFEST = "manifest.csv"
"""Lists the files, if it is there."""

NAMED = 3
"""Files that a note names; of the rest it says how many."""

TELEPHONE_HZ = 8_000
"""Up to this rate nothing above 4 kHz is there to be heard."""

ENDLESS_BYTES = 0x7FFFF000
"""Length from which a WAV header means that nobody knew it yet."""

_DATA_BYTES = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)

_SCRIPTS = {
    "CJK": "zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "THAI": "th",
    "LAO": "lo",
    "KHMER": "km",
    "MYANMAR": "my",
    "CYRILLIC": "ru",
    "ARABIC": "ar",
    "HEBREW": "he",
    "GREEK": "el",
    "DEVANAGARI": "hi",
    "BENGALI": "bn",
    "TAMIL": "ta",
    "TELUGU": "te",
    "ARMENIAN": "hy",
    "GEORGIAN": "ka",
}
"""What a text in such letters is taken for: the language that most often uses them."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """One file that can be used."""

    clip: Clip
    """At its own rate; its text is empty where it is unknown."""
    reference: str | None
    """What is said; empty: nobody speaks; None: unknown."""
    language: str
    """ISO-639-1."""

    @property
    def quiet(self) -> bool:
        """Whether nobody speaks in it."""
        return self.reference == ""


@dataclass(slots=True)
class Notes:
    """What there is to say about a folder: the same about many files in one line."""

    lines: list[str] = field(default_factory=list)
    """About one file each, ready."""
    _alike: dict[str, list[str]] = field(default_factory=dict)
    """What is said → the files it is said of."""

    def alone(self, name: str, said: str) -> None:
        """Something about one file."""
        self.lines.append(f"{name}: {said}")

    def alike(self, name: str, said: str) -> None:
        """Something that may be so of many files."""
        self._alike.setdefault(said, []).append(name)

    def told(self) -> list[str]:
        """All of it, one line each."""
        return [*self.lines, *(f"{_named(names)}: {said}" for said, names in self._alike.items())]


def _named(names: list[str]) -> str:
    """
    >>> _named(["a.wav", "b.wav"]), _named(["a.wav", "b.wav", "c.wav", "d.wav", "e.wav"])
    ('a.wav, b.wav', 'a.wav, b.wav, c.wav and 2 more')
    """
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def read_folder(
    folder: Path | str, *, language: str | None = None, most: int | None = None, seed: int = 0
) -> tuple[list[Recording], Notes]:
    """The recordings of a folder that can be used, by name, and what there is to say about it.

    `language` is what is said where the manifest does not say; None: as the letters of the text
    have it, else English. Of more than `most` files so many are drawn.

    Raises:
        AudioError: there is no such folder, or nothing in it can be used; the reason is named.
    """
    folder, notes = Path(folder), Notes()
    if not folder.is_dir():
        raise AudioError(f"expected a folder of recordings, got {folder}")
    rows = _drawn(_rows(folder, notes), most, seed, notes)
    found = [_recording(folder, row, language, notes) for row in rows]
    usable = [recording for recording in found if recording is not None]
    if not usable:
        told = "; ".join(notes.told()[:NAMED]) or f"no file ends in {', '.join(SUFFIXES)}"
        raise AudioError(f"expected recordings that can be used in {folder}, found none: {told}")
    _note_languages(usable, notes)
    return usable, notes


def _rows(folder: Path, notes: Notes) -> list[Mapping[str, str]]:
    """What the manifest says of each file; without one, only which files there are."""
    manifest = folder / MANIFEST
    if not manifest.exists():
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        return [{"file": path.name} for path in paths]
    rows: dict[str, Mapping[str, str]] = {}
    for row in _manifest(manifest):
        name = row.get("file", "").strip()
        if name in rows:
            notes.alone(name, f"stands twice in {MANIFEST}; the first line counts")
        elif name:
            rows[name] = {**row, "file": name}
    return list(rows.values())


def _manifest(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            rows = [{key: value or "" for key, value in row.items() if key} for row in reader]
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AudioError(f"expected a readable table in {path}: {why(error)}") from error
    if "file" not in columns:
        found = ", ".join(columns) or "none"
        raise AudioError(f"expected a column file in {path}, found {found}")
    return rows


def _drawn(
    rows: list[Mapping[str, str]], most: int | None, seed: int, notes: Notes
) -> list[Mapping[str, str]]:
    """So many of them, in their order: the same for the same seed."""
    if most is None or len(rows) <= most:
        return rows
    notes.lines.append(f"{most} of {len(rows)} recordings are used; --clips takes more")
    chosen = sorted(random.Random(seed).sample(range(len(rows)), most))
    return [rows[index] for index in chosen]


def _recording(
    folder: Path, row: Mapping[str, str], language: str | None, notes: Notes
) -> Recording | None:
    """One file; None, and a note, if it cannot be used."""
    path, name = folder / row["file"], row["file"]
    audio = _audio(path, name, notes)
    if audio is None:
        return None
    if len(audio) < SHORTEST_S * RATE_HZ:
        seconds = len(audio) / RATE_HZ
        notes.alone(name, f"left out: {seconds:.2f} s is too short to hold a word")
        return None
    found = speech_bounds(audio, RATE_HZ)
    if found is None:
        return _silent(path, row, audio, language, notes)
    reference = _reference(path, row, notes)
    start_s, end_s = _bounds(row, found, len(audio) / RATE_HZ, notes)
    clip = _clip(name, reference or "", audio, start_s, end_s)
    return Recording(clip, reference, _language(row, reference or "", language, notes))


def _clip(name: str, text: str, audio: FloatArray, start_s: float, end_s: float) -> Clip:
    """The time of its words is not known."""
    return Clip(
        clip_id=name,
        text=text,
        audio=audio,
        rate_hz=RATE_HZ,
        words=None,
        first_word_end_s=start_s,
        speech_start_s=start_s,
        speech_end_s=end_s,
        voice=name,
    )


def _silent(
    path: Path, row: Mapping[str, str], audio: FloatArray, language: str | None, notes: Notes
) -> Recording | None:
    """Nobody speaks: right without a transcript, and wrong with one."""
    name = row["file"]
    if _reference(path, row, Notes()):
        notes.alone(name, "left out: it is silent, though its transcript is not empty")
        return None
    notes.alike(name, "silent: whatever is heard in it is made up, and counted so")
    clip = _clip(name, "", audio, 0.0, len(audio) / RATE_HZ)
    return Recording(clip, "", primary_tag(row.get("language", "") or language or "en"))


def _audio(path: Path, name: str, notes: Notes) -> FloatArray | None:
    """The samples as a bench hears them; None, and a note, where there is no sound to be had."""
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate_hz, kind = file.samplerate, str(file.subtype_info)
            promised = max(file.frames, promised_frames(file.extra_info, file.frames))
            samples = file.read(dtype="float32", always_2d=True)
            is_usual = file.subtype in ("PCM_16", "FLOAT")
    except (soundfile.SoundFileError, OSError, MemoryError, ValueError) as error:
        # A header may promise more than any memory holds.
        told = str(getattr(error, "error_string", "")).strip() or why(error)
        notes.alone(name, f"left out: it cannot be read ({told})")
        return None
    if not np.isfinite(samples).all():
        notes.alone(name, "left out: some of its samples are not numbers")
        return None
    if len(samples) < promised:
        notes.alone(name, f"cut off: {len(samples)} of {promised} samples are there")
    if not is_usual:
        notes.alike(name, f"read as they are: {kind}")
    return _at_rate(_mono(samples, name, notes), rate_hz, name, notes)


def promised_frames(log: str, frames: int) -> int:
    """Samples of each channel that a WAV header promises, where `frames` are in the file.

    libsndfile counts what is there and only logs what the header said. A header that was written
    before its end was known promises nothing.

    >>> promised_frames("data : 32000 (should be 15978)", 7989)
    16000
    >>> promised_frames("data : 4294967295 (should be 48000)", 16000)
    16000
    """
    found = _DATA_BYTES.search(log)
    if found is None:
        return frames
    told, there = int(found[1]), int(found[2])
    return frames if told >= ENDLESS_BYTES or not there else round(frames * told / there)


def _mono(samples: FloatArray, name: str, notes: Notes) -> FloatArray:
    """The mean of all channels, or the loudest where they cancel each other out."""
    channels = samples.shape[1]
    mixed = np.ascontiguousarray(samples.mean(axis=1), dtype=np.float32)
    if channels == 1:
        return mixed
    power = np.mean(np.square(samples, dtype=np.float64), axis=0)
    loudest = int(power.argmax()) if len(samples) else 0
    if len(samples) and np.mean(np.square(mixed, dtype=np.float64)) < 1e-3 * power[loudest]:
        notes.alone(name, f"its {channels} channels cancel out: channel {loudest + 1} is taken")
        return np.ascontiguousarray(samples[:, loudest], dtype=np.float32)
    notes.alike(name, f"{channels} channels, averaged")
    return mixed


def _at_rate(audio: FloatArray, rate_hz: int, name: str, notes: Notes) -> FloatArray | None:
    if rate_hz < TELEPHONE_HZ // 2:
        notes.alone(name, f"left out: at {rate_hz} Hz no speech can be made out")
        return None
    if rate_hz <= TELEPHONE_HZ:
        heard_hz = rate_hz // 2
        notes.alike(name, f"{rate_hz} Hz: nothing above {heard_hz} Hz is there to be heard")
    elif rate_hz != RATE_HZ:
        notes.alike(name, f"resampled from {rate_hz} to {RATE_HZ} Hz")
    return resample(audio, rate_hz, RATE_HZ)


def _reference(path: Path, row: Mapping[str, str], notes: Notes) -> str | None:
    """What is said, by the manifest or by the .txt beside; None, and a note, if nobody knows."""
    name, left_out = row["file"], "timed, but left out of error rates"
    text = row.get("text", "")
    beside = path.with_suffix(".txt")
    if not text.strip() and not beside.exists():
        notes.alike(name, f"no transcript: {left_out}")
        return None
    if not text.strip():
        try:
            text = beside.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            notes.alone(name, f"its transcript cannot be read ({why(error)}): {left_out}")
            return None
    if not normaliser_for("").text(text):
        notes.alike(name, f"no word in the transcript: {left_out}")
        return None
    return " ".join(text.split())


def _bounds(
    row: Mapping[str, str], found: tuple[float, float], audio_s: float, notes: Notes
) -> tuple[float, float]:
    """Where speech begins and ends: the manifest's seconds where they make sense, the level's
    elsewhere."""
    told = [row.get(column, "").strip() for column in ("speech_start_s", "speech_end_s")]
    try:
        start_s, end_s = (
            float(cell) if cell else by_level for cell, by_level in zip(told, found, strict=True)
        )
    except ValueError:
        start_s, end_s = -1.0, -1.0
    if 0 <= start_s < end_s <= audio_s + 1e-3:
        return start_s, min(end_s, audio_s)
    said = " and ".join(cell or "nothing" for cell in told)
    notes.alone(row["file"], f"speech cannot last from {said} of {audio_s:.2f} s: found by level")
    return found


def _language(row: Mapping[str, str], text: str, wanted: str | None, notes: Notes) -> str:
    told = row.get("language", "").strip() or wanted
    letters = language_of_letters(text)
    if told is None:
        if letters is not None:
            said = f'taken for "{letters}" by its letters; --language names another'
            notes.alike(row["file"], said)
        return letters or "en"
    if letters is not None and primary_tag(told) == "en":
        notes.alike(row["file"], "its transcript is not in the letters of English, its language")
    return primary_tag(told)


def language_of_letters(text: str) -> str | None:
    """The language that a text's letters give away; None: they are Latin, or there are none.

    >>> language_of_letters("今日は"), language_of_letters("今天"), language_of_letters("today")
    ('ja', 'zh', None)
    """
    scripts = Counter(unicodedata.name(c, "").partition(" ")[0] for c in text if c.isalpha())
    if scripts["HIRAGANA"] or scripts["KATAKANA"]:
        return "ja"
    most = scripts.most_common(1)
    return _SCRIPTS.get(most[0][0]) if most else None


def _note_languages(recordings: Iterable[Recording], notes: Notes) -> None:
    """How errors are counted in languages other than English."""
    for language, count in sorted(Counter(each.language for each in recordings).items()):
        if language == "en":
            continue
        normaliser = normaliser_for(language)
        counted = "words" if normaliser.unit == "wer" else "characters"
        notes.lines.append(
            f'{count} in "{language}": errors are counted in {counted} after {normaliser.name}; '
            "models for English alone do not know its words"
        )
