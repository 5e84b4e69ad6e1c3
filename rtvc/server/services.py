"""What all sessions share."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from rtvc.clock import Clock, SystemClock
from rtvc.config import Settings, TurnSettings
from rtvc.instruments.event_loop import LoopLag
from rtvc.instruments.otel import TurnTraces
from rtvc.protocol.realtime import TurnTimings
from rtvc.server.access.guard import Access
from rtvc.server.cloud.presence import Presence
from rtvc.server.faults.active import Faults
from rtvc.server.hearing import Hearing
from rtvc.server.measuring.metrics import Metrics
from rtvc.server.readiness import Readiness
from rtvc.server.replies.apology import Apology
from rtvc.server.replies.llm import LanguageModel
from rtvc.server.replies.replying import Breakers, ReplyParts, new_breakers, outages
from rtvc.server.replies.tts import SpeechSynthesizer
from rtvc.stt import synthetic
from rtvc.stt.files import FileEngine
from rtvc.stt.transcriber import Engine
from rtvc.voice.admission import Admission
from rtvc.voice.turn_model import TurnModel
from rtvc.voice.vad import VoiceActivityDetector

TEXTLESS_SILENCE_MS = 300
"""Silence that ends a turn when no text tells whether it goes on; 250 would end 3 % of them early
(`docs/measurements.md`, "Turn ends")."""


def _breakers() -> Breakers:
    """Of services without guards: nothing is ever out."""
    return new_breakers(SystemClock(), Metrics())


class OpenSession(Protocol):
    """A session as /v1/sessions shows it, and as it can be ended."""

    @property
    def replies(self) -> frozenset[asyncio.Task[None]]:
        """Those that are being made now."""

    @property
    def idle_s(self) -> float:
        """Seconds since its client last sent anything."""

    @property
    def silent(self) -> bool:
        """Whether its client has sent nothing since it was opened."""

    @property
    def ending(self) -> bool:
        """Whether it was told to end."""

    def busy(self, now_s: float) -> bool:
        """Whether someone speaks, a transcript is owed, or a reply is made or played."""

    def end(self, code: int, reason: str, *, after_final: bool = True) -> None:
        """Close it with this code and reason; `after_final`: once what was said so far has been
        committed and its final sent, however long that takes."""

    def describe(self, now_s: float) -> dict[str, Any]:
        """JSON-able; no text and no audio of anyone."""


@dataclass(slots=True)
class Services:
    """Built once at start-up, handed to every session."""

    settings: Settings
    """Frozen; a reload puts others in their place. What a session goes by it takes at its start."""
    clock: Clock
    """The server's clock."""
    engine: Engine
    """The one shared speech-to-text engine."""
    new_vad: Callable[[], VoiceActivityDetector]
    """A detector with a state of its own, over shared weights."""
    llm: LanguageModel
    """Writes replies."""
    tts: SpeechSynthesizer
    """Speaks them."""
    readiness: Readiness
    """What is still loading."""
    admission: Admission
    """Slots for sessions."""
    hearing: Hearing
    """Where audio is decoded, resampled and judged."""
    loop_lag: LoopLag
    """How late the event loop wakes."""
    metrics: Metrics = field(default_factory=Metrics)
    """What /metrics shows."""
    traces: TurnTraces | None = None
    """Turns for an OpenTelemetry collector; None: nobody asked for them."""
    files: FileEngine | None = None
    """Transcribes whole files; None: not offered."""
    turn_model: TurnModel | None = None
    """Judges pauses for `semantic_vad`; None: there is none."""
    no_turn_model: str | None = None
    """Why there is none, in one line; None: there is one, or none was looked for."""
    notices: list[str] = field(default_factory=list)
    """What everyone should know about this server, beside what the engine says of itself."""
    faults: Faults = field(default_factory=Faults)
    """Brought about on purpose; usually none."""
    access: Access = field(default_factory=Access)
    """Who may come in; unless told otherwise, everyone."""
    breakers: Breakers = field(default_factory=_breakers)
    """Whether the language model or the synthesizer is out."""
    spare_voice: SpeechSynthesizer | None = None
    """Speaks what `tts` cannot; None: there is none."""
    cloud: Presence | None = None
    """What a cloud is told of this server; None: it runs in none that it knows of."""
    sessions: dict[str, OpenSession] = field(default_factory=dict)
    """Open sessions by id."""

    @property
    def instruments(self) -> bool:
        """Whether the server measures itself."""
        return self.settings.serve.instruments

    def turn_timed(self, session_id: str, timings: TurnTimings, *, replying: bool) -> None:
        """A turn has its transcript, or its reply's first audio; `replying`: the latter follows."""
        self.metrics.turn(timings)
        if self.traces is not None:
            self.traces.turn(session_id, timings, replying=replying)

    @property
    def turn(self) -> TurnSettings:
        """When turns end: synthetic weights write no text that could prolong one."""
        turn = self.settings.turn
        if turn.silence_ms is not None or self.engine.status.model_kind != synthetic.KIND:
            return turn
        return turn.model_copy(update={"silence_ms": TEXTLESS_SILENCE_MS})

    @property
    def notice(self) -> str | None:
        """What everyone should know, such as a fallback engine, in one line; None: nothing."""
        lines = (self.engine.status.notice, *self.notices, *outages(self.reply_parts))
        return "; ".join(filter(None, lines)) or None

    @property
    def reply_parts(self) -> ReplyParts:
        """What the next reply is made with."""
        llm = self.settings.llm
        apology = Apology(llm.apology, llm.broken_off)
        return ReplyParts(self.llm, self.tts, self.breakers, apology, self.spare_voice)
