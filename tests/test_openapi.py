"""/openapi.json says what the server answers, and plain HTTP to a WebSocket is told so."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from rtvc.server.web.documented import WEBSOCKETS, add_documents


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI(title="t", version="1", docs_url=None, redoc_url=None)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        return {}

    @app.post("/v1/audio/transcriptions")
    async def transcriptions() -> dict[str, str]:
        return {}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> str:
        return ""

    add_documents(app)
    return app


def ask(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def document(app: FastAPI) -> dict[str, Any]:
    async with ask(app) as client:
        told: dict[str, Any] = (await client.get("/openapi.json")).json()
        return told


async def test_every_route_is_there_with_its_errors(app: FastAPI) -> None:
    paths = (await document(app))["paths"]
    assert set(paths) == {
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/audio/transcriptions",
        *WEBSOCKETS,
    }
    for operations in paths.values():
        for operation in operations.values():
            expected = {"400", "401", "403", "405", "413", "429", "503"}
            assert set(operation["responses"]) >= expected


async def test_transcriptions_are_a_form(app: FastAPI) -> None:
    told = await document(app)
    operation = told["paths"]["/v1/audio/transcriptions"]["post"]
    assert set(operation["requestBody"]["content"]) == {"multipart/form-data"}
    assert {"404", "415", "422"} <= set(operation["responses"])
    form = told["components"]["schemas"]["Upload"]
    assert form["required"] == ["file"]


async def test_every_reference_leads_somewhere(app: FastAPI) -> None:
    told = await document(app)
    known = {f"#/components/schemas/{name}" for name in told["components"]["schemas"]}

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return found.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    assert references(told) <= known
    assert references(told)


@pytest.mark.parametrize("path", WEBSOCKETS)
async def test_a_websocket_asked_as_a_page_says_so(app: FastAPI, path: str) -> None:
    async with ask(app) as client:
        answer = await client.get(path)
    assert answer.status_code == 426
    assert answer.headers["upgrade"] == "websocket"
    error = answer.json()["error"]
    assert error["code"] == "upgrade_required"
    assert path in error["message"]


async def test_other_errors_have_the_same_form(app: FastAPI) -> None:
    async with ask(app) as client:
        missing = await client.get("/nowhere")
        wrong = await client.post("/v1/realtime")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET"
