"""The command line: quick, one line for every mistake, and no process left behind."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from rtvc import __version__
from rtvc.clock import SystemClock
from rtvc.config import load_settings
from rtvc.server.lifecycle.startup import build_services
from rtvc.server.lifecycle.startup import serve as serve_until_stopped
from rtvc.stt.models import SELFTEST_PATH
from tests.realtime_peer import Peer, session, silence, speech
from tests.servers import free_port, wait_until_ready
from tests.synthetic_run import write_run

HEAVY = ("numpy", "locust", "gevent", "faster_whisper", "ctranslate2", "fastapi", "jinja2", "httpx")

pytestmark = pytest.mark.slow


def rtvc(*arguments: str, folder: Path | None = None, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `rtvc`."""
    done = subprocess.run(
        [sys.executable, "-m", "rtvc", *arguments],
        cwd=folder,
        env={**os.environ, **environment},  # noqa: TID251 (a user's environment)
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def one_line(*arguments: str, folder: Path | None = None, **environment: str) -> str:
    """The one line with which `rtvc` refuses to do as it was told."""
    code, out, err = rtvc(*arguments, folder=folder, **environment)
    assert (code, out) == (2, ""), err
    assert err.startswith("rtvc: ")
    assert err.count("\n") == 1
    return err


@contextmanager
def serving(*flags: str, **environment: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    port = free_port()
    child = subprocess.Popen(
        [sys.executable, "-m", "rtvc", "serve", "--port", str(port), *flags],
        env={**os.environ, **environment},  # noqa: TID251 (a user's environment)
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            yield child, port
        finally:
            if child.poll() is None:
                child.kill()


def until_ready(child: "subprocess.Popen[str]") -> list[str]:
    """The lines it says up to the one that says it is ready."""
    assert child.stderr is not None
    said = []
    for line in child.stderr:
        said.append(line)
        if line.startswith("ready"):
            return said
    raise AssertionError(f"it ended: {said}")


# Help.


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_the_verbs(arguments: list[str]) -> None:
    code, out, _ = rtvc(*arguments)
    assert code == 0
    for verb in ("serve", "demo", "loadtest", "report"):
        assert verb in out


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"]])
def test_help_is_instant_because_nothing_heavy_is_imported(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom rtvc.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("verb", ["serve", "demo", "loadtest", "report"])
def test_every_verb_explains_itself(verb: str) -> None:
    code, out, _ = rtvc(verb, "--help")
    assert code == 0
    assert f"rtvc {verb}" in out


def test_help_breaks_no_sentence_and_hides_no_default() -> None:
    _, out, _ = rtvc("loadtest", "--help", COLUMNS="200")
    assert " until it is known how many the server holds." in " ".join(out.split())
    assert any(line.strip().startswith("Exit code: 0") for line in out.splitlines())
    assert "[synthetic speakers]" in out
    assert '[slo] objectives = ["errors<1%", "wer<10%"]' in out
    assert "SECONDS" in out
    assert "[auto: the server is asked]" in out


def test_the_version_is_printed() -> None:
    assert rtvc("--version")[:2] == (0, f"{__version__}\n")


# Mistakes.


def test_a_verb_or_flag_that_is_unknown_is_named() -> None:
    assert "'fly'" in one_line("fly")
    assert "--fly" in one_line("serve", "--fly")
    assert "rtvc serve --help" in one_line("serve", "--fly")
    assert "'--port'" in one_line("serve", "--port", "many")
    assert "expected the server's url" in one_line("loadtest").lower()


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = one_line("serve", "--model", "selftest", "--port", str(port))
    assert f"127.0.0.1:{port}: address already in use" in line
    assert "--port" in line


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "a..b"])
def test_an_address_that_is_not_ours_is_named(host: str) -> None:
    line = one_line("serve", "--model", "selftest", "--host", host, "--port", "0", "--open")
    assert f"cannot listen on {host}:0" in line


def test_a_damaged_model_is_known_before_the_port_opens(tmp_path: Path) -> None:
    for file in SELFTEST_PATH.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-100_000])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = one_line("serve", "--model", str(tmp_path), "--port", port)
    assert "cut short or damaged" in line
    assert str(weights) in line


def test_a_compute_type_the_device_lacks_is_known_before_the_port_opens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        flags = ("--compute-type", "int3", "--device", "cpu", "--port", port)
        line = one_line("serve", "--model", "selftest", *flags)
    assert 'got "int3"' in line
    assert "int8" in line


def test_a_model_that_cannot_be_is_named(tmp_path: Path) -> None:
    assert 'got "missing"' in one_line("serve", "--model", "missing", "--port", "0")
    assert "it is empty" in one_line("serve", "--model", str(tmp_path), "--port", "0")
    (tmp_path / "config.json").write_text("{}")
    line = one_line("serve", "--model", str(tmp_path), "--port", "0")
    assert "lacks model.bin, tokenizer.json" in line


def test_settings_that_are_wrong_are_named(tmp_path: Path) -> None:
    (tmp_path / "rtvc.toml").write_text("[serve]\nprot = 1\n")
    line = one_line("serve", folder=tmp_path)
    assert "rtvc.toml [serve] prot: unknown setting, did you mean port?" in line
    (tmp_path / "rtvc.toml").write_text("[serve\n")
    assert "not valid TOML" in one_line("serve", folder=tmp_path)
    assert "none.toml" in one_line("serve", "--settings", "none.toml")
    assert "RTVC_SERVE_PORT: expected" in one_line("serve", RTVC_SERVE_PORT="x")
    assert "--tls" in one_line("serve", "--tls", "a.pem,b.pem", "--port", "0")


def test_a_run_that_is_none_is_named(tmp_path: Path) -> None:
    assert str(tmp_path) in one_line("report", str(tmp_path))
    assert "nowhere" in one_line("report", "nowhere")
    (tmp_path / "run.json").write_text("{")
    assert "run.json" in one_line("report", str(tmp_path))


@pytest.mark.model
def test_a_corpus_that_cannot_be_read_is_named(server_url: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    for folder in (tmp_path / "none", tmp_path):
        line = one_line("loadtest", server_url, "--speech", str(folder), "--out", out)
        assert str(folder) in line
        assert not Path(out).exists(), "a start that was refused leaves no folder"


# rtvc report.


def test_a_report_is_rebuilt_and_its_verdict_printed(tmp_path: Path) -> None:
    write_run(tmp_path)
    code, out, err = rtvc("report", str(tmp_path))
    assert (code, err) == (99, "")
    assert "connection" in out
    assert f"report: {tmp_path / 'report.html'}" in out
    assert (tmp_path / "report.html").exists()
    texts = [(tmp_path / "report.html").read_text("utf-8")]
    assert rtvc("report", "--without-text", str(tmp_path))[0] == 99
    texts.append((tmp_path / "report.html").read_text("utf-8"))
    assert texts[0] != texts[1]


def test_a_run_is_judged_anew_by_other_targets(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    folders = (str(tmp_path / "a"), str(tmp_path / "b"))
    code, out, err = rtvc("report", *folders, "--slo", "connection_p95<3s")
    assert (code, err) == (0, "")
    assert out.count("connection max ") == 2
    assert rtvc("report", *folders, "--slo", "transcription_delay_p95<900ms")[0] == 3
    targets = tmp_path / "slo.toml"
    targets.write_text('[slo]\nobjectives = ["errors<1%"]\n')
    assert rtvc("report", folders[0], "--slo", str(targets))[0] == 99
    assert "expected" in one_line("report", folders[0], "--slo", "fast")


def test_when_one_run_is_none_no_report_is_written(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    assert "other" in one_line("report", str(tmp_path / "run"), str(tmp_path / "other"))
    assert not (tmp_path / "run" / "report.html").exists()


# rtvc serve without a network.


def no_network(cache: Path) -> dict[str, str]:
    """An environment in which the model hub does not answer and nothing is cached."""
    return {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(cache)}


def test_a_model_that_cannot_be_had_is_not_replaced_by_another(tmp_path: Path) -> None:
    command = ["serve", "--model", "tiny.en", "--port", "0"]
    code, _, err = rtvc(*command, folder=tmp_path, **no_network(tmp_path))
    assert code == 2
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("rtvc: ")]
    assert '"tiny.en" is not in the local cache' in line
    assert "ready:" not in err
    assert len(err.splitlines()) == 2  # that it is starting, and why it is not


@pytest.mark.model
def test_without_a_name_and_a_network_pocketsphinx_listens_and_says_so(tmp_path: Path) -> None:
    with serving(**no_network(tmp_path)) as (child, port):
        said = "".join(until_ready(child))
        assert "note: Using PocketSphinx" in said
        assert "speech-to-text pocketsphinx" in said
        body = httpx.get(f"http://127.0.0.1:{port}/readyz").json()
        assert body["model"] == "pocketsphinx"
        assert body["notice"].startswith("Using PocketSphinx")
        child.send_signal(signal.SIGTERM)
        assert child.stderr is not None
        assert child.stderr.read().endswith("stopped\n")
    assert child.returncode == 0


# The end of a server.


async def talk_on(peer: Peer) -> None:
    async with asyncio.timeout(20):
        while True:
            await peer.append(bytes(960))
            await asyncio.sleep(0.02)


@pytest.mark.model
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_server_its_sessions_and_its_children(
    number: signal.Signals,
) -> None:
    with serving("--model", "selftest") as (child, port):
        await asyncio.to_thread(until_ready, child)
        children = psutil.Process(child.pid).children(recursive=True)
        assert children
        url = f"http://127.0.0.1:{port}"
        async with session(url) as idle, session(url) as busy:
            await busy.speak(np.concatenate([silence(0.2), speech("tell me a story.").audio]))
            child.send_signal(number)
            for peer in (idle, busy):
                with pytest.raises(ConnectionClosed):
                    await talk_on(peer)
                assert peer.socket.close_code == 1001
        assert child.stderr is not None
        rest = await asyncio.to_thread(child.stderr.read)
        assert "Traceback" not in rest
        assert "ERROR" not in rest
        assert rest.endswith("stopped\n")
    assert child.returncode == 0
    _gone, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_a_server_can_be_stopped_while_it_loads() -> None:
    with serving("--model", "selftest") as (child, _port):
        assert child.stderr is not None
        assert child.stderr.readline().startswith("rtvc is starting")
        child.send_signal(signal.SIGTERM)
        rest = child.stderr.read()
        assert "Traceback" not in rest
    assert child.returncode == 0


# The first moments of a server.


async def test_who_comes_too_early_is_told_when_to_try_again() -> None:
    settings = load_settings({"stt": {"model": "scripted"}}, environment={}, toml=None)
    services = build_services(settings, SystemClock())
    loading = asyncio.Event()
    start = services.engine.start

    async def slow_start() -> None:
        await loading.wait()
        await start()

    services.engine.start = slow_start  # type: ignore[method-assign]
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        url = f"127.0.0.1:{listening.getsockname()[1]}"
        ready = asyncio.Event()
        server = asyncio.create_task(
            serve_until_stopped(services, listening, tls=None, on_ready=ready.set)
        )
        try:
            async with httpx.AsyncClient(trust_env=False, base_url=f"http://{url}") as client:
                assert (await client.get("/healthz")).status_code == 200
                page = await client.get("/readyz")
                assert page.status_code == 503
                assert page.json()["retry_after_s"] > 0
                assert {task["name"] for task in page.json()["tasks"]} >= {"speech-to-text"}
                for door in ("/v1/realtime", "/ws"):
                    with pytest.raises(InvalidStatus) as refused:
                        await connect(f"ws://{url}{door}")
                    answer = refused.value.response
                    assert answer.status_code == 503
                    assert int(answer.headers["Retry-After"]) >= 1
                    assert json.loads(answer.body or b"")["error"]["code"] == "not_ready"
                assert services.admission.sessions == 0
                loading.set()
                await asyncio.wait_for(ready.wait(), 60)
                assert (await client.get("/readyz")).status_code == 200
                async with connect(f"ws://{url}/v1/realtime") as socket_:
                    assert json.loads(await socket_.recv())["type"] == "session.created"
        finally:
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)
    assert services.sessions == {}


# Uploads.


@pytest.mark.model
async def test_five_minutes_uploaded_at_once_are_heard_to_the_last_word(server_url: str) -> None:
    said = np.concatenate([silence(0.5), speech("turn on the lights.").audio, silence(1.0)])
    async with session(server_url, "rtvc=1&intent=transcription") as peer:
        pcm = silence(290).astype("<i2").tobytes()
        for start in range(0, len(pcm), 480_000):
            await peer.append(pcm[start : start + 480_000])
        await peer.append((said * 32_767).astype("<i2").tobytes())
        await peer.until("conversation.item.input_audio_transcription.completed", seconds=90)
        assert "lights" in peer.transcripts()[0]
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{server_url}/v1/sessions")
        sessions = answer.json()["sessions"]
        assert max(entry["audio_s"] for entry in sessions) > 290


def test_the_helper_that_waits_for_a_server_sees_one_that_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    child.wait()
    with pytest.raises(AssertionError, match="ended with 3"):
        wait_until_ready("http://127.0.0.1:9", child)
