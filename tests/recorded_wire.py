"""Two WebSocket ends whose every byte is kept, for tests of what reads them in between."""

import random
from collections.abc import Iterator, Sequence

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.uri import parse_uri


class Recorded:
    """What one side sent, in the order in which it left."""

    def __init__(self, *, deflate: bool) -> None:
        client_extensions = [ClientPerMessageDeflateFactory()] if deflate else None
        server_extensions = [ServerPerMessageDeflateFactory()] if deflate else None
        self.client = ClientProtocol(parse_uri("ws://tap/ws"), extensions=client_extensions)
        self.server = ServerProtocol(extensions=server_extensions)
        self.sent: list[tuple[bool, bytes]] = []
        self.client.send_request(self.client.connect())
        self.flush(from_client=True)
        (request,) = self.server.events_received()
        assert isinstance(request, Request)
        self.server.send_response(self.server.accept(request))
        self.flush(from_client=False)

    def flush(self, *, from_client: bool) -> None:
        sender, receiver = (self.client, self.server) if from_client else (self.server, self.client)
        for data in sender.data_to_send():
            self.sent.append((from_client, data))
            receiver.receive_data(data)

    def say(self, message: bytes, cuts: Sequence[int], *, from_client: bool, text: bool) -> None:
        """One message in as many frames as there are cuts, and a ping between two of them."""
        sender = self.client if from_client else self.server
        pieces = [message[a:b] for a, b in zip([0, *cuts], [*cuts, len(message)], strict=True)]
        last = len(pieces) - 1
        (sender.send_text if text else sender.send_binary)(pieces[0], fin=last == 0)
        for number, piece in enumerate(pieces[1:], start=1):
            sender.send_ping(b"still there?")
            sender.send_continuation(piece, fin=number == last)
        self.flush(from_client=from_client)


def chunks(data: bytes, rng: random.Random) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = rng.choice((1, 2, 3, 7, 40, 1000))
        yield data[at : at + size]
        at += size
