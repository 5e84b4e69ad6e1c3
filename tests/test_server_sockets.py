"""One WebSocket on the wire: it is read on, in whatever pieces its frames come."""

import asyncio
from urllib.parse import urlsplit

import pytest

from tests.hostile.frames import PING, TEXT, frame, handshake
from tests.servers import running_server

pytestmark = pytest.mark.slow


async def test_a_message_behind_many_pings_is_read_to_its_end() -> None:
    big = frame(TEXT, b'{"type": "no.such.event", "pad": "' + 20_000 * b"x" + b'"}')
    with running_server(model="scripted") as url:
        port = urlsplit(url).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(handshake("/v1/realtime"))
        await reader.readuntil(b"session.created")
        # In one piece: more frames than are parsed in a row, and the beginning of a message.
        writer.write(40 * frame(PING) + big[:5000])
        await writer.drain()
        await asyncio.sleep(0.3)
        writer.write(big[5000:])
        try:
            async with asyncio.timeout(10):
                await reader.readuntil(b'"error"')
        finally:
            writer.close()
            await writer.wait_closed()
