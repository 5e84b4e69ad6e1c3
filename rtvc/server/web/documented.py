"""What the server says of its own HTTP surface: /openapi.json, and answers to what it is not.

Routes write their JSON themselves. The models here say what is in it, for whoever generates a
client or a test from the document, and the tests hold the server to them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from rtvc.server.web.scrape import CONTENT_TYPE

WEBSOCKETS = {"/v1/realtime": "OpenAI's Realtime protocol", "/ws": "RealtimeVoiceChat's protocol"}
"""Path and what is spoken there."""
TRANSCRIPTIONS = "/v1/audio/transcriptions"

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    422: "unprocessable",
    426: "upgrade_required",
    429: "too_many_requests",
    503: "unavailable",
}
_MEANINGS = {
    400: "The request can't be understood; the message says what was expected.",
    401: "A key or a client token is needed, or the one that came is not valid.",
    403: "The origin or the host of the request is not allowed.",
    404: "There is no such thing, or no such model.",
    405: "Another method is meant; Allow says which.",
    413: "The body is larger than the server takes.",
    415: "The body is of a type that is not taken here.",
    422: "A field is not as it should be.",
    426: "A WebSocket is spoken here, not plain HTTP.",
    429: "Too many requests; Retry-After says when to come again.",
    503: "Not ready, or full; Retry-After says when to come again.",
}
EVERYWHERE = (400, 401, 403, 405, 413, 429, 503)
"""What any route may answer, by status: doors and limits stand before all of them."""


class Problem(BaseModel):
    """What went wrong."""

    message: str
    """What was expected, and what came."""
    type: Literal["invalid_request_error", "server_error", "authentication_error"] | str
    """Whose fault it is."""
    code: str | None = None
    """Which trouble, for programs."""
    param: str | None = None
    """The field at fault."""
    retry_after_s: float | None = None
    """Seconds after which it may go well; only with 503 and 429."""


class Refused(BaseModel):
    """An error, in the form that OpenAI's clients read."""

    error: Problem
    """The one that came first."""


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"]
    """Always "ok"."""


class Task(BaseModel):
    """One thing that is being loaded."""

    name: str
    """Which."""
    state: str
    """waiting, loading, warming, ready or failed."""
    progress: float
    """0 to 1."""
    detail: str
    """For people."""


class ServerState(BaseModel):
    """Whether sessions are let in, and on what they would run."""

    state: str
    """starting, loading, warming, ready, restarting, aside, draining or failed."""
    progress: float
    """0 to 1."""
    detail: str
    """For people."""
    tasks: list[Task]
    """What is loaded at start-up."""
    model: str
    """Speech-to-text."""
    model_kind: str
    """What kind of model that is."""
    llm: str
    """Who writes replies."""
    tts: str
    """Who speaks them."""
    notice: str | None
    """What everyone should know."""
    sessions: int
    """Open now."""
    max_sessions: int
    """At most."""
    headroom_sessions: float | None
    """How many more are held at the delay target, if that is known."""
    full: bool
    """Whether one more would be refused."""
    retry_after_s: float | None
    """When to come again, if not now."""
    instance: dict[str, Any] | None
    """The machine, if it is one of a cloud's: provider, id, type, zone, region, group."""
    version: str
    """Of rtvc."""


class Model(BaseModel):
    """A model in use; speech-to-text tells more of itself than is said here."""

    id: str
    """Its name."""
    object: Literal["model"]
    """Always "model"."""
    owned_by: str
    """Always "rtvc"."""
    task: str
    """speech-to-text, language or speech."""


class Models(BaseModel):
    """All that are in use."""

    object: Literal["list"]
    """Always "list"."""
    data: list[Model]
    """Speech-to-text first."""


class OpenSession(BaseModel):
    """One caller: no text and no audio; what else there is depends on the protocol."""

    id: str
    """Of the session."""
    protocol: str
    """What is spoken."""
    type: str
    """realtime or transcription."""
    age_s: float
    """Since it was opened."""


class Queue(BaseModel):
    """A queue of the server."""

    name: str
    """inference, inbox or outbox."""
    depth: int
    """What waits."""


class Sessions(BaseModel):
    """Who is on the line, and what waits."""

    sessions: list[OpenSession]
    """Those that are served."""
    count: int
    """Slots taken."""
    max_sessions: int
    """Slots."""
    refused: int
    """Since the start."""
    headroom_sessions: float | None
    """As in /readyz."""
    partial_interval_s: float
    """Between two partials of one session, at the load of now."""
    queues: list[Queue]
    """Named, with their backlogs."""
    event_loop_lag_max_s: float
    """How late the event loop woke, at worst, lately."""
    engine_restarts: int
    """Since the start."""


class Usage(BaseModel):
    """What is counted."""

    type: Literal["duration"]
    """Always "duration"."""
    seconds: float
    """Of audio."""


class Transcribed(BaseModel):
    """A file's text; verbose_json adds language, duration, segments and words."""

    text: str
    """All of it."""
    usage: Usage
    """How much audio it was."""


class Upload(BaseModel):
    """The form fields of a transcription."""

    file: bytes
    """The recording: wav, mp3, flac, ogg and whatever else FFmpeg reads."""
    model: str | None = None
    """The server's model, or a name of OpenAI's that stands for it."""
    language: str | None = None
    """ISO-639-1; not given: detected."""
    prompt: str | None = None
    """Context the model may lean on, at most 4000 characters."""
    response_format: Literal["json", "text", "srt", "vtt", "verbose_json"] = "json"
    """How the answer is written."""
    temperature: float = 0.0
    """0 to 1; 0: the most likely text."""
    stream: Literal["true", "false"] = "false"
    """Whether text is sent as it is found, as server-sent events."""


_MODELS: tuple[type[BaseModel], ...] = (
    Health,
    Models,
    Refused,
    ServerState,
    Sessions,
    Transcribed,
    Upload,
)
_ANSWERS: dict[str, type[BaseModel]] = {
    "/healthz": Health,
    "/readyz": ServerState,
    "/v1/models": Models,
    "/v1/sessions": Sessions,
}
_REF = "#/components/schemas/{model}"


def add_documents(app: FastAPI) -> None:
    """Answers for those who call a WebSocket as if it were a page, one form for errors, and
    /openapi.json. Call it last: it describes the routes that are there."""
    _add_upgrades(app)
    app.add_exception_handler(HTTPException, _explained)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's own manual has it


def _add_upgrades(app: FastAPI) -> None:
    def answer(path: str, spoken: str) -> Callable[[], JSONResponse]:
        def upgrade_required() -> JSONResponse:
            message = f"expected a WebSocket ({spoken}) at {path}, got plain HTTP"
            headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
            return problem(426, message, headers)

        return upgrade_required

    for path, spoken in WEBSOCKETS.items():
        app.add_api_route(path, answer(path, spoken), methods=["GET"], name=f"upgrade {path}")


def problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error in the form that all of them have."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": _CODES.get(status)}
    return JSONResponse({"error": error}, status_code=status, headers=headers)


async def _explained(request: Request, error: Exception) -> JSONResponse:
    """No such path, no such method."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    what = {
        404: f"there is nothing at {path}",
        405: f"{request.method[:20]} means nothing at {path}",
    }
    return problem(error.status_code, what.get(error.status_code, error.detail), error.headers)


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description="A reference server for real-time voice chat: what it answers over HTTP. "
        "Its WebSockets are described in docs/protocol.md.",
        routes=app.routes,
    )
    _, shared = models_json_schema([(m, "validation") for m in _MODELS], ref_template=_REF)
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components |= shared["$defs"]
    paths = document["paths"]
    if any(getattr(route, "path", None) == "/metrics" for route in app.routes):
        paths["/metrics"] = {"get": _metrics()}
    for path, operations in paths.items():
        for operation in operations.values():
            _describe(path, operation)
    return document


def _metrics() -> dict[str, Any]:
    exposition = {CONTENT_TYPE.partition(";")[0]: {"schema": {"type": "string"}}}
    return {
        "summary": "Metrics",
        "operationId": "metrics",
        "responses": {"200": {"description": "For Prometheus.", "content": exposition}},
    }


def _describe(path: str, operation: dict[str, Any]) -> None:
    if path == TRANSCRIPTIONS:
        _describe_transcriptions(operation)
    responses = operation.setdefault("responses", {})
    if path in WEBSOCKETS:
        responses.pop("200", None)
        responses["426"] = _error(426)
    if path in _ANSWERS:
        responses["200"] = _json("As it is now.", _ANSWERS[path])
    for status in EVERYWHERE:
        responses.setdefault(str(status), _error(status))
    if path == "/readyz":
        responses["503"] = _json("Not ready yet.", ServerState, Refused)


def _describe_transcriptions(operation: dict[str, Any]) -> None:
    form = {"schema": {"$ref": _REF.format(model=Upload.__name__)}}
    operation["requestBody"] = {"required": True, "content": {"multipart/form-data": form}}
    text: dict[str, Any] = {"schema": {"type": "string"}}
    answer = _json("The text, in the format asked for.", Transcribed)
    for kind in ("text/plain", "application/x-subrip", "text/vtt", "text/event-stream"):
        answer["content"][kind] = text
    operation["responses"] = {"200": answer} | {
        str(status): _error(status) for status in (404, 415, 422)
    }


def _json(description: str, *models: type[BaseModel]) -> dict[str, Any]:
    references = [{"$ref": _REF.format(model=model.__name__)} for model in models]
    schema = references[0] if len(references) == 1 else {"anyOf": references}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _error(status: int) -> dict[str, Any]:
    return _json(_MEANINGS[status], Refused)
