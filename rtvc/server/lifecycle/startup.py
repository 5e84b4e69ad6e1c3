"""From settings to a running server: build the services, load and warm them, serve, stop."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Any

import httpx
import numpy as np
import uvicorn

from rtvc.clock import Clock
from rtvc.config import LlmSettings, ServeSettings, Settings, SttSettings, TtsSettings
from rtvc.errors import ModelError, RtvcError, UsageError
from rtvc.hiding import without_places
from rtvc.instruments.event_loop import LoopLag
from rtvc.instruments.otel import TurnTraces, open_traces
from rtvc.server.access.guard import Access
from rtvc.server.cloud.aws import check_boto3
from rtvc.server.faults.active import Faults
from rtvc.server.hearing import Hearing
from rtvc.server.lifecycle.in_cloud import join_cloud, leave_cloud
from rtvc.server.lifecycle.memory import keep_handing_back
from rtvc.server.lifecycle.notify import Notifier
from rtvc.server.lifecycle.reload import Reload, Sources
from rtvc.server.lifecycle.signals import Stop, StopSignals, Told
from rtvc.server.lifecycle.stopping import Drain, Patience, deadline_s
from rtvc.server.lifecycle.tls import CertificateFiles, Certificates
from rtvc.server.measuring.boot import process_age_s
from rtvc.server.measuring.metrics import Metrics, NoMetrics
from rtvc.server.readiness import Readiness
from rtvc.server.replies.llm import LanguageModel, OpenAiLanguageModel, ScriptedLanguageModel
from rtvc.server.replies.replying import guarded_llm, guarded_tts, new_breakers
from rtvc.server.replies.tts import EspeakSynthesizer, OpenAiSynthesizer, SpeechSynthesizer
from rtvc.server.services import Services
from rtvc.server.web.app import build_app
from rtvc.server.web.front import Front
from rtvc.server.web.headers import SecurityHeaders
from rtvc.server.web.sockets import BoundedSocket
from rtvc.stt.engine import build_engine
from rtvc.stt.files import FileEngine
from rtvc.stt.models import ALIASES, CATALOGUE, resolve_model
from rtvc.stt.preflight import check_model
from rtvc.stt.transcriber import EngineStatus
from rtvc.voice.admission import Admission
from rtvc.voice.silero import SileroModel
from rtvc.voice.turn_model import LONGEST_S, load_smart_turn
from rtvc.voice.vad import FRAME_SAMPLES, SAMPLE_RATE_HZ, VoiceActivityDetector

_log = logging.getLogger(__name__)

_LOOK_S = 3.0
"""A service elsewhere that has not answered by then is taken for absent."""
STT, VAD, TTS, LLM = "speech-to-text", "voice activity", "speech synthesis", "language model"
_WS_MAX_BYTES = 21 * 1024 * 1024
"""15 MiB of audio as base64, with the JSON around it."""
_TASK_STATES: dict[str, Any] = {
    "starting": "waiting",
    "loading": "loading",
    "warming": "warming",
    "ready": "ready",
    "restarting": "ready",
    "failed": "failed",
    "closed": "failed",
}


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
        UsageError: a fault was asked for that there is none of, traces that cannot be sent, or a
            cloud that cannot be talked to.
    """
    if settings.cloud.provider == "aws":
        check_boto3()
    faults = Faults.of(settings, clock)
    settings, clock = faults.settings(settings), faults.clock(clock)
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
        warm_up_audio_s=stt.warm_up_audio_s,
        sharing=stt.sharing,
        pool_size=stt.pool_size,
        encoder_context=stt.encoder_context,
        delay_target_s=stt.delay_target_ms / 1000,
        partials=settings.turn.partials,
        partial_interval_s=settings.turn.partial_interval_ms / 1000,
        change_plan=faults.plan,
        clock=clock,
    )
    readiness = Readiness(STT, VAD, TTS, LLM)
    breakers = new_breakers(clock, metrics, readiness.changed)
    synthesizer = _synthesizer(settings.tts)
    felt = faults.tts(synthesizer)
    return Services(
        settings=settings,
        clock=clock,
        engine=engine,
        new_vad=_vad_before_it_is_loaded,
        llm=guarded_llm(faults.llm(_language_model(settings.llm, clock)), settings.llm, breakers),
        tts=guarded_tts(felt, settings.tts, breakers),
        breakers=breakers,
        spare_voice=_spare_voice(synthesizer, felt),
        readiness=readiness,
        admission=Admission(settings.serve.max_sessions),
        hearing=Hearing(clock),
        loop_lag=LoopLag(clock, on_lag=metrics.lagged),
        metrics=metrics,
        faults=faults,
        notices=faults.notices,
        access=Access.of(settings.access, clock, settings.serve.host),
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
        longest_s = max(settings.timeout_s, settings.first_token_s)
        return OpenAiLanguageModel(settings.url, settings.model, key, longest_s)
    return ScriptedLanguageModel(
        ttft_s=settings.scripted_ttft_s,
        tokens_per_s=settings.scripted_tokens_per_s,
        clock=clock,
    )


def _synthesizer(settings: TtsSettings) -> SpeechSynthesizer:
    if settings.backend == "openai":
        key = settings.api_key.get_secret_value() if settings.api_key else None
        voice = settings.voice or "alloy"
        return OpenAiSynthesizer(settings.url, settings.model, voice, key, settings.timeout_s)
    synthesizer = EspeakSynthesizer(settings.voice or "en-us")
    if not synthesizer.has_voice(settings.voice):
        raise UsageError(
            f"--voice: expected an espeak-ng voice such as en-us+f3, got {settings.voice!r}"
        )
    return synthesizer


def _spare_voice(sound: SpeechSynthesizer, felt: SpeechSynthesizer) -> SpeechSynthesizer | None:
    """The built-in voice, where another speaks or this one was given a fault."""
    if not isinstance(sound, EspeakSynthesizer):
        return EspeakSynthesizer()
    return None if felt is sound else sound


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
        # Everyone may read it; the whole of a failure is in the log.
        detail = without_places(status.detail)
        readiness.update(STT, _TASK_STATES[status.state], status.progress, detail)

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
        services.no_turn_model = without_places(str(error))
    else:
        services.turn_model = model


async def _prepare_tts(services: Services) -> None:
    name = services.tts.name
    if services.settings.tts.backend == "espeak":
        services.readiness.update(TTS, "warming", 0.5, name)
        # The sound one: a fault in it is for replies to feel.
        voice = services.spare_voice or services.tts
        async with aclosing(voice.synthesize("ready.", voice=None, speed=1.0)) as pieces:
            async for _ in pieces:
                break
    else:
        guard = services.breakers.tts
        guard.absent = await _absence("speech synthesizer", services.settings.tts.url)
    services.readiness.update(TTS, "ready", 1.0, name)


async def _prepare_llm(services: Services) -> None:
    settings = services.settings.llm
    if settings.backend == "openai":
        guard = services.breakers.llm
        guard.absent = await _absence("language model", settings.url)
    services.readiness.update(LLM, "ready", 1.0, services.llm.name)


async def _absence(what: str, url: str) -> str | None:
    """A service elsewhere may come up later, so its absence is noted and stops nothing."""
    try:
        async with httpx.AsyncClient(timeout=_LOOK_S) as client:
            await client.get(f"{url.rstrip('/')}/models")
    except httpx.HTTPError as error:
        # Everyone may read a notice; where the service is, and what it said, is the operator's.
        reason = " ".join(str(error).split()) or type(error).__name__
        _log.warning("the %s at %s does not answer (%s)", what, url, reason)
        return f"the {what} does not answer"
    return None


class _Uvicorn(uvicorn.Server):
    """Lets the sessions finish before the doors close."""

    def __init__(self, config: uvicorn.Config, services: Services, notifier: Notifier) -> None:
        super().__init__(config)
        self._services = services
        self._notifier = notifier
        self._drain: Drain | None = None
        self._told: Stop | None = None
        self._leave_s: float | None = None
        self.signalled = asyncio.Event()
        """Whether somebody wants the process to end, and not only the machine."""

    def stop(self, how: Stop) -> None:
        """As a signal said."""
        if self._told is None:
            self._notifier.stopping()
        self._told = how
        self.signalled.set()
        self.should_exit = True
        self._begin_draining()
        if how is Stop.NOW:
            self.force_exit = True
        if self._drain is not None and how is Stop.NOW:
            self._drain.stop_now()
        elif self._drain is not None:
            self._drain.hurry(self._deadline_s())

    def leave(self, deadline_s: float) -> None:
        """The machine is taken away: sessions have so long from now.

        The service manager is not told: it would give the server its TimeoutStopSec from then on,
        and kill it while people talk.
        """
        self._leave_s = deadline_s
        self.should_exit = True
        self._begin_draining()
        if self._drain is not None:
            self._drain.hurry(deadline_s)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """`StopSignals` does it from an earlier moment, and without raising them again."""
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """From now on the cloud knows of it, too, if it runs in one."""
        join_cloud(self._services, self.leave)
        await super().serve(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Until all have left, /readyz and whoever wants to come in still get an answer."""
        self._begin_draining()
        self._drain = drain = self._new_drain()
        await drain.run(lambda: bool(self.server_state.tasks))
        # What is still under way has had its time.
        self.config.timeout_graceful_shutdown = 1
        await super().shutdown(sockets)

    def _begin_draining(self) -> None:
        readiness = self._services.readiness
        if not readiness.draining:
            readiness.draining = True
            readiness.changed()

    def _new_drain(self) -> Drain:
        services, serve = self._services, self._services.settings.serve
        patience = Patience(self._deadline_s(), serve.stop_idle_s, serve.last_final_s)
        drain = Drain(services.sessions.values, patience, services.clock)
        if self._told is Stop.NOW:
            drain.stop_now()
        return drain

    def _deadline_s(self) -> float:
        """For sessions to finish."""
        return deadline_s(self._told, self._leave_s, self._services.settings.serve.shutdown_s)


async def serve(
    services: Services,
    listening: socket.socket,
    *,
    tls: CertificateFiles | None,
    on_ready: Callable[[], None],
    signals: StopSignals | None = None,
    settings_again: Callable[[], Settings] | None = None,
) -> None:
    """Serve until a signal stops it; with `signals` None, until cancelled.

    `settings_again` reads the settings anew for a reload; None: they stay as they are.

    Raises:
        ModelError: the model can't be had; the server has stopped.
    """
    certificates = None if tls is None else Certificates(tls)
    notifier = Notifier.of_this_process(services.clock)
    server = _Uvicorn(_uvicorn_config(services, certificates), services, notifier)
    reload = Reload(services, _sources(services, settings_again), certificates)
    watching = asyncio.create_task(notifier.watch(), name="watchdog")
    preparing = asyncio.create_task(prepare(services), name="prepare")
    if signals is not None:
        signals.listen(_Wishes(server, reload, notifier, preparing).take)
    probe = services.loop_lag.run() if services.instruments else asyncio.sleep(0)
    beside = [
        asyncio.create_task(probe, name="loop-lag"),
        asyncio.create_task(keep_handing_back(), name="memory"),
    ]
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="uvicorn")
    try:
        await asyncio.wait([preparing, serving], return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            await _until_ready(services, preparing)
            notifier.ready()
            on_ready()
        await serving
    finally:
        server.should_exit = True
        for task in (preparing, *beside):
            task.cancel()
        await asyncio.wait([preparing, *beside, serving])
        await _let_go(services, reload, server.signalled)
        watching.cancel()
        await asyncio.wait([watching])


async def _let_go(services: Services, reload: Reload, given_up: asyncio.Event) -> None:
    """Close all there is; whatever of it can't be closed, a machine that is to end may end."""
    try:
        await reload.close()
        await close(services)
    finally:
        await leave_cloud(services, given_up)


class _Wishes:
    """Does what the signals say."""

    def __init__(
        self, server: _Uvicorn, reload: Reload, notifier: Notifier, preparing: asyncio.Task[None]
    ) -> None:
        self._server = server
        self._reload = reload
        self._notifier = notifier
        self._preparing = preparing
        self._reloads: set[asyncio.Task[None]] = set()

    def take(self, told: Told) -> None:
        if isinstance(told, Stop):
            self._server.stop(told)
        else:
            task = asyncio.create_task(self._reload_and_tell(), name="reload")
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)

    async def _reload_and_tell(self) -> None:
        # What is being warmed up is not replaced meanwhile.
        await asyncio.wait([self._preparing])
        if self._server.should_exit:
            return
        self._notifier.reloading()
        try:
            await self._reload.again()
        finally:
            # Whatever came of it, or the service manager would wait for it.
            self._notifier.ready()


def _sources(services: Services, settings: Callable[[], Settings] | None) -> Sources:
    faults, clock, breakers = services.faults, services.clock, services.breakers

    def llm(settings: Settings) -> LanguageModel:
        model = faults.llm(_language_model(settings.llm, clock))
        return guarded_llm(model, settings.llm, breakers)

    def tts(settings: Settings) -> SpeechSynthesizer:
        return guarded_tts(faults.tts(_synthesizer(settings.tts)), settings.tts, breakers)

    def spare(settings: Settings) -> SpeechSynthesizer | None:
        return None if settings.tts.backend == "espeak" else EspeakSynthesizer()

    return Sources(settings=settings or (lambda: services.settings), llm=llm, tts=tts, spare=spare)


async def _until_ready(services: Services, preparing: asyncio.Task[None]) -> None:
    try:
        await preparing
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    services.metrics.boot.ready(process_age_s(), services.clock.utc())
    await services.faults.start(services.engine.status.device)


async def close(services: Services) -> None:
    """Let go of processes, connections and threads."""
    await services.faults.close()
    await services.engine.close()
    if services.files is not None:
        await services.files.close()
    await services.llm.close()
    for synthesizer in filter(None, (services.tts, services.spare_voice)):
        with suppress(RtvcError):
            await synthesizer.close()
    services.hearing.close()
    if services.traces is not None:
        await asyncio.to_thread(services.traces.close)


def _is_no_refusal(record: logging.LogRecord) -> bool:
    """Uvicorn takes a WebSocket that was refused with an answer of ours for an error."""
    return record.getMessage() != "ASGI callable returned without completing handshake."


def _uvicorn_config(services: Services, certificates: Certificates | None) -> uvicorn.Config:
    settings = services.settings.serve
    logging.getLogger("uvicorn.error").addFilter(_is_no_refusal)
    return uvicorn.Config(
        # Around everything, so that no refusal and no failure is without them.
        SecurityHeaders(services.faults.app(build_app(services)), tls=settings.tls),
        # Its own handlers would write what ours hide.
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Else whoever calls from this machine could choose an address, and with it its limits.
        proxy_headers=bool(services.settings.access.proxies),
        forwarded_allow_ips=list(services.settings.access.proxies),
        lifespan="off",
        http=services.faults.http(Front(services.settings.access).protocol),
        ws=BoundedSocket,
        timeout_keep_alive=settings.keep_alive_s,
        ws_max_size=_WS_MAX_BYTES,
        ws_ping_interval=settings.ping_interval_s,
        ws_ping_timeout=settings.ping_interval_s,
        # PCM does not compress; deflate would only cost time on both sides.
        ws_per_message_deflate=False,
        ssl_context_factory=(
            None if certificates is None else lambda _config, _default: certificates.context
        ),
    )
