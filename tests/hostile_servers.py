"""Servers that do everything wrong, each in a way of its own.

    python -m tests.hostile_servers MODE [MODE …] [--tls CERT.pem,KEY.pem]

It prints its port. Caller k meets the k-th mode, then the first one again. Plain HTTP requests
are answered with 404 in every mode, so that only the callers meet what is wrong. Where a caller
wants TLS and there is none, the server waits for more, or with --blunt says so in plain text.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import re
import ssl
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.utils import accept_key

from rtvc.clock import SystemClock

ALIVE_S = 1.5
"""How long a session lives that is going to die."""

EVERY_S = 0.2
"""Pause between two pieces of nonsense."""

TLS_RECORD = b"\x16"
"""First byte of whoever wants TLS."""

GARBAGE = ("not json", "[1]", "{}", '{"type":"session.created","session":7}')


class Caller:
    """One connection, once its request has been read."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._request = request

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, status: str, body: str = "", header: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\n{header}Content-Length: {len(body.encode())}\r\n"
        await self.write(f"{head}Connection: close\r\n\r\n{body}".encode())

    async def upgrade(self) -> None:
        (key,) = re.findall(r"(?i)sec-websocket-key: *(\S+)", self._request)
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        await self.write(f"{head}Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode())

    async def send(self, *texts: str) -> None:
        """Short text frames."""
        for text in texts:
            body = text.encode()
            await self.write(bytes([0x81, len(body)]) + body)

    async def say_goodbye(self, code: int, reason: str) -> None:
        body = code.to_bytes(2, "big") + reason.encode()
        await self.write(bytes([0x88, len(body)]) + body)

    async def greet(self) -> None:
        await self.upgrade()
        await self.send('{"type":"session.created","session":{"id":"s"}}')

    async def listen(self) -> None:
        """Until the caller hangs up."""
        while await self._reader.read(65_536):
            pass

    async def listen_for(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.listen(), seconds)

    def cut(self) -> None:
        self._writer.transport.abort()


async def _silent(caller: Caller) -> None:
    await caller.listen()


async def _hangs_up(caller: Caller) -> None:
    """The connection is closed on return."""


async def _mail(caller: Caller) -> None:
    await caller.write(b"220 mail.test ready\r\n\r\n")


async def _web_page(caller: Caller) -> None:
    await caller.answer("200 OK", "<p>welcome</p>")


async def _missing(caller: Caller) -> None:
    await caller.answer("404 Not Found")


async def _moved(caller: Caller) -> None:
    await caller.answer("302 Found", header="Location: http://127.0.0.1:9/\r\n")


async def _full(caller: Caller) -> None:
    body = {"error": {"code": "server_full", "message": "8 of 8 sessions are taken"}}
    await caller.answer("503 Service Unavailable", json.dumps(body))


async def _mute(caller: Caller) -> None:
    await caller.upgrade()
    await caller.listen()


async def _foreign(caller: Caller) -> None:
    await caller.upgrade()
    while True:
        await caller.send('{"uid":"7","message":"SERVER_READY","backend":"other"}')
        await asyncio.sleep(EVERY_S)


async def _noise(caller: Caller) -> None:
    await caller.upgrade()
    # Reserved bits and a reserved opcode.
    await caller.write(b"\xf3\x02hi")
    await caller.listen()


async def _later(caller: Caller) -> None:
    await caller.upgrade()
    await caller.say_goodbye(1013, "try again later")
    await caller.listen()


async def _denied(caller: Caller) -> None:
    await caller.upgrade()
    await caller.say_goodbye(1008, "who are you?")
    await caller.listen()


async def _never_answers(caller: Caller) -> None:
    await caller.greet()
    await caller.listen()


async def _garbage(caller: Caller) -> None:
    await caller.greet()
    while True:
        await caller.send(*GARBAGE)
        await asyncio.sleep(EVERY_S)


async def _crashes(caller: Caller) -> None:
    await caller.greet()
    await caller.listen_for(ALIVE_S)
    caller.cut()


async def _stops(caller: Caller) -> None:
    await caller.greet()
    await caller.listen_for(ALIVE_S)
    await caller.say_goodbye(1012, "restarting")
    await caller.listen()


MODES: dict[str, Callable[[Caller], Awaitable[None]]] = {
    "silent": _silent,
    "hangs-up": _hangs_up,
    "mail": _mail,
    "web-page": _web_page,
    "missing": _missing,
    "moved": _moved,
    "full": _full,
    "mute": _mute,
    "foreign": _foreign,
    "noise": _noise,
    "later": _later,
    "denied": _denied,
    "never-answers": _never_answers,
    "garbage": _garbage,
    "crashes": _crashes,
    "stops": _stops,
}

DOOR = {
    "silent": "handshake_timeout",
    "hangs-up": "closed_in_handshake",
    "mail": "not_websocket",
    "web-page": "http_200",
    "missing": "http_404",
    "moved": "http_302",
    "full": "refused_503",
    "mute": "no_first_event",
    "foreign": "wrong_protocol",
    "noise": "broken_frames",
    "later": "refused_1013",
    "denied": "closed_before_ready",
}
"""Modes that let nobody in → the name under which that is counted."""


class Hostile:
    """The server."""

    def __init__(self, modes: Sequence[str], *, blunt: bool = False) -> None:
        self._modes = itertools.cycle(modes)
        self._blunt = blunt

    async def listen(self, port: int, tls: ssl.SSLContext | None = None) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=tls)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whoever leaves first, the other need not hear of it.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            try:
                await self._meet(reader, writer)
            finally:
                writer.close()
                await writer.wait_closed()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(1)
        if first == TLS_RECORD and self._blunt:
            await Caller(reader, writer, "").answer("400 Bad Request")
            return
        request = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        caller = Caller(reader, writer, request)
        if "upgrade: websocket" in request.lower():
            await MODES[next(self._modes)](caller)
        else:
            await caller.answer("404 Not Found")


def write_certificate(
    folder: Path, host: str, *, from_days: int = -1, until_days: int = 30
) -> tuple[Path, Path]:
    """(certificate, key) for a host, signed by itself."""
    folder.mkdir(parents=True, exist_ok=True)
    key, now = ec.generate_private_key(ec.SECP256R1()), SystemClock().utc()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_day(now, from_days))
        .not_valid_after(_day(now, until_days))
        .add_extension(x509.SubjectAlternativeName([_general_name(host)]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _day(now: datetime, days: int) -> datetime:
    return now + timedelta(days=days)


def _context(files: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files.split(","))
    return context


async def _main(chosen: argparse.Namespace) -> None:
    # Callers that give up in the middle of TLS are not worth a traceback.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    tls = _context(chosen.tls) if chosen.tls else None
    server = await Hostile(chosen.modes, blunt=chosen.blunt).listen(chosen.port, tls)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("modes", nargs="+", choices=MODES)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls")
    parser.add_argument("--blunt", action="store_true")
    asyncio.run(_main(parser.parse_args()))
