"""POST /v1/realtime/client_secrets: a short-lived token for a client that must not hold a key."""

import math
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from rtvc.errors import ProtocolError
from rtvc.protocol.realtime import SessionKind
from rtvc.protocol.validation import Frozen, SmallObject, named, read_object, validated
from rtvc.server.access.tokens import LONGEST_S, SHORTEST_S, USUAL_S, TooLong
from rtvc.server.access.visits import visit_of
from rtvc.server.services import Services
from rtvc.server.sessions.realtime_settings import initial_config, session_to_wire
from rtvc.server.sessions.session_life import new_id
from rtvc.server.web.transcriptions import refused

PATH = "/v1/realtime/client_secrets"
MAX_BODY_BYTES = 32 * 1024


class ExpiresAfter(Frozen):
    """How long a token is good."""

    anchor: Literal["created_at"] = "created_at"
    """From when on; the protocol knows no other."""
    seconds: Annotated[int, Field(ge=SHORTEST_S, le=LONGEST_S)] = USUAL_S
    """For how long."""


class Wanted(Frozen):
    """A request as understood."""

    expires_after: ExpiresAfter | None = None
    """None: ten minutes."""
    session: SmallObject | None = None
    """What the token's sessions start from; None: the server's own settings."""


def add_client_secrets(app: FastAPI, services: Services) -> None:
    """Offer the endpoint."""

    @app.post(PATH)
    async def client_secrets(request: Request) -> Response:
        try:
            if not services.readiness.lets_in or services.readiness.restarting:
                raise ProtocolError("the server is not ready yet", code="not_ready")
            body = await _body(request)
            wanted = validated(Wanted, read_object(body) if body.strip() else {})
            return JSONResponse(_made(wanted, visit_of(request.scope).key_id, services))
        except ProtocolError as error:
            return refused(error)


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise ProtocolError(f"expected a body of at most {MAX_BODY_BYTES} bytes, got more")
    return body


def _made(wanted: Wanted, key_name: str | None, services: Services) -> dict[str, Any]:
    patch = wanted.session or {"type": "realtime"}
    config = initial_config(services, _kind(patch)).updated(patch)
    seconds = (wanted.expires_after or ExpiresAfter()).seconds
    expires_at_s = services.clock.utc().timestamp() + seconds
    try:
        value = services.access.tokens.make(key_name, seconds, patch)
    except TooLong as error:
        message = f"session: {error}, packed; send long instructions by session.update"
        raise ProtocolError(message, param="session") from None
    except KeyError:
        raise ProtocolError("the key was revoked meanwhile", code="wrong_key") from None
    return {
        "value": value,
        "expires_at": math.floor(expires_at_s),
        "session": session_to_wire(config, new_id("sess"), services),
    }


def _kind(patch: dict[str, Any]) -> SessionKind:
    match patch.get("type"):
        case "realtime":
            return "realtime"
        case "transcription":
            return "transcription"
        case other:
            expected = "realtime or transcription"
            message = f"session.type: expected {expected}, got {named(other)}"
            raise ProtocolError(message, param="session.type")
