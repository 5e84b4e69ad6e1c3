"""What answers tell browsers: on pages, on what is not there, on refusals, and with TLS."""

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from rtvc.server.web.headers import SecurityHeaders

EXPECTED = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
CSP = (
    "default-src 'none'",
    "script-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)


@pytest.mark.parametrize("path", ["/", "/readyz", "/v1/sessions", "/metrics", "/nowhere"])
def test_every_answer_has_them(server_url: str, path: str) -> None:
    answer = httpx.get(server_url + path)
    for name, value in EXPECTED.items():
        assert answer.headers[name] == value
    policy = answer.headers["content-security-policy"].split("; ")
    for part in CSP:
        assert part in policy
    assert "microphone=(self)" in answer.headers["permissions-policy"]
    assert "strict-transport-security" not in answer.headers
    assert "server" not in answer.headers
    assert answer.headers.get_list("cache-control") == ["no-cache" if path == "/" else "no-store"]


def test_files_of_the_page_may_be_kept_and_checked(server_url: str) -> None:
    answer = httpx.get(f"{server_url}/static/app.js")
    assert answer.headers["cache-control"] == "no-cache"


def test_an_open_socket_does_not_say_what_it_runs_on(server_url: str) -> None:
    with connect(server_url.replace("http", "ws", 1) + "/v1/realtime") as socket:
        assert socket.response is not None
        assert "server" not in socket.response.headers


async def _broken(_: Request) -> PlainTextResponse:
    raise RuntimeError("nobody foresaw this")


async def _named(_: Request) -> PlainTextResponse:
    headers = {"Server": "x/1", "X-Powered-By": "y", "Cache-Control": "public", "X-Own": "kept"}
    return PlainTextResponse("ok", headers=headers)


async def _refused(socket: WebSocket) -> None:
    await socket.send_denial_response(PlainTextResponse("full", status_code=503))


async def _open(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


def app(tls: str | None = None) -> SecurityHeaders:
    routes = [
        Route("/broken", _broken),
        Route("/named", _named),
        WebSocketRoute("/refused", _refused),
        WebSocketRoute("/open", _open),
    ]
    return SecurityHeaders(Starlette(routes=routes), tls=tls)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        yield client


async def test_a_failure_has_them_too(client: httpx.AsyncClient) -> None:
    answer = await client.get("/broken")
    assert answer.status_code == 500
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "nobody foresaw" not in answer.text


async def test_what_a_route_says_does_not_undo_them(client: httpx.AsyncClient) -> None:
    answer = await client.get("/named")
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers["x-own"] == "kept"
    assert "server" not in answer.headers
    assert "x-powered-by" not in answer.headers


def test_a_socket_that_is_refused_is_told_so_with_them() -> None:
    with (
        TestClient(app()) as client,
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect("/refused"),
    ):
        pass
    assert refused.value.headers["x-content-type-options"] == "nosniff"
    assert refused.value.headers["cache-control"] == "no-store"


def test_a_socket_that_is_open_is_left_alone() -> None:
    with TestClient(app()) as client, client.websocket_connect("/open") as socket:
        assert socket.receive_text() == "hello"


@pytest.mark.parametrize(
    ("tls", "kept"), [(None, False), ("self-signed", False), ("cert.pem,key.pem", True)]
)
async def test_only_a_certificate_that_somebody_signed_is_insisted_on(
    tls: str | None, kept: bool
) -> None:
    transport = httpx.ASGITransport(app(tls))
    async with httpx.AsyncClient(transport=transport, base_url="https://x") as client:
        answer = await client.get("/named")
    assert ("strict-transport-security" in answer.headers) is kept
