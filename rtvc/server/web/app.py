"""The HTTP surface: health, readiness, the page, and the doors of the WebSockets.

HTTP answers from the first moment. WebSockets are refused with 503 and Retry-After until
everything is warm, and when the server is full.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from rtvc import __version__
from rtvc.errors import AdmissionRefused, ProtocolError
from rtvc.hiding import without_places
from rtvc.server.access.gate import Gate
from rtvc.server.access.visits import visit_of
from rtvc.server.measuring.socket_counts import CountSockets
from rtvc.server.room import enter, headroom, overloaded
from rtvc.server.services import Services
from rtvc.server.sessions.connection import RealtimeConnection
from rtvc.server.sessions.realtimevoicechat import RealtimeVoiceChatConnection
from rtvc.server.web.client_secrets import add_client_secrets
from rtvc.server.web.documented import add_documents
from rtvc.server.web.scrape import CONTENT_TYPE, Scraper
from rtvc.server.web.transcriptions import add_transcriptions, refused
from rtvc.stt.transcriber import Trial

_STATIC = Path(__file__).parents[1] / "static"
_LOADING_RETRY_S = 1.0


def readiness_body(services: Services) -> dict[str, Any]:
    """What /readyz says, ready or not."""
    readiness, admission = services.readiness, services.admission
    engine = services.engine.status
    wait_s = None if readiness.ready else _LOADING_RETRY_S
    closed = admission.closed(headroom(services), overloaded=overloaded(services))
    return {
        "state": readiness.state,
        "progress": round(readiness.progress, 3),
        "detail": readiness.detail,
        "tasks": [task.to_wire() for task in readiness.tasks],
        "model": engine.model,
        "model_kind": engine.model_kind,
        "llm": services.llm.name,
        "tts": services.tts.name,
        "notice": without_places(services.notice or "") or None,
        "sessions": admission.sessions,
        "max_sessions": admission.max_sessions,
        "headroom_sessions": rounded(engine.headroom_sessions),
        "degradation": engine.degradation.label,
        "full": closed,
        "retry_after_s": admission.retry_after_s if closed else wait_s,
        "instance": None if services.cloud is None else services.cloud.describe(),
        "version": __version__,
    }


def for_strangers(body: dict[str, Any]) -> dict[str, Any]:
    """What /readyz says to who shows no key, where one is needed: no names, no counts."""
    told = ("state", "progress", "full", "retry_after_s")
    return {**{name: body[name] for name in told}, "detail": "", "tasks": [], "needs_key": True}


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def refusal(code: str, message: str, retry_after_s: float) -> JSONResponse:
    """503 with a reason and a time to try again."""
    error = {
        "type": "server_error",
        "code": code,
        "message": message,
        "retry_after_s": retry_after_s,
    }
    headers = {"Retry-After": str(math.ceil(retry_after_s))}
    return JSONResponse({"error": error}, status_code=503, headers=headers)


def build_app(services: Services) -> FastAPI:
    """The server's routes over its services."""
    app = FastAPI(title="rtvc", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(Gate, access=services.access)
    if services.instruments:
        app.add_middleware(CountSockets, counts=services.metrics.sockets)
        _add_metrics(app, Scraper(services))
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(request: Request) -> JSONResponse:
        return _readiness(services, trusted=visit_of(request.scope).trusted)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": _models(services)}

    @app.get("/v1/sessions")
    async def sessions() -> dict[str, Any]:
        return _sessions(services)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html")

    @app.get("/favicon.ico", include_in_schema=False)
    async def favicon() -> Response:
        return FileResponse(_STATIC / "favicon.svg", media_type="image/svg+xml")

    add_transcriptions(app, services)
    add_client_secrets(app, services)
    _add_doors(app, services)
    add_documents(app)
    return app


def _readiness(services: Services, *, trusted: bool) -> JSONResponse:
    body = readiness_body(services)
    if not trusted:
        body = for_strangers(body)
    return JSONResponse(body, status_code=200 if services.readiness.ready else 503)


def _add_metrics(app: FastAPI, scraper: Scraper) -> None:
    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(await scraper.text(), media_type=CONTENT_TYPE)


def _add_doors(app: FastAPI, services: Services) -> None:
    """The WebSockets, one for each protocol."""

    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        query = socket.query_params
        preset = visit_of(socket.scope).session
        transcription = query.get("intent") == "transcription"
        if preset is not None:
            transcription = preset.get("type") == "transcription"

        def connection() -> RealtimeConnection:
            return RealtimeConnection(
                socket,
                services,
                kind="transcription" if transcription else "realtime",
                extras=query.get("rtvc") == "1",
                preset=preset,
            )

        await admit(socket, services, connection)

    @app.websocket("/ws")
    async def realtimevoicechat(socket: WebSocket) -> None:
        await admit(socket, services, lambda: RealtimeVoiceChatConnection(socket, services))


class Connection(Protocol):
    """One session, whatever its protocol."""

    async def run(self) -> None:
        """Serve until either side ends it."""


async def admit(socket: WebSocket, services: Services, connect: Callable[[], Connection]) -> None:
    """Run a session in a slot of its own, or refuse it at once.

    The session is built only once it has its slot: before, there may be nothing to build it from.
    """
    readiness = services.readiness
    if not readiness.lets_in:
        body = refusal("not_ready", readiness.detail, _LOADING_RETRY_S)
        await socket.send_denial_response(body)
        return
    try:
        await enter(services)
    except AdmissionRefused as error:
        body = refusal("server_full", str(error), error.retry_after_s)
        await socket.send_denial_response(body)
        return
    try:
        connection = connect()
    except ProtocolError as error:
        # A client token's settings: it may come from a server of another version.
        await socket.send_denial_response(refused(error))
    else:
        await connection.run()
    finally:
        services.admission.leave()


def _models(services: Services) -> list[dict[str, Any]]:
    engine = services.engine.status
    return [
        {
            "id": engine.model,
            "object": "model",
            "owned_by": "rtvc",
            "task": "speech-to-text",
            "kind": engine.model_kind,
            "state": engine.state,
            "device": engine.device,
            "compute_type": engine.compute_type,
            "workers": engine.workers,
            "threads_per_worker": engine.threads_per_worker,
            "max_batch": engine.max_batch,
            "sharing": engine.sharing,
            "engines": engine.engines,
            "memory_bytes": engine.memory_bytes,
            "calibration_s": engine.calibration_s,
            "trials": [_trial(trial) for trial in engine.trials],
            "load_s": engine.load_s,
            "warm_up_s": engine.warm_up_s,
        },
        {"id": services.llm.name, "object": "model", "owned_by": "rtvc", "task": "language"},
        {"id": services.tts.name, "object": "model", "owned_by": "rtvc", "task": "speech"},
    ]


def _trial(trial: Trial) -> dict[str, Any]:
    return {**asdict(trial), "jobs_per_s": round(trial.jobs_per_s, 2)}


def _sessions(services: Services) -> dict[str, Any]:
    now_s = services.clock.now()
    engine = services.engine.status
    sessions = [session.describe(now_s) for session in services.sessions.values()]
    return {
        "sessions": sessions,
        "count": services.admission.sessions,
        "max_sessions": services.admission.max_sessions,
        "refused": services.admission.refused,
        "headroom_sessions": rounded(engine.headroom_sessions),
        "partial_interval_s": round(engine.partial_interval_s, 3),
        "degradation": engine.degradation.label,
        "queues": [
            {
                "name": "inference",
                "depth": engine.queued,
                "backlog_s": round(engine.backlog_s, 3),
                "outcomes": engine.counters,
            },
            *_ways(sessions),
        ],
        "event_loop_lag_max_s": services.loop_lag.max_s,
        "engine_restarts": engine.restarts,
    }


def _ways(sessions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """In and out, all sessions together; drops are those of the sessions that are open."""
    ages_s = [age_s for one in sessions if (age_s := one["audio_oldest_age_s"]) is not None]
    return [
        {
            "name": "inbox",
            "depth": sum(one["audio_depth"] for one in sessions),
            "backlog_s": round(sum(one["audio_backlog_s"] for one in sessions), 3),
            "oldest_age_s": max(ages_s, default=None),
            "dropped": sum(one["audio_dropped"] for one in sessions),
        },
        {"name": "outbox", "depth": sum(one["unsent_messages"] for one in sessions)},
    ]
