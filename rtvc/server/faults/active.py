"""Brings faults about: puts them around the server's parts when it is built, and ends them with it.

Where no fault is on, every part is handed back as it came: nothing of this is on anyone's way.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

from starlette.types import ASGIApp

from rtvc.clock import Clock, SystemClock
from rtvc.config import Settings
from rtvc.server.faults.faulty_services import (
    DownLanguageModel,
    DownSynthesizer,
    GarblingLanguageModel,
    HiddenBacklog,
    SlowLanguageModel,
    SlowSynthesizer,
    SlowTurnModel,
    SlowVad,
)
from rtvc.server.faults.inject import FaultName, Windows, parse, parse_windows, shown
from rtvc.server.faults.neighbour import Load, Neighbour
from rtvc.server.faults.slow_link import Delay, slow_http, spread, stalls, while_on
from rtvc.server.replies.llm import LanguageModel
from rtvc.server.replies.tts import SpeechSynthesizer
from rtvc.stt.calibration import Tunable
from rtvc.stt.faulty import FaultyTranscriber, Troubles
from rtvc.stt.process_engine import EnginePlan
from rtvc.stt.transcriber import Transcriber
from rtvc.stt.window import Origin, Window
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

_TROUBLES_IN = {
    FaultName.INFERENCE_SLOW: "slower_in",
    FaultName.ENGINE_CRASH: "crash_in",
    FaultName.ENGINE_HANG: "hang_in",
    FaultName.DEVICE_OUT_OF_MEMORY: "out_of_memory_in",
}
"""The same of their windows."""


class JumpingClock:
    """The machine's clocks, of which the wall clock is wrong for a while; the other is as ever."""

    def __init__(
        self, inner: Clock, jump_s: float, origin: Origin, window: Window | None = None
    ) -> None:
        self._inner = inner
        self._jump = timedelta(seconds=jump_s)
        self._origin = origin
        self._window = window

    def now(self) -> float:
        return self._inner.now()

    def utc(self) -> datetime:
        utc = self._inner.utc()
        return utc + self._jump if self._origin.within(self._window) else utc


class Faults:
    """Those that are on in one server."""

    def __init__(
        self,
        amounts: Mapping[FaultName, float] | None = None,
        clock: Clock | None = None,
        windows: Windows | None = None,
    ) -> None:
        self.amounts = dict(amounts or {})
        self.windows = dict(windows or {})
        self._clock = clock or SystemClock()
        self._origin = Origin(self._clock)
        self._over = threading.Event()
        self._beside: list[asyncio.Task[None]] = []
        self.neighbour = Neighbour()
        self._model: Transcriber | None = None
        self._engines = 1

    @classmethod
    def of(cls, settings: Settings, clock: Clock) -> "Faults":
        """Those that the user asked for.

        Raises:
            UsageError: a fault that there is none of, or an amount that is none.
        """
        texts = settings.serve.inject
        return cls(parse(texts), clock, parse_windows(texts))

    @property
    def notices(self) -> list[str]:
        """One line for everyone, if any fault is on."""
        return [f"faults on purpose: {shown(self.amounts, self.windows)}"] if self.amounts else []

    def _while_on(self, name: FaultName) -> Callable[[], bool]:
        """Whether it is on at that moment."""
        window = self.windows.get(name)
        return lambda: self._origin.within(window)

    # Around the server's parts.

    def clock(self, clock: Clock) -> Clock:
        """The clock that the server goes by."""
        jump_s = self.amounts.get(FaultName.CLOCK_JUMP)
        if jump_s is None:
            return clock
        return JumpingClock(clock, jump_s, self._origin, self.windows.get(FaultName.CLOCK_JUMP))

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
        faulty = FaultyTranscriber(
            plan.transcriber, troubles, clock=self._clock, origin=self._origin
        )
        return replace(plan, transcriber=faulty)

    def llm(self, model: LanguageModel) -> LanguageModel:
        later_s = self.amounts.get(FaultName.SLOW_LLM)
        if later_s is not None:
            model = SlowLanguageModel(model, later_s, self._while_on(FaultName.SLOW_LLM))
        if FaultName.LLM_GARBAGE in self.amounts:
            model = GarblingLanguageModel(model, self._while_on(FaultName.LLM_GARBAGE))
        if FaultName.LLM_DOWN in self.amounts:
            model = DownLanguageModel(model, self._while_on(FaultName.LLM_DOWN))
        return model

    def tts(self, synthesizer: SpeechSynthesizer) -> SpeechSynthesizer:
        later_s = self.amounts.get(FaultName.SLOW_TTS)
        if later_s is not None:
            is_on = self._while_on(FaultName.SLOW_TTS)
            synthesizer = SlowSynthesizer(synthesizer, later_s, is_on)
        if FaultName.TTS_DOWN in self.amounts:
            synthesizer = DownSynthesizer(synthesizer, self._while_on(FaultName.TTS_DOWN))
        return synthesizer

    def vad(
        self, new_vad: Callable[[], VoiceActivityDetector]
    ) -> Callable[[], VoiceActivityDetector]:
        work_s_per_s = self.amounts.get(FaultName.AUDIO_BACKLOG)
        if work_s_per_s is None:
            return new_vad
        is_on = self._while_on(FaultName.AUDIO_BACKLOG)
        return lambda: SlowVad(new_vad(), work_s_per_s, self._over.wait, is_on)

    def turn_model(self, model: TurnModel | None) -> TurnModel | None:
        longer_s = self.amounts.get(FaultName.TURN_MODEL_SLOW)
        return model if longer_s is None else SlowTurnModel(model, longer_s, self._over.wait)

    def app(self, app: ASGIApp) -> ASGIApp:
        held_s = self.amounts.get(FaultName.HIDDEN_BACKLOG)
        if held_s is None:
            return app
        return HiddenBacklog(app, held_s, self._clock, self._while_on(FaultName.HIDDEN_BACKLOG))

    def http(self, base: Callable[..., asyncio.BaseProtocol]) -> Any:
        """What uvicorn speaks HTTP with; `base` without a fault."""
        delays: list[Delay] = []
        if (late_ms := self.amounts.get(FaultName.SLOW_NETWORK)) is not None:
            late = spread(late_ms / 1000)
            delays.append(while_on(late, self._while_on(FaultName.SLOW_NETWORK)))
        if (lost := self.amounts.get(FaultName.RETRANSMISSION_STALLS)) is not None:
            stalled = stalls(lost / 100)
            delays.append(while_on(stalled, self._while_on(FaultName.RETRANSMISSION_STALLS)))
        if not delays:
            return base
        return slow_http(lambda rng: sum(delay(rng) for delay in delays), base)

    # Beside them.

    async def start(self, device: str) -> None:
        """Begin what goes on beside the sessions; `device` is where the model runs."""
        self._origin.begin()
        threads = self.amounts.get(FaultName.DEVICE_CONTENTION)
        if threads is not None:
            model = self._model if device == "cuda" else None
            await self._contend(Load(threads, model))
        blocked_ms = self.amounts.get(FaultName.BLOCKED_LOOP)
        if blocked_ms is not None:
            self._run_beside(self._block(blocked_ms / 1000), "blocked-loop")

    async def close(self) -> None:
        """End all of it; what holds a thread lets it go."""
        self._over.set()
        for task in self._beside:
            task.cancel()
        if self._beside:
            await asyncio.wait(self._beside)
        if self.neighbour.pid is not None:
            await asyncio.to_thread(self.neighbour.stop)

    def _run_beside(self, job: Coroutine[Any, Any, None], name: str) -> None:
        self._beside.append(asyncio.create_task(job, name=name))

    async def _contend(self, load: Load) -> None:
        window = self.windows.get(FaultName.DEVICE_CONTENTION)
        if window is None:
            await asyncio.to_thread(self.neighbour.start, load)
        else:
            self._run_beside(self._contend_for_a_while(load, window), "device-contention")

    async def _contend_for_a_while(self, load: Load, window: Window) -> None:
        await asyncio.sleep(window.begin_s)
        await asyncio.to_thread(self.neighbour.start, load)
        if window.length_s is not None:
            await asyncio.sleep(window.length_s)
            await asyncio.to_thread(self.neighbour.stop)

    async def _block(self, seconds: float) -> None:
        is_on = self._while_on(FaultName.BLOCKED_LOOP)
        while True:
            await asyncio.sleep(FREE_S)
            if is_on():
                # On the event loop, on purpose: nothing else of the server goes on meanwhile.
                self._over.wait(seconds)

    def _troubles(self) -> Troubles:
        amounts = self.amounts
        told = {field: amounts[name] for name, field in _TROUBLES.items() if name in amounts}
        when = {f: self.windows[name] for name, f in _TROUBLES_IN.items() if name in self.windows}
        grown_mb = self.amounts.get(FaultName.MEMORY_EXHAUSTION)
        exhausted = FaultName.DEVICE_OUT_OF_MEMORY in amounts
        troubles = replace(Troubles(), **cast(dict[str, Any], {**told, **when}))
        troubles = replace(troubles, out_of_memory=exhausted)
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
