"""Logs of RealtimeVoiceChat and WhisperLive, written from their documented lines at known times.

Every instant is drawn at random and kept, so that a reader of the log can be held to it. Names of
figures recur here on purpose: nothing is imported from rtvc, so that no mistake there is repeated.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

BEGIN = datetime(2026, 11, 22, 14, 58, 30, 123456, UTC)
"""Shortly before an hour, so that hour-less stamps wrap soon."""

Stamper = Callable[[float], str]
"""Seconds since the log's beginning → what stands before a line."""


def _at(second_s: float) -> datetime:
    return BEGIN + timedelta(seconds=second_s)


def hourless(at_s: float) -> str:
    """As RealtimeVoiceChat writes: hundredths, cut off."""
    at = _at(at_s)
    return f"{at:%M:%S}.{at.microsecond // 10_000:02} "


def hourless_ms(at_s: float) -> str:
    at = _at(at_s)
    return f"{at:%M:%S}.{at.microsecond // 1000:03} "


def whole_seconds(at_s: float) -> str:
    return f"{_at(at_s):%Y-%m-%d %H:%M:%S} "


def asctime(at_s: float) -> str:
    at = _at(at_s)
    return f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03} "


def docker(at_s: float) -> str:
    at = _at(at_s)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06}789Z {hourless(at_s)}"


def docker_alone(at_s: float) -> str:
    at = _at(at_s)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06}789Z "


def compose(at_s: float) -> str:
    return f"voice-app-1  | {docker(at_s)}"


def timeless(_: float) -> str:
    return ""


RESOLUTIONS_S: dict[Stamper, float] = {
    hourless: 0.01,
    hourless_ms: 0.001,
    whole_seconds: 1.0,
    asctime: 0.001,
    docker: 0.001,
    compose: 0.001,
}
"""Stamps → within how many seconds a duration must be right; never below 1 ms."""

NOISE = (
    '    "model": "base.en",',
    "\x1b[35mHOT\x1b[0m",
    "COLD (during silence)",
    "",
    "Traceback (most recent call last):",
    '  File "/app/code/server.py", line 617, in on_partial',
    "RuntimeError: Recording stopped.",
    "🖥️✅ FINAL USER REQUEST (STT Callback): Recording started.",
    'INFO:     172.18.0.1:51234 - "WebSocket /ws" [accepted]',
    "\x1b[34m",
    "Silence state changed: ACTIVE",
)
"""Lines without a level or a meaning, in between."""

WORDS = (
    "Hello",
    "there.",
    "What",
    "is",
    "the",
    "time?",
    "Recording stopped.",
    "ERROR",
    "naïve",
    "…",
)


@dataclass(frozen=True)
class TurnTruth:
    """What happened in one turn, in seconds."""

    speech_end_s: float
    endpoint_s: float
    final_s: float
    audio_s: float
    policy_wait_s: float
    ttft_s: float
    ttfa_s: float
    partials_s: tuple[float, ...]

    @property
    def total_s(self) -> float:
        return max(self.audio_s, self.endpoint_s) - self.speech_end_s


@dataclass
class Truth:
    """What happened in all."""

    turns: list[TurnTruth] = field(default_factory=list)
    ttfts_s: list[float] = field(default_factory=list)
    """Of all answers, those thrown away among them."""
    loads_s: list[float] = field(default_factory=list)
    aborts_s: list[float] = field(default_factory=list)
    wasted: int = 0
    drops: int = 0
    queue_lengths: list[int] = field(default_factory=list)
    errors: int = 0
    last_s: float = 0.0

    @property
    def partial_gaps_s(self) -> list[float]:
        return [
            later - earlier
            for turn in self.turns
            for earlier, later in zip(turn.partials_s, turn.partials_s[1:], strict=False)
        ]


class LogWriter:
    """Collects lines, puts them in order, writes them with any stamp."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.truth = Truth()
        self._lines: list[tuple[float, int, str, str, str]] = []

    def line(self, at_s: float, logger: str, message: str, level: str = "INFO") -> None:
        self._lines.append((at_s, len(self._lines), logger, level, message))
        self.truth.last_s = max(self.truth.last_s, at_s)

    def words(self) -> str:
        return " ".join(self.random.choices(WORDS, k=self.random.randint(1, 9)))

    def realtimevoicechat(
        self, stamp: Stamper = hourless, *, colours: bool = True, noise: bool = True
    ) -> bytes:
        """The log: stderr and stdout together."""
        written = []
        for at_s, _, logger, level, message in sorted(self._lines):
            written.append(_coloured(stamp(at_s), logger, level, message, colours))
            if noise and self.random.random() < 0.3:
                written.append(self.random.choice(NOISE))
        return ("\n".join(written) + "\n").encode()

    def whisperlive(self, stamp: Stamper = timeless) -> bytes:
        lines = [
            f"{stamp(at_s)}{'INFO' if level == 'INFO' else level}:{logger}:{message}"
            for at_s, _, logger, level, message in sorted(self._lines)
        ]
        return ("\n".join(lines) + "\n").encode()


def _coloured(stamp: str, logger: str, level: str, message: str, colours: bool) -> str:
    logger, level = f"{logger:<10.10}", f"{level:<4.4}"
    if not colours:
        return f"{stamp}{logger} {level} {message}"
    level = f"\x1b[92m\x1b[1m{level}\x1b[0m"
    return f"{_blue(stamp)} \x1b[90m{logger}\x1b[0m {level} \x1b[0m{message}\x1b[0m"


def _blue(stamp: str) -> str:
    """The server colours its own stamp, not docker's before it."""
    before, own = (
        stamp.rstrip().rpartition(" ")[::2] if stamp.count(" ") > 1 else ("", stamp.strip())
    )
    return f"{before} \x1b[94m{own}\x1b[0m" if before else f"\x1b[94m{own}\x1b[0m"


# RealtimeVoiceChat.


def boot(writer: LogWriter, at_s: float = 0.0) -> float:
    """A start of the server; when it is up."""
    writer.line(at_s, "server", "🖥️▶️ Server starting up")
    writer.line(
        at_s + 1,
        "speech_pipeline_manager",
        "🗣️⏱️ Full output pipeline latency: 812.50ms (LLM: 500.25ms, TTS: 312.25ms)",
    )
    return load(writer, at_s + 1.5)


def load(writer: LogWriter, at_s: float) -> float:
    """A recorder is made; when it is there."""
    took_s = writer.random.uniform(2, 9)
    writer.line(at_s, "transcribe", "👂⚙️ Creating AudioToTextRecorder with params:")
    writer.line(
        at_s + took_s, "transcribe", "👂✅ AudioToTextRecorder instance created successfully."
    )
    writer.truth.loads_s.append(took_s)
    return at_s + took_s


def connect(writer: LogWriter, at_s: float) -> None:
    writer.line(at_s, "server", "🖥️✅ Client connected via WebSocket.")


def leave(writer: LogWriter, at_s: float) -> None:
    writer.line(at_s, "server", "🖥️🧹 Cleaning up WebSocket tasks...")
    writer.line(at_s + 0.002, "server", "🖥️❌ WebSocket session ended.")


def one_turn(writer: LogWriter, at_s: float, answer: int) -> float:
    """One turn that begins at `at_s`, answered by number `answer`; when it is over."""
    draw = writer.random.uniform
    speech_end_s = at_s + draw(1.5, 6)
    endpoint_s = speech_end_s + draw(0.3, 2)
    _speech(writer, at_s, speech_end_s)
    partials_s = _partials(writer, at_s, speech_end_s)
    policy_wait_s = round(draw(0.11, 4.1), 2)
    writer.line(
        speech_end_s + 0.01,
        "transcribe",
        f"👂⏳ \x1b[90mNew waiting time: \x1b[0m\x1b[93m{policy_wait_s:.2f}\x1b[0m for text: Hi.",
    )
    asked_s = speech_end_s + draw(0.05, 0.2)
    ttft_s, audio_s, ttfa_s = _answer(writer, asked_s, answer)
    final_s = endpoint_s + draw(0.05, 1.5)
    _ending(writer, endpoint_s, final_s)
    over_s = max(final_s, audio_s, endpoint_s) + draw(0.2, 3)
    writer.line(
        over_s,
        "server",
        "🖥️🏁 Sending of TTS chunks and 'user request/assistant answer' cycle finished.",
    )
    writer.truth.turns.append(
        TurnTruth(
            speech_end_s, endpoint_s, final_s, audio_s, policy_wait_s, ttft_s, ttfa_s, partials_s
        )
    )
    return over_s


def _speech(writer: LogWriter, begin_s: float, end_s: float) -> None:
    writer.line(begin_s, "transcribe", "👂▶️ Recording started.")
    writer.line(begin_s + 0.001, "transcribe", "👂🤫 Silence state changed: INACTIVE")
    writer.line(
        begin_s + 0.002,
        "server",
        "\x1b[33m🖥️🎙️ Recording started.\x1b[0m TTS Client Playing: False",
    )
    if writer.random.random() < 0.5:
        pause_s = begin_s + (end_s - begin_s) * 0.4
        writer.line(pause_s, "transcribe", "👂🤫 Silence state changed: ACTIVE")
        writer.line(pause_s + 0.2, "transcribe", "👂🤫 Silence state changed: INACTIVE")
    writer.line(end_s, "transcribe", "👂🤫 Silence state changed: ACTIVE")


def _partials(writer: LogWriter, begin_s: float, end_s: float) -> tuple[float, ...]:
    instants, at_s = [], begin_s + 0.3
    while at_s < end_s:
        said = writer.words()
        instants.append(at_s)
        writer.line(at_s, "transcribe", f"👂📝 Partial transcription: \x1b[96m{said}\x1b[0m")
        sent = {"type": "partial_user_request", "content": said}
        writer.line(at_s + 0.001, "server", f"🖥️📤 →→Client: {sent}")
        writer.line(at_s + 0.003, "turndetect", f"🎤📥 Queuing text for pause calculation: {said}")
        at_s += writer.random.uniform(0.04, 0.9)
    return tuple(instants)


def _answer(writer: LogWriter, asked_s: float, number: int) -> tuple[float, float, float]:
    """TTFT, instant of the first audio, TTFA."""
    draw = writer.random.uniform
    tag = f"[Gen {number}]"
    ttft_s, ttfa_s = round(draw(0.05, 2.5), 4), round(draw(0.05, 0.9), 2)
    tts_s = asked_s + ttft_s + draw(0.02, 0.3)
    audio_s = tts_s + ttfa_s
    pipeline, audio = "speech_pipeline_manager", "audio_module"
    writer.line(asked_s, pipeline, f"🗣️🧠🚀 {tag} Calling LLM generate...")
    writer.line(asked_s + ttft_s, pipeline, f"🗣️🧠⏱️ {tag} LLM Worker: TTFT: {ttft_s:.4f}s")
    writer.line(
        tts_s - 0.01, pipeline, f"🗣️🧠✔️ {tag} LLM Worker:  QUICK ANSWER FOUND: Hi, overhang: "
    )
    writer.line(tts_s, audio, f"👄▶️ {tag} Quick Starting synthesis. Text: Hi...")
    writer.line(audio_s, audio, f"👄🚀 {tag} Quick audio start. TTFA: {ttfa_s:.2f}s. Text: Hi...")
    writer.truth.ttfts_s.append(ttft_s)
    return ttft_s, audio_s, ttfa_s


def wasted_answer(writer: LogWriter, at_s: float, number: int) -> None:
    """One that is prepared and thrown away while the person still speaks."""
    tag, pipeline = f"[Gen {number}]", "speech_pipeline_manager"
    took_s = writer.random.uniform(0.01, 0.4)
    writer.line(at_s, pipeline, f"🗣️🧠🚀 {tag} Calling LLM generate...")
    writer.line(at_s + 0.1, pipeline, f"🗣️🧠⏱️ {tag} LLM Worker: TTFT: 0.0987s")
    writer.line(at_s + 0.2, pipeline, f"🗣️🛑🚀 {tag} Abortion process starting...")
    writer.line(at_s + 0.2 + took_s, pipeline, f"🗣️🛑✅ {tag} Abort processing complete.")
    writer.truth.ttfts_s.append(0.0987)
    writer.truth.aborts_s.append(took_s)
    writer.truth.wasted += 1


def _ending(writer: LogWriter, endpoint_s: float, final_s: float) -> None:
    writer.line(endpoint_s, "transcribe", "👂⏹️ Recording stopped.")
    rule = "=" * 19
    writer.line(endpoint_s + 0.001, "server", f"\x1b[37m🖥️🏁 {rule} USER TURN END {rule}\x1b[0m")
    writer.line(
        final_s,
        "transcribe",
        f"👂✅ \x1b[92mFinal user text: \x1b[0m \x1b[93m{writer.words()}\x1b[0m",
    )


def queue_full(writer: LogWriter, at_s: float) -> None:
    writer.line(
        at_s, "server", "🖥️⚠️ Audio queue full (50/50); dropping chunk. Possible lag.", "WARNING"
    )
    writer.truth.drops += 1
    length = writer.random.randint(501, 900)
    writer.line(
        at_s,
        "root",
        f"Audio queue size exceeds latency limit. Current size: {length}. "
        "Discarding old audio chunks.",
        "WARNING",
    )
    writer.truth.queue_lengths.append(length)


def fault(writer: LogWriter, at_s: float) -> None:
    writer.line(at_s, "server", "🖥️💥 RUNTIME_ERROR in send_tts_chunks: closed", "ERROR")
    writer.truth.errors += 1


def one_speaker(seed: int, turns: int) -> LogWriter:
    """A server's start, one client, and its turns, hours of them."""
    writer = LogWriter(seed)
    at_s = boot(writer) + 1
    connect(writer, at_s)
    answer = 0
    for number in range(turns):
        at_s += writer.random.uniform(1, 40) if number % 10 else writer.random.uniform(1500, 2900)
        if writer.random.random() < 0.3:
            answer += 1
            # Behind the first words of the turn that follows.
            wasted_answer(writer, at_s + 0.05, answer)
        answer += 1
        at_s = one_turn(writer, at_s, answer)
        if writer.random.random() < 0.2:
            queue_full(writer, at_s + 0.1)
        if writer.random.random() < 0.1:
            fault(writer, at_s + 0.2)
    leave(writer, at_s + 1)
    return writer


# WhisperLive.


@dataclass
class WhisperLiveTruth:
    """What happened at a WhisperLive server with one client after the other."""

    readies_s: list[float] = field(default_factory=list)
    loads_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    audio_s: list[float] = field(default_factory=list)


def whisperlive_session(
    writer: LogWriter, truth: WhisperLiveTruth, at_s: float, inferences: int
) -> float:
    """One client, which loads its own model; when it has left."""
    draw = writer.random.uniform
    load_s, knock_s = at_s + draw(0.1, 0.3), at_s
    ready_s = load_s + draw(0.5, 6)
    writer.line(knock_s, "root", "New client connected")
    writer.line(load_s, "root", "Loading model: small.en")
    writer.line(ready_s, "root", "Running faster_whisper backend.")
    truth.readies_s.append(ready_s - knock_s)
    truth.loads_s.append(ready_s - load_s)
    at_s, last_s = ready_s, None
    for _ in range(inferences):
        at_s += draw(0.2, 2)
        audio_s = round(draw(1, 29), 3)
        clock = f"{int(audio_s // 60):02}:{audio_s % 60:06.3f}"
        writer.line(at_s, "faster_whisper", f"Processing audio with duration {clock}")
        truth.audio_s.append(audio_s)
        if last_s is not None:
            truth.gaps_s.append(at_s - last_s)
        last_s = at_s
    writer.line(at_s + 0.5, "root", "Connection closed by client")
    writer.line(at_s + 0.6, "root", "Cleaning up.")
    return at_s + 0.7
