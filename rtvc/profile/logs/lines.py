"""One line of a voice server's log → what happened.

RealtimeVoiceChat writes `MM:SS.cc logger LEVL 👂📝 Partial transcription: …`: colour codes, and no
hour. WhisperLive writes `INFO:root:New client connected`: no time at all. Either may stand behind
the stamp of `docker logs --timestamps` or of another logging format, which is then the better
clock. A line counts only if its message begins with the words of the server, behind a level and
nothing but emoji: what people said is quoted in these logs, and must not be taken for an event.
"""

import re
from collections import defaultdict
from datetime import date
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

HOUR_S = 3600
DAY_S = 86400

BACKWARDS_S = 5.0
"""Seconds: threads log in an order that is off by milliseconds; a stamp that goes back further
than this has wrapped."""


class Server(StrEnum):
    """Whose log it is."""

    REALTIMEVOICECHAT = "realtimevoicechat"
    WHISPERLIVE = "whisperlive"


EXAMPLES = {
    Server.REALTIMEVOICECHAT: "59:58.07 transcribe INFO 👂⏳ New waiting time: 0.46 for text: Hi.",
    Server.WHISPERLIVE: "INFO:root:New client connected",
}
"""A line of each, as this reader knows it."""


class Kind(StrEnum):
    """What a line tells."""

    SERVER_STARTED = "server started"
    LOAD_BEGAN = "load began"
    LOAD_ENDED = "load ended"
    BOOT_LATENCY = "boot latency"
    KNOCKED = "knocked"
    CONNECTED = "connected"
    LEFT = "left"
    SPEECH_BEGAN = "speech began"
    BARGE_IN = "barge-in"
    PARTIAL = "partial"
    SILENCE = "silence"
    VOICE = "voice"
    WAIT_SET = "wait set"
    WAIT_FLOOR = "wait floor"
    ENDPOINT = "endpoint"
    TURN_END = "turn end"
    FINAL = "final"
    GENERATION = "generation"
    FIRST_TOKEN = "first token"
    FIRST_AUDIO = "first audio"
    SLOW_CHUNK = "slow chunk"
    ABORT_BEGAN = "abort began"
    ABORT_ENDED = "abort ended"
    CYCLE_ENDED = "cycle ended"
    DROP = "drop"
    BACKLOG = "backlog"
    INFERENCE = "inference"
    ERROR = "error"


class Stamp(NamedTuple):
    """A line's time as it is written."""

    seconds: float
    """Seconds since the hour, the day, or a fixed day long ago."""
    period_s: int
    """Seconds after which the stamp starts again; 0: never."""
    resolution_s: float
    """Seconds: of its last digit."""


class Event(NamedTuple):
    """What a line told."""

    kind: Kind
    server: Server | None
    """Whose line it is; None: several servers write it."""
    stamp: Stamp | None
    """None: the line bears no time."""
    value: float | None
    """What the line says: seconds, a queue's length, or milliseconds at boot; None: nothing."""
    generation: int | None
    """RealtimeVoiceChat's number of an answer; None: the line names none."""
    note: str
    """An error's message; empty otherwise."""


class _Line(NamedTuple):
    kind: Kind
    server: Server | None
    pattern: re.Pattern[str]
    """Matches the message from its start; groups `value` and `generation` if it has them."""


_GENERATION = r"(?:Gen (?P<generation>\d{1,15})\W+)?"
_NUMBER = r"(?P<value>\d{1,12}(?:\.\d{1,9})?)"

_REALTIMEVOICECHAT: tuple[tuple[Kind, str, str], ...] = (
    (Kind.SERVER_STARTED, "Server starting up", ""),
    (Kind.LOAD_BEGAN, "Creating AudioToTextRecorder", r"\w* with params"),
    (Kind.BOOT_LATENCY, "Full output pipeline latency: ", _NUMBER + "ms"),
    (Kind.CONNECTED, "Client connected via WebSocket", ""),
    (Kind.LEFT, "WebSocket session ended", ""),
    (Kind.SPEECH_BEGAN, "Recording started.", "(?! TTS Client Playing)"),
    (Kind.BARGE_IN, "Recording started.", " TTS Client Playing: True"),
    (Kind.PARTIAL, "Partial transcription: ", ""),
    (Kind.SILENCE, "Silence state changed: ", "ACTIVE"),
    (Kind.VOICE, "Silence state changed: ", "INACTIVE"),
    (Kind.WAIT_SET, "New waiting time: ", r"\s*" + _NUMBER),
    (Kind.WAIT_FLOOR, "Final pause (", r"[\d.]+s\) is less than minimum \(" + _NUMBER + "s"),
    (Kind.ENDPOINT, "Recording stopped.", ""),
    (Kind.TURN_END, "USER TURN END", ""),
    (Kind.CYCLE_ENDED, "Sending of TTS chunks and ", ".*cycle finished"),
    (Kind.DROP, "Audio queue full (", _NUMBER + r"/\d+\); dropping chunk"),
    (Kind.BACKLOG, "Audio queue size exceeds latency limit", r"\. Current size: " + _NUMBER),
)
"""Kind, the words that its message begins with (behind emoji), and the pattern of what follows."""

_REALTIMEVOICECHAT_INNER: tuple[tuple[Kind, str, str], ...] = (
    (Kind.LOAD_ENDED, "instance created successfully", r"AudioToTextRecorder\w* instance created"),
    (Kind.FINAL, "Final user text: ", r"(?:Forced )?Final user text: "),
    (Kind.GENERATION, "Calling LLM generate", _GENERATION + "Calling LLM generate"),
    (
        Kind.FIRST_TOKEN,
        "LLM Worker: TTFT: ",
        _GENERATION + "LLM Worker: TTFT: " + _NUMBER + "s",
    ),
    (
        Kind.FIRST_AUDIO,
        "Quick audio start. TTFA: ",
        _GENERATION + r"Quick audio start\. TTFA: " + _NUMBER + "s",
    ),
    (
        Kind.SLOW_CHUNK,
        "chunk slow (gap=",
        _GENERATION + r"\w+ chunk slow \(gap=" + _NUMBER + "s",
    ),
    (
        Kind.ABORT_BEGAN,
        "Abortion process starting",
        r"(?:Pipeline\W+)?" + _GENERATION + "Abortion process starting",
    ),
    (
        Kind.ABORT_ENDED,
        "Abort processing complete",
        r"(?:Pipeline\W+)?" + _GENERATION + "Abort processing complete",
    ),
)
"""Kind, words somewhere in its message, and the pattern of the message (behind emoji)."""

_WHISPERLIVE: tuple[tuple[Kind, str, str], ...] = (
    (Kind.KNOCKED, "New client connected", ""),
    (Kind.LOAD_BEGAN, "Loading model: ", ""),
    (Kind.CONNECTED, "Running faster_whisper backend", ""),
    (Kind.CONNECTED, "Running TensorRT backend", ""),
    (Kind.CONNECTED, "Running OpenVINO backend", ""),
    (Kind.LEFT, "Cleaning up.", ""),
)

_ANY_SERVER: tuple[tuple[Kind, str, str], ...] = (
    # faster-whisper's own, whoever runs it.
    (Kind.INFERENCE, "Processing audio with duration ", r"(?P<value>(?:\d\d:)?\d\d:\d\d\.\d{3})"),
)

_FAULTS = ("ERRO", "CRIT")
"""Levels of an error, cut to four letters as RealtimeVoiceChat cuts them."""


def _lines_by_marker() -> dict[bytes, list[_Line]]:
    table: dict[bytes, list[_Line]] = defaultdict(list)
    for server, lines in (
        (Server.REALTIMEVOICECHAT, _REALTIMEVOICECHAT),
        (Server.WHISPERLIVE, _WHISPERLIVE),
        (None, _ANY_SERVER),
    ):
        for kind, words, rest in lines:
            pattern = re.compile(r"\W*" + re.escape(words) + rest)
            table[words.encode()].append(_Line(kind, server, pattern))
    for kind, words, whole in _REALTIMEVOICECHAT_INNER:
        pattern = re.compile(r"\W*" + whole)
        table[words.encode()].append(_Line(kind, Server.REALTIMEVOICECHAT, pattern))
    return dict(table)


_LINES = _lines_by_marker()

# All markers begin with few different letters: most positions of most lines are left at a glance.
_ANY_MARKER = re.compile(
    b"|".join(re.escape(marker) for marker in (*_LINES, *(fault.encode() for fault in _FAULTS)))
)

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

_HEADER = re.compile(
    r" *(?:[\w.-]+ +\| +)?"  # docker compose's name of the service
    r"(?:\[?(?P<date>\d{4}-\d\d-\d\d)[T ](?P<time>\d\d:\d\d:\d\d)(?:[.,](?P<fraction>\d{1,9}))?"
    r"(?:Z|[+-]\d\d:?\d\d)?\]? +(?:- )?)?"
    r"(?:\[?(?P<clock>(?:\d\d:)?\d\d:\d\d)(?:[.,](?P<part>\d{1,9}))?\]? +)?"
    r"(?:[\w.-]{1,40}[ :|-]+)?"  # the logger
    r"\[?(?P<level>DEBU|INFO|WARN|ERRO|CRIT)(?:G|ING|R|ICAL)?\]?"
    r"(?::[\w.]+:|[ :|-]+)(?:[\w.-]+(?: - |: ))?"
    r"(?P<message>.*)"
)


def parse_line(raw: bytes) -> Event | None:
    """What a line told; None if nothing that this reader knows.

    >>> line = "59:58.07 transcribe INFO 👂⏳ New waiting time: 0.46 for text: Hello."
    >>> event = parse_line(line.encode())
    >>> event.kind.value, event.value, event.stamp.seconds
    ('wait set', 0.46, 3598.07)
    >>> parse_line(b"Recording stopped.") is None
    True
    """
    marker = _ANY_MARKER.search(raw)
    if marker is None:
        return None
    text = raw.decode("utf-8", "replace")
    header = _HEADER.match(_COLOUR.sub("", text) if "\x1b" in text else text)
    if header is None:
        return None
    if header["level"] in _FAULTS:
        return Event(Kind.ERROR, None, _stamp(header), None, None, header["message"].strip())
    return _told(header, _LINES.get(marker[0], []))


def _told(header: re.Match[str], candidates: list[_Line]) -> Event | None:
    message = header["message"]
    for kind, server, pattern in candidates:
        match = pattern.match(message)
        if match is not None:
            said = match.groupdict() if pattern.groups else {}
            value, generation = said.get("value"), said.get("generation")
            return Event(
                kind,
                server,
                _stamp(header),
                None if value is None else _seconds(value),
                None if generation is None else int(generation),
                "",
            )
    return None


def _seconds(clock: str) -> float:
    """`HH:MM:SS.fff`, `MM:SS.fff` or a plain number."""
    total = 0.0
    for part in clock.split(":"):
        total = 60 * total + float(part)
    return total


def _stamp(header: re.Match[str]) -> Stamp | None:
    if header["date"] is not None:
        fraction = header["fraction"] or ""
        since_day = _seconds(f"{header['time']}.{fraction}")
        return Stamp(DAY_S * _day(header["date"]) + since_day, 0, 10.0 ** -len(fraction))
    clock = header["clock"]
    if clock is None:
        return None
    part = header["part"] or ""
    period_s = HOUR_S if clock.count(":") == 1 else DAY_S
    return Stamp(_seconds(f"{clock}.{part}"), period_s, 10.0 ** -len(part))


@lru_cache(maxsize=8)
def _day(text: str) -> int:
    try:
        return date.fromisoformat(text).toordinal()
    except ValueError:
        # No such day: the stamp still orders lines within it.
        return 0


class LogTime:
    """Stamps that start again each hour or day → seconds since the first one.

    Two lines an hour or more apart, with nothing known between them, look closer than they are.

    >>> time = LogTime()
    >>> [time.seconds(Stamp(s, HOUR_S, 0.01)) for s in (3599.5, 3599.25, 0.5, 3000.5)]
    [0.0, -0.25, 1.0, 3001.0]
    """

    def __init__(self) -> None:
        self._last: Stamp | None = None
        self._now_s = 0.0
        self.resolution_s: float | None = None
        """Seconds: of the coarsest stamp; None before the first."""

    def seconds(self, stamp: Stamp | None) -> float | None:
        """Seconds since the first stamp; None: no stamp, or one of another kind than the first."""
        if stamp is None:
            return None
        last, period_s = self._last, stamp.period_s
        if last is None:
            last = stamp
        elif last.period_s != period_s:
            return None
        step_s = stamp.seconds - last.seconds
        if period_s:
            step_s = (step_s + BACKWARDS_S) % period_s - BACKWARDS_S
        self._last = stamp
        self._now_s += step_s
        self.resolution_s = max(self.resolution_s or 0.0, stamp.resolution_s)
        return self._now_s
