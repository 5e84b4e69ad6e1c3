"""`rtvc models`: lists, fetches with resume, makes, removes; every mistake is one line."""

import hashlib
import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rtvc.cli import main
from rtvc.config import child_environment
from rtvc.stt import hub
from rtvc.stt.models import CATALOGUE, SELFTEST_PATH
from rtvc.stt.synthetic import DIMENSIONS, Dimensions

FILES = ("config.json", "model.bin", "tokenizer.json", "vocabulary.json")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def small_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIMENSIONS, "mini", Dimensions(32, 2, 1, 1))


def rtvc(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["models", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert rtvc("list", "--json") == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def test_all_models_are_listed_with_what_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    rows = listed(capsys)
    assert set(rows) == {"selftest", "pocketsphinx", *CATALOGUE}
    assert rows["selftest"]["here"]
    assert not rows["base.en"]["here"]
    assert (rows["tiny.en"]["languages"], rows["large-v3"]["languages"]) == (1, 100)
    sizes = [rows[name]["memory_mb"] for name in ("tiny.en", "small.en", "large-v3")]
    assert sizes == sorted(sizes)
    assert all(rows[name]["licence"] for name in rows)


def test_the_table_fits_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert rtvc("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("English" in line for line in lines) >= 5
    assert len([line for line in lines if "MB" in line]) == len(CATALOGUE)


def test_no_verb_means_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert rtvc() == 0
    assert "synthesize" in capsys.readouterr().out


def test_made_listed_removed(capsys: pytest.CaptureFixture[str], small_size: None) -> None:
    assert rtvc("synthesize", "mini") == 0
    assert "--model synthetic:mini" in capsys.readouterr().err
    assert listed(capsys)["synthetic:mini"]["note"] == "random weights"
    assert rtvc("remove", "synthetic:mini", "--yes") == 0
    assert "synthetic:mini" not in listed(capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pull", "tny"), "expected one of tiny.en"),
        (("remove", "tiny.en"), "nothing of it is here"),
        (("remove", "synthetic:tiny.en"), "nothing of it is here"),
        (("synthesize", "tny"), "expected synthetic:NAME"),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert rtvc(*arguments) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_removing_asks_first(
    caches: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = hub.own_folder(CATALOGUE["tiny.en"].repository).with_suffix(".en.part")
    part.mkdir(parents=True)
    (part / "model.bin").write_bytes(b"\0" * 3_000_000)
    assert listed(capsys)["tiny.en"]["note"] == "3 MB of it fetched"
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert rtvc("remove", "tiny.en") == 130
    assert part.exists()
    assert rtvc("remove", "tiny.en", "-y") == 0
    assert "3 MB" in capsys.readouterr().err
    assert not part.exists()


# Fetching, from a hub of ours that breaks off


class Hub(BaseHTTPRequestHandler):
    """As much of the model hub as fetching a repository needs; cuts answers in the middle."""

    protocol_version = "HTTP/1.1"
    server: "HubServer"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        if self.path.startswith("/api/models/"):
            about = {"id": "m", "sha": COMMIT, "siblings": [{"rfilename": f} for f in FILES]}
            self._send(200, json.dumps(about).encode(), {}, with_body=with_body)
            return
        name = self.path.rsplit("/", 1)[-1]
        if name not in FILES:
            self._send(404, b"", {}, with_body=with_body)
            return
        body = (SELFTEST_PATH / name).read_bytes()
        tag = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
        wanted = self.headers.get("Range")
        begin = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        if begin:
            tag["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        self._send(206 if begin else 200, body[begin:], tag, with_body=with_body, name=name)

    def _send(
        self, status: int, body: bytes, more: dict[str, str], *, with_body: bool, name: str = ""
    ) -> None:
        self.send_response(status)
        for key, value in {**more, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if not with_body:
            return
        cut = name == "model.bin" and self.server.cuts_left > 0
        sent = body[: len(body) // 2] if cut else body
        self.server.cuts_left -= cut
        self.server.sent_bytes[name] = self.server.sent_bytes.get(name, 0) + len(sent)
        self.wfile.write(sent)
        self.close_connection = cut


class HubServer(ThreadingHTTPServer):
    """Counts what it sends."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hub)
        self.cuts_left = 0
        self.sent_bytes: dict[str, int] = {}


@pytest.fixture
def own_hub() -> Iterator[HubServer]:
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def in_a_process(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The hub's client reads its settings when it is imported."""
    command = [sys.executable, "-m", "rtvc", "models", *arguments]
    return subprocess.run(
        command,
        env=child_environment(**environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_a_broken_download_goes_on_where_it_broke_off(own_hub: HubServer, caches: Path) -> None:
    port = own_hub.server_address[1]
    environment = {
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_HUB_CACHE": str(caches / "fetched"),
    }
    own_hub.cuts_left = 4
    broken = in_a_process("pull", "tiny.en", **environment)
    assert broken.returncode == 2
    assert "the next attempt goes on" in broken.stderr
    done = in_a_process("pull", "tiny.en", **environment)
    assert done.returncode == 0, done.stderr
    assert own_hub.cuts_left == 0
    assert own_hub.sent_bytes["model.bin"] == (SELFTEST_PATH / "model.bin").stat().st_size
    again = in_a_process("pull", "tiny.en", **environment)
    assert "is here already" in again.stderr
    fetched = [*(caches / "own").rglob("model.bin")]
    assert [path.read_bytes() for path in fetched] == [(SELFTEST_PATH / "model.bin").read_bytes()]


@pytest.mark.slow
def test_without_a_hub_the_answer_comes_soon_and_says_what_to_do(caches: Path) -> None:
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(caches / "fetched")}
    done = in_a_process("pull", "small.en", **environment)
    assert done.returncode == 2
    assert "Systran/faster-whisper-small.en" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_file_that_came_wrong_is_not_kept(own_hub: HubServer, caches: Path) -> None:
    part = caches / "own" / "rtvc" / "models" / "Systran--faster-whisper-tiny.en.part"
    part.mkdir(parents=True)
    (part / "commit").write_text(COMMIT)
    (part / "config.json").write_bytes(b"x" * (SELFTEST_PATH / "config.json").stat().st_size)
    environment = {"HF_ENDPOINT": f"http://127.0.0.1:{own_hub.server_address[1]}"}
    wrong = in_a_process("pull", "tiny.en", **environment)
    assert "config.json came wrong" in wrong.stderr
    right = in_a_process("pull", "tiny.en", **environment)
    assert right.returncode == 0, right.stderr
