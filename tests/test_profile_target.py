"""What the verbs of `rtvc profile` say of a server that is not there, or that is not trusted."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rtvc.cli import main
from rtvc.errors import RecordError
from rtvc.profile.run_folder import recorded
from rtvc.profile.target import no_answer, untrusted
from tests.hostile_servers import write_certificate
from tests.live_scrapes import metrics, sessions_body
from tests.servers import free_port
from tests.synthetic_run import write_run

PAGES = {"/metrics": metrics([0.25] * 20), "/v1/sessions": json.dumps(sessions_body())}


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = PAGES.get(self.path, "{}").encode()
        self.send_response(200 if self.path in PAGES else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *ignored: Any) -> None:
        """Quiet."""


@contextmanager
def behind_tls(folder: Path) -> Iterator[str]:
    """The URL of a server whose certificate is signed by itself."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*write_certificate(folder, "127.0.0.1"))
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as ended:
        main(["profile", *arguments])
    told = capsys.readouterr()
    return int(str(ended.value.code)), told.out, told.err


@pytest.mark.parametrize(
    "verb",
    [
        ("stages",),
        ("queues", "--duration", "1"),
        ("live", "--duration", "0.5"),
        ("cpu", "--url"),
        ("doctor",),
    ],
)
def test_a_dead_server_is_the_same_to_every_verb(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ran(capsys, *verb, f"http://127.0.0.1:{free_port()}")
    assert code == 1
    assert out == ""
    assert err.splitlines()[-1].startswith("rtvc: no server answers at http://127.0.0.1:")
    assert err.count("no server answers") == 1


VERBS = [
    ("stages", []),
    ("queues", ["--duration", "0.2", "--interval", "0.1"]),
    ("live", ["--duration", "0.5", "--interval", "0.5"]),
]


@pytest.mark.parametrize(("verb", "flags"), VERBS)
def test_a_certificate_that_nobody_vouches_for_is_named_and_can_be_accepted(
    verb: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with behind_tls(tmp_path) as url:
        code, _, err = ran(capsys, verb, url, *flags)
        assert code == 1
        assert f"certificate not trusted at {url}" in err
        assert "self-signed certificate): --insecure accepts it" in err
        assert "no server answers" not in err
        accepted, out, _ = ran(capsys, verb, url, *flags, "--insecure")
    assert accepted == 0
    assert out


def test_the_doctor_looks_at_a_server_whose_certificate_is_not_trusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with behind_tls(tmp_path) as url:
        code, out, _ = ran(capsys, "doctor", url)
    assert code == 0
    assert "certificate is not trusted by this machine" in out
    assert "--insecure" in out


def test_only_a_certificates_error_is_one() -> None:
    said = (
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch (_ssl.c:9)"
    )
    assert untrusted(said) == "Hostname mismatch"
    assert untrusted("[SSL: CERTIFICATE_VERIFY_FAILED]") == "not verified"
    assert untrusted("[SSL: WRONG_VERSION_NUMBER] wrong version number") is None
    assert no_answer("http://box", OSError("x"), "too late").endswith("http://box: too late")


@pytest.mark.parametrize("verb", ["stages", "queues"])
def test_the_folder_of_a_diagnosis_leads_to_its_runs(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "one")
    with pytest.raises(RecordError, match=r"is a diagnosis.*one$"):
        recorded(tmp_path)
    write_run(tmp_path / "many")
    code, _, err = ran(capsys, verb, str(tmp_path))
    assert code == 2
    assert f"{tmp_path} is a diagnosis, which holds several runs: try {tmp_path / 'many'}" in err
    assert recorded(tmp_path / "many").turns
    with pytest.raises(RecordError, match="this is no run folder"):
        recorded(tmp_path / "nowhere")


def test_a_watch_of_no_length_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ran(capsys, "queues", "http://127.0.0.1:9", "--duration", "0")
    assert code == 2
    assert "expected --duration of more than 0 s" in err


def test_a_watch_says_on_stderr_that_it_has_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with behind_tls(tmp_path) as url:
        flags = ["--duration", "0.2", "--interval", "0.1", "--insecure", "--json"]
        code, out, err = ran(capsys, "queues", url, *flags)
    assert code == 0
    assert err == f"watching {url}/v1/sessions for 200 ms …\n"
    json.loads(out)
