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
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rtvc.clock import Clock
from rtvc.errors import UsageError

_VALID_DAYS = 365
_SIGNS_AND_SERVES = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
"""It is its own authority: strict clients want that said."""


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
    _check(files)
    return files


class Certificates:
    """What the server shows to who connects, read anew from its files when told to.

    Connections that are open keep what they were shown.
    """

    def __init__(self, files: CertificateFiles) -> None:
        """
        Raises:
            UsageError: the files are not a certificate and its key.
        """
        self._files = files
        self._current = _check(files)
        self.context = _check(files)
        """For the listening socket; hands each connection on to the latest."""
        self.context.sni_callback = self._choose

    def read(self) -> ssl.SSLContext:
        """The files as they are now, for `use`.

        Raises:
            UsageError: the files are not a certificate and its key.
        """
        return _check(self._files)

    def use(self, context: ssl.SSLContext) -> None:
        """Show new connections this one."""
        self._current = context

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: ssl.SSLContext
    ) -> None:
        connection.context = self._current


def _check(files: CertificateFiles) -> ssl.SSLContext:
    for path in (files.certificate, files.key):
        try:
            path.read_bytes()
        except OSError as error:
            raise UsageError(f"--tls: cannot read {path}: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty passphrase, or OpenSSL would ask the terminal for one.
        context.load_cert_chain(files.certificate, files.key, password="")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise UsageError(
            f"--tls: expected a PEM certificate and its key without a passphrase, got "
            f"{files.certificate} and {files.key} ({reason})"
        ) from None
    return context


def _self_signed(folder: Path, host: str, clock: Clock) -> CertificateFiles:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rtvc self-signed")])
    today = clock.utc()
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(list(_names(host))), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNS_AND_SERVES, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
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
    """This machine's names, its loopback addresses, and the host it listens on."""
    names, addresses = {"localhost", socket.gethostname()}, {"127.0.0.1", "::1"}
    (addresses if _is_address(host) else names).add(host)
    for name in sorted(filter(str.isascii, names)):
        yield x509.DNSName(name)
    for address in sorted(addresses):
        yield x509.IPAddress(ipaddress.ip_address(address))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
