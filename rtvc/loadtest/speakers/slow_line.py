"""A connection whose messages take their time on the way down."""

import gevent
from gevent.queue import Queue

from rtvc.clock import Clock
from rtvc.loadtest.wire.network import Link
from rtvc.loadtest.wire.transport import Connection, LostError

Item = str | bytes | LostError


class SlowLine:
    """Reads as soon as there is something to read, and hands it over when it would have come.

    A greenlet of its own reads, so that what waits holds back nothing that comes behind it.
    """

    def __init__(self, connection: Connection, link: Link, clock: Clock) -> None:
        self._connection = connection
        self._link = link
        self._clock = clock
        self._coming: Queue[tuple[float, Item]] = Queue()
        self._reader = gevent.spawn(self._read)

    def receive(self) -> str | bytes:
        """The next message, when it arrives.

        Raises:
            LostError: the end of the connection has arrived.
        """
        arrival: tuple[float, Item] = self._coming.get()
        arrives_s, item = arrival
        gevent.sleep(max(0.0, arrives_s - self._clock.now()))
        if isinstance(item, LostError):
            raise item
        return item

    def close(self) -> None:
        self._reader.kill()

    def _read(self) -> None:
        try:
            while True:
                message = self._connection.receive()
                if message is not None:
                    self._put(message, len(message))
        except LostError as error:
            self._put(error, 0)

    def _put(self, item: Item, size_bytes: int) -> None:
        self._coming.put((self._link.departs_s(self._clock.now(), size_bytes), item))
