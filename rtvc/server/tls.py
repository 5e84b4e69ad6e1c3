"""Certificates: the page needs https to reach the microphone of a remote browser."""

import ipaddress
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rtvc.clock import Clock
from rtvc.errors import UsageError

_VALID_DAYS = 365


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where uvicorn finds its certificate."""

    certificate: Path
    """PEM, with its chain."""
    key: Path
    """PEM, without a passphrase."""


def certificate_files(setting: str, folder: Path, host: str, clock: Clock) -> CertificateFiles:
    """The files of `--tls self-signed` (made in `folder`) or `--tls CERT.pem,KEY.pem`.

    Raises:
        UsageError: the setting has another shape, or the files are not a certificate and its key.
    """
    if setting == "self-signed":
        return _self_signed(folder, host, clock)
    parts = [part.strip() for part in setting.split(",")]
    if len(parts) != 2 or not all(parts):
        raise UsageError(f"--tls: expected self-signed or CERT.pem,KEY.pem, got {setting!r}")
    files = CertificateFiles(Path(parts[0]), Path(parts[1]))
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            files.certificate, files.key
        )
    except OSError as error:  # ssl.SSLError is one, too
        reason = error.strerror or str(error)
        raise UsageError(f"--tls: cannot use {setting}: {reason}") from None
    return files


def _self_signed(folder: Path, host: str, clock: Clock) -> CertificateFiles:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rtvc self-signed")])
    today = clock.utc()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(list(_names(host))), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = CertificateFiles(folder / "certificate.pem", folder / "key.pem")
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.touch(mode=0o600)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def _names(host: str) -> Iterable[x509.GeneralName]:
    for name in sorted({"localhost", socket.gethostname()}):
        yield x509.DNSName(name)
    for address in sorted({"127.0.0.1", host} & {"127.0.0.1", *_addresses(host)}):
        yield x509.IPAddress(ipaddress.ip_address(address))


def _addresses(host: str) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        return []
