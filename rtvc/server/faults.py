"""Brings faults about: puts them around the server's parts when it is built, and ends them with it.

Where no fault is on, every part is handed back as it came: nothing of this is on anyone's way.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from starlette.types import ASGIApp

from rtvc.clock import Clock, SystemClock
from rtvc.config import Settings
from rtvc.server.faulty_services import (
    HiddenBacklog,
    SlowLanguageModel,
    SlowSynthesizer,
    SlowTurnModel,
    SlowVad,
)
from rtvc.server.inject import FaultName, parse, shown
from rtvc.server.llm import LanguageModel
from rtvc.server.neighbour import Load, Neighbour
from rtvc.server.slow_link import slow_http
from rtvc.server.tts import SpeechSynthesizer
from rtvc.stt.calibration import Tunable
from rtvc.stt.faulty import FaultyTranscriber, Troubles
from rtvc.stt.process_engine import EnginePlan
from rtvc.stt.transcriber import Transcriber
from rtvc.voice.turn_model import TurnModel
from rtvc.voice.vad import VoiceActivityDetector

USUAL_SILENCE_MS = 250
"""What `[turn] silence_ms` starts from where it is not set."""
FREE_S = 0.2
"""How long a blocked event loop goes on between two blocks."""
EXHAUSTED_BYTES = 1_000_000_000
"""Memory taken at most, over all engines."""
ANY_NUMBER = 1024

_TROUBLES = {
    FaultName.MODEL_PER_SESSION: "load_s",
    FaultName.INFERENCE_SLOW: "slower",
    FaultName.PARTIALS_FLOOD: "partial_times",
    FaultName.COLD_START: "cold_s",
    FaultName.THROTTLING: "throttled",
    FaultName.ENGINE_CRASH: "crash_after_s",
    FaultName.ENGINE_HANG: "hang_after_s",
}
"""What is wrong inside the engine's process, and whose amount needs no more than to be told."""


class Faults:
    """Those that are on in one server."""

    def __init__(
        self, amounts: Mapping[FaultName, float] | None = None, clock: Clock | None = None
    ) -> None:
        self.amounts = dict(amounts or {})
        self._clock = clock or SystemClock()
        self._over = threading.Event()
        self._blocking: asyncio.Task[None] | None = None
        self.neighbour = Neighbour()
        self._model: Transcriber | None = None
        self._engines = 1

    @classmethod
    def of(cls, settings: Settings, clock: Clock) -> "Faults":
        """Those that the user asked for.

        Raises:
            UsageError: a fault that there is none of, or an amount that is none.
        """
        return cls(parse(settings.serve.inject), clock)

    @property
    def notices(self) -> list[str]:
        """One line for everyone, if any fault is on."""
        return [f"faults on purpose: {shown(self.amounts)}"] if self.amounts else []

    # Around the server's parts.

    def settings(self, settings: Settings) -> Settings:
        """The settings that the server goes by: some faults are nothing but a bad choice."""
        stt: dict[str, Any] = {}
        turn: dict[str, Any] = {}
        if FaultName.MODEL_PER_SESSION in self.amounts:
            stt["sharing"] = "per-session"
        if FaultName.PARTIALS_FLOOD in self.amounts:
            turn["partials"] = "flat-out"
        if FaultName.TURN_MODEL_SLOW in self.amounts:
            turn["detection"] = "semantic_vad"
        if (waited_ms := self.amounts.get(FaultName.ENDPOINT_WAIT)) is not None:
            set_ms = settings.turn.silence_ms
            turn["silence_ms"] = round(waited_ms) + (USUAL_SILENCE_MS if set_ms is None else set_ms)
        changed = {
            "stt": settings.stt.model_copy(update=stt),
            "turn": settings.turn.model_copy(update=turn),
        }
        settings = settings.model_copy(update=changed) if self.amounts else settings
        copies = {"pool": settings.stt.pool_size, "per-session": settings.serve.max_sessions}
        self._engines = copies.get(settings.stt.sharing, 1)
        return settings

    def plan(self, plan: EnginePlan) -> EnginePlan:
        """What the engine's process runs; called in a thread, before it is started."""
        self._model = plan.transcriber
        if FaultName.SERIALISED_INFERENCE in self.amounts:
            plan = _serialised(plan)
        if FaultName.PARTIALS_FLOOD in self.amounts:
            first = replace(plan.limits, starvation_s=0.0, partial_batches=ANY_NUMBER)
            plan = replace(plan, limits=first)
        troubles = self._troubles()
        if troubles == Troubles():
            return plan
        faulty = FaultyTranscriber(plan.transcriber, troubles, clock=self._clock)
        return replace(plan, transcriber=faulty)

    def llm(self, model: LanguageModel) -> LanguageModel:
        later_s = self.amounts.get(FaultName.SLOW_LLM)
        return model if later_s is None else SlowLanguageModel(model, later_s)

    def tts(self, synthesizer: SpeechSynthesizer) -> SpeechSynthesizer:
        later_s = self.amounts.get(FaultName.SLOW_TTS)
        return synthesizer if later_s is None else SlowSynthesizer(synthesizer, later_s)

    def vad(
        self, new_vad: Callable[[], VoiceActivityDetector]
    ) -> Callable[[], VoiceActivityDetector]:
        work_s_per_s = self.amounts.get(FaultName.AUDIO_BACKLOG)
        if work_s_per_s is None:
            return new_vad
        return lambda: SlowVad(new_vad(), work_s_per_s, self._over.wait)

    def turn_model(self, model: TurnModel | None) -> TurnModel | None:
        longer_s = self.amounts.get(FaultName.TURN_MODEL_SLOW)
        return model if longer_s is None else SlowTurnModel(model, longer_s, self._over.wait)

    def app(self, app: ASGIApp) -> ASGIApp:
        held_s = self.amounts.get(FaultName.HIDDEN_BACKLOG)
        return app if held_s is None else HiddenBacklog(app, held_s, self._clock)

    def http(self, base: Callable[..., asyncio.BaseProtocol]) -> Any:
        """What uvicorn speaks HTTP with; `base` without a fault."""
        delay_ms = self.amounts.get(FaultName.SLOW_NETWORK)
        return base if delay_ms is None else slow_http(delay_ms / 1000, base)

    # Beside them.

    async def start(self, device: str) -> None:
        """Begin what goes on beside the sessions; `device` is where the model runs."""
        threads = self.amounts.get(FaultName.DEVICE_CONTENTION)
        if threads is not None:
            model = self._model if device == "cuda" else None
            await asyncio.to_thread(self.neighbour.start, Load(threads, model))
        blocked_ms = self.amounts.get(FaultName.BLOCKED_LOOP)
        if blocked_ms is not None:
            blocking = self._block(blocked_ms / 1000)
            self._blocking = asyncio.create_task(blocking, name="blocked-loop")

    async def close(self) -> None:
        """End all of it; what holds a thread lets it go."""
        self._over.set()
        if self._blocking is not None:
            self._blocking.cancel()
            await asyncio.wait([self._blocking])
        if self.neighbour.pid is not None:
            await asyncio.to_thread(self.neighbour.stop)

    async def _block(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(FREE_S)
            # On the event loop, on purpose: nothing else of the server goes on meanwhile.
            self._over.wait(seconds)

    def _troubles(self) -> Troubles:
        amounts = self.amounts
        told = {field: amounts[name] for name, field in _TROUBLES.items() if name in amounts}
        grown_mb = self.amounts.get(FaultName.MEMORY_EXHAUSTION)
        troubles = replace(Troubles(), **cast(dict[str, Any], told))
        if grown_mb is None:
            return troubles
        room_bytes = EXHAUSTED_BYTES // self._engines
        return replace(troubles, grow_bytes_per_s=grown_mb * 1e6, room_bytes=room_bytes)


def _serialised(plan: EnginePlan) -> EnginePlan:
    """One inference of one job at a time, whatever else the device could do meanwhile."""
    transcriber, threads = plan.transcriber, plan.threads_per_worker
    if hasattr(transcriber, "tuned"):
        tunable = cast(Tunable, transcriber)
        transcriber = tunable.tuned(workers=1, threads_per_worker=threads, max_batch=1)
    limits = replace(plan.limits, max_batch=1)
    return replace(plan, transcriber=transcriber, workers=1, limits=limits, wish=None)
