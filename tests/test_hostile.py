"""The hostile input itself: the same for the same seed, and of every kind."""

import asyncio
import json
import random
from collections import Counter
from itertools import islice

import pytest

from rtvc.errors import ProtocolError
from rtvc.protocol import realtime
from rtvc.protocol.realtimevoicechat import decode_packet, parse_client_message
from rtvc.server.sessions.conversation import MAX_CHARS, Conversation, Item
from tests.hostile.client import RawClient, Tally, Target, talk
from tests.hostile.frames import CASES, PING, TEXT, bad_handshake, flood, frame
from tests.hostile.messages import (
    MUTATIONS,
    REALTIME,
    REALTIMEVOICECHAT,
    Message,
    Messages,
    Wire,
)

WIRES: tuple[Wire, ...] = ("realtime", "realtimevoicechat")


def row(wire: Wire, count: int, seed: int = 0) -> list[Message]:
    return list(islice(Messages(wire, random.Random(seed)), count))


@pytest.mark.parametrize("wire", WIRES)
def test_the_same_seed_gives_the_same_messages(wire: Wire) -> None:
    assert row(wire, 500) == row(wire, 500)
    assert row(wire, 500) != row(wire, 500, seed=1)


def test_every_client_event_is_in_the_grammar() -> None:
    assert set(REALTIME) == set(realtime.CLIENT_EVENT_TYPES)
    assert {message.kind for message in row("realtime", 5000)} == set(REALTIME)
    assert {message.kind for message in row("realtimevoicechat", 2000)} == set(REALTIMEVOICECHAT)


def test_every_mutation_is_used() -> None:
    assert {message.mutation for message in row("realtime", 8000)} == set(MUTATIONS)


def test_good_messages_are_good() -> None:
    row = Messages("realtime", random.Random(3))
    for kind in REALTIME:
        for _ in range(5):
            message = row.made(kind, "none")
            assert realtime.parse_client_event(message.payload.decode()).type == kind


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_whatever_is_wrong_is_a_protocol_error_and_nothing_else(mutation: str) -> None:
    messages = Messages("realtime", random.Random(4))
    config = realtime.default_session("realtime", "m")
    for kind in REALTIME:
        for _ in range(15):
            message = messages.made(kind, mutation)
            if message.ends:
                continue
            try:
                event = realtime.parse_client_event(message.payload.decode())
                if isinstance(event, realtime.SessionUpdate):
                    realtime.encode(config.updated(event.session).to_wire("s"))
            except ProtocolError:
                pass


def test_hostile_packets_are_protocol_errors_and_nothing_else() -> None:
    for message in row("realtimevoicechat", 1500):
        try:
            if message.binary:
                decode_packet(message.payload)
            elif not message.ends:
                parse_client_message(message.payload.decode())
        except ProtocolError:
            pass


def test_infinity_is_not_kept_with_a_session() -> None:
    patch = json.loads('{"type": "realtime", "tracing": {"a": 1e999}}')
    with pytest.raises(ProtocolError, match="tracing"):
        realtime.default_session("realtime", "m").updated(patch)


def test_a_conversation_forgets_rather_than_grows() -> None:
    conversation = Conversation()
    for number in range(30):
        text = "x" * (MAX_CHARS // 10)
        conversation.add(Item(f"i{number}", "user", text, spoken=False))
    assert len(conversation) == 10
    assert conversation.last_id == "i29"
    conversation.add(Item("first", "user", "y" * MAX_CHARS, spoken=False), after="root")
    assert [item.item_id for item in conversation] == ["first"]


def test_the_same_seed_gives_the_same_floods() -> None:
    for name in CASES:
        once, again = (flood(random.Random(5), name) for _ in range(2))
        assert once == again
        assert once.frames >= 1
    heads = [bad_handshake(random.Random(seed), "/ws") for seed in range(40)]
    assert len(set(heads)) > 20
    assert heads == [bad_handshake(random.Random(seed), "/ws") for seed in range(40)]


def test_a_masked_frame() -> None:
    assert frame(TEXT, b"hi", mask=b"\x01\x02\x03\x04") == bytes.fromhex("8182 01020304 696b")
    assert frame(PING, b"", mask=None) == b"\x89\x00"


class Server:
    """Counts what it gets; answers pings."""

    def __init__(self) -> None:
        self.kinds: Counter[int] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        try:
            while True:
                opcode = await self._frame(reader)
                if opcode == PING:
                    writer.write(b"\x8a\x00")
                else:
                    self.kinds[opcode] += 1
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    async def _frame(self, reader: asyncio.StreamReader) -> int:
        first, second = await reader.readexactly(2)
        length = second & 127
        if length > 125:
            length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
        await reader.readexactly(4 + length)
        return first & 15


async def told(server: Server, count: int) -> Tally:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening:
        target = Target(listening.sockets[0].getsockname()[1])
        return await asyncio.wait_for(talk(target, "realtime", "seed", count), 60)


async def test_the_client_counts_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    monkeypatch.setattr(Messages, "next", lambda self: self.made("response.cancel", "none"))
    tally = await told(server, 700)
    assert tally.messages == 700 == tally.kinds["response.cancel"]
    assert server.kinds[TEXT] == 700
    assert not tally.unread


async def test_the_client_sees_close_codes() -> None:
    async def goodbye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02hi\x88\x02\x03\xf1")
        writer.close()

    listening = await asyncio.start_server(goodbye, "127.0.0.1", 0)
    async with listening:
        client: RawClient = await Target(listening.sockets[0].getsockname()[1]).connect(
            b"GET / HTTP/1.1\r\n\r\n"
        )
        assert await client.answered(5) == "101"
        assert await client.ended(5) == "1009"
        assert client.answers == 1
