"""A voice server that reads everything and answers nothing but its ready message: as cheap as it
gets, to find out how many speakers a load generator can play.

    python -m tests.drain_server [--port 0]

It speaks two of the protocols far enough to be spoken to: OpenAI Realtime at /v1/realtime and
RealtimeSTT at any other path. Once a caller is connected, its socket is emptied five times a
second and what was in it is counted and thrown away. GET /notes tells how much that was, and
what it cost.
"""

import argparse
import base64
import hashlib
import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass

DRAIN_S = 0.2
"""A caller sends some 13 kB in that time; far less than its socket holds."""

BUFFER_BYTES = 1 << 20

_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass
class Notes:
    """What was received so far."""

    connections: int = 0
    open: int = 0
    received_bytes: int = 0


class Drain:
    """The server, in one thread and one loop."""

    def __init__(self, port: int) -> None:
        self.notes = Notes()
        self._door = socket.create_server(("127.0.0.1", port), backlog=4096)
        self._door.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._door, selectors.EVENT_READ)
        self._asking: dict[socket.socket, bytes] = {}
        self._callers: list[socket.socket] = []
        self._buffer = bytearray(BUFFER_BYTES)

    @property
    def port(self) -> int:
        return int(self._door.getsockname()[1])

    def run(self) -> None:
        next_s = time.perf_counter() + DRAIN_S  # noqa: TID251
        while True:
            wait_s = next_s - time.perf_counter()  # noqa: TID251
            for key, _ in self._selector.select(max(0.0, wait_s)):
                self._attend(key.fileobj)  # type: ignore[arg-type]
            if time.perf_counter() >= next_s:  # noqa: TID251
                next_s += DRAIN_S
                self._callers = [caller for caller in self._callers if self._empty(caller)]
                self.notes.open = len(self._callers)

    def _attend(self, wire: socket.socket) -> None:
        if wire is not self._door:
            self._hear(wire)
            return
        while True:
            try:
                caller, _ = self._door.accept()
            except BlockingIOError:
                return
            caller.setblocking(False)
            self._asking[caller] = b""
            self._selector.register(caller, selectors.EVENT_READ)

    def _hear(self, wire: socket.socket) -> None:
        """Part of what a caller asks for before it is one."""
        try:
            said = wire.recv(65536)
        except OSError:
            said = b""
        request = self._asking[wire] + said
        self._asking[wire] = request
        if said and b"\r\n\r\n" not in request:
            return
        del self._asking[wire]
        self._selector.unregister(wire)
        if not said or not self._answer(wire, request):
            wire.close()

    def _answer(self, wire: socket.socket, request: bytes) -> bool:
        """Whether it is a caller from now on."""
        path = request.split(b" ", 2)[1].partition(b"?")[0].decode()
        headers = dict(line.split(b":", 1) for line in request.split(b"\r\n")[1:] if b":" in line)
        key = {name.lower(): value.strip() for name, value in headers.items()}.get(
            b"sec-websocket-key"
        )
        if key is None:
            wire.sendall(_http(self._told(path)))
            return False
        accept = base64.b64encode(hashlib.sha1(key + _KEY).digest()).decode()
        wire.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
            + b"".join(map(_text_frame, _greeting(path, self.notes.connections)))
        )
        self.notes.connections += 1
        self._callers.append(wire)
        return True

    def _told(self, path: str) -> object | None:
        if path == "/readyz":
            return {"state": "ready", "model": "drain", "sessions": 0}
        if path == "/notes":
            used = time.process_time()
            return {**self.notes.__dict__, "cpu_s": used}
        return None

    def _empty(self, wire: socket.socket) -> bool:
        """Read all there is; whether there will be more."""
        try:
            while count := wire.recv_into(self._buffer):
                self.notes.received_bytes += count
                if count < BUFFER_BYTES:
                    return True
        except BlockingIOError:
            return True
        except OSError:
            pass
        wire.close()
        return False


def _http(told: object | None) -> bytes:
    status = "404 Not Found" if told is None else "200 OK"
    body = json.dumps(told).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


def _greeting(path: str, number: int) -> list[dict[str, object]]:
    if path == "/v1/realtime":
        session = {"id": f"d{number}", "type": "realtime"}
        return [{"type": "session.created", "event_id": "e", "session": session}]
    return [
        {"type": "hello", "sessionId": f"d{number}"},
        {"type": "ready", "sessionId": f"d{number}"},
    ]


def _text_frame(message: dict[str, object]) -> bytes:
    body = json.dumps(message).encode()
    assert len(body) < 126
    return bytes([0x81, len(body)]) + body


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    drain = Drain(parser.parse_args().port)
    sys.stdout.write(f"{drain.port}\n")
    sys.stdout.flush()
    drain.run()
