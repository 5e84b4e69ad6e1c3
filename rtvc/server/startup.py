"""From settings to a running server: build the services, load and warm them, serve, stop."""

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from types import FrameType
from typing import Any

import httpx
import numpy as np
import uvicorn

from rtvc.clock import Clock
from rtvc.config import LlmSettings, ServeSettings, Settings, SttSettings, TtsSettings
from rtvc.errors import ModelError, RtvcError, UsageError
from rtvc.instruments.event_loop import LoopLag
from rtvc.instruments.otel import TurnTraces, open_traces
from rtvc.server.app import build_app
from rtvc.server.faults import Faults
from rtvc.server.hearing import Hearing
from rtvc.server.llm import LanguageModel, OpenAiLanguageModel, ScriptedLanguageModel
from rtvc.server.metrics import Metrics, NoMetrics
from rtvc.server.readiness import Readiness
from rtvc.server.services import Services
from rtvc.server.sockets import BoundedSocket
from rtvc.server.tls import CertificateFiles
from rtvc.server.tts import EspeakSynthesizer, OpenAiSynthesizer, SpeechSynthesizer
from rtvc.stt.engine import build_engine
from rtvc.stt.files import FileEngine
from rtvc.stt.models import ALIASES, CATALOGUE, resolve_model
from rtvc.stt.preflight import check_model
from rtvc.stt.transcriber import EngineStatus
from rtvc.voice.admission import Admission
from rtvc.voice.silero import SileroModel
from rtvc.voice.turn_model import LONGEST_S, load_smart_turn
from rtvc.voice.vad import FRAME_SAMPLES, SAMPLE_RATE_HZ, VoiceActivityDetector

_LOOK_S = 3.0
"""A service elsewhere that has not answered by then is taken for absent."""
STT, VAD, TTS, LLM = "speech-to-text", "voice activity", "speech synthesis", "language model"
_WS_MAX_BYTES = 21 * 1024 * 1024
"""15 MiB of audio as base64, with the JSON around it."""
_STOPPING = (signal.SIGINT, signal.SIGTERM)
_TASK_STATES: dict[str, Any] = {
    "starting": "waiting",
    "loading": "loading",
    "warming": "warming",
    "ready": "ready",
    "restarting": "ready",
    "failed": "failed",
    "closed": "failed",
}


class StopSignals:
    """SIGINT and SIGTERM, while entered: they stop the server, however early they come."""

    def __init__(self) -> None:
        self._server: uvicorn.Server | None = None
        self._early: list[int] = []
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._came) for number in _STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop(self, server: uvicorn.Server) -> None:
        """From now on a signal stops `server`, as do those that came already."""
        self._server = server
        for number in self._early:
            server.handle_exit(number, None)

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self._server is None:
            self._early.append(number)
        else:
            self._server.handle_exit(number, frame)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        UsageError: the address can't be had; says why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except (OSError, UnicodeError) as error:
        listening.close()
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        hint = "choose another port with --port, or 0 for any free one"
        if getattr(error, "errno", None) != errno.EADDRINUSE:
            hint = "see --host and --port"
        raise UsageError(f"cannot listen on {host}:{port}: {reason}; {hint}") from None
    listening.setblocking(False)
    return listening


def build_services(settings: Settings, clock: Clock) -> Services:
    """Everything that sessions share, not yet loaded.

    Raises:
        ModelError: the named model can't be found.
        UsageError: a fault was asked for that there is none of, or traces that cannot be sent.
    """
    faults = Faults.of(settings, clock)
    settings = faults.settings(settings)
    stt = settings.stt
    _check_model(stt.model)
    metrics = Metrics() if settings.serve.instruments else NoMetrics()
    engine = build_engine(
        stt.model,
        device=stt.device,
        compute_type=stt.compute_type,
        beam_size=stt.beam_size,
        workers=stt.workers,
        threads_per_worker=stt.threads_per_worker,
        max_batch=stt.max_batch,
        sharing=stt.sharing,
        pool_size=stt.pool_size,
        encoder_context=stt.encoder_context,
        delay_target_s=stt.delay_target_ms / 1000,
        change_plan=faults.plan,
        clock=clock,
    )
    return Services(
        settings=settings,
        clock=clock,
        engine=engine,
        new_vad=_vad_before_it_is_loaded,
        llm=faults.llm(_language_model(settings.llm, clock)),
        tts=faults.tts(_synthesizer(settings.tts)),
        readiness=Readiness(STT, VAD, TTS, LLM),
        admission=Admission(settings.serve.max_sessions),
        hearing=Hearing(clock),
        loop_lag=LoopLag(clock, on_lag=metrics.lagged),
        metrics=metrics,
        faults=faults,
        notices=faults.notices,
        files=FileEngine(device=stt.device, compute_type=stt.compute_type, clock=clock),
        # Last: it starts a thread.
        traces=_traces(settings.serve, clock),
    )


def _traces(settings: ServeSettings, clock: Clock) -> TurnTraces | None:
    if settings.otel_endpoint is None:
        return None
    if not settings.instruments:
        raise UsageError("expected one of --otel-endpoint and --no-instruments, got both")
    return open_traces(settings.otel_endpoint.get_secret_value(), clock)


def check_speech_to_text(stt: SttSettings) -> None:
    """What can be known without loading the model: quick, and before the port opens.

    Raises:
        ModelError: the model's files, the device, the compute type or the memory won't do.
    """
    copies = stt.pool_size if stt.sharing == "pool" else 1
    check_model(stt.model, device=stt.device, compute_type=stt.compute_type, copies=copies)


def _check_model(name: str | None) -> None:
    """What needs no network is found out before anything is started."""
    if name is not None and ALIASES.get(name, name) not in CATALOGUE:
        resolve_model(name, offline=True)


def _vad_before_it_is_loaded() -> VoiceActivityDetector:
    raise RtvcError("no session starts before voice activity detection is loaded")


def _language_model(settings: LlmSettings, clock: Clock) -> LanguageModel:
    if settings.backend == "openai":
        key = settings.api_key.get_secret_value() if settings.api_key else None
        return OpenAiLanguageModel(settings.url, settings.model, key, settings.timeout_s)
    return ScriptedLanguageModel(
        ttft_s=settings.scripted_ttft_s,
        tokens_per_s=settings.scripted_tokens_per_s,
        clock=clock,
    )


def _synthesizer(settings: TtsSettings) -> SpeechSynthesizer:
    if settings.backend == "openai":
        key = settings.api_key.get_secret_value() if settings.api_key else None
        return OpenAiSynthesizer(settings.url, settings.model, settings.voice or "alloy", key)
    synthesizer = EspeakSynthesizer(settings.voice or "en-us")
    if not synthesizer.has_voice(settings.voice):
        raise UsageError(
            f"--voice: expected an espeak-ng voice such as en-us+f3, got {settings.voice!r}"
        )
    return synthesizer


async def prepare(services: Services) -> None:
    """Load and warm everything, side by side.

    Raises:
        ModelError: the model can't be had.
    """
    async with asyncio.TaskGroup() as group:
        group.create_task(_prepare_stt(services))
        group.create_task(_prepare_vad(services))
        group.create_task(_prepare_tts(services))
        group.create_task(_prepare_llm(services))


async def _prepare_stt(services: Services) -> None:
    readiness = services.readiness

    def follow(status: EngineStatus) -> None:
        readiness.restarting = status.state == "restarting"
        readiness.update(STT, _TASK_STATES[status.state], status.progress, status.detail)

    services.engine.on_status(follow)
    await services.engine.start()
    follow(services.engine.status)


async def _prepare_vad(services: Services) -> None:
    services.readiness.update(VAD, "loading", 0.0, "Silero VAD")
    model = await asyncio.to_thread(SileroModel)
    services.readiness.update(VAD, "warming", 0.5, "Silero VAD")
    silence = np.zeros((4, FRAME_SAMPLES), np.float32)
    await asyncio.to_thread(model.session().probabilities, silence)
    services.new_vad = services.faults.vad(model.session)
    services.readiness.update(VAD, "warming", 0.7, "Silero VAD; turn model")
    await _prepare_turn_model(services)
    services.turn_model = services.faults.turn_model(services.turn_model)
    judge = "" if services.turn_model is None else f"; {services.turn_model.name}"
    services.readiness.update(VAD, "ready", 1.0, f"Silero VAD{judge}")


async def _prepare_turn_model(services: Services) -> None:
    """It is an extra: without it `semantic_vad` falls back to fixed silences, and says so."""
    try:
        model = await asyncio.to_thread(load_smart_turn)
        silence = np.zeros(LONGEST_S * SAMPLE_RATE_HZ, np.float32)
        await asyncio.to_thread(model.completeness, silence)
    except ModelError as error:
        services.no_turn_model = str(error)
    else:
        services.turn_model = model


async def _prepare_tts(services: Services) -> None:
    name = services.tts.name
    if services.settings.tts.backend == "espeak":
        services.readiness.update(TTS, "warming", 0.5, name)
        async with aclosing(services.tts.synthesize("ready.", voice=None, speed=1.0)) as pieces:
            async for _ in pieces:
                break
    else:
        await _look_for(services, "speech synthesizer", services.settings.tts.url)
    services.readiness.update(TTS, "ready", 1.0, name)


async def _prepare_llm(services: Services) -> None:
    settings = services.settings.llm
    if settings.backend == "openai":
        await _look_for(services, "language model", settings.url)
    services.readiness.update(LLM, "ready", 1.0, services.llm.name)


async def _look_for(services: Services, what: str, url: str) -> None:
    """A service elsewhere may come up later, so its absence is noted and stops nothing."""
    try:
        async with httpx.AsyncClient(timeout=_LOOK_S) as client:
            await client.get(f"{url.rstrip('/')}/models")
    except httpx.HTTPError as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        services.notices.append(
            f"the {what} at {url} does not answer ({reason}): replies will fail"
        )


class _Uvicorn(uvicorn.Server):
    """Says goodbye to the sessions before the doors close."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """`StopSignals` does it from an earlier moment, and without raising them again."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._services.readiness.draining = True
        self._services.readiness.changed()
        await super().shutdown(sockets)


async def serve(
    services: Services,
    listening: socket.socket,
    *,
    tls: CertificateFiles | None,
    on_ready: Callable[[], None],
    signals: StopSignals | None = None,
) -> None:
    """Serve until a signal stops it; with `signals` None, until cancelled.

    Raises:
        ModelError: the model can't be had; the server has stopped.
    """
    server = _Uvicorn(_uvicorn_config(services, tls), services)
    if signals is not None:
        signals.stop(server)
    preparing = asyncio.create_task(prepare(services), name="prepare")
    probe = services.loop_lag.run() if services.instruments else asyncio.sleep(0)
    probing = asyncio.create_task(probe, name="loop-lag")
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="uvicorn")
    try:
        await asyncio.wait([preparing, serving], return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            await _finish(preparing)
            await services.faults.start(services.engine.status.device)
            on_ready()
        await serving
    finally:
        server.should_exit = True
        preparing.cancel()
        probing.cancel()
        await asyncio.wait([preparing, probing, serving])
        await close(services)


async def _finish(preparing: asyncio.Task[None]) -> None:
    try:
        await preparing
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


async def close(services: Services) -> None:
    """Let go of processes, connections and threads."""
    await services.faults.close()
    await services.engine.close()
    if services.files is not None:
        await services.files.close()
    await services.llm.close()
    with suppress(RtvcError):
        await services.tts.close()
    services.hearing.close()
    if services.traces is not None:
        await asyncio.to_thread(services.traces.close)


def _is_no_refusal(record: logging.LogRecord) -> bool:
    """Uvicorn takes a WebSocket that was refused with an answer of ours for an error."""
    return record.getMessage() != "ASGI callable returned without completing handshake."


def _uvicorn_config(services: Services, tls: CertificateFiles | None) -> uvicorn.Config:
    settings = services.settings.serve
    logging.getLogger("uvicorn.error").addFilter(_is_no_refusal)
    return uvicorn.Config(
        services.faults.app(build_app(services)),
        log_level="warning",
        access_log=False,
        lifespan="off",
        http=services.faults.http,
        ws=BoundedSocket,
        ws_max_size=_WS_MAX_BYTES,
        ws_ping_interval=settings.ping_interval_s,
        ws_ping_timeout=settings.ping_interval_s,
        # PCM does not compress; deflate would only cost time on both sides.
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=round(settings.shutdown_s),
        ssl_certfile=None if tls is None else str(tls.certificate),
        ssl_keyfile=None if tls is None else str(tls.key),
    )
