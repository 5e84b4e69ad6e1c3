"""How names and values are said to people."""

import math
from typing import Literal

Unit = Literal["s", "%", ""]

_SPOKEN = {
    "barge_in_latency": "barge-in latency",
    "cross_talk": "cross-talk words",
    "wer": "word error rate",
    "vad_offset": "VAD offset",
    "vad_delay": "VAD delay",
    "llm_ttft": "LLM first token",
    "llm_sentence": "LLM first sentence",
    "tts_ttfb": "TTS first audio",
    "emit": "sending the transcript",
    "send": "sending the audio",
}


def spoken(name: str) -> str:
    """A metric's or segment's name as people say it."""
    return _SPOKEN.get(name, name.replace("_", " "))


def said_speakers(count: int) -> str:
    return f"{count} speaker" if count == 1 else f"{count} speakers"


def shown(value: float, unit: Unit, more_digits: int = 0) -> str:
    """A value as people read it.

    >>> shown(0.2914, "s"), shown(3.0, "s"), shown(0.01, "%"), shown(2.0, ""), shown(-1e-9, "s")
    ('291 ms', '3 s', '1 %', '2', '0 ms')
    """
    if math.isinf(value):
        return "missing"
    if unit == "%":
        return f"{_rounded(100 * value, more_digits)} %"
    if unit == "s":
        number, name = (value, "s") if abs(value) >= 1 else (1000 * value, "ms")
        return f"{_rounded(number, more_digits)} {name}"
    return f"{value:g}"


def _rounded(number: float, more_digits: int) -> str:
    """About three significant digits, trailing zeros left out."""
    digits = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    text = f"{number:.{digits + more_digits}f}"
    shortest = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if shortest == "-0" else shortest.replace("-", "−")


def begun(sentence: str) -> str:
    return f"{sentence[:1].upper()}{sentence[1:]}."
