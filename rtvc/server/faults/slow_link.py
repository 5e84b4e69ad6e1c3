"""A bad network on purpose, between the sockets and the server: bytes are late, both ways.

Pings, handshakes and plain HTTP are late too, as they would be. What comes stays in order: TCP
hands over bytes in order, so a piece that is lost holds back all later ones until it has been sent
again: first after the retransmission time-out, then after twice as long… (RFC 6298, §5.5).
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

JITTER = 0.25
"""A delay is spread evenly over so much of it to either side."""
FLIGHT_BYTES = 4 << 20
"""More than this on its way in stops the reading of the socket."""
RETRANSMISSION_S = 0.2
"""Linux's least time until something is sent again."""
LONGEST_STALL_S = 6.4
"""What is lost again and again comes after so long at last."""

Delay = Callable[[random.Random], float]
"""Seconds that the next piece is late."""


def spread(delay_s: float) -> Delay:
    """About so much, each time anew."""
    return lambda rng: delay_s * rng.uniform(1 - JITTER, 1 + JITTER)


def stalls(lost_share: float) -> Delay:
    """Nothing, but for those pieces that are lost, once or several times in a row."""

    def delay_s(rng: random.Random) -> float:
        waited_s, timeout_s = 0.0, RETRANSMISSION_S
        while rng.random() < lost_share and waited_s < LONGEST_STALL_S:
            waited_s += timeout_s
            timeout_s *= 2
        return waited_s

    return delay_s


def while_on(delay: Delay, is_on: Callable[[], bool]) -> Delay:
    """Only then."""
    return lambda rng: delay(rng) if is_on() else 0.0


class Lane:
    """One direction: what is put in comes out in order, each piece after a delay of its own."""

    def __init__(self, delay: Delay, deliver: Callable[[bytes], None], rng: random.Random) -> None:
        self._delay = delay
        self._deliver = deliver
        self._random = rng
        self._loop = asyncio.get_running_loop()
        self._flying: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._last_due_s = 0.0
        self.held = False
        """Set while nothing may be delivered."""
        self.flight_bytes = 0

    def put(self, data: bytes) -> None:
        due_s = self._loop.time() + self._delay(self._random)
        self._last_due_s = max(self._last_due_s, due_s)
        self._flying.append((self._last_due_s, data))
        self.flight_bytes += len(data)
        self.deliver_due()

    def deliver_due(self) -> None:
        """Deliver what is due, and come back for the rest."""
        while self._flying and not self.held and self._flying[0][0] <= self._loop.time():
            _, data = self._flying.popleft()
            self.flight_bytes -= len(data)
            self._deliver(data)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flying and not self.held:
            self._timer = self._loop.call_at(self._flying[0][0], self.deliver_due)

    def clear(self) -> None:
        """Nobody is there any more."""
        self.held = True
        self._flying.clear()
        self.deliver_due()


class LateTransport(asyncio.Transport):
    """What the server writes to; the real transport gets it later."""

    def __init__(self, link: "SlowLink", real: asyncio.Transport, out: Lane) -> None:
        super().__init__()
        self._link = link
        self._real = real
        self._out = out
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing and len(data):
            self._out.put(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Once all that was written has gone out: an empty piece goes last."""
        if not self._closing:
            self._closing = True
            self._out.put(b"")

    def abort(self) -> None:
        self._closing = True
        self._real.abort()

    def is_closing(self) -> bool:
        return self._closing or self._real.is_closing()

    def pause_reading(self) -> None:
        self._link.pause(paused=True)

    def resume_reading(self) -> None:
        self._link.pause(paused=False)

    def is_reading(self) -> bool:
        return not self._link.incoming.held

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._link.target = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        target: asyncio.BaseProtocol = self._link.target
        return target

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._real.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self._real.get_write_buffer_size() + self._out.flight_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._real.set_write_buffer_limits(high, low)


class SlowLink(asyncio.Protocol):
    """Stands between a connection and the protocol that serves it."""

    def __init__(
        self, target: asyncio.BaseProtocol, delay: Delay, rng: random.Random | None = None
    ) -> None:
        self.target: Any = target
        """Serves the connection; another one after an upgrade."""
        rng = rng or random.Random()
        self.incoming = Lane(delay, self._take, rng)
        self._outgoing = Lane(delay, self._transmit, rng)
        self._real: asyncio.Transport | None = None
        self._reading = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        real = cast(asyncio.Transport, transport)  # what uvloop makes is none by inheritance
        self._real = real
        self.target.connection_made(LateTransport(self, real, self._outgoing))

    def connection_lost(self, exc: Exception | None) -> None:
        self.incoming.clear()
        self._outgoing.clear()
        self.target.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.incoming.put(data)
        self._read_on()

    def eof_received(self) -> None:
        """The connection closes; what was on its way is lost."""

    def pause_writing(self) -> None:
        self._tell("pause_writing")

    def resume_writing(self) -> None:
        self._tell("resume_writing")

    def pause(self, *, paused: bool) -> None:
        """The server wants nothing for now, or more again."""
        self.incoming.held = paused
        if not paused:
            self.incoming.deliver_due()
            self._read_on()

    def _tell(self, event: str) -> None:
        """Not every protocol wants to know."""
        getattr(self.target, event, lambda: None)()

    def _take(self, data: bytes) -> None:
        self.target.data_received(data)
        self._read_on()

    def _transmit(self, data: bytes) -> None:
        if self._real is None:
            return
        if data:
            self._real.write(data)
        else:
            self._real.close()

    def _read_on(self) -> None:
        """A network holds no more than so much; beyond it the sender waits."""
        room = self.incoming.flight_bytes < FLIGHT_BYTES
        if self._real is None or room == self._reading or self._real.is_closing():
            return
        self._reading = room
        if room:
            self._real.resume_reading()
        else:
            self._real.pause_reading()


def slow_http(delay: Delay, base: Callable[..., asyncio.BaseProtocol]) -> Callable[..., SlowLink]:
    """Makes uvicorn's connections slow ones; `base` serves them."""
    return lambda **arguments: SlowLink(base(**arguments), delay)
