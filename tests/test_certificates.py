"""A certificate that is replaced while the server runs."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rtvc.clock import SystemClock
from rtvc.errors import UsageError
from rtvc.server.lifecycle.tls import CertificateFiles, Certificates, certificate_files


def made(folder: Path) -> CertificateFiles:
    folder.mkdir()
    return certificate_files("self-signed", folder, "127.0.0.1", SystemClock())


@asynccontextmanager
async def listening(certificates: Certificates) -> AsyncIterator[int]:
    """The port of a server that echoes lines."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.context)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


async def shown(port: int) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    """The certificate that a new connection sees, and the connection."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return certificate, reader, writer


def der(files: CertificateFiles) -> bytes:
    return ssl.PEM_cert_to_DER_cert(files.certificate.read_text())


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def test_new_connections_see_the_new_one_and_old_ones_go_on(tmp_path: Path) -> None:
    files, other = made(tmp_path / "a"), made(tmp_path / "b")
    first = der(files)
    certificates = Certificates(files)
    async with listening(certificates) as port:
        before, reader, writer = await shown(port)
        assert before == first
        shutil.copy(other.certificate, files.certificate)
        shutil.copy(other.key, files.key)
        still, _, early = await shown(port)
        assert still == first
        await close(early)
        certificates.use(certificates.read())
        after, _, late = await shown(port)
        assert after == der(other) != first
        await close(late)
        writer.write(b"are you there?\n")
        assert await reader.readline() == b"are you there?\n"
        await close(writer)


async def test_a_pair_that_does_not_belong_together_leaves_the_old_one(tmp_path: Path) -> None:
    files, other = made(tmp_path / "a"), made(tmp_path / "b")
    first = der(files)
    certificates = Certificates(files)
    shutil.copy(other.certificate, files.certificate)
    with pytest.raises(UsageError, match="its key"):
        certificates.read()
    async with listening(certificates) as port:
        now, _, writer = await shown(port)
        assert now == first
        await close(writer)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    files = made(tmp_path / "a")
    certificates = Certificates(files)
    files.key.unlink()
    with pytest.raises(UsageError, match=r"cannot read .*key\.pem: No such file"):
        certificates.read()
