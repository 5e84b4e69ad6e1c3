"""The model card, from measured numbers."""

import os
from pathlib import Path
from typing import Any

from rtvc.speech.sentences import VOCABULARY

CARD = """---
language: en
license: same as the project that ships it
---
# Self-test Whisper (espeak-ng speech only)

A Whisper-architecture model of {parameters} parameters ({size_mb:.1f} MB, CTranslate2
{compute_type}), trained from scratch on synthetic speech so that a voice stack can be tested end
to end without network.

**It is a test fixture, not a speech recogniser.** It knows {vocabulary} English words, has only
ever heard espeak-ng, and will write nonsense for human speech or for words outside
`rtvc/speech/sentences.py`.

Nothing is hard-coded: test sentences are excluded from training by a hash of their text, random
word sequences are 30 % of the training texts, and the held-out voices (variants m5, f4, Andrea,
shelby and the accent en-us-nyc) were never used for training.

Training: {training_note}, 4 English accents x 33 speaker variants, 120-210 words per minute,
noise (10-40 dB), reverb, telephone band, truncation, silence; two CPU cores.

| Test (word error rate without punctuation) | WER % | sentences exactly right % | utterances |
| --- | --- | --- | --- |
{rows}

Silence and noise ({clips} clips): non-empty text in {short} % (short context) and {default} %
(`transcribe()` defaults); mean no-speech probability {silent} on silence, {spoken} on speech.

Latency, int8, {audio_s} s utterances, on {cpu}, milliseconds (mean / p95):

| | 1 thread | 2 threads |
| --- | --- | --- |
{latency}

Word timestamps: median start error {start_error_s} s against espeak-ng's own word events.
"""


def write_card(result: dict[str, Any], folder: Path, training_note: str) -> None:
    """MODEL_CARD.md beside the model."""
    silence, latency = result["g_silence_and_noise"], result["latency"]
    text = CARD.format(
        parameters=result["parameters"],
        size_mb=sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 1e6,
        compute_type=result["compute_type"],
        vocabulary=len(VOCABULARY),
        training_note=training_note,
        rows=_rows(result),
        clips=silence["clips"],
        short=silence["nonempty_percent_short_context"],
        default=silence["nonempty_percent_transcribe_default"],
        silent=silence["no_speech_prob_mean_on_silence"],
        spoken=silence["no_speech_prob_mean_on_speech"],
        audio_s=latency["mean_audio_s"],
        cpu=f"{_cpu_name()}, {os.cpu_count()} cores",
        latency=_latency_rows(latency),
        start_error_s=result["j_word_timestamps"].get("median_abs_start_error_s"),
    )
    (folder / "MODEL_CARD.md").write_text(text, encoding="utf-8")


def _rows(result: dict[str, Any]) -> str:
    return "\n".join(
        f"| {name} | {value['wer_percent']} | {value['sentences_exact_percent']} | "
        f"{value['utterances']} |"
        for name, value in result.items()
        if isinstance(value, dict) and "wer_percent" in value
    )


def _latency_rows(latency: dict[str, Any]) -> str:
    rows = []
    for way in ("short_context", "30s_context", "transcribe_default_beam5_30s"):
        taken = [latency[f"{way}_{threads}_threads_ms"] for threads in (1, 2)]
        rows.append("| " + " | ".join([way, *(f"{t['mean']} / {t['p95']}" for t in taken)]) + " |")
    return "\n".join(rows)


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "?")
