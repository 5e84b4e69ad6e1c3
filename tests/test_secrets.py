"""Keys of services behind the server, and of callers: nowhere to be found after everything went
wrong. A real server, real errors, a real load test."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from rtvc.config import LlmSettings, Settings, child_environment, load_settings
from rtvc.errors import ReplyError
from rtvc.server.replies.reply import BrokenReplyError
from rtvc.server.sessions.told import NO_REPLY, told
from tests.servers import ROOT, free_port, wait_until_ready

LLM_KEY, TTS_KEY = "Llm0kEy7Zq8xVt3", "Tts0kEy7Wm5nRb4"
URL_KEY, URL_PASSWORD, OTEL_PASSWORD = "Url0kEy7Jc2dFh6", "Pwd0kEy7Ls9gTy1", "Otl0kEy7Pk3vXe8"
SECRETS = (LLM_KEY, TTS_KEY, URL_KEY, URL_PASSWORD, OTEL_PASSWORD)


def test_settings_show_no_secret_whatever_its_name() -> None:
    class Odd(LlmSettings):
        harmless: SecretStr = SecretStr(LLM_KEY)

    settings = load_settings(
        {"llm": {"url": f"http://ann:{URL_PASSWORD}@box/v1?key={URL_KEY}"}},
        environment={
            "RTVC_TTS_API_KEY": TTS_KEY,
            "RTVC_SERVE_OTEL_ENDPOINT": f"http://a:{OTEL_PASSWORD}@c:4318",
        },
    )
    shown = json.dumps(settings.public())
    odd = settings.model_copy(update={"llm": Odd()})
    assert "harmless" not in odd.public()["llm"]
    for secret in SECRETS:
        assert secret not in shown + json.dumps(odd.public())
    assert set(settings.secrets()) == {TTS_KEY, f"http://a:{OTEL_PASSWORD}@c:4318"}
    assert Settings().secrets() == ()


def test_what_a_client_is_told_names_no_place() -> None:
    inner = ReplyError("language model 'm' at http://10.0.0.7:1/v1: HTTP 401: bad key sk-abc")
    assert told(inner) == told(BrokenReplyError(inner, text="", spoken="")) == NO_REPLY
    assert told(ValueError("/srv/x")) == "the server failed"


@contextmanager
def a_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """With keys everywhere, and nobody behind it."""
    port, dead, log = free_port(), free_port(), folder / "server.log"
    there = f"http://ann:{URL_PASSWORD}@127.0.0.1:{dead}/v1"
    command = [
        *(sys.executable, "-m", "rtvc", "serve", "--model", "selftest", "--port", str(port)),
        *("--llm", there, "--tts", there),
    ]
    environment = child_environment(
        RTVC_LLM_API_KEY=LLM_KEY,
        RTVC_TTS_API_KEY=TTS_KEY,
        RTVC_SERVE_OTEL_ENDPOINT=f"http://a:{OTEL_PASSWORD}@127.0.0.1:{dead}",
    )
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=ROOT)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url, child)
            yield url, log
        finally:
            child.terminate()
            child.wait(30)


def provoke(url: str) -> list[str]:
    """Every kind of trouble; what was answered."""
    answers = [
        httpx.post(f"{url}/v1/audio/transcriptions", content=b"x").text,
        httpx.post(
            f"{url}/v1/audio/transcriptions?token={URL_KEY}",
            files={"file": ("a.wav", b"no audio")},
            headers={"Authorization": f"Bearer {URL_KEY}"},
        ).text,
        httpx.get(f"{url}/nowhere?api_key={URL_KEY}").text,
    ]
    address = url.replace("http", "ws", 1)
    try:
        with connect(f"{address}/nowhere?key={URL_KEY}"):
            answers.append("open")
    except WebSocketException as error:
        answers.append(str(error))
    protocols = ["realtime", f"openai-insecure-api-key.{URL_KEY}"]
    with connect(f"{address}/v1/realtime?key={URL_KEY}", subprotocols=protocols) as socket:  # type: ignore[arg-type]
        answers.append(str(socket.recv(timeout=10)))
        for text in ("no json", '{"type": "nothing"}', '{"type": "response.create"}'):
            socket.send(text)
        while "response.done" not in answers[-1]:
            answers.append(str(socket.recv(timeout=20)))
    return answers


@pytest.mark.model
@pytest.mark.slow
def test_no_secret_is_found_anywhere_after_everything_went_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with a_server(tmp_path) as (url, log):
        answers = provoke(url)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "rtvc", "loadtest"),
                f"{url}/v1/realtime?api_key={URL_KEY}&token={URL_KEY}",
                *("--speakers", "1", "--duration", "4", "--warm-up", "0", "--out", str(folder)),
                *("--api-key", URL_KEY),
            ],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=120,
            check=False,
        )
        paths = ("/readyz", "/v1/models", "/v1/sessions", "/metrics", "/openapi.json")
        answers += [httpx.get(url + path).text for path in paths]
    failed = next(text for text in answers if "response.done" in text)
    assert "llm_" in failed, "the client is told what, and no more"
    port = json.loads((folder / "run.json").read_text())["url"].split(":")[2].split("/")[0]
    told = "\n".join(answers)
    assert f"127.0.0.1:{port}" not in failed, "nor where anything is"
    assert "http://" not in failed
    logged = log.read_text()
    assert "language model" in logged, "the operator is told"
    everything = {"answers": told, "log": logged, "loadtest": done.stdout + done.stderr}
    for path in folder.rglob("*"):
        if path.is_file():
            everything[path.name] = path.read_bytes().decode("utf-8", "replace")
    assert {"run.json", "report.html", "generator.log", "summary.json"} <= set(everything)
    for where, text in everything.items():
        for secret in SECRETS:
            assert secret not in text, where
