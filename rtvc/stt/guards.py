"""Guards against text that nobody said: pure functions over one answer of a model."""

import zlib
from dataclasses import dataclass

import numpy as np

from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray

SILENCE_RMS = 5e-4
"""Loudest 100 ms below this (−66 dBFS) is silence: no model is asked."""
MIN_AUDIO_S = 0.1
"""Shorter audio holds no word."""
NO_SPEECH_PROB = 0.6
NO_SPEECH_LOGPROB = -1.0
COMPRESSION_RATIO = 2.4
"""Text that compresses better than this repeats itself; Whisper's own threshold."""
LOGPROB = -1.0
"""Text that the model finds less likely than this is doubted; Whisper's own threshold."""
TOKENS_PER_S = 12.0
"""Nobody speaks faster: 4 is common, 7 is hurried."""
LEAST_TOKENS = 8
"""Fewer tokens than this say nothing about a pace."""
MAX_RUN = 4
"""Times in a row that a phrase may be said; a single word, twice as often."""
MAX_PHRASE_WORDS = 8
"""Longest phrase looked for in repetitions."""


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """What a model wrote, before anyone believes it."""

    text: str
    """Stripped text."""
    tokens: int
    """Tokens decoded."""
    max_tokens: int
    """Tokens it was allowed."""
    no_speech_prob: float | None = None
    """Model's belief that nothing was said; None if it has none."""
    avg_logprob: float | None = None
    """Mean log probability per token; None if unknown."""
    audio_s: float | None = None
    """Seconds of audio it is about; None: its pace is not judged."""
    steps: tuple[str, ...] = ()
    """What was done over because an answer before this one was doubted."""


def is_silent(audio: AudioArray) -> bool:
    """Whether the audio is too short or too quiet to hold speech."""
    window = SAMPLE_RATE_HZ // 10
    if len(audio) < MIN_AUDIO_S * SAMPLE_RATE_HZ:
        return True
    whole = audio[: len(audio) // window * window].reshape(-1, window)
    power = np.mean(np.square(whole, dtype=np.float64), axis=1)
    return bool(power.max() < SILENCE_RMS**2)


def doubts(answer: RawAnswer) -> tuple[str, ...]:
    """What speaks against an answer; nothing speaks against saying that nobody spoke."""
    if _is_no_speech(answer) or not answer.text:
        return ()
    found = {
        "runaway": answer.tokens >= answer.max_tokens,
        "repetition": without_repetition(answer.text) != " ".join(answer.text.split()),
        "compression": compression_ratio(answer.text) > COMPRESSION_RATIO,
        "pace": _is_too_fast(answer),
        "unlikely": answer.avg_logprob is not None and answer.avg_logprob < LOGPROB,
    }
    return tuple(name for name, doubted in found.items() if doubted)


def _is_too_fast(answer: RawAnswer) -> bool:
    if answer.audio_s is None or answer.tokens < LEAST_TOKENS:
        return False
    return answer.tokens > TOKENS_PER_S * answer.audio_s


def better(first: RawAnswer, second: RawAnswer) -> RawAnswer:
    """Of two answers to the same audio the one less doubted; the first if there is no telling."""
    doubted = len(doubts(second)) - len(doubts(first))
    likelier = (second.avg_logprob or 0.0) > (first.avg_logprob or 0.0)
    return second if doubted < 0 or (doubted == 0 and likelier) else first


def guarded(answer: RawAnswer) -> tuple[str, tuple[str, ...]]:
    """The text that may be shown, and the names of the guards that fired."""
    fired: list[str] = [*answer.steps]
    if answer.tokens >= answer.max_tokens:
        fired.append("runaway")
    if _is_no_speech(answer):
        return "", (*fired, "no_speech")
    text = without_repetition(answer.text)
    if text != " ".join(answer.text.split()):
        fired.append("repetition")
    if compression_ratio(text) > COMPRESSION_RATIO:
        return "", (*fired, "compression")
    return text, tuple(fired)


def _is_no_speech(answer: RawAnswer) -> bool:
    if answer.no_speech_prob is None or answer.avg_logprob is None or not answer.text:
        return False
    doubtful = answer.avg_logprob < NO_SPEECH_LOGPROB
    return doubtful and answer.no_speech_prob > NO_SPEECH_PROB


def without_repetition(text: str) -> str:
    """The text with any phrase said too often in a row said once.

    >>> without_repetition("thank you " * 6 + "bye")
    'thank you bye'
    >>> without_repetition("no no no, I mean it")
    'no no no, I mean it'
    """
    words = text.split()
    for size in range(1, min(MAX_PHRASE_WORDS, len(words)) + 1):
        words = _collapse(words, size, MAX_RUN * 2 if size == 1 else MAX_RUN)
    return " ".join(words)


def _collapse(words: list[str], size: int, max_run: int) -> list[str]:
    kept: list[str] = []
    at = 0
    while at < len(words):
        run = _run_length(words, at, size)
        taken = size * run if run > max_run else 1
        kept += words[at : at + (size if run > max_run else 1)]
        at += taken
    return kept


def _run_length(words: list[str], at: int, size: int) -> int:
    phrase = words[at : at + size]
    run = 1
    while words[at + run * size : at + (run + 1) * size] == phrase:
        run += 1
    return run


def compression_ratio(text: str) -> float:
    """Length of the text ÷ its length compressed, as Whisper measures it."""
    encoded = text.encode()
    return len(encoded) / len(zlib.compress(encoded)) if encoded else 0.0
