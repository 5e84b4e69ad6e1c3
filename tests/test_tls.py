"""Certificates: made or given, and what is said of those that can't be used."""

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from websockets.asyncio.client import connect

from rtvc.clock import FakeClock, SystemClock
from rtvc.errors import UsageError
from rtvc.server.lifecycle.tls import CertificateFiles, certificate_files
from tests.servers import free_port


def self_signed(folder: Path, host: str = "127.0.0.1") -> CertificateFiles:
    return certificate_files("self-signed", folder, host, SystemClock())


def explanation(setting: str) -> str:
    with pytest.raises(UsageError) as error:
        certificate_files(setting, Path(), "127.0.0.1", SystemClock())
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_certificate_of_our_own_is_what_strict_clients_ask_for(tmp_path: Path) -> None:
    files = certificate_files("self-signed", tmp_path, "192.0.2.7", FakeClock(1_800_000_000))
    made = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", "::1", "192.0.2.7"}
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.SERVER_AUTH in usage
    assert made.not_valid_before_utc < FakeClock(1_800_000_000).utc() < made.not_valid_after_utc
    # Apple's clients take no more than 825 days.
    assert (made.not_valid_after_utc - made.not_valid_before_utc).days <= 825
    assert files.key.stat().st_mode & 0o077 == 0


def test_a_host_name_is_in_the_certificate(tmp_path: Path) -> None:
    files = self_signed(tmp_path, "voice.example")
    made = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "voice.example" in names.get_values_for_type(x509.DNSName)


def test_files_of_the_users_are_taken_as_they_are(tmp_path: Path) -> None:
    made = self_signed(tmp_path)
    setting = f"{made.certificate}, {made.key}"
    assert certificate_files(setting, Path(), "127.0.0.1", SystemClock()) == made


@pytest.mark.parametrize("setting", ["", "yes", "a.pem", "a.pem,", ",b.pem", "a,b,c"])
def test_another_shape_is_explained(setting: str) -> None:
    assert explanation(setting) == (
        f"--tls: expected self-signed or CERT.pem,KEY.pem, got {setting!r}"
    )


def test_the_file_that_is_missing_is_named(tmp_path: Path) -> None:
    made = self_signed(tmp_path)
    missing = tmp_path / "none.pem"
    assert f"cannot read {missing}: No such file" in explanation(f"{missing},{made.key}")
    assert f"cannot read {missing}: No such file" in explanation(f"{made.certificate},{missing}")


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    made, other = self_signed(tmp_path), self_signed(tmp_path / "other")
    assert "its key" in explanation(f"{made.certificate},{other.key}")
    assert "its key" in explanation(f"{made.key},{made.certificate}")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    assert "nonsense.pem" in explanation(f"{nonsense},{made.key}")


def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(tmp_path: Path) -> None:
    made = self_signed(tmp_path)
    key = serialization.load_pem_private_key(made.key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert "without a passphrase" in explanation(f"{made.certificate},{locked}")


@pytest.fixture(scope="module")
def secure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A server with a certificate that was given to it, and the certificate."""
    files = self_signed(tmp_path_factory.mktemp("tls"))
    port = free_port()
    command = [sys.executable, "-m", "rtvc", "serve", "--model", "scripted", "--port", str(port)]
    child = subprocess.Popen(
        [*command, "--tls", f"{files.certificate},{files.key}"], stderr=subprocess.PIPE, text=True
    )
    with child:
        assert child.stderr is not None
        for line in child.stderr:
            if line.startswith("ready"):
                break
        yield port, files.certificate
        child.terminate()
        child.stderr.read()
    assert child.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_https_and_wss_hold_against_the_certificate(
    secure_server: tuple[int, Path], host: str
) -> None:
    port, certificate = secure_server
    trusting = ssl.create_default_context(cafile=str(certificate))
    # What Python 3.13 asks for by default.
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    async with httpx.AsyncClient(verify=trusting, trust_env=False) as client:
        assert (await client.get(f"https://{host}:{port}/healthz")).json() == {"status": "ok"}
    async with connect(f"wss://{host}:{port}/v1/realtime", ssl=trusting) as socket:
        assert json.loads(await socket.recv())["type"] == "session.created"


@pytest.mark.slow
def test_who_does_not_trust_it_does_not_get_in(secure_server: tuple[int, Path]) -> None:
    port, _ = secure_server
    with httpx.Client(trust_env=False) as client, pytest.raises(httpx.ConnectError, match="cert"):
        client.get(f"https://127.0.0.1:{port}/healthz")
