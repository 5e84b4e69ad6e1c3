"""A real server that asks for keys: who comes in, who does not, and what they are told."""

import asyncio
import contextlib
import io
import json
import random
import socket
import string
import wave
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from rtvc.clock import SystemClock
from rtvc.config import load_settings
from rtvc.protocol.realtimevoicechat import AudioPacket, encode_packet
from rtvc.server.access.keys import entry
from rtvc.server.lifecycle.startup import bind, build_services, serve
from rtvc.server.services import Services
from tests.realtime_peer import session, silence, speech
from tests.servers import running_server
from tests.test_engine import until

pytestmark = pytest.mark.slow

ADA, GRAFANA, ONE, RARE, QUIET = (
    f"rtvc_{name:-<43}" for name in ("ada", "gra", "one", "rar", "qui")
)
KEYS = (
    entry("ada", ADA)
    + (entry("grafana", GRAFANA) + 'scopes = ["watch"]\n')
    + (entry("one", ONE) + "max_sessions = 1\n")
    + (entry("rare", RARE) + "connects_per_minute = 2\n")
    + (entry("quiet", QUIET) + "audio_s_per_hour = 2\n")
)
REALTIME = "/v1/realtime"
SUBPROTOCOL = "openai-insecure-api-key."
SECRETS = "/v1/realtime/client_secrets"
FILES = "/v1/audio/transcriptions"
SECOND = "A" * (48_000 * 4 // 3)
"""One second of silence in base64."""


def headed(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server with KEYS, for tests that leave it as they found it."""
    folder = tmp_path_factory.mktemp("access")
    (folder / "keys.toml").write_text(KEYS)
    (folder / "rtvc.toml").write_text("[access]\nhead_s = 1.0\n")
    flags = ["--keys-file", str(folder / "keys.toml"), "--settings", str(folder / "rtvc.toml")]
    with running_server(*flags, "--origin", "https://friend.example", model="scripted") as url:
        yield url


@asynccontextmanager
async def guarded(keys: Path | None = None, **access: Any) -> AsyncIterator[tuple[str, Services]]:
    """A server in this process."""
    flags: dict[str, dict[str, Any]] = {
        "stt": {"model": "scripted"},
        "access": {"keys_file": keys, **access},
    }
    services = build_services(load_settings(flags, environment={}), SystemClock())
    listening = bind("127.0.0.1", 0)
    ready = asyncio.Event()
    with listening:
        server = asyncio.create_task(serve(services, listening, tls=None, on_ready=ready.set))
        try:
            await asyncio.wait_for(ready.wait(), 60)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", services
        finally:
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)


def calling(
    url: str,
    path: str = REALTIME,
    key: str | None = None,
    protocols: Sequence[str] = (),
    **headers: str,
) -> connect:
    return connect(
        url.replace("http", "ws", 1) + path,
        additional_headers={**headers, **(headed(key) if key else {})},
        subprotocols=[Subprotocol(one) for one in protocols] or None,
        compression=None,
    )


async def first(wire: ClientConnection) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(await wire.recv())
    return event


async def refused(url: str, path: str = REALTIME, **how: Any) -> tuple[int, str, Any]:
    """Status, reason and headers of the answer to a handshake."""
    with pytest.raises(InvalidStatus) as error:
        async with calling(url, path, **how):
            pass
    response = error.value.response
    body = json.loads(response.body or b"{}")
    return response.status_code, body["error"]["code"], response.headers


async def closed(wire: ClientConnection) -> tuple[int, str, list[dict[str, Any]]]:
    """How the server closes it, and what it says before."""
    async with asyncio.timeout(20):
        events = [json.loads(message) async for message in heard(wire)]
    assert wire.close_code is not None
    return wire.close_code, wire.close_reason or "", events


async def heard(wire: ClientConnection) -> AsyncIterator[str | bytes]:
    """Every message, until it is closed in whatever way."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await wire.recv()


def get(url: str, key: str | None = None) -> httpx.Response:
    return httpx.get(url, headers=headed(key) if key else {})


def post(url: str, key: str | None = None, **body: Any) -> httpx.Response:
    return httpx.post(url, headers=headed(key) if key else {}, **body)


def token(url: str, key: str = ADA, **body: Any) -> str:
    made = httpx.post(url + SECRETS, headers=headed(key), json=body)
    assert made.status_code == 200, made.text
    return str(made.json()["value"])


def wav(seconds: float) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(2 * round(16_000 * seconds)))
    return out.getvalue()


def upload(url: str, key: str | None, seconds: float = 0.5, **headers: str) -> httpx.Response:
    return httpx.post(
        url + FILES,
        headers={**headers, **(headed(key) if key else {})},
        files={"file": ("a.wav", wav(seconds))},
        timeout=30,
    )


# Keys.


async def test_without_a_key(url: str) -> None:
    for path in (REALTIME, "/ws", "/nowhere"):
        status, reason, headers = await refused(url, path)
        assert (status, reason, headers["WWW-Authenticate"]) == (401, "no_key", "Bearer")
    for path in ("/metrics", "/v1/sessions", "/v1/models", "/nowhere"):
        answer = get(url + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "no_key")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "content-security-policy" in answer.headers
    assert upload(url, None).status_code == post(url + SECRETS).status_code == 401
    for path in ("/", "/healthz", "/readyz", "/static/app.js", "/favicon.ico"):
        assert get(url + path).status_code == 200


async def test_with_a_wrong_key(url: str) -> None:
    for wrong in (ADA[:-1], "ek_nothing", ADA.lower() + "x"):
        assert (await refused(url, key=wrong))[:2] == (401, "wrong_key")
        assert get(url + "/metrics", wrong).status_code == 401
    scraped = get(url + "/metrics", GRAFANA).text
    counted = {
        line.partition('"')[2].partition('"')[0]: float(line.rpartition(" ")[2])
        for line in scraped.splitlines()
        if line.startswith("rtvc_denied_requests_total{")
    }
    assert counted["wrong_key"] >= 6
    assert counted["foreign_host"] == 0


async def test_with_a_key(url: str) -> None:
    async with calling(url, key=ADA) as wire:
        assert (await first(wire))["type"] == "session.created"
        shown = get(url + "/v1/sessions", GRAFANA)
        assert [session["key"] for session in shown.json()["sessions"]] == ["ada"]
        assert ADA not in shown.text
    async with calling(url, "/ws", key=ADA):
        pass
    assert upload(url, ADA).status_code == 200
    assert get(url + "/v1/models", ADA).status_code == 200


async def test_a_key_for_watching_only(url: str) -> None:
    assert (await refused(url, key=GRAFANA))[:2] == (403, "wrong_scope")
    assert get(url + "/v1/sessions", GRAFANA).status_code == 200
    assert upload(url, GRAFANA).status_code == 403


def test_readiness_tells_strangers_little(url: str) -> None:
    stranger = get(url + "/readyz").json()
    assert stranger == {
        "state": "ready",
        "progress": 1.0,
        "detail": "",
        "tasks": [],
        "full": False,
        "retry_after_s": None,
        "needs_key": True,
    }
    assert get(url + "/readyz", "nonsense").json() == stranger
    known = get(url + "/readyz", ADA).json()
    assert known["model"]
    assert "needs_key" not in known


async def test_a_revoked_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(KEYS)
    async with guarded(keys) as (url, services):
        async with calling(url, key=ADA) as gone, calling(url, key=ONE) as stays:
            await first(gone)
            await first(stays)
            keys.write_text(entry("one", ONE))
            assert "ada" in services.access.reload()
            assert (await closed(gone))[:2] == (1008, "the key was revoked")
            assert (await refused(url, key=ADA))[:2] == (401, "wrong_key")
            await stays.send('{"type": "input_audio_buffer.clear"}')
            assert (await first(stays))["type"] == "input_audio_buffer.cleared"
        await until(lambda: not services.access.visits)
        assert services.admission.sessions == 0


# Client tokens.


async def test_a_token_brings_its_settings_along(url: str) -> None:
    wanted = {"type": "realtime", "instructions": "Be brief.", "audio": {"output": {"speed": 1.25}}}
    expires = {"anchor": "created_at", "seconds": 60}
    before_s = SystemClock().utc().timestamp()
    answer = post(url + SECRETS, ADA, json={"expires_after": expires, "session": wanted}).json()
    assert answer["value"].startswith("ek_")
    assert 58 <= answer["expires_at"] - before_s <= 70
    assert answer["session"]["instructions"] == "Be brief."
    offered = ["realtime", SUBPROTOCOL + answer["value"]]
    async with calling(url, protocols=offered) as wire:
        assert wire.subprotocol == "realtime"
        session = (await first(wire))["session"]
        assert session["instructions"] == "Be brief."
        assert session["audio"]["output"]["speed"] == 1.25
    async with calling(url, f"{REALTIME}?token={answer['value']}") as wire:
        assert (await first(wire))["session"]["instructions"] == "Be brief."


async def test_a_token_with_long_instructions(url: str) -> None:
    letters = "".join(random.Random(0).choices(string.ascii_letters, k=8000))
    wanted = {"type": "realtime", "instructions": letters[:3000]}
    value = token(url, session=wanted)
    assert len(value) > 2000
    offered: list[dict[str, Any]] = [
        {"key": value},
        {"protocols": ["realtime", SUBPROTOCOL + value]},
    ]
    for how in offered:
        async with calling(url, **how) as wire:
            assert (await first(wire))["session"]["instructions"] == letters[:3000]
    answer = post(url + SECRETS, ADA, json={"session": {**wanted, "instructions": letters}})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "session"
    assert error["message"].startswith("session: expected settings that fit into 4096 characters")


async def test_a_token_of_one_server_opens_sessions_at_another(url: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(entry("ada", ADA) + entry("one", QUIET))
    async with guarded(keys) as (other, _):
        wanted = {"type": "transcription"}
        made = await asyncio.to_thread(token, other, session=wanted)
        async with calling(url, key=made) as wire:
            assert (await first(wire))["session"]["type"] == "transcription"
        # There, "one" is another key.
        made = await asyncio.to_thread(token, url, ONE)
        assert (await refused(other, key=made))[:2] == (401, "wrong_key")


async def test_a_token_with_settings_that_this_server_does_not_take(tmp_path: Path) -> None:
    """One of another version may have made it."""
    keys = tmp_path / "keys.toml"
    keys.write_text(KEYS)
    async with guarded(keys) as (url, services):
        wrong: list[dict[str, Any]] = [
            {"type": "realtime", "instructions": 7},
            {"type": "video"},
            {},
        ]
        for settings in wrong:
            value = services.access.tokens.make("ada", 60, settings)
            assert (await refused(url, key=value))[0] == 400
        await until(lambda: not services.access.visits)
        assert services.admission.sessions == 0


async def test_a_token_for_dictation_in_another_format(url: str) -> None:
    wanted = {"type": "transcription", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}
    async with calling(url, key=token(url, session=wanted)) as wire:
        session = (await first(wire))["session"]
        assert session["type"] == "transcription"
        assert session["audio"]["input"]["format"] == {"type": "audio/pcmu"}
        await wire.send(json.dumps({"type": "input_audio_buffer.append", "audio": "/" * 10_668}))
        await wire.send('{"type": "input_audio_buffer.clear"}')
        # 8,001 bytes would be no whole samples of 16 bits.
        assert (await first(wire))["type"] == "input_audio_buffer.cleared"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"expires_after": {"seconds": 9}}, "expires_after.seconds"),
        ({"expires_after": {"seconds": 7201}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "now", "seconds": 60}}, "expires_after.anchor"),
        ({"session": {"type": "video"}}, "session.type"),
        ({"session": {"instructions": "x"}}, "session.type"),
        ({"session": {"type": "realtime", "instructions": 7}}, "session.instructions"),
        ([], None),
    ],
)
def test_a_token_wants_settings_that_hold(url: str, body: Any, param: str | None) -> None:
    answer = post(url + SECRETS, ADA, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_huge_request_for_a_token(url: str) -> None:
    answer = post(url + SECRETS, ADA, content=b" " * 400_000)
    assert answer.status_code == 400


async def test_tokens_and_keys_in_an_address(url: str) -> None:
    assert (await refused(url, f"/ws?token={ADA}"))[:2] == (401, "wrong_key")
    async with calling(url, f"/ws?token={token(url)}"):
        pass
    got = get(f"{url}/metrics?token={token(url)}")
    assert (got.status_code, got.json()["error"]["code"]) == (403, "wrong_scope")
    made = post(url + SECRETS, token(url))
    assert made.status_code == 403


async def test_an_expired_token(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(KEYS)
    async with guarded(keys) as (url, services):
        value = services.access.tokens.make("ada", -1.0, {"type": "realtime"})
        assert (await refused(url, key=value))[:2] == (401, "expired_token")


# Pages and names.


async def test_pages_of_others(url: str) -> None:
    evil = {"Origin": "https://evil.example"}
    assert (await refused(url, key=ADA, **evil))[:2] == (403, "foreign_origin")
    assert upload(url, ADA, Origin=evil["Origin"]).json()["error"]["code"] == "foreign_origin"
    for origin in (url, "https://friend.example"):
        async with calling(url, key=ADA, Origin=origin) as wire:
            assert (await first(wire))["type"] == "session.created"


async def test_a_local_server_without_keys() -> None:
    async with guarded() as (url, services), httpx.AsyncClient() as http:
        assert "needs_key" not in (await http.get(url + "/readyz")).json()
        for path in ("/", "/v1/sessions", "/readyz"):
            rebound = await http.get(url + path, headers={"Host": "evil.example"})
            assert (rebound.status_code, rebound.json()["error"]["code"]) == (403, "foreign_host")
        evil = {"Origin": "http://evil.example"}
        assert (await refused(url, **evil))[:2] == (403, "foreign_origin")
        async with calling(url, key="sk-anything") as wire:
            assert (await first(wire))["type"] == "session.created"
            assert next(iter(services.access.visits)).key_id is None
        made = await http.post(url + SECRETS, json={"session": {"type": "transcription"}})
        async with calling(url, key=made.json()["value"]) as wire:
            assert (await first(wire))["session"]["type"] == "transcription"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../metrics",
        "/static/%2e%2e/metrics",
        "/static/..%2fmetrics",
        "/static/%2e%2e%2fv1/sessions",
        "/static//etc/passwd",
        "/static/..%5c..%5capp.py",
        "/static/../app.py",
        "/static/%00",
        "//metrics",
        "/metrics/",
        "/./metrics",
        "/%6detrics",
        "/METRICS",
        "/v1/sessions;x",
        "/healthz/../metrics",
    ],
)
def test_no_path_leads_around_the_door(url: str, path: str) -> None:
    """By hand: every client tidies paths up."""
    answer = raw(
        url, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )
    status = int(answer.split(b" ", 2)[1])
    assert status in (400, 401, 404), answer[:200]
    assert b"rtvc_build_info" not in answer
    assert b"max_sessions" not in answer
    assert b"import " not in answer


def raw(url: str, request: bytes) -> bytes:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as wire:
        wire.sendall(request)
        answer = b""
        while piece := wire.recv(65_536):
            answer += piece
        return answer


# Limits.


async def test_too_many_sessions(url: str) -> None:
    async with calling(url, key=ONE) as wire:
        await first(wire)
        status, reason, headers = await refused(url, key=ONE)
        assert (status, reason) == (429, "too_many_sessions")
        assert int(headers["Retry-After"]) > 0
        async with calling(url, key=ADA):
            pass
    async with asyncio.timeout(10):
        while True:
            try:
                async with calling(url, key=ONE):
                    return
            except InvalidStatus:
                await asyncio.sleep(0.05)


async def test_too_many_connects(url: str) -> None:
    assert upload(url, RARE).status_code == 200
    async with calling(url, key=RARE):
        pass
    assert (await refused(url, key=RARE))[:2] == (429, "too_many_connects")
    again = upload(url, RARE)
    assert (again.status_code, again.json()["error"]["code"]) == (429, "too_many_connects")
    assert 1 <= int(again.headers["Retry-After"]) <= 30


async def test_too_much_audio(url: str) -> None:
    append = json.dumps({"type": "input_audio_buffer.append", "audio": SECOND})
    async with calling(url, key=QUIET) as wire:
        for _ in range(3):
            await wire.send(append)
        code, reason, events = await closed(wire)
        assert (code, reason) == (1008, "expected at most 2 s of audio an hour")
        errors = [event["error"]["code"] for event in events if event["type"] == "error"]
        assert errors == ["too_much_audio"]
    async with calling(url, "/ws", key=QUIET) as wire:
        await wire.send(encode_packet(AudioPacket(0, False, bytes(2 * 48_000))))
        assert (await closed(wire))[0] == 1008
    answer = upload(url, QUIET, seconds=2.0)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_much_audio")
    assert int(answer.headers["Retry-After"]) > 1


async def test_too_many_wrong_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(KEYS)
    async with guarded(keys, wrong_keys_per_minute=2) as (url, _):
        for number in range(2):
            assert (await refused(url, key=f"guess-{number}"))[:2] == (401, "wrong_key")
        status, reason, headers = await refused(url, key=ADA)
        assert (status, reason) == (429, "too_many_wrong_keys")
        assert int(headers["Retry-After"]) >= 1


async def test_quiet_and_long_sessions_end() -> None:
    async with guarded(idle_s=0.4, session_s=1.5) as (url, services):
        async with calling(url) as quiet, calling(url) as busy:
            clear = '{"type": "input_audio_buffer.clear"}'

            async def keep_busy() -> None:
                while True:
                    await busy.send(clear)
                    await asyncio.sleep(0.1)

            working = asyncio.create_task(keep_busy())
            assert (await closed(quiet))[:2] == (1001, "idle")
            assert (await closed(busy))[:2] == (1001, "the session has reached its longest time")
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        await until(lambda: not services.access.visits)
        assert services.sessions == {}


async def test_whoever_still_speaks_at_the_longest_time_gets_the_final() -> None:
    async with guarded(session_s=2.0) as (url, services):
        async with session(url) as peer:
            said = speech("turn on the lights in the kitchen and in the garden please").audio
            talking = asyncio.create_task(peer.speak(np.concatenate([silence(0.3), said, said])))
            await peer.until("conversation.item.input_audio_transcription.completed")
            await peer.socket.wait_closed()
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
            assert len(peer.transcripts()) == len(peer.of("input_audio_buffer.committed")) == 1
            assert peer.socket.close_code == 1001
        await until(lambda: not services.access.visits)


async def test_who_has_used_up_the_audio_gets_the_final_of_what_was_said_before() -> None:
    async with guarded(audio_s_per_hour=2.5) as (url, services):
        async with session(url) as peer:
            said = speech("turn on the lights in the kitchen and in the garden please").audio
            talking = asyncio.create_task(peer.speak(np.concatenate([silence(0.3), said, said])))
            await peer.socket.wait_closed()
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
            assert len(peer.transcripts()) == len(peer.of("input_audio_buffer.committed")) == 1
            assert [event["error"]["code"] for event in peer.of("error")] == ["too_much_audio"]
            assert peer.socket.close_code == 1008
        await until(lambda: not services.access.visits)


async def test_a_flood_of_messages_is_slowed_down_and_loses_nothing() -> None:
    async with guarded(messages_per_s=20.0) as (url, _), calling(url) as wire:
        started_s = SystemClock().now()
        for number in range(240):
            await wire.send(
                json.dumps({"type": "input_audio_buffer.clear", "event_id": f"{number}"})
            )
        cleared = 0
        async with asyncio.timeout(30):
            while cleared < 240:
                cleared += (await first(wire))["type"] == "input_audio_buffer.cleared"
        # Ten seconds' worth at once, and 40 more at 20 a second.
        assert SystemClock().now() - started_s >= 1.9


# Of others.


async def test_the_item_of_another_is_not_there(url: str) -> None:
    item = {
        "type": "message",
        "role": "user",
        "id": "item_mine",
        "content": [{"type": "input_text", "text": "a secret of mine"}],
    }
    async with calling(url, key=ADA) as mine, calling(url, key=ONE) as other:
        await mine.send(json.dumps({"type": "conversation.item.create", "item": item}))
        retrieve = json.dumps({"type": "conversation.item.retrieve", "item_id": "item_mine"})
        while (await first(mine))["type"] != "conversation.item.done":
            pass
        await other.send(retrieve)
        assert (await first(other))["type"] == "session.created"
        answer = await first(other)
        assert answer["type"] == "error"
        assert "a secret" not in json.dumps(answer)
        await mine.send(retrieve)
        assert (await first(mine))["type"] == "conversation.item.retrieved"
        shown = get(url + "/v1/sessions", ADA).text
        assert "a secret" not in shown


# Heads.


def test_an_oversized_head(url: str) -> None:
    big = f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Big: {'x' * 70_000}\r\n\r\n"
    assert raw(url, big.encode()).startswith(b"HTTP/1.1 431 ")
    many = "".join(f"X-{number}: y\r\n" for number in range(200))
    answer = raw(url, f"GET /healthz HTTP/1.1\r\nHost: localhost\r\n{many}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_a_slow_head_is_hung_up_on(url: str) -> None:
    assert raw(url, b"") == b""
    assert raw(url, b"GET /healthz HTTP/1.1\r\nHost: local").startswith(b"HTTP/1.1 408 ")
    assert raw(url, b"GET /").startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(("proxies", "statuses"), [((), [401, 401, 429]), ("127.0.0.1", [401] * 3)])
async def test_nobody_chooses_an_address_unless_a_proxy_is_believed(
    proxies: Any, statuses: list[int], tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(KEYS)
    async with (
        guarded(keys, wrong_keys_per_minute=2, proxies=proxies) as (url, _),
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        found = [
            await client.get(
                "/v1/sessions",
                headers={"authorization": "Bearer wrong", "x-forwarded-for": f"203.0.113.{number}"},
            )
            for number in range(3)
        ]
    assert [answer.status_code for answer in found] == statuses
