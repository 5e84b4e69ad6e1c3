"""Signals to a real server: what its callers notice of a reload, and of a stop."""

import asyncio
import io
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from rtvc.clock import SystemClock
from rtvc.server.lifecycle.tls import CertificateFiles, certificate_files
from tests.realtime_peer import Peer, session, silence, speech
from tests.servers import free_port, wait_until_ready
from tests.test_cli import serving as cli_serving
from tests.test_cli import until_ready
from tests.test_server_realtime import nearly, utterance

pytestmark = [pytest.mark.model, pytest.mark.slow]


class Server:
    """One that reads a settings file of the test's."""

    def __init__(self, child: "subprocess.Popen[bytes]", folder: Path, url: str) -> None:
        self.child = child
        self.settings = folder / "rtvc.toml"
        self.log = folder / "log"
        self.url = url

    def signal(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"{self.url}{path}")

    async def post(self, body: bytes | AsyncIterator[bytes], kind: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            address = f"{self.url}/v1/audio/transcriptions"
            return await client.post(address, content=body, headers={"Content-Type": kind})

    async def certificate(self) -> str:
        """The one that a new connection sees."""
        where = self.url.removeprefix("https://").split(":")
        return await asyncio.to_thread(ssl.get_server_certificate, (where[0], int(where[1])))

    async def until_logged(self, text: str) -> str:
        async with asyncio.timeout(20):
            while text not in (said := self.log.read_text("utf-8")):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return said

    async def ended(self) -> int:
        return await asyncio.to_thread(self.child.wait, 30)


def until_it_says_so(server: Server) -> None:
    for _ in range(1000):
        if "ready:" in server.log.read_text("utf-8"):
            return
        time.sleep(0.02)
    raise AssertionError("the server was not ready in time")


@contextmanager
def serving(folder: Path, text: str = "", scheme: str = "http", **more: Any) -> Iterator[Server]:
    (folder / "rtvc.toml").write_text(text, "utf-8")
    port = free_port()
    command = [sys.executable, "-m", "rtvc", "serve", "--model", "selftest", "--port", str(port)]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [*command, "--settings", str(folder / "rtvc.toml")], stderr=log, **more
        ) as child,
    ):
        server = Server(child, folder, f"{scheme}://127.0.0.1:{port}")
        try:
            if scheme == "http":
                wait_until_ready(server.url, child)
            else:
                until_it_says_so(server)
            yield server
        finally:
            if child.poll() is None:
                child.kill()


def self_signed(folder: Path) -> CertificateFiles:
    folder.mkdir()
    return certificate_files("self-signed", folder, "127.0.0.1", SystemClock())


async def until_draining(server: Server) -> None:
    async with asyncio.timeout(10):
        while (await server.get("/readyz")).json()["state"] != "draining":  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def finished(peer: Peer) -> int | None:
    """The code with which the server closes the session."""
    async with asyncio.timeout(30):
        await peer.socket.wait_closed()
    return peer.socket.close_code


async def test_a_reload_is_not_noticed_by_who_speaks(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        async with session(server.url) as peer:
            server.settings.write_text("[serve]\nmax_sessions = 2\nport = 1\n", "utf-8")
            await peer.speak(np.concatenate([silence(0.3), speech("turn on").audio]))
            server.signal(signal.SIGHUP)
            await peer.speak(np.concatenate([speech("the lights.").audio, silence(1.0)]))
            said = await server.until_logged("reloaded: changed: serve.max_sessions 32 → 2")
            assert "only after a restart: serve.port" not in said  # the flag goes before the file
            assert (await server.get("/readyz")).json()["max_sessions"] == 2
            # A mistake: the old ones stay.
            server.settings.write_text("[serve]\nmax_sessions = -1\n", "utf-8")
            server.signal(signal.SIGHUP)
            await server.until_logged("reload refused, nothing has changed")
            assert (await server.get("/readyz")).json()["max_sessions"] == 2
            figures = (await server.get("/metrics")).text
            assert 'rtvc_reloads_total{outcome="applied"} 1' in figures
            assert 'rtvc_reloads_total{outcome="refused"} 1' in figures
            await peer.until("response.done")
            await peer.speak(utterance("turn off the lights."))
            await peer.until("conversation.item.input_audio_transcription.completed", count=2)
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0


async def test_who_speaks_when_the_server_is_told_to_stop_finishes_first(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        async with session(server.url) as idle, session(server.url) as talker:
            await talker.speak(np.concatenate([silence(0.3), speech("turn on").audio]))
            server.signal(signal.SIGTERM)
            assert await finished(idle) == 1001
            # Nobody new comes in meanwhile.
            ready = await server.get("/readyz")
            assert (ready.status_code, ready.json()["state"]) == (503, "draining")
            with pytest.raises(InvalidStatus) as refused:
                async with connect(f"{server.url.replace('http', 'ws')}/v1/realtime"):
                    pass
            assert refused.value.response.status_code == 503
            assert int(refused.value.response.headers["Retry-After"]) > 0
            speaking = asyncio.create_task(
                talker.speak(np.concatenate([speech("the lights.").audio, silence(20)]))
            )
            assert await finished(talker) == 1001
            with pytest.raises(ConnectionClosed):
                await speaking
            assert len(talker.transcripts()) == 1
            assert talker.of("response.done")[0]["response"]["status"] == "completed"
        assert await server.ended() == 0
        assert "ERROR" not in server.log.read_text("utf-8")


async def test_at_the_deadline_a_final_comes_before_the_end(tmp_path: Path) -> None:
    with serving(tmp_path, "[serve]\nshutdown_s = 0.5\n") as server:
        async with session(server.url) as peer:
            await peer.speak(
                np.concatenate([silence(0.3), speech("turn on the lights.").audio[:-2400]])
            )
            server.signal(signal.SIGTERM)
            assert await finished(peer) == 1001
            (heard,) = peer.transcripts()
            assert nearly(heard, "turn on the lights", errors=2)
        assert await server.ended() == 0


async def test_audio_that_waits_for_its_commit_is_transcribed_too(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        async with session(server.url) as peer:
            none = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
            await peer.send("session.update", session=none)
            await peer.until("session.updated")
            await peer.speak(utterance("turn on the lights.", trail_s=0.1))
            server.signal(signal.SIGINT)
            assert await finished(peer) == 1001
            (heard,) = peer.transcripts()
            assert nearly(heard, "turn on the lights")
        assert await server.ended() == 0


async def test_an_upload_under_way_gets_its_answer_and_a_new_one_is_refused(
    tmp_path: Path,
) -> None:
    clip = io.BytesIO()
    soundfile.write(clip, utterance("turn on the lights."), 24_000, format="WAV")
    whole = httpx.Request(
        "POST",
        "http://server",
        files={"file": ("a.wav", clip.getvalue())},
        data={"model": "selftest"},
    )
    whole.read()
    half = len(whole.content) // 2
    with serving(tmp_path) as server:

        async def slowly() -> AsyncIterator[bytes]:
            yield whole.content[:half]
            server.signal(signal.SIGTERM)
            await until_draining(server)
            again = await server.post(whole.content, whole.headers["content-type"])
            assert again.status_code == 503
            assert int(again.headers["Retry-After"]) > 0
            yield whole.content[half:]

        answer = await server.post(slowly(), whole.headers["content-type"])
        assert answer.status_code == 200
        assert nearly(answer.json()["text"], "turn on the lights")
        assert await server.ended() == 0


async def test_new_connections_see_a_new_certificate(tmp_path: Path) -> None:
    files, other = (self_signed(tmp_path / name) for name in "ab")
    tls = f"{files.certificate},{files.key}"
    with serving(tmp_path, f"[serve]\ntls = '{tls}'\n", scheme="https") as server:
        first = await server.certificate()
        assert first == files.certificate.read_text("utf-8")
        shutil.copy(other.certificate, files.certificate)
        server.signal(signal.SIGHUP)
        await server.until_logged("reload refused, nothing has changed: --tls")
        assert await server.certificate() == first
        shutil.copy(other.key, files.key)
        server.signal(signal.SIGHUP)
        await server.until_logged("reloaded: no setting changed")
        assert await server.certificate() == other.certificate.read_text("utf-8")
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0


async def test_the_second_signal_does_not_wait(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        async with session(server.url) as peer:
            await peer.speak(np.concatenate([silence(0.3), speech("turn on the lights").audio]))
            server.signal(signal.SIGTERM)
            await until_draining(server)
            server.signal(signal.SIGTERM)
            assert await finished(peer) == 1001
            assert peer.transcripts() == []
        assert await server.ended() == 0


async def test_a_service_manager_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        told: list[bytes] = []
        environment = {
            **os.environ,  # noqa: TID251 (a user's environment)
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "2000000",
        }

        async def hear(wanted: bytes) -> None:
            async with asyncio.timeout(20):
                while wanted not in told:
                    told.append(await asyncio.get_running_loop().sock_recv(manager, 1000))

        with serving(tmp_path, env=environment) as server:
            await hear(b"WATCHDOG=1")
            await hear(b"READY=1")
            told.clear()
            server.signal(signal.SIGHUP)
            await hear(b"READY=1")
            assert any(line.startswith(b"RELOADING=1\nMONOTONIC_USEC=") for line in told)
            server.signal(signal.SIGTERM)
            await hear(b"STOPPING=1")
            assert await server.ended() == 0


def test_a_reload_that_comes_while_it_loads_waits_until_it_has(tmp_path: Path) -> None:
    with cli_serving("--model", "selftest") as (child, _port):
        assert child.stderr is not None
        assert child.stderr.readline().startswith("rtvc is starting")
        child.send_signal(signal.SIGHUP)
        assert "reload" not in "".join(until_ready(child))
        assert any("reloaded: no setting changed" in line for line in child.stderr)
        child.send_signal(signal.SIGTERM)
        assert child.stderr.read().endswith("stopped\n")
    assert child.returncode == 0
