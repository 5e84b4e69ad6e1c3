"""The steps of a Dockerfile, run in a folder; and the health check that the image has."""

import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from rtvc.clock import FakeClock, SystemClock
from rtvc.errors import RtvcError, UsageError
from rtvc.server.lifecycle.tls import certificate_files
from tests.servers import ROOT, free_port
from tools import image_start
from tools.dockerfile import expanded, stages, steps
from tools.image_stage import Image, Outcome
from tools.image_start import Started, start
from tools.image_steps import DOCKERFILE, built, context, needed

HEALTH = ROOT / "infra" / "docker" / "health.py"

# Reading.


def test_an_instruction_goes_on_behind_a_backslash() -> None:
    text = (
        "# about it\nRUN --mount=type=cache,target=/x a \\\n  # nothing\n\n  && b\n\n"
        "# no\n\nUSER c\n"
    )
    run, user = steps(text)
    assert (run.line, run.word, run.text) == (2, "RUN", "a && b")
    assert run.flag("mount") == ["type=cache,target=/x"]
    assert run.notes == ("about it",)
    assert (user.line, user.text, user.notes) == (9, "c", ())


def test_arguments_before_the_first_stage_name_images() -> None:
    text = "ARG A=one\nARG B=${A}:2\nFROM $B AS x\nARG A\nFROM x\n"
    known, found = stages(text, {"A": "other"})
    assert known == {"A": "other", "B": "other:2"}
    assert [(each.base, each.name, len(each.steps)) for each in found] == [
        ("other:2", "x", 1),
        ("x", "", 0),
    ]


def test_variables() -> None:
    assert expanded("$A-${B}-${C:-c}-${A:-x}", {"A": "a"}) == "a--c-a"


# Building.


PYTHON = Path(sys.executable).resolve()


def image_of(text: str, root: Path, python: Path = PYTHON, **given: str) -> Image:
    dockerfile = root / "Dockerfile"
    dockerfile.write_text(text, encoding="utf-8")
    return built(dockerfile, "last", root / "image", given, python, SystemClock())[0]


def a_context(root: Path, **files: str) -> None:
    folder = root / "image" / "context"
    folder.mkdir(parents=True)
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_steps_run_where_the_image_would_have_its_folders(tmp_path: Path) -> None:
    a_context(tmp_path, one="1", two="2", folder__three="3")
    text = (
        "ARG WORD=none\nFROM a:1 AS first\nWORKDIR /src\nCOPY one two ./\nCOPY folder kept\n"
        "ARG WORD\nENV SAID=$WORD\n"
        "RUN mkdir /wheels && cat one two kept/three > /wheels/all && echo $SAID >> /wheels/all\n"
        "FROM b:1 AS last\n"
        "RUN --mount=type=bind,from=first,source=/wheels,target=/wheels \\\n"
        "    mkdir -p /opt/rtvc && cp /wheels/all /opt/rtvc/all\n"
        "COPY --from=first /src/one /opt/rtvc/\n"
    )
    image = image_of(text, tmp_path, WORD="hello")
    assert image.place("/opt/rtvc/all").read_text() == "123hello\n"
    assert image.place("/opt/rtvc/one").read_text() == "1"
    assert not Path("/opt/rtvc/all").exists()


def test_a_step_that_fails_is_told_with_what_it_said(tmp_path: Path) -> None:
    a_context(tmp_path)
    text = "FROM a:1 AS last\nRUN echo to no avail; exit 7\nRUN true\n"
    with pytest.raises(RtvcError, match=r"line 2 ended with 7:\nto no avail"):
        image_of(text, tmp_path)


def test_a_file_that_is_not_in_the_context_is_told(tmp_path: Path) -> None:
    a_context(tmp_path)
    with pytest.raises(RtvcError, match="line 2: secret is not in the context"):
        image_of("FROM a:1 AS last\nCOPY secret /src/secret\n", tmp_path)


def test_what_would_change_this_machine_is_left_out(tmp_path: Path) -> None:
    a_context(tmp_path)
    stage = stages("FROM a:1 AS last\nRUN true && useradd x && touch /src/x\nUSER x\n")[1][0]
    image = Image(stage, tmp_path / "image", FakeClock(), "/bin:/usr/bin")
    run, user = image.build({}, {})
    assert (run.seconds, run.why) == (None, "changes the system of an image")
    assert str(user) == "last:3 USER x: left out: nothing to do without an engine"
    assert str(Outcome("s", 1, "RUN x", 1.25)) == "s:1 RUN x: done in 1.2 s"


def test_own_settings_do_not_get_into_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RTVC_SERVE_PORT", "1")
    a_context(tmp_path)
    image = image_of("FROM a:1 AS last\nENV RTVC_SERVE_HOST=h PATH=/opt/rtvc/bin:$PATH\n", tmp_path)
    assert "RTVC_SERVE_PORT" not in image.environment
    assert image.environment["RTVC_SERVE_HOST"] == "h"
    assert image.environment["PATH"].startswith(f"{image.root}/opt/rtvc/bin:")


def test_python3_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    """Not the one that lies beside it under that name."""
    for name in ("python3", "python3.12"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho {name}\n", encoding="utf-8")
        program.chmod(0o755)
    a_context(tmp_path)
    text = "FROM a:1 AS last\nWORKDIR /src\nRUN python3 > which\n"
    image = image_of(text, tmp_path, tmp_path / "python3.12")
    assert image.place("which").read_text() == "python3.12\n"


def test_only_the_stages_that_are_needed_are_built() -> None:
    found = stages(DOCKERFILE.read_text("utf-8"))[1]
    for target in ("cpu", "cuda"):
        assert [stage.name for stage in needed(found, target)] == ["wheels", target]
    with pytest.raises(UsageError, match="expected one of wheels, cuda, cpu as --target, got 'x'"):
        needed(found, "x")
    with pytest.raises(UsageError, match="FROM one"):
        needed(stages("FROM a:1 AS one\nFROM one AS two\n")[1], "two")


def test_the_context_is_what_dockerignore_lets_through(tmp_path: Path) -> None:
    checkout, folder = tmp_path / "checkout", tmp_path / "context"
    checkout.mkdir()
    (checkout / ".dockerignore").write_text("*\n!kept\n")
    (checkout / "kept").write_text("k")
    (checkout / "secret").write_text("s")
    subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    assert context(checkout, folder) == 1
    assert [path.name for path in folder.iterdir()] == ["kept"]


def test_every_file_that_our_dockerfile_copies_is_let_through(tmp_path: Path) -> None:
    if subprocess.run(["git", "rev-parse"], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("not a git checkout")
    context(ROOT, tmp_path)
    copied = [
        source
        for stage in stages(DOCKERFILE.read_text("utf-8"))[1]
        for step in stage.steps
        if step.word == "COPY"
        for source in step.text.split()[:-1]
    ]
    assert {"rtvc", "constraints.txt", "infra/docker/health.py"} <= set(copied)
    for source in copied:
        assert (tmp_path / source).exists(), source
    assert not (tmp_path / "tests").exists()


# Starting.

SERVER = """
import http.server, os, signal, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
port = int(os.environ["RTVC_SERVE_PORT"])
http.server.HTTPServer((os.environ["RTVC_SERVE_HOST"], port), Ready).serve_forever()
"""


def a_server(root: Path, code: int, program: str = "serve.py") -> Image:
    a_context(root, serve=SERVER.format(code=code))
    url = "http://127.0.0.1:${RTVC_SERVE_PORT}/readyz"
    return image_of(
        "FROM a:1 AS last\nWORKDIR /src\nCOPY serve serve.py\nENV RTVC_SERVE_HOST=0.0.0.0\n"
        f'STOPSIGNAL SIGTERM\nHEALTHCHECK CMD {sys.executable} {HEALTH} "{url}"\n'
        f'ENTRYPOINT ["{sys.executable}"]\nCMD ["{program}"]\n',
        root,
    )


def test_what_is_started_gets_healthy_and_stops(tmp_path: Path) -> None:
    said: list[str] = []
    seen = start(a_server(tmp_path, 0), SystemClock(), said.append)
    assert seen == said
    assert "serve.py: healthy after" in seen[0]
    assert "SIGTERM: ended with 0 after" in seen[1]


def test_what_ends_badly_is_told(tmp_path: Path) -> None:
    with pytest.raises(RtvcError, match="SIGTERM: it ended with 3"):
        start(a_server(tmp_path, 3), SystemClock(), lambda _: None)


def test_what_does_not_start_is_told_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(RtvcError, match=r"it ended with 2:\n(?s:.*)no\.py"):
        start(a_server(tmp_path, 0, "no.py"), SystemClock(), lambda _: None)


class HastyClock(FakeClock):
    """A minute and a half goes by between two looks at it."""

    def now(self) -> float:
        self.advance(90.0)
        return super().now()


def test_a_health_check_that_hangs_is_not_healthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_start, "ASK_S", 0.2)
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(["sleep", "60"])
        hanging = Started(child, ["sleep"], "exec sleep 60", "SIGTERM", {}, log, HastyClock())
        try:
            with pytest.raises(RtvcError, match="it was not healthy within"):
                hanging.until_healthy()
        finally:
            hanging.end()


# The health check.


@contextmanager
def answering(status: int, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(f"{self.path} is {status}".encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/readyz"
        finally:
            server.shutdown()
            thread.join()


def health(url: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(HEALTH), url]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_only_a_server_that_is_ready_is_healthy(status: int, code: int) -> None:
    with answering(status) as url:
        done = health(url)
    assert done.returncode == code
    assert done.stdout == f"HTTP {status}: /readyz is {status}\n"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_tls_is_found_out_where_the_environment_does_not_tell(scheme: str, tmp_path: Path) -> None:
    files = certificate_files("self-signed", tmp_path, "127.0.0.1", SystemClock())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)
    with answering(503, tls) as url:
        done = health(url.replace("http:", f"{scheme}:"))
    assert (done.returncode, done.stdout) == (1, "HTTP 503: /readyz is 503\n")


def test_nobody_there_is_not_healthy() -> None:
    done = health(f"http://127.0.0.1:{free_port()}/readyz")
    assert done.returncode == 1
    assert "no answer" in done.stdout
    assert "Traceback" not in done.stderr
